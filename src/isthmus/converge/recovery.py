"""What a call had begun is led to its end: back to the record, or on where it was leaving.

It goes by the steps of any other change. Where the kernel does not let what was there before be made again, and will
not, the begun part is *cleared* alone: what is new goes, the firewall and the sysctls are as they ought to be, and what
is missing is drift, which `plan` shows and `repair` mends. Else one thing that somebody broke would stop every verb.
"""

from __future__ import annotations

import errno

from isthmus.converge.course import clearing, of_the_edit
from isthmus.converge.elsewhere import widened
from isthmus.converge.pending import what_is_left
from isthmus.converge.rows import lent_to
from isthmus.errors import ApplyError, IsthmusError, KernelError, NotPermitted, StoreError, Unavailable
from isthmus.kernel.netns import go_home
from isthmus.model.host import Ruleset
from isthmus.model.plan import Plan, Remove
from isthmus.planner.borrowing import present, to_borrow
from isthmus.planner.desired import Scope
from isthmus.store import journal
from isthmus.store.edit import Edit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from isthmus.converge.course import Course
    from isthmus.converge.host import Host
    from isthmus.store.journal import Entry

__all__ = ["RESTORE", "end", "follow", "is_aside", "lasts", "note_mended", "note_restored", "take_back", "undo"]

RESTORE: Final = "restore"  # the verb that loads rules again which somebody changed
_PASSING: Final = frozenset(
    {errno.ENOMEM, errno.ENOBUFS, errno.EMFILE, errno.ENFILE, errno.EINTR, errno.EAGAIN, errno.ENOSPC, errno.EIO}
)


def lasts(error: BaseException) -> bool:
    """Whether an error is of what is on the host, so that to try again helps nobody."""
    if isinstance(error, KernelError):
        return error.errno not in _PASSING
    return isinstance(error, IsthmusError) and not isinstance(error, StoreError | Unavailable | NotPermitted)


def is_aside(error: BaseException, course: Course, edit: Edit) -> bool:
    """Whether a change may have failed at something that was crooked before, and is not what its edit asks for."""
    return lasts(error) and bool(edit) and of_the_edit(course).plan != course.plan


def end(host: Host, entry: Entry) -> None:
    """Lead the entry of a call that died, or that is due, to its end.

    Raises:
        IsthmusError: not even what had begun can be cleared, or that may pass; the next call tries again.
    """
    try:
        plan = _recover(host, entry)
    except IsthmusError as cause:
        if not lasts(cause):
            raise
        _clear(host, entry)
        note_mended(host, f"{entry.verb} had stopped half-way, and what it began was cleared ({cause.message})")
        return
    loaded = [one.item for one in plan.steps if not isinstance(one, Remove) and isinstance(one.item, Ruleset)]
    if loaded and entry.verb == RESTORE:
        note_restored(host, " and ".join(f"table {one.family} isthmus" for one in loaded))


def note_mended(host: Host, words: str) -> None:
    """Note what was put right that the verb itself does not report."""
    host.notes.append(words)
    host.mended = True


def note_restored(host: Host, tables: str) -> None:
    """Note that tables of ours which somebody changed are as they ought to be again."""
    note_mended(host, f"somebody changed or flushed {tables}: it was loaded again")


def follow(host: Host, scope: Scope, why: str) -> Plan:
    """Bring a scope to the record before a verb begins; what the host does not let us mend stands in no verb's way."""
    try:
        return host.change("follow", Edit(), scope).plan
    except IsthmusError as cause:
        if not lasts(cause):
            raise
        host.notes.append(f"{why}, and that is not followed: {cause.message}")
        return Plan()


def undo(host: Host, entry: Entry, cause: BaseException) -> None:
    """Lead a change that failed back, or on where it was leaving; what cannot be made again its cause has as a note.

    Raises:
        ApplyError: it cannot be; the next call tries again.
        IsthmusError: not even what had begun can be cleared.
    """
    go_home()  # an interrupt may have come between any two calls
    host.db.roll_back()
    host.access.close()  # a socket may hold answers that nobody read
    try:
        _recover(host, entry)
    except (IsthmusError, OSError) as second:
        if lasts(second):
            _clear(host, entry)
            cause.add_note(f"not all that was there could be made again ({second}): isthmus plan shows what is missing")
            return
        what, hint = str(cause) or "interrupted", "isthmus repair, when the cause is gone"
        raise ApplyError(f"{what}; and undoing it: {second}", undone=False, hint=hint) from cause


def take_back(host: Host, entry: Entry) -> None:
    """Lead what waits to be confirmed back now."""
    try:
        entry = journal.take_back(host.db, entry)
        host.pending = None
        _recover(host, entry, undoes=True)
    except BaseException as cause:
        if host.pending is not None and isinstance(cause, IsthmusError):
            raise  # it waits as before
        host.pending = None
        undo(host, entry.replace(phase=journal.LEAVING, deadline=None), cause)
        raise


def _clear(host: Host, entry: Entry) -> None:
    host.access.close()
    _recover(host, entry, clears=True)


def _recover(host: Host, entry: Entry, *, clears: bool = False, undoes: bool = False) -> Plan:
    """Lead an entry to its end, and return the plan of that.

    `undoes`: what nobody has confirmed goes back whole, whoever may need it by now.
    """
    scope = Scope(host=entry.host, namespaces=entry.namespaces)
    old = host.record(scope)
    edit = what_is_left(entry.edit, old)
    old, new, scope = widened(host.db, old, edit, scope)
    leaving = entry.phase in (journal.LEAVING, journal.PENDING)
    undoes = undoes or entry.phase == journal.PENDING
    course = host.plan(old, new, scope, undoes=undoes) if leaving else host.plan(new, old, scope, undoes=True)
    if clears:
        course = clearing(course)
    # Networks that a reboot took are made again: their values on the host's links are borrowed anew.
    lent = to_borrow(course.plan, present(old, course.facts.renamed), new if leaving else old, course.facts)
    borrowed = {row.name: row for row in lent}
    if borrowed:
        from isthmus.converge.renamed import remember_links

        remember_links(host, (*old.borrowed, *borrowed))
        journal.borrow(host.db, tuple(borrowed.values()))
    old = lent_to(old, borrowed)
    records, edit = ((old, lent_to(new, borrowed)), edit) if leaving else ((old, old), Edit())
    host.carry_out(entry, course, edit, records)
    if entry.phase == journal.PENDING:
        host.db.set_meta("reverted", entry.verb)
        note_mended(host, f"{entry.verb} was taken back: nobody confirmed it in time")
    return course.plan
