"""nf_tables over nfnetlink: the generation id, set and map elements, what is loaded in our tables.

Numbers on this wire are in network order. An interval is two elements in a plain set (its end, one past
the last, flagged NFT_SET_ELEM_INTERVAL_END) and one element with NFTA_SET_ELEM_KEY_END in a
concatenated set. Source: linux/netfilter/nf_tables.h, nfnetlink.h; nft(8) for type widths.
"""

from __future__ import annotations

from struct import Struct

from isthmus.model.address import Address, AddressRange, Mac, Prefix
from isthmus.model.host import Element
from isthmus.model.ruleset import FAMILIES, SETS, TABLE, SetType
from isthmus.netlink.wire import (
    NLM_F_CREATE,
    Request,
    WireError,
    attr,
    attr_string,
    attribute_list,
    attributes,
    decoder,
    nested,
    text,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    Part = int | str | Address | Prefix | AddressRange | Mac
    Parts = tuple[Part, ...]
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from typing import Final

__all__ = [
    "add_elements",
    "all_rules",
    "batch_begin",
    "batch_end",
    "chains",
    "decode_elements",
    "decode_generation",
    "delete_elements",
    "delete_table",
    "dump_elements",
    "element",
    "families_of",
    "fingerprint",
    "foreign_forward_chains",
    "generation",
    "rules",
    "sets",
    "table",
]

_NFTABLES: Final = 10 << 8
_BATCH_BEGIN: Final = 16
_BATCH_END: Final = 17
_NFNL_BATCH_GENID: Final = 1
_GETTABLE: Final = _NFTABLES | 1
_DELTABLE: Final = _NFTABLES | 2
_GETCHAIN: Final = _NFTABLES | 4
_FAMILIES: Final = {1: "inet", 2: "ip", 3: "arp", 5: "netdev", 7: "bridge", 10: "ip6"}  # linux/netfilter.h
_GETRULE: Final = _NFTABLES | 7
_GETSET: Final = _NFTABLES | 10
_NEWSETELEM: Final = _NFTABLES | 12
_GETSETELEM: Final = _NFTABLES | 13
_DELSETELEM: Final = _NFTABLES | 14
_GETGEN: Final = _NFTABLES | 16

_NFTA_TABLE_NAME: Final = 1
_NFTA_GEN_ID: Final = 1
_NFTA_CHAIN_TABLE: Final = 1
_NFTA_CHAIN_NAME: Final = 3
_NFTA_CHAIN_HOOK: Final = 4
_NFTA_HOOK_HOOKNUM: Final = 1
_NF_INET_FORWARD: Final = 2
_NFTA_CHAIN_VOLATILE: Final = frozenset({2, 6, 8, 9, 12})  # handle, use, counters, pad, userdata
_NFTA_RULE_TABLE: Final = 1
_NFTA_RULE_CHAIN: Final = 2
_NFTA_RULE_EXPRESSIONS: Final = 4
_NFTA_EXPR_NAME: Final = 1
_NFTA_EXPR_DATA: Final = 2
_NFTA_SET_TABLE: Final = 1
_NFTA_SET_NAME: Final = 2
_NFTA_SET_STABLE: Final = (2, 3, 5, 7)  # name, flags, key length, data length
_NFTA_LIST_TABLE: Final = 1
_NFTA_LIST_SET: Final = 2
_NFTA_LIST_ELEMENTS: Final = 3
_NFTA_LIST_ELEM: Final = 1
_NFTA_SET_ELEM_KEY: Final = 1
_NFTA_SET_ELEM_DATA: Final = 2
_NFTA_SET_ELEM_FLAGS: Final = 3
_NFTA_SET_ELEM_KEY_END: Final = 10
_NFTA_DATA_VALUE: Final = 1
_INTERVAL_END: Final = 1

# struct nfgenmsg: family, version, res_id
_HEADS: Final = {name: bytes((number, 0, 0, 0)) for number, name in _FAMILIES.items()}
_HOST_U32: Final = Struct(">I")
_LONE_MAC: Final = ("ether_addr",)
_MAC_LENGTH: Final = 6
_ELEMENTS_A_MESSAGE: Final = 400  # a nested attribute holds 64 KiB at most


def generation() -> Request:
    """Ask for the generation id, which every committed batch of anybody raises."""
    return Request(_GETGEN, 0, bytes(4), "read", "the nf_tables generation")


@decoder
def decode_generation(payload: bytes) -> int:
    """Decode the answer to `generation`."""
    return int.from_bytes(attributes(payload, 4)[_NFTA_GEN_ID], "big")


def batch_begin(generation_id: int | None) -> Request:
    """Open a batch; with a generation id it is refused (ERESTART) when the rules have moved on."""
    payload = bytes((0, 0, 0, 10))
    if generation_id is not None:
        payload += attr(_NFNL_BATCH_GENID, _HOST_U32.pack(generation_id))
    return Request(_BATCH_BEGIN, 0, payload, "commit to", "table inet isthmus")


def batch_end() -> Request:
    """Close a batch."""
    return Request(_BATCH_END, 0, bytes((0, 0, 0, 10)), "commit to", "table inet isthmus")


def delete_table(family: str) -> Request:
    """Delete our table of a family and all that is in it (inside a batch)."""
    payload = _HEADS[family] + attr_string(_NFTA_TABLE_NAME, TABLE)
    return Request(_DELTABLE, 0, payload, "delete", f"table {family} isthmus")


def table(family: str) -> Request:
    """Ask for our table of a family; ENOENT: it is not there."""
    payload = _HEADS[family] + attr_string(_NFTA_TABLE_NAME, TABLE)
    return Request(_GETTABLE, 0, payload, "read", f"table {family} isthmus")


def add_elements(elements: Sequence[Element]) -> list[Request]:
    """Add elements, in one message for each set (a batch takes them)."""
    return _element_messages(_NEWSETELEM, NLM_F_CREATE, elements, "add elements to")


def delete_elements(elements: Sequence[Element]) -> list[Request]:
    """Delete elements; one that is missing fails the batch with ENOENT."""
    return _element_messages(_DELSETELEM, 0, elements, "delete elements of")


def element(one: Element) -> Request:
    """Ask for one element of a hash set by its key; ENOENT: it is not there."""
    return Request(_GETSETELEM, 0, _element_list(one.name, [_encode(one, with_data=False)]), "read", one.name)


def dump_elements(name: str) -> Request:
    """Ask for all elements of a set, as a dump."""
    payload = _HEADS[SETS[name].family] + attr_string(_NFTA_LIST_TABLE, TABLE) + attr_string(_NFTA_LIST_SET, name)
    return Request(_GETSETELEM, 0, payload, "read", f"set {name}")


def _element_messages(kind: int, flags: int, elements: Sequence[Element], operation: str) -> list[Request]:
    by_set: dict[str, list[bytes]] = {}
    for one in elements:
        by_set.setdefault(one.name, []).append(_encode(one, with_data=True))
    found = []
    for name, encoded in by_set.items():
        for start in range(0, len(encoded), _ELEMENTS_A_MESSAGE):
            payload = _element_list(name, encoded[start : start + _ELEMENTS_A_MESSAGE])
            found.append(Request(kind, flags, payload, operation, f"set {name}"))
    return found


def _element_list(name: str, encoded: Iterable[bytes]) -> bytes:
    return (
        _HEADS[SETS[name].family]
        + attr_string(_NFTA_LIST_TABLE, TABLE)
        + attr_string(_NFTA_LIST_SET, name)
        + nested(_NFTA_LIST_ELEMENTS, *encoded)
    )


def _encode(one: Element, *, with_data: bool) -> bytes:
    kind = SETS[one.name]
    low = _encode_parts(kind.key, one.parts)
    body = nested(_NFTA_SET_ELEM_KEY, attr(_NFTA_DATA_VALUE, low))
    high = b""
    if kind.interval:
        high = _encode_parts(kind.key, one.parts, last=True)
        if len(kind.key) > 1:
            body += nested(_NFTA_SET_ELEM_KEY_END, attr(_NFTA_DATA_VALUE, high))
    if with_data and one.data:
        body += nested(_NFTA_SET_ELEM_DATA, attr(_NFTA_DATA_VALUE, _encode_parts(kind.data, one.data)))
    found = nested(_NFTA_LIST_ELEM, body)
    if kind.interval and len(kind.key) == 1:
        end = int.from_bytes(high, "big") + 1
        if end < 1 << 8 * len(high):
            key = nested(_NFTA_SET_ELEM_KEY, attr(_NFTA_DATA_VALUE, end.to_bytes(len(high), "big")))
            flag = attr(_NFTA_SET_ELEM_FLAGS, _HOST_U32.pack(_INTERVAL_END))
            found += nested(_NFTA_LIST_ELEM, key, flag)
    return found


def _encode_parts(kinds: tuple[str, ...], parts: Parts, *, last: bool = False) -> bytes:
    found = b"".join([_encode_part(kind, part, last=last) for kind, part in zip(kinds, parts, strict=True)])
    # A part of several is padded to whole words.
    return found if kinds != _LONE_MAC else found[:_MAC_LENGTH]


def _encode_part(kind: str, part: object, *, last: bool) -> bytes:
    if kind == "ifname":
        return str(part).encode().ljust(16, b"\0")
    if kind == "inet_proto":
        return bytes((part, 0, 0, 0)) if isinstance(part, int) else b""
    if kind == "inet_service":
        return part.to_bytes(2, "big") + b"\0\0" if isinstance(part, int) else b""
    if isinstance(part, Prefix | AddressRange):
        return (part.last if last else part.first).packed
    if isinstance(part, Mac):
        return part.packed + b"\0\0"
    assert isinstance(part, Address)
    return part.packed


_WIDTH: Final = {"ifname": 16, "ether_addr": 8, "inet_proto": 4, "inet_service": 4, "ipv4_addr": 4, "ipv6_addr": 16}


@decoder
def decode_elements(payloads: Iterable[bytes]) -> list[Element]:
    """Decode the answers to `element` or `dump_elements` of one set.

    Raises:
        WireError: not such a message, or a set that we do not know.
    """
    plain: list[Element] = []
    edges: list[tuple[int, bool, Parts]] = []
    name, kind = "", SetType(key=())
    for payload in payloads:
        found = attributes(payload, 4)
        name = text(found[_NFTA_LIST_SET])
        if name not in SETS:
            raise WireError(f"unknown set {name}")
        kind = SETS[name]
        for _, body in attribute_list(found.get(_NFTA_LIST_ELEMENTS, b"")):
            parts = attributes(body)
            low = attributes(parts[_NFTA_SET_ELEM_KEY])[_NFTA_DATA_VALUE]
            data = attributes(parts.get(_NFTA_SET_ELEM_DATA, b"")).get(_NFTA_DATA_VALUE, b"")
            values = tuple(_decode_parts(kind.data, data, data)) if data else ()
            if kind.interval and len(kind.key) == 1:
                flags = int.from_bytes(parts.get(_NFTA_SET_ELEM_FLAGS, b"\0"), "big")
                edges.append((int.from_bytes(low, "big"), bool(flags & _INTERVAL_END), values))
            else:
                end = attributes(parts.get(_NFTA_SET_ELEM_KEY_END, b"")).get(_NFTA_DATA_VALUE, low)
                plain.append(Element(name=name, parts=tuple(_decode_parts(kind.key, low, end)), data=values))
    return plain + list(_pair_edges(name, kind, edges))


def _pair_edges(name: str, kind: SetType, edges: list[tuple[int, bool, Parts]]) -> Iterator[Element]:
    if not edges:
        return
    width = _WIDTH[kind.key[0]]
    edges.sort(key=lambda edge: (edge[0], not edge[1]))
    ends = [number for number, is_end, _ in edges if is_end]
    for number, is_end, data in edges:
        if is_end:
            continue
        end = next((one for one in ends if one > number), 1 << 8 * width)
        last = (end - 1).to_bytes(width, "big")
        parts = tuple(_decode_parts(kind.key, number.to_bytes(width, "big"), last))
        yield Element(name=name, parts=parts, data=data)


def _decode_parts(kinds: tuple[str, ...], low: bytes, high: bytes) -> Iterator[Part]:
    offset = 0
    for kind in kinds:
        width = _WIDTH[kind] if kinds != _LONE_MAC else _MAC_LENGTH
        piece, last = low[offset : offset + width], high[offset : offset + width]
        if len(piece) != width or len(last) != width:
            raise WireError(f"a key or value of {len(low)} bytes for {' . '.join(kinds)}")
        offset += width
        if kind == "ifname":
            yield text(piece)
        elif kind == "inet_proto":
            yield piece[0]
        elif kind == "inet_service":
            yield int.from_bytes(piece[:2], "big")
        elif kind == "ether_addr":
            yield Mac(packed=piece[:_MAC_LENGTH])
        elif piece == last and low is high:
            yield Address.decode(piece)
        else:
            yield _interval(Address.decode(piece), Address.decode(last))


def _interval(first: Address, last: Address) -> Prefix | AddressRange:
    size = last.number - first.number + 1
    prefix = Prefix.around(first, first.bits - (size.bit_length() - 1))
    return prefix if (prefix.first, prefix.last) == (first, last) else AddressRange(first=first, last=last)


def chains() -> Request:
    """Ask for all chains of all families, as a dump."""
    return Request(_GETCHAIN, 0, bytes(4), "read", "chains")


def rules(family: str) -> Request:
    """Ask for the rules of our table of a family, as a dump."""
    return Request(_GETRULE, 0, _HEADS[family] + attr_string(_NFTA_RULE_TABLE, TABLE), "read", "rules")


def all_rules() -> Request:
    """Ask for the rules of all tables, as a dump."""
    return Request(_GETRULE, 0, bytes(4), "read", "rules")


def sets(family: str) -> Request:
    """Ask for the sets of our table of a family, as a dump."""
    return Request(_GETSET, 0, _HEADS[family] + attr_string(_NFTA_SET_TABLE, TABLE), "read", "sets")


@decoder
def families_of(chain_dump: Iterable[bytes]) -> list[str]:
    """Return the families in which a table of ours has chains, in the order of FAMILIES."""
    found = {payload[:1] for payload in chain_dump if _is_ours(attributes(payload, 4))}
    return [family for family in FAMILIES if _HEADS[family][:1] in found]


def _is_ours(chain: Mapping[int, bytes]) -> bool:
    return text(chain.get(_NFTA_CHAIN_TABLE, b"")) == TABLE


def foreign_forward_chains(chain_dump: Iterable[bytes]) -> Iterator[str]:
    """Yield `TABLE CHAIN` of base chains at the forward hook that are not ours."""
    for payload in chain_dump:
        found = attributes(payload, 4)
        hook = attributes(found.get(_NFTA_CHAIN_HOOK, b""))
        name = text(found.get(_NFTA_CHAIN_TABLE, b""))
        if name != TABLE and int.from_bytes(hook.get(_NFTA_HOOK_HOOKNUM, b"\xff"), "big") == _NF_INET_FORWARD:
            yield f"{name} {text(found.get(_NFTA_CHAIN_NAME, b''))}"


@decoder
def fingerprint(
    family: str, chain_dump: Iterable[bytes], rule_dump: Iterable[bytes], set_dump: Iterable[bytes]
) -> bytes:
    """Return what identifies a loaded table: all that a stranger could have changed, no handle, no counter."""
    return b"".join((*_chain_prints(family, chain_dump), *_rule_prints(rule_dump), *sorted(_set_prints(set_dump))))


def _chain_prints(family: str, dump: Iterable[bytes]) -> Iterator[bytes]:
    for payload in dump:
        found = attributes(payload, 4)
        if payload[:1] == _HEADS[family][:1] and _is_ours(found):
            kept = [attr(kind, found[kind]) for kind in sorted(found) if kind not in _NFTA_CHAIN_VOLATILE]
            yield b"chain" + b"".join(kept)


def _rule_prints(dump: Iterable[bytes]) -> Iterator[bytes]:
    for payload in dump:
        found = attributes(payload, 4)
        yield b"rule" + found[_NFTA_RULE_CHAIN]
        for _, body in attribute_list(found.get(_NFTA_RULE_EXPRESSIONS, b"")):
            parts = attributes(body)
            name = parts[_NFTA_EXPR_NAME]
            yield name if text(name) == "counter" else name + parts.get(_NFTA_EXPR_DATA, b"")


def _set_prints(dump: Iterable[bytes]) -> Iterator[bytes]:
    for payload in dump:
        found = attributes(payload, 4)
        yield b"set" + b"".join(attr(kind, found.get(kind, b"")) for kind in _NFTA_SET_STABLE)
