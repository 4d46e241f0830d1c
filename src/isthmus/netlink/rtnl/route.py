"""RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE. Source: linux/rtnetlink.h."""

from __future__ import annotations

from struct import Struct

from isthmus.model.address import IPV4, IPV6, Address, Prefix
from isthmus.model.value import Value
from isthmus.netlink.wire import (
    NLM_F_CREATE,
    NLM_F_EXCL,
    Request,
    WireError,
    attr,
    attr_u32,
    attributes,
    decoder,
    packed_address,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Final

__all__ = [
    "OF_DEFAULT",
    "RTNLGRP_IPV4_ROUTE",
    "RTNLGRP_IPV6_ROUTE",
    "RTPROT_ISTHMUS",
    "IpRoute",
    "add",
    "decode",
    "delete",
    "is_default",
    "local_routes",
    "main_routes",
    "routes_of",
    "way_to",
]

_RTM_NEWROUTE: Final = 24
_RTM_DELROUTE: Final = 25
_RTM_GETROUTE: Final = 26
_RTA_DST: Final = 1
_RTA_SRC: Final = 2
_RTA_OIF: Final = 4
_RTA_GATEWAY: Final = 5
_RTA_PRIORITY: Final = 6
_RTA_MULTIPATH: Final = 9
_RTA_CACHEINFO: Final = 12
_RTA_TABLE: Final = 15
_RT_TABLE_UNSPEC: Final = 0
_RT_TABLE_MAIN: Final = 254
_RT_TABLE_LOCAL: Final = 255
_RTN_UNICAST: Final = 1
_RTN_LOCAL: Final = 2
_RTPROT_BOOT: Final = 3
_RTPROT_RA: Final = 9
_RT_SCOPE_UNIVERSE: Final = 0

RTNLGRP_IPV4_ROUTE: Final = 7
RTNLGRP_IPV6_ROUTE: Final = 11
# A protocol number that nobody else has (iproute2's rt_protos and the kernel's list end below): "i".
RTPROT_ISTHMUS: Final = 0x69
_MSG: Final = Struct("=BBBBBBBBI")  # family, dst_len, src_len, tos, table, protocol, scope, type, flags
OF_DEFAULT: Final = (1, 0)  # which byte is what in a message about a default route: dst_len
_NEXTHOP: Final = Struct("=HBBi")  # struct rtnexthop: len, flags, hops, ifindex
_AF: Final = {2: IPV4, 10: IPV6}
_BY_FAMILY: Final = {IPV4: 2, IPV6: 10}


class IpRoute(Value):
    """A route as the kernel shows it; `oifs` are the ifindexes of its next hops."""

    prefix: Prefix
    via: Address | None
    oifs: tuple[int, ...]
    table: int
    protocol: int
    kind: int
    priority: int
    is_relearned: bool = False

    @property
    def is_default(self) -> bool:
        """Whether it is a unicast route for everything."""
        return self.prefix.length == 0 and self.kind == _RTN_UNICAST

    @property
    def is_local(self) -> bool:
        """Whether what it leads to is taken up here."""
        return self.kind == _RTN_LOCAL

    @property
    def is_learned(self) -> bool:
        """Whether it came by a router advertisement, or is one that did and moved (kernel/learned.py)."""
        return self.protocol == _RTPROT_RA or self.is_relearned


def add(prefix: Prefix, via: Address, index: int, subject: object, *, table: int = 0) -> Request:
    """Add a unicast route through a gateway to a table (0: main); IPv6 gets the kernel's default metric, 1024."""
    payload = _payload(prefix, via, index, table=table)
    return Request(_RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, payload, "add route of", subject)


def delete(
    prefix: Prefix, via: Address, index: int, subject: object, *, table: int = 0, protocol: int = RTPROT_ISTHMUS
) -> Request:
    """Delete such a route."""
    return Request(_RTM_DELROUTE, 0, _payload(prefix, via, index, protocol, table), "delete route of", subject)


def _payload(prefix: Prefix, via: Address, index: int, protocol: int = RTPROT_ISTHMUS, table: int = 0) -> bytes:
    in_head = _RT_TABLE_UNSPEC if table else _RT_TABLE_MAIN
    head = _MSG.pack(via.af, prefix.length, 0, 0, in_head, protocol, _RT_SCOPE_UNIVERSE, _RTN_UNICAST, 0)
    destination = attr(_RTA_DST, prefix.first.packed) if prefix.length else b""
    number = attr_u32(_RTA_TABLE, table) if table else b""
    return head + destination + attr(_RTA_GATEWAY, via.packed) + attr_u32(_RTA_OIF, index) + number


def routes_of(table: int, family: int, index: int = 0) -> Request:
    """Ask for the routes of a table (0: main), as a dump; those out of one link where `index` is given.

    ENOENT: there is no such table yet, so no route.
    """
    head = _MSG.pack(_BY_FAMILY[family], 0, 0, 0, 0, 0, 0, 0, 0) + attr_u32(_RTA_TABLE, table or _RT_TABLE_MAIN)
    return Request(_RTM_GETROUTE, 0, head + (attr_u32(_RTA_OIF, index) if index else b""), "read", "routes")


def main_routes(family: int, index: int = 0) -> Request:
    """Ask for the routes of table main, as `routes_of` does."""
    return routes_of(0, family, index)


def local_routes(family: int, index: int) -> Request:
    """Ask for the routes by which a link's addresses are taken up, as a dump."""
    head = _MSG.pack(_BY_FAMILY[family], 0, 0, 0, 0, 0, 0, 0, 0) + attr_u32(_RTA_TABLE, _RT_TABLE_LOCAL)
    return Request(_RTM_GETROUTE, 0, head + attr_u32(_RTA_OIF, index), "read", "local routes")


def way_to(address: Address, source: Address | None = None) -> Request:
    """Ask which route a packet to an address takes; one from `source`, which policy rules may heed."""
    head = _MSG.pack(address.af, address.bits, source.bits if source is not None else 0, 0, 0, 0, 0, 0, 0)
    ends = attr(_RTA_DST, address.packed) + (attr(_RTA_SRC, source.packed) if source is not None else b"")
    return Request(_RTM_GETROUTE, 0, head + ends, "find the way to", str(address))


def is_default(payload: bytes) -> bool:
    """Whether an RTM_NEWROUTE or RTM_DELROUTE is about everything: its destination has no bits."""
    offset, length = OF_DEFAULT
    return len(payload) > offset and payload[offset] == length


@decoder
def decode(payload: bytes) -> IpRoute:
    """Decode an RTM_NEWROUTE.

    Raises:
        WireError: not one.
    """
    af, length, _, _, table, protocol, _, kind, _ = _MSG.unpack_from(payload)
    found = attributes(payload, _MSG.size)
    family = _AF[af]
    width = 4 if family == IPV4 else 16
    packed = found.get(_RTA_DST, bytes(width))
    if len(packed) != width or length > 8 * width:
        raise WireError(f"a prefix of {len(packed)} bytes and length {length} for family {family}")
    wide = found.get(_RTA_TABLE)
    gateway = found.get(_RTA_GATEWAY)
    return IpRoute(
        prefix=Prefix(family=family, number=int.from_bytes(packed, "big"), length=length),
        via=Address.decode(packed_address(gateway)) if gateway else None,
        oifs=tuple(_oifs(found)),
        table=table if wide is None else int.from_bytes(wide, "little"),
        protocol=protocol,
        kind=kind,
        priority=int.from_bytes(found.get(_RTA_PRIORITY, b""), "little"),
        is_relearned=protocol == _RTPROT_BOOT and any(found.get(_RTA_CACHEINFO, b"")[8:12]),  # it expires
    )


def _oifs(found: dict[int, bytes]) -> Iterator[int]:
    if _RTA_OIF in found:
        yield int.from_bytes(found[_RTA_OIF], "little")
    hops = found.get(_RTA_MULTIPATH, b"")
    offset = 0
    while offset + _NEXTHOP.size <= len(hops):
        size, _, _, index = _NEXTHOP.unpack_from(hops, offset)
        if size < _NEXTHOP.size:
            return
        yield index
        offset += (size + 3) & ~3
