"""Addresses, prefixes and MACs: values over (family, integer), text by the C library.

`ipaddress` costs as much as half an interpreter start; these are held to it by property tests.
Source: RFC 4291 section 2.2 and RFC 5952 for IPv6 text (`inet_ntop` writes it), RFC 3021 for /31.
"""

from __future__ import annotations

from _socket import AF_INET, AF_INET6, inet_ntop, inet_pton

from isthmus.errors import InvalidInput
from isthmus.model.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

__all__ = ["IPV4", "IPV6", "Address", "AddressRange", "Mac", "Prefix", "link_local"]

IPV4: Final = 4
IPV6: Final = 6
_BITS: Final = {IPV4: 32, IPV6: 128}
_AF: Final = {IPV4: AF_INET, IPV6: AF_INET6}


class Address(Value):
    """An IPv4 or IPv6 address; `family` is 4 or 6, `number` its value in host order."""

    family: int
    number: int

    @classmethod
    def parse(cls, text: str, field: str = "") -> Address:
        """Read an address.

        Raises:
            InvalidInput: not an address (zone ids and leading zeros are refused too).
        """
        family = IPV6 if ":" in text else IPV4
        try:
            packed = inet_pton(_AF[family], text)
        except (OSError, ValueError):
            raise InvalidInput(field, text, "not an IPv4 or IPv6 address") from None
        return cls(family=family, number=int.from_bytes(packed, "big"))

    @classmethod
    def decode(cls, packed: bytes) -> Address:
        """Read 4 or 16 bytes in network order."""
        return cls(family=IPV4 if len(packed) == 4 else IPV6, number=int.from_bytes(packed, "big"))

    @property
    def packed(self) -> bytes:
        """The address in network order, 4 or 16 bytes."""
        return self.number.to_bytes(_BITS[self.family] // 8, "big")

    @property
    def af(self) -> int:
        """AF_INET or AF_INET6."""
        return _AF[self.family]

    @property
    def bits(self) -> int:
        """32 or 128."""
        return _BITS[self.family]

    @property
    def is_loopback(self) -> bool:
        """Whether this is in 127.0.0.0/8 or is ::1."""
        return self.number >> 24 == 127 if self.family == IPV4 else self.number == 1

    @property
    def is_unspecified(self) -> bool:
        """Whether this is 0.0.0.0 or ::."""
        return self.number == 0

    def __str__(self) -> str:
        return inet_ntop(_AF[self.family], self.packed)


class Prefix(Value):
    """A network prefix; `number` is its first address, `length` its bits."""

    family: int
    number: int
    length: int

    @classmethod
    def parse(cls, text: str, field: str = "") -> Prefix:
        """Read `ADDRESS/LENGTH`; host bits must be zero.

        Raises:
            InvalidInput: no prefix, a length out of range, or host bits that are set.
        """
        address, prefix = cls.parse_host(text, field)
        if address.number != prefix.number:
            raise InvalidInput(field, text, "has host bits set", hint=f"did you mean {prefix}?")
        return prefix

    @classmethod
    def parse_host(cls, text: str, field: str = "") -> tuple[Address, Prefix]:
        """Read `ADDRESS/LENGTH` as an address on a link and the prefix it lies in."""
        head, slash, tail = text.partition("/")
        if not slash:
            raise InvalidInput(
                field, text, "lacks a prefix length", hint=f"write {head}/{64 if ':' in head else 24} or the like"
            )
        address = Address.parse(head, field)
        if not (tail.isascii() and tail.isdigit() and len(tail) <= 3 and int(tail) <= address.bits):
            raise InvalidInput(field, text, f"the prefix length must be 0 to {address.bits}")
        return address, cls.around(address, int(tail))

    @classmethod
    def around(cls, address: Address, length: int) -> Prefix:
        """Return the prefix of that length which the address lies in."""
        shift = address.bits - length
        return cls(family=address.family, number=address.number >> shift << shift, length=length)

    @property
    def bits(self) -> int:
        """32 or 128."""
        return _BITS[self.family]

    @property
    def size(self) -> int:
        """How many addresses it holds."""
        return 1 << (self.bits - self.length)

    @property
    def first(self) -> Address:
        """Its lowest address."""
        return Address(family=self.family, number=self.number)

    @property
    def last(self) -> Address:
        """Its highest address."""
        return Address(family=self.family, number=self.number + self.size - 1)

    @property
    def hosts(self) -> range:
        """The numbers a host may have: without the network and broadcast address (RFC 3021 for /31).

        IPv6 loses the subnet-router anycast address (RFC 4291 section 2.6.1) alone.
        """
        if self.length >= self.bits - 1:
            return range(self.number, self.number + self.size)
        return range(self.number + 1, self.number + self.size - (self.family == IPV4))

    def address(self, number: int) -> Address:
        """Return the address of that number, which must lie inside."""
        return Address(family=self.family, number=number)

    def overlaps(self, other: Prefix) -> bool:
        """Whether the two share an address."""
        return (
            self.family == other.family
            and self.number < other.number + other.size
            and other.number < self.number + self.size
        )

    def __contains__(self, address: Address) -> bool:
        return self.family == address.family and 0 <= address.number - self.number < self.size

    def __str__(self) -> str:
        return f"{self.first}/{self.length}"


class AddressRange(Value):
    """Addresses that are no prefix: we need none, but somebody may put such into an interval set."""

    first: Address
    last: Address

    def __str__(self) -> str:
        return f"{self.first}-{self.last}"


class Mac(Value):
    """A 48-bit link-layer address."""

    packed: bytes

    @classmethod
    def parse(cls, text: str, field: str = "") -> Mac:
        """Read `aa:bb:cc:dd:ee:ff`; a group address or all zeros is refused.

        Raises:
            InvalidInput: not six octets of two hex digits, or not a unicast address.
        """
        parts = text.split(":")
        try:
            packed = bytes(int(part, 16) for part in parts if len(part) == 2 and part.isascii() and part.isalnum())
        except ValueError:
            packed = b""
        if len(parts) != 6 or len(packed) != 6:
            raise InvalidInput(field, text, "not a MAC address", hint="write it as 02:00:00:00:00:01")
        if packed[0] & 1 or not any(packed):
            raise InvalidInput(field, text, "not a unicast MAC address")
        return cls(packed=packed)

    def __str__(self) -> str:
        return self.packed.hex(":")


def link_local(mac: Mac) -> Address:
    """Return the link-local address that a MAC makes. Source: RFC 4291 appendix A."""
    eui = bytes((mac.packed[0] ^ 2,)) + mac.packed[1:3] + b"\xff\xfe" + mac.packed[3:]
    return Address.decode(bytes.fromhex("fe80000000000000") + eui)
