"""A change that waits to be confirmed: what must not happen meanwhile, so that there is one way back."""

from __future__ import annotations

import time
from math import ceil

from isthmus.errors import Refused
from isthmus.model.network import Attachment, Command, DirectLink, Namespace, Network, Publish, Record
from isthmus.planner.desired import Scope
from isthmus.store.edit import Edit
from isthmus.store.journal import Entry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from isthmus.model.network import Row

__all__ = ["check_against", "seconds_left", "what_is_left"]


def seconds_left(entry: Entry) -> float:
    """Return in how many seconds a pending change is taken back."""
    return max(0.0, (entry.deadline or 0.0) - time.clock_gettime(time.CLOCK_BOOTTIME))


def check_against(pending: Entry, edit: Edit, scope: Scope, record: Record) -> None:
    """Let a change pass that has nothing to do with a pending one, and one that only takes members or runs away.

    `record` is the one before it.

    Raises:
        Refused: it concerns networks as such, or brings what the way back would meet.
    """
    if edit and (_is_of_the_host(edit, scope, record) or _meets(pending.edit, edit, record)):
        raise Refused(
            f"{pending.verb} waits to be confirmed, and is taken back in {ceil(seconds_left(pending))} s",
            hint="isthmus confirm, or wait",
        )


def _is_of_the_host(edit: Edit, scope: Scope, record: Record) -> bool:
    """Whether an edit concerns networks as such; the one that was made for a run goes with it."""
    gone = [record.networks.get(key) for kind, key in edit.drops if kind == "networks"]
    return scope.host and not (gone and not edit.puts and all(one is not None and one.transient for one in gone))


def _meets(back: Edit, edit: Edit, record: Record) -> bool:
    """Whether an edit brings something to what the way back makes or takes away, or takes its ports."""
    networks = {row.name for row in back.puts if isinstance(row, Network)}
    networks |= {key for kind, key in back.drops if kind == "networks"}
    gone = (getattr(record, kind).get(key) for kind, key in back.drops)
    namespaces = {one for row in (*back.puts, *gone) if row is not None for one in _namespaces(row)}
    ports = [row for row in back.puts if isinstance(row, Publish)]
    for row in edit.puts:
        if isinstance(row, Attachment) and row.network in networks:
            return True
        if isinstance(row, Publish) and any(row.overlaps(one) for one in ports):
            return True
        if not namespaces.isdisjoint(_namespaces(row)):
            return True
    return False


def _namespaces(row: Row) -> tuple[str, ...]:
    """Return the namespaces that a row is of."""
    match row:
        case Namespace():
            return (row.id,)
        case Attachment() | Publish() | Command():
            return (row.namespace,)
        case DirectLink():
            return row.a.namespace, row.b.namespace
        case _:
            return ()


def what_is_left(back: Edit, record: Record) -> Edit:
    """Return a way back without what hung on namespaces that were taken away since."""
    there = back.on(record).namespaces
    return back.replace(puts=tuple(row for row in back.puts if all(one in there for one in _namespaces(row))))
