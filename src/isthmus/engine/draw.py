"""What is drawn at random for a network and its ports: MACs, and the names of host ends, which have theirs."""

from __future__ import annotations

import os

from isthmus.model.address import Mac
from isthmus.model.host import HOST
from isthmus.model.network import host_end

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from isthmus.kernel.access import Access
    from isthmus.model.network import Network

__all__ = ["draw_host_end", "draw_mac"]

_PREFIX: Final = 0xFE  # of `Attachment.host_mac`
_ENDS: Final = 1 << 40


def draw_mac() -> Mac:
    """Return a random locally administered unicast MAC."""
    return Mac(packed=b"\x02" + os.urandom(5))


def draw_host_end(access: Access, network: Network) -> str:
    """Return a random name of a host end whose MAC is above that of an adopted bridge.

    The kernel gives a bridge the lowest MAC of its ports, unless one was set, and drops its neighbours where that
    is another one: net/bridge/br_stp_if.c, br_stp_recalculate_bridge_id; net/core/neighbour.c, neigh_changeaddr.
    """
    drawn = os.urandom(5)
    bridge = access.link(HOST, network.bridge) if network.adopted else None
    if bridge is not None and bridge.mac is not None and bridge.mac.packed[0] == _PREFIX:
        above = int.from_bytes(bridge.mac.packed[1:], "big") + 1
        room = max(_ENDS - above, 1)
        drawn = min(above + int.from_bytes(drawn, "big") % room, _ENDS - 1).to_bytes(5, "big")
    return host_end(drawn)
