"""Rules of others that ask for a link, by its name or its index: in a comparison, or in a set or map.

A rule is expressions that load registers and look at them. Where a name is compared in part it is a prefix, as `eth*`.
In a set that holds intervals an element is where one begins, or ends. Source: linux/netfilter/nf_tables.h,
net/netfilter/nft_meta.c, nft_cmp.c, nft_lookup.c.
"""

from __future__ import annotations

from isthmus.model.ruleset import TABLE
from isthmus.model.value import Value
from isthmus.netlink.wire import Request, attr_string, attribute_list, attributes, decoder, text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Final

__all__ = ["Lookup", "Rule", "elements", "holds", "names"]

_GETSETELEM: Final = 10 << 8 | 13
# Not bridge and netdev: what they see is still the interface's.
_FAMILIES: Final = {1: "inet", 2: "ip", 3: "arp", 10: "ip6"}
_RULE_TABLE, _RULE_EXPRESSIONS = 1, 4
_EXPR_NAME, _EXPR_DATA = 1, 2
_META_DREG, _META_KEY = 1, 2
_INDEX_KEYS: Final = frozenset({4, 5})  # NFT_META_IIF, OIF
_NAME_KEYS: Final = frozenset({6, 7})  # NFT_META_IIFNAME, OIFNAME
_CMP_SREG, _CMP_DATA = 1, 3
_LOOKUP_SET, _LOOKUP_SREG = 1, 2
_DATA_VALUE: Final = 1
_LIST_TABLE, _LIST_SET, _LIST_ELEMENTS = 1, 2, 3
_ELEM_KEY, _ELEM_FLAGS, _ELEM_KEY_END = 1, 3, 10
_INTERVAL_END: Final = 1
_NFT_REG32_00: Final = 8


class Lookup(Value):
    """A look into a set or map, at `offset` of whose keys a link is asked for that is `value` there."""

    name: str
    offset: int
    value: bytes


class Rule(Value):
    """What a rule of another table asks a link for: `compares` with it, or looks into sets for one."""

    family: int
    table: str
    compares: bool
    lookups: tuple[Lookup, ...]

    def __str__(self) -> str:
        return f"{_FAMILIES[self.family]} {self.table}"


@decoder
def names(payload: bytes, name: str, index: int) -> Rule | None:
    """Return what a rule asks of a link; None: nothing, or it is a rule of ours."""
    parts = attributes(payload, 4)
    table = text(parts.get(_RULE_TABLE, b""))
    if table == TABLE or payload[0] not in _FAMILIES:
        return None
    loaded: dict[int, bytes] = {}  # by the register's offset: what the link is there
    compares, lookups = False, []
    for _, body in attribute_list(parts.get(_RULE_EXPRESSIONS, b"")):
        expression = attributes(body)
        kind, data = text(expression[_EXPR_NAME]), attributes(expression.get(_EXPR_DATA, b""))
        if kind == "meta" and _META_DREG in data:
            _load(loaded, data, name, index)
        elif kind == "cmp":
            value = attributes(data[_CMP_DATA]).get(_DATA_VALUE, b"")
            own = loaded.get(_offset(data[_CMP_SREG]), b"")
            compares = compares or (len(own) > 0 and own.startswith(value))
        elif kind == "lookup":
            start = _offset(data[_LOOKUP_SREG])
            found = [(at - start, value) for at, value in loaded.items() if at >= start]
            lookups += [Lookup(name=text(data[_LOOKUP_SET]), offset=at, value=value) for at, value in found]
    return Rule(family=payload[0], table=table, compares=compares, lookups=tuple(lookups))


def _load(loaded: dict[int, bytes], data: Mapping[int, bytes], name: str, index: int) -> None:
    key, at = int.from_bytes(data[_META_KEY], "big"), _offset(data[_META_DREG])
    loaded.pop(at, None)
    if key in _NAME_KEYS:
        loaded[at] = name.encode().ljust(16, b"\0")
    elif key in _INDEX_KEYS:
        loaded[at] = index.to_bytes(4, "little")


def _offset(register: bytes) -> int:
    """Return where a register begins: the first four are of 16 bytes, those from 8 on are their parts."""
    number = int.from_bytes(register, "big")
    return (number - 1) * 16 if number < _NFT_REG32_00 else (number - _NFT_REG32_00) * 4


def elements(rule: Rule, lookup: Lookup) -> Request:
    """Ask for all elements of a set that a rule looks into, as a dump."""
    payload = bytes((rule.family, 0, 0, 0)) + attr_string(_LIST_TABLE, rule.table)
    return Request(_GETSETELEM, 0, payload + attr_string(_LIST_SET, lookup.name), "read", f"set {lookup.name}")


@decoder
def holds(lookup: Lookup, payloads: Iterable[bytes]) -> bool:
    """Whether a set has an element for the link."""
    edges = []
    for low, high, is_end in _keys(payloads):
        first, last = (key[lookup.offset : lookup.offset + len(lookup.value)] for key in (low, high))
        if first <= lookup.value <= last and not is_end:
            return True
        edges.append((first, not is_end))
    if all(begins for _, begins in edges):
        return False  # no intervals
    before = [edge for edge in sorted(edges) if edge[0] <= lookup.value]
    return bool(before) and before[-1][1]


def _keys(payloads: Iterable[bytes]) -> Iterator[tuple[bytes, bytes, bool]]:
    for payload in payloads:
        for _, body in attribute_list(attributes(payload, 4).get(_LIST_ELEMENTS, b"")):
            parts = attributes(body)
            low = attributes(parts.get(_ELEM_KEY, b"")).get(_DATA_VALUE, b"")
            high = attributes(parts.get(_ELEM_KEY_END, b"")).get(_DATA_VALUE, low)
            if low:  # else it is the catch-all one
                yield low, high, bool(int.from_bytes(parts.get(_ELEM_FLAGS, b"\0"), "big") & _INTERVAL_END)
