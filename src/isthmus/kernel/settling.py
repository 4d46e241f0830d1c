"""Wait for what the kernel makes ready a while after it was asked for.

A port of somebody else's bridge: with STP it listens and learns first; ours have STP off and forward at once. Source:
linux/if_bridge.h BR_STATE_*, IEEE 802.1D section 8.4. An IPv6 address: also without detection of duplicates its local
route comes when a worker has had the lock of all links. Source: net/ipv6/addrconf.c, addrconf_dad_work.
"""

from __future__ import annotations

import errno
import time

from isthmus.kernel.access import Access
from isthmus.model.address import IPV6, Address
from isthmus.model.host import HOST
from isthmus.netlink.rtnl import route as rtnl_route
from isthmus.netlink.rtnl.link import RTNLGRP_LINK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

__all__ = ["await_forwarding", "await_usable"]

# Port state -> forward delays until it forwards: disabled (its carrier is not seen yet), listening, learning.
_NOT_YET: Final = {0: 2, 1: 2, 2: 1}


def await_forwarding(access: Access, ifname: str, bridge: str, patience_s: float) -> float:
    """Wait for a port to leave listening and learning; return how many seconds it may take still.

    0.0: it forwards (or does not try to). Longer than `patience_s` is not waited for.
    """
    link = access.link(HOST, bridge)
    if link is None or not link.stp:
        return 0.0
    delay_s = link.forward_delay_cs / 100
    events = access.events(HOST, RTNLGRP_LINK)
    try:
        deadline = time.monotonic() + patience_s
        while True:
            port = access.link(HOST, ifname)
            if port is None or port.port_state not in _NOT_YET:
                return 0.0
            left_s = delay_s * _NOT_YET[port.port_state]
            remaining = deadline - time.monotonic()
            if left_s > remaining + delay_s or not events.wait(remaining):
                return left_s
    finally:
        events.close()


def await_usable(access: Access, netns: str, index: int, addresses: set[Address], patience_s: float) -> None:
    """Wait until packets to IPv6 addresses of a link are taken up; no longer than `patience_s`."""
    if addresses <= _taken_up(access, netns, index):
        return
    events = access.events(netns, rtnl_route.RTNLGRP_IPV6_ROUTE)
    try:
        deadline = time.monotonic() + patience_s
        while not addresses <= _taken_up(access, netns, index) and events.wait(deadline - time.monotonic()):
            pass
    finally:
        events.close()


def _taken_up(access: Access, netns: str, index: int) -> set[Address]:
    dumped = access.route(netns).dump(rtnl_route.local_routes(IPV6, index), absent=errno.ENOENT)
    return {one.prefix.first for one in map(rtnl_route.decode, dumped) if one.is_local}
