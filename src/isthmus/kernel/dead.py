"""Links that were cut off and wait for their deletion: it takes the kernel some 20 ms, whoever asks for it."""

from __future__ import annotations

import errno
import os

from isthmus.errors import NotFound, Refused
from isthmus.kernel.access import Access
from isthmus.model.host import HOST, TRASH_GROUP, Veth
from isthmus.netlink.rtnl import link as rtnl_link

TYPE_CHECKING = False
if TYPE_CHECKING:
    from isthmus.netlink.rtnl.link import Link

__all__ = ["clear_the_way", "cut_renamed", "reap_links"]


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


def cut_renamed(access: Access, item: Veth) -> None:
    """Cut a pair off whose end at the host somebody renamed: it is known by its other end, and by its alias.

    Raises:
        KernelError: the kernel refused it.
    """
    try:
        far = access.link(item.peer_netns, item.peer_name)
    except NotFound:
        return  # the pair went with its namespace
    near = access.link_at(HOST, far.peer) if far is not None and far.peer else None
    if far is None or near is None or near.peer != far.index or near.alias != item.alias:
        return
    answer = access.route(HOST).ask([rtnl_link.cut_off(near.name, TRASH_GROUP)])[0]
    if answer.errno not in (0, errno.ENODEV):
        raise answer.error()


def clear_the_way(access: Access, item: Veth) -> None:
    """Rename dead links of ours out of the way of a new pair's names; the same pair under another name is cut off.

    Raises:
        Refused: a name is another link's.
    """
    if item.netns == HOST and access.link(HOST, item.name) is None:
        cut_renamed(access, item)
    for netns, name in ((item.peer_netns, item.peer_name), (item.netns, item.name)):
        found = access.link(netns, name)
        if found is None:
            continue
        if not _is_dead(access, netns, found):
            if access.link(netns, name) is None:
                continue  # deleted between the looks at its two ends
            where = "the host" if netns == HOST else netns
            raise Refused(f"cannot create link {name} in {where}: a link of that name is there already")
        free = f"dead{os.urandom(4).hex()}"
        down = rtnl_link.change(found.index, subject=f"link {name}", up=False)
        for answer in access.route(netns).ask([down, rtnl_link.change(found.index, subject=f"link {name}", name=free)]):
            if answer.errno not in (0, errno.ENODEV):  # deleted meanwhile
                raise answer.error()


def _is_dead(access: Access, netns: str, link: Link) -> bool:
    """Whether a link is of a pair of ours that was cut off; the host's end is marked."""
    if netns != HOST:
        far = access.link_at(HOST, link.peer) if link.peer else None
        if far is None or far.peer != link.index:
            return False
        link = far
    return link.group == TRASH_GROUP and link.alias.startswith("isthmus ")
