"""The interface identifier that somebody chose for a link's IPv6 addresses (ip-token(8)).

Source: linux/if_link.h, IFLA_INET6_TOKEN in IFLA_AF_SPEC.
"""

from __future__ import annotations

from isthmus.model.address import Address
from isthmus.netlink.wire import decoder, pick

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

__all__ = ["decode"]

_IFLA_AF_SPEC: Final = 26
_AF_INET6: Final = 10
_IFLA_INET6_TOKEN: Final = 7
_HEAD: Final = 16  # struct ifinfomsg


@decoder
def decode(payload: bytes) -> Address | None:
    """Decode what an RTM_NEWLINK tells of it; None: nobody chose one."""
    families = pick(payload, frozenset({_IFLA_AF_SPEC}), _HEAD).get(_IFLA_AF_SPEC, b"")
    ipv6 = pick(families, frozenset({_AF_INET6})).get(_AF_INET6, b"")
    token = pick(ipv6, frozenset({_IFLA_INET6_TOKEN})).get(_IFLA_INET6_TOKEN, b"")
    return Address.decode(token) if any(token) else None
