"""Links that were cut off and wait for their deletion: it takes the kernel some 20 ms, whoever asks for it."""

from __future__ import annotations

import errno

from isthmus.kernel.access import Access
from isthmus.model.host import HOST, TRASH_GROUP
from isthmus.netlink.rtnl import link as rtnl_link

__all__ = ["reap_links"]


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
