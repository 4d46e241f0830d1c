"""Publish and withdraw ports of the host."""

from __future__ import annotations

from isthmus.converge import Host
from isthmus.engine.choose import host_addresses
from isthmus.engine.targets import find_namespace, scope_of
from isthmus.errors import InvalidInput, NotFound, Refused
from isthmus.kernel.ports import ephemeral_range, holder_of, is_bound, reserved_ports
from isthmus.model.address import Address
from isthmus.model.declared import PublishWish
from isthmus.model.network import Network, Publish, Record
from isthmus.model.plan import Report
from isthmus.planner.firewall import publish_targets
from isthmus.store.edit import Edit
from isthmus.store.slices import load_slice

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["bound_notes", "check_host", "check_port", "publish", "publish_row", "unpublish"]


def publish(host: Host, target: str, wish: PublishWish) -> tuple[Publish, Report]:
    """Make ports of a namespace reachable at ports of the host.

    Raises:
        NotFound: nothing is attached to the target.
        Refused: the port is taken (the holder is named), or cannot lead there.
    """
    namespace = find_namespace(host, target)
    record = load_slice(host.db, [namespace.id])
    row = publish_row(host, wish, namespace.id, record)
    return row, host.change("publish", Edit(puts=(row,)), scope_of(namespace.id), record=record)


def unpublish(host: Host, target: str, wish: PublishWish, *, cut: bool = False) -> Report:
    """Withdraw a publish; established TCP goes on unless `cut`.

    Raises:
        NotFound: no such publish.
    """
    namespace = find_namespace(host, target)
    record = load_slice(host.db, [namespace.id])
    found = [row for row in record.publishes.values() if _meant(row, wish)]
    if not found:
        raise NotFound(f"{namespace.id} publishes no such port", hint="isthmus ls shows what is published")
    drops = tuple(("publishes", row.id) for row in found)
    report = host.change("unpublish", Edit(drops=drops), scope_of(namespace.id), leaving=True, record=record)
    if cut:
        from isthmus.kernel.flows import forget_ports

        forget_ports(host.access, [claim for row in found for claim in _claims(row)])
    return report


def _meant(row: Publish, wish: PublishWish) -> bool:
    return (
        row.protocol == wish.protocol
        and row.port == wish.port
        and row.count == wish.count
        and (wish.host_port is None or row.host_port == wish.host_port)
        and (wish.host is None or row.host == wish.host)
        and (wish.network is None or row.network == wish.network)
    )


def _claims(row: Publish) -> Iterator[tuple[int, int, Address | None, int]]:
    from isthmus.model.ruleset import PROTOCOLS

    for family in (4, 6) if row.host is None else (row.host.family,):
        for port in range(row.host_port, row.host_port + row.count):
            yield family, PROTOCOLS[row.protocol], row.host, port


def publish_row(
    host: Host,
    wish: PublishWish,
    namespace: str,
    record: Record,
    *,
    owner: str = "",
    before: Publish | None = None,
    beside: Iterable[Publish] = (),
    dropped: frozenset[str] = frozenset(),
) -> Publish:
    """Return the row of a publish to be, checked against the host.

    `record` holds the namespace as it will be. `beside` are rows of the same edit; `dropped` ids of rows that
    it drops; `before` is the row that this one renews.

    Raises:
        InvalidInput, Refused: it cannot be had.
    """
    row = _row(wish, namespace, wish.host_port or (before.host_port if before is not None else 0), owner)
    targets = list(publish_targets(record, row))
    if not targets:
        where = f"network {wish.network}" if wish.network else "any network"
        raise Refused(f"cannot publish port {wish.port} of {namespace}: it has no fitting address on {where}")
    check_host(host, wish)
    networks = [network for network, _, _ in targets]
    _check_networks(row, networks)
    if all(network.uplink == "routed" for network in networks):
        return row.replace(host_port=row.port)
    if not row.host_port:
        row = row.replace(host_port=_next_free(host, row, beside, dropped))
    elif before is None or before.id != row.id:
        check_free(host, row, beside, dropped)
    return row


def _row(wish: PublishWish, namespace: str, host_port: int, owner: str) -> Publish:
    return Publish(
        namespace=namespace,
        host=wish.host,
        host_port=host_port,
        port=wish.port,
        protocol=wish.protocol,
        count=wish.count,
        network=wish.network,
        owner=owner,
    )


def check_port(
    host: Host, wish: PublishWish, namespace: str, beside: Iterable[Publish], dropped: frozenset[str]
) -> None:
    """Check of a publish what does not depend on where it leads.

    Raises:
        Refused: somebody holds a port that was asked for.
    """
    if wish.host_port is not None:
        check_free(host, _row(wish, namespace, wish.host_port, ""), beside, dropped)


def _check_networks(row: Publish, networks: Iterable[Network]) -> None:
    for network in networks:
        if network.is_lan:
            raise Refused(
                f"cannot publish on network {network.name}: its members are on the LAN themselves",
                hint="their own addresses are reached from there",
            )
        if network.uplink == "routed" and row.host_port not in (0, row.port):
            raise InvalidInput(
                "publish",
                row.spec,
                f"network {network.name} is routed: there a host port is the container's own",
                hint=f"write {row.port}:{row.port}/{row.protocol}",
            )
        if network.uplink == "none" and all(subnet.gateway is None for subnet in network.subnets):
            raise Refused(f"cannot publish on network {network.name}: its bridge has no address")


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


def overlapping(host: Host, row: Publish) -> list[Publish]:
    """Return the publishes on record that claim one of the same ports."""
    first, last, protocol = row.host_port, row.host_port + row.count - 1, row.protocol
    found: dict[str, Publish] = host.db.rows(
        "publishes",
        "protocol = ? AND host_port BETWEEN ? AND ? UNION ALL SELECT * FROM publishes"
        " WHERE count > 1 AND protocol = ? AND host_port < ? AND host_port + count > ?",
        (protocol, first, last, protocol, first, first),
    )
    return [one for one in found.values() if one.overlaps(row)]


def check_free(host: Host, row: Publish, beside: Iterable[Publish], dropped: frozenset[str]) -> None:
    """Check that nobody holds the ports.

    Raises:
        Refused: somebody does, and who.
    """
    for other in [*overlapping(host, row), *(one for one in beside if one.overlaps(row))]:
        if other.id not in dropped:
            raise Refused(
                f"host port {row.id} is taken: {other.namespace} publishes {other.spec}", users=(other.namespace,)
            )
    for port in range(row.host_port, row.host_port + row.count):
        if is_bound(row.host, port, row.protocol):
            who = holder_of(port, row.protocol)
            raise Refused(f"host port {port}/{row.protocol} is taken by {who}", users=(who,))


def bound_notes(record: Record) -> tuple[str, ...]:
    """Return a note for each published port that a process of the host has bound since."""
    notes = []
    for row in record.publishes.values():
        targets = list(publish_targets(record, row))
        if not targets or all(network.uplink == "routed" for network, _, _ in targets):
            continue  # nothing is translated
        for port in range(row.host_port, row.host_port + row.count):
            if is_bound(row.host, port, row.protocol):
                who = holder_of(port, row.protocol)
                notes.append(f"host port {port}/{row.protocol} of {row.namespace} has been bound by {who} since")
    return tuple(notes)


def _next_free(host: Host, row: Publish, beside: Iterable[Publish], dropped: frozenset[str]) -> int:
    low, high = ephemeral_range()
    reserved = reserved_ports()
    others = list(beside)
    port: int
    for port in (*range(high + 1, 65536), *range(20000, low), *range(1024, min(20000, low))):
        candidate = row.replace(host_port=port)
        if port in reserved or is_bound(row.host, port, row.protocol):
            continue
        taken = [one for one in overlapping(host, candidate) if one.id not in dropped]
        if not taken and not any(one.overlaps(candidate) for one in others):
            return port
    raise Refused(
        f"no host port is free for {row.protocol} beside the kernel's own ({low} to {high}) and those it reserves",
        hint="name one: HOSTPORT:PORT",
    )
