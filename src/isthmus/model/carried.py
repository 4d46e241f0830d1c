"""What hangs on a link, and goes where that goes."""

from __future__ import annotations

from isthmus.model.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

    CarriedKind = Literal["address", "nexthop", "route", "neighbour"]
    Arrival = Literal["first", "last", "learned", "made"]

__all__ = ["Carried", "Kept"]


class Carried(Value):
    """What hangs on a link and moves with it: an address, a next hop, a route, a permanent neighbour.

    `kind` is one of netlink/rtnl/carried.py, `payload` the kernel's own message; `words` is what ip(8) is told,
    with `{dev}` for the link's name. `arrival` is how it comes to the new link: before or behind all to the same
    destination, as learned of a router, or made by the kernel itself, so that it is only taken off the old one.
    """

    kind: CarriedKind
    payload: bytes
    words: tuple[str, ...] = ()
    arrival: Arrival = "last"


class Kept(Value):
    """What a link carried when it moved to its bridge, put down in case the bridge goes and takes it along.

    `items` are its payloads as they were on that link, and when each was (seconds since the boot). `moving`: a move is
    under way, so that what is at neither end is not gone because somebody took it off.
    """

    index: int
    name: str
    items: tuple[tuple[Carried, float], ...] = ()
    moving: bool = False
