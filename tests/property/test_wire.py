"""What is encoded is decoded again, and bytes from anywhere make a decoder raise WireError or nothing at all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.property.objects import ADDRESSES, TEXT, elements

from isthmus.model.address import Address, Mac, Prefix
from isthmus.model.host import Rule
from isthmus.model.ruleset import SETS
from isthmus.netlink import conntrack, nft
from isthmus.netlink.rtnl import address, link, route, rule
from isthmus.netlink.wire import (
    MESSAGE_HEADER,
    WireError,
    attr,
    attr_string,
    attribute_list,
    attributes,
    messages,
    nested,
    pick,
    text,
)

_KINDS: Final = st.integers(0, 0x3FFF)


@given(st.lists(st.tuples(_KINDS, st.binary(max_size=40)), max_size=8))
def test_attributes_are_read_as_they_were_written(pairs: list[tuple[int, bytes]]) -> None:
    data = b"".join(attr(kind, payload) for kind, payload in pairs)
    assert list(attribute_list(data)) == pairs
    assert attributes(data) == dict(pairs)
    assert pick(data, frozenset(dict(pairs))) == dict(pairs)
    assert list(attribute_list(attributes(nested(7, data))[7])) == pairs
    assert len(data) % 4 == 0


@given(TEXT)
def test_strings_are_read_as_they_were_written(word: str) -> None:
    assert text(attributes(attr_string(3, word))[3]) == word


@given(
    st.lists(
        st.tuples(st.integers(0, 65535), st.integers(0, 65535), st.integers(0, 2**32 - 1), st.binary(max_size=30)),
        max_size=5,
    )
)
def test_messages_are_split_as_they_were_joined(wanted: list[tuple[int, int, int, bytes]]) -> None:
    data = b"".join(
        MESSAGE_HEADER.pack(16 + len(payload), kind, flags, sequence, 0) + payload + b"\0" * (-len(payload) % 4)
        for kind, flags, sequence, payload in wanted
    )
    assert list(messages(data)) == wanted


@pytest.mark.parametrize("name", SETS)
@settings(max_examples=25)
@given(data=st.data())
def test_elements_are_read_as_they_were_written(name: str, data: st.DataObject) -> None:
    one = data.draw(elements(name))
    (request,) = nft.add_elements([one])
    assert nft.decode_elements([request.payload]) == [one]


@given(ADDRESSES, st.integers(1, 2**31 - 1))
def test_addresses_are_read_as_they_were_written(one: Address, index: int) -> None:
    found = address.decode(address.add(index, one, 24, "").payload)
    assert (found.index, found.address, found.length, found.proto) == (index, one, 24, address.IFA_PROTO_ISTHMUS)


@given(ADDRESSES, st.integers(0, 32), st.integers(1, 2**31 - 1))
def test_routes_are_read_as_they_were_written(via: Address, length: int, index: int) -> None:
    prefix = Prefix.around(via, length)
    found = route.decode(route.add(prefix, via, index, "").payload)
    assert (found.prefix, found.via, found.oifs, found.protocol) == (prefix, via, (index,), route.RTPROT_ISTHMUS)
    assert found.table == 254
    assert route.decode(route.add(prefix, via, index, "", table=2**31 + length).payload).table == 2**31 + length


@given(ADDRESSES, st.integers(0, 2**31), st.integers(0, 2**32 - 1), st.booleans())
def test_rules_are_read_as_they_were_written(source: Address, priority: int, table: int, specific: bool) -> None:
    one = Rule(netns="a", priority=priority, source=source, table=table, specific=specific)
    found = rule.decode(rule.add(one).payload)
    assert found.is_as(one)
    assert not found.is_as(one.replace(specific=not specific))
    assert rule.delete(one).payload == rule.add(one).payload


@given(st.binary(min_size=6, max_size=6), st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_bridges_are_read_as_they_were_written(packed: bytes, mtu: int, group: int) -> None:
    request = link.create_bridge("br0", mac=Mac(packed=packed), mtu=mtu, group=group)
    found = link.decode(request.payload)
    assert (found.name, found.kind, found.mac, found.mtu, found.group) == (
        "br0",
        "bridge",
        Mac(packed=packed),
        mtu,
        group,
    )


_DECODERS: Final[dict[str, Callable[[bytes], object]]] = {
    "attributes": attributes,
    "attribute_list": lambda data: list(attribute_list(data)),
    "pick": lambda data: pick(data, frozenset({1, 2, 3})),
    "messages": lambda data: list(messages(data)),
    "address": address.decode,
    "link": link.decode,
    "route": route.decode,
    "rule": rule.decode,
    "conntrack": conntrack.decode,
    "generation": nft.decode_generation,
    "elements": lambda data: nft.decode_elements([data]),
    "forward chains": lambda data: list(nft.foreign_forward_chains([data])),
    "chain print": lambda data: nft.fingerprint("inet", [data], [], []),
    "rule print": lambda data: nft.fingerprint("inet", [], [data], []),
    "set print": lambda data: nft.fingerprint("bridge", [], [], [data]),
}
_ATTRIBUTE: Final = st.recursive(
    st.builds(attr, st.integers(0, 33) | _KINDS, st.binary(max_size=20)),
    lambda inner: st.builds(lambda kind, parts: nested(kind, *parts), st.integers(0, 33), st.lists(inner, max_size=4)),
    max_leaves=8,
)
_LIKELY: Final = st.builds(
    lambda head, parts: head + b"".join(parts),
    st.sampled_from((0, 4, 8, 12, 16)).flatmap(lambda size: st.binary(min_size=size, max_size=size)),
    st.lists(_ATTRIBUTE, max_size=5),
)
_NAMED: Final = st.builds(
    lambda name, parts: b"\1\0\0\0" + attr_string(2, name) + nested(3, *(nested(1, one) for one in parts)),
    st.sampled_from(sorted(SETS)),
    st.lists(_ATTRIBUTE, max_size=3),
)


@pytest.mark.parametrize("name", _DECODERS)
@settings(max_examples=300)
@given(data=st.binary(max_size=60) | _LIKELY | _NAMED)
def test_bytes_from_anywhere_are_decoded_or_refused(name: str, data: bytes) -> None:
    try:
        found = _DECODERS[name](data)
    except WireError:
        return
    str(found)
    repr(found)


@given(st.data())
@settings(max_examples=300)
def test_a_message_with_a_wrong_byte_is_decoded_or_refused(data: st.DataObject) -> None:
    """Begin with good messages of the kernel's own form."""
    good = data.draw(
        st.sampled_from(
            [
                ("address", address.add(3, Address.parse("10.0.0.1"), 24, "").payload),
                ("route", route.add(Prefix.parse("10.0.0.0/8"), Address.parse("10.0.0.1"), 3, "").payload),
                ("rule", rule.add(Rule(netns="a", priority=9, source=Address.parse("::1"), table=999)).payload),
                ("link", link.create_bridge("br0", mac=Mac(packed=bytes(6)), mtu=1500, group=1).payload),
                ("elements", nft.add_elements([data.draw(elements("snat6"))])[0].payload),
                ("elements", nft.add_elements([data.draw(elements("port4"))])[0].payload),
            ]
        )
    )
    name, payload = good
    place = data.draw(st.integers(0, len(payload) - 1))
    wrong = payload[:place] + data.draw(st.binary(min_size=1, max_size=1)) + payload[place + 1 :]
    for one in (wrong, payload[:place]):
        try:
            str(_DECODERS[name](one))
        except WireError:
            continue
