"""Networks with a network interface on their bridge: what the interface must be, and what such a network is like."""

from __future__ import annotations

import errno
import os

from isthmus.converge import Host
from isthmus.engine.subnets import range_in
from isthmus.errors import InvalidInput, NotFound, Refused
from isthmus.kernel.behind import staying_behind
from isthmus.kernel.nic import await_running, find_nic, read_carried
from isthmus.kernel.on_top import on_top
from isthmus.kernel.probe import occupied
from isthmus.model.address import Address, Prefix
from isthmus.model.declared import NetworkWish
from isthmus.model.host import HOST
from isthmus.model.network import NAT, NIC, Network, Subnet
from isthmus.netlink.rtnl import address as rtnl_address
from isthmus.netlink.rtnl import carried as rtnl_carried
from isthmus.netlink.rtnl import link as rtnl_link
from isthmus.netlink.rtnl import route as rtnl_route
from isthmus.netlink.rtnl import rule as rtnl_rule
from isthmus.netlink.rtnl import token as rtnl_token

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Final

    from isthmus.kernel.managers import Manager
    from isthmus.netlink.rtnl.link import Link

__all__ = ["found_subnets", "free_on_lan", "lan_network"]

_IFF_LOOPBACK: Final = 0x8
# A link of these kinds on top of another goes on working when that is a port of a bridge.
_HARMLESS: Final = frozenset({"vlan"})
_SCOPE_GLOBAL: Final = 0


def lan_network(
    host: Host,
    wish: NetworkWish,
    others: Sequence[Network],
    before: Network | None,
    bridge: str,
    sequence: int,
    owner: str,
) -> Network:
    """Return the row of a network whose bridge gets a network interface.

    Raises:
        NotFound: no such interface.
        Refused: it cannot be a port, or carries what cannot be moved.
        InvalidInput: a range or gateway that does not fit.
    """
    link = _find(host, wish.nic) if before is None else _find_again(host, wish, before)
    for other in others:
        if other.nic == link.name:
            raise Refused(f"link {link.name} is on network {other.name}", users=(other.name,))
    if before is None:
        _check(host, link)
        host.notes += staying_behind(host.access, link, bridge)
        host.notes += _cut(host, link, others)
        _heed_managers(host, link, wish, (bridge, *(one.bridge for one in others)))
    subnets = _subnets(host, wish, link, before)
    for subnet in subnets:
        for other in others:
            for one in other.subnets:
                if one.prefix.overlaps(subnet.prefix):
                    why = f"subnet {subnet.prefix} overlaps {one.prefix} of network {other.name}"
                    raise Refused(why, field="subnets")
    return Network(
        name=wish.name,
        bridge=bridge,
        mac=link.mac if before is None else before.mac,
        subnets=subnets,
        uplink=NIC,
        nic=link.name if before is None else before.nic,
        dhcp=_identifier(link, wish, before),
        isolate_ports=wish.isolate_ports,
        mtu=wish.mtu or (link.mtu if before is None else before.mtu),
        sequence=sequence if before is None else before.sequence,
        owner=owner,
    )


def _cut(host: Host, link: Link, others: Iterable[Network]) -> Iterator[str]:
    """Yield what ends with each move: the kernel's masquerade remembers by which interface it translated.

    Source: net/netfilter/nf_nat_core.c, nf_nat_oif_changed.
    """
    uplinks = {4: host.outlook.links.uplinks4, 6: host.outlook.links.uplinks6}
    families = [family for family, links in uplinks.items() if link.name in links]
    names = [one.name for one in others if any(_is_masqueraded(one, family) for family in families)]
    if names:
        told = f"network{'s' * (len(names) > 1)} {', '.join(names)}"
        why = f"what is masqueraded by {link.name} is not by its bridge (--snat is by both)"
        yield f"connections that members of {told} have to the outside end with each move: {why}"


def _is_masqueraded(network: Network, family: int) -> bool:
    """Whether what leaves a network gets the address of the link that it leaves by."""
    is_fixed = any(one.family == family for one in network.snat)
    return network.uplink == NAT and network.subnet(family) is not None and not is_fixed


def _find(host: Host, name: str) -> Link:
    """Return the link that the kernel knows by a name, an alternative one too."""
    link = host.access.link_of_any_name(HOST, name)
    if link is None:
        raise NotFound(f"no link {name!r}", hint="ip link shows them", field="uplink")
    return link


def _find_again(host: Host, wish: NetworkWish, before: Network) -> Link:
    """Return the link of a network that is there already: by its name on record, or its present one."""
    known = find_nic(host.access, before.nic, before.bridge)
    link = known if known is not None and wish.nic == before.nic else _find(host, wish.nic)
    if known is None or known.index != link.index:
        raise Refused(f"network {wish.name} is on link {before.nic}: remove it first", users=(wish.name,))
    return link


def _check(host: Host, link: Link) -> None:
    """Refuse what cannot be a port, and what would break if it were one, before anything moves."""
    name = link.name
    if link.flags & _IFF_LOOPBACK:
        raise Refused(f"link {name} is the loopback: no bridge can have it")
    if link.mac is None:
        raise Refused(f"link {name} is no Ethernet interface")
    if link.kind == "bridge":
        raise Refused(f"link {name} is a bridge itself", hint=f"--bridge {name} makes a network on it")
    if any(os.path.exists(f"/sys/class/net/{name}/{sign}") for sign in ("wireless", "phy80211")):
        raise Refused(f"link {name} is wireless: an access point takes no frames from other MACs than its own")
    if link.master:
        port_of = host.access.link_at(HOST, link.master)
        master = "another link" if port_of is None else port_of.name
        raise Refused(f"link {name} is a port of {master}", users=(master,))
    users = tuple(on_top(host.access, link, besides=_HARMLESS))
    if users:
        raise Refused(f"link {name} has other links on it: {', '.join(users)}", users=users)
    if not link.is_up:
        raise Refused(f"link {name} is down", hint=f"ip link set dev {name} up")
    await_running(host.access, name)
    rules = [rtnl_rule.decode(one) for one in host.access.route(HOST).dump(rtnl_rule.all_rules())]
    for rule in rules:
        if name in (rule.iifname, rule.oifname):
            raise Refused(f"policy rule {rule.priority} names link {name}, and would not match any more")
    token = rtnl_token.decode(host.access.route(HOST).get(rtnl_link.by_index(link.index)))
    if token is not None:
        why = f"link {name} has the IPv6 token {token}, which stays on it: routers would give the host another address"
        raise Refused(why, hint=f"ip token delete dev {name}, or give it that address")
    for one in read_carried(host.access, name):
        if one.kind == rtnl_carried.ADDRESS and rtnl_carried.is_failed(one.payload):
            raise Refused(f"address {one.words[2]} of {name} is used by somebody else (duplicate-address detection)")


def _heed_managers(host: Host, link: Link, wish: NetworkWish, bridges: tuple[str, ...]) -> None:
    """Note what somebody else will do to a link that is about to move, at the next reboot or sooner.

    The first of `bridges` is the one that it moves to, the others are those of our other networks.

    Raises:
        Refused: somebody else's DHCP client keeps an address of the link.
    """
    from isthmus.kernel.managers import managers_of

    addresses = [rtnl_address.decode(one) for one in host.access.route(HOST).dump(rtnl_address.of_link(link.index))]
    leased = [one for one in addresses if one.address.family == 4 and one.is_leased]
    leased6 = [one for one in addresses if one.address.family == 6 and one.is_leased]
    leased6 = [one for one in leased6 if not one.is_learned and not one.is_secondary]
    temporary = [one for one in addresses if one.address.family == 6 and one.is_secondary]
    managers = managers_of(link, bridges)
    for one in managers:
        if one.leases or one.clears:
            told = _told(leased6 if one.only6 else leased)
            would = "not leave it on the bridge" if one.leases else "take it off when the link leaves the bridge"
            raise Refused(
                f"link {link.name} has {told} from {one.name}, which would {would}",
                users=(one.name,),
                hint=f"{one.remedy}; then say it again{_again(host, link, one, leased)}{_back(link, one, managers)}",
            )
    for one in managers:
        if one.returns:
            # To make it let go would leave the host without an address after a reboot.
            back = f"the next verb of isthmus puts it on {bridges[0]}"
            host.notes.append(f"{one.name} manages {link.name}: at a reboot or sooner {one.returns}; {back}")
    if leased and wish.dhcp is None:
        host.notes.append(f"{_told(leased)} of {link.name} is leased, and nobody renews it: --dhcp auto would")
    if leased6:
        host.notes.append(f"{_told(leased6)} of {link.name} is leased, and nobody renews it: a fixed one would stay")
    for address in temporary:
        again = f"the kernel makes another on {bridges[0]}, and what was opened from this one ends"
        host.notes.append(f"address {address.address} of {link.name} is temporary: {again}")


def _again(host: Host, link: Link, manager: Manager, leased: list[rtnl_address.IpAddress]) -> str:
    """Return how to go on once a manager has let go."""
    if not manager.leases:
        return ""
    if manager.only6:
        return "; nobody renews the address then"
    told = f" with --dhcp {_shown(manager.identifier)}"
    if manager.takes_along and leased:
        told += f"{_place(host, link)}, in the same line: it takes the address along"
    return told


def _back(link: Link, manager: Manager, managers: list[Manager]) -> str:
    """Return what comes at the next reboot although a manager has let go."""
    returns = [one.returns for one in managers if one.returns and not (one is manager and one.lasts)]
    if returns:
        return f"; at a reboot {returns[0]}"
    return "" if manager.leases else f"; at a reboot nobody gives {link.name} its address then"


def _identifier(link: Link, wish: NetworkWish, before: Network | None) -> str:
    """Return by which identifier a DHCP client of ours goes on with the host's lease; empty: none does."""
    if wish.dhcp != "auto":
        return wish.dhcp or ""
    if before is not None and before.dhcp:
        return before.dhcp
    from isthmus.kernel.dhcp_clients import last_identifier

    found = last_identifier(link)
    return f"01{link.mac.packed.hex()}" if found is None and link.mac is not None else found or "none"


def _place(host: Host, link: Link) -> str:
    """Return the options that tell what cannot be read any more when an address has gone."""
    found = found_subnets(host, link)
    routers = [one.gateway for one in found if one.gateway is not None and one.gateway in one.prefix]
    return "".join([*(f" --subnet {one.prefix}" for one in found), *(f" --gateway {one}" for one in routers)])


def _told(leased: list[rtnl_address.IpAddress]) -> str:
    return f"address {leased[0].address}" if leased else "its address"


def _shown(identifier: str | None) -> str:
    """Return a client identifier as --dhcp takes it."""
    if identifier is None:
        return "auto"
    return bytes.fromhex(identifier).hex(":") or "none"


def _subnets(host: Host, wish: NetworkWish, link: Link, before: Network | None) -> tuple[Subnet, ...]:
    if wish.subnets:
        prefixes = wish.subnets
    elif before is not None:
        prefixes = tuple(one.prefix for one in before.subnets)
    else:
        prefixes = tuple(one.prefix for one in found_subnets(host, link))
    if not prefixes:
        raise Refused(
            f"link {link.name} has no address: which subnet is its LAN?", hint="name it: --subnet, and --gateway"
        )
    for first, last in wish.ranges:
        if not any(first in prefix and last in prefix for prefix in prefixes):
            told = ", ".join(map(str, prefixes))
            raise InvalidInput("range", f"{first}-{last}", f"outside network {wish.name} ({told})")
    return tuple(
        Subnet(
            prefix=prefix,
            gateway=_router(host, wish, link, prefix, before),
            range=range_in(prefix, wish),
        )
        for prefix in prefixes
    )


def found_subnets(host: Host, link: Link) -> list[Subnet]:
    """Return the subnets that the host has on a link, at most one a family, with the router that it uses there.

    That which the router is in, else that of the oldest address which is neither deprecated nor temporary.
    """
    found = [rtnl_address.decode(one) for one in host.access.route(HOST).dump(rtnl_address.of_link(link.index))]
    subnets = []
    for family in (4, 6):
        fitting = [one for one in found if one.address.family == family and one.scope == _SCOPE_GLOBAL]
        fitting = [one for one in fitting if one.length < one.address.bits - 1]
        if not fitting:
            continue
        # The kernel lists IPv4 addresses in the order of adding, IPv6 ones the last one first.
        ordered = fitting if family == 4 else fitting[::-1]
        ordered.sort(key=lambda one: (one.is_deprecated, one.is_secondary))
        prefixes = [Prefix.around(one.address, one.length) for one in ordered]
        router = _next_hop(host, link, family)
        near = next((one for one in prefixes if router is not None and router in one), prefixes[0])
        subnets.append(Subnet(prefix=near, gateway=router))
    return subnets


def _router(host: Host, wish: NetworkWish, link: Link, prefix: Prefix, before: Network | None) -> Address | None:
    """Return the LAN's router: the next hop of the host's own default route, unless one was named."""
    if wish.gateways is not None:
        return next((one for one in wish.gateways if one.family == prefix.family), None)
    old = before.subnet(prefix.family) if before is not None else None
    return old.gateway if old is not None else _next_hop(host, link, prefix.family)


def _next_hop(host: Host, link: Link, family: int) -> Address | None:
    payloads = host.access.route(HOST).dump(rtnl_route.main_routes(family, link.index), absent=errno.ENOENT)
    routes = [rtnl_route.decode(one) for one in payloads]
    fitting = [one for one in routes if one.is_default and one.via is not None]
    # Of one metric it is the one that somebody set, not that which was heard: the kernel lists them as they came.
    return min(fitting, key=lambda one: (one.priority, one.is_learned)).via if fitting else None


def free_on_lan(host: Host, network: Network, addresses: Sequence[Address]) -> list[Address]:
    """Return those of some addresses that nobody on the LAN of a network, and not the host itself, answers for."""
    own = {rtnl_address.decode(one).address for one in host.access.route(HOST).dump(rtnl_address.all_addresses())}
    asked = [one for one in addresses if one not in own]
    bridge = host.access.link(HOST, network.bridge)
    nic = find_nic(host.access, network.nic, network.bridge)
    by = bridge if bridge is not None and nic is not None and nic.master == bridge.index else nic
    if by is None or by.mac is None:
        raise Refused(f"link {network.nic} of network {network.name} is gone", users=(network.name,))
    held = occupied(by.name, by.mac, asked)
    return [one for one in asked if one not in held]
