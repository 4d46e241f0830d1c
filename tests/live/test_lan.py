"""A network interface on the bridge: what it carries goes there and back, and members are on the LAN themselves."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any, Final

import pytest
from tests.live.driving import EngineRefused, Sniffer, drive, end, send_frame, up, wait_for

from isthmus.testing import HOST4, HOST6, LAN4, LAN6, Host, Lab, Place, snapshot

CREATE: Final = ("network", "create", "lan0", "--uplink", "nic:eth0", "--confirm-within", "none")
RANGES: Final = ("--range", "203.0.113.100-203.0.113.110", "--range", "2001:db8::100-2001:db8::110")
# What moves by itself, and what is the kernel's choice.
MOVING: Final = re.compile(r"valid_life_time|preferred_life_time|expires|used|confirmed|updated|probes|refcnt")
ISTHMUS: Final = (sys.executable, "-m", "isthmus.doors.cli")
WAITS: Final = ("sh", "-c", "read line; exit 7")
IPV6_ROUTE: Final = 1 << 10  # RTNLGRP_IPV6_ROUTE
RICH: Final = """
address add 203.0.113.7/24 dev eth0 label eth0:7 valid_lft 3000 preferred_lft 2000
address add 198.51.100.1 peer 198.51.100.2/32 dev eth0
address add 198.51.100.129/25 dev eth0 metric 50 noprefixroute
address add 2001:db8::7/64 dev eth0 nodad valid_lft 3000 preferred_lft 2000
address add 2001:db8:5::7/64 dev eth0 metric 77 nodad noprefixroute
route add 198.51.100.128/25 dev eth0 protocol static metric 50
route add default via 203.0.113.9 src 203.0.113.7 metric 7 mtu lock 1400 table 100
route add 192.0.2.0/24 via 192.0.2.77 dev eth0 onlink protocol static
route add local 192.0.2.128/25 dev eth0
route add 10.66.0.0/16 nexthop via 203.0.113.9 dev eth0 weight 3 nexthop via 203.0.113.10 dev eth0
-6 route add 2001:db8:99::/64 via fe80::1 dev eth0 expires 3000
-6 route add 2001:db8:98::/64 via 2001:db8::9 dev eth0 metric 33 mtu 1300 pref high
nexthop add id 5 via 203.0.113.9 dev eth0
nexthop add id 6 encap ip id 7 dst 203.0.113.9 dev eth0
route add 10.56.0.0/16 via 203.0.113.9 dev eth0 realm 7 rto_min 30ms features ecn
route add 10.55.0.0/16 nhid 5
neighbour add 203.0.113.77 lladdr 02:00:00:00:00:77 dev eth0 nud permanent
neighbour add proxy 203.0.113.88 dev eth0
"""


def carried(host: Host, link: str) -> list[str]:
    """Return what hangs on a link, as `ip` tells it, in its order; the link's name is left out."""
    asked = (
        ("address", "show", "dev", link),
        ("-4", "route", "show", "table", "all", "dev", link),
        ("-6", "route", "show", "table", "all", "dev", link),
        ("-4", "route", "show", "10.66.0.0/16"),
        ("nexthop", "show"),
        ("neighbour", "show", "dev", link, "nud", "permanent"),
        ("neighbour", "show", "proxy", "dev", link),
    )
    found: list[str] = []
    for words in asked:
        for one in host.ip_json(*words):
            shown = one.get("addr_info", one) if "addr_info" in one else one
            for item in shown if isinstance(shown, list) else [shown]:
                kept = {key: value for key, value in item.items() if not MOVING.fullmatch(key)}
                found.append(json.dumps(kept, sort_keys=True).replace(f'"{link}', '"DEV'))
    return found


def make_rich(host: Host) -> None:
    host.run("ip", "-batch", "-", input=RICH.replace("\n-6 ", "\n"))


def nothing_of_ours(host: Host) -> bool:
    return not host.nft_json() and [one["ifname"] for one in host.ip_json("link", "show")] == ["lo", "eth0"]


def test_what_an_interface_carries_goes_to_the_bridge_and_back(lab: Lab) -> None:
    host = lab.host
    make_rich(host)
    before, conf = carried(host, "eth0"), host.sysctl("net/ipv6/conf/eth0/addr_gen_mode")
    (nic,) = host.ip_json("link", "show", "eth0")
    host.isthmus(*CREATE)
    (bridge,) = host.ip_json("link", "show", "lan0")
    (port,) = host.ip_json("link", "show", "eth0")
    assert carried(host, "lan0") == before
    # What every link that is up has, and what is not of one link.
    assert [one for one in carried(host, "eth0") if not re.search('"ff00::/8"|"10.66|"id"', one)] == []
    assert (bridge["address"], bridge["mtu"], port["master"]) == (nic["address"], nic["mtu"], "lan0")
    assert all((lab.lan.pings(HOST4), lab.lan.pings(HOST6), host.pings(LAN4)))
    host.isthmus("network", "rm", "lan0", "--confirm-within", "none")
    assert carried(host, "eth0") == before
    assert host.ip_json("link", "show", "eth0") == [nic | {"promiscuity": nic["promiscuity"]}]
    assert host.sysctl("net/ipv6/conf/eth0/addr_gen_mode") == conf
    assert nothing_of_ours(host)


def test_an_ipv6_address_with_a_peer_gets_no_second_route(lab: Lab) -> None:
    host = lab.host
    host.run("ip", "addr", "add", "2001:db8:9::1", "peer", "2001:db8:9::2/128", "dev", "eth0", "nodad")
    before = carried(host, "eth0")
    host.isthmus(*CREATE)
    assert carried(host, "lan0") == before
    host.isthmus("network", "rm", "lan0", "--confirm-within", "none")
    assert carried(host, "eth0") == before


SHARED: Final = """
link add eth1 type veth peer name far1
link set far1 up
link set eth1 up
address add 10.0.0.5/24 dev eth1
address add 2001:db8:9::5/64 dev eth1 nodad
route append default via 203.0.113.10
route append default via 10.0.0.1
route append default via 203.0.113.11
route add 10.5.0.0/16 via 10.0.0.1
route append 10.5.0.0/16 via 203.0.113.9
route append 10.5.0.0/16 via 203.0.113.10
route add 10.6.0.0/16 via 203.0.113.9 protocol static
route append 10.6.0.0/16 via 203.0.113.9 protocol 77
route add 10.7.0.0/16 nexthop via 203.0.113.9 nexthop via 10.0.0.1
route append 10.7.0.0/16 via 203.0.113.9
-6 route del default
-6 route add default via 2001:db8:9::1 dev eth1
-6 route append default via 2001:db8::9 dev eth0
-6 route append default via fe80::9 dev eth0
-6 route add 2001:db8:77::/64 dev eth1
-6 route append 2001:db8:77::/64 dev eth0
-6 route append 2001:db8:77::/64 via 2001:db8::9
-6 route append 2001:db8:77::/64 via 2001:db8::a
-6 route add 2001:db8:77::/64 via 2001:db8::b metric 20
"""


def routes(host: Host) -> list[str]:
    """Return the routes of table main in the kernel's order, without what is that of a single link."""
    found = []
    for family in ("-4", "-6"):
        found += host.run("ip", family, "route", "show").stdout.splitlines()
    return [re.sub(r" (expires|hoplimit) \S+", "", one).rstrip() for one in found if not one.startswith("fe80::/64")]


def moved(lines: list[str]) -> list[str]:
    return [one.replace(" eth0", " lan0") for one in lines]


def test_routes_with_others_to_the_same_destination_keep_their_order_and_leave_those_alone(lab: Lab) -> None:
    host = lab.host
    for line in SHARED.strip().splitlines():
        host.run("ip", *line.split())
    before = routes(host)
    host.isthmus(*CREATE)
    assert routes(host) == moved(before)
    host.isthmus("network", "rm", "lan0", "--confirm-within", "none")
    assert routes(host) == before


KILLED: Final = """
import os
from isthmus.kernel import nic
send, sent = nic._send, []
def killed(*args):
    send(*args)
    sent.append(args)
    if len(sent) == {sends}:
        os.kill(os.getpid(), 9)
nic._send = killed
"""


@pytest.mark.parametrize("sends", [1, 2, 3])
def test_a_kill_between_two_sends_of_a_move_loses_no_route(lab: Lab, sends: int) -> None:
    host = lab.host
    for line in SHARED.strip().splitlines():
        host.run("ip", *line.split())
    before = routes(host)
    source = KILLED.format(sends=sends)
    source += "do(create_network, NetworkWish(name='lan0', uplink='nic', nic='eth0'), confirm_within=0)"
    with pytest.raises(AssertionError):
        drive(host, source)
    assert routes(host) != before
    host.isthmus("repair")
    assert routes(host) == before
    assert not is_on_bridge(host)
    host.isthmus(*CREATE)
    assert routes(host) == moved(before)


ADVERTISER: Final = """
import socket, struct, sys
sock = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
body = struct.pack(">BBHBBHII", 134, 0, 0, 64, 0, int(sys.argv[2]), 0, 0)
body += struct.pack(">BBBBIII", 3, 4, 64, 0xC0, 3600, 1800, 0) + socket.inet_pton(socket.AF_INET6, sys.argv[3])
sock.sendto(body, ("ff02::1", 0, 0, socket.if_nametoindex(sys.argv[1])))
"""


def advertise(lab: Lab, lifetime: int = 1800) -> None:
    """Have a router of the LAN say that it is one, and that 2001:db8:5::/64 is on the LAN."""
    lab.lan.sysctl("net/ipv6/conf/eth0/forwarding", 1)
    lab.lan.python(ADVERTISER, "eth0", str(lifetime), "2001:db8:5::")


def ways_out6(host: Host) -> list[tuple[str, str]]:
    return [(one["gateway"], one["dev"]) for one in host.ip_json("-6", "route", "show", "default")]


def global6(host: Host, link: str) -> list[tuple[bool, bool]]:
    """Return of a link's own addresses of 2001:db8:5::/64 whether they are temporary, and whether a leader of such."""
    found = host.ip_json("-6", "address", "show", "dev", link)[0]["addr_info"]
    found = [one for one in found if one.get("local", "").startswith("2001:db8:5:") and not one.get("tentative")]
    return sorted((bool(one.get("temporary")), bool(one.get("mngtmpaddr"))) for one in found)


def test_what_the_kernel_learned_of_a_router_is_learned_on_the_bridge_too(lab: Lab) -> None:
    host = lab.host
    lab.lan.run("ip", "addr", "add", "2001:db8:5::a/64", "dev", "eth0", "nodad")
    host.sysctl("net/ipv6/conf/eth0/use_tempaddr", 2)
    # Another link's route of the same metric, which that of a program would be joined with.
    host.run("ip", "link", "add", "eth1", "type", "veth", "peer", "name", "far1")
    host.run("sh", "-c", "ip link set far1 up; ip link set eth1 up; ip addr add 2001:db8:9::5/64 dev eth1 nodad")
    host.run("ip", "-6", "route", "replace", "default", "via", "2001:db8:9::1", "dev", "eth1")
    advertise(lab)
    own = [(False, True), (True, False)]
    wait_for(lambda: len(ways_out6(host)) == 2 and global6(host, "eth0") == own, "what is learned")
    before = routes(host)
    told = host.isthmus(*CREATE)
    assert "is leased" not in told.stderr
    assert " is temporary: the kernel makes another on lan0" in told.stderr
    assert routes(host) == [one.replace(" proto ra", "") for one in moved(before)]
    assert host.pings("2001:db8:5::a")
    wait_for(lambda: global6(host, "lan0") == own, "another temporary address")
    assert host.isthmus("repair").stdout == "nothing to change\n"
    host.isthmus("forwarding", "on", "-6")
    assert len(ways_out6(host)) == 2
    host.isthmus("forwarding", "off", "-6")
    advertise(lab, lifetime=0)
    wait_for(lambda: ways_out6(host) == [("2001:db8:9::1", "eth1")], "the route's end")
    advertise(lab)
    wait_for(lambda: len(ways_out6(host)) == 2, "the route again")
    host.isthmus("network", "rm", "lan0", "--confirm-within", "none")
    assert [one.replace(" proto ra", "") for one in routes(host)] == [one.replace(" proto ra", "") for one in before]
    wait_for(lambda: global6(host, "eth0") == own, "another temporary address")
    assert host.pings("2001:db8:5::a")
    advertise(lab, lifetime=0)
    wait_for(lambda: ways_out6(host) == [("2001:db8:9::1", "eth1")], "the route's end")


def listens(pid: int, groups: int) -> bool:
    """Tell whether somebody listens to groups of rtnetlink where a process is."""
    lines = [line.split() for line in Path(f"/proc/{pid}/net/netlink").read_text().splitlines()[1:]]
    return any(line[1] == "0" and int(line[3], 16) & groups for line in lines)


def test_an_ipv6_address_can_be_used_at_its_new_place_before_it_leaves_the_old_one(lab: Lab) -> None:
    host = lab.host
    monitor = host.spawn("ip", "-6", "monitor", "route")
    wait_for(lambda: listens(monitor.pid, IPV6_ROUTE), "ip monitor")
    for _ in range(8):
        host.isthmus(*CREATE)
        host.isthmus("network", "rm", "lan0", "--force", "--confirm-within", "none")
    host.run("ip", "-6", "route", "add", "2001:db8:77::/64", "dev", "eth0")
    assert monitor.stdout is not None
    told = []
    for line in iter(monitor.stdout.readline, ""):
        if "2001:db8:77::" in line:
            break
        if f"local {HOST6} " in line:
            told.append(("gone from " if line.startswith("Deleted") else "at ") + line.split(" dev ")[1].split()[0])
    assert told == ["at lan0", "gone from eth0", "at eth0", "gone from lan0"] * 8
    end(monitor)


def test_what_comes_to_the_port_later_is_put_on_the_bridge_by_the_next_verb(lab: Lab) -> None:
    """As a manager of a fixed address does when the cable comes back."""
    host = lab.host
    host.isthmus(*CREATE)
    had = carried(host, "lan0")
    host.run("ip", "addr", "add", f"{HOST4}/24", "dev", "eth0")
    host.run("ip", "route", "add", "default", "via", LAN4, "dev", "eth0", "metric", "1024")
    told = host.isthmus("repair").stderr
    assert told == "note: the host's default routes have changed: eth0 followed\n"
    assert host.ip_json("-4", "addr", "show", "dev", "eth0") == []
    assert host.ip_json("-4", "route", "show", "dev", "eth0") == []
    more = {one for one in carried(host, "lan0") if one not in had}
    assert [json.loads(one)["metric"] for one in more] == [1024]


def test_what_is_set_for_the_interface_is_set_for_the_bridge(lab: Lab) -> None:
    host = lab.host
    for name, value in (("ipv6/conf/eth0/accept_ra", 2), ("ipv4/conf/eth0/rp_filter", 2)):
        host.sysctl(f"net/{name}", value)
    host.isthmus(*CREATE)
    assert host.sysctl("net/ipv6/conf/lan0/accept_ra") == "2"
    assert host.sysctl("net/ipv4/conf/lan0/rp_filter") == "2"
    assert host.sysctl("net/ipv6/conf/lan0/use_tempaddr") == host.sysctl("net/ipv6/conf/eth0/use_tempaddr")


FORWARDING: Final = {
    "off for the interface alone": ("net/ipv4/ip_forward", "net/ipv4/conf/eth0/forwarding", "0"),
    "on for the interface alone": ("", "net/ipv4/conf/eth0/forwarding", "1"),
    "off for the interface alone, IPv6": ("net/ipv6/conf/all/forwarding", "net/ipv6/conf/eth0/forwarding", "0"),
    "on for the interface alone, IPv6": ("", "net/ipv6/conf/eth0/force_forwarding", "1"),
}


@pytest.mark.parametrize("case", FORWARDING)
def test_the_bridge_forwards_what_the_interface_forwarded(lab: Lab, case: str) -> None:
    host = lab.host
    switch, name, value = FORWARDING[case]
    if switch:
        host.sysctl(switch, 1)
    host.sysctl(name, int(value))
    before = sysctls(host)
    host.isthmus(*CREATE)
    assert host.sysctl(name.replace("eth0", "lan0")) == value
    assert host.isthmus("repair").stderr == ""
    assert host.sysctl(name.replace("eth0", "lan0")) == value
    host.isthmus("network", "rm", "lan0", "--confirm-within", "none")
    assert sysctls(host) == before


@pytest.mark.parametrize("own", ["0", "1"])
def test_the_bridge_forwards_where_all_links_are_asked_to(lab: Lab, own: str) -> None:
    host = lab.host
    host.sysctl("net/ipv4/conf/eth0/forwarding", int(own))
    before = sysctls(host)
    host.isthmus("forwarding", "on")
    on = sysctls(host)
    host.isthmus(*CREATE)
    assert [host.sysctl(f"net/ipv{family}/conf/lan0/forwarding") for family in (4, 6)] == ["1", "1"]
    assert host.isthmus("repair").stderr == ""
    host.isthmus("network", "rm", "lan0", "--confirm-within", "none")
    assert sysctls(host) == on
    host.isthmus(*CREATE)
    host.isthmus("forwarding", "off")
    assert [host.sysctl(f"net/ipv{family}/conf/lan0/forwarding") for family in (4, 6)] == [own, "0"]
    host.isthmus("network", "rm", "lan0", "--confirm-within", "none")
    assert sysctls(host) == before
    host.isthmus("forwarding", "on")
    host.sysctl("net/ipv4/conf/eth0/forwarding", 0)
    host.isthmus(*CREATE)
    assert host.sysctl("net/ipv4/conf/lan0/forwarding") == "0"


def test_a_network_neither_comes_to_an_interface_nor_leaves_it_in_place(lab: Lab, tmp_path: Path) -> None:
    host, file = lab.host, tmp_path / "note.yaml"
    for first, then in (("{nic: eth0}", "nat"), ("nat", "{nic: eth0}")):
        file.write_text(f"name: note\nnetworks:\n  lan0: {{uplink: {first}}}\n")
        host.isthmus("up", str(file), "--confirm-within", "none")
        before = snapshot(host)
        file.write_text(f"name: note\nnetworks:\n  lan0: {{uplink: {then}}}\n")
        kind = "nat" if first == "nat" else "nic"
        done = host.isthmus("up", str(file), check=False)
        said = f"networks.lan0.uplink: network lan0 has uplink {kind}: remove it first"
        assert (done.returncode, said in done.stderr) == (3, True)
        assert snapshot(host) == before
        host.isthmus("down", "note", "--confirm-within", "none")


def forwarded(host: Host) -> dict[str, list[str]]:
    """Return the links that forward, by family."""
    names = {"4": "ipv4/conf/{}/forwarding", "6": "ipv6/conf/{}/force_forwarding"}
    links = [one["ifname"] for one in host.ip_json("link", "show")]
    return {key: [one for one in links if host.sysctl("net/" + name.format(one)) == "1"] for key, name in names.items()}


@pytest.mark.parametrize("link", ["eth0", "lan0"])
def test_forwarding_that_was_asked_for_of_the_interface_holds_for_its_bridge(lab: Lab, link: str) -> None:
    host = lab.host
    before = sysctls(host)
    host.isthmus("forwarding", "on", "--link", "eth0")
    host.isthmus(*CREATE)
    assert forwarded(host) == {"4": ["eth0", "lan0"], "6": ["eth0", "lan0"]}
    shown = json.loads(host.isthmus("forwarding", "--link", "lan0", "--format", "json").stdout)
    assert [one["by"] for one in shown] == [["isthmus forwarding"]] * 2
    host.sysctl("net/ipv4/conf/lan0/forwarding", 0)
    host.isthmus("repair")
    assert forwarded(host)["4"] == ["eth0", "lan0"]
    host.isthmus("forwarding", "off", "--link", link)
    assert forwarded(host) == {"4": [], "6": []}
    host.isthmus("forwarding", "on", "-4", "--link", link)
    assert forwarded(host) == {"4": ["eth0", "lan0"], "6": []}
    host.isthmus("network", "rm", "lan0", "--confirm-within", "none")
    assert forwarded(host) == {"4": ["eth0"], "6": []}
    host.isthmus("forwarding", "off", "--link", "eth0")
    assert sysctls(host) == before


def test_what_a_network_needs_of_the_bridge_stays_on(lab: Lab) -> None:
    host = lab.host
    host.isthmus(*CREATE)
    host.isthmus("forwarding", "on", "--link", "eth0")
    host.isthmus("network", "create", "br0", "--subnet", "10.9.0.0/24")
    told = host.isthmus("forwarding", "off", "--link", "eth0").stderr
    assert told == "note: IPv4 forwarding on eth0 stays on: network br0 needs it\n"
    assert forwarded(host)["4"] == ["lan0", "br0"]
    done = host.isthmus("forwarding", "off", "--link", "lan0", check=False)
    assert (done.returncode, "network br0 needs it" in done.stderr) == (3, True)
    host.isthmus("network", "rm", "br0")
    assert forwarded(host)["4"] == []


def test_what_another_network_forwards_by_the_bridge_ends_with_it(lab: Lab) -> None:
    host = lab.host
    before = sysctls(host)
    host.isthmus(*CREATE)
    host.isthmus("network", "create", "br0", "--subnet", "10.9.0.0/24", "--subnet", "fd09::/64")
    assert host.sysctl("net/ipv4/conf/lan0/forwarding") == "1"
    host.isthmus("network", "rm", "br0")
    assert host.sysctl("net/ipv4/conf/lan0/forwarding") == "0"
    assert host.sysctl("net/ipv6/conf/lan0/force_forwarding") == "0"
    host.isthmus("network", "rm", "lan0", "--confirm-within", "none")
    assert sysctls(host) == before


@pytest.mark.parametrize("verb", ["repair", "rm"])
def test_a_bridge_that_was_renamed_has_its_name_again(lab: Lab, verb: str) -> None:
    """Its name first: all that hangs on it stays there, and what is done next finds it."""
    host = lab.host
    had = without_labels(carried(host, "eth0"))
    host.isthmus(*CREATE, *RANGES)
    host.isthmus("ns", "create", "a")
    moved = without_labels(carried(host, "lan0"))
    host.run("ip", "link", "set", "lan0", "name", "stolen")
    remove = ("network", "rm", "lan0", "--confirm-within", "none")
    told = host.isthmus(*(remove if verb == "rm" else ("repair",)))
    assert told.stderr == "note: bridge lan0 was called stolen: it has its name again\n"
    if verb == "repair":
        assert told.stdout == ""
        assert without_labels(carried(host, "lan0")) == moved
        host.isthmus(*remove)
    assert without_labels(carried(host, "eth0")) == had
    assert host.ip_json("link", "show", "type", "bridge") == []


@pytest.mark.parametrize("change", [("alias", "theirs"), ("mtu", "1400")])
def test_a_bridge_that_is_mended_keeps_the_hosts_neighbours(lab: Lab, change: tuple[str, str]) -> None:
    host = lab.host
    make_rich(host)
    host.isthmus(*CREATE)
    had = carried(host, "lan0")
    host.run("ip", "link", "set", "dev", "lan0", *change)
    shown = host.isthmus("repair", "--show-commands").stdout
    assert "ip link set dev lan0 mtu 1500 group" in shown
    assert carried(host, "lan0") == had


def test_a_link_local_address_that_was_taken_away_stays_away(lab: Lab) -> None:
    host = lab.host
    host.run("ip", "-6", "address", "flush", "dev", "eth0", "scope", "link")
    had = carried(host, "eth0")
    host.isthmus(*CREATE)
    assert carried(host, "lan0") == had
    shown = host.isthmus("network", "rm", "lan0", "--confirm-within", "none", "--show-commands").stdout
    assert "ip link set dev eth0 addrgenmode eui64" in shown.splitlines()
    assert carried(host, "eth0") == had
    assert host.sysctl("net/ipv6/conf/eth0/addr_gen_mode") == "0"


def without_labels(lines: list[str]) -> list[str]:
    """Leave labels out: the kernel gives new ones to the addresses of a link that is renamed (`inetdev_changename`)."""
    return [re.sub(r'"label": "[^"]*", ', "", line) for line in lines]


@pytest.mark.parametrize("own", ["0", "1"])
def test_what_an_older_network_forwards_by_the_bridge_ends_with_it_too(lab: Lab, own: str) -> None:
    host = lab.host
    host.sysctl("net/ipv4/conf/eth0/forwarding", int(own))
    before = sysctls(host)
    host.isthmus("network", "create", "br0", "--subnet", "10.9.0.0/24", "--subnet", "fd09::/64")
    host.isthmus(*CREATE)
    assert host.sysctl("net/ipv4/conf/lan0/forwarding") == "1"
    host.isthmus("network", "rm", "br0", "--confirm-within", "none")
    assert host.sysctl("net/ipv4/conf/lan0/forwarding") == own
    assert host.sysctl("net/ipv6/conf/lan0/force_forwarding") == "0"
    host.isthmus("network", "rm", "lan0", "--confirm-within", "none")
    assert sysctls(host) == before


def sysctls(host: Host) -> str:
    """Return all that says what is forwarded."""
    return host.run("sh", "-c", "grep -r . /proc/sys/net/ipv?/conf/*/*forwarding /proc/sys/net/ipv4/ip_forward").stdout


def test_an_alternative_name_names_the_interface(lab: Lab) -> None:
    lab.host.run("ip", "link", "property", "add", "dev", "eth0", "altname", "enp0s31f6-the-one-with-the-long-name")
    lab.host.isthmus(*CREATE[:3], "--uplink", "nic:enp0s31f6-the-one-with-the-long-name", *CREATE[5:])
    (port,) = lab.host.ip_json("link", "show", "eth0")
    assert port["master"] == "lan0"
    for words in (("network", "inspect", "lan0"), ("ls",)):
        assert "nic:eth0" in lab.host.isthmus(*words).stdout


@pytest.mark.usefixtures("bridge_nf")
def test_members_are_on_the_lan_themselves(lab: Lab) -> None:
    host, lan = lab.host, lab.lan
    # A network whose rules would stop LAN traffic if it crossed them: its subnet is the member's peer's.
    host.isthmus("network", "create", "br0", "--subnet", "10.9.0.0/24", "--subnet", "fd09::/64")
    host.isthmus(*CREATE, *RANGES)
    for name in ("a", "b"):
        host.isthmus("ns", "create", name)
        host.isthmus("attach", "lan0", name)
        host.netns(name).serve(name, 80)
    host.isthmus("ns", "create", "c")
    host.isthmus("attach", "br0", "c", "-p", "8080:80")
    host.netns("c").serve("c", 80)
    lan.serve("lan", 9000)
    host.serve("host", 7000)
    a = host.netns("a")
    for lan_address, own, host_address in ((LAN4, "203.0.113.100", HOST4), (LAN6, "2001:db8::100", HOST6)):
        assert lan.probe(own, 80) == f"a {lan_address} 80"
        assert a.probe(lan_address, 9000) == f"lan {own} 9000"
        assert a.probe(host_address, 7000) == f"host {own} 7000"
        assert host.probe(own, 80).startswith("a ")
        assert host.netns("b").probe(own, 80).startswith("a ")
        # The host's own networks go on: out by the bridge, in by a published port.
        assert host.netns("c").probe(lan_address, 9000) == f"lan {host_address} 9000"
        assert lan.probe(host_address, 8080) == f"c {lan_address} 80"
        assert a.probe(host_address, 8080) == f"c {own} 80"
    # Nobody on the LAN reaches the other network directly, members included.
    for place in (lan, a):
        place.run("ip", "route", "add", "10.9.0.0/24", "via", HOST4)
        assert place.probe("10.9.0.2", 80, timeout=1) == "timed out"
    assert a.run("cat", "/etc/hosts").stdout.count("203.0.113.10") == 2


@pytest.mark.usefixtures("bridge_nf")
def test_foreign_traffic_of_the_lan_crosses_no_rule_that_could_stop_it(lab: Lab) -> None:
    """Frames between the LAN and a member whose addresses are those of a closed network of ours, or of loopback."""
    host = lab.host
    host.isthmus("network", "create", "br0", "--subnet", "10.9.0.0/24")
    host.isthmus(*CREATE, *RANGES)
    host.isthmus("ns", "create", "a")
    host.isthmus("attach", "lan0", "a")
    a = host.netns("a")
    (link,) = a.ip_json("link", "show", "eth0")
    sniffer = Sniffer(a, "eth0")
    frames = [
        _udp(link["address"], source, target, number)
        for number, (source, target) in enumerate(
            [("10.9.0.7", "203.0.113.100"), ("203.0.113.9", "10.9.0.9"), ("10.9.0.7", "10.9.0.9"), ("127.0.0.1", LAN4)]
        )
    ]
    send_frame(lab.lan, "eth0", *frames, _udp(link["address"], LAN4, "203.0.113.100", 9))
    assert sniffer.wait(lambda frame: frame[42:] == b"mark 9") is not None
    seen = [frame[26:34] for frame in sniffer.seen if frame[42:].startswith(b"mark")]
    assert seen == [frame[26:34] for frame in frames] + [_addresses(LAN4, "203.0.113.100")]


def _addresses(*texts: str) -> bytes:
    return b"".join(bytes(map(int, text.split("."))) for text in texts)


def _udp(mac: str, source: str, target: str, number: int) -> bytes:
    data = f"mark {number}".encode()
    udp = (7000).to_bytes(2, "big") + (7001 + number).to_bytes(2, "big") + (8 + len(data)).to_bytes(2, "big") + b"\0\0"
    head = bytes((0x45, 0)) + (28 + len(data)).to_bytes(2, "big") + bytes((0, 0, 0, 0, 64, 17, 0, 0))
    head += _addresses(source, target)
    total = sum(int.from_bytes(head[at : at + 2], "big") for at in range(0, 20, 2))
    total = (total & 0xFFFF) + (total >> 16)
    head = head[:10] + (~total & 0xFFFF).to_bytes(2, "big") + head[12:]
    return bytes.fromhex(mac.replace(":", "")) + b"\x02\0\0\0\0\x99" + b"\x08\0" + head + udp + data


def test_an_address_that_somebody_on_the_lan_has_is_not_given(lab: Lab) -> None:
    host, lan = lab.host, lab.lan
    lan.run("ip", "address", "add", "203.0.113.100/24", "dev", "eth0")
    lan.run("ip", "address", "add", "2001:db8::100/64", "dev", "eth0", "nodad")
    host.run("ip", "address", "add", "203.0.113.101/24", "dev", "eth0")
    host.isthmus(*CREATE, *RANGES)
    host.isthmus("ns", "create", "a")
    shown = host.isthmus("attach", "lan0", "a").stdout
    assert "a has 203.0.113.102 2001:db8::101 on lan0" in shown
    host.isthmus("ns", "create", "b")
    done = host.isthmus("attach", "lan0", "b", "--ip", "203.0.113.100", check=False)
    assert done.returncode == 3
    assert "203.0.113.100 is in use on the LAN" in done.stderr


@pytest.mark.parametrize("leave", [("detach", "n", "a"), ("network", "rm", "n", "--force")])
def test_a_publish_does_not_move_to_the_lan(lab: Lab, leave: tuple[str, ...]) -> None:
    host = lab.host
    host.isthmus("network", "create", "n", "--subnet", "10.1.0.0/24")
    host.isthmus(*CREATE, *RANGES[:2])
    host.isthmus("ns", "create", "a")
    host.isthmus("attach", "n", "a", "-p", "8082:80")
    done = host.isthmus("attach", "lan0", "a", "--default-route", check=False)
    assert done.returncode == 3
    assert "a publishes 8082:80/tcp, and by then could not: cannot publish on network lan0" in done.stderr
    host.isthmus("attach", "lan0", "a")
    host.isthmus(*leave)
    assert json.loads(host.isthmus("ls", "--format", "json").stdout)["ports"] == []
    maps = [one["map"] for one in host.nft_json() if "map" in one]
    assert not any("elem" in one for one in maps)
    assert "nothing to change" in host.isthmus("repair").stdout


def test_without_a_range_no_address_is_given(lab: Lab) -> None:
    host = lab.host
    host.isthmus(*CREATE)
    host.isthmus("ns", "create", "a")
    done = host.isthmus("attach", "lan0", "a", check=False)
    assert done.returncode == 3
    assert "--range" in done.stderr
    host.isthmus("attach", "lan0", "a", "--ip", "203.0.113.50", "--ip", "2001:db8::50")
    assert host.netns("a").pings(LAN4)
    done = host.isthmus("publish", "a", "8080:80", check=False)
    assert done.returncode == 3
    assert "on the LAN themselves" in done.stderr


# What is deleted first, what the interface gets, and the IPv6 subnet that is its LAN.
PREFIXES: Final = {
    "a second one": ("", ["2001:db8:8::1/64"], "2001:db8::/64"),
    "a deprecated one": ("", ["2001:db8:8::1/64 preferred_lft 0"], "2001:db8::/64"),
    "the router's comes later": ("del 2001:db8::2/64", ["2001:db8:8::1/64", "2001:db8::2/64"], "2001:db8::/64"),
    "no router": ("del default", ["2001:db8:8::1/64"], "2001:db8::/64"),
    "no router, and the oldest deprecated": (
        "del default",
        ["2001:db8:8::1/64", "2001:db8:7::1/64", "2001:db8::2/64 preferred_lft 0"],
        "2001:db8:8::/64",
    ),
}


@pytest.mark.parametrize("case", PREFIXES)
def test_of_several_prefixes_the_routers_is_the_lan(lab: Lab, case: str) -> None:
    host = lab.host
    first, addresses, subnet = PREFIXES[case]
    if first == "del default":
        host.run("ip", "-6", "route", "del", "default")
    elif first:
        host.run("ip", "addr", *first.split(), "dev", "eth0")
    for one in addresses:
        host.run("ip", "addr", "replace", *one.split(), "dev", "eth0", "nodad")
    host.isthmus(*CREATE)
    (found,) = json.loads(host.isthmus("network", "ls", "--format", "json").stdout)
    assert [one["prefix"] for one in found["subnets"]] == ["203.0.113.0/24", subnet]


def test_the_routers_prefix_is_the_lan_of_ipv4_too(lab: Lab) -> None:
    host = lab.host
    host.run(
        "sh", "-c", f"ip -4 addr flush dev eth0; ip addr add 198.51.100.7/24 dev eth0; ip addr add {HOST4}/24 dev eth0"
    )
    host.run("ip", "route", "replace", "default", "via", LAN4)
    host.isthmus(*CREATE, "--range", "203.0.113.100-203.0.113.110")
    host.isthmus("ns", "create", "a")
    host.isthmus("attach", "lan0", "a")
    assert host.netns("a").pings(LAN4)


def test_a_file_says_it_too(lab: Lab) -> None:
    host = lab.host
    before = carried(host, "eth0")
    text = """
    name: wire
    networks:
      lan0: {uplink: {nic: eth0}, range: [203.0.113.100-203.0.113.110, "2001:db8::100-2001:db8::110"]}
    namespaces:
      a: {networks: [lan0]}
      b: {networks: {lan0: {ip: [203.0.113.60, "2001:db8::60"]}}}
    """
    host.run("sh", "-c", "cat > $ISTHMUS_RUN_DIR/wire.yaml", input=text)
    path = host.run("sh", "-c", "echo $ISTHMUS_RUN_DIR/wire.yaml").stdout.strip()
    host.isthmus("up", path, "--confirm-within", "none")
    assert host.netns("a").pings(LAN4)
    assert host.netns("b").pings(LAN6)
    assert up(host, text) == []
    # Somebody gives the interface an address behind our back: the next `up` moves it where the others are.
    host.run("ip", "address", "add", "203.0.113.8/24", "dev", "eth0")
    assert up(host, text) == ["Change BridgedNic ('nic', 'lan0')"]
    assert "203.0.113.8" in str(host.ip_json("address", "show", "dev", "lan0"))
    host.run("ip", "address", "delete", "203.0.113.8/24", "dev", "lan0")
    host.isthmus("down", "wire", "--confirm-within", "none")
    assert carried(host, "eth0") == before
    assert nothing_of_ours(host)


DUPLICATE: Final = """
echo 1 >/proc/sys/net/ipv6/conf/eth0/accept_dad
ip addr add 2001:db8::9/64 dev eth0
until ip addr show dev eth0 dadfailed | grep -q 2001; do sleep 0.05; done
"""
REFUSED: Final = {
    "no such link": ("", "nic:eth9", 4, "no link 'eth9'"),
    "loopback": ("", "nic:lo", 3, "loopback"),
    "down": ("ip link add d0 type veth peer name d1", "nic:d0", 3, "d0 is down"),
    "no carrier": ("ip link add d0 type veth peer name d1; ip link set d0 up", "nic:d0", 3, "has no carrier"),
    "a port": (
        "ip link add d0 type veth peer name d1; ip link add far0 type bridge; ip link set d0 master far0 up",
        "nic:d0",
        3,
        "is a port of far0",
    ),
    "a bridge": ("ip link add far0 type bridge; ip link set far0 up", "nic:far0", 3, "is a bridge itself"),
    "macvlan on it": ("ip link add link eth0 name m0 type macvlan mode bridge", "nic:eth0", 3, "macvlan m0"),
    "macvlan of a namespace on it": (
        "ip netns add vm; ip link add link eth0 netns vm name m0 type macvlan",
        "nic:eth0",
        3,
        "macvlan m0 in vm",
    ),
    "VXLAN over it": (
        "ip link add vx type vxlan id 5 dev eth0 dstport 4789 remote 203.0.113.9",
        "nic:eth0",
        3,
        "vxlan vx",
    ),
    "IPv6 token": ("ip token set ::5 dev eth0", "nic:eth0", 3, "has the IPv6 token ::5"),
    "policy rule": ("ip rule add iif eth0 priority 99 table 100", "nic:eth0", 3, "policy rule 99 names link eth0"),
    "wireless": (
        "mount -t tmpfs none /sys/class/net/eth0/ && mkdir /sys/class/net/eth0/wireless",
        "nic:eth0",
        3,
        "eth0 is wireless",
    ),
    "read-only /proc/sys": (
        "mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys",
        "nic:eth0",
        5,
        "cannot write sysctl net/ipv6/conf/eth0/addr_gen_mode",
    ),
    "duplicate": (
        DUPLICATE,
        "nic:eth0",
        3,
        "2001:db8::9/64 of eth0 is used by",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_moved_is_refused_by_name_before_anything_moves(lab: Lab, case: str) -> None:
    setting, uplink, status, words = REFUSED[case]
    host = lab.host
    host.run("sh", "-c", setting or "true")
    before = carried(host, "eth0")
    done = host.isthmus("network", "create", "lan0", "--uplink", uplink, "--confirm-within", "none", check=False)
    assert (done.returncode, words in done.stderr) == (status, True), done.stderr
    assert carried(host, "eth0") == before
    assert host.nft_json() == []


ON_TOP: Final = {
    "macvlan m0": "ip link add link {bridge} name m0 type macvlan",
    "macvlan m0 in vm": "ip netns add vm; ip link add link {bridge} netns vm name m0 type macvlan",
    "vxlan m0": "ip link add m0 type vxlan id 5 dev {bridge} dstport 4789 remote 203.0.113.9",
}


@pytest.mark.parametrize("kind", ["nic:eth0", "nat"])
@pytest.mark.parametrize("words", ON_TOP)
def test_what_somebody_has_on_a_bridge_of_ours_does_not_go_with_it_unasked(lab: Lab, words: str, kind: str) -> None:
    host = lab.host
    confirmed = ("--confirm-within", "none") if kind != "nat" else ()
    host.isthmus("network", "create", "n", "--uplink", kind, *confirmed)
    host.run("sh", "-ec", ON_TOP[words].format(bridge="n"))
    before = snapshot(host)
    refused = host.isthmus("network", "rm", "n", *confirmed, check=False)
    assert (refused.returncode, f"other links on it: {words}\n" in refused.stderr) == (3, True), refused.stderr
    assert snapshot(host) == before
    host.isthmus("network", "rm", "n", "--force", *confirmed)
    assert "m0" not in host.run("ip", "-br", "link").stdout


def test_what_somebody_has_on_a_lans_bridge_does_not_go_with_a_declaration_unasked(lab: Lab, tmp_path: Path) -> None:
    host, file = lab.host, tmp_path / "f.yaml"
    file.write_text("name: f\nnetworks: {n: {uplink: {nic: eth0}}}\n")
    host.isthmus("up", str(file), "--confirm-within", "none")
    host.run("sh", "-ec", ON_TOP["macvlan m0 in vm"].format(bridge="n"))
    refused = host.isthmus("down", "f", "--confirm-within", "none", check=False)
    assert (refused.returncode, "macvlan m0 in vm" in refused.stderr) == (3, True)
    host.isthmus("down", "f", "--force", "--confirm-within", "none")


@pytest.mark.parametrize(
    "routes",
    [
        ("default via 203.0.113.9 table 100",),
        ("0.0.0.0/1 via 203.0.113.9", "128.0.0.0/1 via 203.0.113.9"),
        ("2000::/3 via 2001:db8::9",),
        (),
    ],
)
def test_whatever_leads_everywhere_asks_for_a_way_back(lab: Lab, routes: tuple[str, ...]) -> None:
    host = lab.host
    for family in ("-4", "-6"):
        host.run("ip", family, "route", "delete", "default")
    for route in routes:
        host.run("ip", "-6" if "::" in route else "-4", "route", "add", *route.split())
    done = host.isthmus(*CREATE[:5])
    assert ("taken back in 60 s" in done.stderr) == bool(routes)
    if routes:
        host.isthmus("confirm")
    assert ("taken back in 60 s" in host.isthmus("network", "rm", CREATE[2]).stderr) == bool(routes)


def test_a_route_whose_gateway_is_not_reached_any_more_is_named_and_nothing_moves(lab: Lab) -> None:
    host = lab.host
    for line in ("add 10.6.0.9 dev eth0", "add 10.78.0.0/16 via 10.6.0.9", "del 10.6.0.9"):
        host.run("ip", "route", *line.split())
    before = carried(host, "eth0")
    done = host.isthmus(*CREATE, check=False)
    assert done.returncode == 3
    assert done.stderr.startswith("error: cannot move route 10.78.0.0/16 via 10.6.0.9 dev eth0 ")
    assert "hint: delete that route" in done.stderr
    assert carried(host, "eth0") == before
    assert nothing_of_ours(host)


def test_whose_rules_name_the_interface_is_said(lab: Lab) -> None:
    host = lab.host
    host.run("nft", "add table inet fw; add chain inet fw in { type filter hook input priority 0; }")
    host.run("nft", 'add rule inet fw in iifname "eth0" tcp dport 22 accept')
    host.run("iptables-nft", "-A", "INPUT", "-i", "eth0", "-j", "ACCEPT")
    host.run("nft", 'add rule inet fw in iifname "eth00" drop')
    done = host.isthmus(*CREATE)
    assert "rules of table inet fw, ip filter name eth0: what came in by it comes by lan0" in done.stderr


NAMING: Final = {
    'iif "eth0"': True,
    'iif { "eth0", "lo" }': True,
    'iifname { "eth0", "eth7" }': True,
    'oifname != { "eth0" }': True,
    "iifname @some": True,
    'iifname vmap { "lo": accept, "eth0": drop }': True,
    'iifname . tcp dport { "eth0" . 22 }': True,
    'tcp dport . iif { 22 . "eth0" }': True,
    'iifname "eth*"': True,
    'iifname { "eth*", "lo" }': True,
    'iifname { "enp*", "etg*", "lo" }': False,
    'iifname . tcp dport { "eth*" . 22-25 }': True,
    'iif "lo"': False,
    'iifname { "eth00", "lo" }': False,
    'iifname . tcp dport { "lo" . 22, "eth1" . 23 }': False,
    'iifname "eth00*"': False,
    'iifname != "lo"': False,
    "fib saddr . iif oif missing": False,
}


@pytest.mark.parametrize("rule", NAMING)
def test_whatever_form_a_rule_names_the_interface_in_is_said(lab: Lab, rule: str) -> None:
    host = lab.host
    chain = "chain in { type filter hook input priority 0; }"
    host.run("nft", f'table inet fw {{ set some {{ type ifname; elements = {{ "lo", "eth0" }}; }}; {chain}; }}')
    host.run("nft", f"add rule inet fw in {rule}{'' if 'vmap' in rule else ' counter'}")
    done = host.isthmus(*CREATE)
    assert ("rules of table inet fw name eth0: what came in by it comes by lan0" in done.stderr) is NAMING[rule]


JOINER: Final = """
import socket, sys
index = socket.if_nametoindex("eth0")
four, six = socket.socket(socket.AF_INET, socket.SOCK_DGRAM), socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
request = socket.inet_aton("224.0.0.251") + bytes(4) + index.to_bytes(4, sys.byteorder)
four.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, request)
request = socket.inet_pton(socket.AF_INET6, "ff02::fb") + index.to_bytes(4, sys.byteorder)
six.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, request)
print("ready", flush=True)
sys.stdin.read()
"""


def test_what_groups_somebody_joined_on_the_interface_is_said(lab: Lab) -> None:
    host = lab.host
    assert "joined" not in host.isthmus(*CREATE).stderr
    host.isthmus("network", "rm", "lan0", "--confirm-within", "none")
    joiner = host.spawn(sys.executable, "-c", JOINER)
    assert joiner.stdout is not None
    assert joiner.stdout.readline() == "ready\n"
    said = "note: somebody has joined groups 224.0.0.251, ff02::fb on eth0, and will hear nothing there: restart it"
    assert said in host.isthmus(*CREATE).stderr
    end(joiner)


def test_whose_connections_end_with_the_move_is_said(lab: Lab) -> None:
    host = lab.host
    for name, *more in (
        ("m", "10.5.0.0/24"),
        ("s", "10.6.0.0/24", "--snat", HOST4),
        ("c", "10.7.0.0/24", "--uplink=none"),
    ):
        host.isthmus("network", "create", name, "--subnet", *more)
    assert "note: connections that members of network m have to the outside end" in host.isthmus(*CREATE).stderr


def test_a_lost_record_is_made_again_from_the_kernel(lab: Lab) -> None:
    host = lab.host
    before = carried(host, "eth0")
    host.isthmus(*CREATE, *RANGES)
    host.isthmus("ns", "create", "a")
    host.isthmus("attach", "lan0", "a")
    (old,) = json.loads(host.isthmus("network", "ls", "--format", "json").stdout)
    host.run("sh", "-c", "rm $ISTHMUS_STATE_DIR/state.db*")
    host.isthmus("repair", "--rebuild")
    (new,) = json.loads(host.isthmus("network", "ls", "--format", "json").stdout)
    assert new == old | {"subnets": [one | {"range": None} for one in old["subnets"]]}
    assert host.netns("a").pings(LAN4)
    host.isthmus("network", "rm", "lan0", "--force", "--confirm-within", "none")
    assert carried(host, "eth0") == before


def test_the_second_network_on_an_interface_is_refused(lab: Lab) -> None:
    lab.host.isthmus(*CREATE)
    with pytest.raises(EngineRefused, match="eth0 is on network lan0"):
        drive(lab.host, "do(create_network, NetworkWish(name='other', uplink='nic', nic='eth0'), confirm_within=0)")


# Confirm or revert


def waiting(host: Host) -> dict[str, Any] | None:
    found: dict[str, Any] | None = json.loads(host.isthmus("ls", "--format", "json").stdout)["unconfirmed"]
    return found


def guards(host: Host) -> list[int]:
    done = host.run("pgrep", "-f", f"wait_and_enter.*{host.path}", check=False)
    return [int(one) for one in done.stdout.split()]


def is_on_bridge(place: Place) -> bool:
    (link,) = place.ip_json("link", "show", "eth0")
    return "master" in link


def test_it_goes_back_unless_it_is_confirmed(lab: Lab) -> None:
    host = lab.host
    make_rich(host)
    before = carried(host, "eth0")
    done = host.isthmus(*CREATE[:5], "--confirm-within", "3")
    assert "taken back in 3 s" in done.stderr
    # Its guard has a session of its own: no terminal, shell or logout ends it.
    (guard,) = guards(host)
    assert host.run("ps", "-o", "sess=,tty=", "-p", str(guard)).stdout.split() == [str(guard), "?"]
    assert is_on_bridge(host)
    found = waiting(host)
    assert found is not None
    assert found["verb"] == "network create"
    assert 0 <= found["seconds"] <= 3
    wait_for(lambda: not is_on_bridge(host) and not guards(host), "the way back")
    assert carried(host, "eth0") == before
    assert nothing_of_ours(host)
    done = host.isthmus("confirm", check=False)
    assert (done.returncode, "too late: network create was taken back" in done.stderr) == (3, True)
    done = host.isthmus("confirm", check=False)
    assert (done.returncode, "nothing waits" in done.stderr) == (4, True)


def test_what_was_taken_back_is_forgotten_with_the_next_change(lab: Lab) -> None:
    host = lab.host
    host.isthmus(*CREATE[:-1], "1")
    wait_for(lambda: not is_on_bridge(host) and not guards(host), "the way back")
    host.isthmus(*CREATE)
    done = host.isthmus("confirm", check=False)
    assert (done.returncode, "nothing waits" in done.stderr) == (4, True)


def test_what_is_confirmed_stays(lab: Lab) -> None:
    host = lab.host
    host.isthmus(*CREATE[:5])  # it carries the default route: 60 s without being told
    found = waiting(host)
    assert found is not None
    assert 55 <= found["seconds"] <= 60
    assert host.isthmus("confirm").stdout == "network create stays\n"
    assert waiting(host) is None
    wait_for(lambda: guards(host) == [], "the guard's end")
    assert is_on_bridge(host)
    # What was taken back before is forgotten by the next change that waits.
    host.isthmus("network", "rm", "lan0", "--confirm-within", "1")
    wait_for(lambda: is_on_bridge(host) and not guards(host), "the way back")
    host.isthmus("network", "rm", "lan0")
    host.isthmus("confirm")
    assert "nothing waits" in host.isthmus("confirm", check=False).stderr


@pytest.mark.parametrize("guarded", [True, False], ids=["guard", "next-verb"])
def test_a_removal_goes_back_too_and_without_its_guard_at_the_next_verb(lab: Lab, guarded: bool) -> None:
    host = lab.host
    host.isthmus(*CREATE)
    before = carried(host, "lan0")
    host.isthmus("network", "rm", "lan0", "--confirm-within", "2")
    assert not is_on_bridge(host)
    if not guarded:
        (guard,) = guards(host)
        host.run("kill", "-KILL", str(guard))
        wait_for(lambda: waiting(host) is not None and waiting(host)["seconds"] == 0, "the deadline")  # type: ignore[index]
        assert not is_on_bridge(host)
        said = "network rm waits for `isthmus confirm`: it is taken back by the next changing call: it is overdue"
        assert host.isthmus("ls").stderr == f"note: {said}\n"
        host.isthmus("ns", "create", "x")
    wait_for(lambda: is_on_bridge(host), "the way back")
    assert carried(host, "lan0") == before


def test_it_can_be_taken_back_at_once(lab: Lab) -> None:
    host = lab.host
    before = carried(host, "eth0")
    host.isthmus(*CREATE[:5])
    assert host.isthmus("confirm", "--revert").stdout == "network create was taken back\n"
    assert carried(host, "eth0") == before
    wait_for(lambda: guards(host) == [], "the guard's end")


def test_meanwhile_nothing_may_come_between(lab: Lab) -> None:
    host = lab.host
    host.isthmus(*CREATE[:5], *RANGES)
    host.isthmus("ns", "create", "a")
    for words in (("network", "create", "br0"), ("attach", "lan0", "a"), ("network", "rm", "lan0")):
        done = host.isthmus(*words, check=False)
        assert (done.returncode, "network create waits to be confirmed" in done.stderr) == (3, True), done.stderr
    host.isthmus("confirm")
    host.isthmus("attach", "lan0", "a")


def test_what_the_way_back_brings_is_not_taken_meanwhile(lab: Lab) -> None:
    host = lab.host
    for network, subnet in (("n", "10.1.0.0/24"), ("m", "10.2.0.0/24")):
        host.isthmus("network", "create", network, "--subnet", subnet)
    for namespace in "abw":
        host.isthmus("ns", "create", namespace)
    host.isthmus("attach", "n", "a", "-p", "8080:80")
    host.isthmus("attach", "m", "b")
    before = carried(host, "n")
    host.isthmus("network", "rm", "n", "--force", "--confirm-within", "60")
    for words in (
        ("attach", "m", "a"),  # its link is eth0 again
        ("publish", "b", "8080:90"),
        ("connect", "a", "w"),
    ):
        done = host.isthmus(*words, check=False)
        assert (done.returncode, "network rm waits to be confirmed" in done.stderr) == (3, True), words
    host.isthmus("publish", "b", "8081:90")
    host.isthmus("confirm", "--revert")
    assert carried(host, "n") == before
    assert host.isthmus("exec", "a", "--", "ip", "-br", "-4", "addr", "show", "eth0").stdout.split()[2] == "10.1.0.2/24"
    assert host.isthmus("repair").stdout == "nothing to change\n"


def test_a_name_that_the_way_back_needs_is_not_taken_meanwhile(lab: Lab) -> None:
    host = lab.host
    host.isthmus("up", "-", input="name: f\nnamespaces: {v: {}}\n")
    host.isthmus("down", "f", "--confirm-within", "60")
    for words in (("ns", "create", "v"), ("run", "--name", "v", "true")):
        done = host.isthmus(*words, check=False)
        assert (done.returncode in (3, 125), "down waits to be confirmed" in done.stderr) == (True, True), done.stderr
    host.isthmus("confirm", "--revert")
    (found,) = json.loads(host.isthmus("ns", "ls", "--format", "json").stdout)
    assert (found["name"], found["owner"]) == ("v", "f")


def test_the_way_back_leaves_out_what_was_taken_away_meanwhile(lab: Lab) -> None:
    host = lab.host
    host.isthmus("network", "create", "n", "--subnet", "10.1.0.0/24")
    host.isthmus("ns", "create", "a")
    host.isthmus("attach", "n", "a", "-p", "8080:80")
    ran = host.spawn(*ISTHMUS, "run", "--network", "n", "-p", "9000:90", "--", *WAITS)
    wait_for(lambda: "9000" in host.isthmus("ls").stdout, "the run")
    host.isthmus("network", "rm", "n", "--force", "--confirm-within", "60")
    host.isthmus("ns", "rm", "a")
    ran.communicate("\n", timeout=30)
    assert ran.returncode == 7
    host.isthmus("confirm", "--revert")
    assert host.isthmus("repair").stdout == "nothing to change\n"
    (network,) = json.loads(host.isthmus("network", "ls", "--format", "json").stdout)
    assert (network["name"], network["members"]) == ("n", [])
    assert json.loads(host.isthmus("ns", "ls", "--format", "json").stdout) == []


def test_a_run_that_ends_meanwhile_is_cleared_with_its_network(lab: Lab) -> None:
    host = lab.host
    before = snapshot(host)
    ran = host.spawn(*ISTHMUS, "run", "-p", "9000:90", "--", *WAITS)
    wait_for(lambda: "9000" in host.isthmus("ls").stdout, "the run")
    host.isthmus(*CREATE[:5])
    _, errors = ran.communicate("\n", timeout=30)
    assert (ran.returncode, errors) == (7, "")
    host.isthmus("confirm", "--revert")
    wait_for(lambda: snapshot(host) == before, "the host is as before")


def test_a_removal_that_is_killed_before_it_waits_goes_back(lab: Lab) -> None:
    host = lab.host
    host.isthmus(*CREATE)
    before = carried(host, "lan0")
    source = """
import os
from isthmus.kernel import nic
move_back = nic.move_back
def killed(*args):
    move_back(*args)
    os.kill(os.getpid(), 9)
nic.move_back = killed
do(remove_network, "lan0", confirm_within=60)
"""
    with pytest.raises(AssertionError):
        drive(host, source)
    assert not is_on_bridge(host)
    host.isthmus("repair")
    assert is_on_bridge(host)
    assert carried(host, "lan0") == before


def test_a_change_that_could_not_be_undone_keeps_its_guard(lab: Lab) -> None:
    source = """
from isthmus.errors import ApplyError
def broken(*args, **more):
    raise ApplyError("half-way", undone=False)
HOST.change = broken
do(create_network, NetworkWish(name="lan0", uplink="nic", nic="eth0"), confirm_within=60)
"""
    with pytest.raises(EngineRefused, match="half-way"):
        drive(lab.host, source)
    assert len(guards(lab.host)) == 1
    with pytest.raises(EngineRefused, match="half-way"):
        drive(lab.host, source.replace("undone=False", "undone=True"))
    assert len(guards(lab.host)) == 1


@pytest.mark.parametrize("text", ["0", "31536000", "-1", "soon"])
def test_a_deadline_makes_sense(lab: Lab, text: str) -> None:
    done = lab.host.isthmus(*CREATE[:5], f"--confirm-within={text}", check=False)
    assert done.returncode == 64
    assert not is_on_bridge(lab.host)


def test_the_callers_own_ssh_session_needs_a_way_back(lab: Lab) -> None:
    host = lab.host
    host.run("ip", "route", "delete", "default")
    host.run("ip", "-6", "route", "delete", "default")
    session = {"SSH_CONNECTION": f"{LAN4} 50000 {HOST4} 22"}
    command = 'exec "$0" -m isthmus.doors.cli "$@"'
    done = host.run("sh", "-c", command, sys.executable, *CREATE, check=False, env=session)
    assert (done.returncode, "carries the ssh session" in done.stderr) == (3, True), done.stderr
    # sudo takes the variable away: the session is found by its ancestors.
    nested = 'env -u SSH_CONNECTION "$0" -m isthmus.doors.cli "$@"; exit $?'
    done = host.run("sh", "-c", nested, sys.executable, *CREATE[:5], env=session)
    assert "taken back in 60 s" in done.stderr
    host.isthmus("confirm")


SESSIONS: Final = {
    "by a link-local address": "fe80::99%eth0 50000 fe80::2%eth0 22",
    "by a policy rule": f"198.51.100.7 50000 {HOST4} 22",
    "by an address that is gone": f"{LAN4} 50000 203.0.113.222 22",
}


@pytest.mark.parametrize("case", SESSIONS)
def test_an_ssh_session_is_found_by_whatever_leads_its_answers(lab: Lab, case: str) -> None:
    host = lab.host
    for line in (
        "route delete default",
        "-6 route delete default",
        "link add eth1 type veth peer name far1",
        "link set far1 up",
        "link set eth1 up",
        "address add 10.0.0.5/24 dev eth1",
        "route add default via 10.0.0.1",
        f"route add default via {LAN4} table 100",
        f"rule add from {HOST4} lookup 100",
    ):
        host.run("ip", *line.split())
    command = 'exec "$0" -m isthmus.doors.cli "$@"'
    session = {"SSH_CONNECTION": SESSIONS[case]}
    done = host.run("sh", "-c", command, sys.executable, *CREATE, check=False, env=session)
    assert (done.returncode, "carries the ssh session" in done.stderr) == (3, True), done.stderr
    assert not is_on_bridge(host)


def test_an_interface_that_is_unplugged_meanwhile_is_content(lab: Lab) -> None:
    host = lab.host
    host.isthmus(*CREATE[:5])
    host.run("ip", "link", "delete", "eth0")
    assert host.isthmus("confirm", "--revert").stdout == "network create was taken back\n"
    assert [one["ifname"] for one in host.ip_json("link", "show")] == ["lo"]


@pytest.mark.parametrize("way", ["rm", "guard"])
def test_an_interface_that_was_set_down_is_up_again_with_all_that_it_carried(lab: Lab, way: str) -> None:
    host = lab.host
    before = carried(host, "eth0")
    host.isthmus(*CREATE[:5], "--confirm-within", "none" if way == "rm" else "2")
    host.run("ip", "link", "set", "eth0", "down")
    if way == "rm":
        host.isthmus("network", "rm", "lan0", "--confirm-within", "none")
    wait_for(lambda: not guards(host) and not is_on_bridge(host), "the way back")
    assert carried(host, "eth0") == before
    assert host.pings(LAN4)
    assert nothing_of_ours(host)


TAKEN: Final = {"deleted": ("delete", "lan0"), "down": ("set", "lan0", "down")}
AGAIN: Final = {
    "guard": (("network", "ls"), "eth0"),
    "revert": (("confirm", "--revert"), "eth0"),
    "rm": (("network", "rm", "lan0", "--confirm-within", "none"), "eth0"),
    "confirm": (("confirm",), "lan0"),
    "repair": (("repair",), "lan0"),
}


@pytest.mark.parametrize("way", AGAIN)
@pytest.mark.parametrize("taken", TAKEN)
def test_what_went_with_the_bridge_is_there_again(lab: Lab, taken: str, way: str) -> None:
    host = lab.host
    make_rich(host)
    before = carried(host, "eth0")
    verb, link = AGAIN[way]
    host.isthmus(*CREATE[:5], "--confirm-within", {"guard": "2", "rm": "none", "repair": "none"}.get(way, "60"))
    host.run("ip", "link", *TAKEN[taken])
    assert not host.pings(LAN4)
    if way == "guard":
        wait_for(lambda: not guards(host), "the guard's end")
    said = host.isthmus(*verb).stderr
    assert carried(host, link) == before
    assert (lab.lan.pings(HOST6), host.pings(LAN4)) == (True, True)
    assert nothing_of_ours(host) is (link == "eth0")
    if way in ("confirm", "repair"):
        assert re.search(r"bridge lan0 was deleted or set down, .* lan0 again: .*2001:db8::7/64, .* \d+ routes", said)
        assert "default routes have changed" not in said
        assert host.isthmus("repair").stderr == ""


@pytest.mark.parametrize("taken", TAKEN)
def test_a_confirmed_bridge_stands_without_a_default_route_too(lab: Lab, taken: str) -> None:
    host = lab.host
    host.run("ip", "route", "delete", "default")
    host.run("ip", "-6", "route", "delete", "default")
    before = carried(host, "eth0")
    host.isthmus(*CREATE[:5], "--confirm-within", "60")
    host.run("ip", "link", *TAKEN[taken])
    host.isthmus("confirm")
    assert carried(host, "lan0") == before


def test_the_removal_of_a_deleted_bridge_can_be_taken_back(lab: Lab) -> None:
    host = lab.host
    host.isthmus(*CREATE)
    before = carried(host, "lan0")
    host.run("ip", "link", "delete", "lan0")
    host.isthmus("network", "rm", "lan0", "--confirm-within", "60")
    host.isthmus("confirm", "--revert")
    assert carried(host, "lan0") == before


def test_an_address_that_was_taken_off_the_bridge_does_not_come_back(lab: Lab) -> None:
    host = lab.host
    taken_off = ("203.0.113.7/24", "2001:db8::7/64")
    for address in taken_off:
        host.run("ip", "address", "add", address, "dev", "eth0")
    host.isthmus(*CREATE)
    for address in taken_off:
        host.run("ip", "address", "delete", address, "dev", "lan0")
    before = carried(host, "lan0")
    host.isthmus("repair")
    assert carried(host, "lan0") == before
    host.isthmus("network", "rm", "lan0", "--confirm-within", "none")
    assert carried(host, "eth0") == before


def test_what_had_a_lifetime_has_what_is_left_of_it(lab: Lab) -> None:
    host = lab.host
    for one in ("203.0.113.7/24", "2001:db8:5::7/64"):
        host.run("ip", "address", "add", one, "dev", "eth0", "valid_lft", "3000", "preferred_lft", "2000")
    host.run("ip", "address", "add", "203.0.113.8/24", "dev", "eth0", "valid_lft", "2", "preferred_lft", "1")
    host.isthmus(*CREATE)
    wait_for(lambda: "203.0.113.8" not in host.run("ip", "address").stdout, "the end of an address")
    host.run("ip", "link", "delete", "lan0")
    host.isthmus("repair")
    (bridge,) = host.ip_json("address", "show", "dev", "lan0")
    left = {one["local"]: one["valid_life_time"] for one in bridge["addr_info"]}
    assert 2900 < left["203.0.113.7"] < 3000
    assert 2900 < left["2001:db8:5::7"] < 3000
    assert "203.0.113.8" not in left


@pytest.mark.parametrize("taken", TAKEN)
def test_what_was_learned_of_a_router_and_went_is_known_as_learned_again(lab: Lab, taken: str) -> None:
    host = lab.host
    host.run("ip", "-6", "route", "delete", "default")
    host.sysctl("net/ipv6/conf/eth0/use_tempaddr", 2)
    advertise(lab)
    own = [(False, True), (True, False)]
    wait_for(lambda: len(ways_out6(host)) == 1 and global6(host, "eth0") == own, "what is learned")
    gateway = ways_out6(host)[0][0]
    host.isthmus(*CREATE)
    host.run("ip", "link", *TAKEN[taken])
    host.isthmus("repair")
    assert ways_out6(host) == [(gateway, "lan0")]
    wait_for(lambda: global6(host, "lan0") == own, "the addresses again")
    advertise(lab, lifetime=0)
    wait_for(lambda: ways_out6(host) == [], "the route's end")


@pytest.mark.parametrize("sends", [1, 2])
def test_a_kill_while_a_bridge_that_was_set_down_is_mended_loses_nothing(lab: Lab, sends: int) -> None:
    host = lab.host
    make_rich(host)
    before = carried(host, "eth0")
    host.isthmus(*CREATE)
    host.run("ip", "link", "set", "lan0", "down")
    with pytest.raises(AssertionError):
        drive(host, KILLED.format(sends=sends) + "do(repair)")
    host.isthmus("repair")
    assert carried(host, "lan0") == before


RENAMED: Final = {"live": "", "down": "ip link set eth0 down;"}


def rename(host: Host, way: str) -> None:
    """Rename the interface, and have another one take its name."""
    host.run("sh", "-c", f"{RENAMED[way]} ip link set eth0 name eth7; ip link set eth7 up")
    host.run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "far0")
    host.sysctl("net/ipv6/conf/eth0/addr_gen_mode", 1)


def is_back(host: Host, before: list[str]) -> bool:
    """Tell whether all is on the renamed interface, and nothing else was touched."""
    names = {one["ifname"] for one in host.ip_json("link", "show")}
    modes = [host.sysctl(f"net/ipv6/conf/{link}/addr_gen_mode") for link in ("eth0", "eth7")]
    return carried(host, "eth7") == before and names == {"lo", "eth0", "eth7", "far0"} and modes == ["1", "0"]


@pytest.mark.parametrize("way", RENAMED)
def test_an_interface_that_was_renamed_gets_all_back(lab: Lab, way: str) -> None:
    host = lab.host
    if way == "live":  # without a carrier the bridge loses its next-hop objects
        make_rich(host)
    before = carried(host, "eth0")
    host.isthmus(*CREATE)
    on_bridge = carried(host, "lan0")
    rename(host, way)
    assert host.isthmus("repair").stderr == ""
    host.isthmus("network", "create", "br0", "--subnet", "10.9.0.0/24")
    host.isthmus("network", "rm", "br0")
    host.run("ip", "addr", "add", "203.0.113.8/24", "dev", "eth7")
    host.isthmus("repair")
    host.run("ip", "addr", "del", "203.0.113.8/24", "dev", "lan0")
    assert carried(host, "lan0") == on_bridge
    host.isthmus("network", "rm", "lan0", "--confirm-within", "none")
    assert is_back(host, before)
    assert host.pings(LAN4)


def test_a_change_is_taken_back_although_the_interface_was_renamed(lab: Lab) -> None:
    host = lab.host
    before = carried(host, "eth0")
    host.isthmus(*CREATE[:5])
    rename(host, "live")
    host.isthmus("confirm", "--revert")
    assert is_back(host, before)


def test_the_guard_takes_back_although_the_interface_was_renamed(lab: Lab) -> None:
    host = lab.host
    before = carried(host, "eth0")
    host.isthmus(*CREATE[:5], "--confirm-within", "2")
    rename(host, "live")
    wait_for(lambda: not guards(host), "the guard's end")
    assert is_back(host, before)


def test_a_file_may_call_a_renamed_interface_by_either_name(lab: Lab) -> None:
    host = lab.host
    text = "{name: wire, networks: {lan0: {uplink: {nic: NIC}, range: [203.0.113.100-203.0.113.110]}}}"
    up(host, text.replace("NIC", "eth0"))
    host.run("ip", "link", "set", "eth0", "name", "eth7")
    assert up(host, text.replace("NIC", "eth0")) == []
    assert up(host, text.replace("NIC", "eth7")) == []


def reboot(host: Host) -> None:
    """Leave the host as a boot does: no link of ours, another boot id."""
    source = "import os; from isthmus.store.sqlite import Database\n"
    source += "db = Database(os.environ['ISTHMUS_STATE_DIR'], writable=True); db.set_meta('boot_id', 'another')"
    host.python(source)
    host.run("ip", "link", "set", "eth0", "nomaster")
    host.run("ip", "link", "delete", "lan0")


def test_after_a_reboot_the_interface_goes_onto_the_bridge_again(lab: Lab) -> None:
    host = lab.host
    host.isthmus(*CREATE)
    reboot(host)
    host.run("ip", "addr", "add", f"{HOST4}/24", "dev", "eth0")  # as who manages the interface does
    host.run("ip", "route", "add", "default", "via", LAN4, "dev", "eth0")
    host.isthmus("ns", "create", "x")
    assert is_on_bridge(host)
    (bridge,) = host.ip_json("-4", "addr", "show", "dev", "lan0")
    assert [one["local"] for one in bridge["addr_info"]] == [HOST4]
    assert [one["dev"] for one in host.ip_json("route", "show", "default")] == ["lan0"]


def test_after_a_reboot_an_unconfirmed_network_is_not_made_again(lab: Lab) -> None:
    host = lab.host
    host.isthmus(*CREATE[:5])
    (guard,) = guards(host)
    host.run("kill", "-KILL", str(guard))
    reboot(host)
    for _ in range(2):
        assert host.isthmus("network", "ls", "--format", "json").stdout.strip() == "[]"
        assert waiting(host) is None
        host.isthmus("ns", "create", "x", check=False)
    assert not is_on_bridge(host)


def test_after_a_reboot_while_a_change_waits_nothing_of_the_boot_before_is_brought(lab: Lab) -> None:
    host = lab.host
    host.isthmus(*CREATE)
    host.isthmus("network", "create", "br0", "--subnet", "10.9.0.0/24", "--confirm-within", "60")
    (guard,) = guards(host)
    host.run("kill", "-KILL", str(guard))
    reboot(host)
    host.run("ip", "link", "delete", "br0")
    host.run("ip", "addr", "add", "203.0.113.50/24", "dev", "eth0")  # who manages the interface has another one now
    assert host.isthmus("repair").stderr == ""
    (bridge,) = host.ip_json("-4", "addr", "show", "dev", "lan0")
    assert [one["local"] for one in bridge["addr_info"]] == ["203.0.113.50"]
