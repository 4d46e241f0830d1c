"""What a slice of the record must know of the rest: who else needs a bridge's sysctl, whose hosts file changes."""

from __future__ import annotations

from isthmus.model.host import HostState, Sysctl
from isthmus.model.network import Record
from isthmus.planner.desired import Scope, desired
from isthmus.planner.forwarding import Facts
from isthmus.store.edit import Edit
from isthmus.store.slices import load_slice, multihomed_namespaces, other_publishers
from isthmus.store.sqlite import Database

__all__ = ["keep_for_others", "widened"]


def keep_for_others(
    db: Database, new: Record, scope: Scope, facts: Facts, before: HostState, wanted: HostState
) -> HostState:
    """Keep the bridge sysctls that publishes outside the slice still need."""
    assert scope.namespaces is not None
    lost = [item for key, item in before.items() if isinstance(item, Sysctl) and key not in wanted]
    names = [one.name for one in new.networks.values() if any(f"/{one.bridge}/" in item.name for item in lost)]
    if not names:
        return wanted
    loopback, published = set(), set()
    for name in names:
        others = other_publishers(db, name, scope.namespaces)
        if not others:
            continue
        beside = load_slice(db, others)
        seen = desired(beside, Scope(host=False, namespaces=frozenset(others)), facts)
        bridge = new.networks[name].bridge
        if ("sysctl", f"net/ipv4/conf/{bridge}/route_localnet") in seen:
            loopback.add(name)
        if any(key[0] == "sysctl" and f"/{bridge}/" in str(key[1]) for key in seen):
            published.add(name)
    kept = new.replace(loopback_elsewhere=frozenset(loopback), published_elsewhere=frozenset(published))
    return desired(kept, scope, facts)


def widened(db: Database, old: Record, edit: Edit, scope: Scope) -> tuple[Record, Record, Scope]:
    """Return the record before and after an edit, and its scope, with the namespaces whose hosts file it concerns.

    Those are namespaces on several networks: their hosts file has the names of other members in it.
    """
    new = edit.on(old)
    if scope.namespaces is None:
        return old, new, scope
    others = multihomed_namespaces(db)
    others |= {name for name in scope.namespaces if len(new.attachments_of(name)) > 1}
    if not others:
        return old, new, scope
    whole = db.record()
    after = edit.on(whole)
    networks = {row.network for one in (whole, after) for name in scope.namespaces for row in one.attachments_of(name)}
    beside = {
        row.namespace for row in whole.attachments.values() if row.network in networks and row.namespace in others
    }
    return whole, after, Scope(host=scope.host, namespaces=scope.namespaces | beside)
