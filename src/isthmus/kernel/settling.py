"""Wait until a port of somebody else's bridge forwards: with STP it listens and learns first.

Ours have STP off and forward at once. Source: linux/if_bridge.h BR_STATE_*, IEEE 802.1D section 8.4.
"""

from __future__ import annotations

import time

from isthmus.kernel.access import Access
from isthmus.model.host import HOST
from isthmus.netlink.rtnl.link import RTNLGRP_LINK
from isthmus.netlink.socket import NETLINK_ROUTE, Socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

__all__ = ["await_forwarding"]

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
    events = Socket(NETLINK_ROUTE, groups=(RTNLGRP_LINK,))
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
