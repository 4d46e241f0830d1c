"""Put right what a crash or a stranger left crooked."""

from __future__ import annotations

from isthmus.converge import Host
from isthmus.converge.amiss import ended
from isthmus.converge.elsewhere import let_go
from isthmus.converge.recovery import note_mended
from isthmus.engine.publishes import bound_notes
from isthmus.engine.targets import clear_gone, scope_of
from isthmus.kernel.facts import is_bridge
from isthmus.model.plan import Report
from isthmus.planner.desired import EVERYTHING
from isthmus.store.edit import Edit, namespace_edit

__all__ = ["clear_dead", "repair"]


def clear_dead(host: Host) -> list[str]:
    """Clear what hangs on namespaces that are gone and not ours to make again; return their ids."""
    dead = ended(host.db, host.access)
    for name in dead:
        clear_gone(host, name)
    return dead


def _forget_links(host: Host) -> None:
    """Drop from the record what was let go, and the namespaces that are not ours and have nothing else."""
    record = host.record()
    host.access.know(record.namespaces.values())
    gone = let_go(host.access, record)
    for link in gone:
        note_mended(host, f"the link of {link.a.namespace} to {link.b.namespace} was deleted, and is forgotten")
    edit = Edit(drops=tuple(("links", link.id) for link in gone))
    ends = dict.fromkeys(end.namespace for link in gone for end in (link.a, link.b))
    after = edit.on(record)
    bare = [name for name in ends if namespace_edit(after, name) == Edit(drops=(("namespaces", name),))]
    edit = edit.plus(Edit(drops=tuple(("namespaces", name) for name in bare)))
    if gone:
        host.change("clear", edit, scope_of(*ends), leaving=True)


def repair(host: Host) -> Report:
    """Bring the whole host to the record: drift, strays, what is gone. Entering `host` has mended crashes."""
    for name in clear_dead(host):
        note_mended(host, f"namespace {name} is gone: what hung on it was cleared")
    _forget_links(host)
    report = host.change("repair", Edit(), EVERYTHING)
    record = host.record()
    gone = [one for one in record.networks.values() if one.adopted and not is_bridge(host.access, one.bridge)]
    lost = [
        f"bridge {one.bridge} of network {one.name} is gone: its members are cut off until it is back" for one in gone
    ]
    return report.replace(notes=(*report.notes, *lost, *bound_notes(record)))
