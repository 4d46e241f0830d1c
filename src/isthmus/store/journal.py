"""The journal: what a call is about to do, written down before it touches the host.

An entry holds the scope of the change and its edit. The tables keep the old rows until the entry is
settled, so that the one commit which settles it is the moment of truth. An entry that a call finds belongs
to a call that died: *applying* is led back to the tables, *leaving* is led on to the edit. One that was settled and not
ended leads nowhere, since the tables have what it says.

The entry of the call under way is in the lock's file, where it costs a tenth of a commit. Entries that wait are in a
table: a *pending* one is no call's, its edit is the way back from a change that waits to be confirmed, taken when its
deadline has passed.
"""

from __future__ import annotations

import marshal

from isthmus.errors import StoreError
from isthmus.model.network import Attachment, Forwarding, Network, Record
from isthmus.model.value import Value
from isthmus.store.edit import Edit
from isthmus.store.lock import Lock
from isthmus.store.schema import ENCODE, KEYS, UPSERT
from isthmus.store.sqlite import Database

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Final

    from isthmus.model.network import Borrowed

__all__ = [
    "APPLYING",
    "LEAVING",
    "PENDING",
    "Entry",
    "begin",
    "borrow",
    "confirm",
    "entries",
    "forget_host",
    "make_anew",
    "pending",
    "settle",
    "take_back",
]

APPLYING: Final = "applying"
LEAVING: Final = "leaving"
PENDING: Final = "pending"
REST_S: Final = 60.0
_BOUND: Final = ("leases", "multihomed", "journal", "trash", "meta")  # to the kernel, beside rows of the record


class Entry(Value):
    """An entry: `host` and `namespaces` are its scope (None: all namespaces); `deadline` in seconds since the boot."""

    id: int
    verb: str
    phase: str
    host: bool
    namespaces: frozenset[str] | None
    edit: Edit
    deadline: float | None = None


def begin(db: Database, lock: Lock, entry: Entry, borrowed: tuple[Borrowed, ...]) -> None:
    """Write down what the holder of the lock is about to do, then the values that are about to be borrowed.

    Raises:
        StoreError: it cannot be written; nothing has begun.
    """
    if lock.left is not None:  # of this call, which went on after a change that could not be undone
        _wait(db, _begun(lock.left))
    lock.begin(marshal.dumps((entry.verb, entry.phase, _scope(entry.host, entry.namespaces), entry.edit.encode()), 2))
    if borrowed:
        try:
            with db.transaction():
                borrow(db, borrowed)
        except StoreError:
            lock.end()
            raise


def _scope(host: bool, namespaces: frozenset[str] | None) -> bytes:
    return marshal.dumps((host, None if namespaces is None else sorted(namespaces)), 2)


def borrow(db: Database, rows: tuple[Borrowed, ...]) -> None:
    """Write values down that are about to be borrowed under an entry that stands already."""
    for row in rows:
        db.run(UPSERT["borrowed"], ENCODE[type(row)](row))


def entries(db: Database, begun: bytes | None, now: float) -> list[Entry]:
    """Return the entries to be led to their end: those of the table when due, and what a call that died had `begun`."""
    found = [one for one in _waiting(db) if one.deadline is None or one.deadline <= now]
    return found if begun is None else [*found, _begun(begun)]


def _begun(payload: bytes) -> Entry:
    try:
        verb, phase, scope, redo = marshal.loads(payload)
    except (ValueError, TypeError, EOFError) as cause:
        raise StoreError(f"state directory: lock: what a call had begun makes no sense: {cause}") from cause
    return _entry(0, verb, phase, scope, redo, None)


def pending(db: Database) -> Entry | None:
    """Return what waits to be confirmed, due or not."""
    return next((one for one in _waiting(db) if one.deadline is not None), None)


def confirm(db: Database, number: int) -> None:
    """Let a pending change stand."""
    db.durable(True)
    db.run("DELETE FROM journal WHERE id = ? AND phase = ?", (number, PENDING))
    db.durable(False)


def take_back(db: Database, entry: Entry) -> Entry:
    """Begin to lead a pending change back, which is due from now on; return its entry as it is then."""
    db.durable(True)
    db.run("UPDATE journal SET phase = ?, deadline = NULL WHERE id = ?", (LEAVING, entry.id))
    db.durable(False)
    return entry.replace(phase=LEAVING, deadline=None)


def _waiting(db: Database) -> list[Entry]:
    query = "SELECT id, verb, phase, scope, redo, deadline FROM journal ORDER BY id"
    return [_entry(*row) for row in db.all(query)]


def _entry(number: int, verb: str, phase: str, scope: bytes, redo: bytes, deadline: float | None) -> Entry:
    try:
        host, names = marshal.loads(scope)
    except (ValueError, TypeError, EOFError) as cause:
        raise StoreError(f"state file: journal: entry {number} makes no sense: {cause}") from cause
    namespaces = None if names is None else frozenset(names)
    edit = Edit.decode(redo)
    return Entry(id=number, verb=verb, phase=phase, host=host, namespaces=namespaces, edit=edit, deadline=deadline)


def settle(
    db: Database,
    lock: Lock,
    entry: Entry,
    edit: Edit,
    records: tuple[Record, Record],
    meta: dict[str, object],
    trash: tuple[str, ...],
    now: float,
    way_back: tuple[Edit, float] | None = None,
) -> None:
    """Make the edit that leads the first record to the second true in the tables, in one commit, which ends the entry.

    With a `way_back`, an edit and a deadline, an entry that leads back waits then, pending.
    """
    db.durable(entry.host)  # what concerns the host is declared; the rest is bound to the kernel's life
    with db.transaction("meta", *edit.kinds):
        _write(db, edit, *records, now)
        for key, value in meta.items():
            db.set_meta(key, value)
        for what in trash:
            db.run("INSERT OR REPLACE INTO trash VALUES (?)", (what,))
        if entry.id:
            db.run("DELETE FROM journal WHERE id = ?", (entry.id,))
        if way_back is not None:
            _wait(db, entry.replace(phase=PENDING, edit=way_back[0], deadline=way_back[1]))
    if not entry.id:
        lock.end()


def _wait(db: Database, entry: Entry) -> None:
    values = (entry.verb, entry.phase, _scope(entry.host, entry.namespaces), entry.edit.encode(), entry.deadline)
    db.run("INSERT INTO journal (verb, phase, scope, redo, deadline) VALUES (?, ?, ?, ?, ?)", values)


def _write(db: Database, edit: Edit, before: Record, after: Record, now: float) -> None:
    joined = {row.namespace for row in edit.puts if isinstance(row, Attachment)}
    for kind, key in edit.drops:
        if kind == "attachments" and key in before.attachments:
            _release(db, before.attachments[key], now + REST_S)
            joined.add(before.attachments[key].namespace)
        elif kind == "networks":
            db.run("DELETE FROM leases WHERE network = ?", (key,))
            db.run("DELETE FROM cursors WHERE network = ?", (key,))
            db.drop_kept("cursors")
        db.run(f"DELETE FROM {kind} WHERE {KEYS[kind]} = ?", (key,))
    _park(db, edit, before)
    for row, (kind, values) in zip(edit.puts, edit.rows, strict=True):
        if isinstance(row, Attachment):
            _lease(db, row, before.attachments.get(row.id), now + REST_S)
        db.run(UPSERT[kind], values)
    _note_several(db, after, joined)


def _park(db: Database, edit: Edit, before: Record) -> None:
    """Free what attachments are to exchange: a MAC and a name are unique at each write."""
    for row in edit.puts:
        if isinstance(row, Attachment) and row.id in before.attachments:
            had = before.attachments[row.id]
            if (row.mac, row.ifname) != (had.mac, had.ifname):
                db.run("UPDATE attachments SET mac = id, ifname = id WHERE id = ?", (row.id,))


def _release(db: Database, row: Attachment, rests_until: float) -> None:
    """Let the addresses of an attachment rest."""
    for address in row.addresses:
        db.run(
            "UPDATE leases SET attachment = NULL, rests_until = ? WHERE network = ? AND address = ? AND attachment = ?",
            (rests_until, row.network, address.packed, row.id),
        )


def _lease(db: Database, row: Attachment, before: Attachment | None, rests_until: float) -> None:
    if before is not None:
        _release(db, before, rests_until)
    for address in row.addresses:
        db.run("INSERT OR REPLACE INTO leases VALUES (?, ?, ?, NULL)", (row.network, address.packed, row.id))
        db.set_cursor(row.network, address.family, address.packed)


def _note_several(db: Database, after: Record, namespaces: set[str]) -> None:
    """Keep the list of namespaces on several networks, which is short, beside the attachments, which are many."""
    known = db.multihomed()
    several = {name for name in namespaces if len(after.attachments_of(name)) > 1}
    if several <= known and known.isdisjoint(namespaces - several):
        return
    db.drop_kept("multihomed")
    for name in several - known:
        db.run("INSERT OR IGNORE INTO multihomed VALUES (?)", (name,))
    for name in (namespaces - several) & known:
        db.run("DELETE FROM multihomed WHERE namespace = ?", (name,))


def forget_host(db: Database, lock: Lock, boot_id: str, cookie: int, kept: tuple[Forwarding, ...]) -> None:
    """Forget what was bound to a kernel that is gone, runs and unconfirmed networks, too; what is `kept` stays."""
    waiting = pending(db)
    with db.transaction():
        if waiting is not None:
            puts = tuple(row for row in waiting.edit.puts if isinstance(row, Network))
            drops = tuple(one for one in waiting.edit.drops if one[0] == "networks")
            _write(db, Edit(puts=puts, drops=drops), Record.empty(), Record.empty(), 0.0)
        _forget(db, (*(kind for kind in KEYS if kind != "networks"), *_BOUND))
        db.run("DELETE FROM networks WHERE transient")
        db.set_meta("boot_id", boot_id)
        db.set_meta("cookie", cookie)
        for row in kept:
            db.run(UPSERT["forwarding"], ENCODE[Forwarding](row))
        if kept or db.all("SELECT 1 FROM networks LIMIT 1"):
            _wait(db, Entry(id=0, verb="boot", phase=APPLYING, host=True, namespaces=None, edit=Edit()))
    lock.end()


def make_anew(db: Database, edit: Edit, meta: dict[str, object]) -> None:
    """Make an edit, and these facts about the host, all that is on record."""
    db.durable(True)
    with db.transaction():
        _forget(db, (*KEYS, *_BOUND, "cursors"))
        _write(db, edit, Record.empty(), edit.on(Record.empty()), 0.0)
        for key, value in meta.items():
            db.set_meta(key, value)


def _forget(db: Database, tables: Iterable[str]) -> None:
    for table in tables:
        db.run(f"DELETE FROM {table}")
