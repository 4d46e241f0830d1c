"""The state file of this host: one SQLite database, one lock beside it.

Writers hold the lock for the whole of a verb; readers open read-only and take none. WAL with
synchronous NORMAL: a commit outlives a kill; what a power cut could take is bound to the kernel's life,
which ends with it. What is declared is committed with FULL. No automatic checkpoint: it costs 8 to 12 ms
on the path of whoever meets it (docs/decisions/0004), so it is made where nobody waits.
"""

from __future__ import annotations

import os
from stat import S_ISREG

from isthmus.errors import NotPermitted, StoreError
from isthmus.model.network import Record, Row
from isthmus.store.driver import Error, connect
from isthmus.store.lock import check_not_open_to_others
from isthmus.store.schema import APPLICATION_ID, KEYS, MIGRATIONS, SCHEMA, VERSION, decode_row

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType
    from typing import Any, Final, TypeVar

    T = TypeVar("T")

__all__ = ["Database"]

_FILE: Final = "state.db"


def _not_permitted(path: str) -> NotPermitted:
    return NotPermitted(f"cannot use state file {path}: permission denied", hint="run as root")


class Database:
    """An open state file; every error of SQLite leaves as StoreError."""

    def __init__(self, directory: str, *, writable: bool) -> None:
        self.path = f"{directory}/{_FILE}"
        self.writable = writable
        self._durable = False
        self._kept: dict[str, dict[str, Any]] = {}  # by table
        self._stamp = 0
        self._writing = False
        fresh = self._inspect()
        try:
            self._open(fresh=fresh)
        except Error as cause:
            raise self._broken(cause) from cause

    def _inspect(self) -> bool:
        try:
            found = os.lstat(self.path)
        except FileNotFoundError:
            return True
        except PermissionError as cause:
            raise _not_permitted(self.path) from cause
        except OSError as cause:
            raise StoreError(f"cannot read {self.path}: {cause.strerror}") from cause
        if not S_ISREG(found.st_mode):
            raise StoreError(f"{self.path} is no regular file")
        check_not_open_to_others(self.path, found)
        if not os.access(self.path, os.R_OK | (os.W_OK if self.writable else 0)):
            raise _not_permitted(self.path)
        return found.st_size == 0

    def _open(self, *, fresh: bool) -> None:
        old = os.umask(0o077)
        try:
            self._connect(memory=fresh and not self.writable)
            identity = self._identity()
            if identity == (0, 0) and self._is_bare():
                if not self.writable and not fresh:
                    self._db.close()
                    self._connect(memory=True)
                self._create()
                identity = self._identity()
            self._check(*identity)
            self._migrate(identity[1])
            if self.writable:
                self._execute("PRAGMA journal_mode = WAL")
                self._execute("PRAGMA synchronous = NORMAL")
                self._execute("PRAGMA wal_autocheckpoint = 0")
                # What SQLite cannot open for writing it opens for reading: that is to be known before the host changes.
                self._execute("DELETE FROM journal WHERE 0")
        finally:
            os.umask(old)

    def _connect(self, *, memory: bool) -> None:
        mode = "rwc" if self.writable else "ro"
        target = ":memory:" if memory else f"file:{self.path}?mode={mode}"
        self._db = connect(target, isolation_level=None, uri=True, timeout=10.0)

    def _identity(self) -> tuple[int, int]:
        return self.one("PRAGMA application_id")[0], self.one("PRAGMA user_version")[0]

    def _is_bare(self) -> bool:
        """Whether nothing is in it: a new one, or one whose first call was killed before its first commit."""
        return not self.all("SELECT 1 FROM sqlite_master LIMIT 1")

    def _create(self) -> None:
        self._execute("PRAGMA page_size = 1024")  # a commit writes whole pages to the log
        if self.writable:
            self._execute("PRAGMA journal_mode = WAL")
        self._db.executescript("BEGIN EXCLUSIVE;" + SCHEMA + "COMMIT;")

    def _check(self, application: int, version: int) -> None:
        if application != APPLICATION_ID:
            hint = "move it away; isthmus repair --rebuild makes a record again from the kernel"
            raise StoreError(f"{self.path} is not a state file of isthmus", hint=hint)
        if version != VERSION and version not in MIGRATIONS:
            raise StoreError(
                f"{self.path} is of version {version}, this isthmus knows version {VERSION}",
                hint="use the isthmus that wrote it",
            )

    def _migrate(self, version: int) -> None:
        """Bring an older state file up to date; a reader has a copy of it in memory that is."""
        if version == VERSION:
            return
        if not self.writable:
            copy = connect(":memory:", isolation_level=None)
            self._db.backup(copy)
            self._db.close()
            self._db = copy
        script = "".join(f"{one};" for since in range(version, VERSION) for one in MIGRATIONS[since])
        self._db.executescript(f"BEGIN EXCLUSIVE;{script}PRAGMA user_version = {VERSION};COMMIT;")

    def transaction(self, *kinds: str) -> Transaction:
        """Return a transaction, to be used in a `with` block.

        With `kinds` it announces the tables that it writes to: what is kept of others stays. One that finds later that
        it writes to another one says so by `drop_kept`.
        """
        return Transaction(self, kinds)

    def _begin(self, kinds: tuple[str, ...]) -> None:
        self._check_kept()
        self.run("BEGIN IMMEDIATE")
        self._writing = bool(kinds)
        for kind in kinds:
            self.drop_kept(kind)

    def _commit(self) -> None:
        self.run("COMMIT")
        if self._writing:
            self._writing = False
            self._stamp = self._db.total_changes

    def roll_back(self) -> None:
        """Drop the open transaction; one that SQLite dropped itself, since it could not write, is gone already."""
        self._kept.clear()
        self._writing = False
        if self._db.in_transaction:
            self.run("ROLLBACK")

    def _execute(self, statement: str, values: Sequence[Any] = ()) -> Any:
        try:
            return self._db.execute(statement, values)
        except Error as cause:
            raise self._broken(cause) from cause

    def _broken(self, cause: Exception) -> StoreError:
        hint = "if it is lost: isthmus repair --rebuild sets it aside and makes it again from the kernel"
        if str(cause).endswith("disk is full"):
            hint = "make room there; nothing is lost"
        return StoreError(f"state file {self.path}: {cause}", hint=hint)

    def durable(self, wanted: bool) -> None:
        """Make commits outlive a power cut, or not."""
        if wanted != self._durable:
            self._execute(f"PRAGMA synchronous = {'FULL' if wanted else 'NORMAL'}")
            self._durable = wanted

    def run(self, statement: str, values: Sequence[Any] = ()) -> None:
        """Execute a statement."""
        self._execute(statement, values)

    def run_many(self, statement: str, rows: Sequence[Sequence[Any]]) -> None:
        """Execute a statement for each row."""
        try:
            self._db.executemany(statement, rows)
        except Error as cause:
            raise self._broken(cause) from cause

    def all(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Return all rows of a query."""
        try:
            found: list[tuple[Any, ...]] = self._execute(statement, values).fetchall()
        except Error as cause:
            raise self._broken(cause) from cause
        return found

    def one(self, statement: str, values: Sequence[Any] = ()) -> tuple[Any, ...]:
        """Return the first row of a query that has one."""
        return self.all(statement, values)[0]

    def rows(self, kind: str, where: str = "1", values: Sequence[Any] = ()) -> dict[str, Any]:
        """Return rows of the record by their keys."""
        found: dict[str, Row] = {}
        for row in self.all(f"SELECT * FROM {kind} WHERE {where}", values):
            found[row[0]] = decode_row(kind, row)
        return found

    # What seldom changes is read once, and kept for as long as nobody writes.

    def look_again(self) -> None:
        """Begin a call after which another one may have written."""
        self._kept.clear()

    def seldom(self, kind: str) -> dict[str, Any]:
        """Return all rows of a table that seldom changes."""
        return self._keep(kind, "rows", lambda: self.rows(kind))

    def has(self, kind: str) -> bool:
        """Whether a table has any row."""
        return self._keep(kind, "any", lambda: bool(self.all(f"SELECT 1 FROM {kind} LIMIT 1")))

    def multihomed(self) -> frozenset[str]:
        """Return the namespaces of ours that are on several networks."""
        query = "SELECT namespace FROM multihomed"
        return self._keep("multihomed", "names", lambda: frozenset(str(row[0]) for row in self.all(query)))

    def cursors(self) -> dict[tuple[str, int], bytes]:
        """Return the address of each network and family that was given last."""
        query = "SELECT network, family, address FROM cursors"
        return self._keep("cursors", "last", lambda: {(name, family): last for name, family, last in self.all(query)})

    def set_cursor(self, network: str, family: int, address: bytes) -> None:
        """Note the address that was given last."""
        self.cursors()[network, family] = address
        self.run("INSERT OR REPLACE INTO cursors VALUES (?, ?, ?)", (network, family, address))

    def _keep(self, table: str, what: str, read: Callable[[], T]) -> T:
        self._check_kept()
        known = self._kept.setdefault(table, {})
        if what not in known:
            known[what] = read()
        return known[what]  # type: ignore[no-any-return]

    def _check_kept(self) -> None:
        if not self._writing and self._stamp != self._db.total_changes:
            self._kept.clear()
            self._stamp = self._db.total_changes

    def drop_kept(self, kind: str) -> None:
        """Let what is kept of a table go."""
        self._kept.pop(kind, None)

    def know_meta(self, meta: dict[str, Any]) -> None:
        """Keep what `all_meta` would return now."""
        self._check_kept()
        self._kept["meta"] = {"facts": meta}

    def all_meta(self) -> dict[str, Any]:
        """Return all stored facts about the host; also `journal`: an entry is not settled; `runs`: there are some."""
        return self._keep("meta", "facts", self._read_meta)

    def _read_meta(self) -> dict[str, Any]:
        query = (
            "SELECT key, value FROM meta UNION ALL SELECT 'journal', max(id) FROM journal"
            " UNION ALL SELECT 'runs', EXISTS (SELECT 1 FROM commands WHERE transient)"
        )
        return dict(self.all(query))

    def meta(self, key: str) -> Any:
        """Return a stored fact about the host, or None."""
        found = self.all("SELECT value FROM meta WHERE key = ?", (key,))
        return found[0][0] if found else None

    def set_meta(self, key: str, value: object) -> None:
        """Store a fact about the host."""
        self.run("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    def record(self) -> Record:
        """Load the whole record."""
        tables: dict[str, Any] = {kind: self.rows(kind) for kind in KEYS}
        return Record(**tables)

    def close(self) -> None:
        """Close it; in a process that is about to end, `os._exit` saves the checkpoint that this makes."""
        self._db.close()


class Transaction:
    """Writes that are made true as one at the end of a `with` block, or not at all where it is left by an error."""

    def __init__(self, db: Database, kinds: tuple[str, ...]) -> None:
        self._db, self._kinds = db, kinds

    def __enter__(self) -> None:
        self._db._begin(self._kinds)

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._db.roll_back()
            return
        try:
            self._db._commit()
        except BaseException:
            self._db.roll_back()
            raise
