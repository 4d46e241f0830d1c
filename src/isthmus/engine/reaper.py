"""Clear away what waits: dead links, the flows of freed addresses, the log of the state file.

The kernel makes whoever deletes a veth wait some 20 ms, and one walk of the connection-tracking table takes
5: whoever can wait does it. A resident's thread, a child that a one-shot call leaves behind, or the next
call; nothing is lost when it is killed.
"""

from __future__ import annotations

import errno
import os

from isthmus.kernel.access import Access
from isthmus.kernel.flows import forget_address
from isthmus.model.address import Address
from isthmus.model.host import HOST, TRASH_GROUP
from isthmus.netlink.rtnl import link as rtnl_link
from isthmus.store.sqlite import Database

__all__ = ["leave_to_child", "reap"]


def reap(directory: str) -> None:
    """Delete the links of the dead group if all in it are ours, forget freed addresses' flows, checkpoint."""
    access = Access()
    database = Database(directory, writable=True)
    try:
        reap_links(access)
        for (what,) in database.all("SELECT what FROM trash"):
            kind, _, subject = str(what).partition(" ")
            if kind == "flows":
                forget_address(access, Address.parse(subject))
            database.run("DELETE FROM trash WHERE what = ?", (what,))
        database.run("PRAGMA wal_checkpoint(PASSIVE)")
    finally:
        database.close()
        access.close()


def reap_links(access: Access) -> None:
    """Delete the links that wait in the dead group."""
    socket = access.route(HOST)
    dead = [rtnl_link.decode(one) for one in socket.dump(rtnl_link.all_links())]
    dead = [one for one in dead if one.group == TRASH_GROUP]
    if not dead:
        return
    if all(one.alias.startswith("isthmus ") for one in dead):
        answer = socket.ask([rtnl_link.delete_group(TRASH_GROUP)])[0]
        if answer.errno not in (0, errno.ENODEV):
            raise answer.error()
        return
    # A stranger put a link into our group: delete ours one by one.
    for one in dead:
        if one.alias.startswith("isthmus "):
            socket.ask([rtnl_link.delete(one.name)])


def leave_to_child(directory: str) -> None:
    """Fork a child that reaps and outlives this process, with none of its descriptors."""
    if os.fork():
        return
    try:
        os.setsid()
        devnull = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(devnull, fd)
        os.closerange(3, 1 << 16)
        reap(directory)
    except BaseException:  # noqa: BLE001 - a child must end here whatever happens
        os._exit(1)  # the next call finds what is left by its group
    os._exit(0)
