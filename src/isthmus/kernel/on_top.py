"""What somebody else made on a link, and goes with it: a macvlan, a VLAN, a VXLAN over it, also in another namespace.

Source: IFLA_LINK, IFLA_LINK_NETNSID and RTM_GETNSID of rtnetlink(7), linux/net_namespace.h.
"""

from __future__ import annotations

import os

from isthmus.kernel.access import Access
from isthmus.kernel.netns import RUN, Inside, own_cookie
from isthmus.kernel.netns_locate import distinct
from isthmus.model.host import HOST
from isthmus.netlink.rtnl import link as rtnl_link
from isthmus.netlink.rtnl import nsid
from isthmus.netlink.socket import NETLINK_ROUTE, Socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Iterator

    from isthmus.netlink.rtnl.link import Link

__all__ = ["on_top"]


def on_top(access: Access, link: Link, *, besides: Container[str] = ()) -> Iterator[str]:
    """Yield kind and name of each link on one of the host, and where that is if elsewhere; none of kinds `besides`."""
    here = (rtnl_link.decode(one) for one in access.route(HOST).dump(rtnl_link.all_links()))
    yield from (_words(one) for one in here if _is_on(one, link, besides) and one.peer_netnsid < 0)
    own = own_cookie()
    for path, fd, number in distinct():
        if number != own:
            yield from (f"{_words(one)} in {_place(path)}" for one in _from_within(fd, link, besides))


def _from_within(fd: int, link: Link, besides: Container[str]) -> list[Link]:
    """Return the links of a namespace that are on a link of the host."""
    with Inside(fd):
        socket = Socket(NETLINK_ROUTE)
    try:
        links = [rtnl_link.decode(one) for one in socket.dump(rtnl_link.all_links())]
        links = [one for one in links if _is_on(one, link, besides) and one.peer_netnsid >= 0]
        number = nsid.decode(socket.get(nsid.number_of(os.getpid()))) if links else -1
        return [one for one in links if one.peer_netnsid == number]
    finally:
        socket.close()


def _is_on(one: Link, link: Link, besides: Container[str]) -> bool:
    """Whether it is on the link, if that is in the namespace that it tells of; a veth's other end is no such thing."""
    return one.peer == link.index and one.kind != "veth" and one.kind not in besides


def _words(one: Link) -> str:
    return f"{one.kind} {one.name}"


def _place(path: str) -> str:
    folder, _, name = path.rpartition("/")
    return name if folder == RUN else f"the namespace of pid {path.split('/')[2]}"
