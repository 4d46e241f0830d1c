"""A host with things of others on it is byte for byte the same after `up` and `down`, and after a killed `up`."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Final

import pytest
from tests.live.driving import wait_for

from isthmus.testing import LAN4, Lab, snapshot

FILE: Final = """
name: rich
networks:
  br0: {subnets: [10.7.0.0/24, "fd07::/64"], uplink: nat}
  br1: {subnets: [10.8.0.0/24, "fd08::/64"], uplink: routed}
  br2: {subnets: [10.9.0.0/24], uplink: none}
  br3: {bridge: fbr0, subnets: [10.10.0.0/24]}
namespaces:
  a:
    networks: {br0: {ip: 10.7.0.50}, br1: {}}
    publish: ["8080:80/tcp", "127.0.0.1:53:53/udp", "9000-9009:9000-9009/tcp"]
    command: [sleep, "1000"]
  b:
    networks: {br2: {}, br3: {}}
    publish: [{port: "8081:81", network: br2}]
  c:
    networks: {br3: {}}
links:
  - [{ns: a, ip: 10.0.0.1/30, name: x}, {ns: b, ip: 10.0.0.2/30, name: y}]
"""
# What strangers made, in the order that they made it. 1769174120 and 1769174121 are our link groups.
STRANGERS: Final = f"""
set -e
nft -f - <<END
table inet filter {{
    set s {{ type ipv4_addr; elements = {{ 192.0.2.1, 192.0.2.2 }} }}
    chain forward {{ type filter hook forward priority 10; policy accept; ip saddr @s counter drop; }}
}}
table ip isthmus {{
    chain x {{ type filter hook input priority 5; policy accept; }}
}}
END
iptables-nft -A FORWARD -s 192.0.2.7 -j DROP
iptables-nft -t nat -A POSTROUTING -s 172.18.0.0/16 -j MASQUERADE
ip6tables-nft -A FORWARD -s 2001:db8:7::1 -j DROP
iptables-legacy -A FORWARD -s 192.0.2.8 -j DROP || true
ip link add fbr0 type bridge stp_state 0
ip link set fbr0 mtu 1400 up
ip addr add 172.18.0.1/16 dev fbr0
ip netns add stranger
ip link add fp0 type veth peer name eth0 netns stranger
ip link set fp0 master fbr0 up
ip -n stranger link set eth0 up
ip -n stranger addr add 172.18.0.2/16 dev eth0
ip link add grouped type bridge
ip link set grouped group 1769174120 alias "somebody's"
ip link add dead type bridge
ip link set dead group 1769174121
ip rule add from 172.18.0.0/16 table 99 priority 1000
ip route add default via {LAN4} table 99
ip -6 route add 2001:db8:99::/64 via 2001:db8::9
ip neigh add 172.18.0.9 lladdr 02:00:00:00:00:99 dev fbr0 nud permanent
echo 2 >/proc/sys/net/ipv4/conf/fbr0/rp_filter
echo 1 >/proc/sys/net/ipv4/conf/fbr0/proxy_arp
echo 1 >/proc/sys/net/ipv4/conf/eth0/log_martians
echo 0 >/proc/sys/net/ipv6/conf/fbr0/accept_ra
echo 7 >/proc/sys/net/ipv6/conf/eth0/hop_limit
mkdir -p /etc/netns/stranger
echo "nameserver 192.0.2.53" >/etc/netns/stranger/resolv.conf
"""


def is_quiet(lab: Lab) -> bool:
    """Tell whether the foreign bridge has its state and its link-local address is no longer tentative."""
    links = {link["ifname"]: link for link in lab.host.ip_json("addr")}
    inside = lab.host.netns("stranger").ip_json("addr")
    tentative = any(one.get("tentative") for link in (*links.values(), *inside) for one in link["addr_info"])
    return links["fbr0"]["operstate"] == links["fp0"]["operstate"] == "UP" and not tentative


@pytest.fixture
def strangers(lab: Lab, tmp_path: Path) -> Path:
    """Fill the lab's host with what others made, and return the declared file."""
    lab.host.run("sh", "-c", STRANGERS)
    wait_for(lambda: is_quiet(lab), "what strangers made does not come to rest")
    file = tmp_path / "rich.yaml"
    file.write_text(FILE)
    return file


def inside_stranger(lab: Lab) -> list[dict[str, object]]:
    return [*lab.host.netns("stranger").ip_json("addr"), *lab.host.netns("stranger").ip_json("route")]


def test_what_others_made_is_the_same_after_up_and_down(lab: Lab, strangers: Path) -> None:
    before, inside = snapshot(lab.host), inside_stranger(lab)
    lab.host.isthmus("up", str(strangers))
    assert lab.host.isthmus("plan", str(strangers), check=False).returncode == 0
    lab.host.isthmus("down", "rich")
    assert snapshot(lab.host) == before
    assert inside_stranger(lab) == inside


def test_what_others_made_is_the_same_after_a_killed_up_repair_and_down(lab: Lab, strangers: Path) -> None:
    before, inside = snapshot(lab.host), inside_stranger(lab)
    argv = (sys.executable, "-m", "isthmus.doors.cli")
    statuses = []
    for tenth_s in range(1, 9):
        done = lab.host.run(
            "timeout", "-s", "KILL", str(0.06 * tenth_s), *argv, "up", str(strangers), check=False
        ).returncode
        statuses.append(done)
        lab.host.isthmus("repair")
        gone = lab.host.isthmus("down", "rich", check=False)
        assert gone.returncode in (0, 4), gone.stderr
        lab.host.isthmus("repair")
        assert snapshot(lab.host) == before
    assert inside_stranger(lab) == inside
    assert statuses.count(128 + signal.SIGKILL) + statuses.count(-signal.SIGKILL) >= 3, statuses
