"""Runs end here: namespaces that live as long as their command (`isthmus run`).

Whoever started one clears it; where that one was killed its supervisor has it done; and where both were,
the next call that changes something finds it by its row.
"""

from __future__ import annotations

import os

from isthmus.errors import IsthmusError, NotFound
from isthmus.kernel.process import Running, state
from isthmus.kernel.processes import end, pids_in
from isthmus.planner.desired import Scope
from isthmus.store.edit import Edit, namespace_edit
from isthmus.store.slices import load_slice

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from isthmus.converge.host import Host
    from isthmus.model.network import Record
    from isthmus.model.plan import Report

__all__ = ["clear_ended_runs", "clear_run", "run_edit"]

_PATIENCE_S: Final = 2.0


def clear_ended_runs(host: Host) -> None:
    """Clear the runs whose supervisors were killed, and those whose namespace somebody took away, which end with it.

    One that cannot be cleared is told, and left to the next call.
    """
    names = list(host.db.rows("commands", "transient"))
    host.access.know(host.db.rows("namespaces", f"id IN ({', '.join('?' * len(names))})", names).values())
    for name in names:
        lost = not host.access.is_alive(name)
        if not lost and isinstance(state(host.commands_directory, name), Running):
            continue
        try:
            if clear_run(host, name, lost=lost) is not None and lost:
                from isthmus.converge.recovery import note_mended

                note_mended(host, f"namespace {name} is gone: the run in it was ended")
        except IsthmusError as error:
            host.notes.append(f"run {name} has ended, and is not cleared: {error.message}")


def clear_run(host: Host, name: str, *, lost: bool = False) -> Report | None:
    """Clear a run that has ended or is `lost`, with all processes inside; None: there is none, or it goes on."""
    record = load_slice(host.db, [name])
    command = record.commands.get(name)
    runs = not lost and isinstance(state(host.commands_directory, name), Running)
    if command is None or not command.transient or runs:
        return None
    host.access.know(record.namespaces.values())
    try:
        status = os.fstat(host.access.fd(name))
        end(pids_in(status.st_dev, status.st_ino), _PATIENCE_S)
    except NotFound:
        pass
    edit, scope = run_edit(host, record, name)
    return host.change("run ends", edit, scope, leaving=True, record=record)


def run_edit(host: Host, record: Record, name: str) -> tuple[Edit, Scope]:
    """Return the edit that drops a run, with the network that was made for it when nobody else is on it; its scope."""
    edit = namespace_edit(record, name)
    for row in record.attachments_of(name):
        others = host.db.all(
            "SELECT 1 FROM attachments WHERE network = ? AND namespace <> ? LIMIT 1", (row.network, name)
        )
        if record.networks[row.network].transient and not others:
            edit = edit.plus(Edit(drops=(("networks", row.network),)))
    return edit, Scope(host=any(kind == "networks" for kind, _ in edit.drops), namespaces=frozenset({name}))
