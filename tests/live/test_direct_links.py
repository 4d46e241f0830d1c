"""Direct links whose ends, names and addresses change in the file, and whose links they are."""

from __future__ import annotations

import re
from typing import Final

import pytest
from tests.live.driving import EngineRefused, drive, up

from isthmus.testing import Lab, snapshot

_HEAD: Final = """name: f
networks: {p: {subnets: [10.1.0.0/24]}, q: {subnets: [10.2.0.0/24]}}
"""
_BARE: Final = "namespaces: {a: {}, b: {}, c: {}, d: {}}\n"


def link(one: str, other: str, number: int = 0) -> str:
    """Return a direct link between two ends `NAMESPACE` or `NAMESPACE.IFNAME`, in a subnet of its own."""
    ends = []
    for last, end in enumerate((one, other), 1):
        name, _, ifname = end.partition(".")
        ends.append(f"{{ns: {name}, ip: 10.9.{number}.{last}/30{f', name: {ifname}' * bool(ifname)}}}")
    return f"[{', '.join(ends)}]"


def text(*links: str, spaces: str = _BARE) -> str:
    return f"{_HEAD}{spaces}links: [{', '.join(links)}]\n"


def attached(networks: str) -> str:
    return f"namespaces: {{a: {{networks: {{{networks}}}}}, b: {{}}, c: {{}}, d: {{}}}}\n"


_NAMED: Final = (link("a.x", "b.y"), link("a.v", "b.w", 1))
_CHANGES: Final = {
    "other-end": (text(link("a", "b")), text(link("a", "c")), {"10.9.0.2"}),
    "other-end-and-addresses": (text(link("a", "b")), text(link("a", "c", 1)), {"10.9.1.2"}),
    "other-end-beside-a-new-attachment": (
        text(link("a", "b")),
        text(link("a", "c", 1), spaces=attached("p: {ifname: e1}, q: {ifname: e0}")),
        {"10.9.1.2", "10.1.0.1", "10.2.0.1"},
    ),
    "ends-exchanged-in-the-file": (text(link("b", "a")), text(link("a", "b")), {"10.9.0.2"}),
    "ends-exchanged-between-links": (
        text(link("a", "b"), link("c", "d", 1)),
        text(link("a", "d"), link("c", "b", 1)),
        {"10.9.0.2"},
    ),
    "names-exchanged-at-one-end": (text(*_NAMED), text(link("a.x", "b.w"), link("a.v", "b.y", 1)), {"10.9.1.2"}),
    "names-exchanged-at-both": (text(*_NAMED), text(link("a.v", "b.w"), link("a.x", "b.y", 1)), {"10.9.0.2"}),
    "addresses-of-links-without-names-exchanged": (
        text(link("a", "b"), link("a", "b", 1)),
        text(link("a", "b", 1), link("a", "b", 2)),
        {"10.9.1.2", "10.9.2.2"},
    ),
    "name-of-an-attachment-that-goes": (
        text(spaces=attached("p: {ifname: e1}, q: {ifname: e0}")),
        text(link("a.e1", "b"), spaces=attached("q: {ifname: e0}")),
        {"10.9.0.2", "10.2.0.1"},
    ),
    "name-for-an-attachment-that-comes": (
        text(link("a.e1", "b"), spaces=attached("q: {ifname: e0}")),
        text(spaces=attached("p: {ifname: e1}, q: {ifname: e0}")),
        {"10.1.0.1", "10.2.0.1"},
    ),
}


@pytest.mark.parametrize("change", _CHANGES)
def test_a_link_that_changes_in_the_file_is_whole_at_once(lab: Lab, change: str) -> None:
    before, after, answering = _CHANGES[change]
    empty = snapshot(lab.host)
    up(lab.host, before)
    assert up(lab.host, before) == []
    up(lab.host, after)
    assert {one for one in answering if lab.host.netns("a").pings(one)} == answering
    assert up(lab.host, after) == []
    drive(lab.host, 'do(down, "f"); reap(state_directory())')
    assert snapshot(lab.host) == empty


def test_a_link_whose_far_end_was_moved_elsewhere_is_made_anew(lab: Lab) -> None:
    up(lab.host, text(link("a", "b")))
    lab.host.run("ip", "-netns", "b", "link", "set", "dev", "veth0", "netns", "c")
    lab.host.isthmus("repair")
    assert lab.host.netns("a").pings("10.9.0.2")
    assert [one["ifname"] for one in lab.host.netns("c").ip_json("link", "show")] == ["lo"]
    assert up(lab.host, text(link("a", "b"))) == []


@pytest.mark.parametrize("claim", [link("a", "b"), link("a.veth0", "b.veth0", 1)], ids=["by-addresses", "by-names"])
@pytest.mark.parametrize("owner", ["declaration one", "nobody (a command made it)"])
def test_a_link_of_another_is_not_taken_over(lab: Lab, owner: str, claim: str) -> None:
    if owner == "declaration one":
        up(lab.host, f"name: one\nnamespaces: {{a: {{}}, b: {{}}}}\nlinks: [{link('a', 'b')}]\n")
    else:
        drive(lab.host, 'do(create_namespace, "a"); do(create_namespace, "b")')
        lab.host.isthmus("connect", "a", "b", "--ip-a", "10.9.0.1/30", "--ip-b", "10.9.0.2/30")
    before = snapshot(lab.host.netns("a"))
    refused = f"Refused: links[0]: link between a and b belongs to {owner}, not to declaration two;"
    with pytest.raises(EngineRefused, match=f"^{re.escape(refused)}"):
        up(lab.host, f"name: two\nlinks: [{claim}]\n")
    up(lab.host, f"name: two\nlinks: [{link('a', 'b', 2)}]\n")  # one beside it is another
    drive(lab.host, 'do(down, "two")')
    assert snapshot(lab.host.netns("a")) == before


@pytest.mark.parametrize("makes", ["neither", "one"])
def test_a_deleted_link_by_command_stays_away_where_no_verb_could_take_it(lab: Lab, makes: str) -> None:
    host = lab.host
    host.run("ip", "netns", "add", "a")
    host.run("ip", "netns", "add", "b") if makes == "neither" else host.isthmus("ns", "create", "b")
    host.isthmus("connect", "a", "b", "--ip-a", "10.9.0.1/30", "--ip-b", "10.9.0.2/30")
    host.run("ip", "-netns", "a", "link", "delete", "dev", "veth0")
    told = host.isthmus("repair")
    assert ("the link of a to b was deleted, and is forgotten" in told.stderr) == (makes == "neither")
    assert host.netns("a").pings("10.9.0.2") == (makes == "one")
    assert host.isthmus("repair").stdout == "nothing to change\n"


def test_a_deleted_link_of_others_namespaces_comes_back_with_no_other_verb(lab: Lab) -> None:
    for name in ("a", "b"):
        lab.host.run("ip", "netns", "add", name)
    lab.host.isthmus("connect", "a", "b")
    lab.host.isthmus("network", "create", "n", "--subnet", "10.1.0.0/24")
    lab.host.run("ip", "-netns", "b", "link", "delete", "dev", "veth0")
    lab.host.isthmus("attach", "n", "a")
    assert [one["ifname"] for one in lab.host.netns("a").ip_json("link", "show")] == ["lo", "eth0"]
    lab.host.isthmus("connect", "a", "b", "--ip-a", "10.9.0.1/30", "--ip-b", "10.9.0.2/30")
    assert lab.host.netns("a").pings("10.9.0.2")
