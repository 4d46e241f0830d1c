"""The record from the marks in the kernel: when the state file is lost, what stands can still be kept.

Found again: networks (bridge, subnets, gateways, uplink and its interface, snat, pairs, MTU), namespaces,
attachments, direct links, publishes, DHCP clients, forwarding that is switched on at each boot, and who owns them.
Not found: values that were borrowed (what they were before) and forwarding that is on for now, which an old file that
is sound tells; commands, ranges, whose a network on an adopted bridge is (it becomes nobody's), and what such a network
without members is called (the bridge's own name is taken).
"""

from __future__ import annotations

import os

from isthmus.converge import Host
from isthmus.converge.outlook import run_directory
from isthmus.engine.forwarding import file_rows
from isthmus.engine.lan import found_subnets
from isthmus.engine.whole import check_whole
from isthmus.errors import Refused
from isthmus.kernel.files import is_kept, read_file, read_text
from isthmus.kernel.netns import RUN, Inside, boot_identity, own_cookie
from isthmus.kernel.netns_locate import distinct
from isthmus.kernel.ruleset import set_elements
from isthmus.model.address import Address, Mac, Prefix
from isthmus.model.host import ETC_NETNS, HOST, LIVE_GROUP, Element, File, LinkAddress, Symlink
from isthmus.model.network import Attachment, DirectLink, LinkEnd, Namespace, Network, Publish, Record, Row, Subnet
from isthmus.model.ruleset import PROTOCOL_NAMES, SETS
from isthmus.netlink.rtnl import address as rtnl_address
from isthmus.netlink.rtnl import link as rtnl_link
from isthmus.netlink.rtnl import rule as rtnl_rule
from isthmus.netlink.rtnl.route import RTPROT_ISTHMUS
from isthmus.netlink.socket import NETLINK_ROUTE, Socket
from isthmus.planner.borrowing import address_name
from isthmus.planner.desired import EVERYTHING
from isthmus.planner.firewall import publish_targets
from isthmus.planner.leases import bridge_name, identifier_of, member_name
from isthmus.planner.marks import Mark, parse_mark
from isthmus.planner.ways import OUT
from isthmus.store.anew import replace
from isthmus.store.edit import Edit
from isthmus.store.lock import Lock, state_directory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from isthmus.netlink.rtnl.link import Link
    from isthmus.netlink.rtnl.rule import PolicyRule

__all__ = ["rebuild"]


def rebuild(directory: str | None = None) -> tuple[str, ...]:
    """Make the record of this host anew from the marks in the kernel, in which nothing changes; return what to note.

    What is crooked then a `repair` puts right. A kill leaves the old record or the new one. It takes the lock itself.

    Raises:
        Refused: a change waits to be confirmed, and the state file alone has the way back; or what the firewall's sets
            tell of networks is lost.
    """
    directory = directory or state_directory()
    host = Host(directory=directory)
    lock = Lock(directory)
    try:
        lock.take()
        edit = _found(host)
        boot_id, number = boot_identity()
        # No version: whoever enters the host next loads the rulesets, with all that is on record.
        version = "" if "networks" in edit.kinds else None
        aside, tells = replace(directory, edit, {"boot_id": boot_id, "cookie": number, "version": version})
        lock.end()  # what a call that died had begun stands now, or is drift
    finally:
        lock.close()
        host.access.close()
    notes = [f"the old state file is kept as {aside}"] if aside else []
    if not tells:
        notes.append("what was borrowed of the host cannot be told from the kernel: look at its forwarding sysctls")
    return tuple(notes)


def _found(host: Host) -> Edit:
    """Return the edit that leads from an empty record to what is found."""
    finder = _Finder(host)
    nothing = Record.empty()
    edit = Edit(puts=(*finder.rows(), *file_rows(nothing)))
    ours = set(finder.our_addresses())
    theirs = host.plan(nothing, edit.on(nothing), EVERYTHING).found
    return edit.plus(Edit(puts=tuple(row for row in theirs if row.name not in ours)))


class _Inner:
    """A namespace with its links, addresses and rules."""

    def __init__(
        self, namespace: Namespace, links: list[Link], addresses: list[rtnl_address.IpAddress], rules: list[PolicyRule]
    ) -> None:
        self.namespace = namespace
        self.links = links
        self.addresses = addresses
        self.rules = rules

    @property
    def behind(self) -> Iterator[Address]:
        """Yield the addresses that have a way out of their own, since the default route is another's, or nobody's."""
        for one in self.rules:
            if one.source is not None and (one.priority, one.protocol) == (OUT, RTPROT_ISTHMUS):
                yield one.source

    def of_link(self, index: int) -> tuple[tuple[Address, int], ...]:
        """Return the addresses on a link that are neither link-local nor have a lifetime."""
        found = [one for one in self.addresses if one.index == index and not one.is_link_local and not one.is_leased]
        return tuple((one.address, one.length) for one in found)


class _Finder:
    """Reads links, sets and namespaces once, and makes rows of them."""

    def __init__(self, host: Host) -> None:
        self._host = host
        socket = host.access.route(HOST)
        self._links = [rtnl_link.decode(one) for one in socket.dump(rtnl_link.all_links())]
        self._names = {one.index: one.name for one in self._links}
        self._elements = [one for name in SETS for one in set_elements(host.access, name)]
        check_whole(self._links, self._elements)
        self._inside = list(_namespaces())

    def rows(self) -> Iterator[Row]:
        networks = list(self._networks())
        attachments = list(self._claims(list(self._attachments(networks)), networks))
        links = list(self._direct_links())
        ids = {one.namespace for one in attachments}
        ids |= {end.namespace for link in links for end in (link.a, link.b)}
        yield from networks
        owners = {one.namespace: one.owner for one in attachments}
        for inner in self._inside:
            row = inner.namespace
            if row.made or row.id in ids:
                yield row.replace(owner=owners.get(row.id, "") if row.made else "")
        yield from attachments
        yield from links
        yield from self._publishes(networks, attachments)

    def _parts(self, name: str) -> list[tuple[object, ...]]:
        return [one.parts for one in self._elements if one.name == name]

    def _networks(self) -> Iterator[Network]:
        bridges = [(link.name, link, _mark(link)) for link in self._links if link.kind == "bridge"]
        adopted = {parts[0] for parts in self._parts("adopted")}
        names = {bridge: mark.subject if mark is not None else bridge for bridge, _, mark in bridges}
        for bridge, link, _ in bridges:
            if bridge in adopted:
                names[bridge] = self._called(link) or bridge
        for number, (bridge, link, mark) in enumerate(bridges):
            if bridge not in adopted and (mark is None or mark.kind != "network" or link.group != LIVE_GROUP):
                continue
            routed, closed = (bridge,) in self._parts("routed"), (bridge,) in self._parts("no_exit")
            nic = self._nic(link) if (bridge,) in self._parts("lan") else ""
            subnets = tuple(found_subnets(self._host, link) if nic else self._subnets(bridge))
            ports = [one for one in self._links if one.master == link.index and one.group == LIVE_GROUP]
            apart, isolated = self._parts("apart"), self._parts("isolated")
            pairs = {other for one, other in self._parts("pairs") if one == bridge}
            yield Network(
                name=names[bridge],
                bridge=bridge,
                mac=None if bridge in adopted else link.mac,
                subnets=subnets,
                uplink="nic" if nic else "routed" if routed else "none" if closed else "nat",
                nic=nic,
                dhcp=identifier_of(self._argv(bridge_name(names[bridge]))) if nic else "",
                adopted=bridge in adopted,
                snat=tuple(self._snat(subnets)),
                isolate_ports=(bridge, bridge) in isolated
                or (bool(ports) and all(one.isolated or (one.name,) in apart for one in ports)),
                allow=frozenset(names[str(one)] for one in pairs if one in names),
                mtu=link.mtu,
                sequence=number + 1,
                owner=mark.owner if mark is not None else "",
            )

    def _called(self, bridge: Link) -> str:
        """Return the name of a network by the hosts file that has one of its members; empty: none has."""
        ends = [self._far_end(one) for one in self._links if one.master == bridge.index and _mark(one) is not None]
        members = {str(address) for end in ends if end is not None for address, _ in end[0].of_link(end[1].index)}
        folder = f"{run_directory()}/hosts"
        for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
            if any(line.split(" ")[0] in members for line in read_text(f"{folder}/{name}").splitlines()):
                return name
        return ""

    def our_addresses(self) -> Iterator[str]:
        """Yield the names of what would be borrowed of adopted bridges, but bears our protocol number."""
        bridges = {parts[0] for parts in self._parts("adopted")}
        for payload in self._host.access.route(HOST).dump(rtnl_address.all_addresses()):
            one = rtnl_address.decode(payload)
            bridge = self._names.get(one.index, "")
            if bridge in bridges and one.proto == rtnl_address.IFA_PROTO_ISTHMUS:
                item = LinkAddress(netns=HOST, ifname=bridge, address=one.address, length=one.length)
                yield address_name(item)

    def _argv(self, command: str) -> list[str]:
        """Return what a command was started with, if it was."""
        return read_text(f"{self._host.commands_directory}/{command}/argv").split("\0")

    def _nic(self, bridge: Link) -> str:
        """Return the port of a LAN's bridge that is not ours; of several, the one that the bridge has its MAC of.

        Raises:
            Refused: there is none.
        """
        ports = [one for one in self._links if one.master == bridge.index and one.group != LIVE_GROUP]
        if not ports:
            raise Refused(
                f"cannot make the record anew: bridge {bridge.name} is a LAN's, and its interface is not on it",
                hint=f"put it there (ip link set dev LINK master {bridge.name})",
            )
        return next((one.name for one in ports if one.mac == bridge.mac), ports[0].name)

    def _subnets(self, bridge: str) -> Iterator[Subnet]:
        for family in (4, 6):
            gateways = [parts[0] for parts in self._parts(f"gateway_of{family}") if parts[1] == bridge]
            for name, prefix in self._parts(f"onlink{family}"):
                if name == bridge and isinstance(prefix, Prefix):
                    inside = [one for one in gateways if isinstance(one, Address) and one in prefix]
                    yield Subnet(prefix=prefix, gateway=inside[0] if inside else None)

    def _snat(self, subnets: tuple[Subnet, ...]) -> Iterator[Address]:
        prefixes = {one.prefix for one in subnets}
        for element in self._elements:
            if element.name in ("snat4", "snat6") and element.parts[0] in prefixes:
                address = element.data[0]
                if isinstance(address, Address):
                    yield address

    def _attachments(self, networks: list[Network]) -> Iterator[Attachment]:
        by_bridge = {one.bridge: one.name for one in networks}
        for link in self._links:
            mark = _mark(link)
            bridge = self._names.get(link.master, "")
            if mark is None or mark.kind != "attachment" or bridge not in by_bridge:
                continue
            found = self._far_end(link)
            if found is None:
                continue
            inner, far = found
            leased = tuple(one for one in (4, 6) if len(self._argv(member_name(mark.subject, one))) > 1)
            yield Attachment(
                id=mark.subject,
                network=by_bridge[bridge],
                namespace=inner.namespace.id,
                ifname=far.name,
                host_ifname=link.name,
                mac=far.mac or Mac(packed=bytes(6)),
                addresses=tuple(one for one, _ in inner.of_link(far.index)),
                leased=leased,
                priority=link.index,
                sequence=link.index,
                owner=mark.owner,
            )

    def _claims(self, attachments: list[Attachment], networks: list[Network]) -> Iterator[Attachment]:
        """Yield attachments with the claim on the default route that the rules in their namespaces tell of."""
        ways = {(one.name, net.prefix.family) for one in networks if one.has_exit for net in one.subnets if net.gateway}
        for inner in self._inside:
            group = [one for one in attachments if one.namespace == inner.namespace.id]
            behind = set(inner.behind)
            held = {family for one in group for family in one.leased}
            for one in group:
                held |= {net.family for net in one.addresses if net not in behind and (one.network, net.family) in ways}
            counts = [len(behind.intersection(one.addresses)) for one in group]
            for one, count in zip(group, counts, strict=True):
                if count and not any(address.family in held for address in one.addresses):
                    yield one.replace(priority=None)
                else:
                    yield one.replace(priority=one.sequence - ((max(counts) - count) << 32))

    def _far_end(self, near: Link) -> tuple[_Inner, Link] | None:
        for inner in self._inside:
            for far in inner.links:
                if far.kind == "veth" and far.index == near.peer and far.peer == near.index:
                    return inner, far
        return None

    def _direct_links(self) -> Iterator[DirectLink]:
        ends: dict[str, list[tuple[_Inner, Link]]] = {}
        for inner in self._inside:
            for link in inner.links:
                mark = _mark(link)
                if mark is not None and mark.kind == "link":
                    ends.setdefault(f"{mark.subject} {mark.owner}", []).append((inner, link))
        for key, pair in ends.items():
            if len(pair) == 2:
                subject, _, owner = key.partition(" ")
                near, far = sorted(pair, key=lambda end: end[1].group != LIVE_GROUP)
                yield DirectLink(id=subject, a=_end(*near), b=_end(*far), mtu=near[1].mtu, owner=owner)

    def _publishes(self, networks: list[Network], attachments: list[Attachment]) -> Iterator[Publish]:
        record = Edit(puts=(*networks, *attachments)).on(Record.empty())
        holders = {address: one for one in attachments for address in one.addresses}
        seen = set()
        for element in self._elements:
            row = _publish(element, holders, record)
            if row is not None and row.id not in seen:
                seen.add(row.id)
                yield row


def _publish(element: Element, holders: dict[Address, Attachment], record: Record) -> Publish | None:
    parts, data = element.parts, element.data
    host: object = None
    if element.name in ("port4", "port6"):
        host, protocol, host_port = parts
        address, port = data
    elif element.name in ("anyport4", "anyport6"):
        protocol, host_port = parts
        address, port = data
    elif element.name in ("open4", "open6"):
        address, protocol, port = parts
        host_port = port
    else:
        return None
    holder = holders.get(address) if isinstance(address, Address) else None
    if holder is None or not isinstance(port, int) or not isinstance(host_port, int) or not isinstance(protocol, int):
        return None
    row = Publish(
        id="",
        namespace=holder.namespace,
        host=host if isinstance(host, Address) else None,
        host_port=host_port,
        port=port,
        protocol=PROTOCOL_NAMES[protocol],
        owner=holder.owner,
    )
    follows = any(target is holder for _, target, _ in publish_targets(record, row))
    return (row if follows else row.replace(network=holder.network)).named()


def _end(inner: _Inner, link: Link) -> LinkEnd:
    mac = link.mac or Mac(packed=bytes(6))
    return LinkEnd(namespace=inner.namespace.id, ifname=link.name, mac=mac, addresses=inner.of_link(link.index))


def _mark(link: Link) -> Mark | None:
    return parse_mark(link.alias)


def _namespaces() -> Iterator[_Inner]:
    """Yield all namespaces that have a name or a process, the host's own excepted."""
    own = own_cookie()
    for path, fd, number in distinct():
        if number != own:
            yield _look_inside(_row(path, number), fd)


def _row(path: str, number: int) -> Namespace:
    folder, _, name = path.rpartition("/")
    if folder != RUN:
        return Namespace(id=f"netns-{number}", path=path, cookie=number)
    made = os.path.isdir(f"{ETC_NETNS}/{name}") and _is_kept(f"{ETC_NETNS}/{name}/hosts")
    return Namespace(id=name, path=path, cookie=number, made=made)


def _is_kept(path: str) -> bool:
    """Whether a hosts file is one that we keep; an empty one does not tell."""
    nothing = File(path=path, text="")
    found = read_file(nothing)
    return isinstance(found, File | Symlink) and found != nothing and is_kept(found)


def _look_inside(namespace: Namespace, fd: int) -> _Inner:
    with Inside(fd):
        socket = Socket(NETLINK_ROUTE)
    try:
        links = [rtnl_link.decode(one) for one in socket.dump(rtnl_link.all_links())]
        addresses = [rtnl_address.decode(one) for one in socket.dump(rtnl_address.all_addresses())]
        rules = [rtnl_rule.decode(one) for one in socket.dump(rtnl_rule.all_rules())]
        return _Inner(namespace, links, addresses, rules)
    finally:
        socket.close()
