"""`repair --rebuild`: the record from the marks in the kernel."""

import json
from pathlib import Path

import pytest
from tests.live.driving import drive, wait_for

from isthmus.testing import Lab, snapshot

DECLARED = """
name: all
networks:
  br0: {subnets: [10.9.0.0/24, "fd09::/64"], uplink: nat}
  br1: {subnets: [10.8.0.0/24], uplink: nat, snat: 203.0.113.3, allow: [br0]}
  br2: {subnets: [10.7.0.0/24], uplink: routed, isolate-ports: true}
  br3: {subnets: [10.6.0.0/24], uplink: none}
namespaces:
  a: {networks: {br0: {ip: 10.9.0.7}, br1: {}}, publish: ["8080:80", "127.0.0.1:8081:81/udp"]}
  c: {networks: {br2: {}}, publish: ["80:80"]}
links:
  - [{ns: a, ip: 10.0.0.1/30, name: x0}, {ns: c, ip: 10.0.0.2/30, name: x0}]
"""


def listing(lab: Lab) -> object:
    found = json.loads(lab.host.isthmus("ls", "--format", "json").stdout)
    for network in found["networks"]:
        # A pair is open both ways; which side asked for it, the kernel does not tell.
        network.pop("allow", None)
    return found


def test_the_record_is_found_again_in_the_kernel(lab: Lab, tmp_path: Path) -> None:
    file = tmp_path / "all.yaml"
    file.write_text(DECLARED)
    lab.host.isthmus("up", str(file))
    before, stands = listing(lab), snapshot(lab.host)
    state = lab.host.path / "state"
    (state / "state.db-wal").unlink()
    (state / "state.db").write_bytes(b"not a database at all" * 300)
    refused = lab.host.isthmus("ls", check=False)
    assert refused.returncode == 1
    assert "repair --rebuild" in refused.stderr

    lab.host.isthmus("repair", "--rebuild")

    assert listing(lab) == before
    assert snapshot(lab.host) == stands
    assert lab.host.isthmus("plan", str(file), check=False).returncode == 0
    lab.host.isthmus("down", "all")
    assert lab.host.run("ip", "netns", "list").stdout == ""
    assert lab.host.run("nft", "list", "tables").stdout == ""


def test_of_a_record_that_is_sound_what_was_borrowed_is_kept(lab: Lab, tmp_path: Path) -> None:
    """Forwarding by link and in whole, and a link-local address of an adopted bridge."""
    host, file = lab.host, tmp_path / "all.yaml"
    for line in (
        "link add far0 address 02:00:00:00:00:09 type bridge",
        "link set far0 addrgenmode none",
        "link set far0 up",
        "link add far-x master far0 type veth peer name x",
        "link set far-x addrgenmode none",
        "link set far-x up",
        "link set x addrgenmode none",
        "link set x up",
    ):
        host.run("ip", *line.split())
    wait_for(lambda: "ff00::/8 dev far0" in host.run("ip", "-6", "route", "show", "table", "local").stdout, "a carrier")
    before = snapshot(host)
    file.write_text(
        DECLARED.replace("namespaces:", '  br4: {subnets: [10.5.0.0/24, "fd05::/64"], bridge: far0}\nnamespaces:')
    )
    host.isthmus("up", str(file))
    host.isthmus("forwarding", "on", "--link", "eth0")
    told = host.isthmus("repair", "--rebuild").stderr
    assert "the old state file is kept as" in told
    assert "cannot be told" not in told
    host.isthmus("down", "all")
    host.isthmus("network", "rm", "far0")  # whose it is, and its name, are not found again
    assert host.sysctl("net/ipv4/conf/eth0/forwarding") == "1"
    host.isthmus("forwarding", "off", "--link", "eth0")
    assert snapshot(host) == before


def test_isolation_and_an_adopted_bridge_are_found_again(lab: Lab) -> None:
    lab.host.run("ip", "link", "add", "ext0", "type", "bridge")
    lab.host.run("ip", "addr", "add", "172.30.0.1/24", "dev", "ext0")
    lab.host.isthmus("network", "create", "alone", "--subnet", "10.1.0.0/24", "--isolate-ports")
    lab.host.isthmus("network", "create", "m", "--subnet", "10.2.0.0/24", "--bridge", "ext0")
    lab.host.isthmus("ns", "create", "a")
    lab.host.isthmus("attach", "m", "a")
    shown, stands = listing(lab), snapshot(lab.host)

    for _ in range(2):
        lab.host.isthmus("repair", "--rebuild")
        assert (listing(lab), snapshot(lab.host)) == (shown, stands)

    # Those that were set aside within a second have a name each.
    assert len(list((lab.host.path / "state").glob("state.db.*[0-9]"))) == 2
    lab.host.isthmus("ns", "rm", "a")
    for name in ("alone", "m"):
        lab.host.isthmus("network", "rm", name)
    assert [one["local"] for one in lab.host.ip_json("-4", "addr", "show", "dev", "ext0")[0]["addr_info"]] == [
        "172.30.0.1"
    ]
    assert lab.host.run("nft", "list", "tables").stdout == ""


def test_a_record_that_waits_to_be_confirmed_is_not_set_aside(lab: Lab) -> None:
    lab.host.isthmus("network", "create", "l", "--uplink", "nic:eth0", "--confirm-within", "60")
    done = lab.host.isthmus("repair", "--rebuild", check=False)
    assert done.returncode == 3
    assert "network create waits to be confirmed" in done.stderr
    assert "hint: isthmus confirm, or isthmus confirm --revert" in done.stderr
    lab.host.isthmus("confirm", "--revert")
    lab.host.isthmus("repair", "--rebuild")


SHOWN = "ip -br address; ip -n a -br address; ip -n c -br address; ip -br link; nft list ruleset"


def test_a_rebuild_that_mends_not_all_leaves_what_stands(lab: Lab, tmp_path: Path) -> None:
    file = tmp_path / "all.yaml"
    file.write_text(DECLARED)
    lab.host.isthmus("up", str(file))
    lab.host.sysctl("net/ipv6/conf/br0/disable_ipv6", 1)
    before, stands = listing(lab), lab.host.run("sh", "-c", SHOWN).stdout
    refused = lab.host.isthmus("repair", "--rebuild", check=False)
    assert (refused.returncode, "IPv6 is disabled on this device" in refused.stderr) == (3, True)
    assert (listing(lab), lab.host.run("sh", "-c", SHOWN).stdout) == (before, stands)


def test_without_the_table_nothing_is_guessed(lab: Lab) -> None:
    lab.host.isthmus("network", "create", "n", "--subnet", "10.5.0.0/24", "--uplink", "none")
    before, stands = listing(lab), snapshot(lab.host)
    lab.host.run("nft", "delete", "table", "inet", "isthmus")
    refused = lab.host.isthmus("repair", "--rebuild", check=False)
    assert (refused.returncode, "what table inet isthmus said of link n is lost" in refused.stderr) == (3, True)
    lab.host.isthmus("repair")
    assert (listing(lab), snapshot(lab.host)) == (before, stands)


WITHOUT = """
import subprocess
from isthmus.model.ruleset import PORT_SETS, SETS, element_command
from isthmus.kernel.ruleset import set_elements

def told():
    with HOST:
        found = HOST.record().networks.values()
    return {(one.name, one.uplink, one.nic, one.subnets, one.snat, one.isolate_ports, one.adopted) for one in found}

def is_right(element):
    subprocess.run(["nft", element_command("delete", element)], check=True)
    try:
        rebuild()
    except IsthmusError as error:
        assert "is lost" in str(error)
    do(repair)
    return told() == before

before = told()
elements = [one for name in SETS if name not in PORT_SETS for one in set_elements(HOST.access, name)]
out = len(elements), [element_command("add", one) for one in elements if not is_right(one)]
"""


@pytest.mark.parametrize("kind", ["declared", "adopted", "LAN"])
def test_of_an_element_that_is_lost_nothing_is_guessed(lab: Lab, tmp_path: Path, kind: str) -> None:
    if kind == "declared":
        (tmp_path / "all.yaml").write_text(DECLARED)
        lab.host.isthmus("up", str(tmp_path / "all.yaml"))
    elif kind == "LAN":
        lab.host.isthmus("network", "create", "l", "--uplink", "nic:eth0", "--confirm-within", "none")
    else:
        lab.host.run("ip", "link", "add", "ext0", "type", "bridge")
        lab.host.isthmus("network", "create", "m", "--subnet", "10.2.0.0/24", "--bridge", "ext0", "--uplink", "none")
        lab.host.isthmus("ns", "create", "a")
        lab.host.isthmus("attach", "m", "a")
    number, wrong = drive(lab.host, WITHOUT)
    assert number >= {"declared": 40, "adopted": 8, "LAN": 2}[kind]
    assert wrong == []


def test_a_lans_bridge_is_taken_for_no_other_and_its_interface_for_no_other(lab: Lab) -> None:
    host = lab.host
    for name in ("older", "eth1"):
        host.run("ip", "link", "add", name, "type", "veth", "peer", "name", f"far-{name}")
        host.run("ip", "link", "set", f"far-{name}", "up")
        host.run("ip", "link", "set", name, "up")
    host.run("ip", "addr", "add", "198.51.100.2/24", "dev", "eth1")
    host.isthmus("network", "create", "l", "--uplink", "nic:eth1", "--confirm-within", "none")
    host.run("ip", "link", "set", "eth1", "nomaster")
    refused = host.isthmus("repair", "--rebuild", check=False)
    assert (refused.returncode, "bridge l is a LAN's, and its interface is not on it" in refused.stderr) == (3, True)
    for name in ("older", "eth1"):
        host.run("ip", "link", "set", name, "master", "l")
    host.isthmus("repair", "--rebuild")
    assert "nic:eth1" in host.isthmus("network", "ls").stdout


def test_the_names_of_what_is_not_found_again_go(lab: Lab) -> None:
    host = lab.host
    host.isthmus("network", "create", "n", "--subnet", "10.5.0.0/24")
    for name in ("b", "a"):
        host.isthmus("ns", "create", name)
        host.isthmus("attach", "n", name)
        if name == "b":
            without = snapshot(host), (host.path / "run" / "hosts" / "n").read_text()
    host.run("sh", "-ec", "mkdir /etc/netns/mine; echo '192.0.2.1 mine' >/etc/netns/mine/hosts")
    host.run("ip", "netns", "delete", "a")
    host.isthmus("repair", "--rebuild")
    assert host.run("ls", "/etc/netns").stdout.split() == ["b", "mine"]
    host.run("rm", "-r", "/etc/netns/mine")
    assert (snapshot(host), (host.path / "run" / "hosts" / "n").read_text()) == without


def test_a_namespace_that_ends_meanwhile_and_a_name_without_one_are_passed_over(lab: Lab) -> None:
    host = lab.host
    host.isthmus("network", "create", "n", "--subnet", "10.5.0.0/24")
    host.isthmus("ns", "create", "a")
    host.isthmus("attach", "n", "a")
    host.run("touch", "/run/netns/nothing")
    before, pid = listing(lab), host.unnamed().pid
    # Its only process is killed when its cookie has been read, and before anybody has looked inside.
    assert drive(
        host,
        f"""
import select
from isthmus.engine import rebuild
from isthmus.kernel import netns_locate
looked, ended = netns_locate.cookie, select.poll()
ended.register(os.pidfd_open({pid}))
theirs = os.stat('/proc/{pid}/ns/net').st_ino
def cookie(fd):
    number = looked(fd)
    if os.fstat(fd).st_ino == theirs:
        os.kill({pid}, 9)
        ended.poll()
    return number
netns_locate.cookie = cookie
rebuild()
out = bool(ended.poll(0))
""",
    )
    assert listing(lab) == before
