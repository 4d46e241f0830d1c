"""The lab itself: what it gives, and that nothing is left of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from isthmus.testing import HOST4, HOST4_SECOND, HOST6, LAN4, LAN6, CommandFailed, Lab, LeftBehind, snapshot
from isthmus.testing.machine import traces

CLOSED_PORT = 9
PORT = 8080


def runs(pid: int) -> bool:
    """Tell whether a process is alive; one that waits for its parent has no program any more."""
    return Path(f"/proc/{pid}/exe").exists()


@pytest.mark.parametrize("address", [HOST4, HOST4_SECOND, HOST6])
def test_lan_reaches_the_host(lab: Lab, address: str) -> None:
    assert lab.lan.pings(address)


@pytest.mark.parametrize("address", [LAN4, LAN6])
def test_host_reaches_the_lan(lab: Lab, address: str) -> None:
    assert lab.host.pings(address)


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
@pytest.mark.parametrize(("address", "peer"), [(HOST4, LAN4), (HOST4_SECOND, LAN4), (HOST6, LAN6)])
def test_a_server_says_who_asks(lab: Lab, protocol: str, address: str, peer: str) -> None:
    lab.host.serve("web", PORT)
    assert lab.lan.probe(address, PORT, protocol) == f"web {peer} {PORT}"


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
@pytest.mark.parametrize("address", [HOST4, HOST6])
def test_a_closed_port_is_refused(lab: Lab, protocol: str, address: str) -> None:
    assert lab.lan.probe(address, CLOSED_PORT, protocol) == "refused"


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_a_dropped_packet_times_out(lab: Lab, protocol: str) -> None:
    lab.host.run("nft", "add table inet t; add chain inet t c { type filter hook input priority 0; policy drop; }")
    assert lab.lan.probe(HOST4, PORT, protocol, timeout=0.2) == "timed out"


def test_a_probe_has_the_source_it_asks_for(lab: Lab) -> None:
    lab.lan.serve("out", PORT)
    assert lab.host.probe(LAN4, PORT, source=HOST4_SECOND, source_port=4321) == f"out {HOST4_SECOND} {PORT}"


def test_named_namespaces_are_those_of_the_lab(lab: Lab) -> None:
    lab.host.run("ip", "netns", "add", "a")
    lab.host.within("a", "ip", "link", "set", "lo", "up")
    lab.host.netns("a").serve("inner", PORT)
    assert lab.host.netns("a").probe("127.0.0.1", PORT) == f"inner 127.0.0.1 {PORT}"
    assert not Path("/run/netns/a").exists()
    assert lab.lan.run("ip", "netns", "list").stdout == ""


def test_an_unnamed_namespace_is_another_one(lab: Lab) -> None:
    unnamed = lab.host.unnamed()
    inodes = {os.stat(f"/proc/{pid}/ns/net").st_ino for pid in ("self", unnamed.pid, lab.host.pid, lab.lan.pid)}
    assert len(inodes) == 4
    assert [link["ifname"] for link in unnamed.ip_json("link")] == ["lo"]


def test_files_of_the_machine_are_out_of_reach(lab: Lab) -> None:
    lab.host.run("sh", "-c", "mkdir -p /etc/netns/a && echo x >/etc/netns/a/hosts && echo y >/run/lab-was-here")
    assert not Path("/etc/netns/a").exists()
    assert not Path("/run/lab-was-here").exists()


def test_links_in_sysfs_are_those_of_the_host(lab: Lab) -> None:
    assert {"eth0", "lo"} <= set(lab.host.run("ls", "/sys/class/net").stdout.split())
    assert lab.host.run("cat", "/sys/class/net/eth0/operstate").stdout == "up\n"


def test_a_failed_command_shows_what_it_printed(lab: Lab) -> None:
    with pytest.raises(CommandFailed, match="does not exist"):
        lab.host.run("ip", "link", "show", "nowhere")


def test_bridge_netfilter_is_set_on_the_host(lab: Lab, bridge_nf: int) -> None:
    if lab.host.run("test", "-d", "/proc/sys/net/bridge", check=False).returncode == 0:
        assert lab.host.sysctl("net/bridge/bridge-nf-call-iptables") == str(bridge_nf)
        assert lab.host.sysctl("net/bridge/bridge-nf-call-ip6tables") == str(bridge_nf)


def test_two_snapshots_are_alike_whatever_passed_between(lab: Lab) -> None:
    lab.host.run("nft", "add table inet t; add chain inet t c { type filter hook input priority 0; counter; }")
    lab.host.run("nft", "add rule inet t c counter")
    lab.host.run("iptables", "-A", "INPUT", "-p", "tcp", "-j", "ACCEPT")
    lab.host.serve("web", PORT)
    before = snapshot(lab.host)
    assert lab.lan.probe(HOST4, PORT) == f"web {LAN4} {PORT}"
    assert lab.lan.probe(HOST6, PORT, "udp") == f"web {LAN6} {PORT}"
    assert snapshot(lab.host) == before


@pytest.mark.parametrize(
    "command",
    [
        "ip link add d0 type bridge",
        "ip addr add 192.0.2.1/32 dev lo",
        "ip route add 198.51.100.0/24 via 203.0.113.9 table 7",
        "ip -6 rule add from 2001:db8:1::/64 lookup 7",
        "ip neigh add 203.0.113.7 lladdr 02:00:00:00:00:01 dev eth0",
        "ip neigh add proxy 203.0.113.8 dev eth0",
        "nft add table ip t",
        "iptables -A OUTPUT -j ACCEPT",
        "echo 1 >/proc/sys/net/ipv4/conf/eth0/forwarding",
        "echo 0 >/proc/sys/net/ipv6/conf/eth0/accept_ra",
        "ip netns add a",
        "mkdir -p /etc/netns/a && echo x >/etc/netns/a/hosts",
    ],
)
def test_a_snapshot_sees_a_change(lab: Lab, command: str) -> None:
    before = snapshot(lab.host)
    lab.host.run("sh", "-c", command)
    assert snapshot(lab.host) != before


def test_nothing_is_left_of_a_lab(tmp_path: Path) -> None:
    before = traces()
    with Lab(tmp_path) as lab:
        lab.host.run("ip", "netns", "add", "a")
        lab.host.netns("a").serve("inner", PORT)
        # A daemon: a session, an empty environment and namespaces of its own.
        daemon = "setsid env -i /usr/bin/unshare --net --mount sleep 1000 >/dev/null 2>&1 & echo $!"
        pids = [lab.host.pid, lab.lan.pid, int(lab.host.within("a", "sh", "-c", daemon).stdout), lab.host.unnamed().pid]
        assert all(runs(pid) for pid in pids)
    assert traces() == before
    assert not any(runs(pid) for pid in pids)


def test_what_belongs_to_another_lab_is_not_ended(lab: Lab, tmp_path: Path) -> None:
    """A call that looks into all namespaces of the machine comes by those of other labs, too."""
    with Lab(tmp_path / "other") as other:
        passing = lab.host.spawn("nsenter", "-t", str(other.host.pid), "-n", "sh", "-c", "echo ready; exec sleep 1000")
        assert passing.stdout is not None
        assert passing.stdout.readline() == "ready\n"
    assert passing.poll() is None


def test_what_a_lab_left_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = Lab(tmp_path)
    monkeypatch.setattr("isthmus.testing.lab.traces", lambda: {"link left0"} | lab._before)
    with pytest.raises(LeftBehind, match="left on the machine: link left0"):
        lab.close()
