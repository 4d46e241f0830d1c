"""Tests of model/address.py: text, bits and what is refused."""

from __future__ import annotations

import socket

import pytest

from isthmus.errors import InvalidInput
from isthmus.model.address import IPV4, IPV6, Address, Mac, Prefix


def test_an_ipv4_address_is_a_number_in_host_order() -> None:
    address = Address.parse("192.0.2.1")
    assert (address.family, address.number, address.bits, address.af) == (IPV4, 0xC0000201, 32, socket.AF_INET)
    assert address.packed == b"\xc0\x00\x02\x01"


def test_an_ipv6_address_is_a_number_in_host_order() -> None:
    address = Address.parse("2001:db8::1")
    assert (address.family, address.bits, address.af) == (IPV6, 128, socket.AF_INET6)
    assert address.number == 0x20010DB8000000000000000000000001


@pytest.mark.parametrize("text", ["192.0.2.1", "0.0.0.0", "2001:db8::1", "::", "::1", "fe80::1"])
def test_text_is_read_and_written_alike(text: str) -> None:
    assert str(Address.parse(text)) == text


def test_ipv6_text_is_written_in_canonical_form() -> None:
    assert str(Address.parse("2001:DB8:0:0:0:0:0:1")) == "2001:db8::1"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "192.0.2",
        "192.0.2.256",
        "192.0.2.01",
        "192.0.2.1 ",
        "fe80::1%eth0",
        "::g",
        "1::2::3",
        "192.0.2.1\0",
        "a",
        "٣.0.0.1",
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        Address.parse(text, "networks.lan.gateway")
    assert (caught.value.field, caught.value.value) == ("networks.lan.gateway", text)
    assert caught.value.why == "not an IPv4 or IPv6 address"


@pytest.mark.parametrize("packed", [b"\xc0\x00\x02\x01", bytes(15) + b"\x01"])
def test_bytes_are_decoded(packed: bytes) -> None:
    assert Address.decode(packed).packed == packed


@pytest.mark.parametrize("text", ["127.0.0.1", "127.255.255.255", "::1"])
def test_loopback_addresses_are_known(text: str) -> None:
    assert Address.parse(text).is_loopback


@pytest.mark.parametrize("text", ["126.0.0.1", "128.0.0.1", "::2", "::", "::127.0.0.1"])
def test_other_addresses_are_not_loopback(text: str) -> None:
    assert not Address.parse(text).is_loopback


def test_the_unspecified_addresses_are_known() -> None:
    assert Address.parse("0.0.0.0").is_unspecified
    assert Address.parse("::").is_unspecified
    assert not Address.parse("::1").is_unspecified


def test_a_prefix_is_read_and_written_alike() -> None:
    assert str(Prefix.parse("192.0.2.0/24")) == "192.0.2.0/24"
    assert str(Prefix.parse("2001:db8::/64")) == "2001:db8::/64"


def test_host_bits_are_refused_with_a_remedy() -> None:
    with pytest.raises(InvalidInput, match="has host bits set") as caught:
        Prefix.parse("192.0.2.1/24")
    assert caught.value.hint == "did you mean 192.0.2.0/24?"


@pytest.mark.parametrize(
    "text", ["192.0.2.0/33", "192.0.2.0/", "192.0.2.0/-1", "192.0.2.0/+8", "::/129", "::/٣", "192.0.2.0/24/1"]
)
def test_a_wrong_length_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        Prefix.parse(text)


def test_an_address_without_length_is_refused_with_a_remedy() -> None:
    with pytest.raises(InvalidInput, match="lacks a prefix length") as caught:
        Prefix.parse("192.0.2.0")
    assert caught.value.hint == "write 192.0.2.0/24 or the like"


def test_an_address_on_a_link_keeps_its_host_bits() -> None:
    address, prefix = Prefix.parse_host("192.0.2.7/24")
    assert (str(address), str(prefix)) == ("192.0.2.7", "192.0.2.0/24")


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("192.0.2.0/24", "192.0.2.1", "192.0.2.254"),
        ("192.0.2.0/30", "192.0.2.1", "192.0.2.2"),
        ("192.0.2.0/31", "192.0.2.0", "192.0.2.1"),
        ("192.0.2.4/32", "192.0.2.4", "192.0.2.4"),
        ("2001:db8::/64", "2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff"),
        ("2001:db8::/127", "2001:db8::", "2001:db8::1"),
        ("2001:db8::4/128", "2001:db8::4", "2001:db8::4"),
    ],
)
def test_hosts_leave_out_what_no_host_may_have(text: str, first: str, last: str) -> None:
    prefix = Prefix.parse(text)
    assert str(prefix.address(prefix.hosts.start)) == first
    assert str(prefix.address(prefix.hosts.stop - 1)) == last


def test_prefixes_of_other_families_share_nothing() -> None:
    assert not Prefix.parse("0.0.0.0/0").overlaps(Prefix.parse("::/0"))
    assert Address.parse("::1") not in Prefix.parse("0.0.0.0/0")


def test_prefixes_overlap_when_one_holds_the_other() -> None:
    outer, inner, beside = (Prefix.parse(text) for text in ("10.0.0.0/8", "10.1.0.0/16", "11.0.0.0/8"))
    assert outer.overlaps(inner)
    assert inner.overlaps(outer)
    assert not outer.overlaps(beside)


def test_a_mac_is_read_and_written_alike() -> None:
    assert str(Mac.parse("02:00:5e:00:53:af")) == "02:00:5e:00:53:af"
    assert Mac.parse("02:00:5E:00:53:AF").packed == b"\x02\x00\x5e\x00\x53\xaf"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "02:00:00:00:00",
        "02:00:00:00:00:00:01",
        "2:0:0:0:0:1",
        "02-00-00-00-00-01",
        "0g:00:00:00:00:01",
        "+2:00:00:00:00:01",
    ],
)
def test_what_is_no_mac_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="not a MAC address"):
        Mac.parse(text)


@pytest.mark.parametrize("text", ["00:00:00:00:00:00", "01:00:5e:00:00:01", "ff:ff:ff:ff:ff:ff"])
def test_group_and_zero_macs_are_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="not a unicast MAC address"):
        Mac.parse(text)
