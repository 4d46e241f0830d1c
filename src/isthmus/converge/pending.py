"""A change that waits to be confirmed: what must not happen meanwhile, so that there is one way back."""

from __future__ import annotations

import time
from math import ceil

from isthmus.errors import Refused
from isthmus.model.network import Attachment, Network
from isthmus.planner.desired import Scope
from isthmus.store.edit import Edit
from isthmus.store.journal import Entry

__all__ = ["check_against", "seconds_left"]


def seconds_left(entry: Entry) -> float:
    """Return in how many seconds a pending change is taken back."""
    return max(0.0, (entry.deadline or 0.0) - time.clock_gettime(time.CLOCK_BOOTTIME))


def check_against(pending: Entry, edit: Edit, scope: Scope) -> None:
    """Let a change pass that has nothing to do with a pending one: of other networks' members.

    Raises:
        Refused: it concerns networks as such, or adds a member to one that is pending.
    """
    if not edit:
        return
    networks = {row.name for row in pending.edit.puts if isinstance(row, Network)}
    networks |= {key for kind, key in pending.edit.drops if kind == "networks"}
    joins = any(isinstance(row, Attachment) and row.network in networks for row in edit.puts)
    if scope.host or joins:
        raise Refused(
            f"{pending.verb} waits to be confirmed, and is taken back in {ceil(seconds_left(pending))} s",
            hint="isthmus confirm, or wait",
        )
