"""What can be mended where not all can: by namespace, and there or on the host by link.

The whole is tried first, since that is one plan. Where a part fails, so may what hangs on it; that is told once.
"""

from __future__ import annotations

from isthmus.converge.course import Course, clearing
from isthmus.converge.recovery import is_aside, lasts
from isthmus.errors import IsthmusError
from isthmus.model.host import HOST, Autoconf, Bridge, BridgedNic, LinkAddress, PinnedMac, Route, Ruleset, Sysctl, Veth
from isthmus.planner.desired import Scope
from isthmus.store.edit import Edit, namespace_edit
from isthmus.store.journal import LEAVING, Entry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from isthmus.converge.host import Host
    from isthmus.model.host import HostObject

__all__ = ["what_is_done"]


def what_is_done(host: Host, entry: Entry, course: Course, cause: IsthmusError, *, is_part: bool) -> Course | None:
    """Return what a course that failed has come to; None: its edit is left to be made, without what was crooked before.

    Where there is no edit, what can be mended is. `cause` was raised by the course, `is_part`: of a part already. What
    is not of the declaration that asks (`Host.declaration`) is noted.

    Raises:
        IsthmusError: the cause, or what cannot be mended (`several` has each where there are more).
    """
    if is_aside(cause, course, entry.edit):
        host.notes.append(f"something else was not mended: {cause}")
        return clearing(course) if entry.phase == LEAVING else None
    if entry.edit or is_part or not lasts(cause):
        raise cause
    scope = Scope(host=entry.host, namespaces=entry.namespaces)
    failed: dict[str, IsthmusError] = {}
    aside: dict[str, None] = {}
    for part in _parts(host, scope):
        if _try(host, entry.verb, part, _whole) is None:
            continue
        errors = dict(_by_link(host, entry.verb, part))
        for link, error in errors.items():
            if _is_anothers(host, part, link):
                aside[f"something else was not mended: {error}"] = None
            else:
                failed[error.message] = error
        if "" in errors and any(isinstance(step.item, Ruleset) for step in course.plan.steps):
            break  # no table: nothing that its sets are to let in can be mended
    host.notes += aside
    found = list(failed.values())
    if len(found) > 1:
        found[0].several = tuple(found)
    if found:
        raise found[0]
    record = host.record(scope)
    left = {step.item.key for step in host.plan(record, record, scope).plan.steps}
    return course.replace(
        plan=course.plan.replace(steps=tuple(one for one in course.plan.steps if one.item.key not in left))
    )


def _parts(host: Host, scope: Scope) -> Iterator[Scope]:
    if scope.host:
        yield Scope(host=True, namespaces=frozenset())
    names = host.record(scope).namespaces
    for name in names if scope.namespaces is None else scope.namespaces & names.keys():
        yield Scope(host=False, namespaces=frozenset((name,)))


def _is_anothers(host: Host, scope: Scope, link: str) -> bool:
    """Whether a link of the host, or a namespace, is known as nothing of the declaration that asks."""
    record, asking = host.record(scope), host.declaration
    if scope.host:
        owners = [one.owner for one in record.networks.values() if one.bridge == link]
    else:
        drops = namespace_edit(record, *(scope.namespaces or ())).drops
        owners = [getattr(record, kind)[key].owner for kind, key in drops]
    return bool(asking and owners) and asking not in owners


def _by_link(host: Host, verb: str, scope: Scope) -> Iterator[tuple[str, IsthmusError]]:
    """Mend what is of no link, then one after the other; yield what fails, by link (empty: what is of none).

    Without the first nothing is, nor open.
    """
    record = host.record(scope)
    links = dict.fromkeys(_link_of(step.item) for step in host.plan(record, record, scope).plan.steps)
    for link in sorted(links, key=bool):
        error = _try(host, verb, scope, _of_link(link))
        if error is not None:
            yield link, error
            if not link:
                return


def _of_link(link: str) -> Callable[[Course], Course]:
    def only(course: Course) -> Course:
        steps = tuple(step for step in course.plan.steps if _link_of(step.item) == link)
        return course.replace(plan=course.plan.replace(steps=steps))

    return only


def _try(host: Host, verb: str, scope: Scope, only: Callable[[Course], Course]) -> IsthmusError | None:
    try:
        host.change(verb, Edit(), scope, only=only)
    except IsthmusError as error:
        if not lasts(error):
            raise
        return error
    return None


def _whole(course: Course) -> Course:
    return course


def _link_of(item: HostObject) -> str:
    """Return the link that an object is, or hangs on; empty: none."""
    match item:
        case Bridge():
            return item.name
        case BridgedNic() | PinnedMac():
            return item.bridge
        case Veth():
            return item.peer_name if item.netns == HOST else item.name
        case LinkAddress() | Autoconf() | Route():
            return item.ifname
        case Sysctl() if item.name.count("/") == 4:
            return item.name.split("/")[3]
        case _:
            return ""
