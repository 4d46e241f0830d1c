"""What a change must know of the rest: who else needs a bridge's sysctl, whose hosts file changes, who has ended."""

from __future__ import annotations

from isthmus.kernel.access import Access
from isthmus.model.host import HostState, Sysctl
from isthmus.model.network import DirectLink, Network, Record
from isthmus.planner.desired import Scope, desired
from isthmus.planner.forwarding import Facts, host_sysctls, namespace_sysctls, wished_sysctls
from isthmus.store.edit import Edit
from isthmus.store.slices import hosts_elsewhere, load_slice, perhaps_publishing, publishes_elsewhere
from isthmus.store.sqlite import Database

__all__ = ["keep_for_others", "let_go", "living", "widened"]


def keep_for_others(
    db: Database, new: Record, scope: Scope, facts: Facts, before: HostState, wanted: HostState
) -> HostState:
    """Keep the sysctls that publishes outside the slice still need: of bridges, and of links that are published at.

    Without the host's part in the scope, what that needs of these links, too.
    """
    assert scope.namespaces is not None
    lost = {item.name for key, item in before.items() if isinstance(item, Sysctl) and key not in wanted}
    if scope.host:
        # What a global switch changed may be given back there.
        lost |= {name for name in (*new.borrowed, *facts.copies) if ("sysctl", name) not in wanted}
    if not scope.host and facts.links:
        rest = (*host_sysctls(new, facts), *wished_sysctls(new, facts))
        wanted = {**wanted, **{item.key: item for item in rest if item.name in lost}}
        lost = {name for name in lost if ("sysctl", name) not in wanted}
    at = {address for address, link in facts.links.items() if any(f"/{link}/" in name for name in lost)}
    hosts = hosts_elsewhere(db, at, scope.namespaces) if at else frozenset()
    loopback, published = set(), set()
    for network in new.networks.values():
        mine = {name for name in lost if f"/{network.bridge}/" in name}
        if not mine:
            continue
        need = _needed(db, network, scope.namespaces, facts)
        if any(name.endswith("/route_localnet") for name in mine & need):
            loopback.add(network.name)
        if any(not name.endswith("/route_localnet") for name in mine & need):
            published.add(network.name)
    if not loopback and not published and not hosts:
        return wanted
    kept = new.replace(
        loopback_elsewhere=frozenset(loopback), published_elsewhere=frozenset(published), hosts_elsewhere=hosts
    )
    return {**wanted, **{item.key: item for item in namespace_sysctls(kept, scope.namespaces, facts)}}


def _needed(db: Database, network: Network, namespaces: frozenset[str], facts: Facts) -> set[str]:
    """Return the sysctls of a network's bridge that publishes of other namespaces need."""
    bridge = network.bridge
    need = set()
    if publishes_elsewhere(db, network.name, namespaces, loopback=True):
        need.add(f"net/ipv4/conf/{bridge}/route_localnet")
    if not network.has_exit and publishes_elsewhere(db, network.name, namespaces, loopback=False):
        need |= {f"net/ipv4/conf/{bridge}/forwarding", f"net/ipv6/conf/{bridge}/force_forwarding"}
    others = [] if need and network.has_exit else perhaps_publishing(db, network.name, namespaces)
    if others:
        seen = desired(load_slice(db, others), Scope(host=False, namespaces=frozenset(others)), facts)
        need |= {item.name for item in seen.values() if isinstance(item, Sysctl) and f"/{bridge}/" in item.name}
    return need


def widened(db: Database, old: Record, edit: Edit, scope: Scope) -> tuple[Record, Record, Scope]:
    """Return the record before and after an edit, and its scope, with the namespaces whose hosts file it concerns.

    Those are namespaces on several networks: their hosts file has the names of other members in it.
    """
    new = edit.on(old)
    if scope.namespaces is None:
        return old, new, scope
    others = db.multihomed().union(name for name in scope.namespaces if len(new.attachments_of(name)) > 1)
    if not others:
        return old, new, scope
    whole = db.record()
    after = edit.on(whole)
    networks = {row.network for one in (whole, after) for name in scope.namespaces for row in one.attachments_of(name)}
    beside = {
        row.namespace for row in whole.attachments.values() if row.network in networks and row.namespace in others
    }
    return whole, after, Scope(host=scope.host, namespaces=scope.namespaces | beside)


def living(access: Access, record: Record, old: Record) -> Record:
    """Return a record without the direct links that nobody is to make again.

    Those are links to namespaces that have ended and are not ours, and those that were let go.
    """
    gone = {link.id for link in record.links.values() if _has_ended(access, record, link)}
    gone |= {link.id for link in let_go(access, record) if link.id in old.links}
    if not gone:
        return record
    return record.replace(links={key: row for key, row in record.links.items() if key not in gone})


def _has_ended(access: Access, record: Record, link: DirectLink) -> bool:
    rows = [record.namespaces[end.namespace] for end in (link.a, link.b) if end.namespace in record.namespaces]
    return any(not one.made and not access.is_alive(one.id) for one in rows)


def let_go(access: Access, record: Record) -> list[DirectLink]:
    """Return the links that a command made between namespaces that are not ours, and somebody deleted.

    No verb of ours takes such a link away: to delete it is how one says so.
    """
    found = []
    for link in record.links.values():
        ends = (link.a, link.b)
        rows = [record.namespaces.get(end.namespace) for end in ends]
        if link.owner or any(row is None or row.made or not access.is_alive(row.id) for row in rows):
            continue
        if not any(access.has_link(end.namespace, end.ifname) for end in ends):
            found.append(link)
    return found
