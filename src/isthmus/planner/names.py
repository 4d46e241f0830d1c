"""The files that give a namespace its names: hosts and resolv.conf below /etc/netns/NAME.

`exec` (and `ip netns exec`) binds them over those in /etc. A network has one hosts file, a line for each
member, so that an attach writes one line whatever the number of members; a namespace on one network has a
symbolic link to it, a namespace on several a file of its own. What somebody put there himself stays as it is.
"""

from __future__ import annotations

from isthmus.model.address import Address
from isthmus.model.host import ETC_NETNS, HOSTS_HEAD, NAMES_HEAD, Directory, File, HostObject, HostsLine, Symlink
from isthmus.model.network import Namespace, Record
from isthmus.planner.forwarding import Facts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from isthmus.model.lease import Lease

__all__ = ["is_cut_off", "name_objects", "resolver_text"]


def name_objects(record: Record, namespaces: frozenset[str] | None, facts: Facts) -> Iterator[HostObject]:
    """Yield the files of the namespaces that we made, and the lines of all that have a name."""
    run_directory, resolver, leases = facts.run_directory, facts.resolver, facts.leases
    made = [row for row in record.namespaces.values() if row.made]
    if resolver is not None and (made or record.made_elsewhere):
        yield Directory(path=ETC_NETNS)
    inside = record.namespaces.keys() if namespaces is None else record.namespaces.keys() & namespaces
    for row in record.namespaces.values():
        if row.id not in inside:
            continue
        if row.made and resolver is not None:
            yield Directory(path=f"{ETC_NETNS}/{row.id}")
            text = _leased_resolver(record, row.id, leases) if leases else ""
            yield File(path=f"{ETC_NETNS}/{row.id}/resolv.conf", text=NAMES_HEAD + (text or resolver))
            yield _hosts(record, row, facts)
    for attachment in sorted(record.attachments.values(), key=lambda one: one.sequence):
        row = record.namespaces[attachment.namespace]
        if row.id in inside and _has_name(row):
            for address in attachment.addresses:
                yield HostsLine(path=f"{run_directory}/hosts/{attachment.network}", address=address, name=row.id)
    for identity, lease in leases.items():
        one = record.attachments.get(identity)
        if one is not None and one.namespace in inside and _has_name(record.namespaces[one.namespace]):
            path = f"{run_directory}/hosts/{one.network}"
            yield HostsLine(path=path, address=None, name=one.namespace)
            for address in lease.addresses:
                yield HostsLine(path=path, address=address, name=one.namespace)


def _leased_resolver(record: Record, namespace: str, leases: dict[str, Lease]) -> str:
    """Return the resolv.conf of the lease that has the default route."""
    holder = record.default_route_holder(namespace, 4)
    lease = leases.get(holder.id) if holder is not None else None
    return lease.resolver if lease is not None else ""


def _has_name(row: Namespace) -> bool:
    return not row.path.startswith("/proc/") and row.path.endswith(f"/{row.id}")


def _hosts(record: Record, row: Namespace, facts: Facts) -> HostObject:
    path = f"{ETC_NETNS}/{row.id}/hosts"
    networks = [one.network for one in record.attachments_of(row.id)]
    if len(networks) == 1:
        return Symlink(path=path, target=f"{facts.run_directory}/hosts/{networks[0]}")
    lines: dict[tuple[Address, str], None] = {}
    for network in networks:
        for member in record.members(network):
            if _has_name(record.namespaces[member.namespace]):
                leased = facts.leases[member.id].addresses if member.id in facts.leases else ()
                lines |= {(address, member.namespace): None for address in (*member.addresses, *leased)}
    text = "".join(f"{address} {name}\n" for address, name in sorted(lines, key=str))
    return File(path=path, text=f"{HOSTS_HEAD}{facts.hostname}\n{text}")


def resolver_text(host: str, beside: str) -> str:
    """Return a resolv.conf that works from inside: `host` without resolvers on its loopback, or of one link of its.

    Where none is left, `beside` is asked: the file in which systemd-resolved keeps the real ones.
    """
    for text in (host, beside):
        lines = text.splitlines()
        kept = [line for line in lines if not _is_of_the_host(line)]
        if any(map(_server, kept)):
            return "".join(f"{line}\n" for line in kept)
    return "".join(f"{line}\n" for line in host.splitlines() if not _is_of_the_host(line))


def is_cut_off(host: str, beside: str) -> bool:
    """Whether a host has resolvers, and none that is reached from inside."""
    lines = resolver_text(host, beside).splitlines()
    return any(map(_server, host.splitlines())) and not any(map(_server, lines))


def _server(line: str) -> str:
    """Return the resolver that a line names; nothing where it names none."""
    words = line.split()
    return words[1] if words[:1] == ["nameserver"] and len(words) > 1 else ""


def _is_of_the_host(line: str) -> bool:
    """Whether a line names a resolver on the loopback, or a link-local one: its link is none of a namespace's."""
    server = _server(line)
    return server.startswith("127.") or server == "::1" or server.lower().startswith("fe80:") or "%" in server
