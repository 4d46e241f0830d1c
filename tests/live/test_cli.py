"""The command line on the real kernel: what it makes, what it shows, and that a refused call changes nothing."""

from __future__ import annotations

import fcntl
import json
import os
import pwd
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.live.driving import DEADLINE_S, wait_for

from isthmus.testing import HOST4, HOST6, LAN4, Lab, snapshot

EXAMPLES = Path(__file__).parents[2] / "examples"


def listing(lab: Lab, *argv: str) -> Any:
    return json.loads(lab.host.isthmus(*argv, "--format", "json").stdout)


@pytest.fixture
def host(lab: Lab) -> Lab:
    """Give a lab with a network of both families and two namespaces, one of them attached and published."""
    lab.host.isthmus("network", "create", "br0", "--subnet", "10.7.0.0/24", "--subnet", "fd07::/64")
    lab.host.isthmus("ns", "create", "a")
    lab.host.isthmus("ns", "create", "b")
    lab.host.isthmus("attach", "br0", "a", "-p", "8080:80", "--ip", "10.7.0.50", "--mac", "02:00:00:00:00:01")
    return lab


# What is made


def test_the_directory_for_names_goes_with_the_last_namespace_of_ours(lab: Lab) -> None:
    """An attachment of somebody's namespace in between does not know of the others."""
    lab.host.isthmus("network", "create", "n", "--subnet", "10.7.0.0/24")
    lab.host.isthmus("ns", "create", "a")
    lab.host.isthmus("attach", "n", str(lab.host.unnamed().pid))
    assert lab.host.run("ls", "/etc/netns").stdout == "a\n"
    lab.host.isthmus("ns", "rm", "a")
    assert lab.host.run("ls", "/etc/netns", check=False).returncode != 0


def test_the_smallest_mtu_can_be_had(lab: Lab) -> None:
    lab.host.isthmus("network", "create", "n", "--subnet", "10.7.0.0/24", "--mtu", "68")
    assert lab.host.ip_json("link", "show", "dev", "n")[0]["mtu"] == 68


def test_a_program_without_a_name_is_not_found(host: Lab) -> None:
    done = host.host.isthmus("exec", "a", "--", "", check=False)
    assert (done.returncode, done.stderr) == (127, "error: cannot execute : No such file or directory\n")


def test_no_default_route_leads_by_a_network_without_a_gateway(host: Lab) -> None:
    host.host.isthmus("network", "create", "bare", "--subnet", "10.8.0.0/24", "--no-gateway")
    done = host.host.isthmus("attach", "bare", "b", "--default-route", check=False)
    assert (done.returncode, "no gateway" in done.stderr) == (3, True)


def test_where_no_port_may_be_chosen_it_says_why(host: Lab) -> None:
    host.host.sysctl("net/ipv4/ip_local_port_range", "1024 65535")
    done = host.host.isthmus("publish", "a", "90", check=False)
    assert (done.returncode, done.stderr.splitlines()[1]) == (3, "hint: name one: HOSTPORT:PORT")
    assert "(1024 to 65535)" in done.stderr


def test_a_state_directory_that_cannot_be_written_says_what_helps(lab: Lab) -> None:
    state = lab.host.path / "state"
    lab.host.run("sh", "-ec", f"mount --bind {state} {state}; mount -o remount,ro,bind {state}")
    assert "ISTHMUS_STATE_DIR" in lab.host.isthmus("ns", "create", "x", check=False).stderr
    lab.host.run("sh", "-ec", f"umount {state}; mount -t tmpfs -o size=4k,mode=700 tmpfs {state}")
    full = lab.host.isthmus("ns", "create", "x", check=False)
    assert full.stderr.splitlines()[-1] == "hint: make room there; nothing is lost"
    assert "x" not in lab.host.run("ip", "netns").stdout


def test_attach_prints_the_address_and_the_published_ports(host: Lab) -> None:
    done = host.host.isthmus("attach", "br0", "b", "--ip", "10.7.0.60", "-p", "127.0.0.1:53:53/udp")
    assert "b has 10.7.0.60 fd07::3 on br0 (eth0)" in done.stdout
    assert "published 127.0.0.1:53:53/udp" in done.stdout
    assert done.stderr == ""


def test_what_is_published_answers_until_it_is_withdrawn(host: Lab) -> None:
    host.host.netns("a").serve("web", 80)
    assert host.lan.probe(HOST4, 8080) == f"web {LAN4} 80"
    assert host.lan.probe(HOST6, 8080).startswith("web ")
    host.host.isthmus("unpublish", "a", "8080:80")
    assert host.lan.probe(HOST4, 8080, timeout=0.5) == "refused"
    host.host.isthmus("publish", "a", "8081:80/tcp")
    assert host.lan.probe(HOST4, 8081) == f"web {LAN4} 80"


def test_two_namespaces_are_joined_directly(host: Lab) -> None:
    host.host.isthmus("connect", "a", "b", "--ip-a", "10.0.0.1/30", "--ip-b", "10.0.0.2/30", "--name-a", "x")
    assert host.host.netns("a").pings("10.0.0.2")
    (end,) = host.host.netns("a").ip_json("addr", "show", "dev", "x")
    (link,) = listing(host, "ls")["links"]
    assert link["ends"][0]["ifname"] == "x"
    assert link["ends"][0]["mac"] == end["address"]
    assert link["ends"][0]["addresses"] == ["10.0.0.1/30"]


def test_the_host_is_as_before_when_all_is_removed(lab: Lab) -> None:
    before = snapshot(lab.host)
    lab.host.isthmus("network", "create", "br0", "--subnet", "10.7.0.0/24", "--subnet", "fd07::/64")
    lab.host.isthmus("ns", "create", "a")
    lab.host.isthmus("attach", "br0", "a", "-p", "8080:80")
    lab.host.isthmus("detach", "br0", "a")
    lab.host.isthmus("attach", "br0", "a", "-p", "8080:80")
    lab.host.isthmus("ns", "rm", "a")
    lab.host.isthmus("network", "rm", "br0")
    assert snapshot(lab.host) == before


def test_a_declared_file_goes_up_once_and_down_again(lab: Lab) -> None:
    before = snapshot(lab.host)
    file = str(EXAMPLES / "bridge-address.yaml")
    plan = lab.host.isthmus("plan", file, check=False)
    assert (plan.returncode, snapshot(lab.host)) == (2, before)
    assert lab.host.isthmus("up", file, "--plan", check=False).returncode == 2
    assert lab.host.isthmus("up", file).stdout.splitlines()[-1] == plan.stdout.splitlines()[-1]
    assert lab.host.isthmus("up", file).stdout == "nothing to change\n"
    assert lab.host.isthmus("plan", file).stdout == "nothing to change\n"
    assert listing(lab, "plan", file)["steps"] == []
    lab.host.isthmus("down", file)
    assert snapshot(lab.host) == before


def test_without_a_verb_it_says_what_there_is(lab: Lab) -> None:
    done = lab.host.isthmus(check=False)
    assert (done.returncode, "Traceback" in done.stderr) == (64, False)
    assert "isthmus --help" in done.stderr


def test_a_file_comes_by_stdin_too(lab: Lab) -> None:
    text = "name: piped\nnetworks: {n: {}}\n"
    assert lab.host.isthmus("plan", "-", input=text, check=False).returncode == 2
    lab.host.isthmus("up", "-", input=text)
    assert listing(lab, "network", "ls")[0]["owner"] == "piped"
    wrong = lab.host.isthmus("up", "-", input="networks: 7\n", check=False)
    assert wrong.stderr.startswith("error: /dev/stdin:1:11: networks: ")
    lab.host.isthmus("down", "piped")


def test_a_network_that_is_renamed_in_the_file_keeps_its_subnets(lab: Lab) -> None:
    before = snapshot(lab.host)
    file = lab.host.path / "r.yaml"
    text = """
    networks: {old: {subnets: [10.7.0.0/24, "fd07::/64"]}}
    namespaces: {a: {networks: {old: {}}, publish: ["8080:80"]}, b: {networks: {old: {ip: 10.7.0.9}}}}
    """
    for name in ("old", "new", "old"):
        file.write_text(text.replace("old", name))
        lab.host.isthmus("up", str(file))
        assert lab.host.isthmus("plan", str(file)).stdout == "nothing to change\n"
        lab.host.netns("a").run("ping", "-c1", "-W2", "10.7.0.9")
    lab.host.isthmus("down", str(file))
    assert snapshot(lab.host) == before


def test_down_all_removes_what_every_file_made_and_that_alone(lab: Lab, tmp_path: Path) -> None:
    lab.host.isthmus("ns", "create", "mine")
    before = snapshot(lab.host)
    for name in ("one", "two"):
        (tmp_path / f"{name}.yaml").write_text(f"namespaces: {{{name}: {{}}}}\n")
        lab.host.isthmus("up", f"{name}.yaml", cwd=tmp_path)
    (tmp_path / "one.yaml").unlink()
    lab.host.isthmus("down", "one.yaml", cwd=tmp_path)
    assert [one["name"] for one in listing(lab, "ns", "ls")] == ["mine", "two"]
    lab.host.isthmus("down", "--all")
    assert snapshot(lab.host) == before


def test_show_commands_prints_a_script_and_its_undo_alone(lab: Lab) -> None:
    done = lab.host.isthmus("ns", "create", "a", "--show-commands")
    script, mark, undo = done.stdout.partition("\n# undo\n")
    assert mark
    assert "ip netns add a" in script
    assert "ip netns delete a" in undo
    assert "+" not in {line[:1] for line in done.stdout.splitlines()}


def test_exec_passes_the_exit_status(host: Lab) -> None:
    def status(*argv: str) -> int:
        return host.host.isthmus("exec", *argv, check=False).returncode

    assert status("a", "--", "sh", "-c", "exit 7") == 7
    assert status("a", "/etc/hostname") == 126
    assert status("a", "nowhere") == 127
    assert status("nowhere", "true") == 4
    assert host.host.isthmus("exec", "a", "--", "cat", "/sys/class/net/eth0/address").stdout == "02:00:00:00:00:01\n"


# What is shown


def test_the_network_shown_is_the_one_of_the_kernel(host: Lab) -> None:
    found = listing(host, "network", "inspect", "br0")
    (bridge,) = host.host.ip_json("addr", "show", "dev", "br0")
    assert (found["mac"], found["mtu"], found["present"]) == (bridge["address"], bridge["mtu"], True)
    shown = {one["local"] for one in bridge["addr_info"] if one["scope"] == "global"}
    assert {one["gateway"] for one in found["subnets"]} == shown
    (member,) = found["members"]
    (port,) = host.host.ip_json("link", "show", "master", "br0")
    assert member["host_ifname"] == port["ifname"]
    (inner,) = host.host.netns("a").ip_json("addr", "show", "dev", member["ifname"])
    assert member["mac"] == inner["address"] == "02:00:00:00:00:01"
    have = {f"{one['local']}/{one['prefixlen']}" for one in inner["addr_info"] if one["scope"] == "global"}
    assert set(member["addresses"]) == have
    assert (member["default_route"], member["publishes"], member["alive"]) == ([4, 6], ["8080:80/tcp"], True)


def test_the_elements_shown_are_those_of_the_kernel(host: Lab) -> None:
    found = listing(host, "network", "inspect", "br0")
    held: dict[str, int] = {}
    for one in host.host.nft_json("list", "table", "inet", "isthmus"):
        for kind in ("set", "map"):
            if elements := one.get(kind, {}).get("elem"):
                held[one[kind]["name"]] = len(elements)
    shown: dict[str, int] = {}
    for one in found["elements"]:
        assert one["present"], one
        shown[one["set"]] = shown.get(one["set"], 0) + 1
    assert shown == held
    assert found["missing"] == []


def test_what_somebody_deleted_is_shown_as_missing(lab: Lab) -> None:
    for line in ("network create n5 --isolate-ports", "ns create a", "attach n5 a -p 8000:80"):
        lab.host.isthmus(*line.split())
    port = listing(lab, "network", "inspect", "n5")["members"][0]["host_ifname"]
    whole = lab.host.isthmus("network", "inspect", "n5").stdout
    assert f'elements of table bridge isthmus:\n  apart {{ "{port}" }}\n' in whole
    assert "anyport4 { tcp . 8000 : 10.89.0.2 . 80 }" in whole
    lab.host.run("nft", "delete", "element", "inet", "isthmus", "anyport4", "{ tcp . 8000 }")
    lab.host.run("nft", "add", "element", "inet", "isthmus", "anyport4", "{ tcp . 8000 : 10.89.0.9 . 80 }")
    lab.host.run("nft", "delete", "table", "bridge", "isthmus")
    lab.host.run("ip", "link", "del", "n5")
    shown = lab.host.isthmus("network", "inspect", "n5").stdout
    missing, held = shown.split("changed and missing:\n")[1].split("elements of table")
    assert "  inet isthmus: anyport4 { tcp . 8000 : 10.89.0.2 . 80 }\n" in missing
    assert f'  bridge isthmus: apart {{ "{port}" }}\n' in missing
    assert "anyport4" not in held
    for verb in (("network", "ls"), ("ls",)):
        assert "n5 (missing)" in lab.host.isthmus(*verb).stdout


def test_borrowed_values_are_shown_as_they_are(host: Lab) -> None:
    borrowed = listing(host, "network", "inspect", "br0")["borrowed"]
    assert "net/ipv4/conf/eth0/forwarding" in {one["name"] for one in borrowed}
    assert {one["name"]: host.host.sysctl(one["name"]) for one in borrowed} == {
        one["name"]: one["gave"] for one in borrowed
    }


def test_a_routed_network_shows_the_route_that_the_router_needs(lab: Lab) -> None:
    lab.host.isthmus("network", "create", "r", "--uplink", "routed", "--subnet", "10.8.0.0/24", "--subnet", "fd08::/64")
    assert listing(lab, "network", "inspect", "r")["router_routes"] == [
        f"ip route add 10.8.0.0/24 via {HOST4}",
        f"ip route add fd08::/64 via {HOST6}",
    ]


def test_namespaces_of_others_are_listed_too(host: Lab) -> None:
    host.host.run("ip", "netns", "add", "theirs")
    host.host.netns("theirs").spawn("sleep", "100")
    found = {one["name"]: one for one in listing(host, "ns", "ls")}
    assert {name: one["made"] for name, one in found.items()} == {"a": True, "b": True, "theirs": False}
    assert set(host.host.run("ip", "netns", "list").stdout.split()) - {"(id:", "0)", "1)", "2)"} == set(found)
    assert found["a"]["networks"] == ["br0"]
    assert found["a"]["addresses"] == ["10.7.0.50/24", "fd07::2/64"]
    assert len({one["cookie"] for one in found.values()}) == 3


def test_a_namespace_without_a_name_is_listed_until_it_is_gone(host: Lab) -> None:
    unnamed = host.host.unnamed()
    host.host.isthmus("attach", "br0", str(unnamed.pid))
    (name,) = [one["name"] for one in listing(host, "ns", "ls") if one["name"].startswith("netns-")]
    assert listing(host, "ls")["gone"] == []
    unnamed.run("kill", "-KILL", str(unnamed.pid), check=False)
    host.host.run("sh", "-c", f"while [ -e /proc/{unnamed.pid}/ns/net ]; do :; done", check=False)
    assert listing(host, "ls")["gone"] == [name]


def test_ls_shows_a_process_that_has_since_bound_a_published_port(host: Lab) -> None:
    assert listing(host, "ls")["ports"][0]["bound_by"] is None
    host.host.serve("squatter", 8080, protocols=("tcp",))
    (port,) = listing(host, "ls")["ports"]
    assert port["targets"] == ["10.7.0.50:80", "[fd07::2]:80"]
    assert "(pid " in port["bound_by"]
    assert "has since been bound by" in host.host.isthmus("ls").stderr


def test_ls_names_the_log_of_a_command(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("namespaces: {a: {command: [sh, -c, 'echo said; exit 3']}}\n")
    lab.host.isthmus("up", "a.yaml", cwd=tmp_path)
    lab.host.run("sh", "-c", f"while [ ! -e {lab.host.path}/run/commands/a/status ]; do :; done")
    (command,) = listing(lab, "ls")["commands"]
    assert (command["state"], command["exit_status"], command["owner"]) == ("ended", 3, "a")
    assert lab.host.run("cat", command["log"]).stdout == "said\n"


def test_empty_listings_are_empty_lists(lab: Lab) -> None:
    assert listing(lab, "network", "ls") == []
    assert listing(lab, "ns", "ls") == []
    assert listing(lab, "ls") == {
        **{key: [] for key in ("networks", "namespaces", "ports", "links", "commands", "gone", "pending")},
        "forwarding": [],
        "unconfirmed": None,
    }


def test_a_reader_that_goes_away_is_no_error(host: Lab) -> None:
    done = host.host.run("sh", "-c", f"{sys.executable} -m isthmus.doors.cli network inspect br0 | true")
    assert done.stderr == ""


def test_no_colour_reaches_a_pipe(host: Lab) -> None:
    assert "\033" not in host.host.isthmus("ls").stdout


# What is refused

REFUSED: tuple[tuple[str, int, str], ...] = (
    ("network create br0", 3, "exists already"),
    ("network create br1 --subnet 10.7.0.0/25", 3, "overlaps"),
    ("network create br1 --subnet 203.0.113.0/25", 3, "overlaps the host's route"),
    ("network create br1 --subnet 10.8.0.1/24", 64, "host bits"),
    ("network create br1 --subnet 10.8.0.0", 64, "prefix length"),
    ("network create br1 --subnet 10.8.0.0/33", 64, "0 to 32"),
    ("network create br1 --subnet 10.8.0.0/32", 64, "room for 1 host"),
    ("network create br1 --subnet 127.0.0.0/8", 64, "loopback"),
    ("network create br1 --subnet 10.8.0.0/24 --subnet 10.9.0.0/24", 64, "one subnet a family"),
    ("network create br1 --subnet 10.8.0.0/24 --gateway 10.9.0.1", 64, "outside"),
    ("network create br1 --subnet 10.8.0.0/24 --gateway 10.8.0.255", 64, "broadcast"),
    ("network create br1 --gateway 10.8.0.1 --no-gateway", 64, "both"),
    ("network create br1 --uplink vpn", 64, "nat, routed, none or nic:LINK"),
    ("network create br1 --uplink none --snat 203.0.113.2", 64, "only an uplink of kind nat"),
    ("network create br1 --mtu 67", 64, "68 to 65535"),
    ("network create br1 --mtu 1279", 64, "1280"),
    ("network create br1 --bridge eth0", 3, "no bridge"),
    ("network create br1 --bridge nowhere", 3, "no link"),
    ("network create br1 --bridge br0", 3, "belongs to network br0"),
    ("network create br1 --bridge too-long-for-a-link", 64, "15 bytes"),
    ("network create ../x", 64, "a name is made of"),
    ("network create br1 --fly", 64, "unrecognized"),
    ("network inspect nowhere", 4, "no network"),
    ("network rm nowhere", 4, "no network"),
    ("network rm br0", 3, "a on br0"),
    ("ns create a", 3, "exists already"),
    ("ns create ..", 64, "file name"),
    ("ns create a/b", 64, "no /"),
    ("ns rm nowhere", 4, "no network namespace"),
    ("attach nowhere b", 4, "no network"),
    ("attach br0 nowhere", 4, "no network namespace"),
    ("attach br0 a", 3, "already"),
    ("attach br0 /proc/self/ns/net", 3, "host's own"),
    ("attach br0 /etc/hostname", 64, "not a network namespace"),
    ("attach br0 4194304", 4, "4194304"),
    ("attach br0 b --ip 10.7.0.50", 3, "taken by a"),
    ("attach br0 b --ip 10.7.0.1", 64, "gateway"),
    ("attach br0 b --ip 10.7.0.0", 64, "network or broadcast"),
    ("attach br0 b --ip 10.7.0.255", 64, "network or broadcast"),
    ("attach br0 b --ip 10.8.0.2", 64, "outside"),
    ("attach br0 b --ip 10.7.0.3 --ip 10.7.0.4", 64, "at most one a family"),
    ("attach br0 b --ip fly", 64, "not an IPv4 or IPv6 address"),
    ("attach br0 b --mac 01:00:00:00:00:00", 64, "unicast"),
    ("attach br0 b --ifname sixteen-letters-", 64, "15 bytes"),
    ("attach br0 b --ifname a/b", 64, "no /"),
    ("attach br0 b --ifname a:b", 64, "no :"),
    ("attach br0 b --ifname lo", 64, "loopback"),
    ("attach br0 b -p 8080:81", 3, "taken: a publishes 8080:80/tcp"),
    ("attach br0 b -p 8000-8100:80-180", 3, "taken"),
    ("attach br0 b -p 9000:90 -p 9000:91", 3, "asked for twice"),
    ("attach br0 b -p 0:80", 64, "1 to 65535"),
    ("attach br0 b -p 80:65536", 64, "1 to 65535"),
    ("attach br0 b -p 80:80/icmp", 64, "tcp, udp, sctp"),
    ("attach br0 b -p 1-5000:1-5000", 64, "4096"),
    ("attach br0 b -p 1-3:1-2", 64, "differ in length"),
    ("attach br0 b -p [::1]:80:80", 64, "::1"),
    ("attach br0 b -p 198.51.100.1:80:80", 3, "no such address"),
    ("attach br0 b --default-route --no-default-route", 64, "both"),
    ("detach br0 b", 4, "attached"),
    ("detach nowhere a", 4, "not attached"),
    ("connect a a", 64, "different namespaces"),
    ("connect a nowhere", 4, "no network namespace"),
    ("connect a b --name-a eth0", 3, "eth0"),
    ("connect a b --ip-a 10.0.0.1", 64, "prefix length"),
    ("connect a b --ip-a 10.0.0.0/30", 64, "network address"),
    ("connect a b --ip-a 10.0.0.1/30 --ip-b 10.0.0.1/30", 64, "on this link already"),
    ("connect a b --ip-a 10.7.0.50/24", 3, "a has 10.7.0.50 on eth0 already"),
    ("connect a b --mtu 70000", 64, "68 to 65535"),
    ("publish b 9000:90", 3, "no fitting address on any network"),
    ("publish nowhere 9000:90", 4, "nothing is attached"),
    ("publish a 8080:81", 3, "taken"),
    ("publish a 9000:90 --network nowhere", 4, "no network 'nowhere'"),
    ("publish a fly", 64, "1 to 65535"),
    ("unpublish a 9999:80", 4, "no such port"),
    ("down nowhere", 4, "nothing here belongs"),
    ("down nowhere --all", 64, "both"),
    ("up nowhere.yaml", 4, "no such file"),
    ("plan nowhere.yaml", 1, "no such file"),
    ("fly", 64, "no command"),
)


def test_what_is_refused_says_so_and_changes_nothing(host: Lab) -> None:
    host.host.isthmus("ls")
    before = snapshot(host.host), host.host.isthmus("ls", "--format", "json").stdout
    wrong = []
    for line, status, words in REFUSED:
        done = host.host.isthmus(*line.split(), check=False)
        said = done.stderr.splitlines()
        if done.returncode != status or words not in done.stderr or not said or not said[0].startswith("error: "):
            wrong.append(f"{line}: {done.returncode} instead of {status}, {words!r} in {done.stderr!r}")
        if done.stdout:
            wrong.append(f"{line}: printed {done.stdout!r}")
    assert not wrong, "\n".join(wrong)
    assert (snapshot(host.host), host.host.isthmus("ls", "--format", "json").stdout) == before


def test_a_mac_that_another_attachment_has_is_refused(host: Lab) -> None:
    done = host.host.isthmus("attach", "br0", "b", "--mac", "02:00:00:00:00:01", check=False)
    members = [one["namespace"] for one in listing(host, "network", "inspect", "br0")["members"]]
    assert (done.returncode, members) == (3, ["a"])


def test_ns_rm_with_processes_inside_is_refused_with_their_pids(host: Lab) -> None:
    sleeper = host.host.netns("b").spawn("sleep", "100")
    done = host.host.isthmus("ns", "rm", "b", check=False)
    assert done.returncode == 3
    assert f"{sleeper.pid} (sleep)" in done.stderr
    host.host.isthmus("ns", "rm", "b", "--force")
    assert sleeper.wait(timeout=10) != 0


def test_every_error_of_a_file_is_said_and_nothing_changes(lab: Lab, tmp_path: Path) -> None:
    before = snapshot(lab.host)
    (tmp_path / "a.yaml").write_text("networks:\n  n: {subnets: [10.0.0.1/24], fly: 1}\nnamespaces: {'a b': {}}\n")
    done = lab.host.isthmus("up", "a.yaml", check=False, cwd=tmp_path)
    assert done.returncode == 64
    assert [line.split()[1].rsplit(":", 2)[0] for line in done.stderr.splitlines() if line.startswith("error: ")] == [
        "a.yaml:2",
        "a.yaml:2",
        "a.yaml:3",
    ]
    assert snapshot(lab.host) == before


@pytest.mark.parametrize("buffered", ["", "1"])
def test_what_cannot_be_printed_is_done_and_said_so(lab: Lab, buffered: str) -> None:
    line = '"$0" -m isthmus.doors.cli ns create a >/dev/full'
    done = lab.host.run("sh", "-c", line, sys.executable, check=False, env={"PYTHONUNBUFFERED": buffered})
    assert (done.returncode, "stdout: No space left on device; what was asked for is done" in done.stderr) == (1, True)
    assert lab.host.isthmus("ns", "ls").stdout.splitlines()[1].startswith("a ")


def test_plan_waits_for_a_change_that_is_under_way(host: Lab, tmp_path: Path) -> None:
    (tmp_path / "f.yaml").write_text("namespaces: {x: {}}\n")
    with open(host.host.path / "state" / "lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        planning = host.host.spawn(sys.executable, "-m", "isthmus.doors.cli", "plan", "f.yaml", cwd=tmp_path)
        wait_for(lambda: re.search(rf"-> .* {planning.pid} ", Path("/proc/locks").read_text()) is not None, "it waits")
        assert host.host.isthmus("ns", "ls").stdout.startswith("NAME")  # which does not
    assert planning.wait(DEADLINE_S) == 2


def test_without_rights_it_says_what_is_missing(lab: Lab, tmp_path: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    state = tmp_path / "nobody"
    state.mkdir()
    os.chown(state, nobody.pw_uid, nobody.pw_gid)
    argv = ("setpriv", f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups")
    command = (sys.executable, "-m", "isthmus.doors.cli", "ns", "create", "a")
    if lab.host.run(*argv, sys.executable, "-c", "import isthmus.errors", check=False).returncode:
        pytest.skip("this checkout cannot be read by nobody")
    done = lab.host.run(*argv, *command, check=False, env={"ISTHMUS_STATE_DIR": str(state)})
    assert done.returncode == 5
    assert "CAP_NET_ADMIN" in done.stderr
    assert "hint: " in done.stderr
    assert "Traceback" not in done.stderr
