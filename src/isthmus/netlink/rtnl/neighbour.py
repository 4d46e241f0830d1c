"""RTM_DELNEIGH. Source: linux/neighbour.h."""

from __future__ import annotations

from struct import Struct

from isthmus.model.address import Address
from isthmus.netlink.wire import Request, attr

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

__all__ = ["delete"]

_RTM_DELNEIGH: Final = 29
_NDA_DST: Final = 1
_MSG: Final = Struct("=BxxxiHBB")  # struct ndmsg: family, ifindex, state, flags, type


def delete(index: int, address: Address) -> Request:
    """Delete an entry of the neighbour cache; ENOENT: there is none."""
    payload = _MSG.pack(address.af, index, 0, 0, 0) + attr(_NDA_DST, address.packed)
    return Request(_RTM_DELNEIGH, 0, payload, "forget neighbour", str(address))
