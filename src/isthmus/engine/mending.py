"""Put right what a crash or a stranger left crooked."""

from __future__ import annotations

from isthmus.converge import Host
from isthmus.converge.amiss import ended
from isthmus.engine.publishes import bound_notes
from isthmus.engine.targets import clear_gone
from isthmus.kernel.facts import is_bridge
from isthmus.model.plan import Report
from isthmus.planner.desired import EVERYTHING
from isthmus.store.edit import Edit

__all__ = ["clear_dead", "repair"]


def clear_dead(host: Host) -> list[str]:
    """Clear what hangs on namespaces that are gone and not ours to make again; return their ids."""
    dead = ended(host.db, host.access)
    for name in dead:
        clear_gone(host, name)
    return dead


def repair(host: Host) -> Report:
    """Bring the whole host to the record: drift, strays, what is gone. Entering `host` has mended crashes."""
    for name in clear_dead(host):
        host.notes.append(f"namespace {name} is gone: what hung on it was cleared")
    report = host.change("repair", Edit(), EVERYTHING)
    record = host.record()
    gone = [one for one in record.networks.values() if one.adopted and not is_bridge(host.access, one.bridge)]
    lost = [
        f"bridge {one.bridge} of network {one.name} is gone: its members are cut off until it is back" for one in gone
    ]
    return report.replace(notes=(*report.notes, *lost, *bound_notes(record)))
