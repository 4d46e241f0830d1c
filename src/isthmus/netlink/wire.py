"""The netlink wire format: headers, attributes, nesting; no sockets.

    nlmsghdr   len:u32 type:u16 flags:u16 seq:u32 pid:u32
    nlattr     len:u16 type:u16 payload, padded to four bytes

Lengths and types are in native byte order; payloads are what each family says.
Source: linux/netlink.h, netlink(7).
"""

from __future__ import annotations

from struct import Struct, error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Final, ParamSpec, TypeVar

    P = ParamSpec("P")
    T = TypeVar("T")

__all__ = [
    "ATTR_HEADER",
    "MESSAGE_HEADER",
    "NLA_F_NESTED",
    "NLM_F_ACK",
    "NLM_F_APPEND",
    "NLM_F_CREATE",
    "NLM_F_DUMP",
    "NLM_F_DUMP_INTR",
    "NLM_F_ECHO",
    "NLM_F_EXCL",
    "NLM_F_MULTI",
    "NLM_F_REPLACE",
    "NLM_F_REQUEST",
    "Request",
    "WireError",
    "attr",
    "attr_string",
    "attr_u8",
    "attr_u32",
    "attribute_list",
    "attributes",
    "decoder",
    "messages",
    "nested",
    "packed_address",
    "pick",
    "text",
]

NLM_F_REQUEST: Final = 0x1
NLM_F_MULTI: Final = 0x2
NLM_F_ACK: Final = 0x4
NLM_F_ECHO: Final = 0x8
NLM_F_DUMP_INTR: Final = 0x10
NLM_F_REPLACE: Final = 0x100
NLM_F_EXCL: Final = 0x200
NLM_F_DUMP: Final = 0x300
NLM_F_CREATE: Final = 0x400
NLM_F_APPEND: Final = 0x800
NLA_F_NESTED: Final = 0x8000
_TYPE_MASK: Final = 0x3FFF

MESSAGE_HEADER: Final = Struct("=IHHII")
ATTR_HEADER: Final = Struct("=HH")
_U8: Final = Struct("=HHBxxx")
_U32: Final = Struct("=HHI")
_PADDING: Final = (b"", b"\0\0\0", b"\0\0", b"\0")


class WireError(ValueError):
    """Bytes that are no netlink message or attribute."""


class Request:
    """A message to be sent: its type, its flags beside REQUEST and ACK, its payload, and what it is about.

    `operation` and `subject` are words for an error: "create", "link br0"; a subject is asked for its words then.
    """

    __slots__ = ("flags", "kind", "operation", "payload", "subject")

    def __init__(self, kind: int, flags: int, payload: bytes, operation: str = "ask", subject: object = "") -> None:
        self.kind = kind
        self.flags = flags
        self.payload = payload
        self.operation = operation
        self.subject = subject


def attr(kind: int, payload: bytes) -> bytes:
    """Encode one attribute, padded."""
    size = len(payload)
    return ATTR_HEADER.pack(size + 4, kind) + payload + _PADDING[size & 3]


def attr_u8(kind: int, value: int) -> bytes:
    """Encode an attribute of one byte."""
    return _U8.pack(5, kind, value)


def attr_u32(kind: int, value: int) -> bytes:
    """Encode an attribute of four bytes, native order."""
    return _U32.pack(8, kind, value)


def attr_string(kind: int, value: str) -> bytes:
    """Encode a NUL-terminated string."""
    return attr(kind, value.encode() + b"\0")


def nested(kind: int, *parts: bytes) -> bytes:
    """Encode attributes inside an attribute, with NLA_F_NESTED."""
    return attr(kind | NLA_F_NESTED, b"".join(parts))


def attributes(data: bytes | memoryview, offset: int = 0) -> dict[int, bytes]:
    """Decode attributes into a dict by type (flag bits removed); of a repeated type the last stays.

    Raises:
        WireError: a length that leads outside the data.
    """
    return dict(attribute_list(data, offset))


def pick(data: bytes, wanted: frozenset[int], offset: int = 0) -> dict[int, bytes]:
    """Decode the attributes of some types only; a link has some sixty, and few are asked for.

    Raises:
        WireError: a length that leads outside the data.
    """
    found: dict[int, bytes] = {}
    end = len(data) - 3
    unpack = ATTR_HEADER.unpack_from
    while offset < end:
        size, kind = unpack(data, offset)
        if size < 4 or offset + size > end + 3:
            raise WireError(f"attribute {kind & _TYPE_MASK} at {offset}: length {size} in {end + 3} bytes")
        kind &= _TYPE_MASK
        if kind in wanted:
            found[kind] = data[offset + 4 : offset + size]
        offset += (size + 3) & ~3
    return found


def attribute_list(data: bytes | memoryview, offset: int = 0) -> Iterator[tuple[int, bytes]]:
    """Decode attributes in their order, repeated types included."""
    end = len(data)
    try:
        while offset + 4 <= end:
            size, kind = ATTR_HEADER.unpack_from(data, offset)
            if size < 4 or offset + size > end:
                raise WireError(f"attribute {kind & _TYPE_MASK} at {offset}: length {size} in {end} bytes")
            yield kind & _TYPE_MASK, bytes(data[offset + 4 : offset + size])
            offset += (size + 3) & ~3
    except error as cause:
        raise WireError(str(cause)) from cause


def messages(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """Split a datagram into (type, flags, sequence number, payload).

    Raises:
        WireError: a length that leads outside the datagram.
    """
    offset, end = 0, len(data)
    while offset + 16 <= end:
        size, kind, flags, sequence, _ = MESSAGE_HEADER.unpack_from(data, offset)
        if size < 16 or offset + size > end:
            raise WireError(f"message at {offset}: length {size} in {end} bytes")
        yield kind, flags, sequence, data[offset + 16 : offset + size]
        offset += (size + 3) & ~3


def decoder(function: Callable[P, T]) -> Callable[P, T]:
    """Let nothing but WireError leave a function that decodes, whatever the bytes are."""

    def decoded(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except WireError:
            raise
        except (error, KeyError, IndexError, ValueError, OverflowError) as cause:
            raise WireError(f"{function.__name__}: what must be there is missing or short: {cause!r}") from cause

    decoded.__doc__ = function.__doc__
    decoded.__name__ = function.__name__
    return decoded


def packed_address(payload: bytes) -> bytes:
    """Return the payload of an attribute that holds an IPv4 or IPv6 address.

    Raises:
        WireError: of another length.
    """
    if len(payload) not in (4, 16):
        raise WireError(f"an address of {len(payload)} bytes")
    return payload


def text(payload: bytes) -> str:
    """Decode a NUL-terminated string; bytes that are not UTF-8 are kept as surrogates."""
    return payload.partition(b"\0")[0].decode("utf-8", "surrogateescape")
