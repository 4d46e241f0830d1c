"""What hangs on a link, as one would tell ip(8): for the commands that a change amounts to.

Source: ip-address(8), ip-route(8), ip-nexthop(8), ip-neighbour(8); linux/rtnetlink.h for the names of metrics.
"""

from __future__ import annotations

from isthmus.model.address import Address
from isthmus.netlink.rtnl import carried as rtnl
from isthmus.netlink.wire import attribute_list, attributes, decoder, text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Final

    from isthmus.model.carried import Arrival, CarriedKind

__all__ = ["words"]

_FLAGS: Final = ((0x02, "nodad"), (0x10, "home"), (0x100, "mngtmpaddr"), (0x200, "noprefixroute"), (0x400, "autojoin"))
_SCOPES: Final = {0: "global", 200: "site", 253: "link", 254: "host", 255: "nowhere"}
_KINDS: Final = {2: "local", 3: "broadcast", 4: "anycast", 5: "multicast", 11: "nat"}
_METRICS: Final = {
    2: "mtu",
    3: "window",
    4: "rtt",
    5: "rttvar",
    6: "ssthresh",
    7: "cwnd",
    8: "advmss",
    9: "reordering",
    10: "hoplimit",
    11: "initcwnd",
    12: "features",
    13: "rto_min",
    14: "initrwnd",
    15: "quickack",
    16: "congctl",
    17: "fastopen_no_cookie",
}
_FOREVER: Final = 0xFFFFFFFF
_LLADDR: Final = 2
_NEIGHBOUR_PROTOCOL: Final = 12  # NDA_PROTOCOL, of route(8)'s protocols
_NEIGHBOUR_FLAGS: Final = ((0x80, "router"), (0x10, "extern_learn"))
_RTA_FLOW: Final = 11
_FEATURES: Final = ((1, "ecn"), (16, "tcp_usec_ts"))  # linux/rtnetlink.h, RTAX_FEATURE_*
_PREFERENCES: Final = {1: "high", 3: "low"}
_IFA_BROADCAST, _IFA_RT_PRIORITY = 4, 9
_RTA_PREFSRC, _RTA_METRICS, _RTA_SRC, _RTA_PREF = 7, 8, 2, 20
_NHA_GATEWAY: Final = 6


@decoder
def words(kind: CarriedKind, payload: bytes, name: str, index: int, arrival: Arrival) -> tuple[str, ...]:
    """Return the words after `ip` that hang it on a link; `{dev}` stands for the link, `name` is its present one."""
    match kind:
        case rtnl.ADDRESS:
            return tuple(_address(payload, name))
        case rtnl.ROUTE:
            return tuple(_route(payload, index, "prepend" if arrival == "first" else "append"))
        case rtnl.NEXTHOP:
            return tuple(_nexthop(payload))
        case _:
            return tuple(_neighbour(payload))


def _number(data: bytes) -> int:
    return int.from_bytes(data, "little")


def _text(packed: bytes) -> str:
    return str(Address.decode(packed))


def _address(payload: bytes, name: str) -> Iterator[str]:
    family, length, flags, scope, _ = rtnl.IFADDRMSG.unpack_from(payload)
    found = attributes(payload, rtnl.IFADDRMSG.size)
    local, peer = found.get(rtnl.IFA_LOCAL), found.get(rtnl.IFA_ADDRESS, b"")
    yield from ("address", "replace")
    if local is not None and local != peer:
        yield from (_text(local), "peer", f"{_text(peer)}/{length}")
    else:
        yield f"{_text(local or peer)}/{length}"
    if _IFA_BROADCAST in found:
        yield from ("broadcast", _text(found[_IFA_BROADCAST]))
    if rtnl.IFA_LABEL in found and text(found[rtnl.IFA_LABEL]) != name:
        yield from ("label", rtnl.relabelled(text(found[rtnl.IFA_LABEL]), name, "{dev}"))
    if family == rtnl.AF_INET:
        yield from ("scope", _SCOPES.get(scope, str(scope)))
    yield from ("dev", "{dev}")
    if _IFA_RT_PRIORITY in found:
        yield from ("metric", str(_number(found[_IFA_RT_PRIORITY])))
    if rtnl.IFA_CACHEINFO in found:
        preferred, valid = _number(found[rtnl.IFA_CACHEINFO][:4]), _number(found[rtnl.IFA_CACHEINFO][4:8])
        if (preferred, valid) != (_FOREVER, _FOREVER):
            yield from ("valid_lft", _lifetime(valid), "preferred_lft", _lifetime(preferred))
    flags = _number(found[rtnl.IFA_FLAGS]) if rtnl.IFA_FLAGS in found else flags
    yield from (word for bit, word in _FLAGS if flags & bit)


def _lifetime(seconds: int) -> str:
    return "forever" if seconds == _FOREVER else str(seconds)


def _route(payload: bytes, index: int, verb: str) -> Iterator[str]:
    family, length, source_length, tos, table, protocol, scope, kind, flags = rtnl.RTMSG.unpack_from(payload)
    found = attributes(payload, rtnl.RTMSG.size)
    yield from ("-4" if family == rtnl.AF_INET else "-6", "route", verb)
    if kind in _KINDS:
        yield _KINDS[kind]
    yield f"{_text(found[rtnl.RTA_DST])}/{length}" if length else "default"
    if source_length:
        yield from ("from", f"{_text(found[_RTA_SRC])}/{source_length}")
    if tos:
        yield from ("tos", hex(tos))
    if rtnl.RTA_NH_ID in found:
        yield from ("nhid", str(_number(found[rtnl.RTA_NH_ID])))
    else:
        yield from _way(found, "dev", "{dev}") if rtnl.RTA_OIF in found else ()
    if flags & rtnl.RTNH_F_ONLINK:
        yield "onlink"
    yield from ("table", str(_number(found[rtnl.RTA_TABLE]) if rtnl.RTA_TABLE in found else table))
    yield from ("protocol", str(protocol))
    if family == rtnl.AF_INET:
        yield from ("scope", _SCOPES.get(scope, str(scope)))
    if rtnl.RTA_PRIORITY in found:
        yield from ("metric", str(_number(found[rtnl.RTA_PRIORITY])))
    if _RTA_PREFSRC in found:
        yield from ("src", _text(found[_RTA_PREFSRC]))
    yield from _realms(found.get(_RTA_FLOW, b""))
    yield from _metrics(found.get(_RTA_METRICS, b""))
    expires = int.from_bytes(found.get(rtnl.RTA_CACHEINFO, bytes(12))[8:12], "little", signed=True)
    if expires > 0:
        yield from ("expires", str(expires // 100))
    if found.get(_RTA_PREF, b"\0")[0] in _PREFERENCES:
        yield from ("pref", _PREFERENCES[found[_RTA_PREF][0]])
    yield from _hops(found.get(rtnl.RTA_MULTIPATH, b"") if rtnl.RTA_NH_ID not in found else b"", index)


def _way(found: Mapping[int, bytes], *device: str) -> Iterator[str]:
    if rtnl.RTA_GATEWAY in found:
        yield from ("via", _text(found[rtnl.RTA_GATEWAY]))
    elif rtnl.RTA_VIA in found:
        yield from ("via", "inet6", _text(found[rtnl.RTA_VIA][2:]))
    yield from device


def _metrics(data: bytes) -> Iterator[str]:
    found = dict(attribute_list(data))
    locked = _number(found.get(1, b""))
    for kind, name in _METRICS.items():
        if kind in found:
            yield name
            if locked >> kind & 1 and name != "rto_min":  # which ip(8) always locks
                yield "lock"
            yield text(found[kind]) if name == "congctl" else _metric(name, _number(found[kind]))


def _metric(name: str, value: int) -> str:
    if name == "features":
        return next((word for flag, word in _FEATURES if value & flag), str(value))
    return str(value)


def _realms(data: bytes) -> Iterator[str]:
    if data:
        source, target = divmod(_number(data), 1 << 16)
        yield from ("realms", f"{source}/{target}" if source else str(target))


def _hops(data: bytes, own: int) -> Iterator[str]:
    """Yield the legs of a multipath route; another link is named by its index, as `if7`, which ip(8) understands."""
    offset = 0
    while offset + rtnl.RTNEXTHOP.size <= len(data):
        size, flags, weight, index = rtnl.RTNEXTHOP.unpack_from(data, offset)
        found = attributes(data[offset : offset + size], rtnl.RTNEXTHOP.size)
        yield from (
            "nexthop",
            *_way(found),
            "dev",
            "{dev}" if index == own else f"if{index}",
            "weight",
            str(weight + 1),
            *_realms(found.get(_RTA_FLOW, b"")),
        )
        if flags & rtnl.RTNH_F_ONLINK:
            yield "onlink"
        offset += max((size + 3) & ~3, rtnl.RTNEXTHOP.size)


def _nexthop(payload: bytes) -> Iterator[str]:
    flags = rtnl.NHMSG.unpack_from(payload)[3]
    found = attributes(payload, rtnl.NHMSG.size)
    yield from ("nexthop", "replace", "id", str(_number(found[rtnl.NHA_ID])))
    if _NHA_GATEWAY in found:
        yield from ("via", _text(found[_NHA_GATEWAY]))
    yield from ("dev", "{dev}")
    if flags & rtnl.RTNH_F_ONLINK:
        yield "onlink"


def _neighbour(payload: bytes) -> Iterator[str]:
    found = attributes(payload, rtnl.NDMSG.size)
    destination, flags = _text(found[rtnl.NDA_DST]), rtnl.NDMSG.unpack_from(payload)[3]
    yield from ("neighbour", "replace")
    if _LLADDR not in found:
        yield from ("proxy", destination, "dev", "{dev}")
    else:
        mac = ":".join(f"{byte:02x}" for byte in found[_LLADDR])
        yield from (destination, "lladdr", mac, "dev", "{dev}", "nud", "permanent")
    yield from (word for flag, word in _NEIGHBOUR_FLAGS if flags & flag)
    if _NEIGHBOUR_PROTOCOL in found:
        yield from ("protocol", str(found[_NEIGHBOUR_PROTOCOL][0]))
