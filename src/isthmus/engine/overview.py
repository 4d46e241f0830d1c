"""The host at a glance: `ns ls` and `ls`. Views as in listing.py; keys are documented in docs/json.md."""

from __future__ import annotations

import os

from isthmus.converge import Host
from isthmus.engine.listing import member_addresses, networks, pending, read_record, unconfirmed
from isthmus.errors import InvalidInput, NotFound, NotPermitted
from isthmus.kernel.netns import cookie, is_own, named, open_netns
from isthmus.kernel.ports import holder_of, is_bound
from isthmus.kernel.process import Ended, Running, log_path, state
from isthmus.model.network import Forwarding, LinkEnd, Namespace, Publish, Record
from isthmus.planner.firewall import publish_targets

TYPE_CHECKING = False
if TYPE_CHECKING:
    from isthmus.engine.listing import Json
    from isthmus.model.network import Command

__all__ = ["namespaces", "overview"]


def overview(host: Host) -> Json:
    """Return networks, namespaces, published ports, links, forwarding and commands, and what is amiss."""
    record = read_record(host)
    found = namespaces(host, record)
    return {
        "networks": networks(host, record),
        "namespaces": found,
        "ports": [_port(record, one) for one in sorted(record.publishes.values(), key=_port_order)],
        "links": [
            {
                "id": one.id,
                "owner": one.owner or None,
                "mtu": one.mtu,
                "ends": [_end(one.a), _end(one.b)],
            }
            for one in record.links.values()
        ],
        "forwarding": [
            {
                "family": one.family,
                "link": one.link or None,
                "now": one.now,
                "persist": one.persist,
                "owner": one.owner or None,
            }
            for one in sorted(record.forwarding.values(), key=_forwarding_order)
        ],
        "commands": [_command(host, record.commands[name]) for name in sorted(record.commands)],
        "gone": [str(one["name"]) for one in found if not one["alive"]],
        "pending": pending(host),
        "unconfirmed": unconfirmed(host),
    }


class _Found:
    """A namespace of the kernel: its path, cookie, and identity as a file."""

    def __init__(self, path: str, number: int, status: os.stat_result) -> None:
        self.path = path
        self.cookie = number
        self.identity = (status.st_dev, status.st_ino)


def namespaces(host: Host, record: Record | None = None) -> list[Json]:
    """Return all named namespaces, whoever made them, and those on record by path or pid; by name."""
    record = read_record(host) if record is None else record
    host.access.know(record.namespaces.values())
    counts = _process_counts()
    by_cookie = {row.cookie: row for row in record.namespaces.values() if row.cookie}
    shown: dict[str, Json] = {}
    for name, path in named().items():
        found = _look(path)
        if found is not None:
            row = by_cookie.get(found.cookie)
            shown[name] = _namespace(
                host, record, name, row if row is not None and row.id == name else None, found, counts
            )
    for row in record.namespaces.values():
        if row.id in shown and shown[row.id]["cookie"] == row.cookie:
            continue
        alive = host.access.is_alive(row.id)
        found = _look(f"/proc/self/fd/{host.access.fd(row.id)}") if alive else None
        shown[row.id] = _namespace(host, record, row.id, row, found, counts)
    return [shown[name] for name in sorted(shown)]


def _look(path: str) -> _Found | None:
    """Open a namespace; None: it went meanwhile, is closed to us, or is the host's own under a name."""
    try:
        fd = open_netns(path)
    except (NotFound, InvalidInput, NotPermitted):
        return None
    try:
        status = os.fstat(fd)
        return None if is_own(status) else _Found(path, cookie(fd), status)
    finally:
        os.close(fd)


def _namespace(
    host: Host,
    record: Record,
    name: str,
    row: Namespace | None,
    found: _Found | None,
    counts: dict[tuple[int, int], int],
) -> Json:
    attachments = record.attachments_of(row.id) if row is not None else ()
    addresses = [text for one in attachments for text in member_addresses(host, record.networks.get(one.network), one)]
    return {
        "name": name,
        "path": row.path if row is not None else found.path if found is not None else None,
        "cookie": found.cookie if found is not None else row.cookie if row is not None else 0,
        "alive": found is not None,
        "made": row is not None and row.made,
        "owner": (row.owner or None) if row is not None else None,
        "networks": [one.network for one in attachments],
        "addresses": addresses,
        "processes": counts.get(found.identity, 0) if found is not None else 0,
    }


def _process_counts() -> dict[tuple[int, int], int]:
    """Return how many processes are in each network namespace, in one walk of /proc."""
    counts: dict[tuple[int, int], int] = {}
    for pid in os.listdir("/proc"):
        if pid.isdigit():
            try:
                status = os.stat(f"/proc/{pid}/ns/net")
            except OSError:
                continue  # ended, a zombie, or hidden from us
            identity = (status.st_dev, status.st_ino)
            counts[identity] = counts.get(identity, 0) + 1
    return counts


def _forwarding_order(row: Forwarding) -> tuple[str, int]:
    return row.link, row.family


def _port_order(row: Publish) -> tuple[int, str, str, str]:
    return row.host_port, row.protocol, row.claim, row.namespace


def _port(record: Record, row: Publish) -> Json:
    targets = list(publish_targets(record, row))
    last = row.port + row.count - 1
    ports = f"{row.port}-{last}" if row.count > 1 else str(row.port)
    return {
        "spec": row.spec,
        "namespace": row.namespace,
        "owner": row.owner or None,
        "host": None if row.host is None else str(row.host),
        "host_port": row.host_port,
        "port": row.port,
        "count": row.count,
        "protocol": row.protocol,
        "network": row.network,
        "targets": [f"[{one}]:{ports}" if one.family == 6 else f"{one}:{ports}" for _, _, one in targets],
        # A routed network's ports are the container's own: the host's are not used.
        "bound_by": _holder(row) if any(one.uplink != "routed" for one, _, _ in targets) else None,
    }


def _holder(row: Publish) -> str | None:
    """Return who has since bound one of the published ports."""
    for port in range(row.host_port, row.host_port + row.count):
        if is_bound(row.host, port, row.protocol):
            return holder_of(row.host, port, row.protocol)
    return None


def _end(end: LinkEnd) -> Json:
    return {
        "namespace": end.namespace,
        "ifname": end.ifname,
        "mac": str(end.mac),
        "addresses": [f"{address}/{length}" for address, length in end.addresses],
    }


def _command(host: Host, row: Command) -> Json:
    found, log = state(host.commands_directory, row.namespace), log_path(host.commands_directory, row.namespace)
    name = "running" if isinstance(found, Running) else "missing"
    status = None
    if isinstance(found, Ended):
        name, status = ("lost" if found.status is None else "ended"), found.status
    return {
        "namespace": row.namespace,
        "owner": row.owner or None,
        "argv": list(row.argv),
        "state": name,
        "exit_status": status,
        "pid": found.pid if isinstance(found, Running) else None,
        "log": log if os.path.exists(log) or not row.transient else None,
        "transient": row.transient,
    }
