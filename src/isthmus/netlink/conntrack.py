"""Connection-tracking entries: a dump that the kernel filters, and deletion by tuple.

Source: linux/netfilter/nfnetlink_conntrack.h; the filter bits are net/netfilter/nf_internals.h
CTA_FILTER_F_* (kernel 5.8), which no uapi header shows.

The kernel compares IPv6 addresses of a filter the wrong way round (`!ipv6_addr_cmp` in
ctnetlink_filter_match_tuple; seen on 6.18): it leaves out what fits and gives the rest. So it is not asked to,
and whoever asks for an address compares again.
"""

from __future__ import annotations

from isthmus.model.address import IPV4, Address
from isthmus.model.value import Value
from isthmus.netlink.wire import NLA_F_NESTED, Request, attr, attr_u8, attributes, decoder, nested, packed_address

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

__all__ = ["Entry", "decode", "delete", "of_destination", "of_family", "of_source"]

_CTNETLINK: Final = 1 << 8
_GET: Final = _CTNETLINK | 1
_DELETE: Final = _CTNETLINK | 2
_CTA_TUPLE_ORIG: Final = 1
_CTA_TUPLE_REPLY: Final = 2
_CTA_ID: Final = 12
_CTA_ZONE: Final = 18
_CTA_FILTER: Final = 25
_CTA_FILTER_ORIG_FLAGS: Final = 1
_CTA_FILTER_REPLY_FLAGS: Final = 2
_CTA_TUPLE_IP: Final = 1
_CTA_TUPLE_PROTO: Final = 2
_CTA_IP_SRC: Final = {4: 1, 6: 3}
_CTA_IP_DST: Final = {4: 2, 6: 4}
_CTA_PROTO_NUM: Final = 1
_CTA_PROTO_DST_PORT: Final = 3
_F_IP_SRC: Final = 1 << 0
_F_IP_DST: Final = 1 << 1
_F_PROTO_NUM: Final = 1 << 3
_F_PROTO_DST_PORT: Final = 1 << 5


class Entry(Value):
    """One entry: what identifies it for deletion, where its first packet came from and went to, who replies."""

    family: int
    original: bytes
    id: bytes
    zone: bytes
    source: Address
    replier: Address
    destination: Address
    destination_port: int


def _header(family: int) -> bytes:
    return bytes((2 if family == IPV4 else 10, 0, 0, 0))


def of_destination(family: int, protocol: int, port: int | None, address: Address | None) -> Request:
    """Ask for entries whose first packet went to that port and IPv4 address (None: any), as a dump."""
    flags = _F_PROTO_NUM
    parts = []
    if address is not None and family == IPV4:
        flags |= _F_IP_DST
        parts.append(nested(_CTA_TUPLE_IP, attr(_CTA_IP_DST[family], address.packed)))
    service = attr_u8(_CTA_PROTO_NUM, protocol)
    if port is not None:
        flags |= _F_PROTO_DST_PORT
        service += attr(_CTA_PROTO_DST_PORT, port.to_bytes(2, "big"))
    parts.append(nested(_CTA_TUPLE_PROTO, service))
    return _filtered(family, _CTA_TUPLE_ORIG, b"".join(parts), flags)


def of_source(address: Address, *, reply: bool) -> Request:
    """Ask for entries whose first packet (or whose replies) came from an IPv4 address, as a dump."""
    tuple_ip = nested(_CTA_TUPLE_IP, attr(_CTA_IP_SRC[address.family], address.packed))
    return _filtered(address.family, _CTA_TUPLE_REPLY if reply else _CTA_TUPLE_ORIG, tuple_ip, _F_IP_SRC)


def of_family(family: int) -> Request:
    """Ask for all entries of a family, as a dump."""
    return Request(_GET, 0, _header(family), "read", "connection-tracking entries")


def _filtered(family: int, direction: int, parts: bytes, flags: int) -> Request:
    original = flags if direction == _CTA_TUPLE_ORIG else 0
    payload = (
        _header(family)
        + attr(direction | NLA_F_NESTED, parts)
        + nested(
            _CTA_FILTER,
            attr(_CTA_FILTER_ORIG_FLAGS, original.to_bytes(4, "little")),
            attr(_CTA_FILTER_REPLY_FLAGS, (flags - original).to_bytes(4, "little")),
        )
    )
    return Request(_GET, 0, payload, "read", "connection-tracking entries")


@decoder
def decode(payload: bytes) -> Entry:
    """Decode an entry of a dump.

    Raises:
        WireError: not one.
    """
    found = attributes(payload, 4)
    original = found[_CTA_TUPLE_ORIG]
    parts = attributes(original)
    family = 4 if payload[0] == 2 else 6
    addresses = attributes(parts[_CTA_TUPLE_IP])
    replies = attributes(attributes(found[_CTA_TUPLE_REPLY])[_CTA_TUPLE_IP])
    proto = attributes(parts.get(_CTA_TUPLE_PROTO, b""))
    return Entry(
        family=family,
        original=original,
        id=found.get(_CTA_ID, b""),
        zone=found.get(_CTA_ZONE, b""),
        source=Address.decode(packed_address(addresses[_CTA_IP_SRC[family]])),
        replier=Address.decode(packed_address(replies[_CTA_IP_SRC[family]])),
        destination=Address.decode(packed_address(addresses[_CTA_IP_DST[family]])),
        destination_port=int.from_bytes(proto.get(_CTA_PROTO_DST_PORT, b""), "big"),
    )


def delete(entry: Entry) -> Request:
    """Delete an entry; ENOENT: it has gone meanwhile."""
    payload = _header(entry.family) + attr(_CTA_TUPLE_ORIG | NLA_F_NESTED, entry.original)
    if entry.zone:
        payload += attr(_CTA_ZONE, entry.zone)
    if entry.id:
        payload += attr(_CTA_ID, entry.id)
    return Request(_DELETE, 0, payload, "delete", "a connection-tracking entry")
