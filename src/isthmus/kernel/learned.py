"""Routes that the kernel learned of router advertisements, which it is to know as learned at another link too.

rtnetlink cannot add one: what comes by it has no RTF_ADDRCONF, so an advertisement that ends the route does not find
it, and it joins others of its metric to a multipath route. The older ioctl takes the flag, and no protocol (it is
`boot` then). Source: linux/ipv6_route.h; net/ipv6/route.c, rt6_get_dflt_router and rt6_qualify_for_ecmp.
"""

from __future__ import annotations

import errno
from _socket import AF_INET6, SOCK_CLOEXEC, SOCK_DGRAM, socket
from fcntl import ioctl
from struct import Struct

from isthmus.errors import KernelError
from isthmus.netlink.rtnl import carried as rtnl
from isthmus.netlink.wire import attributes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    Learned = tuple[bytes, int, bytes, int]  # destination, its length, gateway, metric

__all__ = ["is_learned", "learn", "learned_routes"]

_SIOCADDRT: Final = 0x890B
# struct in6_rtmsg: destination, source, gateway, type, their lengths, metric, info, flags, ifindex
_RTMSG: Final = Struct("@16s16s16sIHHILIi")
_RTF_UP, _RTF_GATEWAY, _RTF_DEFAULT, _RTF_ADDRCONF = 0x1, 0x2, 0x10000, 0x40000
_RTF_EXPIRES, _RTF_ROUTEINFO, _RTF_PREF_SHIFT = 0x400000, 0x800000, 27
_RT_TABLE_MAIN: Final = 254
_RTA_PREF: Final = 20


def learned_routes(name: str) -> frozenset[Learned]:
    """Return the routes by a gateway that the kernel learned on a link."""
    try:
        with open("/proc/thread-self/net/ipv6_route") as file:
            lines = [line.split() for line in file]
    except FileNotFoundError:  # no IPv6
        return frozenset()
    wanted = _RTF_GATEWAY | _RTF_ADDRCONF
    return frozenset(
        (bytes.fromhex(line[0]), int(line[1], 16), bytes.fromhex(line[4]), int(line[5], 16))
        for line in lines
        if line[9] == name and int(line[8], 16) & wanted == wanted
    )


def is_learned(payload: bytes, learned: frozenset[Learned]) -> bool:
    """Whether a route is one of those; all are of table main."""
    return rtnl.RTMSG.unpack_from(payload)[4] == _RT_TABLE_MAIN and _key(payload) in learned


def _key(payload: bytes) -> Learned:
    found = attributes(payload, rtnl.RTMSG.size)
    metric = int.from_bytes(found.get(rtnl.RTA_PRIORITY, b""), "little")
    return found.get(rtnl.RTA_DST, bytes(16)), payload[1], found.get(rtnl.RTA_GATEWAY, b""), metric


def learn(payload: bytes, index: int, subject: str) -> None:
    """Have the kernel know a route as learned on a link; one that it knows is content.

    Raises:
        KernelError: it refuses.
    """
    destination, length, gateway, metric = _key(payload)
    found = attributes(payload, rtnl.RTMSG.size)
    expires = int.from_bytes(found.get(rtnl.RTA_CACHEINFO, bytes(12))[8:12], "little", signed=True)
    flags = _RTF_UP | _RTF_GATEWAY | _RTF_ADDRCONF | (_RTF_ROUTEINFO if length else _RTF_DEFAULT)
    flags |= (found.get(_RTA_PREF, b"\0")[0] & 3) << _RTF_PREF_SHIFT | (_RTF_EXPIRES if expires > 0 else 0)
    message = _RTMSG.pack(destination, bytes(16), gateway, 0, length, 0, metric, max(expires, 0), flags, index)
    probe = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC)
    try:
        ioctl(probe, _SIOCADDRT, message)
    except OSError as cause:
        if cause.errno != errno.EEXIST:
            raise KernelError("move", subject, cause.errno or 0) from cause
    finally:
        probe.close()
