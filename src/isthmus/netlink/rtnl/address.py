"""RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR. Source: linux/if_addr.h."""

from __future__ import annotations

from struct import Struct

from isthmus.model.address import IPV4, Address, Prefix
from isthmus.model.value import Value
from isthmus.netlink.wire import (
    NLM_F_CREATE,
    NLM_F_REPLACE,
    Request,
    attr,
    attr_u8,
    attr_u32,
    attributes,
    decoder,
    packed_address,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

__all__ = ["IFA_PROTO_ISTHMUS", "IpAddress", "add", "all_addresses", "decode", "delete", "of_link"]

_RTM_NEWADDR: Final = 20
_RTM_DELADDR: Final = 21
_RTM_GETADDR: Final = 22
_IFA_ADDRESS: Final = 1
_IFA_LOCAL: Final = 2
_IFA_BROADCAST: Final = 4
_IFA_FLAGS: Final = 8
_IFA_PROTO: Final = 11
_IFAPROT_KERNEL_RA: Final = 2
_IFA_F_SECONDARY: Final = 0x01  # of IPv6 IFA_F_TEMPORARY
_IFA_F_NODAD: Final = 0x02
_IFA_F_DEPRECATED: Final = 0x20
_IFA_F_TENTATIVE: Final = 0x40
_IFA_F_PERMANENT: Final = 0x80
_RT_SCOPE_LINK: Final = 253

# Free for user space (linux/if_addr.h names 1 to 3 only): "i".
IFA_PROTO_ISTHMUS: Final = 0x69
_INFO: Final = Struct("=BBBBI")  # struct ifaddrmsg: family, prefixlen, flags, scope, index


class IpAddress(Value):
    """An address on a link as the kernel shows it."""

    index: int
    address: Address
    length: int
    flags: int
    scope: int
    proto: int

    @property
    def is_leased(self) -> bool:
        """Whether it has a lifetime: a DHCP client or a router advertisement gave it."""
        return not self.flags & _IFA_F_PERMANENT

    @property
    def is_secondary(self) -> bool:
        """Whether the host has another address of its prefix that came before it; of IPv6: whether it is temporary."""
        return bool(self.flags & _IFA_F_SECONDARY)

    @property
    def is_deprecated(self) -> bool:
        """Whether nothing new shall be sent from it: its preferred lifetime is over."""
        return bool(self.flags & _IFA_F_DEPRECATED)

    @property
    def is_tentative(self) -> bool:
        """Whether detection of duplicates has not ended."""
        return bool(self.flags & _IFA_F_TENTATIVE)

    @property
    def is_link_local(self) -> bool:
        """Whether it counts on its link alone."""
        return self.scope == _RT_SCOPE_LINK

    @property
    def is_learned(self) -> bool:
        """Whether the kernel made it of a router advertisement (Linux 5.18 says so)."""
        return self.proto == _IFAPROT_KERNEL_RA


def add(index: int, address: Address, length: int, subject: object) -> Request:
    """Add an address that can be used at once: no duplicate-address detection, marked as ours.

    One that the link has already becomes ours: a link that was renamed keeps its IPv4 addresses.
    IPv4 gets its broadcast address, as `ip address add ... brd +` does.
    """
    parts = [_INFO.pack(address.af, length, 0, 0, index), attr(_IFA_LOCAL, address.packed)]
    parts.append(attr(_IFA_ADDRESS, address.packed))
    if address.family == IPV4 and length < 31:
        parts.append(attr(_IFA_BROADCAST, Prefix.around(address, length).last.packed))
    parts.append(attr_u32(_IFA_FLAGS, _IFA_F_NODAD))
    parts.append(attr_u8(_IFA_PROTO, IFA_PROTO_ISTHMUS))
    return Request(_RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, b"".join(parts), "add address to", subject)


def delete(index: int, address: Address, length: int, subject: object) -> Request:
    """Delete an address of that length; IPv4's length counts with IFA_ADDRESS alone (net/ipv4/devinet.c)."""
    payload = _INFO.pack(address.af, length, 0, 0, index)
    payload += attr(_IFA_LOCAL, address.packed) + attr(_IFA_ADDRESS, address.packed)
    return Request(_RTM_DELADDR, 0, payload, "delete address of", subject)


def all_addresses() -> Request:
    """Ask for all addresses, as a dump."""
    return Request(_RTM_GETADDR, 0, _INFO.pack(0, 0, 0, 0, 0), "read", "all addresses")


def of_link(index: int) -> Request:
    """Ask for a link's addresses, as a dump that the kernel filters (strict checking)."""
    return Request(_RTM_GETADDR, 0, _INFO.pack(0, 0, 0, 0, index), "read", f"addresses of link {index}")


@decoder
def decode(payload: bytes) -> IpAddress:
    """Decode an RTM_NEWADDR.

    Raises:
        WireError: not one.
    """
    _, length, flags, scope, index = _INFO.unpack_from(payload)
    found = attributes(payload, _INFO.size)
    packed = found.get(_IFA_LOCAL) or found[_IFA_ADDRESS]
    wide = found.get(_IFA_FLAGS)
    return IpAddress(
        index=index,
        address=Address.decode(packed_address(packed)),
        length=length,
        flags=flags if wide is None else int.from_bytes(wide, "little"),
        scope=scope,
        proto=found.get(_IFA_PROTO, b"\0")[0],
    )
