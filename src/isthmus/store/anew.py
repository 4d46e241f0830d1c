"""The state file made anew: what was in it is replaced in one commit, and kept under another name.

One that cannot be read (or copied) is renamed, and another file, complete, takes its place. So a kill leaves the old
record or the new one.
"""

from __future__ import annotations

import os
import time

from isthmus.errors import Refused, StoreError
from isthmus.store.edit import Edit
from isthmus.store.journal import make_anew, pending
from isthmus.store.sqlite import Database

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

__all__ = ["replace"]

_FILE: Final = "state.db"
_SUFFIXES: Final = ("", "-wal", "-shm")
_TOLD: Final = ("borrowed", "forwarding")


def replace(directory: str, edit: Edit, meta: dict[str, object]) -> tuple[str | None, bool]:
    """Make the rows of an edit, and what the old file alone can tell of this host, all that is on record.

    Returns what the old file is kept as (None: there was none), and whether it told something: it is sound, and of
    this boot and namespace (`boot_id` and `cookie` of `meta`). The caller holds the lock.

    Raises:
        Refused: a change waits to be confirmed. NotPermitted, StoreError: nothing is replaced.
    """
    path = f"{directory}/{_FILE}"
    there = os.path.lexists(path)
    aside, tells = _free_name(path), False
    try:
        db = Database(directory, writable=True)
        try:
            _check_pending(db)
            if there:
                _copy(db, aside)
            old = db.all_meta()
            tells = all(old.get(key) == meta[key] for key in ("boot_id", "cookie"))
            told = [row for kind in _TOLD for row in db.rows(kind).values()] if tells else []
            make_anew(db, edit.plus(Edit(puts=tuple(told))), meta)
        finally:
            db.close()
    except StoreError:
        _put_in_place(directory, edit, meta, path, aside)
        tells = False
    return aside if there else None, tells


def _free_name(path: str) -> str:
    aside = stamp = f"{path}.{time.strftime('%Y%m%d-%H%M%S')}"
    number = 1
    while any(os.path.lexists(aside + suffix) for suffix in _SUFFIXES):  # one was made within this second
        number += 1
        aside = f"{stamp}-{number}"
    return aside


def _check_pending(db: Database) -> None:
    waiting = pending(db)
    if waiting is not None:
        raise Refused(
            f"{waiting.verb} waits to be confirmed: the state file alone has the way back",
            hint="isthmus confirm, or isthmus confirm --revert",
        )


def _copy(db: Database, path: str) -> None:
    old = os.umask(0o077)
    try:
        db.run("VACUUM INTO ?", (path,))
    except BaseException:
        _unlink(path)
        raise
    finally:
        os.umask(old)


def _put_in_place(directory: str, edit: Edit, meta: dict[str, object], path: str, aside: str) -> None:
    """Make a state file beside the one that is lost, and rename both."""
    beside = f"{directory}/anew"
    os.makedirs(beside, mode=0o700, exist_ok=True)
    for suffix in _SUFFIXES:
        _unlink(f"{beside}/{_FILE}{suffix}")  # of a call that was killed here
    db = Database(beside, writable=True)
    try:
        db.run("PRAGMA journal_mode = DELETE")  # all of it in one file
        make_anew(db, edit, meta)
    finally:
        db.close()
    for suffix in reversed(_SUFFIXES):
        if os.path.lexists(path + suffix):
            os.rename(path + suffix, aside + suffix)
    os.rename(f"{beside}/{_FILE}", path)
    os.rmdir(beside)


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
