"""Forwarding: on the links that need it, for as long as they need it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Final

import pytest
from tests.live.driving import drive, up, wait_for

from isthmus.testing import LAN4, LAN6, Lab, snapshot

TOPOLOGY: Final = """
name: forwarding
networks:
  br0: {subnets: [10.9.0.0/24, "fd09::/64"]}
namespaces:
  a: {networks: [br0]}
"""
FORWARDING: Final = re.compile(r"conf/(\w+)/(forwarding|force_forwarding|accept_ra)$")


def down(lab: Lab, name: str = "forwarding") -> None:
    drive(lab.host, f"do(down, {name!r}); reap(state_directory())")


def values(lab: Lab) -> dict[str, str]:
    """Return all sysctls that have to do with forwarding, by name below net."""
    source = "cd /proc/sys/net && grep -rs '' ipv4/conf ipv6/conf ipv4/ip_forward"
    lines = lab.host.run("sh", "-c", source, check=False).stdout.splitlines()
    pairs = (line.split(":", 1) for line in lines)
    return {name: value for name, value in pairs if FORWARDING.search(name) or name == "ipv4/ip_forward"}


def changes(before: dict[str, str], after: dict[str, str]) -> dict[str, str]:
    """Return what of the links that were there before has another value now."""
    return {name: after[name] for name in before if after.get(name) != before[name]}


def test_only_the_uplink_and_the_bridge_forward(lab: Lab) -> None:
    lab.host.run("ip", "link", "add", "other", "type", "veth", "peer", "name", "another")
    before = values(lab)
    up(lab.host, TOPOLOGY)
    after = values(lab)
    assert changes(before, after) == {"ipv4/conf/eth0/forwarding": "1", "ipv6/conf/eth0/force_forwarding": "1"}
    assert after["ipv4/conf/br0/forwarding"] == after["ipv6/conf/br0/force_forwarding"] == "1"
    assert after["ipv6/conf/br0/forwarding"] == "0"
    assert lab.host.netns("a").pings(LAN4)
    assert lab.host.netns("a").pings(LAN6)
    down(lab)
    assert values(lab) == before


@pytest.mark.parametrize("name", ["net/ipv4/conf/eth0/forwarding", "net/ipv6/conf/eth0/force_forwarding"])
def test_a_link_that_forwarded_before_goes_on(lab: Lab, name: str) -> None:
    lab.host.sysctl(name, 1)
    before = values(lab)
    up(lab.host, TOPOLOGY)
    down(lab)
    assert lab.host.sysctl(name) == "1"
    assert values(lab) == before


def test_a_single_family_borrows_its_own_values_alone(lab: Lab) -> None:
    before = values(lab)
    up(lab.host, TOPOLOGY.replace(', "fd09::/64"', ""))
    assert changes(before, values(lab)) == {"ipv4/conf/eth0/forwarding": "1"}


@pytest.mark.parametrize("kind", ["uplink: none", "gateway: none", "gateway: none, uplink: routed"])
def test_a_network_without_a_way_out_borrows_nothing(lab: Lab, kind: str) -> None:
    before = values(lab)
    up(lab.host, TOPOLOGY.replace('"fd09::/64"]', f'"fd09::/64"], {kind}'))
    after = values(lab)
    assert changes(before, after) == {}
    assert after["ipv4/conf/br0/forwarding"] == after["ipv6/conf/br0/force_forwarding"] == "0"


def test_what_somebody_else_wrote_since_is_theirs(lab: Lab) -> None:
    up(lab.host, TOPOLOGY)
    lab.host.sysctl("net/ipv4/conf/eth0/forwarding", 0)
    lab.host.sysctl("net/ipv6/conf/eth0/force_forwarding", 0)
    lab.host.sysctl("net/ipv4/conf/eth0/forwarding", 1)
    down(lab)
    assert lab.host.sysctl("net/ipv4/conf/eth0/forwarding") == "0"  # ours, as far as anybody can tell
    assert lab.host.sysctl("net/ipv6/conf/eth0/force_forwarding") == "0"


@pytest.mark.parametrize("end", ["network rm", "the default route moves"])
def test_what_the_global_switch_wrote_since_is_theirs(lab: Lab, end: str) -> None:
    lab.host.isthmus("network", "create", "br0", "--subnet", "10.9.0.0/24")
    lab.host.sysctl("net/ipv4/ip_forward", 1)
    if end != "network rm":
        lab.host.run("ip", "route", "del", "default")
        shown = lab.host.isthmus("plan", "-", input="{name: x, namespaces: {a: {}}}", check=False)
        assert shown.returncode == 2, shown.stderr
        assert "is left on" in shown.stderr
        assert "forwarding" not in shown.stdout
    found = lab.host.isthmus(*("network rm br0" if end == "network rm" else "ns create a").split())
    assert "IPv4 forwarding of eth0 is left on: somebody has switched net/ipv4/ip_forward on since" in found.stderr
    assert "forwarding" not in found.stdout
    assert lab.host.sysctl("net/ipv4/conf/eth0/forwarding") == "1"
    assert "left on" not in lab.host.isthmus("repair").stderr  # it is on no record any more
    assert lab.host.sysctl("net/ipv4/conf/eth0/forwarding") == "1"


def test_a_link_that_was_off_while_all_others_forwarded_is_off_again(lab: Lab) -> None:
    lab.host.sysctl("net/ipv4/ip_forward", 1)
    lab.host.sysctl("net/ipv4/conf/eth0/forwarding", 0)
    before = values(lab)
    up(lab.host, TOPOLOGY)
    assert changes(before, values(lab)).keys() == {"ipv4/conf/eth0/forwarding", "ipv6/conf/eth0/force_forwarding"}
    down(lab)
    assert values(lab) == before


def test_the_global_switch_of_ipv6_writes_nothing_that_a_link_forwards_by(lab: Lab) -> None:
    up(lab.host, TOPOLOGY)
    lab.host.sysctl("net/ipv6/conf/all/forwarding", 1)
    before = {name: value for name, value in values(lab).items() if "/br0/" not in name and "/isv" not in name}
    assert before["ipv6/conf/eth0/force_forwarding"] == "1"
    down(lab)
    assert changes(before, values(lab)) == {
        "ipv4/conf/eth0/forwarding": "0",
        "ipv6/conf/eth0/force_forwarding": "0",
    }


def test_what_another_network_needs_stays(lab: Lab) -> None:
    before = values(lab)
    source = """
do(create_network, network('br0', '10.9.0.0/24', 'fd09::/64'))
do(create_network, network('br1', '10.8.0.0/24', 'fd08::/64', uplink='routed'))
do(remove_network, 'br0')
"""
    drive(lab.host, source)
    assert changes(before, values(lab)) == {"ipv4/conf/eth0/forwarding": "1", "ipv6/conf/eth0/force_forwarding": "1"}
    drive(lab.host, "do(remove_network, 'br1')")
    assert values(lab) == before


def second_uplink(lab: Lab) -> None:
    """Plug a second cable in: up0 here, up0 at the LAN."""
    lab.host.run("ip", "link", "add", "up0", "type", "veth", "peer", "name", "up0", "netns", str(lab.lan.pid))
    for place, number in ((lab.host, 2), (lab.lan, 9)):
        place.run("ip", "link", "set", "up0", "up")
        place.run("ip", "addr", "add", f"198.51.100.{number}/24", "dev", "up0")
        place.run("ip", "addr", "add", f"2001:db8:1::{number}/64", "dev", "up0", "nodad")
    wait_for(lambda: lab.host.pings("198.51.100.9") and lab.host.pings("2001:db8:1::9"), "the second cable")


def test_a_port_at_the_address_of_another_link_is_reached_there(lab: Lab) -> None:
    second_uplink(lab)
    up(lab.host, TOPOLOGY)
    before = values(lab)
    lab.host.netns("a").serve("a", 80)
    for line in ("publish a 198.51.100.2:81:80", "publish a 203.0.113.2:82:80", "publish a [2001:db8:1::2]:81:80"):
        lab.host.isthmus(*line.split())
    added = {"ipv4/conf/up0/forwarding": "1", "ipv6/conf/up0/force_forwarding": "1"}
    assert changes(before, values(lab)) == added
    assert lab.lan.probe("198.51.100.2", 81).startswith("a 198.51.100.9")
    assert lab.lan.probe("2001:db8:1::2", 81).startswith("a 2001:db8:1::9")
    shown = json.loads(lab.host.isthmus("network", "inspect", "br0", "--format", "json").stdout)["borrowed"]
    assert {row["name"] for row in shown} > {f"net/{name}" for name in added}
    for line in ("unpublish a 203.0.113.2:82:80", "unpublish a 198.51.100.2:81:80", "detach br0 a"):
        lab.host.isthmus(*line.split())
    stays = {name: value for name, value in before.items() if "/isv" not in name}  # the member's link goes
    assert values(lab).items() >= stays.items()


@pytest.mark.parametrize(
    ("user", "end"),
    [
        ("publish b 198.51.100.2:82:80", "unpublish b 198.51.100.2:82:80"),
        ("forwarding on --link up0 -4", "forwarding off --link up0 -4"),
    ],
)
def test_what_another_needs_of_a_link_that_was_published_at_stays(lab: Lab, user: str, end: str) -> None:
    second_uplink(lab)
    up(lab.host, TOPOLOGY + "  b: {networks: [br0]}\n")
    for line in ("publish a 198.51.100.2:81:80", user, "unpublish a 198.51.100.2:81:80", "network create n"):
        lab.host.isthmus(*line.split())
    lab.host.isthmus("network", "rm", "n")
    assert lab.host.sysctl("net/ipv4/conf/up0/forwarding") == "1"
    assert "nothing to change" in lab.host.isthmus("repair").stdout
    lab.host.isthmus(*end.split())
    assert lab.host.sysctl("net/ipv4/conf/up0/forwarding") == "0"


def test_a_host_without_a_default_route_says_that_nothing_is_forwarded_from_outside(lab: Lab) -> None:
    lab.host.run("ip", "route", "del", "default")
    assert "default route" not in lab.host.isthmus("network", "create", "n").stderr
    lab.host.run("ip", "-6", "route", "del", "default")
    assert "this host has no default route" in lab.host.isthmus("network", "create", "m").stderr
    lab.host.isthmus("ns", "create", "a")
    assert "this host has no default route" in lab.host.isthmus("attach", "m", "a", "-p", "80").stderr
    assert "this host has no default route" in lab.host.isthmus("publish", "a", "81").stderr
    assert "default route" not in lab.host.isthmus("publish", "a", "203.0.113.2:82:82").stderr


def test_forwarding_follows_the_default_route(lab: Lab) -> None:
    second_uplink(lab)
    before = values(lab)
    up(lab.host, TOPOLOGY)
    lab.host.run("ip", "route", "replace", "default", "via", "198.51.100.9", "dev", "up0")
    lab.host.run("ip", "-6", "route", "del", "default", "via", LAN6)
    lab.host.run("ip", "-6", "route", "add", "default", "via", "2001:db8:1::9")
    moved = {"ipv4/conf/up0/forwarding": "1", "ipv6/conf/up0/force_forwarding": "1"}

    planned = drive(
        lab.host,
        f"""
HOST = Host(writable=False)
out = steps(do(plan, load_text({TOPOLOGY!r})))
""",
    )
    assert {re.search(r"net/(\S+?)'", step)[1] for step in planned if "Sysctl" in step} == {  # type: ignore[index]
        "ipv4/conf/eth0/forwarding",
        "ipv6/conf/eth0/force_forwarding",
        *moved,
    }
    assert set(changes(before, values(lab))) == {"ipv4/conf/eth0/forwarding", "ipv6/conf/eth0/force_forwarding"}

    (note,) = drive(lab.host, "out = entered()")
    assert note.startswith("the host's default routes have changed: ")
    assert all(f"net/{name}" in note for name in moved)
    drive(lab.host, "do(create_namespace, 'other')")
    assert changes(before, values(lab)) == moved
    assert lab.host.netns("a").pings("198.51.100.9")
    assert lab.host.netns("a").pings("2001:db8:1::9")

    down(lab)
    drive(lab.host, "do(remove_namespace, 'other')")
    assert values(lab) == before


# The kernel lacks force_forwarding: opening it says ENOENT.
PATHS: Final = ("all", "default", "eth0", "br0", "br1", "lo")


def without_force_forwarding(log: Path) -> tuple[str, ...]:
    """Return the command line of strace(1) that makes the kernel look older than 6.17."""
    watched = (f"-P/proc/sys/net/ipv6/conf/{name}/force_forwarding" for name in PATHS)
    return ("strace", "-f", "-qq", "-o", str(log), *watched, "-e", "trace=openat", "-e", "inject=openat:error=ENOENT")


def old_drive(lab: Lab, tmp_path: Path, source: str) -> object:
    log = tmp_path / "strace"
    found = drive(lab.host, source, before=without_force_forwarding(log))
    assert "(INJECTED)" in log.read_text()
    assert not [line for line in log.read_text().splitlines() if "INJECTED" not in line and "openat" in line]
    return found


ADVERTISER: Final = """
import socket, struct, sys
sock = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
body = struct.pack(">BBHBBHII", 134, 0, 0, 64, 0, int(sys.argv[2]), 0, 0)
sock.sendto(body, ("ff02::1", 0, 0, socket.if_nametoindex(sys.argv[1])))
"""


def learn_route(lab: Lab) -> None:
    """Give the host an IPv6 default route by a router advertisement of the LAN, in the place of its own."""
    lab.host.run("ip", "-6", "route", "del", "default")
    lab.lan.sysctl("net/ipv6/conf/eth0/forwarding", 1)
    lab.lan.python(ADVERTISER, "eth0", "1800")
    wait_for(lambda: "proto ra" in default_route6(lab), "the advertised route")


def default_route6(lab: Lab) -> str:
    return lab.host.run("ip", "-6", "route", "show", "default").stdout


def test_an_older_kernel_forwards_ipv6_by_all(lab: Lab, tmp_path: Path) -> None:
    lab.host.run("ip", "link", "add", "other", "type", "veth", "peer", "name", "another")
    before = snapshot(lab.host)
    old_drive(lab, tmp_path, f"do(up, load_text({TOPOLOGY!r}))")
    after = values(lab)
    # `all` alone decides about a packet; what its write does to `default` and every link is put back at once.
    assert [name for name, value in after.items() if name.endswith("/forwarding") and value == "1"] == [
        name
        for name in after
        if name in ("ipv4/conf/eth0/forwarding", "ipv4/conf/br0/forwarding", "ipv6/conf/all/forwarding")
    ]
    assert {value for name, value in after.items() if name.endswith("force_forwarding")} == {"0"}
    assert lab.host.netns("a").pings(LAN6)
    assert lab.host.netns("a").pings(LAN4)
    assert old_drive(lab, tmp_path, f"out = steps(do(up, load_text({TOPOLOGY!r})))") == []
    old_drive(lab, tmp_path, "do(down, 'forwarding'); reap(state_directory())")
    assert snapshot(lab.host) == before


def test_an_uplink_that_learned_its_route_keeps_it_on_an_older_kernel(lab: Lab, tmp_path: Path) -> None:
    learn_route(lab)
    route = default_route6(lab).partition("expires")[0]
    before = values(lab)
    assert before["ipv6/conf/eth0/accept_ra"] == "1"

    old_drive(lab, tmp_path, f"do(up, load_text({TOPOLOGY!r}))")
    assert values(lab)["ipv6/conf/eth0/accept_ra"] == "2"
    assert values(lab)["ipv6/conf/all/forwarding"] == "1"
    assert default_route6(lab).partition("expires")[0] == route
    # A later advertisement still counts.
    lab.lan.python(ADVERTISER, "eth0", "0")
    wait_for(lambda: default_route6(lab) == "", "the withdrawal of the route")
    lab.lan.python(ADVERTISER, "eth0", "1800")
    wait_for(lambda: default_route6(lab).partition("expires")[0] == route, "the route again")
    assert lab.host.netns("a").pings(LAN6)

    old_drive(lab, tmp_path, "do(down, 'forwarding'); reap(state_directory())")
    assert values(lab) == before
    assert default_route6(lab).partition("expires")[0] == route


def test_a_learned_route_needs_no_accept_ra_with_force_forwarding(lab: Lab) -> None:
    learn_route(lab)
    before = values(lab)
    up(lab.host, TOPOLOGY)
    assert changes(before, values(lab)) == {"ipv4/conf/eth0/forwarding": "1", "ipv6/conf/eth0/force_forwarding": "1"}
    assert "proto ra" in default_route6(lab)
    assert lab.host.netns("a").pings(LAN6)


# Somebody else who needs `all.forwarding` on after us, and how he is seen.
STRANGERS: Final = {
    "a foreign chain at forward": "nft add table inet foreign; nft add chain inet foreign c "
    "'{ type filter hook forward priority 0; }'",
    "a foreign bridge with ports": "ip link add far0 type bridge; ip link set far0 up; "
    "ip link add port0 type veth peer name port1; ip link set port0 master far0",
    "tun": "ip tuntap add dev tun0 mode tun; ip link set tun0 up",
}


@pytest.mark.parametrize("stranger", STRANGERS)
def test_all_stays_on_while_another_user_is_seen(lab: Lab, tmp_path: Path, stranger: str) -> None:
    old_drive(lab, tmp_path, f"do(up, load_text({TOPOLOGY!r}))")
    lab.host.run("sh", "-ec", STRANGERS[stranger])
    notes = old_drive(lab, tmp_path, "out = list(do(down, 'forwarding').notes)")
    assert isinstance(notes, list)
    assert values(lab)["ipv6/conf/all/forwarding"] == "1"
    assert any("forward" in note for note in notes), notes


def test_a_link_that_was_renamed_gets_its_value_back(lab: Lab) -> None:
    before = values(lab)
    second_uplink(lab)
    up(lab.host, TOPOLOGY)
    lab.host.isthmus("publish", "a", "198.51.100.2:81:80")
    for old, new in (("eth0", "x"), ("up0", "eth0"), ("x", "wan0")):
        lab.host.run("ip", "link", "set", old, "down")
        lab.host.run("ip", "link", "set", old, "name", new, "up")
    lab.host.run("ip", "route", "add", "default", "via", LAN4)
    lab.host.isthmus("repair")
    assert [lab.host.sysctl(f"net/ipv4/conf/{name}/forwarding") for name in ("eth0", "wan0")] == ["1", "1"]
    shown = json.loads(lab.host.isthmus("network", "inspect", "br0", "--format", "json").stdout)["borrowed"]
    assert {row["name"]: row["before"] for row in shown if "ipv4" in row["name"]} == {
        "net/ipv4/conf/eth0/forwarding": "0",
        "net/ipv4/conf/wan0/forwarding": "0",
    }
    lab.host.isthmus("unpublish", "a", "198.51.100.2:81:80")
    down(lab)
    after = values(lab)
    assert changes(before, after) == {}
    assert after["ipv4/conf/wan0/forwarding"] == "0"


def test_the_mtu_is_that_of_the_way_out(lab: Lab) -> None:
    for place in (lab.host, lab.lan):
        place.run("ip", "link", "set", "eth0", "mtu", "1400")
    up(lab.host, TOPOLOGY)
    a = lab.host.netns("a")
    assert [link["mtu"] for link in lab.host.ip_json("link", "show") if link["ifname"] != "lo"] == [1400, 1400, 1400]
    assert a.ip_json("link", "show", "eth0")[0]["mtu"] == 1400
