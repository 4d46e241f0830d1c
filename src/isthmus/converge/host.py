"""The one path: desired, dump, diff, write down, apply, settle.

Every verb makes an Edit of the record and calls `change`. A call that died is led to a settled state by the
same steps (recovery.py), and so is a change that the kernel refused half-way.
"""

from __future__ import annotations

import time

from isthmus.converge.course import Course, of_the_edit, report_on
from isthmus.converge.elsewhere import keep_for_others, living, widened
from isthmus.converge.outlook import Outlook, run_directory
from isthmus.converge.rows import freed, lent_to, no_longer_loaded, note_made, with_cookies, writes_names
from isthmus.errors import IsthmusError
from isthmus.kernel.access import Access
from isthmus.kernel.apply import Applier
from isthmus.kernel.commands import Commands
from isthmus.kernel.dump import Dumper
from isthmus.kernel.files import check_writable
from isthmus.kernel.netns import boot_identity, go_home
from isthmus.kernel.ruleset import generation
from isthmus.model.host import HostState, Sysctl
from isthmus.model.network import Borrowed, Namespace, Record
from isthmus.model.plan import Report
from isthmus.model.ruleset import RULESET
from isthmus.planner.borrowing import found_there, give_back, present, returned, said_of, to_borrow
from isthmus.planner.desired import EVERYTHING, Scope, desired
from isthmus.planner.diff import diff
from isthmus.planner.forwarding import spread
from isthmus.store.edit import Edit
from isthmus.store.journal import APPLYING, LEAVING, PENDING, Entry, begin, entries, pending, settle
from isthmus.store.lock import Lock, Stillness, state_directory
from isthmus.store.slices import load_slice
from isthmus.store.sqlite import Database

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Any, Final, Self

    from isthmus.kernel.launch import Way

__all__ = ["Host"]

_SLICE_LIMIT: Final = 16  # beyond so many namespaces the whole record is loaded at once


class Host:
    """The host of one network namespace as a call sees it: state file, kernel, lock. Use it in a `with` block.

    It may be entered again and again: state file and sockets stay open between. Entering a changing one
    puts right what a call that died, a reboot or a stranger left crooked, and follows the default route,
    before anything else. One that is not writable may be read while others change it, unless it is `still`.
    """

    def __init__(self, *, writable: bool = True, directory: str | None = None, still: bool = False) -> None:
        self.directory = directory or state_directory()
        self.writable = writable
        self._still = Stillness(self.directory) if still else None
        self.notes: list[str] = []
        self.access = Access()
        self.progress: Callable[[int, int], None] | None = None
        self.outlook = Outlook(self.access)
        self._lock: Lock | None = None
        self._db: Database | None = None
        self._meta: dict[str, Any] = {}
        self._identity: tuple[str, int] | None = None
        self._generation: int | None = None
        self.trashed = self.mended = False  # links wait in the dead group; notes tell of what was put right
        self.strays: HostState = {}  # what a stranger put into our sets, while that is looked at
        self.pending: Entry | None = None  # what waits to be confirmed
        self.declaration = ""  # the one that is brought up
        self.ways: dict[str, Way] = {}  # how commands of this call are started, by namespace
        self.commands_directory = f"{run_directory()}/commands"  # where supervisors keep their files
        self._commands = Commands(self.commands_directory, self.directory, self.access, self.ways)

    def __enter__(self) -> Self:
        alone = False  # whether nobody else can have written since the last time
        if self.writable:
            if self._lock is None:
                self._lock = Lock(self.directory)
            alone = self._lock.take()
        elif self._still is not None:
            self._still.take()
        self.outlook.forget()
        self._generation = self.pending = None
        self.notes, self.strays, self.mended = [], {}, False
        try:
            if self._db is None:
                self._db = Database(self.directory, writable=self.writable)
            else:
                self.outlook.watch()  # entered again: a resident
            if not alone:
                self._db.look_again()
            if self.writable:
                self._prepare()
            else:
                self._meta = self.db.all_meta()
        except BaseException:
            self._release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            go_home()  # an interrupt may come between any two calls
        self._release()

    @property
    def db(self) -> Database:
        """The state file; open inside the `with` block."""
        assert self._db is not None, "use Host in a with block"
        return self._db

    @property
    def lock(self) -> Lock:
        """The host lock, which a writable one holds inside the `with` block."""
        assert self._lock is not None, "use a writable Host in a with block"
        return self._lock

    def close(self) -> None:
        """Close state file and sockets; for residents, which enter the block many times."""
        if self._db is not None:
            self._db.close()
            self._db = None
        self.access.close()
        self.outlook.close()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _release(self) -> None:
        self.access.forget_namespaces()
        if self._lock is not None:
            self._lock.release()
        if self._still is not None:
            self._still.release()

    def _prepare(self) -> None:
        self._meta = self.db.all_meta()
        self._identify()
        meta = self._meta
        begun = self.lock.left
        if meta["journal"] is not None or begun is not None:
            from isthmus.converge.recovery import end

            for entry in entries(self.db, begun, time.clock_gettime(time.CLOCK_BOOTTIME)):
                end(self, entry)
            self.pending = pending(self.db)
            meta = self._meta
        if meta["runs"]:
            from isthmus.converge.runs import clear_ended_runs

            clear_ended_runs(self)
            meta = self._meta
        if meta.get("version") is None:
            return  # nothing of ours is loaded: there is no network
        if meta["version"] == RULESET:
            self._check_ruleset(meta)
        else:
            from isthmus.converge.amiss import load_anew

            load_anew(self, "upgrade")
        if meta.get("uplinks") not in (None, self.outlook.links.text()):
            from isthmus.converge.amiss import follow_routes

            follow_routes(self)

    def _identify(self) -> None:
        self._identity = self._identity or boot_identity()
        if (self._meta.get("boot_id"), self._meta.get("cookie")) != self._identity:
            from isthmus.converge.host_files import forget

            forget(self, *self._identity)
            self._meta = self.db.all_meta()

    def _check_ruleset(self, meta: dict[str, object]) -> None:
        self._generation = generation(self.access)
        if self._generation != meta.get("generation"):
            from isthmus.converge.amiss import mend_rules

            mend_rules(self, self._generation, str(meta.get("fingerprint")))

    def record(self, scope: Scope = EVERYTHING) -> Record:
        """Load what a scope must know of the record, for a change or a plan; of the host's part, by present names."""
        few = scope.namespaces is not None and len(scope.namespaces) <= _SLICE_LIMIT
        record = load_slice(self.db, sorted(scope.namespaces or ())) if few else self.db.record()
        if not scope.host:
            return record
        from isthmus.converge.renamed import with_present_links

        return with_present_links(self, record)

    # The one path

    def change(
        self,
        verb: str,
        edit: Edit,
        scope: Scope,
        *,
        leaving: bool = False,
        fresh: bool = False,
        record: Record | None = None,
        deadline: float | None = None,
        taken: tuple[Borrowed, ...] = (),
        only: Callable[[Course], Course] | None = None,
    ) -> Report:
        """Bring record and host to where an edit leads, within a scope, or leave both as they were.

        With a `deadline` (seconds since the boot) the change is taken back then, unless it was confirmed.
        `taken` is what somebody else changed and is to be taken for borrowed by us, so that it can be given back.
        `fresh`: what the edit brings has names drawn at random, and is not looked for unless that was wrong after all.
        What else is crooked within the scope is put right, too, where the host allows it; `only` chooses a part.

        Raises:
            IsthmusError: refused; the host is as before, or (ApplyError, `undone` False) the next call mends it.
        """
        old, new, wide = widened(self.db, self._before(scope, record, taken), edit, scope)
        if self.pending is not None:
            from isthmus.converge.pending import check_against

            check_against(self.pending, edit, wide, old)
        course = self.plan(old, new, wide, fresh=fresh)
        course = course if only is None else only(course)
        if not course.plan and not edit and not course.left:
            if scope.host and self.writable:
                self.remember("uplinks", self.outlook.links.text())
            return report_on(course.plan, self.notes, old, new, mended=self.mended)
        course.check_joins(edit, old, new)
        phase = LEAVING if leaving and deadline is None else APPLYING  # a kill leads back what nobody has confirmed
        entry = Entry(id=0, verb=verb, phase=phase, host=scope.host, namespaces=scope.namespaces, edit=edit)
        try:
            self._make(entry, course, (old, new), taken, deadline)
        except IsthmusError as cause:
            from isthmus.converge.parts import what_is_done

            done = what_is_done(self, entry, course, cause, is_part=only is not None) if not fresh else None
            if done is None:
                part = None if fresh else of_the_edit
                return self.change(
                    verb, edit, scope, leaving=leaving, record=record, deadline=deadline, taken=taken, only=part
                )
            course = done
        return report_on(course.plan, self.notes, old, new, mended=self.mended)

    def _make(
        self,
        entry: Entry,
        course: Course,
        records: tuple[Record, Record],
        taken: tuple[Borrowed, ...],
        deadline: float | None,
    ) -> None:
        """Write a change down and carry it out; where that fails the host is led back, or on."""
        check_writable(step.item for step in course.plan.steps)
        old, new = records
        rows = (*taken, *course.found, *to_borrow(course.plan, present(old, course.facts.renamed), new, course.facts))
        borrowed = {row.name: row for row in rows}
        if borrowed:
            from isthmus.converge.renamed import remember_links

            remember_links(self, (*old.borrowed, *borrowed))
        way_back = None if deadline is None else (entry.edit.inverse(old), deadline)
        try:
            begin(self.db, self.lock, entry, tuple(borrowed.values()))
            self.carry_out(entry, course, entry.edit, (lent_to(old, borrowed), lent_to(new, borrowed)), way_back)
        except BaseException as cause:
            if self.lock.left is None:
                raise  # it has not begun, or is settled
            from isthmus.converge.recovery import undo

            undo(self, entry, cause)
            raise

    def preview(
        self, edit: Edit, scope: Scope, record: Record | None = None, taken: tuple[Borrowed, ...] = ()
    ) -> Report:
        """Return what `change` would do."""
        if not self.writable:
            from isthmus.converge.amiss import with_changed_sets

            scope = with_changed_sets(self, scope)
        old, new, scope = widened(self.db, self._before(scope, record, taken), edit, scope)
        return report_on(self.plan(old, new, scope).plan, self.notes, old, new, mended=self.mended)

    def _before(self, scope: Scope, record: Record | None, taken: tuple[Borrowed, ...]) -> Record:
        found = self.record(scope) if record is None else record
        return found.replace(borrowed={**found.borrowed, **{row.name: row for row in taken}}) if taken else found

    def plan(self, old: Record, new: Record, scope: Scope, *, fresh: bool = False, undoes: bool = False) -> Course:
        """Plan from what the kernel holds of both records to the second one.

        `fresh`: what the second one has more was just named at random, so the kernel is not asked for it.
        `undoes`: the first was never reached: no stranger has come to need what it would have given.
        """
        for record in (old, new):
            self.access.know(record.namespaces.values())
        self.outlook.kept = self._meta.get("carried")
        found, facts = self.outlook.of(scope, old, new)
        facts = facts.replace(strangers=()) if undoes else facts
        renamed = facts.renamed
        old, new = present(old, renamed), living(self.access, present(new, renamed), old)
        before = desired(old, scope, found) if old.namespaces or scope.host else {}  # of nothing, nothing
        wanted = desired(new, scope, facts)
        if scope.namespaces is not None:
            wanted = keep_for_others(self.db, new, scope, facts, before, wanted)
        known: HostState = {**self.strays, **before, **wanted}
        if scope.host:
            borrowed = {**old.borrowed, **new.borrowed}
            for name in (*borrowed, *facts.copies):
                if name.startswith("net/"):
                    known.setdefault(("sysctl", name), Sysctl(name=name, value="", borrowed=True))
        loaded = (str(self._meta.get("version") or ""), str(self._meta.get("fingerprint") or ""))
        current = Dumper(self.access, loaded, self._commands.argv_of).dump(
            known,
            doomed=before.keys() - wanted.keys(),
            fresh=wanted.keys() - before.keys() if fresh else (),
            missed=before,
            strays=facts.run_directory if scope.is_full else "",
            loopback=scope.host,
        )
        theirs = found_there(before, wanted, current)
        spread(current, wanted, new)
        left = give_back(current, wanted, (old, new), facts)
        self.notes += [said for said in said_of(left, facts) if said not in self.notes]
        plan = diff(current, wanted)
        return Course(plan=plan, before=before, wanted=wanted, left=left, found=theirs, facts=facts)

    def carry_out(
        self,
        entry: Entry,
        course: Course,
        edit: Edit,
        records: tuple[Record, Record],
        way_back: tuple[Edit, float] | None = None,
    ) -> None:
        """Carry a course out and settle it; the edit leads the first of the records to the second."""
        record, after = records
        kept = {}
        if entry.host and (self.outlook.kept is not None or any(one.is_lan for one in after.networks.values())):
            from isthmus.converge.keeping import keep

            kept = keep(self, course.plan, after)
        applier = self._applier(edit, record)
        try:
            applier.apply(course.plan)
        finally:
            self._generation = None if applier.overtaken else applier.generation  # whatever came after it
        self.trashed = self.trashed or applier.trashed
        if applier.cookies:
            edit = edit.plus(with_cookies(after, applier.cookies))
        if record.borrowed:
            told, renamed = (after, course.wanted, course.plan), course.facts.renamed
            edit = edit.plus(Edit(drops=returned(*told, host=entry.host, left=course.left, renamed=renamed)))
        meta = self._after(applier, course.wanted if entry.host else None) | kept
        settle(self.db, self.lock, entry, edit, records, meta, freed(record, edit), time.time(), way_back)
        self._meta = {**self._meta, **meta}
        if way_back is None and entry.phase != PENDING and "commands" not in edit.kinds:
            self.db.know_meta(self._meta)
        self.access.know(row for row in edit.puts if isinstance(row, Namespace))
        applier.await_ready()

    def _applier(self, edit: Edit, record: Record) -> Applier:
        applier = Applier(self.access, self._commands, self.lock.fd, self.progress)
        applier.generation = self._generation or self._meta.get("generation")  # what others did since is to be seen
        applier.made = lambda namespace, cookie: note_made(self.db, record, namespace, cookie)
        applier.leased = writes_names(self, edit, record)
        return applier

    def _after(self, applier: Applier, host: HostState | None) -> dict[str, object]:
        """Return the stored facts that a plan changed; `host`: what is wished there, if that was looked at."""
        meta: dict[str, object] = {}
        loaded = applier.loaded
        if loaded is not None and applier.generation is None:
            self._generation = applier.generation = generation(self.access)
        if loaded is None and host is not None:
            loaded = no_longer_loaded(self._meta.get("fingerprint"), host)
        if loaded is not None:
            meta["fingerprint"] = loaded or None
            meta["version"] = RULESET if loaded else None
        if applier.generation is not None:
            meta["generation"] = None if applier.overtaken else applier.generation
        if host is not None:
            self.outlook.forget()  # default routes may have moved to a bridge
            meta["uplinks"] = self.outlook.links.text()
        return meta

    def remember(self, key: str, value: object) -> None:
        """Put a fact about the host down."""
        self.db.set_meta(key, value)
        self._meta = {**self._meta, key: value}
