"""`isthmus forwarding`: for now and for good, on all links or one, and who switched it on."""

from __future__ import annotations

import contextlib
import json
import pwd
import sqlite3
import sys
from pathlib import Path
from typing import Any, Final

import pytest
from tests.live.driving import EngineRefused, drive, wait_for
from tests.live.test_forwarding import default_route6, learn_route, old_drive

from isthmus.testing import LAN4, LAN6, Lab, Unnamed, snapshot

OWN: Final = "/etc/sysctl.d/60-isthmus-forwarding.conf"
NETWORK: Final = ("network", "create", "br0", "--subnet", "10.9.0.0/24", "--subnet", "fd09::/64")
ALL: Final = {4: "net/ipv4/ip_forward", 6: "net/ipv6/conf/all/forwarding"}


def shown(lab: Lab, *argv: str) -> dict[tuple[int, str], dict[str, Any]]:
    rows = json.loads(lab.host.isthmus("forwarding", "--format", "json", *argv).stdout)
    return {(one["family"], one["link"]): one for one in rows}


def by(lab: Lab, family: int, link: str) -> list[str]:
    found: list[str] = shown(lab)[family, link]["by"]
    return found


def switches(lab: Lab) -> tuple[str, str]:
    return lab.host.sysctl(ALL[4]), lab.host.sysctl(ALL[6])


def far_end(lab: Lab, name: str = "far") -> Unnamed:
    """Plug a host behind this one: its packets come in by `far0` here."""
    far = lab.host.unnamed()
    lab.host.run("ip", "link", "add", f"{name}0", "type", "veth", "peer", "name", "eth0", "netns", str(far.pid))
    for place, ifname, number in ((lab.host, f"{name}0", 1), (far, "eth0", 2)):
        place.run("ip", "link", "set", ifname, "addrgenmode", "none")
        place.run("ip", "link", "set", ifname, "up")
        place.run("ip", "addr", "add", f"198.51.100.{number}/24", "dev", ifname)
        place.run("ip", "addr", "add", f"2001:db8:9::{number}/64", "dev", ifname, "nodad")
    far.run("ip", "route", "add", "default", "via", "198.51.100.1")
    far.run("ip", "route", "add", "default", "via", "2001:db8:9::1")
    lab.lan.run("ip", "route", "replace", "198.51.100.0/24", "via", "203.0.113.2")
    lab.lan.run("ip", "route", "replace", "2001:db8:9::/64", "via", "2001:db8::2")
    return far


def reach(far: Unnamed) -> tuple[bool, bool]:
    return far.pings(LAN4, timeout=1), far.pings(LAN6, timeout=1)


def boot(lab: Lab) -> None:
    """Do what a boot does: all is off, then files set it, by procps' order."""
    for name in ALL.values():
        lab.host.sysctl(name, 0)
    lab.host.run("sysctl", "--system", "--quiet", check=False)
    with contextlib.closing(sqlite3.connect(lab.host.path / "state" / "state.db")) as db, db:
        db.execute("UPDATE meta SET value = 'another' WHERE key = 'boot_id'")


# Now


def test_a_host_forwards_while_it_is_on(lab: Lab) -> None:
    far = far_end(lab)
    before = snapshot(lab.host)
    assert reach(far) == (False, False)
    lab.host.isthmus("forwarding", "on")
    assert reach(far) == (True, True)
    assert switches(lab) == ("1", "1")
    assert lab.host.run("ls", "/etc/sysctl.d").stdout == ""
    lab.host.isthmus("forwarding", "off")
    assert reach(far) == (False, False)
    assert snapshot(lab.host) == before


@pytest.mark.parametrize(("option", "reached"), [("-4", (True, False)), ("-6", (False, True))])
def test_a_family_alone(lab: Lab, option: str, reached: tuple[bool, bool]) -> None:
    far = far_end(lab)
    lab.host.isthmus("forwarding", "on", option)
    assert reach(far) == reached
    lab.host.isthmus("forwarding", "off", option)
    assert reach(far) == (False, False)


def test_links_alone(lab: Lab) -> None:
    far = far_end(lab)
    before = snapshot(lab.host)
    lab.host.isthmus("forwarding", "on", "--link", "far0")
    # The answers come in by eth0.
    assert reach(far) == (False, False)
    lab.host.isthmus("forwarding", "on", "--link", "eth0", "--link", "far0")
    assert reach(far) == (True, True)
    assert switches(lab) == ("0", "0")
    assert by(lab, 6, "far0") == ["isthmus forwarding"]
    lab.host.isthmus("forwarding", "off", "--link", "far0", "--link", "eth0")
    assert snapshot(lab.host) == before


def test_members_reach_what_lies_behind_a_link_that_is_switched_on(lab: Lab) -> None:
    far_end(lab)
    lab.host.isthmus(*NETWORK)
    lab.host.isthmus("ns", "create", "a")
    lab.host.isthmus("attach", "br0", "a")
    a = lab.host.netns("a")
    for verb, reached in (("on", True), ("off", False)):
        lab.host.isthmus("forwarding", verb, "--link", "far0")
        assert [a.pings("198.51.100.2"), a.pings("2001:db8:9::2")] == [reached, reached]


def test_each_link_gets_back_what_it_had(lab: Lab) -> None:
    far_end(lab)
    lab.host.sysctl("net/ipv4/conf/far0/forwarding", 1)
    lab.host.sysctl("net/ipv6/conf/far0/force_forwarding", 1)
    lab.host.sysctl("net/ipv4/conf/all/accept_redirects", 0)
    before = snapshot(lab.host)
    lab.host.isthmus("forwarding", "on")
    lab.host.run("ip", "link", "add", "name", "new0", "type", "bridge")
    assert lab.host.sysctl("net/ipv4/conf/new0/forwarding") == "1"
    lab.host.isthmus("forwarding", "off")
    assert lab.host.sysctl("net/ipv4/conf/new0/forwarding") == "0"
    lab.host.run("ip", "link", "del", "new0")
    assert snapshot(lab.host) == before


def test_on_twice_is_on(lab: Lab) -> None:
    lab.host.isthmus("forwarding", "on")
    done = lab.host.isthmus("forwarding", "on")
    assert done.stdout == "nothing to change\n"
    lab.host.isthmus("forwarding", "off")
    assert lab.host.isthmus("forwarding", "off").stdout == "nothing to change\n"
    assert switches(lab) == ("0", "0")


def test_what_it_does_is_said_before_it_is_done(lab: Lab) -> None:
    source = """
seen = []
def before(said):
    seen.append([open("/proc/sys/net/ipv4/ip_forward").read().strip(), *said])
report = do(switch_forwarding, ForwardingWish(), on=True, before=before)
out = [seen, list(report.notes), [one["ifname"] for one in json.loads(os.popen("ip -j link").read())]]
"""
    ((value, *said),), notes, links = drive(lab.host, source)
    assert value == "0"
    assert f"net/ipv4/ip_forward is for every link: default, {', '.join(sorted(links))} forward" in said[0]
    assert any("ICMP redirects are not accepted" in one for one in said)
    assert any("router advertisements count no longer on eth0" in one for one in said)
    assert notes == []


def test_that_advertisements_count_no_longer_is_said_of_a_link_that_forwards_already(lab: Lab) -> None:
    for family in ("-4", "-6"):
        lab.host.run("ip", family, "route", "delete", "default")
    lab.host.isthmus("forwarding", "on", "--link", "eth0", "-6")
    told = lab.host.isthmus("forwarding", "on", "-6").stderr
    assert "router advertisements count no longer on eth0" in told


def test_a_plan_changes_nothing_and_says_the_same(lab: Lab) -> None:
    before = snapshot(lab.host)
    planned = lab.host.isthmus("forwarding", "on", "--plan", "--persist", check=False)
    assert planned.returncode == 2
    assert snapshot(lab.host) == before
    done = lab.host.isthmus("forwarding", "on", "--persist")
    assert (planned.stdout, planned.stderr) == (done.stdout, done.stderr)
    planned = lab.host.isthmus("forwarding", "off", "--plan", "--persist", check=False)
    done = lab.host.isthmus("forwarding", "off", "--persist")
    assert (planned.stdout, planned.stderr) == (done.stdout, done.stderr)
    assert snapshot(lab.host) == before
    assert lab.host.isthmus("forwarding", "off", "--plan").stdout == "nothing to change\n"
    assert lab.host.isthmus("forwarding", "on", "--plan", "--link", "nope", check=False).returncode == 1


# With networks


def test_a_network_outlives_on_and_off(lab: Lab) -> None:
    far = far_end(lab)
    lab.host.isthmus(*NETWORK)
    lab.host.isthmus("ns", "create", "a")
    lab.host.isthmus("attach", "br0", "a")
    before = snapshot(lab.host)
    lab.host.isthmus("forwarding", "on")
    assert by(lab, 4, "eth0") == ["network br0", "isthmus forwarding"]
    done = lab.host.isthmus("forwarding", "off")
    assert "IPv6: still forwarding: br0, eth0" in done.stderr
    assert reach(far) == (False, False)
    assert lab.host.netns("a").pings(LAN4)
    assert lab.host.netns("a").pings(LAN6)
    assert snapshot(lab.host) == before


def test_forwarding_outlives_a_network(lab: Lab) -> None:
    far = far_end(lab)
    before = snapshot(lab.host)
    lab.host.isthmus(*NETWORK)
    lab.host.isthmus("forwarding", "on")
    lab.host.isthmus("network", "rm", "br0")
    assert reach(far) == (True, True)
    lab.host.isthmus("forwarding", "off")
    assert snapshot(lab.host) == before


def test_a_network_made_while_all_forward_goes_on_after(lab: Lab) -> None:
    before = snapshot(lab.host)
    lab.host.isthmus("forwarding", "on")
    lab.host.isthmus(*NETWORK)
    lab.host.isthmus("ns", "create", "a")
    lab.host.isthmus("attach", "br0", "a")
    lab.host.isthmus("forwarding", "off")
    assert lab.host.netns("a").pings(LAN4)
    assert lab.host.netns("a").pings(LAN6)
    lab.host.isthmus("ns", "rm", "a")
    lab.host.isthmus("network", "rm", "br0")
    assert snapshot(lab.host) == before


@pytest.mark.parametrize("published_first", [True, False])
def test_what_a_closed_network_publishes_outlives_on_and_off(lab: Lab, published_first: bool) -> None:
    lab.host.isthmus(*NETWORK)
    lab.host.isthmus("network", "create", "back", "--subnet", "10.8.0.0/24", "--uplink", "none")
    for name, network in (("a", "br0"), ("db", "back")):
        lab.host.isthmus("ns", "create", name)
        lab.host.isthmus("attach", network, name)
    lab.host.netns("db").serve("db", 80)
    steps = [("publish", "db", "8080:80"), ("forwarding", "on")]
    for step in steps if published_first else reversed(steps):
        lab.host.isthmus(*step)
    lab.host.isthmus("forwarding", "off")
    assert lab.host.netns("a").probe("203.0.113.2", 8080).startswith("db ")
    lab.host.isthmus("unpublish", "db", "8080:80")
    assert lab.host.sysctl("net/ipv4/conf/back/forwarding") == "0"


def test_a_link_that_a_network_needs_is_not_switched_off(lab: Lab) -> None:
    lab.host.isthmus(*NETWORK)
    before = snapshot(lab.host)
    done = lab.host.isthmus("forwarding", "off", "--link", "eth0", check=False)
    assert (done.returncode, done.stdout) == (3, "")
    assert "error: cannot switch IPv4 forwarding on eth0 off: network br0 needs it" in done.stderr
    assert snapshot(lab.host) == before
    lab.host.isthmus("forwarding", "on", "--link", "eth0")
    done = lab.host.isthmus("forwarding", "off", "--link", "eth0")
    assert "IPv4 forwarding on eth0 stays on: network br0 needs it" in done.stderr
    assert snapshot(lab.host) == before


def test_a_bridge_of_ours_needs_no_wish(lab: Lab) -> None:
    lab.host.isthmus(*NETWORK)
    done = lab.host.isthmus("forwarding", "on", "--link", "br0", check=False)
    assert (done.returncode, "link br0 is the bridge of network br0" in done.stderr) == (3, True)


def test_one_link_is_taken_out_while_all_forward(lab: Lab) -> None:
    far = far_end(lab)
    lab.host.isthmus("forwarding", "on")
    done = lab.host.isthmus("forwarding", "off", "--link", "far0", check=False)
    assert done.returncode == 3
    assert "IPv6 forwarding on far0 off alone" in done.stderr
    lab.host.isthmus("forwarding", "off", "--link", "far0", "-4")
    assert reach(far) == (False, True)
    assert lab.host.isthmus("repair").stdout == "nothing to change\n"
    assert reach(far) == (False, True)


# What somebody else switched on


def test_what_somebody_switched_on_is_switched_off(lab: Lab) -> None:
    far = far_end(lab)
    for name in ALL.values():
        lab.host.sysctl(name, 1)
    assert by(lab, 4, "far0") == by(lab, 6, "all") == ["somebody"]
    lab.host.isthmus("forwarding", "off")
    assert reach(far) == (False, False)
    assert switches(lab) == ("0", "0")
    # It is not ours for that: a stranger may switch it on again, and it stays.
    lab.host.sysctl(ALL[4], 1)
    lab.host.isthmus(*NETWORK)
    assert lab.host.sysctl(ALL[4]) == "1"


def test_what_was_on_before_us_is_off_after_off(lab: Lab) -> None:
    lab.host.sysctl(ALL[4], 1)
    lab.host.isthmus("forwarding", "on")
    assert by(lab, 4, "all") == ["somebody"]
    lab.host.isthmus("forwarding", "off")
    assert switches(lab) == ("0", "0")


def test_a_switch_that_is_on_already_reaches_no_further_link(lab: Lab) -> None:
    lab.host.sysctl(ALL[4], 1)
    lab.host.sysctl("net/ipv4/conf/eth0/forwarding", 0)
    done = lab.host.isthmus("forwarding", "on", "-4")
    assert "IPv4 forwarding was on already, and stays off on eth0" in done.stderr
    lab.host.isthmus("forwarding", "on", "-4", "--link", "eth0")
    assert lab.host.sysctl("net/ipv4/conf/eth0/forwarding") == "1"


@pytest.mark.parametrize("way", ["revert", "deadline"])
def test_what_nobody_confirmed_is_left_on_for_nobody(lab: Lab, tmp_path: Path, way: str) -> None:
    host = lab.host
    host.run(
        "sh", "-ec", "ip link add ext0 type bridge; ip link add xp type veth peer name xq; ip link set xp master ext0"
    )
    before = snapshot(host)
    (tmp_path / "d.yaml").write_text("name: d\nforwarding: {}\n")
    host.isthmus("up", str(tmp_path / "d.yaml"), "--confirm-within", "60" if way == "revert" else "1")
    if way == "revert":
        host.isthmus("confirm", "--revert")
    wait_for(lambda: snapshot(host) == before, "the way back")


def test_who_may_need_it_is_said_and_declared_forwarding_is_left_to_them(lab: Lab, tmp_path: Path) -> None:
    file = tmp_path / "f.yaml"
    file.write_text("forwarding: {ipv4: true}\n")
    lab.host.isthmus("up", str(file))
    lab.host.run("sh", "-c", "ip tuntap add dev tun0 mode tun && ip link set tun0 up")
    assert "others need it: tun link tun0" in lab.host.isthmus("down", "f").stderr
    assert lab.host.sysctl(ALL[4]) == lab.host.sysctl("net/ipv4/conf/eth0/forwarding") == "1"
    done = lab.host.isthmus("forwarding", "off")
    assert "others here may need forwarding: tun link tun0" in done.stderr
    assert lab.host.sysctl(ALL[4]) == "0"


@pytest.mark.parametrize("end", ["raise KeyboardInterrupt", "os.kill(os.getpid(), 9)"])
def test_what_was_never_switched_on_is_nobodys(lab: Lab, end: str) -> None:
    far_end(lab)
    lab.host.run("ip", "link", "add", "ext0", "type", "bridge")
    lab.host.run("ip", "link", "set", "far0", "master", "ext0")
    before = snapshot(lab.host)
    source = f"""
import os
from isthmus.kernel import apply
write = apply.write_sysctl
written = []
def stopped(name, value):
    write(name, value)
    written.append(name)
    if len(written) == 2:
        {end}
apply.write_sysctl = stopped
do(switch_forwarding, ForwardingWish(), on=True)
"""
    with pytest.raises(AssertionError):
        drive(lab.host, source)
    assert lab.host.isthmus("repair").stdout == "nothing to change\n"
    assert snapshot(lab.host) == before


def test_a_file_that_says_so_is_named(lab: Lab) -> None:
    lab.host.run(
        "sh", "-c", "echo '# routers' >/etc/sysctl.d/10-r.conf; echo net.ipv4.ip_forward=1 >>/etc/sysctl.d/10-r.conf"
    )
    assert shown(lab)[4, "all"]["boot"] == {"on": True, "file": "/etc/sysctl.d/10-r.conf", "line": 2}
    assert shown(lab)[4, "all"]["by"] == []
    lab.host.run("sysctl", "--system", "--quiet")
    assert by(lab, 4, "all") == by(lab, 4, "eth0") == ["/etc/sysctl.d/10-r.conf:2"]
    assert by(lab, 6, "all") == []


# For good


def test_for_good_a_boot_switches_it_on(lab: Lab) -> None:
    before = snapshot(lab.host)
    lab.host.isthmus("forwarding", "on", "--persist")
    assert [line for line in lab.host.run("cat", OWN).stdout.splitlines() if line[:1] != "#"] == [
        "net/ipv4/ip_forward = 1",
        "net/ipv6/conf/all/forwarding = 1",
    ]
    boot(lab)
    assert switches(lab) == ("1", "1")
    assert by(lab, 4, "all") == [f"{OWN}:3"]
    lab.host.isthmus("forwarding", "off", "--persist")
    assert switches(lab) == ("0", "0")
    lab.host.sysctl("net/ipv4/conf/all/accept_redirects", 1)
    assert snapshot(lab.host) == before


def test_now_and_for_good_are_two_choices(lab: Lab) -> None:
    lab.host.isthmus("forwarding", "on", "-4", "--persist")
    done = lab.host.isthmus("forwarding", "off")
    assert "the next boot switches IPv4 forwarding on again" in done.stderr
    assert switches(lab) == ("0", "0")
    boot(lab)
    assert switches(lab) == ("1", "0")
    lab.host.isthmus("repair")
    assert switches(lab) == ("1", "0")
    lab.host.isthmus("forwarding", "off", "-4")
    lab.host.isthmus("forwarding", "off", "--persist")
    assert lab.host.run("ls", "/etc/sysctl.d").stdout == ""


def test_off_says_which_file_switches_on_again_and_none_that_does_not(lab: Lab) -> None:
    again = "the next boot switches IPv4 forwarding on again"
    lab.host.run("sh", "-c", "echo net.ipv4.ip_forward = 1 >/etc/sysctl.d/50-x.conf")
    assert f"{again} (/etc/sysctl.d/50-x.conf:1)\n" in lab.host.isthmus("forwarding", "off", "-4", "--persist").stderr
    lab.host.run("sh", "-c", "echo net.ipv4.ip_forward = 0 >/etc/sysctl.d/99-local.conf")
    lab.host.isthmus("forwarding", "on", "-4", "--persist")
    assert again not in lab.host.isthmus("forwarding", "off", "-4").stderr
    lab.host.isthmus("forwarding", "off", "-4", "--persist")


def test_the_file_that_systemd_does_not_read_says_nothing(lab: Lab) -> None:
    lab.host.run("sh", "-c", "echo net.ipv4.ip_forward = 1 >/etc/sysctl.conf")
    assert shown(lab)[4, "all"]["boot"] == {"on": True, "file": "/etc/sysctl.conf", "line": 1}
    lab.host.run("sh", "-ec", "mount -t tmpfs run /run; mkdir -p /run/systemd/system")
    assert shown(lab)[4, "all"]["boot"] is None


def test_a_boot_without_our_file_leaves_no_lie(lab: Lab) -> None:
    lab.host.isthmus("forwarding", "on", "--persist")
    lab.host.isthmus("forwarding", "on", "-4", "--link", "eth0")
    lab.host.run("rm", OWN)
    boot(lab)
    assert json.loads(lab.host.isthmus("ls", "--format", "json").stdout)["forwarding"] == []
    assert lab.host.isthmus("repair").stdout == "nothing to change\n"
    assert switches(lab) == ("0", "0")
    assert lab.host.run("ls", "/etc/sysctl.d").stdout == ""


LATER: Final = {
    "the switch": ("/etc/sysctl.d/99-no.conf", "net.ipv4.ip_forward = 0", 4),
    "its other name": ("/run/sysctl.d/61-a.conf", "-net/ipv4/conf/all/forwarding=0", 4),
    "a link": ("/etc/sysctl.d/99-no.conf", "net.ipv4.conf.eth0.forwarding=0", 4),
    "a pattern": ("/etc/sysctl.d/99-no.conf", "net.ipv4.conf.e*.forwarding=0", 4),
    "sysctl.conf": ("/etc/sysctl.conf", "net.ipv6.conf.all.forwarding=0", 6),
}


@pytest.mark.parametrize("enabled", ["yes", "no"])
def test_what_ufw_undoes_is_named_where_it_is_enabled(lab: Lab, enabled: str) -> None:
    lab.host.run("sh", "-c", f"mkdir -p /etc/ufw /etc/default; echo 'ENABLED={enabled}' >/etc/ufw/ufw.conf")
    lab.host.run("sh", "-c", "echo 'IPT_SYSCTL=/etc/ufw/sysctl.conf' >/etc/default/ufw")
    lab.host.run("sh", "-c", "echo 'net/ipv4/ip_forward=0' >/etc/ufw/sysctl.conf")
    said = lab.host.isthmus("forwarding", "on", "-4", "--persist").stderr
    told = "/etc/ufw/sysctl.conf:1 comes after"
    assert (told in said) is (enabled == "yes"), said
    assert shown(lab)[4, "all"]["boot"]["on"] is (enabled == "no")


@pytest.mark.parametrize("name", LATER)
def test_a_later_file_that_undoes_it_is_named_and_left_alone(lab: Lab, name: str) -> None:
    path, line, family = LATER[name]
    lab.host.run("mkdir", "-p", "/run/sysctl.d")
    lab.host.run("sh", "-c", 'printf "# no\\n%s\\n" "$1" >"$2"', "sh", line, path)
    done = lab.host.isthmus("forwarding", "on", "--persist")
    assert f"note: {path}:2 comes after {OWN} and undoes it at boot" in done.stderr
    assert lab.host.run("cat", path).stdout == f"# no\n{line}\n"
    boot(lab)
    eth0 = lab.host.sysctl("net/ipv4/conf/eth0/forwarding") if family == 4 else lab.host.sysctl(ALL[6])
    assert eth0 == "0"


def test_a_pattern_in_a_later_file_undoes_no_switch_that_ours_names(lab: Lab) -> None:
    lab.host.run("sh", "-c", "echo '-net/ipv6/conf/*/forwarding = 0' >/etc/sysctl.d/91-b.conf")
    done = lab.host.isthmus("forwarding", "on", "--persist", "-6")
    assert "undoes" not in done.stderr
    rows = shown(lab, "-6")
    assert {one["boot"]["file"] for one in rows.values()} == {OWN}
    assert {one["boot"]["on"] for one in rows.values()} == {True}
    boot(lab)
    assert (switches(lab), lab.host.sysctl("net/ipv6/conf/eth0/forwarding")) == (("0", "1"), "0")
    assert all(one["on"] for one in shown(lab, "-6").values())


def test_an_earlier_file_undoes_nothing(lab: Lab) -> None:
    lab.host.run("sh", "-c", "echo net.ipv4.ip_forward=0 >/etc/sysctl.d/10-no.conf")
    done = lab.host.isthmus("forwarding", "on", "--persist")
    assert "undoes" not in done.stderr
    boot(lab)
    assert switches(lab) == ("1", "1")


def test_our_files_directory_comes_and_goes_with_it(lab: Lab) -> None:
    lab.host.run("rm", "-r", "/etc/sysctl.d")
    lab.host.isthmus("forwarding", "on", "--persist")
    lab.host.isthmus("forwarding", "off", "--persist")
    assert lab.host.run("test", "-e", "/etc/sysctl.d", check=False).returncode == 1


def test_a_file_of_our_name_that_is_not_ours_is_left_alone(lab: Lab) -> None:
    lab.host.run("sh", "-c", f"echo net.ipv4.ip_forward=0 >{OWN}")
    before = snapshot(lab.host)
    done = lab.host.isthmus("forwarding", "on", "--persist", check=False)
    assert (done.returncode, done.stdout) == (3, "")
    assert OWN in done.stderr
    assert snapshot(lab.host) == before


@pytest.mark.parametrize("target", ["/dev/null", "/etc/nowhere.conf", OWN, "/etc/hosts"])
def test_a_symbolic_link_of_our_files_name_is_left_alone(lab: Lab, target: str) -> None:
    lab.host.run("ln", "-s", target, OWN)
    before = snapshot(lab.host)
    for option in ((), ("--plan",)):
        done = lab.host.isthmus("forwarding", "on", "--persist", "-4", *option, check=False)
        assert (done.returncode, done.stdout) == (1 if option else 3, "")
        assert f"error: {OWN} is not ours: it is a symbolic link to {target}" in done.stderr
        assert "hint: give the link another name, or remove it" in done.stderr
    assert lab.host.isthmus("forwarding", "off", "--persist").stdout == "nothing to change\n"
    assert snapshot(lab.host) == before


def test_a_mask_that_came_since_is_left_alone(lab: Lab) -> None:
    lab.host.isthmus("forwarding", "on", "--persist", "-4")
    lab.host.run("ln", "-sf", "/dev/null", OWN)
    assert shown(lab)[4, "all"]["boot"] is None
    done = lab.host.isthmus("forwarding", "off", "--persist", check=False)
    assert (done.returncode, "a symbolic link to /dev/null, which masks the name" in done.stderr) == (3, True)
    assert switches(lab) == ("1", "0")
    assert lab.host.isthmus("repair").stdout == "nothing to change\n"
    lab.host.isthmus(*NETWORK)
    assert "the next boot" not in lab.host.isthmus("forwarding", "off").stderr
    assert switches(lab) == ("0", "0")
    assert lab.host.run("readlink", OWN).stdout == "/dev/null\n"
    lab.host.run("rm", OWN)
    lab.host.isthmus("forwarding", "off", "--persist")
    assert lab.host.run("ls", "/etc/sysctl.d").stdout == ""


def test_drift_is_put_right(lab: Lab) -> None:
    lab.host.isthmus("forwarding", "on", "--persist")
    stands = snapshot(lab.host)
    lab.host.sysctl(ALL[4], 0)
    lab.host.run("sh", "-c", f"echo >{OWN}")
    lab.host.isthmus("repair")
    assert snapshot(lab.host) == stands
    lab.host.run("rm", OWN)
    lab.host.isthmus("repair")
    assert snapshot(lab.host) == stands
    assert lab.host.isthmus("repair").stdout == "nothing to change\n"


def test_a_record_that_was_lost_is_found_again_by_our_file(lab: Lab, tmp_path: Path) -> None:
    file = tmp_path / "f.yaml"
    file.write_text("forwarding: {persist: true}\n")
    lab.host.isthmus("up", str(file))
    before = lab.host.isthmus("ls").stdout
    (lab.host.path / "state" / "state.db").write_bytes(b"not a database" * 999)
    lab.host.isthmus("repair", "--rebuild")
    assert lab.host.isthmus("ls").stdout == before
    assert lab.host.isthmus("plan", str(file), check=False).returncode == 0
    lab.host.isthmus("down", "f")
    assert lab.host.run("ls", "/etc/sysctl.d").stdout == ""


def test_our_file_is_kept_whole_when_the_record_was_lost(lab: Lab) -> None:
    lab.host.isthmus("forwarding", "on", "-6", "--persist")
    for path in (lab.host.path / "state").glob("state.db*"):
        path.unlink()
    lab.host.isthmus("forwarding", "on", "-4", "--persist")
    assert "net/ipv6/conf/all/forwarding = 1" in lab.host.run("cat", OWN).stdout
    lab.host.isthmus("forwarding", "off", "--persist")
    assert switches(lab) == ("0", "0")
    assert lab.host.run("ls", "/etc/sysctl.d").stdout == ""


# Router advertisements


def test_an_uplink_that_learned_its_route_keeps_it(lab: Lab) -> None:
    learn_route(lab)
    route = default_route6(lab).partition("expires")[0]
    before = lab.host.sysctl("net/ipv6/conf/eth0/accept_ra")
    done = lab.host.isthmus("forwarding", "on", "-6", "--persist")
    assert "accept_ra of eth0 becomes 2 first" in done.stderr
    assert default_route6(lab).partition("expires")[0] == route
    assert "net/ipv6/conf/eth0/accept_ra = 2\nnet/ipv6/conf/all/forwarding = 1\n" in lab.host.run("cat", OWN).stdout
    lab.host.isthmus("forwarding", "off", "--persist")
    assert lab.host.sysctl("net/ipv6/conf/eth0/accept_ra") == before == "1"
    assert default_route6(lab).partition("expires")[0] == route


# An older kernel


def test_an_older_kernel_has_no_link_of_ipv6_alone(lab: Lab, tmp_path: Path) -> None:
    source = "do(switch_forwarding, ForwardingWish(links=('eth0',)), on=True)"
    with pytest.raises(AssertionError, match=r"Unsupported: .*this kernel has no force_forwarding"):
        old_drive(lab, tmp_path, source)
    old_drive(lab, tmp_path, source.replace("links=", "families=(4,), links="))
    assert lab.host.sysctl("net/ipv4/conf/eth0/forwarding") == "1"


def test_an_older_kernel_keeps_ipv6_on_for_a_network(lab: Lab, tmp_path: Path) -> None:
    old_drive(lab, tmp_path, "do(create_network, network('br0', '10.9.0.0/24', 'fd09::/64'))")
    with pytest.raises(EngineRefused, match="cannot switch IPv6 forwarding off: network br0 needs it"):
        old_drive(lab, tmp_path, "do(switch_forwarding, ForwardingWish(), on=False)")
    old_drive(lab, tmp_path, "do(switch_forwarding, ForwardingWish(), on=True)")
    notes = old_drive(lab, tmp_path, "out = list(do(switch_forwarding, ForwardingWish(), on=False).notes)")
    assert "IPv6 forwarding stays on: network br0 needs it" in str(notes)
    assert switches(lab) == ("0", "1")
    old_drive(lab, tmp_path, "do(remove_network, 'br0')")
    assert switches(lab) == ("0", "0")


# Bad input


def read_only(lab: Lab, path: str) -> None:
    lab.host.run("sh", "-ec", f"mount --bind {path} {path}; mount -o remount,bind,ro {path}")


@pytest.mark.parametrize(("path", "option"), [("/etc", "--persist"), ("/proc/sys", "-4"), ("/proc/sys", "--persist")])
def test_what_cannot_be_written_changes_nothing(lab: Lab, path: str, option: str) -> None:
    before, listed = snapshot(lab.host), lab.host.isthmus("ls").stdout
    read_only(lab, path)
    done = lab.host.isthmus("forwarding", "on", option, check=False)
    lab.host.run("umount", path)
    assert (done.returncode, done.stdout) == (5, "")
    assert [line[:5] for line in done.stderr.splitlines() if not line.startswith("note: ")] == ["error", "hint:"]
    assert "EROFS" in done.stderr
    assert "read-write" in done.stderr
    assert snapshot(lab.host) == before
    assert lab.host.isthmus("ls").stdout == listed
    assert lab.host.isthmus("repair").stdout == "nothing to change\n"


@pytest.mark.parametrize("path", ["/proc/sys", "/proc/sys/net"])
def test_without_proc_sys(lab: Lab, path: str) -> None:
    lab.host.run("mount", "-t", "tmpfs", "none", path)
    done = lab.host.isthmus("forwarding", "on", check=False)
    assert (done.returncode, done.stdout) == (6, "")
    assert [line[:5] for line in done.stderr.splitlines()] == ["error", "hint:"]
    lab.host.run("umount", path)
    assert switches(lab) == ("0", "0")


@pytest.mark.parametrize(
    ("line", "status", "said"),
    [
        ("on --link nope", 4, "no link 'nope'"),
        ("off --link nope", 4, "no link 'nope'"),
        ("--link nope", 4, "no link 'nope'"),
        ("on --link a/b", 64, "--link"),
        ("maybe", 64, "neither on nor off"),
        ("--persist", 64, "--persist needs on or off"),
        ("--plan -4", 64, "--plan needs on or off"),
    ],
)
def test_what_cannot_be_done_is_said(lab: Lab, line: str, status: int, said: str) -> None:
    before = snapshot(lab.host)
    done = lab.host.isthmus("forwarding", *line.split(), check=False)
    assert (done.returncode, done.stdout) == (status, "")
    assert said in done.stderr
    assert snapshot(lab.host) == before


def test_a_link_without_ipv6_has_ipv4(lab: Lab) -> None:
    far_end(lab)
    lab.host.run("ip", "link", "set", "far0", "mtu", "1000")
    lab.host.isthmus("forwarding", "on", "--link", "far0")
    assert lab.host.sysctl("net/ipv4/conf/far0/forwarding") == "1"
    done = lab.host.isthmus("forwarding", "on", "--link", "far0", "-6", check=False)
    assert (done.returncode, "link far0 has no IPv6" in done.stderr) == (3, True)


def test_a_link_that_went_is_no_drift(lab: Lab) -> None:
    far_end(lab)
    lab.host.isthmus("forwarding", "on", "--link", "far0")
    lab.host.run("ip", "link", "del", "far0")
    assert lab.host.isthmus("repair").stdout == "nothing to change\n"
    lab.host.isthmus("forwarding", "on")
    lab.host.isthmus("forwarding", "off")


@pytest.mark.parametrize("name", ["lanport", "enp0s31f6-the-one-with-the-long-name"])
def test_a_link_is_found_by_its_alternative_name(lab: Lab, tmp_path: Path, name: str) -> None:
    before = snapshot(lab.host)
    lab.host.run("ip", "link", "property", "add", "dev", "eth0", "altname", name)
    lab.host.isthmus("forwarding", "on", "--link", name)
    assert {one["link"] for one in json.loads(lab.host.isthmus("ls", "--format", "json").stdout)["forwarding"]} == {
        "eth0"
    }
    assert {key: one["on"] for key, one in shown(lab, "--link", name).items()} == {(4, "eth0"): True, (6, "eth0"): True}
    lab.host.isthmus("forwarding", "off", "--link", name, "--link", "eth0")
    file = tmp_path / "f.yaml"
    file.write_text(f"forwarding: {{link: {name}}}\n")
    lab.host.isthmus("up", str(file))
    assert lab.host.isthmus("up", str(file)).stdout == "nothing to change\n"
    lab.host.isthmus("down", "f")
    lab.host.run("ip", "link", "property", "del", "dev", "eth0", "altname", name)
    assert snapshot(lab.host) == before


def test_the_alternative_name_of_a_bridge_of_ours_needs_no_wish(lab: Lab) -> None:
    lab.host.isthmus(*NETWORK)
    lab.host.run("ip", "link", "property", "add", "dev", "br0", "altname", "lanport")
    done = lab.host.isthmus("forwarding", "on", "--link", "lanport", check=False)
    assert (done.returncode, "link br0 is the bridge of network br0" in done.stderr) == (3, True)


def test_a_link_that_went_is_switched_off(lab: Lab) -> None:
    far_end(lab)
    lab.host.isthmus("forwarding", "on", "--link", "far0")
    lab.host.run("ip", "link", "del", "far0")
    lab.host.isthmus("forwarding", "on")
    lab.host.isthmus("forwarding", "off", "--link", "far0")
    rows = json.loads(lab.host.isthmus("ls", "--format", "json").stdout)["forwarding"]
    assert [one["link"] for one in rows] == [None, None]


def test_without_root_it_is_switched_off_too(lab: Lab) -> None:
    nobody = pwd.getpwnam("nobody")
    argv = ("setpriv", f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups", "unshare", "-Urnm")
    if lab.host.run(*argv, sys.executable, "-c", "import isthmus.errors", check=False).returncode:
        pytest.skip("no user namespaces, or this checkout cannot be read by nobody")
    script = """
    mount -t tmpfs run /run
    export ISTHMUS_STATE_DIR=/run/state ISTHMUS_RUN_DIR=/run/isthmus
    "$@" on && "$@" off && "$@" on -6 && "$@" off -6 && cat /proc/sys/net/ipv4/ip_forward
    test $? = 0 && ! "$@" on --persist
    """
    command = (sys.executable, "-m", "isthmus.doors.cli", "forwarding")
    done = lab.host.run(*argv, "sh", "-c", script, "sh", *command, cwd="/")
    assert done.stdout.endswith("\n0\n")
    assert done.stderr.endswith("\nhint: no user namespace may do that, but the real root outside\n")


# Who owns it


def test_a_declaration_owns_what_it_says(lab: Lab, tmp_path: Path) -> None:
    before = snapshot(lab.host)
    file = tmp_path / "f.yaml"
    file.write_text("forwarding:\n  - {ipv4: true, persist: true}\n  - {ipv6: true, link: eth0}\n")
    done = lab.host.isthmus("up", str(file))
    assert "IPv4: net/ipv4/ip_forward is for every link: default, eth0, lo forward" in done.stderr
    assert lab.host.isthmus("up", str(file)).stdout == "nothing to change\n"
    assert switches(lab) == ("1", "0")
    assert lab.host.sysctl("net/ipv6/conf/eth0/force_forwarding") == "1"
    done = lab.host.isthmus("forwarding", "off", "-4", check=False)
    assert (done.returncode, "belongs to declaration f" in done.stderr) == (3, True)
    file.write_text("forwarding: {ipv6: true, link: eth0}\n")
    lab.host.isthmus("up", str(file))
    assert switches(lab) == ("0", "0")
    assert lab.host.run("ls", "/etc/sysctl.d").stdout == ""
    lab.host.isthmus("down", "f")
    assert snapshot(lab.host) == before


def test_what_a_command_asked_for_is_not_a_declarations(lab: Lab, tmp_path: Path) -> None:
    file = tmp_path / "f.yaml"
    file.write_text("forwarding: {ipv4: true}\n")
    lab.host.isthmus("forwarding", "on")
    done = lab.host.isthmus("up", str(file), check=False)
    assert (done.returncode, "belongs to nobody" in done.stderr) == (3, True)


# The state file of an earlier version


def test_a_state_file_of_version_1_is_read_and_brought_up_to_date(lab: Lab) -> None:
    lab.host.isthmus(*NETWORK)
    path = lab.host.path / "state" / "state.db"
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        names = "SELECT type, name FROM sqlite_master ORDER BY name"
        before = db.execute(names).fetchall()
        # All that later versions have more.
        db.executescript(
            "DROP INDEX namespaces_made;"
            "DROP TABLE forwarding; DROP INDEX commands_of_runs; ALTER TABLE commands DROP COLUMN transient;"
            "ALTER TABLE networks DROP COLUMN transient; ALTER TABLE borrowed DROP COLUMN switched;"
            "PRAGMA user_version = 1;"
        )
    assert "br0" in lab.host.isthmus("ls").stdout
    lab.host.isthmus("forwarding", "on", "-4")
    assert json.loads(lab.host.isthmus("ls", "--format", "json").stdout)["forwarding"] == [
        {"family": 4, "link": None, "now": True, "persist": False, "owner": None}
    ]
    with contextlib.closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (5,)
        assert db.execute(names).fetchall() == before


def test_for_good_is_for_the_namespace_that_boots(lab: Lab, tmp_path: Path) -> None:
    """The lab's host plays PID 1's namespace; /etc is the same in both."""
    inside = (sys.executable, "-m", "isthmus.doors.cli", "forwarding")
    script = """
    "$@" on --persist >/dev/null || exit 9
    export ISTHMUS_STATE_DIR=$0/state ISTHMUS_RUN_DIR=$0/run
    unshare --net "$@" off --persist; echo $?
    unshare --net "$@" on --persist; echo $?
    unshare --net "$@" on >/dev/null; echo $?
    """
    boot = ("unshare", "--pid", "--fork", "--mount-proc", "sh", "-c", script, str(tmp_path))
    done = lab.host.run(*boot, *inside)
    assert done.stdout.split() == ["3", "3", "0"]
    said = "error: cannot keep forwarding for the next boot: it reads /etc/sysctl.d/60-isthmus-forwarding.conf for "
    assert done.stderr.count(said) == 2
    assert lab.host.run("cat", "/etc/sysctl.d/60-isthmus-forwarding.conf").stdout.count(" = 1\n") == 2
