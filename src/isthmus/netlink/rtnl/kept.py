"""What hung on a link and is kept: by what it is known at another link, and what is left of it after a while.

Source: linux/if_addr.h struct ifa_cacheinfo, linux/rtnetlink.h struct rta_cacheinfo.
"""

from __future__ import annotations

from struct import Struct

from isthmus.netlink.rtnl import carried as rtnl
from isthmus.netlink.wire import attr, attribute_list, attributes, decoder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from isthmus.model.carried import CarriedKind as Kind

__all__ = ["aged", "likeness"]

_LIFETIMES: Final = Struct("=II")  # preferred, valid; what follows are stamps
_EXPIRES: Final = Struct("=i")  # at offset 8
_FOREVER: Final = 0xFFFFFFFF
_HZ: Final = 100  # USER_HZ, which rta_expires counts in
_RTA_METRICS, _RTA_PREF = 8, 20
# Not what a route is known by: its link, its age, and what it has not when it is learned once more.
_NOT_COMPARED: Final = frozenset(
    {rtnl.RTA_IIF, rtnl.RTA_OIF, rtnl.RTA_CACHEINFO, rtnl.RTA_EXPIRES, _RTA_METRICS, _RTA_PREF}
)


@decoder
def likeness(kind: Kind, payload: bytes, index: int, *, settled: bool = False) -> tuple[object, ...]:
    """Return what is equal for the same thing at two links; `index` is that of the link that a payload is of.

    `settled`: an address that was hung, and has not its own flags yet, is another one.
    """
    if kind == rtnl.ADDRESS:
        return kind, rtnl.identity(payload), settled and rtnl.is_nodad(payload)
    if kind == rtnl.NEXTHOP:
        return kind, rtnl.nexthop_id(kind, payload)
    if kind == rtnl.NEIGHBOUR:
        family, _, _, flags, _ = rtnl.NDMSG.unpack_from(payload)
        return kind, family, flags, attributes(payload, rtnl.NDMSG.size).get(rtnl.NDA_DST)
    family, length, source, tos, table, _, scope, which, _ = rtnl.RTMSG.unpack_from(payload)
    found = attributes(payload, rtnl.RTMSG.size)
    kept = [(one, data) for one, data in found.items() if one not in _NOT_COMPARED and one != rtnl.RTA_MULTIPATH]
    hops = rtnl.hops(found.get(rtnl.RTA_MULTIPATH, b""), index, 0)
    return kind, family, length, source, tos, table, scope, which, hops, frozenset(kept)


@decoder
def aged(kind: Kind, payload: bytes, seconds: float) -> bytes | None:
    """Return what is left of an address or route after so many seconds; None: it has expired."""
    heads = {rtnl.ADDRESS: (rtnl.IFADDRMSG, rtnl.IFA_CACHEINFO), rtnl.ROUTE: (rtnl.RTMSG, rtnl.RTA_CACHEINFO)}
    if kind not in heads:
        return payload
    head, cacheinfo = heads[kind]
    parts = [payload[: head.size]]
    for one, data in attribute_list(payload, head.size):
        if one == cacheinfo:
            left = _address_left(data, seconds) if kind == rtnl.ADDRESS else _route_left(data, seconds)
            if left is None:
                return None
            data = left
        parts.append(attr(one, data))
    return b"".join(parts)


def _address_left(data: bytes, seconds: float) -> bytes | None:
    preferred, valid = (one if one == _FOREVER else int(one - seconds) for one in _LIFETIMES.unpack_from(data))
    return None if valid <= 0 else _LIFETIMES.pack(max(preferred, 0), valid) + data[_LIFETIMES.size :]


def _route_left(data: bytes, seconds: float) -> bytes | None:
    (expires,) = _EXPIRES.unpack_from(data, 8)
    left = expires - int(seconds * _HZ)
    if expires <= 0:
        return data
    return None if left < _HZ else data[:8] + _EXPIRES.pack(left) + data[12:]
