"""State files that cannot be trusted: a clear error, no traceback, and nothing changed in the kernel."""

from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from isthmus.testing import Lab, snapshot


def truncated(state: Path) -> None:
    os.truncate(state / "state.db", 1500)


def half_a_page(state: Path) -> None:
    os.truncate(state / "state.db", 300)


def random_bytes(state: Path) -> None:
    with open(state / "state.db", "r+b") as file:
        file.seek(100)
        file.write(random.Random(1).randbytes(20000))


def another_database(state: Path) -> None:
    os.unlink(state / "state.db")
    with contextlib.closing(sqlite3.connect(state / "state.db")) as db:
        db.executescript("CREATE TABLE music (title); INSERT INTO music VALUES ('a song')")


def text(state: Path) -> None:
    (state / "state.db").write_text("networks: {br0: {}}\n" * 100)


def newer(state: Path) -> None:
    with contextlib.closing(sqlite3.connect(state / "state.db")) as db:
        db.execute("PRAGMA user_version = 999")


def open_file(state: Path) -> None:
    (state / "state.db").chmod(0o666)


def open_directory(state: Path) -> None:
    state.chmod(0o777)


def symlink(state: Path) -> None:
    shutil.move(state / "state.db", state / "elsewhere.db")
    (state / "state.db").symlink_to(state / "elsewhere.db")


def directory(state: Path) -> None:
    os.unlink(state / "state.db")
    (state / "state.db").mkdir()


def journal(state: Path) -> None:
    with contextlib.closing(sqlite3.connect(state / "state.db")) as db, db:
        db.execute("INSERT INTO journal (verb, phase, scope, redo) VALUES ('attach', 'applying', ?, ?)", (b"x", b"y"))


def journal_edit(state: Path) -> None:
    import marshal

    scope, redo = marshal.dumps((False, ["a"]), 2), marshal.dumps(([("networks", ("br9",))], ()), 2)
    with contextlib.closing(sqlite3.connect(state / "state.db")) as db, db:
        db.execute("INSERT INTO journal (verb, phase, scope, redo) VALUES ('attach', 'applying', ?, ?)", (scope, redo))


def begun(state: Path) -> None:
    (state / "lock").write_bytes((5).to_bytes(8, "little") + b"torn.")


def begun_longer_than_the_file(state: Path) -> None:
    (state / "lock").write_bytes((2**63).to_bytes(8, "little") + b"torn.")


def open_lock(state: Path) -> None:
    (state / "lock").chmod(0o666)


def lock_elsewhere(state: Path) -> None:
    shutil.move(state / "lock", state / "elsewhere")
    (state / "lock").symlink_to(state / "elsewhere")


def row(state: Path) -> None:
    with contextlib.closing(sqlite3.connect(state / "state.db")) as db, db:
        db.execute("UPDATE attachments SET mac = 'no mac'")


def put_down(state: Path) -> None:
    """Bring the log into the file, so that what is done to it counts."""
    with contextlib.closing(sqlite3.connect(state / "state.db")) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")


SPOILS: dict[Callable[[Path], None], str] = {
    truncated: "malformed|not a database|disk I/O|disk image",
    half_a_page: "malformed|not a database|disk I/O|disk image|file is",
    random_bytes: "malformed|not a database",
    another_database: "is not a state file of isthmus",
    text: "not a database",
    newer: "is of version 999",
    open_file: "can be written by others",
    open_directory: "can be written by others",
    symlink: "is no regular file",
    directory: "is no regular file",
    journal: "journal: entry .* makes no sense",
    journal_edit: "makes no sense",
    begun: "lock: what a call had begun makes no sense",
    begun_longer_than_the_file: "cannot read .*lock",
    open_lock: "lock can be written by others",
    lock_elsewhere: "cannot open .*lock: Too many levels",
    row: "makes no sense",
}


@pytest.fixture
def filled(lab: Lab) -> Lab:
    lab.host.isthmus("network", "create", "br0", "--subnet", "10.7.0.0/24")
    lab.host.isthmus("ns", "create", "a")
    lab.host.isthmus("ns", "create", "b")
    lab.host.isthmus("attach", "br0", "a", "-p", "8080:80")
    return lab


def bytes_of(state: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in state.iterdir() if path.name == "state.db" and path.is_file()}


@pytest.mark.parametrize("spoil", SPOILS, ids=lambda spoil: spoil.__name__)
def test_a_spoiled_state_file_is_refused(filled: Lab, spoil: Callable[[Path], None]) -> None:
    host = filled.host
    state = host.path / "state"
    put_down(state)
    spoil(state)
    before, held = snapshot(host), bytes_of(state)
    for argv in (("detach", "br0", "a"), ("network", "create", "br1"), ("down", "--all"), ("repair",)):
        done = host.isthmus(*argv, check=False)
        assert done.returncode == 1, (argv, done.returncode, done.stdout, done.stderr)
        assert done.stderr.startswith("error: "), done.stderr
        assert "Traceback" not in done.stderr
        assert re.search(SPOILS[spoil], done.stderr), done.stderr
        assert "unexpected" not in done.stderr
    assert snapshot(host) == before
    if spoil in (another_database, text):
        assert bytes_of(state) == held
