"""What an interface carried when it moved to its bridge stands in for what went with that bridge.

A link takes all that hangs on it along when it is deleted, and much of it when it is set down: of IPv4 its addresses
stay, and routes go; of IPv6 both go (net/ipv6/addrconf.c, addrconf_ifdown). While the bridge stands and is up, what
hangs on it is the truth.
"""

from __future__ import annotations

import errno
import time

from isthmus.model.carried import Carried, Kept
from isthmus.model.host import HOST
from isthmus.netlink.rtnl import carried as rtnl
from isthmus.netlink.rtnl.kept import aged, likeness
from isthmus.netlink.rtnl.words import words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from isthmus.kernel.access import Access
    from isthmus.netlink.rtnl.link import Link

    Hung = tuple[Link | None, Iterable[Carried]]

__all__ = ["lost", "narrowed", "vanishes", "with_these"]


def vanishes(kept: Kept, bridge: Link | None) -> bool:
    """Whether what is not on a bridge may have gone with it."""
    return kept.moving or bridge is None or not bridge.is_up


def lost(access: Access, kept: Kept, bridge: Link | None, *hung: Hung) -> Iterator[Carried]:
    """Yield what was kept, has not expired since and does not hang on any of these links."""
    there = _likenesses(access, *hung, settled=kept.moving)
    now = _now()
    for one, since in kept.items:
        if likeness(one.kind, one.payload, kept.index, settled=kept.moving) in there:
            continue
        if bridge is not None and not kept.moving and one.kind == rtnl.ADDRESS and one.payload[0] == rtnl.AF_INET:
            continue  # somebody took it off
        payload = aged(one.kind, one.payload, now - since)
        if payload is not None:
            told = words(one.kind, payload, kept.name, kept.index, one.arrival)
            yield one.replace(payload=payload, words=told)


def with_these(access: Access, kept: Kept | None, nic: Link, carried: Iterable[Carried]) -> Kept:
    """Return what is kept with what an interface carries now, too."""
    if kept is None or kept.index != nic.index:
        kept = Kept(index=nic.index, name=nic.name)
    items = {likeness(one.kind, one.payload, kept.index): (one, since) for one, since in kept.items}
    for one in (*carried, *_along(access, nic)):
        if one.arrival != "made":
            items[likeness(one.kind, one.payload, nic.index)] = (one, _now())
    return kept.replace(items=tuple(items.values()), moving=True)


def narrowed(access: Access, kept: Kept, *hung: Hung) -> Kept:
    """Return what is kept without what does not hang on any of these links."""
    there = _likenesses(access, *hung)
    items = [item for item in kept.items if likeness(item[0].kind, item[0].payload, kept.index) in there]
    return kept.replace(items=tuple(items), moving=True)


def _likenesses(access: Access, *hung: Hung, settled: bool = False) -> set[tuple[object, ...]]:
    found = set()
    for link, carried in hung:
        if link is not None:
            all_ = (*carried, *_along(access, link))
            found |= {likeness(one.kind, one.payload, link.index, settled=settled) for one in all_}
    return found


def _along(access: Access, link: Link) -> Iterator[Carried]:
    """Yield the routes by next-hop objects of a link: they move with those, and go with them."""
    socket = access.route(HOST)
    dumped = [(kind, request) for kind, request in rtnl.dump(link.index) if kind in (rtnl.NEXTHOP, rtnl.ROUTE)]
    ids: set[bytes] = set()
    for kind, request in dumped:
        payloads = socket.dump(request, absent=errno.ENOENT)
        if kind == rtnl.NEXTHOP:
            ids = {rtnl.nexthop_id(kind, one) for one in payloads}
        elif ids:
            yield from (Carried(kind=kind, payload=one) for one in payloads if rtnl.nexthop_id(kind, one) in ids)


def _now() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)
