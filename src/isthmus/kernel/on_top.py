"""What somebody else made on a link, and goes with it: a macvlan, a VLAN, a VXLAN over it, also in another namespace.

Source: IFLA_LINK, IFLA_LINK_NETNSID and RTM_GETNSID of rtnetlink(7), linux/net_namespace.h.
"""

from __future__ import annotations

import os

from isthmus.errors import InvalidInput, NotFound, NotPermitted
from isthmus.kernel.access import Access
from isthmus.kernel.netns import Inside, cookie, open_netns, own_cookie
from isthmus.kernel.netns_locate import candidates
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
    own = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        seen = {own_cookie()}
        for path in candidates():
            try:
                fd = open_netns(path)
            except (NotFound, NotPermitted, InvalidInput):
                continue
            try:
                number = cookie(fd)
                if number not in seen:
                    seen.add(number)
                    yield from (f"{_words(one)} in {_place(path)}" for one in _from_within(fd, own, link, besides))
            finally:
                os.close(fd)
    finally:
        os.close(own)


def _from_within(fd: int, own: int, link: Link, besides: Container[str]) -> list[Link]:
    """Return the links of a namespace that are on a link of the host, whose namespace `own` is open on."""
    with Inside(fd):
        socket = Socket(NETLINK_ROUTE)
    try:
        links = [rtnl_link.decode(one) for one in socket.dump(rtnl_link.all_links())]
        links = [one for one in links if _is_on(one, link, besides) and one.peer_netnsid >= 0]
        number = nsid.decode(socket.get(nsid.number_of(own))) if links else -1
        return [one for one in links if one.peer_netnsid == number]
    finally:
        socket.close()


def _is_on(one: Link, link: Link, besides: Container[str]) -> bool:
    """Whether it is on the link, if that is in the namespace that it tells of; a veth's other end is no such thing."""
    return one.peer == link.index and one.kind != "veth" and one.kind not in besides


def _words(one: Link) -> str:
    return f"{one.kind} {one.name}"


def _place(path: str) -> str:
    return path.rpartition("/")[2] if not path.startswith("/proc/") else f"the namespace of pid {path.split('/')[2]}"
