"""Where a change leads, and what is said of it."""

from __future__ import annotations

from isthmus.errors import Refused
from isthmus.kernel.netns import RUN
from isthmus.model.host import Autoconf, Element, HostState, LinkAddress, Route, Ruleset, Sysctl, Unredirected, Veth
from isthmus.model.network import Attachment, Borrowed, Record
from isthmus.model.plan import Plan, Remove, Report, Step
from isthmus.model.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from isthmus.planner.forwarding import Facts
    from isthmus.store.edit import Edit

__all__ = ["Course", "clearing", "is_closing", "of_the_edit", "report_on"]


class Course(Value):
    """Where a change leads: its plan, the state that ought to be before and after it, borrowed values that are left on.

    `facts` are those of the state that ought to be.
    """

    plan: Plan
    before: HostState
    wanted: HostState
    left: frozenset[str]
    found: tuple[Borrowed, ...]
    facts: Facts

    def check_joins(self, edit: Edit, old: Record, new: Record) -> None:
        """Check that an edit puts no port on a bridge that is not there.

        Raises:
            Refused: it does.
        """
        for row in edit.puts if self.facts.gone else ():
            if isinstance(row, Attachment) and row.id not in old.attachments:
                bridge = new.networks[row.network].bridge
                if bridge in self.facts.gone:
                    raise Refused(
                        f"bridge {bridge} is not there: somebody deleted or renamed it", hint="isthmus repair"
                    )


def of_the_edit(course: Course) -> Course:
    """Return the part that the edit asks for, with the firewall: nothing that was crooked before and stays wished."""
    before, wanted, steps = course.before, course.wanted, course.plan.steps
    changed = {key for key in before.keys() | wanted.keys() if before.get(key) != wanted.get(key)}
    links: set[tuple[str, str]] = set()
    for item in [one.item for one in steps if one.item.key in changed]:
        if isinstance(item, Veth):
            links |= {(item.netns, item.name), (item.peer_netns, item.peer_name)}
        elif isinstance(item, LinkAddress):  # the kernel takes routes away with the address that they need
            links.add((item.netns, item.ifname))
    kept = (one for one in steps if one.item.key in changed or is_closing(one) or _hangs(one, links))
    return course.replace(plan=course.plan.replace(steps=tuple(kept)))


def _hangs(step: Step, links: set[tuple[str, str]]) -> bool:
    """Whether a step is of what goes with a link, and comes with it."""
    item = step.item
    hanging = LinkAddress | Autoconf | Unredirected | Route
    return isinstance(item, hanging) and (item.netns, item.ifname) in links


def clearing(course: Course) -> Course:
    """Return the part that takes away, and keeps closed what ought to be."""
    steps = (one for one in course.plan.steps if is_closing(one) or isinstance(one, Remove))
    return course.replace(plan=course.plan.replace(steps=tuple(steps)))


def is_closing(step: Step) -> bool:
    """Whether a step is of what keeps closed what ought to be: the firewall, and values that are borrowed or off."""
    item = step.item
    if isinstance(item, Sysctl):
        return item.borrowed or item.value == "0"  # a bridge that is to be made may be a stranger's link until then
    return isinstance(item, Ruleset | Element)


def report_on(plan: Plan, notes: Iterable[str], old: Record, new: Record, *, mended: bool) -> Report:
    """Return the report on a plan that leads from a record to another."""
    nameless = {row.id: row.path for one in (old, new) for row in one.namespaces.values()}
    paths = tuple((name, path) for name, path in nameless.items() if path != f"{RUN}/{name}")
    return Report(plan=plan, notes=tuple(notes), paths=paths, mended=mended)
