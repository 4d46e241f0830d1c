"""What is drawn at random for a network and its ports: MACs, and the names of host ends, which have theirs."""

from __future__ import annotations

import os

from isthmus.model.address import Mac
from isthmus.model.network import host_end

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from isthmus.netlink.rtnl.link import Link

__all__ = ["draw_host_end", "draw_mac"]

_PREFIX: Final = 0xFE  # of `Attachment.host_mac`
_ENDS: Final = 1 << 40


def draw_mac() -> Mac:
    """Return a random locally administered unicast MAC."""
    return Mac(packed=b"\x02" + os.urandom(5))


def draw_host_end(bridge: Link | None) -> str:
    """Return a random name of a host end; its MAC is above that of an adopted bridge.

    The kernel gives a bridge the lowest MAC of its ports, unless one was set, and drops its neighbours where that
    is another one: net/bridge/br_stp_if.c, br_stp_recalculate_bridge_id; net/core/neighbour.c, neigh_changeaddr.
    """
    drawn, lowest = int.from_bytes(os.urandom(5), "big"), 0
    if bridge is not None and bridge.mac is not None and bridge.mac.packed[0] == _PREFIX:
        lowest = min(int.from_bytes(bridge.mac.packed[1:], "big") + 1, _ENDS - 1)
    return host_end((lowest + drawn % (_ENDS - lowest)).to_bytes(5, "big"))
