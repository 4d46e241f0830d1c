"""Attach a namespace to a network, and detach it; join two namespaces directly."""

from __future__ import annotations

import os

from isthmus.converge import Host
from isthmus.engine.choose import Chooser
from isthmus.engine.draw import draw_mac
from isthmus.engine.publishes import publish_row, route_notes
from isthmus.engine.targets import find_namespace, find_network, locate_target, scope_of
from isthmus.errors import NotFound, Refused
from isthmus.model.address import Address
from isthmus.model.declared import AttachmentWish, LinkEndWish, LinkWish, PublishWish
from isthmus.model.host import TRASH_GROUP
from isthmus.model.network import Attachment, DirectLink, LinkEnd, Namespace, Network, Publish, Record
from isthmus.model.plan import Report
from isthmus.model.value import Value
from isthmus.planner.ipam import first_free_ifname
from isthmus.store.edit import Edit, namespace_edit
from isthmus.store.slices import load_networks, load_slice

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Final

__all__ = ["Attached", "attach", "connect", "detach", "detach_edit", "link_row", "settle_ports"]

_PATIENCE_S: Final = 5.0  # a longer wait is told, not made


class Attached(Value):
    """What an attach made: the row, its addresses (a leased one too), the publishes with it, and the report."""

    attachment: Attachment
    addresses: tuple[Address, ...]
    publishes: tuple[Publish, ...]
    report: Report


def attach(host: Host, wish: AttachmentWish, target: str, publishes: Sequence[PublishWish] = ()) -> Attached:
    """Join a namespace to a network by a veth pair, and publish ports of it.

    Raises:
        NotFound: no such network or namespace.
        Refused: it is attached already, something asked for is taken, the subnet or bridge is full.
        InvalidInput: an address outside the network.
    """
    namespace, known = locate_target(host, target)
    record = load_slice(host.db, [namespace.id]) if known else load_networks(host.db)
    network = find_network(record, wish.network)
    if any(one.network == wish.network for one in record.attachments.values()):
        raise Refused(f"{namespace.id} is attached to network {wish.network} already")
    host.access.know([namespace])
    names = frozenset() if wish.ifname is not None else _living_names(host, namespace.id)
    chooser = Chooser(host)
    row = chooser.attachment(wish, network, namespace.id, record, names=names)
    edit = Edit(puts=(row,) if known else (namespace, row))
    future = edit.on(record)
    if record.publishes:
        from isthmus.engine.bystanders import check_led

        for published in record.publishes.values():
            check_led(host, record, future, published)
    rows: list[Publish] = []
    for one in publishes:
        rows.append(publish_row(host, one, namespace.id, future, beside=rows))
    edit = edit.plus(Edit(puts=tuple(rows)))
    # One that waits for a lease is not tried twice.
    report = host.change("attach", edit, scope_of(namespace.id), fresh=not wish.leased, record=record)
    if network.adopted:
        report = report.replace(notes=(*report.notes, *settle_ports(host, [(row, network)])))
    if any(one.host is None for one in rows):
        report = report.replace(notes=(*report.notes, *route_notes(host, (network,))))
    addresses = row.addresses
    if row.leased:
        from isthmus.kernel.lease import leased_addresses

        addresses = (*(one for one, _ in leased_addresses(host.access, row)), *addresses)
    return Attached(attachment=row, addresses=addresses, publishes=tuple(rows), report=report)


def settle_ports(host: Host, ports: Iterable[tuple[Attachment, Network]]) -> tuple[str, ...]:
    """Wait for ports of adopted bridges that listen before they forward; return notes on those that take long."""
    from isthmus.kernel.settling import await_forwarding

    notes = []
    for row, network in ports:
        left_s = await_forwarding(host.access, row.host_ifname, network.bridge, _PATIENCE_S)
        if left_s:
            notes.append(f"{row.namespace}: its port on {network.bridge} (STP) forwards in {left_s:.0f} s")
    return tuple(notes)


def _living_names(host: Host, namespace: str) -> frozenset[str]:
    """Return `eth0` if the namespace has a living link of that name, with what follows it."""
    if not host.access.has_link(namespace, "eth0"):
        return frozenset()
    held: set[str] = set()
    while True:
        name = first_free_ifname(held)
        link = host.access.link(namespace, name)
        if link is None or _is_dead(host, link.peer, link.index):
            return frozenset(held)
        held.add(name)


def _is_dead(host: Host, peer: int, index: int) -> bool:
    host_end = host.access.link_at("", peer) if peer else None
    return host_end is not None and host_end.group == TRASH_GROUP and host_end.peer == index


def detach(host: Host, network: str, target: str) -> Report:
    """Take a namespace off a network, with the publishes that lead there.

    What is gone already is no error, as long as it is on record.

    Raises:
        NotFound: nothing of the kind is on record.
    """
    name = target
    record = load_slice(host.db, [name])
    if name not in record.namespaces:
        name = find_namespace(host, target).id
        record = load_slice(host.db, [name])
    found = [one for one in record.attachments.values() if one.network == network]
    if not found:
        raise NotFound(f"{name} is not attached to network {network!r}")
    return host.change("detach", detach_edit(host, record, found[0]), scope_of(name), leaving=True, record=record)


def detach_edit(host: Host, record: Record, row: Attachment) -> Edit:
    """Return the edit that drops an attachment, what leads there alone, and a namespace that is not ours and empty."""
    namespace = record.namespaces[row.namespace]
    edit = Edit(drops=(("attachments", row.id),))
    published = [one for one in record.publishes.values() if one.namespace == row.namespace]
    if published:
        from isthmus.engine.bystanders import goes

        after = edit.on(record)
        lost = [one.id for one in published if goes(host, record, after, one)]
        edit = edit.plus(Edit(drops=tuple(("publishes", one) for one in lost)))
    if not namespace.made and _is_empty(edit.on(record), namespace):
        edit = edit.plus(Edit(drops=(("namespaces", namespace.id),)))
    return edit


def _is_empty(record: Record, namespace: Namespace) -> bool:
    return namespace_edit(record, namespace.id) == Edit(drops=(("namespaces", namespace.id),))


def connect(host: Host, wish: LinkWish) -> tuple[DirectLink, Report]:
    """Join two namespaces by a veth pair, without a bridge.

    Raises:
        NotFound, Refused: no such namespace, or a name is in use there.
    """
    ends = [locate_target(host, end.namespace)[0] for end in (wish.a, wish.b)]
    record = load_slice(host.db, [end.id for end in ends])
    host.access.know(ends)
    link = link_row(wish, record, (ends[0].id, ends[1].id))
    fresh = {end.id: end for end in ends if end.id not in record.namespaces}
    edit = Edit(puts=(*fresh.values(), link))
    return link, host.change("connect", edit, scope_of(*(end.id for end in ends)), record=record)


def link_row(
    wish: LinkWish,
    record: Record,
    namespaces: tuple[str, str],
    *,
    before: DirectLink | None = None,
    owner: str = "",
) -> DirectLink:
    """Return the row of a direct link to be."""
    old = (before.a, before.b) if before is not None else (None, None)
    a = _end(wish.a, 0, namespaces[0], record, old[0], frozenset())
    taken = frozenset({a.ifname}) if namespaces[0] == namespaces[1] else frozenset()
    b = _end(wish.b, 1, namespaces[1], record, old[1], taken)
    mtu = wish.mtu or (before.mtu if before is not None else 1500)
    return DirectLink(id=before.id if before is not None else os.urandom(6).hex(), a=a, b=b, mtu=mtu, owner=owner)


def _check_addresses(wish: LinkEndWish, side: int, namespace: str, record: Record, before: LinkEnd | None) -> None:
    """Check that a namespace has an address on one link only.

    Raises:
        Refused: another of its links has it.
    """
    held = {address: one.ifname for one in record.attachments_of(namespace) for address in one.addresses}
    for link in record.links.values():
        for end in (link.a, link.b):
            if end.namespace == namespace and end is not before:
                held |= {address: end.ifname for address, _ in end.addresses}
    for address, _ in wish.addresses:
        if address in held:
            raise Refused(f"{namespace} has {address} on {held[address]} already", field=f"ends[{side}].ip")


def _end(
    wish: LinkEndWish, side: int, namespace: str, record: Record, before: LinkEnd | None, taken: frozenset[str]
) -> LinkEnd:
    held = set(taken) | {one.ifname for one in record.attachments_of(namespace)}
    held |= {
        end.ifname
        for link in record.links.values()
        for end in (link.a, link.b)
        if end.namespace == namespace and end is not before
    }
    ifname = wish.ifname or (before.ifname if before is not None else None)
    if ifname is None:
        number = 0
        while f"veth{number}" in held:
            number += 1
        ifname = f"veth{number}"
    elif ifname in held:
        why = f"cannot connect {namespace} by {ifname}: it has a link of that name"
        raise Refused(why, field=f"ends[{side}].name")
    _check_addresses(wish, side, namespace, record, before)
    mac = wish.mac or (before.mac if before is not None else draw_mac())
    return LinkEnd(namespace=namespace, ifname=ifname, mac=mac, addresses=wish.addresses)
