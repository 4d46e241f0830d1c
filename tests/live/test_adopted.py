"""A bridge of somebody else's that carries a network of ours: his stays his, ours is kept apart."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest
from tests.live.driving import EngineRefused, Sniffer, drive, end, send_frame, udp_frame, up, wait_for

from isthmus.testing import HOST4, LAN4, Lab, snapshot

# The stranger's bridge: an address, two ports with a namespace each, on 192.0.2.0/24 and 2001:db8:2::/64.
MAC: Final = "02:aa:bb:cc:dd:ee"
CREATE: Final = "do(create_network, network('ours', '10.9.0.0/24', 'fd09::/64', bridge='far0'))"
MEMBERS: Final = """
for name in ('a', 'b'):
    do(create_namespace, name)
do(attach, AttachmentWish(network='ours'), 'a', (port('8080:80'),))
do(attach, AttachmentWish(network='ours'), 'b')
"""
REMOVE: Final = """
for name in ('a', 'b'):
    do(detach, 'ours', name)
    do(remove_namespace, name)
do(remove_network, 'ours')
reap(state_directory())
"""


def build(lab: Lab, *, stp: int) -> None:
    host = lab.host
    host.run("ip", "link", "add", "far0", "address", MAC, "mtu", "1450", "type", "bridge")
    host.run("ip", "link", "set", "far0", "type", "bridge", "stp_state", str(stp), "forward_delay", "200")
    host.run("ip", "addr", "add", "192.0.2.1/24", "dev", "far0")
    host.run("ip", "addr", "add", "2001:db8:2::1/64", "dev", "far0", "nodad")
    host.run("ip", "link", "set", "far0", "up")
    for number, name in ((2, "x"), (3, "y")):
        host.run("ip", "netns", "add", name)
        host.run("ip", "link", "add", f"far-{name}", "type", "veth", "peer", "name", "eth0", "netns", name)
        host.run("ip", "link", "set", f"far-{name}", "mtu", "1450", "master", "far0", "up")
        for line in (
            "link set lo up",
            "link set eth0 mtu 1450 up",
            f"addr add 192.0.2.{number}/24 dev eth0",
            f"addr add 2001:db8:2::{number}/64 dev eth0 nodad",
            "route add default via 192.0.2.1",
        ):
            host.netns(name).run("ip", *line.split())
        host.netns(name).serve(name, 80)
    wait_for(lambda: is_settled(lab), "the stranger's bridge")
    # The stranger routes for his own.
    for conf in ("eth0", "far0"):
        host.sysctl(f"net/ipv4/conf/{conf}/forwarding", 1)
    lab.lan.run("ip", "route", "add", "192.0.2.0/24", "via", HOST4)
    lab.lan.run("ip", "route", "add", "10.9.0.0/24", "via", HOST4)
    lab.lan.serve("lan", 9000)


def is_settled(lab: Lab) -> bool:
    """Tell whether all ports forward and no address waits for duplicate-address detection."""
    ports = lab.host.ip_json("link", "show", "master", "far0")
    tentative = lab.host.ip_json("-6", "addr", "show", "tentative")
    states = {port["linkinfo"]["info_slave_data"]["state"] for port in ports}
    return states == {"forwarding"} and not any(one.get("addr_info") for one in tentative)


@pytest.fixture(params=[0, 1], ids=["stp-off", "stp-on"])
def far(request: pytest.FixtureRequest, lab: Lab, bridge_nf: int) -> Lab:
    assert bridge_nf in (0, 1)
    build(lab, stp=request.param)
    return lab


def link(lab: Lab, name: str) -> dict[str, Any]:
    """Return what `ip link` says of a link, without what moves by itself."""
    (found,) = lab.host.ip_json("link", "show", name)
    for part in ("info_data", "info_slave_data"):
        data = found["linkinfo"].get(part, {})
        found["linkinfo"][part] = {key: value for key, value in data.items() if "timer" not in key}
    return found


def addresses(lab: Lab, *, besides: tuple[str, ...] = ()) -> list[str]:
    (found,) = lab.host.ip_json("addr", "show", "far0")
    return [json.dumps(one, sort_keys=True) for one in found["addr_info"] if one["local"] not in besides]


def foreign(lab: Lab) -> dict[str, str]:
    """Ask all that the stranger's traffic may do: across the bridge, through the host, from outside."""
    host, x = lab.host, lab.host.netns("x")
    asks: dict[str, Callable[[], str]] = {
        "across": lambda: x.probe("192.0.2.3", 80),
        "across, IPv6": lambda: x.probe("2001:db8:2::3", 80),
        "across, udp": lambda: x.probe("192.0.2.3", 80, "udp"),
        "out": lambda: x.probe(LAN4, 9000),
        "in": lambda: lab.lan.probe("192.0.2.2", 80),
        "from the host": lambda: host.probe("192.0.2.2", 80),
        "to the host": lambda: "pong" if x.pings("192.0.2.1") else "silent",
        "to the host's other address": lambda: "pong" if x.pings(HOST4) else "silent",
    }
    return {name: ask() for name, ask in asks.items()}


FOREIGN: Final = {
    "across": "y 192.0.2.2 80",
    "across, IPv6": "y 2001:db8:2::2 80",
    "across, udp": "y 192.0.2.2 80",
    "out": "lan 192.0.2.2 9000",
    "in": f"x {LAN4} 80",
    "from the host": "x 192.0.2.1 80",
    "to the host": "pong",
    "to the host's other address": "pong",
}


def test_the_bridge_and_its_traffic_stay_as_they_were(far: Lab) -> None:
    far.lan.run("ip", "route", "replace", "192.0.2.0/24", "via", HOST4)
    assert foreign(far) == FOREIGN
    before, ports = link(far, "far0"), [link(far, "far-x"), link(far, "far-y")]
    had = addresses(far)

    drive(far.host, CREATE + MEMBERS)

    assert link(far, "far0") == before
    assert [link(far, "far-x"), link(far, "far-y")] == ports
    assert addresses(far, besides=("10.9.0.1", "fd09::1")) == had
    assert {json.loads(one)["local"] for one in addresses(far)} >= {"10.9.0.1", "fd09::1", "192.0.2.1"}
    assert foreign(far) == FOREIGN


def test_all_is_given_back(far: Lab) -> None:
    assert foreign(far) == FOREIGN
    before = snapshot(far.host)
    drive(far.host, CREATE + MEMBERS)
    assert snapshot(far.host) != before
    drive(far.host, REMOVE)
    wait_for(lambda: is_settled(far), "the stranger's bridge")
    assert snapshot(far.host) == before


def test_the_mac_of_a_bridge_that_follows_its_ports_stays(lab: Lab) -> None:
    lab.host.run("ip", "link", "add", "far0", "type", "bridge")
    lab.host.run("ip", "link", "set", "far0", "up")
    # As a random one may be: but for a few in a million, ours would be the lower one.
    high = "fe:ff:ff:f0:00:00"
    lab.host.run("ip", "link", "add", "far-x", "address", high, "type", "veth", "peer", "name", "x")
    lab.host.run("ip", "link", "set", "far-x", "master", "far0", "up")
    lab.host.run("ip", "neigh", "add", "192.0.2.9", "lladdr", MAC, "dev", "far0", "nud", "permanent")
    lab.host.isthmus("network", "create", "ours", "--subnet", "10.9.0.0/24", "--bridge", "far0")
    for name in ("a", "b", "c"):
        lab.host.isthmus("ns", "create", name)
        lab.host.isthmus("attach", "ours", name)
        assert lab.host.ip_json("link", "show", "far0")[0]["address"] == high
    lab.host.isthmus("detach", "ours", "b")
    assert lab.host.ip_json("link", "show", "far0")[0]["address"] == high
    assert [one["lladdr"] for one in lab.host.ip_json("neigh", "show", "192.0.2.9")] == [MAC]


# A namespace whose /sys is of another one, as in many a container.
ELSEWHERE: Final = ("unshare", "--mount", "sh", "-ec", 'umount /sys; exec "$@"', "sh")


@pytest.mark.parametrize("before", [(), ELSEWHERE], ids=["here", "sys-of-another"])
def test_the_mac_of_a_bridge_without_ports_stays(lab: Lab, before: tuple[str, ...]) -> None:
    host = lab.host
    host.run("ip", "link", "add", "far0", "type", "bridge")
    host.run("ip", "link", "set", "far0", "up")
    neighbours = ("192.0.2.9 extern_learn", "2001:db8:2::9 router protocol 42")
    for line in neighbours:
        address, *flags = line.split()
        host.run("ip", "neigh", "add", address, "lladdr", MAC, "dev", "far0", "nud", "permanent", *flags)

    def look() -> tuple[str, list[dict[str, Any]]]:
        return host.ip_json("link", "show", "far0")[0]["address"], host.ip_json("neigh", "show", "dev", "far0")

    stands = look()
    assert len([one for one in stands[1] if one["state"] == ["PERMANENT"]]) == 2
    host.isthmus("network", "create", "ours", "--subnet", "10.9.0.0/24", "--bridge", "far0")
    cli = (sys.executable, "-m", "isthmus.doors.cli")
    for name in ("a", "b"):
        host.isthmus("ns", "create", name)
        told = host.run(*before, *cli, "attach", "ours", name).stdout
        assert (f"+ MAC {stands[0]} of bridge far0" in told) == (name == "a")
        assert look() == stands
    for name in ("a", "b"):
        host.isthmus("ns", "rm", name)
        assert look() == stands
    if not before:  # it is seen there that it was set
        host.isthmus("ns", "create", "a")
        assert "MAC" not in host.isthmus("attach", "ours", "a").stdout


def test_the_commands_that_are_shown_keep_the_mac_of_a_bridge_without_ports(lab: Lab, tmp_path: Path) -> None:
    host, file = lab.host, tmp_path / "f.yaml"
    host.run("ip", "link", "add", "far0", "type", "bridge")
    host.run("ip", "link", "set", "far0", "up")
    host.run("ip", "neigh", "add", "192.0.2.9", "lladdr", MAC, "dev", "far0", "nud", "permanent", "router")
    file.write_text(
        "name: f\nnetworks: {n: {subnets: [10.9.0.0/24], bridge: far0}}\nnamespaces: {a: {networks: {n: {}}}}"
    )
    script = host.isthmus("plan", str(file), "--show-commands", check=False).stdout.partition("# undo")[0]
    stands = host.ip_json("link", "show", "far0")[0]["address"], host.ip_json("neigh", "show", "dev", "far0")
    host.run("sh", input=script)
    assert host.within("a", "ping", "-c1", "-W2", "10.9.0.1").returncode == 0
    host.run("ip", "link", "del", host.ip_json("link", "show", "master", "far0")[0]["ifname"])
    assert (host.ip_json("link", "show", "far0")[0]["address"], host.ip_json("neigh", "show", "dev", "far0")) == stands


def test_the_mac_of_a_bridge_that_was_set_or_is_of_a_port_is_not_set(lab: Lab) -> None:
    host = lab.host
    host.run("ip", "link", "add", "set0", "address", MAC, "type", "bridge")
    host.run("ip", "link", "add", "port0", "type", "bridge")
    host.run("ip", "link", "add", "far-x", "master", "port0", "type", "veth", "peer", "name", "x")
    host.run("ip", "link", "add", "none0", "type", "bridge")
    host.run("ip", "link", "set", "far-x", "master", "none0")
    host.run("ip", "link", "set", "far-x", "master", "port0")
    assert host.ip_json("link", "show", "none0")[0]["address"] == "00:00:00:00:00:00"
    host.isthmus("ns", "create", "a")
    for number, bridge in enumerate(("set0", "port0", "none0")):
        host.run("ip", "link", "set", bridge, "up")
        kind = host.run("cat", f"/sys/class/net/{bridge}/addr_assign_type").stdout
        name = f"n{number}"
        host.isthmus("network", "create", name, "--subnet", f"10.{number}.0.0/24", "--bridge", bridge)
        assert "MAC" not in host.isthmus("attach", name, "a").stdout
        assert host.run("cat", f"/sys/class/net/{bridge}/addr_assign_type").stdout == kind


def test_ours_is_usable_and_kept_apart(far: Lab) -> None:
    host = far.host
    drive(host, CREATE + MEMBERS)
    wait_for(lambda: is_settled(far), "our ports")
    a, b, x = host.netns("a"), host.netns("b"), host.netns("x")
    for name in ("a", "b"):
        host.netns(name).serve(name, 80, 81)
    host.serve("host", 7001)

    assert b.probe("10.9.0.2", 80) == "a 10.9.0.3 80"
    assert b.probe("fd09::2", 80) == "a fd09::3 80"
    assert a.probe(LAN4, 9000) == f"lan {HOST4} 9000"
    assert far.lan.probe(HOST4, 8080) == f"a {LAN4} 80"
    assert host.probe("127.0.0.1", 8080) == "a 10.9.0.1 80"
    assert a.probe(HOST4, 8080) == "a 10.9.0.1 80"
    assert a.probe("10.9.0.1", 7001) == "host 10.9.0.2 7001"

    assert far.lan.probe("10.9.0.2", 80, timeout=0.5) == "timed out"
    assert far.lan.probe("10.9.0.1", 7001, timeout=0.5) == "timed out"
    assert x.probe(HOST4, 8080) == "a 192.0.2.2 80"


def test_a_verb_waits_for_a_port_that_listens_first_or_says_how_long(lab: Lab) -> None:
    build(lab, stp=1)
    drive(lab.host, CREATE + "\ndo(create_namespace, 'a')")
    notes = drive(lab.host, "out = list(do(attach, AttachmentWish(network='ours'), 'a').report.notes)")
    assert any("4 s" in note for note in notes) or lab.host.netns("a").pings("10.9.0.1", timeout=1)


def test_our_other_networks_are_kept_apart_from_an_adopted_one(far: Lab) -> None:
    drive(far.host, CREATE + MEMBERS + "do(create_network, network('br1', '10.8.0.0/24'))\n")
    drive(far.host, "do(create_namespace, 'c'); do(attach, AttachmentWish(network='br1'), 'c')")
    wait_for(lambda: is_settled(far), "our ports")
    far.host.netns("a").serve("a", 80)
    far.host.netns("c").serve("c", 80)
    far.host.serve("host", 7001)
    a, c = far.host.netns("a"), far.host.netns("c")
    assert c.probe("10.9.0.2", 80, timeout=0.5) == "timed out"
    assert a.probe("10.8.0.2", 80, timeout=0.5) == "timed out"
    assert c.probe("10.9.0.1", 7001, timeout=0.5) == "timed out"
    assert a.probe("10.8.0.1", 7001, timeout=0.5) == "timed out"
    assert c.probe(HOST4, 8080) == "a 10.8.0.2 80"
    # Routed by the stranger's own forwarding, and his affair: his namespaces reach neither of ours.
    x = far.host.netns("x")
    assert x.probe("10.8.0.2", 80, timeout=0.5) == "timed out"
    assert foreign(far) == FOREIGN


@pytest.mark.parametrize(("target", "seen"), [("192.0.2.2", "192.0.2.1"), ("2001:db8:2::2", "2001:db8:2::1")])
def test_a_member_goes_by_the_gateway_to_a_neighbour_on_the_same_wire(
    lab: Lab, bridge_nf: int, target: str, seen: str
) -> None:
    """The host redirects it to the neighbour itself, which knows no way back."""
    assert bridge_nf in (0, 1)
    build(lab, stp=0)
    drive(lab.host, CREATE + MEMBERS)
    wait_for(lambda: is_settled(lab), "our ports")
    a = lab.host.netns("a")
    assert [a.probe(target, 80) for _ in range(3)] == [f"x {seen} 80"] * 3
    assert a.pings(target)
    assert a.ip_json("route", "get", target)[0]["gateway"] in ("10.9.0.1", "fd09::1")
    a.sysctl("net/ipv6/conf/eth0/accept_redirects", 1)
    lab.host.isthmus("repair")
    assert a.sysctl("net/ipv6/conf/eth0/accept_redirects") == "0"


BESIDE: Final = """
do(create_network, network('shut', '10.6.0.0/24', 'fd06::/64', uplink='none'))
do(create_network, network('open', '10.7.0.0/24', 'fd07::/64', uplink='routed'))
do(create_network, network('pal', '10.8.0.0/24', 'fd08::/64', allow=frozenset({'ours'} - {closed})))
for name, wish in (('shut', '8081:80'), ('open', '80:80'), ('pal', '8082:80')):
    do(create_namespace, name)
    do(attach, AttachmentWish(network=name), name, (port(wish),))
"""


@pytest.mark.parametrize("uplink", ["nat", "none"])
def test_what_else_is_behind_an_adopted_bridge_is_the_lan(lab: Lab, bridge_nf: int, uplink: str) -> None:
    assert bridge_nf in (0, 1)
    build(lab, stp=0)
    host = lab.host
    drive(host, CREATE.replace("bridge=", f"uplink={uplink!r}, bridge=") + MEMBERS)
    drive(host, f"closed = 'ours' if {uplink!r} == 'none' else ''\n" + BESIDE)
    wait_for(lambda: is_settled(lab), "our ports")
    x = host.netns("x")
    x.run("ip", "route", "add", "default", "via", "2001:db8:2::1")
    for name in ("a", "shut", "open", "pal"):
        host.netns(name).serve(name, 80, 81)
    host.serve("host", 7001)
    silent = [
        (HOST4, 8081),
        ("2001:db8::2", 8081),
        ("10.8.0.2", 80),
        ("fd08::2", 80),
        ("10.7.0.2", 81),
        ("fd07::2", 81),
    ]
    silent += [("10.9.0.2", 80), ("fd09::2", 80), ("10.9.0.1", 7001), ("fd09::1", 7001)]
    assert {(*one, x.probe(*one, timeout=0.5)) for one in silent} == {(*one, "timed out") for one in silent}
    answering = {(HOST4, 8082): "pal", ("10.7.0.2", 80): "open", ("fd07::2", 80): "open", ("2001:db8::2", 8082): "pal"}
    assert {one: x.probe(*one).split()[0] for one in answering} == answering
    if uplink == "nat":
        asked = ((HOST4, 8081), ("2001:db8::2", 8081), ("10.8.0.2", 81), ("fd08::2", 81), ("10.9.0.1", 7001))
        answers = [host.netns("a").probe(*one).split()[0] for one in asked]
        assert answers == ["shut", "shut", "pal", "pal", "host"]
    assert foreign(lab) == FOREIGN


ND_REDIRECT: Final = bytes((137,))
TO_MANY: Final = ("224.0.0.251", "255.255.255.255", "ff02::fb")
SAY: Final = """
import socket, sys
for address in sys.argv[1:]:
    sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    sock.sendto(f"mark {address}".encode(), (address, 5353))
"""


def test_members_without_a_way_out_find_each_other_and_nobody_else(far: Lab) -> None:
    drive(far.host, CREATE.replace("bridge=", "uplink='none', bridge=") + MEMBERS)
    wait_for(lambda: is_settled(far), "our ports")
    a, b, x = (far.host.netns(name) for name in ("a", "b", "x"))
    a.serve("a", 80)
    assert b.probe("fd09::2", 80) == "a fd09::3 80"
    assert b.probe("10.9.0.2", 80) == "a 10.9.0.3 80"
    (link_of_x,) = x.ip_json("link", "show", "eth0")
    sniffers = Sniffer(b, "eth0"), Sniffer(x, "eth0")
    send_frame(a, "eth0", udp_frame(link_of_x["address"], "10.9.0.2", "192.0.2.2", 5001, 80, b"mark to x alone"))
    for prefix in ("192.0.2.0/24", "2001:db8:2::/64"):
        a.run("ip", "route", "add", prefix, "dev", "eth0")
        x.run("ip", "route", "add", "fd09::/64" if ":" in prefix else "10.9.0.0/24", "dev", "eth0")
    a.python(SAY, "192.0.2.2", "2001:db8:2::2", *TO_MANY)
    for sniffer in sniffers:
        assert sniffer.wait(lambda frame: frame.endswith(f"mark {TO_MANY[-1]}".encode())) is not None
        seen = {frame[frame.index(b"mark ") :].decode() for frame in sniffer.seen if b"mark " in frame}
        assert seen == {f"mark {address}" for address in TO_MANY}
    assert foreign(far) == FOREIGN


@pytest.mark.parametrize("uplink", ["nat", "routed", "none"])
def test_what_a_neighbour_on_the_wire_sends_past_the_host_is_handed_to_it(
    lab: Lab, bridge_nf: int, uplink: str
) -> None:
    """It has found the member's MAC, and sends to it: bridged, where no rule for packets would see it."""
    assert bridge_nf in (0, 1)
    build(lab, stp=0)
    drive(lab.host, CREATE.replace("bridge=", f"uplink={uplink!r}, bridge=") + MEMBERS.replace("8080", "80"))
    wait_for(lambda: is_settled(lab), "our ports")
    a, x = lab.host.netns("a"), lab.host.netns("x")
    a.serve("a", 80, 81)
    for prefix in ("10.9.0.0/24", "fd09::/64"):
        x.run("ip", "route", "add", prefix, "dev", "eth0")
    open_ = uplink == "routed"
    sniffer = Sniffer(a, "eth0")

    def unasked() -> list[bytes]:
        x.python(SAY, "10.9.0.2", "fd09::2", "ff02::fb")
        assert sniffer.wait(lambda frame: frame.endswith(b"mark ff02::fb")) is not None
        return [frame for frame in sniffer.seen if frame.endswith((b"mark 10.9.0.2", b"mark fd09::2"))]

    assert unasked() == []
    hidden = udp_frame("ff:ff:ff:ff:ff:ff", "192.0.2.2", "10.9.0.2", 5001, 80, b"mark 10.9.0.2")
    send_frame(x, "eth0", hidden)
    assert unasked() == []
    for address, source in (("10.9.0.2", "192.0.2.2"), ("fd09::2", "2001:db8:2::2")):
        assert x.pings(address, timeout=1) is open_
        assert x.probe(address, 80, timeout=0.5) == (f"a {source} 80" if open_ else "timed out")
        assert x.probe(address, 81, timeout=0.5) == "timed out"
    # What is of the subnet is a neighbour, and what was translated on the bridge was published.
    x.run("ip", "addr", "add", "10.9.0.77/24", "dev", "eth0")
    x.run("ip", "route", "replace", "10.9.0.0/24", "dev", "eth0", "src", "10.9.0.77")
    assert x.probe("10.9.0.2", 80) == "a 10.9.0.77 80"
    x.run("ip", "route", "replace", "10.9.0.0/24", "dev", "eth0", "src", "192.0.2.2")
    if uplink == "nat":
        assert [x.probe(address, 80) for address in ("192.0.2.1", HOST4)] == ["a 192.0.2.2 80"] * 2
        assert x.probe("2001:db8:2::1", 80) == "a 2001:db8:2::2 80"
    for name in ("guarded", "inwards"):
        lab.host.run("nft", "flush", "set" if name == "guarded" else "map", "bridge", "isthmus", name)
        done = lab.host.isthmus("ns", "create", f"beside-{name}")
        assert "what the firewall's sets hold: it was put back" in done.stderr
        assert unasked() == []


@pytest.mark.parametrize("target", ["10.9.0.2", "fd09::2"])
def test_a_neighbour_that_is_told_the_short_way_still_reaches_what_is_open(
    lab: Lab, bridge_nf: int, target: str
) -> None:
    """The host that routes from a wire to the same wire says so (ICMP redirect), and the neighbour heeds it."""
    assert bridge_nf in (0, 1)
    build(lab, stp=0)
    drive(lab.host, CREATE.replace("bridge=", "uplink='routed', bridge=") + MEMBERS.replace("8080", "80"))
    wait_for(lambda: is_settled(lab), "our ports")
    a, x = lab.host.netns("a"), lab.host.netns("x")
    a.serve("a", 80)
    x.run("ip", "route", "add", "default", "via", "2001:db8:2::1")
    sniffer = Sniffer(x, "eth0")
    source = "2001:db8:2::2" if ":" in target else "192.0.2.2"
    assert [x.probe(target, 80) for _ in range(4)] == [f"a {source} 80"] * 4
    assert a.probe(source, 80) == f"x {target} 80"
    if ":" in target:  # of IPv4 it says so where bridge-nf is 0 alone
        assert sniffer.wait(lambda frame: frame[20:21] == b"\x3a" and frame[54:55] == ND_REDIRECT) is not None


def test_a_network_without_gateway_adds_no_address(far: Lab) -> None:
    had = addresses(far)
    drive(far.host, CREATE.replace("bridge=", "gateways=(), bridge=") + MEMBERS.replace("port('8080:80'),", ""))
    wait_for(lambda: is_settled(far), "our ports")
    assert addresses(far) == had
    assert far.host.netns("a").pings("10.9.0.2")
    assert foreign(far) == FOREIGN


def test_an_address_that_the_bridge_had_stays_when_it_is_the_gateway(lab: Lab) -> None:
    build(lab, stp=0)
    lab.host.run("ip", "addr", "add", "10.9.0.1/24", "dev", "far0")
    before = snapshot(lab.host)
    drive(lab.host, CREATE.replace("'fd09::/64', ", "").replace("bridge=", "allow_overlap=True, bridge="))
    drive(lab.host, "do(remove_network, 'ours')")
    assert snapshot(lab.host) == before


@pytest.mark.parametrize("uplink", ["nat", "none"])
def test_without_a_gateway_a_port_is_published_where_the_host_has_an_address_of_its_own(lab: Lab, uplink: str) -> None:
    build(lab, stp=0)
    drive(
        lab.host, f"do(create_network, network('ours', '10.9.0.0/24', gateways=(), bridge='far0', uplink={uplink!r}))"
    )
    lab.host.isthmus("ns", "create", "a")
    done = lab.host.isthmus("attach", "ours", "a", "-p", "8080:80", check=False)
    why = "error: cannot publish on network ours: its bridge has no address of its IPv4 subnet"
    assert (done.returncode, done.stderr.splitlines()[0]) == (3, why)
    lab.host.run("ip", "addr", "add", "10.9.0.1/24", "dev", "far0")
    lab.host.isthmus("attach", "ours", "a", "-p", "8080:80")
    lab.host.netns("a").serve("a", 80)
    assert lab.host.probe("127.0.0.1", 8080) == "a 10.9.0.1 80"


def test_a_bridge_that_is_gone_is_no_hindrance(lab: Lab) -> None:
    build(lab, stp=0)
    drive(lab.host, CREATE + MEMBERS)
    lab.host.run("ip", "link", "delete", "far0")
    drive(lab.host, REMOVE)
    assert lab.host.nft_json() == []


def test_repair_waits_for_a_bridge_that_is_gone_and_takes_up_the_new_one(lab: Lab) -> None:
    build(lab, stp=0)
    drive(lab.host, CREATE + MEMBERS)
    lab.host.run("ip", "link", "delete", "far0")
    for _ in range(2):
        done = lab.host.isthmus("repair")
        assert "bridge far0 of network ours is gone: its members are cut off until it is back" in done.stderr
    lab.host.isthmus("ns", "create", "c")
    refused = lab.host.isthmus("attach", "ours", "c", check=False)
    assert (refused.returncode, "bridge far0 of network ours is gone" in refused.stderr) == (3, True)

    lab.host.run("ip", "link", "add", "far0", "type", "bridge")
    lab.host.run("ip", "link", "set", "far0", "up")
    lab.host.isthmus("repair")
    assert lab.host.isthmus("repair").stdout == "nothing to change\n"
    assert lab.host.netns("a").pings("10.9.0.1")
    assert lab.host.netns("a").pings("fd09::3")
    assert lab.host.netns("b").pings(LAN4)
    drive(lab.host, REMOVE + "do(remove_namespace, 'c')")
    assert lab.host.nft_json() == []


def test_a_bridge_that_is_gone_is_no_hindrance_to_others(lab: Lab) -> None:
    build(lab, stp=0)
    drive(lab.host, CREATE + MEMBERS)
    lab.host.run("ip", "link", "delete", "far0")
    lab.host.isthmus("network", "create", "n", "--subnet", "10.5.0.0/24")
    lab.host.isthmus("attach", "n", "a", "-p", "8081:80")
    lab.host.isthmus("detach", "n", "a")
    lab.host.isthmus("network", "rm", "n")
    lab.host.isthmus("network", "rm", "ours", "--force")
    drive(lab.host, "for name in ('a', 'b'): do(remove_namespace, name)")
    assert lab.host.nft_json() == []


@pytest.mark.parametrize("gateway", ["10.9.0.254", "none"])
def test_no_member_gets_an_address_that_the_host_has_on_the_bridge(lab: Lab, gateway: str) -> None:
    build(lab, stp=0)
    lab.host.run("ip", "addr", "add", "10.9.0.1/24", "dev", "far0")
    options = ("--bridge", "far0", "--subnet", "10.9.0.0/24", "--gateway", gateway)
    lab.host.isthmus("network", "create", "ours", *options)
    lab.host.isthmus("ns", "create", "a")
    refused = lab.host.isthmus("attach", "ours", "a", "--ip", "10.9.0.1", check=False)
    assert refused.returncode == 3
    assert "address 10.9.0.1 of network ours is taken by the host" in refused.stderr
    assert "10.9.0.2" in lab.host.isthmus("attach", "ours", "a").stdout


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("eth0", "Refused: cannot adopt eth0: it is no bridge but veth"),
        ("lo", "Refused: cannot adopt lo: it is no bridge but a plain link"),
        ("nowhere", "Refused: cannot adopt bridge nowhere: there is no link of that name"),
    ],
)
def test_what_is_no_bridge_is_refused(lab: Lab, name: str, why: str) -> None:
    before = snapshot(lab.host)
    with pytest.raises(EngineRefused) as caught:
        drive(lab.host, f"do(create_network, network('ours', '10.9.0.0/24', bridge={name!r}))")
    assert str(caught.value).startswith(why)
    assert snapshot(lab.host) == before


def test_a_bridge_is_adopted_by_one_network_only(lab: Lab) -> None:
    build(lab, stp=0)
    drive(lab.host, CREATE)
    with pytest.raises(EngineRefused, match="Refused: bridge far0 belongs to network ours"):
        drive(lab.host, "do(create_network, network('more', '10.8.0.0/24', bridge='far0'))")


def link_locals(lab: Lab) -> list[str]:
    found = lab.host.ip_json("-6", "addr", "show", "far0")
    return [one["local"] for link in found for one in link["addr_info"] if one["scope"] == "link"]


def silent_bridge(lab: Lab) -> None:
    """Make a stranger's bridge that has no link-local address, nor gets one."""
    lab.host.run("ip", "link", "add", "far0", "address", MAC, "type", "bridge")
    lab.host.run("ip", "link", "set", "far0", "addrgenmode", "none")
    lab.host.run("ip", "link", "set", "far0", "up")


def test_a_bridge_without_a_link_local_address_is_reached_from_outside_at_once(lab: Lab, bridge_nf: int) -> None:
    assert bridge_nf in (0, 1)
    silent_bridge(lab)
    assert link_locals(lab) == []
    drive(lab.host, CREATE + "\ndo(create_namespace, 'a')")
    drive(lab.host, "do(attach, AttachmentWish(network='ours'), 'a', (port('8080:80'),))")
    server = lab.host.netns("a").serve("a", 80)
    # The kernel asks for the member, which has not said a word since the host knows nobody.
    lab.host.run("ip", "-6", "neigh", "flush", "dev", "far0")
    assert lab.lan.probe("2001:db8::2", 8080, timeout=0.9) == "a 2001:db8::9 80"
    assert link_locals(lab) == ["fe80::aa:bbff:fecc:ddee"]
    end(server)
    drive(lab.host, "do(detach, 'ours', 'a'); do(remove_namespace, 'a'); do(remove_network, 'ours')")
    assert addresses(lab) == []


def test_only_a_bridge_that_gets_no_link_local_address_by_itself_gets_ours(lab: Lab) -> None:
    build(lab, stp=0)
    (kernels,) = link_locals(lab)
    drive(lab.host, CREATE)
    assert link_locals(lab) == [kernels]
    drive(lab.host, "do(remove_network, 'ours')")
    # Set up without a carrier it gets its own when that comes; what was flushed does not come again.
    for name in ("x", "y"):
        lab.host.run("ip", "link", "set", f"far-{name}", "nomaster")
    lab.host.run("ip", "link", "set", "far0", "down")
    lab.host.run("ip", "link", "set", "far0", "up")
    wait_for(lambda: lab.host.ip_json("link", "show", "far0")[0]["operstate"] == "DOWN", "the lost carrier")
    drive(lab.host, CREATE)
    assert link_locals(lab) == []
    lab.host.run("ip", "link", "set", "far-x", "master", "far0")
    wait_for(lambda: link_locals(lab) == [kernels], "the kernel's own")
    drive(lab.host, "do(repair); do(remove_network, 'ours')")
    assert link_locals(lab) == [kernels]

    lab.host.run("ip", "-6", "addr", "flush", "dev", "far0", "scope", "link")
    drive(lab.host, CREATE)
    assert link_locals(lab) == [kernels]
    drive(lab.host, "do(remove_network, 'ours')")
    assert link_locals(lab) == []


def test_a_link_local_address_that_the_stranger_gives_is_enough(lab: Lab) -> None:
    silent_bridge(lab)
    drive(lab.host, CREATE)
    (ours,) = link_locals(lab)
    lab.host.run("ip", "link", "set", "far0", "address", "02:aa:bb:cc:dd:ff")
    text = "name: d\nnetworks: {more: {subnets: [10.8.0.0/24]}}"
    up(lab.host, text)
    assert link_locals(lab) == [ours]
    lab.host.run("ip", "addr", "add", "fe80::1/64", "dev", "far0", "nodad")
    drive(lab.host, "do(down, 'd')")
    assert link_locals(lab) == ["fe80::1"]
    drive(lab.host, "do(remove_network, 'ours')")
    assert link_locals(lab) == ["fe80::1"]
