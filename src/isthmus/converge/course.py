"""Where a change leads, and what is said of it."""

from __future__ import annotations

from isthmus.kernel.netns import RUN
from isthmus.model.host import HostState
from isthmus.model.network import Borrowed, Record
from isthmus.model.plan import Plan, Report
from isthmus.model.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Course", "report_on", "words_of"]


class Course(Value):
    """Where a change leads: its plan, the state after it, and borrowed values that are left on for strangers.

    `renamed` are the present names of interfaces that have another one on record; `own` is what a LAN's bridge forwards
    by itself (`Facts.forwarded`).
    """

    plan: Plan
    wanted: HostState
    left: frozenset[str]
    found: tuple[Borrowed, ...]
    renamed: dict[str, str]
    own: dict[str, str]


def report_on(plan: Plan, notes: Iterable[str], old: Record, new: Record) -> Report:
    """Return the report on a plan that leads from a record to another."""
    nameless = {row.id: row.path for one in (old, new) for row in one.namespaces.values()}
    paths = tuple((name, path) for name, path in nameless.items() if path != f"{RUN}/{name}")
    return Report(plan=plan, notes=tuple(notes), paths=paths)


def words_of(plan: Plan) -> str:
    """Return what a plan changes, by name, in a line."""
    return ", ".join(dict.fromkeys(str(getattr(step.item, "name", step.item)) for step in plan.steps))
