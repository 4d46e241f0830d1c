"""A namespace on several networks: what is sent from an address leaves by that address's network (0015)."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest
from tests.live.driving import drive, up

from isthmus.testing import HOST4, LAN4, LAN6, Lab, Place, snapshot

TOPOLOGY: Final = """
name: several
networks:
  n: {subnets: [10.1.0.0/24, "fd01::/64"]}
  o: {subnets: [10.2.0.0/24, "fd02::/64"]}
namespaces:
  a: {networks: {n: {}, o: {}}, publish: [{port: "8081:80", network: o}]}
  b: {networks: {n: {}}}
"""
PLAN: Final = f"HOST = Host(writable=False); out = steps(do(plan, load_text({TOPOLOGY!r})))"


def rules(place: Place) -> list[dict[str, Any]]:
    """Return the rules of both families that are not the kernel's own."""
    found = [*place.ip_json("-4", "rule", "show"), *place.ip_json("-6", "rule", "show")]
    return [one for one in found if one["protocol"] != "kernel"]


def tables(place: Place) -> list[tuple[str, str, str, str]]:
    """Return the routes of tables without a name: table, destination, gateway, link."""
    found = [one for family in "46" for one in place.ip_json(f"-{family}", "route", "show", "table", "all")]
    return sorted((one["table"], one["dst"], one["gateway"], one["dev"]) for one in found if one["table"].isdecimal())


def routed(place: Place) -> list[tuple[str, str, str, str]]:
    """Return the routes by a gateway, but those to n: table, destination, gateway, link."""
    found = [one for family in "46" for one in place.ip_json(f"-{family}", "route", "show", "table", "all")]
    found = [one for one in found if "gateway" in one and not one["dst"].startswith(("10.1.", "fd01:"))]
    return sorted((one.get("table", ""), one["dst"], one["gateway"], one["dev"]) for one in found)


def test_a_strict_reverse_path_filter_lets_answers_by(lab: Lab, bridge_nf: int) -> None:
    assert bridge_nf in (0, 1)
    up(lab.host, TOPOLOGY)
    a = lab.host.netns("a")
    a.serve("a", 80)
    for place, links in ((lab.host, "no"), (a, ("eth0", "eth1"))):
        for link in links:
            place.sysctl(f"net/ipv4/conf/{link}/rp_filter", 1)
    # Before a knows any neighbour: the kernel solicits for what it sends from the link's own address.
    assert lab.lan.probe("2001:db8::2", 8081) == f"a {LAN6} 80"
    assert lab.lan.probe(HOST4, 8081) == f"a {LAN4} 80"
    assert lab.lan.probe(HOST4, 8081, "udp") == "refused"
    drive(lab.host, 'do(publish, "a", port("8081:80/udp", network="o")); do(publish, "a", port("8080:80"))')
    assert lab.lan.probe(HOST4, 8081, "udp") == f"a {LAN4} 80"
    assert lab.lan.probe(HOST4, 8080) == f"a {LAN4} 80"


def test_one_attachment_with_the_default_route_needs_no_rules_and_one_that_goes_leaves_none(lab: Lab) -> None:
    drive(lab.host, 'do(create_network, network("n", "10.1.0.0/24", "fd01::/64"))')
    drive(lab.host, 'do(create_network, network("o", "10.2.0.0/24", "fd02::/64"))')
    lab.host.run("ip", "netns", "add", "a")  # not ours: its rules go with no namespace
    a = lab.host.netns("a")
    drive(lab.host, 'do(attach, AttachmentWish(network="n"), "a")')
    assert (rules(a), tables(a)) == ([], [])
    before = snapshot(a)
    drive(lab.host, 'do(attach, AttachmentWish(network="o"), "a"); do(detach, "o", "a"); reap(state_directory())')
    assert snapshot(a) == before
    drive(lab.host, 'do(attach, AttachmentWish(network="o", default_route=True), "a")')
    assert {(one["src"], one["priority"]) for one in rules(a)} == {
        *((address, 26880) for address in ("10.1.0.2", "fd01::2", "10.2.0.3", "fd02::3")),
        *((address, number) for address in ("10.1.0.2", "fd01::2") for number in (26881, 26882)),
    }
    drive(lab.host, 'do(detach, "o", "a"); do(detach, "n", "a"); reap(state_directory())')
    assert (rules(a), tables(a)) == ([], [])
    drive(lab.host, 'do(attach, AttachmentWish(network="n", default_route=False), "a")')
    drive(lab.host, 'do(remove_network, "n", force=True); reap(state_directory())')
    assert (rules(a), tables(a)) == ([], [])


def test_routes_that_somebody_adds_are_heeded(lab: Lab) -> None:
    """B is a router, by which main of a knows a way to elsewhere."""
    up(lab.host, TOPOLOGY)
    a, b = lab.host.netns("a"), lab.host.netns("b")
    for address, gateway in (("192.0.2.1/32", "10.1.0.3"), ("2001:db8:2::1/128", "fd01::3")):
        b.run("ip", "addr", "add", address, "dev", "lo")
        a.run("ip", "route", "add", address, "via", gateway)
    b.serve("b", 80)
    assert a.probe("192.0.2.1", 80) == "b 10.1.0.2 80"
    assert a.probe("2001:db8:2::1", 80) == "b fd01::2 80"


def test_rules_and_routes_that_somebody_took_away_are_there_again(lab: Lab) -> None:
    up(lab.host, TOPOLOGY)
    a = lab.host.netns("a")
    a.serve("a", 80)
    before = snapshot(a)
    lost = [one for one in rules(a) if one["src"] in ("10.1.0.2", "fd02::2")]
    for one in lost:
        a.run("ip", "-6" if ":" in one["src"] else "-4", "rule", "delete", "priority", str(one["priority"]))
    (table,) = {one["table"] for one in lost if one["src"] == "fd02::2" and one["table"] != "main"}
    a.run("ip", "-6", "route", "flush", "table", table)
    assert lab.lan.probe("2001:db8::2", 8081, timeout=0.5) == "timed out"
    stands = snapshot(a)
    missed = sorted({step.partition("(")[0] for step in drive(lab.host, PLAN)})
    assert missed == ["Add Route ", "Add Rule "]
    assert snapshot(a) == stands
    up(lab.host, TOPOLOGY)
    assert (snapshot(a), drive(lab.host, PLAN)) == (before, [])
    assert lab.lan.probe("2001:db8::2", 8081) == f"a {LAN6} 80"

    a.run("ip", "-4", "rule", "delete", "priority", "26882")
    assert "+ rule 26882 from 10.2.0.2 in a\n" in lab.host.isthmus("repair").stdout
    assert (snapshot(a), lab.host.isthmus("repair").stdout) == (before, "nothing to change\n")


def test_a_subnet_of_another_length_takes_no_route_away(lab: Lab) -> None:
    """Neither those of members that are not in the file, nor a stranger's."""
    up(lab.host, TOPOLOGY)
    drive(lab.host, 'do(create_namespace, "c"); do(attach, AttachmentWish(network="n"), "c")')
    places = [lab.host.netns("a"), lab.host.netns("b"), lab.host.netns("c"), lab.host]
    for place, link in zip(places, ("eth0", "eth0", "eth0", "n"), strict=True):
        place.run("ip", "route", "add", "192.0.2.0/24", "via", "10.1.0.9", "dev", link)
        place.run("ip", "route", "add", "2001:db8:2::/64", "via", "fd01::9", "dev", link)
    before = [routed(place) for place in places]
    for four, six in ((25, 64), (20, 64), (20, 80)):
        text = TOPOLOGY.replace("10.1.0.0/24", f"10.1.0.0/{four}").replace("fd01::/64", f"fd01::/{six}")
        up(lab.host, text)
        assert [routed(place) for place in places] == before
        assert up(lab.host, text) == []
        (found,) = places[2].ip_json("addr", "show", "dev", "eth0", "scope", "global")
        assert [one["prefixlen"] for one in found["addr_info"]] == [four, six]


def test_a_record_that_is_made_again_knows_them(lab: Lab) -> None:
    """Also which attachment has the default route, if it was not the first, and where a port leads."""
    late = 'do(create_network, network("p", "10.3.0.0/24", "fd03::/64")); do(create_namespace, "c")\n'
    late += 'do(attach, AttachmentWish(network="p", default_route=True), "a", (port("8080:80"),))\n'
    late += 'do(attach, AttachmentWish(network="o", default_route=False), "c", (port("8082:80"),))'
    up(lab.host, TOPOLOGY)
    drive(lab.host, late)

    def state() -> tuple[object, ...]:
        ports = json.loads(lab.host.isthmus("ls", "--format", "json").stdout)["ports"]
        return (sorted((one["spec"], one["targets"]) for one in ports), *map(snapshot, (a, c)))

    a, c = lab.host.netns("a"), lab.host.netns("c")
    before = state()
    for name in ("state.db", "state.db-wal"):
        (lab.host.path / "state" / name).unlink(missing_ok=True)
    lab.host.isthmus("repair", "--rebuild")
    assert state() == before
    drive(lab.host, 'do(detach, "o", "a"); do(detach, "p", "a"); do(detach, "o", "c"); reap(state_directory())')
    assert [one for place in (a, c) for one in (*rules(place), *tables(place))] == []


def test_what_hangs_on_an_attachment_is_not_listed_beside_it(lab: Lab) -> None:
    lab.host.isthmus("network", "create", "n", "--subnet", "10.1.0.0/24")
    lab.host.isthmus("network", "create", "o", "--subnet", "10.2.0.0/24")
    lab.host.isthmus("ns", "create", "a")
    lab.host.isthmus("attach", "n", "a")
    said = lab.host.isthmus("attach", "o", "a", "-v").stdout
    assert "+ rule 26880 from 10.1.0.2 in a\n" in said
    assert lab.host.isthmus("detach", "o", "a").stdout == "- link eth1 in a on o\n"
    lines = lab.host.isthmus("attach", "o", "a", "-p", "8080:80").stdout.splitlines()
    assert lines[:2] == ["+ link eth1 in a on o  10.2.0.3/24", "+ port 8080/tcp -> 10.1.0.2:80"]


KILLED: Final = "import isthmus.converge.host as one; one.settle = lambda *rest: os.kill(os.getpid(), 9)\n"


@pytest.mark.parametrize("end", ["fails", "is killed"])
def test_an_attach_that_comes_to_nothing_leaves_the_names_of_others(lab: Lab, end: str) -> None:
    up(lab.host, TOPOLOGY)
    lab.host.run("ip", "netns", "add", "c")
    if end == "fails":
        lab.host.run("ip", "-n", "c", "link", "add", "eth0", "type", "veth", "peer", "name", "x")
    before = snapshot(lab.host)
    with pytest.raises(AssertionError):
        drive(lab.host, KILLED + 'do(attach, AttachmentWish(network="n", ifname="eth0"), "c")')
    if end == "is killed":
        assert snapshot(lab.host) != before
    assert lab.host.isthmus("repair").stdout == "nothing to change\n"
    assert snapshot(lab.host) == before
    assert lab.host.isthmus("exec", "a", "--", "getent", "hosts", "b").stdout.split()[1:] == ["b"]
