"""RTM_GETNSID: by which number a namespace calls another one. Source: linux/net_namespace.h, linux/rtnetlink.h."""

from __future__ import annotations

from isthmus.netlink.wire import Request, attr_u32, decoder, pick

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

__all__ = ["decode", "number_of"]

_RTM_GETNSID: Final = 90
_NETNSA_NSID, _NETNSA_PID = 1, 2
_HEAD: Final = 4  # struct rtgenmsg, padded


def number_of(pid: int) -> Request:
    """Ask for the number of the namespace that a process is in."""
    return Request(_RTM_GETNSID, 0, bytes(_HEAD) + attr_u32(_NETNSA_PID, pid), "read", "namespace number")


@decoder
def decode(payload: bytes) -> int:
    """Decode an RTM_NEWNSID; -1: it has no number there."""
    found = pick(payload, frozenset({_NETNSA_NSID}), _HEAD)
    return int.from_bytes(found[_NETNSA_NSID], "little", signed=True)
