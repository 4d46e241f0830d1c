"""Addresses and prefixes are held to the standard library's `ipaddress`."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.errors import InvalidInput
from isthmus.model.address import Address, Mac, Prefix

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

ADDRESSES = st.ip_addresses()


@st.composite
def networks(draw: st.DrawFn) -> Network:
    address = draw(ADDRESSES)
    length = draw(st.integers(0, address.max_prefixlen))
    network = ipaddress.ip_network((address.packed, length), strict=False)
    assert isinstance(network, Network)
    return network


@given(ADDRESSES)
def test_text_number_and_bytes_agree(witness: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    address = Address.parse(str(witness))
    assert (address.family, address.number, address.packed) == (witness.version, int(witness), witness.packed)
    assert Address.decode(witness.packed) == address
    assert ipaddress.ip_address(str(address)) == witness


@given(ADDRESSES)
def test_kinds_agree(witness: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    address = Address.decode(witness.packed)
    # From 3.13 on `ipaddress` looks into ::ffff:0:0/96; the model does not.
    if not (isinstance(witness, ipaddress.IPv6Address) and witness.ipv4_mapped):
        assert (address.is_loopback, address.is_unspecified) == (witness.is_loopback, witness.is_unspecified)


@given(st.text(alphabet="0123456789abcdef.:/%x ", max_size=24) | st.text(max_size=12))
def test_the_same_texts_are_addresses(text: str) -> None:
    try:
        witness = ipaddress.ip_address(text)
    except ValueError:
        with pytest.raises(InvalidInput):
            Address.parse(text)
        return
    if "%" in text:
        with pytest.raises(InvalidInput):
            Address.parse(text)
    else:
        assert Address.parse(text).packed == witness.packed


@given(networks())
def test_prefixes_agree(witness: Network) -> None:
    prefix = Prefix.parse(str(witness))
    assert (str(prefix.first), prefix.length) == (
        str(Address.decode(witness.network_address.packed)),
        witness.prefixlen,
    )
    assert prefix.size == witness.num_addresses
    assert prefix.last.packed == witness.broadcast_address.packed
    assert Prefix.parse(str(prefix)) == prefix


@given(networks(), st.integers(0))
def test_around_finds_the_prefix_of_each_member(witness: Network, offset: int) -> None:
    prefix = Prefix.parse(str(witness))
    member = prefix.address(prefix.number + offset % prefix.size)
    assert member in prefix
    assert Prefix.around(member, prefix.length) == prefix
    assert Prefix.parse_host(f"{member}/{prefix.length}") == (member, prefix)


@given(networks(), ADDRESSES)
def test_membership_agrees(witness: Network, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    assert (Address.decode(address.packed) in Prefix.parse(str(witness))) == (address in witness)


@given(networks(), networks())
def test_overlap_agrees(one: Network, other: Network) -> None:
    expected = one.version == other.version and one.overlaps(other)
    assert Prefix.parse(str(one)).overlaps(Prefix.parse(str(other))) == expected


@given(networks())
def test_hosts_agree(witness: Network) -> None:
    prefix = Prefix.parse(str(witness))
    assert prefix.hosts.start == int(next(iter(witness.hosts())))
    # Of a prefix that is not counted here the last host is known: all but the broadcast address.
    has_broadcast = witness.version == 4 and witness.prefixlen < 31
    assert prefix.hosts.stop - 1 == int(witness.broadcast_address) - has_broadcast


@given(st.text(max_size=20) | st.text(alphabet="0123456789abcdef:", max_size=18))
def test_no_text_crashes_the_parsers(text: str) -> None:
    for parse in (Address.parse, Prefix.parse, Mac.parse):
        try:
            value = parse(text)
        except InvalidInput:
            continue
        assert parse(str(value)) == value


@given(st.binary(min_size=6, max_size=6).filter(lambda octets: not octets[0] & 1 and any(octets)))
def test_macs_are_read_and_written_alike(octets: bytes) -> None:
    assert Mac.parse(str(Mac(packed=octets))).packed == octets
