"""What there is of networks, for people and programs to read: `network ls`, `network inspect`.

Every view takes a `Host(writable=False)`: no lock, nothing changes. Keys are documented in docs/json.md,
and stay. Namespaces and the whole host are overview.py's.
"""

from __future__ import annotations

import time
from math import ceil

from isthmus.converge import Host
from isthmus.converge.host_files import kept_forwarding
from isthmus.converge.pending import seconds_left
from isthmus.engine.targets import find_network
from isthmus.errors import Refused
from isthmus.kernel.dump import Dumper
from isthmus.kernel.lease import leased_addresses
from isthmus.kernel.netns import boot_identity
from isthmus.kernel.netns_locate import cookie_alive
from isthmus.kernel.ruleset import has_bridge_table
from isthmus.model.host import HOST, Element
from isthmus.model.network import ROUTED, Attachment, Network, Record
from isthmus.model.ruleset import SETS, TABLE, element_text
from isthmus.netlink.rtnl import address as rtnl_address
from isthmus.planner.firewall import (
    attachment_elements,
    frame_elements,
    network_elements,
    publish_elements,
    publish_targets,
)
from isthmus.planner.forwarding import host_sysctls, publish_sysctls
from isthmus.store import journal
from isthmus.store.journal import entries
from isthmus.store.lock import read_begun

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Json = dict[str, Any]

__all__ = ["inspect_network", "member_addresses", "networks", "pending", "read_record"]

_RT_SCOPE_UNIVERSE = 0


def read_record(host: Host) -> Record:
    """Load the record as the next changing call would find it: of another boot, only what is wished for good is left.

    Raises:
        Refused: it is of another network namespace, which still lives.
    """
    known = host.db.meta("boot_id"), host.db.meta("cookie")
    if known == (None, None):
        return host.db.record()
    now = boot_identity()
    if known == now:
        return host.db.record()
    if known[0] == now[0] and known[1] and cookie_alive(known[1]):
        raise Refused(
            f"the state in {host.directory} is of another network namespace, which still lives",
            hint="work inside that namespace, or set ISTHMUS_STATE_DIR for this one",
        )
    kept = {row.id: row for row in kept_forwarding(host.db.rows("forwarding"))}
    waiting = journal.pending(host.db)
    networks = Record.empty().replace(networks=host.db.rows("networks"))
    networks = networks if waiting is None else waiting.edit.on(networks)
    return Record.empty().replace(networks=networks.networks, forwarding=kept)


def pending(host: Host) -> list[Json]:
    """Return the calls that died before they settled what they began."""
    found = entries(host.db, read_begun(host.directory), time.clock_gettime(time.CLOCK_BOOTTIME))
    return [
        {
            "verb": entry.verb,
            "phase": entry.phase,
            "namespaces": None if entry.namespaces is None else sorted(entry.namespaces),
        }
        for entry in found
        if entry.phase != journal.PENDING
    ]


def unconfirmed(host: Host) -> Json | None:
    """Return what waits to be confirmed: `verb`, and in how many `seconds` it is taken back (0: the next change does).

    What was not confirmed before a reboot is gone with it.
    """
    entry = journal.pending(host.db)
    if entry is None or host.db.meta("boot_id") != boot_identity()[0]:
        return None
    return {"verb": entry.verb, "seconds": ceil(seconds_left(entry))}


def networks(host: Host, record: Record | None = None) -> list[Json]:
    """Return all networks, by name."""
    record = read_record(host) if record is None else record
    return [_network(host, record, record.networks[name]) for name in sorted(record.networks)]


def _network(host: Host, record: Record, network: Network) -> Json:
    link = host.access.link(HOST, network.bridge)
    return {
        "name": network.name,
        "owner": network.owner or None,
        "bridge": network.bridge,
        "adopted": network.adopted,
        "present": link is not None and link.kind == "bridge",
        "mac": str(network.mac) if network.mac is not None else None,
        "mtu": network.mtu,
        "uplink": network.uplink,
        "nic": network.nic or None,
        "dhcp": network.dhcp or None,
        "snat": [str(one) for one in network.snat],
        "subnets": [
            {
                "prefix": str(one.prefix),
                "gateway": None if one.gateway is None else str(one.gateway),
                "range": None if one.range is None else [str(address) for address in one.range],
            }
            for one in network.subnets
        ],
        "isolate_ports": network.isolate_ports,
        "allow": sorted(network.allow),
        "members": [one.namespace for one in record.members(network.name)],
    }


def inspect_network(host: Host, name: str) -> Json:
    """Return all of one network: members, elements, borrowed values, routes for the LAN's router.

    Raises:
        NotFound: no such network.
    """
    record = read_record(host)
    network = find_network(record, name)
    found = _network(host, record, network)
    host.access.know(record.namespaces.values())
    elements = _elements(host, record, network)
    present = _present(host, elements)
    shown = [
        {
            "table": f"{SETS[one.name].family} {TABLE}",
            "set": one.name,
            "parts": _plain(one.parts),
            "data": _plain(one.data),
            "present": one in present,
            "text": element_text(one),
        }
        for one in elements
    ]
    return {
        **found,
        "members": [_member(host, record, network, one) for one in record.members(name)],
        "elements": shown,
        "missing": [f"{one['table']}: {one['text']}" for one in shown if not one["present"]],
        "borrowed": _borrowed(host, record, network),
        "router_routes": _router_routes(host, network),
        "pending": pending(host),
    }


def member_addresses(host: Host, network: Network | None, attachment: Attachment) -> list[str]:
    """Return an attachment's addresses with their prefix lengths; leased and learned ones as they are now."""
    found = [f"{address}/{length}" for address, length in leased_addresses(host.access, attachment, network)]
    for address in attachment.addresses:
        subnet = network.subnet(address.family) if network is not None else None
        found.append(f"{address}/{subnet.prefix.length if subnet is not None else address.bits}")
    return found


def _member(host: Host, record: Record, network: Network, attachment: Attachment) -> Json:
    link = host.access.link(HOST, attachment.host_ifname)
    default = [family for family in (4, 6) if record.default_route_holder(attachment.namespace, family) == attachment]
    publishes = [
        one.spec
        for one in record.publishes.values()
        if one.namespace == attachment.namespace
        and any(target.id == attachment.id for _, target, _ in publish_targets(record, one))
    ]
    return {
        "namespace": attachment.namespace,
        "id": attachment.id,
        "owner": attachment.owner or None,
        "ifname": attachment.ifname,
        "host_ifname": attachment.host_ifname,
        "host_up": link is not None and link.is_up,
        "mac": str(attachment.mac),
        "addresses": member_addresses(host, network, attachment),
        "leased": bool(attachment.leased),
        "default_route": default,
        "publishes": sorted(publishes),
        "alive": host.access.is_alive(attachment.namespace),
    }


def _elements(host: Host, record: Record, network: Network) -> list[Element]:
    """Return the elements of the firewall that belong to a network, of its members' ports, of its publishes last."""
    found = list(network_elements(network, record.networks.values()))
    if network.judges_frames and has_bridge_table(host.access):
        found += frame_elements(network)
        for member in record.members(network.name):
            found += attachment_elements(network, member)
    for publish in record.publishes.values():
        addresses = {address for one, _, address in publish_targets(record, publish) if one.name == network.name}
        steering = publish_elements(record, publish)
        found += [one for one in steering if addresses.intersection((*one.data, *one.parts))]
    return found


def _present(host: Host, elements: list[Element]) -> set[object]:
    """Return those elements that are in the kernel and lead where they ought to."""
    dumper = Dumper(host.access, ("", ""), lambda _: None)
    return set(dumper.dump({one.key: one for one in elements}).values())


def _plain(parts: tuple[object, ...]) -> list[object]:
    return [one if isinstance(one, int) else str(one) for one in parts]


def _borrowed(host: Host, record: Record, network: Network) -> list[Json]:
    """Return the borrowed values that a network needs."""
    alone = record.replace(networks={network.name: network})
    facts = host.outlook.facts_of(record)
    needed = {item.name for item in (*host_sysctls(alone, facts), *publish_sysctls(record, network, facts))}
    return [
        {"name": row.name, "before": row.before, "gave": row.gave}
        for row in record.borrowed.values()
        if row.name in needed and row.before != row.gave
    ]


def _router_routes(host: Host, network: Network) -> list[str]:
    """Return the commands that teach the LAN's router the way to a routed network."""
    if network.uplink != ROUTED:
        return []
    found = []
    for subnet in network.subnets:
        via = _own_address(host, subnet.prefix.family)
        if via is not None and network.has_host(subnet.prefix.family):
            found.append(f"ip route add {subnet.prefix} via {via}")
    return found


def _own_address(host: Host, family: int) -> str | None:
    """Return the host's first global address on the link of its default route."""
    for name in host.outlook.links.uplinks4 if family == 4 else host.outlook.links.uplinks6:
        link = host.access.link(HOST, name)
        if link is None:
            continue
        for payload in host.access.route(HOST).dump(rtnl_address.of_link(link.index)):
            one = rtnl_address.decode(payload)
            if one.address.family == family and one.scope == _RT_SCOPE_UNIVERSE and one.index == link.index:
                return str(one.address)
    return None
