"""What is made of the traces of who manages a link, and of the words for leases."""

from __future__ import annotations

from pathlib import Path

import pytest

from isthmus.declare import words
from isthmus.errors import InvalidInput
from isthmus.kernel import dhcp_clients, managers
from isthmus.model.address import Address, Mac
from isthmus.netlink.rtnl.link import Link


def link() -> Link:
    made = object.__new__(Link)
    object.__setattr__(made, "name", "eth0")
    object.__setattr__(made, "mac", Mac.parse("52:54:00:0a:0b:0c"))
    return made


@pytest.mark.parametrize(
    ("text", "identifier"),
    [
        ("mac", "015254000a0b0c"),
        ("01:2:AB", "0102ab"),
        ("host", "00686f7374"),
        ("duid", None),
        ("none", None),
    ],
)
def test_network_managers_client_id(text: str, identifier: str | None) -> None:
    assert managers._nm_identifier(text, link()) == identifier


def test_interfaces_is_read_with_what_it_sources_and_joined_lines(tmp_path: Path) -> None:
    more = tmp_path / "interfaces.d"
    more.mkdir()
    (more / "a.cfg").write_text("iface eth1 inet dhcp\n")
    (more / "b").write_text("iface eth2 inet dhcp\n")
    main = tmp_path / "interfaces"
    main.write_text("# one\nauto \\\n  eth0\nsource interfaces.d/*.cfg\nsource interfaces\n\niface eth0 inet manual\n")
    assert list(managers._stanzas(str(main), set())) == [
        (f"{main}:3", ["auto", "eth0"]),
        (f"{more}/a.cfg:1", ["iface", "eth1", "inet", "dhcp"]),
        (f"{main}:7", ["iface", "eth0", "inet", "manual"]),
    ]


def test_interfaces_sources_what_the_shell_matches_and_folders_without_backups(tmp_path: Path) -> None:
    more = tmp_path / "interfaces.d"
    more.mkdir()
    for name in ("a_1", "B-2", "c.bak", "d~"):
        (more / name).write_text(f"auto {name}\n")
    main = tmp_path / "interfaces"
    for line, names in (
        ("source-directory interfaces.d", ["B-2", "a_1"]),
        ("source-directory interfaces.?", ["B-2", "a_1"]),
        ("source interfaces.d/[a-z]*", ["a_1", "c.bak", "d~"]),
        ("source interfaces.d/B?2 interfaces.d/none", ["B-2"]),
    ):
        main.write_text(f"{line}\n")
        assert [words[1] for _, words in managers._stanzas(str(main), set())] == names


@pytest.mark.parametrize(
    ("word", "stanza"),
    [
        ("eth0", "eth0"),
        ("eth1", ""),
        ("eth0=home", "home"),
        ("eth1=eth0", ""),
        ("/eth*", "eth0"),
        ("/e*/1=home", "home"),
        ("/wl*=home", ""),
        ("mac/52:54:00:*=home", "home"),
        ("mac/52:54:01:*", ""),
        ("type/none", ""),
    ],
)
def test_what_ifupdown_brings_up_for_a_link(word: str, stanza: str) -> None:
    assert managers._logical(word, link()) == stanza


@pytest.mark.parametrize(
    ("options", "found"), [("-6", True), ("-S", False), ("-S -6", False), ("-P", False), ("-P -N", True), ("-T", True)]
)
def test_a_dhclient_that_asks_for_no_address_gives_none(options: str, found: bool) -> None:
    assert (dhcp_clients._dhclient(1, ["dhclient", *options.split(), "eth0"], link()) is not None) == found


@pytest.mark.parametrize(
    ("lines", "conf", "by_duid", "identifier"),
    [
        ([r'default-duid "\000\001\"a";'], [], True, "ff000a0b0c00012261"),
        ([r'default-duid "\000\001\"a";'], [], False, ""),
        (["  option dhcp-client-identifier 1:52:54:0:a:b:c;"], [], False, "015254000a0b0c"),
        ([], ["send dhcp-client-identifier = hardware;"], True, "015254000a0b0c"),
        ([], ['send dhcp-client-identifier "abc";'], False, "616263"),
        ([], ['#send dhcp-client-identifier "abc";'], False, ""),
    ],
)
def test_dhclients_identifier(lines: list[str], conf: list[str], by_duid: bool, identifier: str) -> None:
    assert dhcp_clients._dhclient_identifier(lines, conf, link(), by_duid=by_duid) == identifier


def test_words_of_leases() -> None:
    assert words.dhcp("01:aB:03", "--dhcp") == "01ab03"
    assert words.dhcp("auto", "--dhcp") == "auto"
    for wrong in ("", "01", "1:2", "01:0g", "0102", ":".join(["00"] * 256)):
        with pytest.raises(InvalidInput):
            words.dhcp(wrong, "--dhcp")
    assert words.ips(["fd00::1", "dhcp"], "--ip") == ((Address.parse("fd00::1"),), (4,))
    with pytest.raises(InvalidInput, match="second IPv4"):
        words.ips(["dhcp", "10.0.0.1"], "--ip")
