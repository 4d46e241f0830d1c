"""Publish and withdraw ports of the host."""

from __future__ import annotations

from isthmus.converge import Host
from isthmus.engine.choose import host_addresses
from isthmus.engine.targets import find_namespace, find_network, scope_of
from isthmus.errors import InvalidInput, NotFound, Refused
from isthmus.kernel.facts import address_links
from isthmus.kernel.ports import ephemeral_range, holder_of, is_bound, reserved_ports
from isthmus.model.address import Address
from isthmus.model.declared import PublishWish
from isthmus.model.network import ROUTED, Network, Publish, Record
from isthmus.model.plan import Report
from isthmus.planner.firewall import publish_aims, publish_targets
from isthmus.store.edit import Edit
from isthmus.store.slices import load_slice

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

__all__ = [
    "Beside",
    "bound_notes",
    "check_fit",
    "check_free",
    "check_host",
    "check_port",
    "check_reach",
    "is_translated",
    "led_to",
    "publish",
    "publish_row",
    "route_notes",
    "unpublish",
]


def publish(host: Host, target: str, wish: PublishWish) -> tuple[Publish, Report]:
    """Make ports of a namespace reachable at ports of the host.

    Raises:
        NotFound: nothing is attached to the target, or no such network.
        Refused: the port is taken (the holder is named), or cannot lead there.
    """
    namespace = find_namespace(host, target)
    record = load_slice(host.db, [namespace.id])
    row = publish_row(host, wish, namespace.id, record)
    report = host.change("publish", Edit(puts=(row,)), scope_of(namespace.id), record=record)
    led = [network for network, _, _ in publish_targets(record, row)] if row.host is None else ()
    return row, report.replace(notes=(*report.notes, *route_notes(host, led)))


def unpublish(host: Host, target: str, wish: PublishWish, *, cut: bool = False) -> Report:
    """Withdraw a publish; established TCP goes on unless `cut`.

    Raises:
        NotFound: no such publish.
        Refused: without a host port it is more than one.
    """
    namespace = find_namespace(host, target)
    record = load_slice(host.db, [namespace.id])
    found = [row for row in record.publishes.values() if _meant(row, wish)]
    if not found:
        raise NotFound(f"{namespace.id} publishes no such port", hint="isthmus ls shows what is published")
    if wish.host_port is None and len({row.host_port for row in found}) > 1:
        several = ", ".join(sorted(row.spec for row in found))
        raise Refused(f"{namespace.id} publishes port {wish.port} more than once: {several}", hint="say which")
    drops = tuple(("publishes", row.id) for row in found)
    report = host.change("unpublish", Edit(drops=drops), scope_of(namespace.id), leaving=True, record=record)
    if cut:
        from isthmus.kernel.flows import forget_ports

        forget_ports(host.access, [claim for row in found for claim in _claims(record, row)])
    return report


def _meant(row: Publish, wish: PublishWish) -> bool:
    return (
        row.protocol == wish.protocol
        and row.port == wish.port
        and row.count == wish.count
        and (wish.host_port is None or row.host_port == wish.host_port)
        and row.host == wish.host
        and (wish.network is None or row.network == wish.network)
    )


def _claims(record: Record, row: Publish) -> Iterator[tuple[int, int, Address | None, int]]:
    """Yield where the first packets of its flows went: on a routed network to the namespace itself."""
    from isthmus.model.ruleset import PROTOCOLS

    for network, _, address in publish_targets(record, row):
        asked = address if network.uplink == "routed" else row.host
        for port in range(row.host_port, row.host_port + row.count):
            yield address.family, PROTOCOLS[row.protocol], asked, port


def publish_row(
    host: Host,
    wish: PublishWish,
    namespace: str,
    record: Record,
    *,
    owner: str = "",
    before: Publish | None = None,
    beside: Sequence[Publish] = (),
    renewed: str = "",
    dropped: frozenset[str] = frozenset(),
) -> Publish:
    """Return the row of a publish to be, checked against the host.

    `record` holds the namespace as it will be. `beside` are rows of the same edit; `dropped` ids of rows that it drops;
    `renewed` is the id of the one that this is put in place of, and `before` that row when it has ports of the host.

    Raises:
        InvalidInput, Refused, NotFound: it cannot be had.
    """
    row = _row(wish, namespace, wish.host_port or 0, owner)
    networks = [network for network, _ in led_to(record, row)]
    if not networks:
        where = f"network {find_network(record, wish.network).name}" if wish.network else "any network"
        raise Refused(f"cannot publish port {wish.port} of {namespace}: it has no fitting address on {where}")
    check_host(host, wish)
    check_fit(row, networks)
    check_reach(host, record, row)
    if any(network.uplink == ROUTED for network in networks):
        row = row.replace(host_port=row.port)
    elif before is not None and not row.host_port:
        row = row.replace(host_port=before.host_port)
    others = Beside(host, record, beside, dropped, renewed)
    if all(network.uplink == ROUTED for network in networks):
        _check_open(row, others)
    elif not row.host_port:
        row = row.replace(host_port=_next_free(row, others))
    elif before is None or before.claim != row.claim:
        check_free(row, others)
    return row.named() if before is None or before.claim != row.claim else row.replace(id=before.id)


def is_translated(record: Record, row: Publish) -> bool:
    """Whether a publish has ports of the host: it leads to a network that is not routed."""
    return any(network.uplink != ROUTED for network, _, _ in publish_targets(record, row))


class Beside:
    """The publishes that one to be has beside it: on record, and `coming` in the same edit.

    Not those that it drops, nor the one that is `renewed`. `record` is as it will be.
    """

    def __init__(
        self,
        host: Host,
        record: Record,
        coming: Sequence[Publish],
        dropped: frozenset[str] = frozenset(),
        renewed: str = "",
    ) -> None:
        self._host = host
        self._record = record
        self._coming = coming
        self._dropped = dropped
        self._renewed = renewed

    def on_host(self, row: Publish) -> Publish | None:
        """Return the first that has one of the same ports of the host."""
        for other in (*_overlapping(self._host, row), *self._coming):
            if other.overlaps(row) and self._is_other(other, row) and is_translated(self._around(other), other):
                return other
        return None

    def inside(self, row: Publish) -> Publish | None:
        """Return the first that opens one of the same ports of the namespace itself."""
        mine = _opened(self._record, row)
        held: dict[str, Publish] = self._host.db.rows("publishes", "namespace = ?", (row.namespace,))
        for other in (*held.values(), *(one for one in self._coming if one.namespace == row.namespace)):
            if other.overlaps(row) and self._is_other(other, row) and mine & _opened(self._record, other):
                return other
        return None

    def objection(self, row: Publish, other: Publish) -> Refused:
        """Return the error that says what another one takes."""
        if other.namespace == row.namespace and other in self._coming:
            return Refused(f"host port {row.claim} is asked for twice: {other.spec} and {row.spec}")
        why = f"host port {row.claim} is taken: {other.namespace} publishes {other.spec}"
        return Refused(why, users=(other.namespace,))

    def _is_other(self, other: Publish, row: Publish) -> bool:
        return other.id not in self._dropped and other.id not in (self._renewed, row.id)

    def _around(self, row: Publish) -> Record:
        """Return a record that tells where a publish leads."""
        return self._record if self._record.has_whole(row.namespace) else load_slice(self._host.db, [row.namespace])


def _opened(record: Record, row: Publish) -> set[Address]:
    return {address for network, _, address in publish_targets(record, row) if network.uplink == ROUTED}


def _row(wish: PublishWish, namespace: str, host_port: int, owner: str) -> Publish:
    return Publish(
        id="",
        namespace=namespace,
        host=wish.host,
        host_port=host_port,
        port=wish.port,
        protocol=wish.protocol,
        count=wish.count,
        network=wish.network,
        owner=owner,
    )


def check_port(wish: PublishWish, namespace: str, others: Beside) -> None:
    """Check of a publish what does not depend on where it leads.

    Raises:
        Refused: somebody holds a port that was asked for.
    """
    if wish.host_port is not None:
        check_free(_row(wish, namespace, wish.host_port, ""), others)


def check_fit(row: Publish, networks: Iterable[Network]) -> None:
    """Check that a publish can lead to these networks.

    Raises:
        InvalidInput, Refused: one of them does not have it so.
    """
    for network in networks:
        if network.is_lan:
            raise Refused(
                f"cannot publish on network {network.name}: its members are on the LAN themselves",
                hint="their own addresses are reached from there",
            )
        if network.uplink == ROUTED and (row.host is not None or row.host_port not in (0, row.port)):
            own = "host port" if row.host is None else "published address"
            raise InvalidInput(
                "publish",
                row.spec,
                f"network {network.name} is routed: there a {own} is the container's own",
                hint=f"write {row.replace(host=None, host_port=row.port).spec}",
            )


def led_to(record: Record, row: Publish) -> list[tuple[Network, int]]:
    """Return the networks, with families, that a publish leads to; is to lead to, where the host can be on none."""
    found = list(publish_targets(record, row)) or list(publish_aims(record, row))
    return [(network, address.family) for network, _, address in found]


def check_reach(host: Host, record: Record, row: Publish) -> None:
    """Check that the host is on one of the networks that a publish leads to.

    Without a gateway of ours it is by an address of its own, on an adopted bridge.

    Raises:
        Refused: it is not, and what came to the port would leave by the host's default route.
    """
    ways = led_to(record, row)
    if any(_is_on(host, network, family) for network, family in ways):
        return
    network, family = ways[0]
    why = f"its bridge has no address of its IPv{family} subnet"
    raise Refused(f"cannot publish on network {network.name}: {why}", hint="give it a gateway")


def _is_on(host: Host, network: Network, family: int) -> bool:
    subnet = network.subnet(family)
    if subnet is None or subnet.gateway is not None or not network.adopted:
        return network.has_host(family)
    links = address_links(host.access, ()).items()
    return any(link == network.bridge and address in subnet.prefix for address, link in links)


def check_host(host: Host, wish: PublishWish) -> None:
    """Check that the host has the address to publish on.

    Raises:
        InvalidInput, Refused: it has not, or one that cannot be published on.
    """
    if wish.host is None or wish.allow_nonlocal or (wish.host.family == 4 and wish.host.is_loopback):
        return
    if wish.host.family == 6 and wish.host.is_loopback:
        raise InvalidInput("publish", str(wish.host), "the kernel cannot translate ::1", hint="use 127.0.0.1")
    if wish.host not in host_addresses(host):
        raise Refused(
            f"cannot publish on {wish.host}: this host has no such address", hint="say --allow-nonlocal if it will come"
        )


def _overlapping(host: Host, row: Publish) -> list[Publish]:
    """Return the publishes on record that claim one of the same ports."""
    first, last, protocol = row.host_port, row.host_port + row.count - 1, row.protocol
    found: dict[str, Publish] = host.db.rows(
        "publishes",
        "protocol = ? AND host_port BETWEEN ? AND ? UNION ALL SELECT * FROM publishes"
        " WHERE count > 1 AND protocol = ? AND host_port < ? AND host_port + count > ?",
        (protocol, first, last, protocol, first, first),
    )
    return [one for one in found.values() if one.overlaps(row)]


def check_free(row: Publish, others: Beside) -> None:
    """Check that nobody holds the ports of the host.

    Raises:
        Refused: somebody does, and who.
    """
    other = others.on_host(row)
    if other is not None:
        raise others.objection(row, other)
    for port in range(row.host_port, row.host_port + row.count):
        if is_bound(row.host, port, row.protocol):
            who = holder_of(row.host, port, row.protocol)
            raise Refused(f"host port {port}/{row.protocol} is taken by {who}", users=(who,))


def _check_open(row: Publish, others: Beside) -> None:
    """Check that a port on a routed network is not published already."""
    other = others.inside(row)
    if other is not None:
        raise others.objection(row, other)


def bound_notes(record: Record) -> tuple[str, ...]:
    """Return a note for each published port that a process of the host has bound since."""
    notes = []
    for row in record.publishes.values():
        if not is_translated(record, row):
            continue
        for port in range(row.host_port, row.host_port + row.count):
            if is_bound(row.host, port, row.protocol):
                who = holder_of(row.host, port, row.protocol)
                notes.append(f"host port {port}/{row.protocol} of {row.namespace} has been bound by {who} since")
    return tuple(notes)


def route_notes(host: Host, networks: Iterable[Network]) -> tuple[str, ...]:
    """Return a note when networks with a way out have none: the host has no default route of any family of theirs."""
    exits = [one for one in networks if one.has_exit and not one.is_lan]
    families = {family for one in exits for family in (4, 6) if one.has_host(family)}
    links = host.outlook.links
    if not families or (4 in families and links.uplinks4) or (6 in families and links.uplinks6):
        return ()
    why = "nothing from outside is forwarded, but to ports published at a certain address"
    return (f"this host has no default route: until it has one, {why}",)


def _next_free(row: Publish, others: Beside) -> int:
    low, high = ephemeral_range()
    reserved = reserved_ports()
    port: int
    for port in (*range(high + 1, 65536), *range(20000, low), *range(1024, min(20000, low))):
        if port in reserved or is_bound(row.host, port, row.protocol):
            continue
        if others.on_host(row.replace(host_port=port)) is None:
            return port
    raise Refused(
        f"no host port is free for {row.protocol} beside the kernel's own ({low} to {high}) and those it reserves",
        hint="name one: HOSTPORT:PORT",
    )
