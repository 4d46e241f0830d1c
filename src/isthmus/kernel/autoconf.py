"""IPv6 by router advertisements on a link inside: whether it asks for them, and what it takes of them.

Source: Documentation/networking/ip-sysctl.rst; net/ipv6/addrconf.c: a write of `addr_gen_mode` makes the link-local
address, without which no router is solicited, at once (addrconf_sysctl_addr_gen_mode); netlink does not.
"""

from __future__ import annotations

import errno

from isthmus.kernel.access import Access
from isthmus.kernel.netns import Inside
from isthmus.kernel.sysctl import read_sysctl, write_sysctl
from isthmus.model.host import Autoconf
from isthmus.netlink.rtnl import route as rtnl_route

__all__ = ["read_autoconf", "write_autoconf"]


def read_autoconf(access: Access, item: Autoconf) -> Autoconf | None:
    """Return how a link is set; None: it does not ask for advertisements."""
    with Inside(access.fd(item.netns)):
        for one in (item.replace(default_route=True), item.replace(default_route=False)):
            if all(read_sysctl(name) == value for name, value in one.sysctls()):
                return one
    return None


def write_autoconf(access: Access, item: Autoconf, *, on: bool) -> None:
    """Set a link; a default route that it is not to have (any more) is taken away."""
    with Inside(access.fd(item.netns)):
        for name, value in item.sysctls(on=on):
            write_sysctl(name, value)
    if on and item.default_route:
        return
    socket, index = access.route(item.netns), access.index(item.netns, item.ifname)
    for payload in socket.dump(rtnl_route.main_routes(6, index), absent=errno.ENOENT):
        route = rtnl_route.decode(payload)
        if route.is_default and route.is_learned and route.via is not None:
            subject = f"link {item.ifname}"
            socket.ask([rtnl_route.delete(route.prefix, route.via, index, subject, protocol=route.protocol)])
