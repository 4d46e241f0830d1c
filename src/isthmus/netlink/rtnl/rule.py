"""RTM_GETRULE. Source: linux/fib_rules.h."""

from __future__ import annotations

from struct import Struct

from isthmus.model.value import Value
from isthmus.netlink.wire import Request, attributes, decoder, text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

__all__ = ["PolicyRule", "all_rules", "decode"]

_RTM_GETRULE: Final = 34
_FRA_IIFNAME, _FRA_PRIORITY, _FRA_OIFNAME = 3, 6, 17
_HDR: Final = Struct("=BBBBBBBBI")  # struct fib_rule_hdr


class PolicyRule(Value):
    """A rule of the routing policy, as far as it names links."""

    priority: int
    iifname: str
    oifname: str


def all_rules() -> Request:
    """Ask for the rules of all families, as a dump."""
    return Request(_RTM_GETRULE, 0, _HDR.pack(0, 0, 0, 0, 0, 0, 0, 0, 0), "read", "policy rules")


@decoder
def decode(payload: bytes) -> PolicyRule:
    """Decode an RTM_NEWRULE.

    Raises:
        WireError: not one.
    """
    _HDR.unpack_from(payload)
    found = attributes(payload, _HDR.size)
    return PolicyRule(
        priority=int.from_bytes(found.get(_FRA_PRIORITY, b""), "little"),
        iifname=text(found.get(_FRA_IIFNAME, b"")),
        oifname=text(found.get(_FRA_OIFNAME, b"")),
    )
