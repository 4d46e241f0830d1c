"""A pair that was detached and waits for its deletion: no frame passes, whatever is done at either end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest
from tests.live.driving import Sniffer, drive, send_frame, up, wait_for

from isthmus.testing import Lab

DECLARED: Final = """
name: d
networks: {n: {subnets: [10.1.0.0/24], bridge: far0}}
namespaces: {a: {networks: {n: {}}}, b: {networks: {n: {}}}, c: {networks: {n: {}}}}
"""
BROADCAST: Final = "ff:ff:ff:ff:ff:ff"
MULTICAST: Final = "01:00:5e:01:02:03"
TRASH_GROUP: Final = "1769174121"
# A pair in the way is deleted when one of its ends was found: before it is asked whether it is dead, or after.
DELETED: Final = """
from isthmus.kernel import dead
from isthmus.model.host import HOST as OURS, Veth
made = do(attach, AttachmentWish(network='n'), 'a', ())
(pair,) = [step.item for step in made.report.plan.steps if type(step.item) is Veth]
do(detach, 'n', 'a')
looked = dead._is_dead
def deleted(access, netns, link):
    found = looked(access, netns, link)
    assert found
    if (netns == OURS) == {at_host}:
        assert os.system(f'ip link del group {group}') == 0
    return found if {asked} else looked(access, netns, link)
dead._is_dead = deleted
with HOST:
    HOST.access.know(HOST.record().namespaces.values())
    dead.clear_the_way(HOST.access, pair)
    out = [HOST.access.has_link(*end) for end in ((OURS, pair.name), ('a', pair.peer_name))]
"""
MARK: Final = b"\x88\xb5"  # IEEE Std 802 local experimental EtherType


def toggle_inside(lab: Lab) -> None:
    lab.host.netns("a").run("ip", "link", "set", "eth0", "down")
    lab.host.netns("a").run("ip", "link", "set", "eth0", "up")


def toggle_bridge(lab: Lab) -> None:
    lab.host.run("ip", "link", "set", "far0", "down")
    lab.host.run("ip", "link", "set", "far0", "up")


def stay(lab: Lab) -> None:
    assert lab.host.netns("a").ip_json("link", "show", "eth0")


def frame(target: str, source: str, number: int) -> bytes:
    """An Ethernet frame that no rule and no socket takes notice of."""
    return bytes.fromhex((target + source).replace(":", "")) + MARK + bytes((number,)).ljust(46, b"\0")


@pytest.mark.parametrize(("trial", "stp"), [(stay, 0), (toggle_inside, 0), (toggle_bridge, 0), (toggle_inside, 1)])
def test_no_frame_passes_a_dead_pair(lab: Lab, trial: Callable[[Lab], None], stp: int) -> None:
    host = lab.host
    host.run("ip", "link", "add", "far0", "type", "bridge", "forward_delay", "200", "stp_state", str(stp))
    host.run("ip", "link", "set", "far0", "up")
    up(host, DECLARED)
    wait_for(lambda: len(forwarding(lab)) == 3, "ports that forward")
    a, b, c = (host.netns(name) for name in "abc")
    macs = {name: str(host.netns(name).ip_json("link", "show", "eth0")[0]["address"]) for name in "abc"}
    assert a.pings("10.1.0.3")

    drive(host, "do(detach, 'n', 'a')")

    assert len(host.ip_json("link", "show", "master", "far0")) == 3, "deleted already: nothing is tried"
    trial(lab)
    wait_for(lambda: len(forwarding(lab)) == 2, "ports that forward")
    to_a, to_b = Sniffer(a, "eth0"), Sniffer(b, "eth0")
    for number, target in enumerate((BROADCAST, MULTICAST, macs["b"])):
        send_frame(a, "eth0", frame(target, macs["a"], number))
    for number, target in enumerate((BROADCAST, MULTICAST, macs["a"]), 10):
        send_frame(c, "eth0", frame(target, macs["c"], number))
        send_frame(host, "far0", frame(target, macs["c"], number + 10))
    send_frame(c, "eth0", frame(BROADCAST, macs["c"], 99))
    assert to_b.wait(lambda one: one[12:15] == MARK + b"\x63") is not None, "the live ones do not reach each other"
    ours = bytes.fromhex(macs["a"].replace(":", ""))
    assert [one for one in to_b.seen if one[6:12] == ours] == []
    # Frames come in order: when the one that the host sends by the pair itself is there, all others would have come.
    (dead,) = [one["ifname"] for one in host.ip_json("link", "show", "group", TRASH_GROUP)]
    send_frame(host, dead, frame(BROADCAST, macs["c"], 77))
    assert to_a.wait(lambda one: one[12:15] == MARK + b"\x4d") is not None
    assert [one for one in to_a.seen if one[12:14] == MARK and one[14] != 77] == []
    drive(host, "reap(state_directory())")
    assert len(host.ip_json("link", "show", "master", "far0")) == 2


@pytest.mark.parametrize("asked", [False, True])
@pytest.mark.parametrize("at_host", [False, True])
def test_a_dead_pair_that_is_deleted_meanwhile_is_out_of_the_way(lab: Lab, at_host: bool, asked: bool) -> None:
    """By a reaper, or with the namespace of its other end."""
    lab.host.isthmus("network", "create", "n", "--subnet", "10.1.0.0/24")
    lab.host.isthmus("ns", "create", "a")
    assert drive(lab.host, DELETED.format(at_host=at_host, asked=asked, group=TRASH_GROUP)) == [False, False]


def rename_host_end(lab: Lab) -> None:
    (name,) = [one["ifname"] for one in lab.host.ip_json("link", "show", "master", "n")]
    lab.host.run("sh", "-ec", f"ip link set {name} down; ip link set {name} name zz; ip link set zz up")


@pytest.mark.parametrize("foreign", [False, True])
def test_a_pair_whose_end_somebody_renamed_is_cut_off(lab: Lab, foreign: bool) -> None:
    host = lab.host
    host.isthmus("network", "create", "n", "--subnet", "10.1.0.0/24")
    host.run("ip", "netns", "add", "a") if foreign else host.isthmus("ns", "create", "a")
    host.isthmus("attach", "n", "a")
    rename_host_end(lab)
    host.isthmus("detach", "n", "a")
    assert host.within("a", "ping", "-c1", "-W1", "10.1.0.1", check=False).returncode != 0
    wait_for(lambda: host.ip_json("link", "show", "master", "n") == [], "the reaper")
    assert "eth0" not in host.within("a", "ip", "-br", "link").stdout
    host.isthmus("attach", "n", "a")
    assert host.within("a", "ping", "-c1", "-W2", "10.1.0.1").returncode == 0


def test_of_many_pairs_that_go_at_once_the_renamed_one_goes_too(lab: Lab) -> None:
    """Their namespaces are somebody else's, and stay."""
    host = lab.host
    names = [f"s{number}" for number in range(9)]
    host.isthmus("network", "create", "n", "--subnet", "10.1.0.0/24")
    for name in names:
        host.run("ip", "netns", "add", name)
        host.isthmus("attach", "n", name)
    name = host.ip_json("link", "show", "master", "n")[0]["ifname"]
    host.run("sh", "-ec", f"ip link set {name} down; ip link set {name} name zz; ip link set zz up")
    host.isthmus("network", "rm", "n", "--force")
    wait_for(lambda: {one["ifname"] for one in host.ip_json("link")} == {"lo", "eth0"}, "the reaper")
    for one in names:
        assert [link["ifname"] for link in host.netns(one).ip_json("link")] == ["lo"]


def test_a_pair_whose_end_somebody_renamed_is_mended_by_up(lab: Lab, tmp_path: Path) -> None:
    host, file = lab.host, tmp_path / "f.yaml"
    file.write_text("name: f\nnetworks: {n: {subnets: [10.1.0.0/24]}}\nnamespaces: {a: {networks: {n: {}}}}\n")
    host.isthmus("up", str(file))
    rename_host_end(lab)
    host.isthmus("up", str(file))
    assert host.within("a", "ping", "-c1", "-W2", "10.1.0.1").returncode == 0
    wait_for(lambda: len(host.ip_json("link", "show", "master", "n")) == 1, "the reaper")
    assert host.isthmus("plan", str(file)).returncode == 0


def forwarding(lab: Lab) -> list[str]:
    ports = lab.host.ip_json("link", "show", "master", "far0")
    return [str(one["ifname"]) for one in ports if one["linkinfo"]["info_slave_data"]["state"] == "forwarding"]
