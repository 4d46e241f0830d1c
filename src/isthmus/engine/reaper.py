"""Clear away what waits: dead links, the flows of freed addresses, the log of the state file.

The kernel makes whoever deletes a veth wait some 20 ms, and one walk of the connection-tracking table takes
5: whoever can wait does it. A resident's thread, a child that a one-shot call leaves behind, or the next
call; nothing is lost when it is killed.
"""

from __future__ import annotations

import os

from isthmus.kernel.access import Access
from isthmus.kernel.beside import argv_of, source_of
from isthmus.kernel.dead import reap_links
from isthmus.kernel.flows import forget_addresses
from isthmus.model.address import Address
from isthmus.store.sqlite import Database

__all__ = ["leave_to_child", "reap"]


def reap(directory: str) -> None:
    """Delete the links of the dead group if all in it are ours, forget freed addresses' flows, checkpoint."""
    access = Access()
    try:
        reap_links(access)
        _reap_rows(access, directory)
    finally:
        access.close()


def _reap_rows(access: Access, directory: str) -> None:
    database = Database(directory, writable=True)
    try:
        rows = [(str(what),) for (what,) in database.all("SELECT what FROM trash")]
        addresses = {Address.parse(what[6:]) for (what,) in rows if what.startswith("flows ")}
        if addresses:
            forget_addresses(access, addresses)
        database.run_many("DELETE FROM trash WHERE what = ?", rows)
        database.run("PRAGMA wal_checkpoint(PASSIVE)")
    finally:
        database.close()


def leave_to_child(directory: str) -> None:
    """Leave the reaping to a process of its own, which outlives this one and inherits nothing.

    A fresh interpreter, not a fork: SQLite forbids the use of a connection across one.
    """
    null = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in (0, 1, 2)]
    argv = argv_of(source_of(__name__, "reap", directory))
    os.posix_spawn(argv[0], argv, os.environ, file_actions=null, setsid=True)
