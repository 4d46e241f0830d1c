"""Each file of examples/ does what its comment says, and leaves nothing behind."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest
from tests.live.driving import drive, wait_for
from tests.live.test_forwarding_verb import far_end

from isthmus.testing import HOST4, LAN4, LAN6, Lab, Place, snapshot

EXAMPLES: Final = Path(__file__).parents[2] / "examples"


def fetch(place: Place, url: str) -> str:
    """Return what curl gets, or the word of its exit status."""
    done = place.run("curl", "-sS", "--noproxy", "*", "--max-time", "2", "--output", "-", url, check=False)
    return done.stdout if done.returncode == 0 else f"curl: {done.returncode}"


def check_veth_pair(lab: Lab) -> None:
    assert lab.host.netns("net0").pings("192.168.2.1")
    assert lab.host.netns("net1").pings("192.168.2.11")
    assert [one["ifname"] for one in lab.host.ip_json("link", "show")] == ["lo", "eth0"]


def check_bridge(lab: Lab) -> None:
    assert lab.host.netns("net0").pings("192.168.2.1")
    assert lab.host.netns("net1").pings("192.168.2.11")
    # The host is no part of it.
    assert lab.host.ip_json("addr", "show", "br0")[0]["addr_info"] == []
    assert not lab.host.netns("net0").pings("192.168.2.12", timeout=1)
    assert lab.host.netns("net0").probe(LAN4, 9000) == "unreachable"


def check_bridge_address(lab: Lab) -> None:
    assert lab.host.pings("192.168.2.11")
    assert lab.host.pings("192.168.2.1")
    assert lab.host.netns("net1").pings("192.168.2.12")
    assert lab.host.netns("net1").pings("192.168.2.11")
    assert lab.host.netns("net0").probe(LAN4, 9000) == "unreachable"


def check_masquerade(lab: Lab) -> None:
    assert lab.host.netns("net0").pings(LAN4)
    assert lab.host.netns("net0").probe(LAN4, 9000) == f"lan {HOST4} 9000"
    assert lab.lan.probe("192.168.2.11", 80, timeout=0.5) == "timed out"


def check_port_forwarding(lab: Lab) -> None:
    """The commands serve their own namespaces: what each logs tells them apart."""
    wait_for(lambda: "curl" not in fetch(lab.lan, f"http://{HOST4}:8080/zero"), "the server in net0")
    wait_for(lambda: "curl" not in fetch(lab.lan, f"http://{HOST4}:8081/one"), "the server in net1")
    assert "Error code: 404" in fetch(lab.lan, f"http://{HOST4}:8080/zero")
    assert "Directory listing" in fetch(lab.lan, f"http://{HOST4}:8081/")
    assert "Directory listing" in fetch(lab.host, "http://127.0.0.1:8080/")
    assert "Directory listing" in fetch(lab.host.netns("net0"), f"http://{HOST4}:8081/")
    zero, one = output(lab, "net0"), output(lab, "net1")
    assert f"{LAN4} - - " in zero
    assert '"GET /zero HTTP/1.1" 404' in zero
    assert '"GET /zero HTTP/1.1" 404' not in one
    assert '"GET /one HTTP/1.1" 404' in one
    assert "192.168.2.11 - - " not in zero


def check_nic_on_bridge(lab: Lab) -> None:
    lab.host.isthmus("confirm")
    for name, address in (("net0", "203.0.113.50"), ("net1", "203.0.113.100")):
        assert lab.host.netns(name).pings(LAN4)
        assert lab.lan.pings(address)
        assert lab.host.pings(address)
    wait_for(lambda: "curl" not in fetch(lab.lan, "http://203.0.113.50/"), "the server in net0")
    assert lab.lan.pings(HOST4)


def output(lab: Lab, namespace: str) -> str:
    """Return what a command printed, from wherever the engine keeps it."""
    folder = lab.host.path / "run" / "commands"
    found = [path.read_text() for path in folder.rglob("*") if path.is_file() and namespace in str(path)]
    return "\n".join(found)


def check_forwarding(lab: Lab) -> None:
    far = far_end(lab)
    assert far.pings(LAN4)
    assert far.pings(LAN6)
    lab.host.run("ip", "link", "del", "far0")
    # A boot: all is off, and the files are read.
    for name in ("net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"):
        lab.host.sysctl(name, 0)
    lab.host.run("sysctl", "--system", "--quiet", check=False)
    far = far_end(lab, "far1")
    assert far.pings(LAN4)
    assert far.pings(LAN6)
    lab.host.run("ip", "link", "del", "far10")


CHECKS: Final[dict[str, Callable[[Lab], None]]] = {
    "veth-pair": check_veth_pair,
    "bridge": check_bridge,
    "bridge-address": check_bridge_address,
    "masquerade": check_masquerade,
    "forwarding": check_forwarding,
    "port-forwarding": check_port_forwarding,
    "nic-on-bridge": check_nic_on_bridge,
}


def test_every_example_is_checked() -> None:
    assert sorted(path.stem for path in EXAMPLES.glob("*.yaml")) == sorted(CHECKS)


@pytest.mark.parametrize("name", CHECKS)
def test_example(lab: Lab, bridge_nf: int, name: str) -> None:
    assert bridge_nf in (0, 1)
    lab.lan.serve("lan", 9000)
    lab.lan.run("ip", "route", "add", "192.168.2.0/24", "via", HOST4)
    before = snapshot(lab.host)
    text = (EXAMPLES / f"{name}.yaml").read_text()

    assert drive(lab.host, f"out = steps(do(up, load_text({text!r})))") != []
    CHECKS[name](lab)
    assert drive(lab.host, f"out = steps(do(up, load_text({text!r})))") == []
    assert drive(lab.host, f"out = steps(do(plan, load_text({text!r})))") == []

    drive(lab.host, f"do(down, {name!r}, confirm_within=0); reap(state_directory())")
    assert snapshot(lab.host) == before
    left = [path for path in (lab.host.path / "run").rglob("*") if path.is_file() and path.name != "declared.yaml"]
    assert left == [], json.dumps([str(path) for path in left])
