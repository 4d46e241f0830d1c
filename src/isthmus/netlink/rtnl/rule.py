"""RTM_NEWRULE, RTM_DELRULE, RTM_GETRULE: which table the route of a packet is looked up in.

Source: linux/fib_rules.h, ip-rule(8).
"""

from __future__ import annotations

from struct import Struct

from isthmus.model.address import Address
from isthmus.model.host import Rule
from isthmus.model.value import Value
from isthmus.netlink.rtnl.route import RTPROT_ISTHMUS
from isthmus.netlink.wire import (
    NLM_F_CREATE,
    NLM_F_EXCL,
    Request,
    attr,
    attr_u8,
    attr_u32,
    attributes,
    decoder,
    packed_address,
    text,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

__all__ = ["PolicyRule", "add", "all_rules", "decode", "delete"]

_RTM_NEWRULE: Final = 32
_RTM_DELRULE: Final = 33
_RTM_GETRULE: Final = 34
_FRA_SRC: Final = 2
_FRA_IIFNAME: Final = 3
_FRA_PRIORITY: Final = 6
_FRA_SUPPRESS_PREFIXLEN: Final = 14
_FRA_TABLE: Final = 15
_FRA_OIFNAME: Final = 17
_FRA_PROTOCOL: Final = 21
_FR_ACT_TO_TBL: Final = 1
_RT_TABLE_UNSPEC: Final = 0
_RT_TABLE_MAIN: Final = 254
_UNSUPPRESSED: Final = 0xFFFFFFFF  # what the kernel shows of a rule that passes nothing over
_HEAD: Final = Struct("=BBBBBBBBI")  # struct fib_rule_hdr: family, dst_len, src_len, tos, table, -, -, action, flags
_BY_FAMILY: Final = {4: 2, 6: 10}


class PolicyRule(Value):
    """A rule of the routing policy as the kernel shows it; `source` None: it is not for one address alone."""

    priority: int
    source: Address | None
    table: int
    specific: bool
    protocol: int
    iifname: str
    oifname: str

    def is_as(self, item: Rule) -> bool:
        """Whether it is one of ours, and that one."""
        table = item.table or _RT_TABLE_MAIN
        wanted = (item.priority, item.source, table, item.specific, RTPROT_ISTHMUS)
        return (self.priority, self.source, self.table, self.specific, self.protocol) == wanted


def add(item: Rule) -> Request:
    """Add a rule, marked as ours."""
    return Request(_RTM_NEWRULE, NLM_F_CREATE | NLM_F_EXCL, _payload(item), "add rule of", item)


def delete(item: Rule) -> Request:
    """Delete such a rule."""
    return Request(_RTM_DELRULE, 0, _payload(item), "delete rule of", item)


def _payload(item: Rule) -> bytes:
    table = item.table or _RT_TABLE_MAIN
    in_head = table if table < 256 else _RT_TABLE_UNSPEC
    return b"".join(
        (
            _HEAD.pack(item.source.af, 0, item.source.bits, 0, in_head, 0, 0, _FR_ACT_TO_TBL, 0),
            attr(_FRA_SRC, item.source.packed),
            attr_u32(_FRA_PRIORITY, item.priority),
            attr_u32(_FRA_TABLE, table) if table != in_head else b"",
            attr_u32(_FRA_SUPPRESS_PREFIXLEN, 0) if item.specific else b"",
            attr_u8(_FRA_PROTOCOL, RTPROT_ISTHMUS),
        )
    )


def all_rules(family: int = 0) -> Request:
    """Ask for the rules of a family (0: of all), as a dump."""
    head = _HEAD.pack(_BY_FAMILY.get(family, 0), 0, 0, 0, 0, 0, 0, 0, 0)
    return Request(_RTM_GETRULE, 0, head, "read", "policy rules")


@decoder
def decode(payload: bytes) -> PolicyRule:
    """Decode an RTM_NEWRULE.

    Raises:
        WireError: not one.
    """
    _, _, length, _, table, _, _, _, _ = _HEAD.unpack_from(payload)
    found = attributes(payload, _HEAD.size)
    source = found.get(_FRA_SRC)
    address = Address.decode(packed_address(source)) if source else None
    wide = found.get(_FRA_TABLE)
    suppressed = int.from_bytes(found.get(_FRA_SUPPRESS_PREFIXLEN, b"\xff" * 4), "little")
    return PolicyRule(
        priority=int.from_bytes(found.get(_FRA_PRIORITY, b""), "little"),
        source=address if address is not None and length == address.bits else None,
        table=table if wide is None else int.from_bytes(wide, "little"),
        specific=suppressed != _UNSUPPRESSED,
        protocol=found.get(_FRA_PROTOCOL, b"\0")[0],
        iifname=text(found.get(_FRA_IIFNAME, b"")),
        oifname=text(found.get(_FRA_OIFNAME, b"")),
    )
