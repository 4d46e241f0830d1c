"""The words of the command line and the file: what is taken, what is refused and in which words."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.declare import words
from isthmus.errors import InvalidInput
from isthmus.model.address import Address
from isthmus.model.declared import PublishWish


def _publish(port: int, host_port: int | None, protocol: str = "tcp", host: str = "", count: int = 1) -> PublishWish:
    address = Address.parse(host) if host else None
    return PublishWish(port=port, host_port=host_port, protocol=protocol, host=address, count=count)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("8080:80", _publish(80, 8080)),
        ("8080:80/tcp", _publish(80, 8080)),
        ("53:53/udp", _publish(53, 53, "udp")),
        ("9899:9899/sctp", _publish(9899, 9899, "sctp")),
        ("80", _publish(80, None)),
        ("80/udp", _publish(80, None, "udp")),
        ("127.0.0.1:8080:80", _publish(80, 8080, host="127.0.0.1")),
        ("127.0.0.1::80", _publish(80, None, host="127.0.0.1")),
        ("[fd00::1]:8080:80", _publish(80, 8080, host="fd00::1")),
        ("[fd00::1]::80/udp", _publish(80, None, "udp", host="fd00::1")),
        ("8000-8010:80-90", _publish(80, 8000, count=11)),
        ("1-4096:1-4096", _publish(1, 1, count=4096)),
        ("65535:65535", _publish(65535, 65535)),
    ],
)
def test_publish_is_read(text: str, expected: PublishWish) -> None:
    assert words.publish(text, "-p") == expected


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "not ''"),
        (":80", "not a publish"),
        ("80:", "not ''"),
        ("0:80", "1 to 65535, not '0'"),
        ("65536:80", "1 to 65535, not '65536'"),
        ("08080:80", "1 to 65535, not '08080'"),
        ("+80:80", "not '+80'"),
        ("\uff18\uff10:80", "a port is a number"),
        ("8080:80/icmp", "tcp, udp, sctp, not 'icmp'"),
        ("8080:80/", "tcp, udp, sctp, not ''"),
        ("8080:80/TCP", "not 'TCP'"),
        ("8000-8010:80-91", "differ in length: 11 and 12"),
        ("8000:80-90", "differ in length"),
        ("8010-8000:90-80", "runs backwards"),
        ("80-90", "needs a range of host ports"),
        ("127.0.0.1::80-90", "needs a range of host ports"),
        ("1-4097:1-4097", "at most 4096 ports, this one 4097"),
        ("fd00::1:8080:80", "in brackets"),
        ("[fd00::1]:80", "not a publish"),
        ("[127.0.0.1]:80:80", "not a publish"),
        ("host:80:80", "'host' is not an IPv4 or IPv6 address"),
        ("0.0.0.0:80:80", "no address of a host"),
        ("224.0.0.1:80:80", "not a unicast address"),
        ("[::1]:80:80", "the kernel cannot translate ::1"),
    ],
)
def test_publish_is_refused(text: str, why: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        words.publish(text, "-p")
    assert why in caught.value.why
    assert (caught.value.field, caught.value.value) == ("-p", text)


@pytest.mark.parametrize("text", ["eth0", "a" * 15, "veth0.100", "ü" * 7, "-x", "a-b_c"])
def test_ifname_is_taken(text: str) -> None:
    assert words.ifname(text, "--ifname") == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a" * 16,
        "ü" * 8,
        ".",
        "..",
        "a/b",
        "a:b",
        "a b",
        "a\tb",
        "a\n",
        "à",
        "a\x01",
        "eth%d",
        "lo",
        "all",
        "default",
        "\udc80",
    ],
)
def test_ifname_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="--ifname"):
        words.ifname(text, "--ifname")


@pytest.mark.parametrize("text", ["br0", "0", "a" * 63, "A.b_c-d"])
def test_network_name_is_taken(text: str) -> None:
    assert words.network_name(text, "NAME") == text


@pytest.mark.parametrize("text", ["", "a" * 64, "-a", ".a", "_a", "..", "a b", "a\n", "a/b", "ü", "a:b"])
def test_network_name_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="NAME"):
        words.network_name(text, "NAME")


@pytest.mark.parametrize("text", ["net0", "a" * 255, "ü", ".hidden", "a:b", "1"])
def test_namespace_name_is_taken(text: str) -> None:
    assert words.namespace_name(text, "NAME") == text


@pytest.mark.parametrize(
    "text", ["", "a" * 256, "ü" * 128, ".", "..", "../a", "/run/netns/a", "-a", "a b", "a\nb", "\0"]
)
def test_namespace_name_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="NAME"):
        words.namespace_name(text, "NAME")


def test_target_takes_an_absolute_path() -> None:
    assert words.target("/run/netns/net 0", "TARGET") == "/run/netns/net 0"


@pytest.mark.parametrize("text", ["run/netns/a", "/run/\nnetns", ""])
def test_target_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="TARGET"):
        words.target(text, "TARGET")


@pytest.mark.parametrize(("value", "expected"), [("1500", 1500), (68, 68), ("65535", 65535)])
def test_mtu_is_read(value: str | int, expected: int) -> None:
    assert words.mtu(value, "--mtu") == expected


@pytest.mark.parametrize("value", ["67", 67, 65536, "0x5dc", "1_500", "01500", "1e3", "", "-1", True, "9" * 5000])
def test_mtu_is_refused(value: str | int) -> None:
    with pytest.raises(InvalidInput, match="68 to 65535"):
        words.mtu(value, "--mtu")


def test_addresses_have_one_a_family() -> None:
    assert len(words.addresses(["10.0.0.1", "fd00::1"], "--ip")) == 2
    with pytest.raises(InvalidInput, match="a second IPv4 address"):
        words.addresses(["10.0.0.1", "10.0.0.2"], "--ip")


@pytest.mark.parametrize(
    "text", ["10.0.0.1/30", "10.0.0.0/31", "10.0.0.1/32", "fd00::1/64", "fe80::1/64", "fd00::/127"]
)
def test_link_address_is_read(text: str) -> None:
    address, length = words.link_address(text, "--ip-a")
    assert f"{address}/{length}" == text


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("10.0.0.1", "lacks a prefix length"),
        ("10.0.0.1/33", "0 to 32"),
        ("10.0.0.1/0", "1 to 32"),
        ("10.0.0.0/30", "network address of 10.0.0.0/30: hosts are 10.0.0.1 to 10.0.0.2"),
        ("10.0.0.3/30", "broadcast address"),
        ("127.0.0.1/8", "not a unicast address"),
        ("224.0.0.1/24", "not a unicast address"),
        ("fd00::/64", "network address"),
        ("::/128", "not a unicast address"),
    ],
)
def test_link_address_is_refused(text: str, why: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        words.link_address(text, "--ip-a")
    assert why in caught.value.why


_PARSERS: list[Callable[[str, str], object]] = [
    words.ifname,
    words.link_address,
    words.mtu,
    words.namespace_name,
    words.network_name,
    words.publish,
    words.target,
    words.uplink,
]


@given(st.sampled_from(_PARSERS), st.text() | st.text(alphabet="0123456789.:[]-/abcdef", max_size=30))
def test_any_text_is_read_or_refused(parse: Callable[[str, str], object], text: str) -> None:
    try:
        parse(text, "field")
    except InvalidInput as error:
        assert error.field == "field"  # noqa: PT017 - that nothing else is raised is the point


def test_words_and_check_load_nothing_slow() -> None:
    heavy = ["re", "typing", "json", "enum", "ipaddress", "dataclasses", "yaml", "pydantic"]
    code = f"import sys, isthmus.declare.check; print([name for name in {heavy!r} if name in sys.modules])"
    path = f"import sys; sys.path[:] = {sys.path!r}; {code}"
    ran = subprocess.run([sys.executable, "-I", "-S", "-c", path], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
