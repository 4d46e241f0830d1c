"""What hangs on a link: its addresses, next hops, routes and permanent neighbours, hung on another link.

A payload stays the kernel's own, whatever attributes it has; only the ifindex in it is another, and what is the
kernel's to say (expiry stamps, dead or tentative) is left out. Source: linux/if_addr.h, linux/rtnetlink.h,
linux/nexthop.h, linux/neighbour.h.
"""

from __future__ import annotations

from struct import Struct

from isthmus.netlink.wire import (
    NLM_F_APPEND,
    NLM_F_CREATE,
    NLM_F_REPLACE,
    Request,
    attr,
    attr_string,
    attr_u32,
    attribute_list,
    attributes,
    decoder,
    nested,
    text,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Final

    from isthmus.model.carried import Arrival
    from isthmus.model.carried import CarriedKind as Kind

__all__ = [
    "ADDRESS",
    "AF_INET",
    "AF_INET6",
    "NEIGHBOUR",
    "NEXTHOP",
    "ROUTE",
    "behind_others",
    "drop",
    "dump",
    "follows",
    "hang",
    "hops",
    "identity",
    "is_failed",
    "is_made",
    "is_nodad",
    "legs",
    "needs_another",
    "nexthop_id",
    "routes",
    "settle",
]

ADDRESS: Final = "address"
NEXTHOP: Final = "nexthop"
ROUTE: Final = "route"
NEIGHBOUR: Final = "neighbour"
AF_INET: Final = 2
AF_INET6: Final = 10

_RTM_NEWADDR, _RTM_DELADDR, _RTM_GETADDR = 20, 21, 22
_RTM_NEWROUTE, _RTM_DELROUTE, _RTM_GETROUTE = 24, 25, 26
_RTM_NEWNEIGH, _RTM_DELNEIGH, _RTM_GETNEIGH = 28, 29, 30
_RTM_NEWNEXTHOP, _RTM_GETNEXTHOP = 104, 106

IFADDRMSG: Final = Struct("=BBBBI")  # family, prefixlen, flags, scope, index
RTMSG: Final = Struct("=BBBBBBBBI")  # family, dst_len, src_len, tos, table, protocol, scope, type, flags
NDMSG: Final = Struct("=BxxxiHBB")  # family, ifindex, state, flags, type
NHMSG: Final = Struct("=BBBxI")  # family, scope, protocol, flags
RTNEXTHOP: Final = Struct("=HBBi")  # len, flags, hops, ifindex

IFA_ADDRESS, IFA_LOCAL, IFA_LABEL, IFA_CACHEINFO, IFA_FLAGS = 1, 2, 3, 6, 8
IFA_F_OPTIMISTIC, IFA_F_NODAD, IFA_F_DADFAILED, IFA_F_TENTATIVE, IFA_F_NOPREFIXROUTE = 0x04, 0x02, 0x08, 0x40, 0x200
IFA_F_TEMPORARY, IFA_F_PERMANENT = 0x01, 0x80
# What an operator may set: NODAD, OPTIMISTIC, HOMEADDRESS, MANAGETEMPADDR, NOPREFIXROUTE, MCAUTOJOIN.
IFA_F_SETTABLE: Final = 0x02 | 0x04 | 0x10 | 0x100 | 0x200 | 0x400
RTA_DST, RTA_IIF, RTA_OIF, RTA_GATEWAY, RTA_PRIORITY = 1, 3, 4, 5, 6
RTA_MULTIPATH, RTA_CACHEINFO, RTA_TABLE, RTA_VIA, RTA_EXPIRES, RTA_NH_ID = 9, 12, 15, 18, 23, 30
# What a route by a next-hop object shows of it, and is not told.
_OF_NEXTHOP: Final = frozenset({RTA_OIF, RTA_GATEWAY, RTA_MULTIPATH, RTA_VIA, 21, 22})
RTNH_F_ONLINK: Final = 0x4
_RTN_UNICAST: Final = 1
_RTPROT_KERNEL: Final = 2
_RT_TABLE_LOCAL: Final = 255
_HZ: Final = 100  # USER_HZ, which rta_expires counts in
_NUD_PERMANENT: Final = 0x80
_NTF_PROXY: Final = 0x08
NDA_DST: Final = 1
_NDA_IFINDEX: Final = 8
NHA_ID, NHA_OIF = 1, 5
_NHA_ENCAP: Final = 8
_NHA_KEPT: Final = frozenset({1, 4, 5, 6, 7, 8})  # id, blackhole, oif, gateway, encap type, encap
_SET: Final = NLM_F_CREATE | NLM_F_REPLACE


def dump(index: int) -> list[tuple[Kind, Request]]:
    """Return the requests, dumps all, whose answers hang on a link; `follows` says which of them move."""
    what = f"of link {index}"
    requests: list[tuple[Kind, Request]] = [
        (ADDRESS, Request(_RTM_GETADDR, 0, IFADDRMSG.pack(0, 0, 0, 0, index), "read addresses", what))
    ]
    of_link = NHMSG.pack(0, 0, 0, 0) + attr_u32(NHA_OIF, index)
    requests.append((NEXTHOP, Request(_RTM_GETNEXTHOP, 0, of_link, "dump", "next hops")))
    requests += [(ROUTE, routes(family, index)) for family in (AF_INET, AF_INET6)]
    for flags in (0, _NTF_PROXY):
        head = NDMSG.pack(0, 0, 0, flags, 0)
        extra = attr_u32(_NDA_IFINDEX, index) if not flags else b""
        requests.append((NEIGHBOUR, Request(_RTM_GETNEIGH, 0, head + extra, "read neighbours", what)))
    return requests


def routes(family: int, index: int = 0) -> Request:
    """Ask for the routes of all tables, as a dump: those out of a link, or all."""
    head = RTMSG.pack(family, 0, 0, 0, 0, 0, 0, 0, 0) + (attr_u32(RTA_OIF, index) if index else b"")
    return Request(_RTM_GETROUTE, 0, head, "read routes", f"of link {index}" if index else "")


@decoder
def follows(kind: Kind, payload: bytes, index: int, addresses: Iterable[bytes]) -> bool:
    """Whether what a dump brought leaves with the link: not what the kernel takes away with the `addresses`."""
    if kind == NEIGHBOUR:
        _, at, state, flags, _ = NDMSG.unpack_from(payload)
        return at == index and bool(state & _NUD_PERMANENT or flags & _NTF_PROXY) and not _is_group(payload)
    if kind == ROUTE:
        return _is_route_of_its_own(payload, index, addresses)
    return kind != ADDRESS or not _has_expired(payload)


def _has_expired(payload: bytes) -> bool:
    """Whether an address has no lifetime left: the kernel takes it away within a second, and takes no such one."""
    found = attributes(payload, IFADDRMSG.size).get(IFA_CACHEINFO, b"")  # struct ifa_cacheinfo
    return len(found) >= 8 and not int.from_bytes(found[4:8], "little")


def _is_group(payload: bytes) -> bool:
    """Whether a neighbour entry is the kernel's own, for a group or for nobody: its state has no flag but NOARP."""
    return bool(NDMSG.unpack_from(payload)[2] & 0x40)


def _is_route_of_its_own(payload: bytes, index: int, addresses: Iterable[bytes]) -> bool:
    _, _, _, _, table, protocol, _, kind, _ = RTMSG.unpack_from(payload)
    found = attributes(payload, RTMSG.size)
    if RTA_NH_ID in found or index not in _ifindexes(found):
        return False  # it goes with its next hop
    if protocol != _RTPROT_KERNEL:
        return True
    if table == _RT_TABLE_LOCAL or kind != _RTN_UNICAST:
        return False
    makers = [] if RTA_GATEWAY in found else _makers(payload, addresses)
    return not makers or not all(_takes_route_away(one) for one in makers)


def _makers(payload: bytes, addresses: Iterable[bytes]) -> list[bytes]:
    family, length, *_ = RTMSG.unpack_from(payload)
    prefix = attributes(payload, RTMSG.size).get(RTA_DST, b"")
    return [one for one in addresses if _makes_route(one, family, prefix, length)]


def _takes_route_away(address: bytes) -> bool:
    """Whether its connected route goes with it: that of an IPv6 address with a lifetime waits to expire."""
    return address[0] == AF_INET or bool(_flags(address, attributes(address, IFADDRMSG.size)) & IFA_F_PERMANENT)


@decoder
def is_made(kind: Kind, payload: bytes, addresses: Iterable[bytes]) -> bool:
    """Whether what leaves with a link is made at the new one by the kernel itself: of one of the `addresses`.

    A temporary address (RFC 8981), and the connected route of one with a lifetime.
    """
    if kind == ADDRESS:
        found = attributes(payload, IFADDRMSG.size)
        return payload[0] == AF_INET6 and bool(_flags(payload, found) & IFA_F_TEMPORARY)
    if kind != ROUTE or RTMSG.unpack_from(payload)[5] != _RTPROT_KERNEL:
        return False
    return RTA_GATEWAY not in attributes(payload, RTMSG.size) and bool(_makers(payload, addresses))


@decoder
def legs(payload: bytes, index: int) -> list[bytes]:
    """Return a route; of an IPv6 one with several legs those out of one link, which the kernel keeps one by one."""
    hops = attributes(payload, RTMSG.size).get(RTA_MULTIPATH)
    if payload[0] != AF_INET6 or hops is None:
        return [payload]
    rest = [attr(kind, data) for kind, data in attribute_list(payload, RTMSG.size) if kind != RTA_MULTIPATH]
    head = payload[: RTMSG.size] + b"".join(rest)
    return [head + attr(RTA_MULTIPATH, one) for one in _split(hops) if RTNEXTHOP.unpack_from(one)[3] == index]


def _split(hops: bytes) -> Iterator[bytes]:
    offset = 0
    while offset + RTNEXTHOP.size <= len(hops):
        size = max(RTNEXTHOP.unpack_from(hops, offset)[0], RTNEXTHOP.size)
        yield hops[offset : offset + size]
        offset += (size + 3) & ~3


@decoder
def behind_others(payloads: Iterable[bytes], index: int) -> set[bytes]:
    """Return those routes out of a link, of all of a family, that come behind one out of another link.

    Of the same table, destination, type of service and metric: which comes first is the one that is used.
    """
    others = set()
    behind = set()
    for payload in payloads:
        _, length, _, tos, *_ = RTMSG.unpack_from(payload)
        found = attributes(payload, RTMSG.size)
        key = (found.get(RTA_TABLE), found.get(RTA_DST), length, tos, found.get(RTA_PRIORITY))
        if index not in _ifindexes(found):
            others.add(key)
        elif key in others:
            behind.add(payload)
    return behind


@decoder
def needs_another(payload: bytes) -> bool:
    """Whether a route leads to a gateway, which another route must reach first."""
    found = attributes(payload, RTMSG.size)
    return RTA_GATEWAY in found or RTA_VIA in found or RTA_MULTIPATH in found


@decoder
def nexthop_id(kind: Kind, payload: bytes) -> bytes:
    """Return the id of a next-hop object, or of the one that a route goes by; empty: none."""
    head, found = (NHMSG, NHA_ID) if kind == NEXTHOP else (RTMSG, RTA_NH_ID)
    return attributes(payload, head.size).get(found, b"")


def _ifindexes(found: Mapping[int, bytes]) -> set[int]:
    indexes = {int.from_bytes(found[RTA_OIF], "little")} if RTA_OIF in found else set()
    return indexes.union(RTNEXTHOP.unpack_from(one)[3] for one in _split(found.get(RTA_MULTIPATH, b"")))


def _makes_route(address: bytes, family: int, prefix: bytes, length: int) -> bool:
    """Whether the kernel makes this connected route for an address: to its peer; of IPv6 to both ends."""
    its_family, its_length, _, _, _ = IFADDRMSG.unpack_from(address)
    found = attributes(address, IFADDRMSG.size)
    if its_family != family or its_length != length or _flags(address, found) & IFA_F_NOPREFIXROUTE:
        return False
    peer = found[IFA_ADDRESS]
    ends = {peer, found.get(IFA_LOCAL, peer)} if family == AF_INET6 else {peer}
    shift = 8 * len(peer) - length
    return int.from_bytes(prefix, "big") in {int.from_bytes(one, "big") >> shift << shift for one in ends}


def _flags(payload: bytes, found: Mapping[int, bytes]) -> int:
    wide = found.get(IFA_FLAGS)
    return int(IFADDRMSG.unpack_from(payload)[2]) if wide is None else int.from_bytes(wide, "little")


@decoder
def is_failed(payload: bytes) -> bool:
    """Whether an address is used by somebody else, as duplicate-address detection found."""
    return payload[0] == AF_INET6 and bool(_flags(payload, attributes(payload, IFADDRMSG.size)) & IFA_F_DADFAILED)


@decoder
def is_nodad(payload: bytes) -> bool:
    """Whether an address has no duplicate-address detection."""
    return bool(_flags(payload, attributes(payload, IFADDRMSG.size)) & IFA_F_NODAD)


@decoder
def identity(payload: bytes) -> tuple[object, ...]:
    """Return what tells an address from others of one link: family, prefix length, the address itself, its peer."""
    family, length, _, _, _ = IFADDRMSG.unpack_from(payload)
    found = attributes(payload, IFADDRMSG.size)
    return family, length, found.get(IFA_LOCAL), found.get(IFA_ADDRESS)


@decoder
def hang(
    kind: Kind, payload: bytes, source: tuple[int, str], target: tuple[int, str], arrival: Arrival = "last"
) -> Request:
    """Hang it on another link; links are (ifindex, name). An IPv6 address can be used at once there.

    A route is added beside all that there are: to replace one is to replace the first to that destination with that
    metric, whosever it is.
    """
    if kind == ADDRESS:
        return _address(payload, source, target, nodad=True)
    if kind == NEXTHOP:
        return _nexthop(payload, target[0])
    if kind == ROUTE:
        flags = NLM_F_CREATE if arrival == "first" else NLM_F_CREATE | NLM_F_APPEND
        return Request(_RTM_NEWROUTE, flags, _route(payload, source[0], target[0]), "move", "route")
    family, _, state, flags, which = NDMSG.unpack_from(payload)
    head = NDMSG.pack(family, target[0], state, flags, which)
    kept = b"".join(attr(one, data) for one, data in attribute_list(payload, NDMSG.size) if one in (NDA_DST, 2, 12))
    return Request(_RTM_NEWNEIGH, _SET, head + kept, "add neighbour to", f"link {target[1]}")


@decoder
def settle(payload: bytes, source: tuple[int, str], target: tuple[int, str]) -> Request | None:
    """Give an address that was hung its own flags; None: it has them. A change starts no detection."""
    flags = _flags(payload, attributes(payload, IFADDRMSG.size))
    if payload[0] != AF_INET6 or flags & IFA_F_NODAD:
        return None
    return _address(payload, source, target, nodad=False)


@decoder
def drop(kind: Kind, payload: bytes, index: int, name: str) -> Request | None:
    """Take what was hung elsewhere off its old link; None: a next hop left by being replaced."""
    if kind == ADDRESS:
        family, length, _, _, _ = IFADDRMSG.unpack_from(payload)
        found = attributes(payload, IFADDRMSG.size)
        kept = b"".join(attr(one, found[one]) for one in (IFA_LOCAL, IFA_ADDRESS) if one in found)
        head = IFADDRMSG.pack(family, length, 0, 0, index)
        return Request(_RTM_DELADDR, 0, head + kept, "delete address of", f"link {name}")
    if kind == ROUTE:
        return Request(_RTM_DELROUTE, 0, _route(payload, index, index), "delete route of", f"link {name}")
    if kind == NEIGHBOUR:
        family, _, _, flags, _ = NDMSG.unpack_from(payload)
        destination = attributes(payload, NDMSG.size)[NDA_DST]
        head = NDMSG.pack(family, index, 0, flags, 0)
        return Request(_RTM_DELNEIGH, 0, head + attr(NDA_DST, destination), "delete neighbour of", f"link {name}")
    return None


def _address(payload: bytes, source: tuple[int, str], target: tuple[int, str], *, nodad: bool) -> Request:
    family, length, _, scope, _ = IFADDRMSG.unpack_from(payload)
    parts = [IFADDRMSG.pack(family, length, 0, scope, target[0])]
    flags = IFADDRMSG.unpack_from(payload)[2]
    for kind, data in attribute_list(payload, IFADDRMSG.size):
        if kind == IFA_FLAGS:
            flags = int.from_bytes(data, "little")
        elif kind == IFA_LABEL:
            parts.append(attr_string(IFA_LABEL, relabelled(text(data), source[1], target[1])))
        else:
            parts.append(attr(kind, data))
    kept = flags & IFA_F_SETTABLE
    if family == AF_INET6 and nodad and not flags & IFA_F_TENTATIVE:
        kept |= IFA_F_NODAD
    parts.append(attr_u32(IFA_FLAGS, kept))
    return Request(_RTM_NEWADDR, _SET, b"".join(parts), "add address to", f"link {target[1]}")


def relabelled(label: str, source: str, target: str) -> str:
    """Return the label of an address on another link: `eth1:0` becomes `br0:0`."""
    if label == source or label.startswith(f"{source}:"):
        renamed = target + label[len(source) :]
        return renamed if len(renamed.encode()) < 16 else target
    return label


def _nexthop(payload: bytes, index: int) -> Request:
    family, _, protocol, flags = NHMSG.unpack_from(payload)
    parts = [NHMSG.pack(family, 0, protocol, flags & RTNH_F_ONLINK)]
    for kind, data in attribute_list(payload, NHMSG.size):
        if kind == NHA_OIF:
            parts.append(attr_u32(NHA_OIF, index))
        elif kind in _NHA_KEPT:
            # The kernel sends it without the flag, and takes it with the flag alone (net/ipv4/nexthop.c).
            parts.append(nested(kind, data) if kind == _NHA_ENCAP else attr(kind, data))
    return Request(_RTM_NEWNEXTHOP, _SET, b"".join(parts), "move", "next hop")


def _route(payload: bytes, source: int, target: int) -> bytes:
    *head, flags = RTMSG.unpack_from(payload)
    parts = [RTMSG.pack(*head, flags & RTNH_F_ONLINK)]
    by_object = RTA_NH_ID in attributes(payload, RTMSG.size)
    for kind, data in attribute_list(payload, RTMSG.size):
        if by_object and kind in _OF_NEXTHOP:
            continue
        if kind == RTA_OIF:
            parts.append(attr_u32(RTA_OIF, target))
        elif kind == RTA_MULTIPATH:
            parts.append(attr(RTA_MULTIPATH, hops(data, source, target)))
        elif kind == RTA_CACHEINFO:
            expires = int.from_bytes(data[8:12], "little", signed=True)
            parts += [attr_u32(RTA_EXPIRES, expires // _HZ)] if expires > 0 else []
        elif kind not in (RTA_IIF, RTA_EXPIRES):
            parts.append(attr(kind, data))
    return b"".join(parts)


def hops(data: bytes, source: int, target: int) -> bytes:
    """Return the legs of a multipath route with those out of one link out of another."""
    moved = bytearray(data)
    offset = 0
    while offset + RTNEXTHOP.size <= len(data):
        size, flags, hops, index = RTNEXTHOP.unpack_from(data, offset)
        RTNEXTHOP.pack_into(moved, offset, size, flags & RTNH_F_ONLINK, hops, target if index == source else index)
        offset += max((size + 3) & ~3, RTNEXTHOP.size)
    return bytes(moved)
