"""Turn wishes into rows: what was left open is chosen here, what was asked for is checked against the host."""

from __future__ import annotations

import errno
import os
import time

from isthmus.converge import Host
from isthmus.engine.draw import draw_host_end, draw_mac
from isthmus.errors import InvalidInput, Refused
from isthmus.kernel.facts import read_machine
from isthmus.model.address import Address, Mac, Prefix
from isthmus.model.declared import AttachmentWish, NetworkWish
from isthmus.model.host import HOST
from isthmus.model.network import MTU_MIN_IPV6, NIC, NONE, Attachment, Network, Record, Subnet
from isthmus.model.value import Value
from isthmus.netlink.rtnl import address as rtnl_address
from isthmus.netlink.rtnl import route as rtnl_route
from isthmus.planner.ipam import POOLS, allocate, first_free_ifname, free_prefix, ula_prefix
from isthmus.store.slices import taken_addresses

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from isthmus.engine.faults import Faults

__all__ = ["Chooser", "Leaving", "host_addresses"]

_MANY_PORTS: Final = 32


def host_addresses(host: Host) -> set[Address]:
    """Return all addresses of the host's links."""
    found = host.access.route(HOST).dump(rtnl_address.all_addresses())
    return {rtnl_address.decode(one).address for one in found}


def _route_prefixes(host: Host, besides: str) -> dict[Prefix, str]:
    """Return the prefixes of the host's routes with their links: no default ones, none of one link, none of ours."""
    found: dict[Prefix, str] = {}
    # A network that goes in the same edit gives its subnets up; those of one that stays are looked at as such.
    ours = {(one.prefix, row.bridge) for row in host.db.seldom("networks").values() for one in row.subnets}
    for family in (4, 6):
        for payload in host.access.route(HOST).dump(rtnl_route.main_routes(family), absent=errno.ENOENT):
            route = rtnl_route.decode(payload)
            link = host.access.link_at(HOST, route.oifs[0]) if route.oifs else None
            name = link.name if link is not None else ""
            if route.prefix.length and name != besides and (route.prefix, name) not in ours:
                found[route.prefix] = name
    return found


class Leaving(Value):
    """The attachments, by id, that give up what they have in the same edit."""

    addresses: frozenset[str] = frozenset()
    macs: frozenset[str] = frozenset()
    ifnames: frozenset[str] = frozenset()


class Chooser:
    """Chooses within one verb; what it has chosen already counts as taken."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._given: dict[str, set[int]] = {}
        self.leaving = Leaving()
        self._last: dict[tuple[str, int], Address] = {}
        self._ports: dict[str, int] = {}
        self._now = time.time()
        self._sequence = 0

    # Networks

    def network(self, wish: NetworkWish, record: Record, before: Network | None, owner: str) -> Network:
        """Return the row of a network to be; of one that exists, what was chosen stays.

        Raises:
            InvalidInput, Refused: it cannot be had on this host; where that has several reasons, `several` has them.
        """
        from isthmus.engine.faults import Faults

        faults = Faults()
        others = [one for one in record.networks.values() if one.name != wish.name]
        bridge, subnets = wish.bridge or "", tuple[Subnet, ...]()
        with faults.at(""):
            if before is not None and before.is_lan is not (wish.uplink == NIC):
                raise Refused(f"network {wish.name} has uplink {before.uplink}: remove it first", field="uplink")
            bridge = self._bridge(wish, others, before)
        if wish.uplink == NIC:
            faults.raise_any(bare=True)
            from isthmus.engine.lan import lan_network

            return lan_network(self._host, wish, others, before, bridge, self.sequence(), owner)
        with faults.at(""):
            subnets = self._subnets(wish, others, before, bridge, faults)
        with faults.at(""):
            self._check_allowed(wish, record)
        faults.raise_any(bare=True)
        adopted = wish.bridge is not None
        mac = None if adopted else before.mac if before is not None and before.mac is not None else draw_mac()
        return Network(
            name=wish.name,
            bridge=bridge,
            mac=mac,
            subnets=subnets,
            uplink=wish.uplink,
            adopted=adopted,
            snat=wish.snat,
            isolate_ports=wish.isolate_ports,
            allow=wish.allow,
            mtu=self._mtu(wish, before, bridge, subnets),
            sequence=before.sequence if before is not None else self.sequence(),
            owner=owner,
        )

    def _mtu(self, wish: NetworkWish, before: Network | None, bridge: str, subnets: tuple[Subnet, ...]) -> int:
        if wish.mtu is not None:
            return wish.mtu
        if before is not None:
            return before.mtu
        if wish.bridge is not None:
            link = self._host.access.link(HOST, bridge)
            return link.mtu if link is not None else 1500
        has_ipv6 = any(one.prefix.family == 6 for one in subnets)
        return max(self._host.outlook.facts.mtu, MTU_MIN_IPV6 if has_ipv6 else 0)

    def _bridge(self, wish: NetworkWish, others: list[Network], before: Network | None) -> str:
        access = self._host.access
        if wish.bridge is not None:
            link = access.link(HOST, wish.bridge)
            if link is None:
                raise Refused(f"cannot adopt bridge {wish.bridge}: there is no link of that name", field="bridge")
            if link.kind != "bridge":
                what = link.kind or "a plain link"
                raise Refused(f"cannot adopt {wish.bridge}: it is no bridge but {what}", field="bridge")
            for other in others:
                if other.bridge == wish.bridge:
                    why = f"bridge {wish.bridge} belongs to network {other.name}"
                    raise Refused(why, users=(other.name,), field="bridge")
            return wish.bridge
        if before is not None and not before.adopted:
            return before.bridge
        legal = len(wish.name.encode()) <= 15 and wish.name not in ("all", "default", "lo")
        if legal and all(one.bridge != wish.name for one in others) and access.link(HOST, wish.name) is None:
            return wish.name
        return f"isth{os.urandom(4).hex()}"

    def _subnets(
        self, wish: NetworkWish, others: list[Network], before: Network | None, bridge: str, faults: Faults
    ) -> tuple[Subnet, ...]:
        from isthmus.engine.subnets import check_overlap, gateway_in, range_in

        if not wish.subnets and before is not None:
            prefixes = tuple(one.prefix for one in before.subnets)
        else:
            routes = _route_prefixes(self._host, bridge)
            ours = {one.prefix: other.name for other in others for one in other.subnets}
            prefixes = wish.subnets or self._free_subnets({*routes, *ours})
            for index, prefix in enumerate(prefixes):
                with faults.at(""):
                    check_overlap(prefix, ours, {} if wish.allow_overlap else routes, f"subnets[{index}]")
        for first, last in wish.ranges:
            if not any(first in prefix and last in prefix for prefix in prefixes):
                raise InvalidInput("range", f"{first}-{last}", f"outside the subnets of network {wish.name}")
        return tuple(Subnet(prefix=one, gateway=gateway_in(one, wish), range=range_in(one, wish)) for one in prefixes)

    def _free_subnets(self, used: set[Prefix]) -> tuple[Prefix, ...]:
        text = os.environ.get("ISTHMUS_POOLS")
        pools = tuple(Prefix.parse(one, "ISTHMUS_POOLS") for one in text.split(",")) if text else POOLS
        subnet = free_prefix(used, pools)
        if self._host.access.sysctls.read("net/ipv6/conf/default/disable_ipv6") != "0":
            return (subnet,)  # a new bridge has no IPv6
        return (subnet, ula_prefix(read_machine(), used))

    def _check_allowed(self, wish: NetworkWish, record: Record) -> None:
        for other in record.networks.values():
            is_pair = other.name in wish.allow or wish.name in other.allow
            if is_pair and other.name != wish.name and NONE in (wish.uplink, other.uplink):
                closed = wish.name if wish.uplink == NONE else other.name
                raise Refused(
                    f"networks {wish.name} and {other.name} cannot be a pair: {closed} has no way out",
                    hint="members of a network with uplink none have no route to another network",
                    field="allow" if other.name in wish.allow else "uplink",
                )

    # Attachments

    def attachment(
        self,
        wish: AttachmentWish,
        network: Network,
        namespace: str,
        record: Record,
        *,
        before: Attachment | None = None,
        owner: str = "",
        names: frozenset[str] = frozenset(),
    ) -> Attachment:
        """Return the row of an attachment to be; `names` are link names that the namespace has besides.

        Raises:
            InvalidInput, Refused: an address, name or MAC cannot be had.
        """
        adopted = None
        if network.adopted and before is None:
            adopted = self._host.access.link(HOST, network.bridge)
            if adopted is None or adopted.kind != "bridge":
                why = f"bridge {network.bridge} of network {network.name} is gone"
                raise Refused(why, hint="its owner has to make it")
        if wish.default_route and not network.has_exit:
            why = f"network {network.name} has no way out, so no default route leads by it"
            raise Refused(why, field="default-route")
        if wish.default_route and not network.is_lan and not any(one.gateway for one in network.subnets):
            raise Refused(f"network {network.name} has no gateway to lead a default route by", field="default-route")
        identity = before.id if before is not None else os.urandom(6).hex()
        addresses = self._addresses(wish, network, before)
        self._look_at_ports(network, addresses)
        sequence = before.sequence if before is not None else self.sequence()
        return Attachment(
            id=identity,
            network=network.name,
            namespace=namespace,
            ifname=self._ifname(wish, record, namespace, before, names),
            host_ifname=before.host_ifname if before is not None else draw_host_end(adopted),
            mac=self._mac(wish, identity, before),
            addresses=addresses,
            leased=wish.leased,
            priority=_priority(wish, sequence, record, namespace, before),
            sequence=sequence,
            owner=owner,
        )

    def _look_at_ports(self, network: Network, addresses: tuple[Address, ...]) -> None:
        """Tell what a port need not wait for: a bridge with others has its carrier.

        And on one with many, an address that nobody ever had is not announced, since no cache can be wrong: the
        broadcast reaches the ports one by one, 1.6 us each (docs/decisions/0008).
        """
        ports = self._ports_of(network.name)
        if ports:
            self._host.access.populated.add(network.bridge)
        if network.adopted or ports <= _MANY_PORTS:
            return
        for address in addresses:
            known = (network.name, address.packed)
            if not self._host.db.all("SELECT 1 FROM leases WHERE network = ? AND address = ?", known):
                self._host.access.unannounced.add(address)

    def _ports_of(self, network: str) -> int:
        """Return how many ports a network has on record, as far as one more than many."""
        if network not in self._ports:
            query = "SELECT count(*) FROM (SELECT 1 FROM attachments WHERE network = ? LIMIT ?)"
            self._ports[network] = self._host.db.one(query, (network, _MANY_PORTS + 1))[0]
        return self._ports[network]

    def _mac(self, wish: AttachmentWish, identity: str, before: Attachment | None) -> Mac:
        if wish.mac is None:
            return before.mac if before is not None else draw_mac()
        query = "SELECT id, namespace FROM attachments WHERE mac = ?"
        for holder, name in self._host.db.all(query, (str(wish.mac),)):
            if holder != identity and holder not in self.leaving.macs:
                raise Refused(f"MAC {wish.mac} is taken by {name}", users=(str(name),), field="mac")
        return wish.mac

    def _ifname(
        self, wish: AttachmentWish, record: Record, namespace: str, before: Attachment | None, names: frozenset[str]
    ) -> str:
        gone = self.leaving.ifnames if before is None else self.leaving.ifnames | {before.id}
        held = {one.ifname for one in record.attachments_of(namespace) if one.id not in gone}
        held |= {end.ifname for link in record.links.values() for end in (link.a, link.b) if end.namespace == namespace}
        if wish.ifname is not None:
            if wish.ifname in held:
                why = f"cannot attach to {namespace} as {wish.ifname}: it has a link of that name"
                raise Refused(why, field="ifname")
            return wish.ifname
        return before.ifname if before is not None else first_free_ifname(held | names)

    def _addresses(self, wish: AttachmentWish, network: Network, before: Attachment | None) -> tuple[Address, ...]:
        for address in wish.ips:
            if not any(address in subnet.prefix for subnet in network.subnets):
                ranges = ", ".join(str(one.prefix) for one in network.subnets)
                raise InvalidInput("ip", str(address), f"outside network {network.name} ({ranges})")
        if wish.leased and not network.is_lan:
            raise InvalidInput(
                "ip", "dhcp", f"network {network.name} is no LAN (uplink nic): isthmus gives the addresses"
            )
        found = []
        for subnet in network.subnets:
            family = subnet.prefix.family
            if family in wish.leased:
                if any(one.family == family for one in wish.ips):
                    raise InvalidInput("ip", "dhcp", f"a second IPv{family} address: an attachment has one a family")
                continue
            wanted = [one for one in wish.ips if one.family == family]
            if len(wanted) > 1:
                raise InvalidInput("ip", str(wanted[1]), "an attachment has one address a family")
            kept = before.address(family) if before is not None else None
            if wanted:
                found.append(self._wanted(network, subnet, wanted[0], before))
                if network.is_lan and wanted[0] != kept:
                    self._check_lan(network, wanted[0])
            elif kept is not None and kept in subnet.prefix and kept != subnet.gateway:
                found.append(kept)
            elif network.is_lan:
                found += self._on_lan(network, subnet)
            else:
                found.append(self._next(network, subnet))
        if network.is_lan and not found and not wish.leased:
            raise Refused(
                f"network {network.name} has no range of addresses to give on its LAN",
                hint="give one with --ip, or let its DHCP server: --ip dhcp, or give the network a --range FIRST-LAST",
            )
        return tuple(found)

    def _check_lan(self, network: Network, address: Address) -> None:
        from isthmus.engine.lan import free_on_lan

        if not free_on_lan(self._host, network, [address]):
            raise Refused(f"address {address} is in use on the LAN of network {network.name}", field="ip")

    def _on_lan(self, network: Network, subnet: Subnet) -> list[Address]:
        """Give the next address of the range that nobody on the LAN answers for; none where there is no range."""
        from isthmus.engine.lan import free_on_lan

        while subnet.range is not None:  # ends: each round takes one more out of the range
            chosen = self._next(network, subnet)
            if free_on_lan(self._host, network, [chosen]):
                return [chosen]
        return []

    def _wanted(self, network: Network, subnet: Subnet, address: Address, before: Attachment | None) -> Address:
        if address == subnet.gateway:
            raise InvalidInput("ip", str(address), f"is the gateway of network {network.name}")
        if address.number not in subnet.prefix.hosts:
            raise InvalidInput("ip", str(address), f"is the network or broadcast address of {subnet.prefix}")
        rows = self._host.db.all(
            "SELECT attachment FROM leases WHERE network = ? AND address = ? AND attachment IS NOT NULL",
            (network.name, address.packed),
        )
        given = self._given_of(network)
        holder = rows[0][0] if rows and rows[0][0] not in self.leaving.addresses else None
        if (holder is not None and (before is None or holder != before.id)) or address.number in given:
            users = self._host.db.all("SELECT namespace FROM attachments WHERE id = ?", (holder,))
            name = users[0][0] if users else f"the host or another namespace on {network.bridge}"
            why = f"address {address} of network {network.name} is taken by {name}"
            raise Refused(why, users=(str(name),), field="ip")
        given.add(address.number)
        return address

    def _given_of(self, network: Network) -> set[int]:
        """Return what is taken beside the record: chosen already, or the host has it on somebody else's bridge."""
        if network.name not in self._given:
            foreign = host_addresses(self._host) if network.adopted else ()
            self._given[network.name] = {one.number for one in foreign}
        return self._given[network.name]

    def _next(self, network: Network, subnet: Subnet) -> Address:
        prefix = subnet.prefix
        given = self._given_of(network)
        key = (network.name, prefix.family)
        last = self._last.get(key)
        if last is None:
            packed = self._host.db.cursors().get(key)
            last = Address.decode(packed) if packed else None

        def taken(low: int, high: int) -> set[int]:
            return given | taken_addresses(self._host.db, network.name, prefix, low, high, self._now)

        try:
            chosen = allocate(prefix, subnet.gateway, last, taken, subnet.range)
        except Refused:  # rather one that rests than none
            chosen = allocate(
                prefix,
                subnet.gateway,
                last,
                lambda low, high: given | taken_addresses(self._host.db, network.name, prefix, low, high, 1e12),
                subnet.range,
            )
        given.add(chosen.number)
        self._last[key] = chosen
        return chosen

    def sequence(self) -> int:
        """Return the next number of the order in which things were made: nanoseconds, never twice the same."""
        self._sequence = max(time.time_ns(), self._sequence + 1)
        return self._sequence


def _priority(
    wish: AttachmentWish, sequence: int, record: Record, namespace: str, before: Attachment | None
) -> int | None:
    if wish.default_route is False:
        return None
    if wish.default_route is None:
        return sequence
    others = [one.priority for one in record.attachments_of(namespace) if before is None or one.id != before.id]
    return min([0, *(one for one in others if one is not None)]) - 1
