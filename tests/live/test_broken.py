"""What somebody broke so that it cannot be mended: it is told, and stands in no other verb's way.

A call that meets it undoes what it began, and so does the next one where the undoing met it, too.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from isthmus.testing import Host, Lab, snapshot

TEXT = """\
name: f
networks: {q: {subnets: [10.2.0.0/24, "fd02::/64"]}}
namespaces: {c: {networks: {q: {}}, publish: ["8080:80"]}}
"""
BREAK = {
    "another namespace of that name": "ip netns del c; ip netns add c",
    "another link of that name inside": "ip -n c link del eth0; ip -n c link add eth0 type veth peer name qq",
    "a plain link of the bridge's name": "ip link del q; ip link add q type veth peer name qq",
    "another bridge of that name": "ip link del q; ip link add q type bridge; ip link set q alias mine",
    "a directory of the hosts file's name": "rm /etc/netns/c/hosts; mkdir /etc/netns/c/hosts",
    "IPv6 switched off on the bridge": "echo 1 > /proc/sys/net/ipv6/conf/q/disable_ipv6",
    "a port renamed": "ip link set dev $PORT down; ip link set dev $PORT name other; ip link set dev other up",
}
ALIAS = "PORT=$(ip -o link show type veth | grep -o 'isv[0-9a-f]*' | head -n1); "


def up(lab: Lab, folder: Path) -> str:
    file = folder / "f.yaml"
    file.write_text(TEXT)
    lab.host.isthmus("up", str(file))
    return str(file)


@pytest.mark.parametrize("kind", BREAK)
def test_what_cannot_be_mended_stands_in_no_other_verbs_way(lab: Lab, tmp_path: Path, kind: str) -> None:
    host = lab.host
    file = up(lab, tmp_path)
    host.run("sh", "-ec", ALIAS + BREAK[kind])
    theirs = host.run("sh", "-c", "ip -d link show dev q; ip -br address show dev q").stdout
    for verb in (("publish", "c", "8081:80"), ("up", file), ("repair",)):
        host.isthmus(*verb, check=False)
    host.isthmus("ns", "create", "other")
    host.isthmus("network", "create", "n", "--subnet", "10.3.0.0/24")
    host.isthmus("attach", "n", "other")
    assert ping(host, "other", "10.3.0.1")
    if kind.endswith("of the bridge's name") or kind.startswith("another bridge"):
        assert host.run("sh", "-c", "ip -d link show dev q; ip -br address show dev q").stdout == theirs
    host.isthmus("down", "f", "--force")
    host.isthmus("network", "rm", "n", "--force")
    host.isthmus("ns", "rm", "other")
    assert host.isthmus("repair").stdout == "nothing to change\n"
    assert "isthmus" not in host.run("nft", "list", "tables").stdout


def test_an_adopted_bridge_without_ipv6_stands_in_no_other_networks_way(lab: Lab) -> None:
    lab.host.run("sh", "-ec", "ip link add ext0 type bridge; ip link set ext0 up")
    lab.host.isthmus("network", "create", "m", "--uplink", "none", "--bridge", "ext0")
    lab.host.sysctl("net/ipv6/conf/ext0/disable_ipv6", 1)
    told = lab.host.isthmus("network", "create", "other", "--subnet", "10.20.0.0/24").stderr
    assert "something else was not mended: cannot add address to link ext0" in told
    assert lab.host.ip_json("-4", "addr", "show", "dev", "other")[0]["addr_info"][0]["local"] == "10.20.0.1"


def test_what_is_not_of_a_file_stands_in_no_second_ups_way(lab: Lab, tmp_path: Path) -> None:
    host = lab.host
    host.isthmus("network", "create", "n", "--subnet", "10.3.0.0/24", "--subnet", "fd03::/64")
    host.sysctl("net/ipv6/conf/n/disable_ipv6", 1)
    file = up(lab, tmp_path)
    said = "note: something else was not mended: cannot add address to link n"
    done = host.isthmus("up", file)
    assert (said in done.stderr, done.stdout) == (True, "nothing to change\n")
    host.run("ip", "-n", "c", "addr", "flush", "dev", "eth0")
    assert "+ address 10.2.0.2/24 on eth0 in c" in host.isthmus("up", file).stdout
    host.sysctl("net/ipv6/conf/q/disable_ipv6", 1)
    failed = host.isthmus("up", file, check=False)
    assert (failed.returncode, "cannot add address to link q" in failed.stderr) == (3, True)


def test_what_was_not_mended_is_not_said_to_be_done_nor_laid_at_somebodys_door(lab: Lab) -> None:
    host = lab.host
    host.isthmus("network", "create", "n", "--subnet", "10.2.0.0/24", "--subnet", "fd02::/64")
    host.isthmus("network", "create", "m", "--subnet", "10.3.0.0/24")
    host.sysctl("net/ipv6/conf/n/disable_ipv6", 1)
    done = host.isthmus("network", "rm", "m")
    assert "something else was not mended: cannot add address to link n" in done.stderr
    assert done.stdout == "- bridge m\n"
    assert host.isthmus("ns", "create", "a").stderr == ""


def test_what_can_be_mended_is_beside_what_cannot(lab: Lab, tmp_path: Path) -> None:
    host = lab.host
    up(lab, tmp_path)
    host.isthmus("network", "create", "n", "--subnet", "10.3.0.0/24")
    host.isthmus("ns", "create", "other")
    host.isthmus("attach", "n", "other")
    host.isthmus("connect", "other", "c")
    broken = ("ip netns del c", "ip netns add c", "echo 1 > /proc/sys/net/ipv6/conf/q/disable_ipv6")
    host.run("sh", "-ec", "; ".join((*broken, "ip addr flush dev n", "ip -n other addr flush dev eth0")))
    told = host.isthmus("repair", check=False)
    assert told.returncode == 3
    assert "/run/netns/c exists, and is not ours" in told.stderr
    assert "IPv6 is disabled" in told.stderr
    assert ping(host, "other", "10.3.0.1")
    assert "namespace c is gone: isthmus repair makes it again, unless another" in host.isthmus("ls").stderr


def ping(host: Host, namespace: str, address: str) -> bool:
    return host.within(namespace, "ping", "-c1", "-W2", address, check=False).returncode == 0


def test_a_command_that_cannot_be_started_again_stands_in_nobodys_way(lab: Lab, tmp_path: Path) -> None:
    """Neither the new program nor the old one is there."""
    program = tmp_path / "one"
    program.write_bytes(Path("/bin/sleep").read_bytes())
    program.chmod(0o755)
    file = tmp_path / "f.yaml"
    text = f"name: f\nnamespaces: {{c: {{command: [{program}, '1000']}}}}\n"
    file.write_text(text)
    lab.host.isthmus("up", str(file))
    program.unlink()
    file.write_text(text.replace("one", "two"))
    failed = lab.host.isthmus("up", str(file), check=False)
    assert (failed.returncode, f"cannot start command of c: {tmp_path}/two" in failed.stderr) == (4, True)
    assert (
        f"\nnote: not all that was there could be made again (cannot start command of c: {tmp_path}/one"
        in failed.stderr
    )
    assert lab.host.isthmus("ns", "create", "other").stderr == ""
    lab.host.isthmus("down", "f")


def test_a_direct_link_whose_far_end_has_ended_stands_in_nobodys_way(lab: Lab) -> None:
    far = lab.host.unnamed()
    lab.host.isthmus("network", "create", "n", "--subnet", "10.3.0.0/24")
    lab.host.isthmus("ns", "create", "a")
    lab.host.isthmus("connect", "a", str(far.pid))
    far.process.kill()
    far.process.wait()
    lab.host.isthmus("attach", "n", "a")
    assert ping(lab.host, "a", "10.3.0.1")
    assert "was cleared" in lab.host.isthmus("repair").stderr


def test_a_file_under_run_netns_is_somebodys(lab: Lab) -> None:
    """An empty one without rights is what `ip netns` leaves behind, and is taken over as it does."""
    host = lab.host
    host.run("sh", "-ec", "ip netns add x; umount /run/netns/x; echo precious > /run/netns/z")
    host.isthmus("ns", "create", "x")
    assert host.within("x", "ip", "-br", "link", "show", "dev", "lo").stdout.startswith("lo")
    refused = host.isthmus("ns", "create", "z", check=False)
    assert (refused.returncode, refused.stderr.splitlines()[0]) == (
        3,
        "error: cannot make network namespace z: /run/netns/z exists, and is not ours",
    )
    assert host.isthmus("ns", "rm", "z", check=False).returncode == 4
    assert host.run("cat", "/run/netns/z").stdout == "precious\n"


# Runs a verb, and stops it when it has called a function.
STOPPED = """
import importlib, os, sys
how, place, name, *words = sys.argv[1:]
module = importlib.import_module(place)
real = getattr(module, name)
def stop(*given):
    real(*given)
    if how == "kill":
        os.kill(os.getpid(), 9)
    raise KeyboardInterrupt
setattr(module, name, stop)
from isthmus.doors.cli.main import main
sys.argv[1:] = words
main()
"""


def stop(host: Host, how: str, place: str, name: str, *words: str) -> None:
    done = host.run(sys.executable, "-c", STOPPED, how, place, name, *words, check=False)
    assert done.returncode == (-9 if how == "kill" else 130), done.stderr


@pytest.mark.parametrize("how", ["kill", "interrupt"])
def test_a_namespace_that_a_stopped_call_made_again_is_ours(lab: Lab, tmp_path: Path, how: str) -> None:
    up(lab, tmp_path)
    lab.host.run("ip", "netns", "del", "c")
    stop(lab.host, how, "isthmus.kernel.netns", "make", "repair")
    assert lab.host.isthmus("repair").stderr == ""
    assert ping(lab.host, "c", "10.2.0.1")


@pytest.mark.parametrize("how", ["kill", "interrupt"])
@pytest.mark.parametrize("stays", [False, True])
def test_a_table_that_a_stopped_call_took_away_is_not_missed(lab: Lab, how: str, stays: bool) -> None:
    lab.host.isthmus("network", "create", "n", "--subnet", "10.3.0.0/24", "--isolate-ports")
    if stays:  # the bridge table alone goes
        lab.host.isthmus("network", "create", "m", "--subnet", "10.4.0.0/24")
    stop(lab.host, how, "isthmus.kernel.apply", "unload_ruleset", "network", "rm", "n")
    for _ in range(2):
        told = lab.host.isthmus("repair")
        assert (told.stdout, told.stderr) == ("nothing to change\n", "")
    tables = lab.host.run("nft", "list", "tables").stdout
    assert ("inet isthmus" in tables, "bridge isthmus" in tables) == (stays, False)


def test_an_mtu_below_that_of_ipv6_is_mended(lab: Lab) -> None:
    lab.host.isthmus("network", "create", "n", "--subnet", "fd03::/64")
    shown = ("ip", "-o", "address", "show", "dev", "n")
    before = lab.host.run(*shown).stdout
    lab.host.run("ip", "link", "set", "dev", "n", "mtu", "1000")
    lab.host.isthmus("repair")
    assert lab.host.run(*shown).stdout == before
    assert lab.host.ip_json("link", "show", "dev", "n")[0]["mtu"] == 1500


@pytest.mark.parametrize("switch", ["all", "default"])
def test_a_host_without_ipv6_is_given_ipv4_alone(lab: Lab, switch: str) -> None:
    lab.host.sysctl(f"net/ipv6/conf/{switch}/disable_ipv6", 1)
    lab.host.sysctl("net/ipv6/conf/default/disable_ipv6", 1)
    assert "fd" not in lab.host.isthmus("network", "create", "n").stdout
    asked = lab.host.isthmus("network", "create", "m", "--subnet", "fd03::/64", check=False)
    assert (asked.returncode, "IPv6 is disabled" in asked.stderr) == (3, True)


def test_a_read_only_etc_is_told_before_anything_changes(lab: Lab) -> None:
    host = lab.host
    host.isthmus("network", "create", "n", "--subnet", "10.3.0.0/24")
    host.isthmus("ns", "create", "a")
    host.isthmus("attach", "n", "a")
    host.isthmus("forwarding", "on", "--persist")
    before = snapshot(host)
    host.run("sh", "-ec", "mount --bind /etc /etc; mount -o remount,ro,bind /etc")
    for verb in ("detach n a", "ns rm a --force", "network rm n --force", "forwarding off --persist", "run -- true"):
        refused = host.isthmus(*verb.split(), check=False)
        assert refused.returncode in (5, 125), verb
        assert "EROFS" in refused.stderr
        assert "undoing" not in refused.stderr
    assert snapshot(host) == before
    host.isthmus("network", "create", "m", "--subnet", "10.4.0.0/24")
    host.run("umount", "/etc")
    host.isthmus("detach", "n", "a")


@pytest.mark.parametrize("kind", ["bridge", "veth peer name x"])
def test_a_link_name_that_is_taken_inside_is_refused(lab: Lab, kind: str) -> None:
    host = lab.host
    host.isthmus("network", "create", "n", "--subnet", "10.3.0.0/24")
    host.isthmus("ns", "create", "c")
    host.run("sh", "-ec", f"ip netns add f; ip -n f link add eth0 type {kind}")
    before = snapshot(host)
    for verb in (("attach", "n", "f", "--ifname", "eth0"), ("connect", "f", "c", "--name-a", "eth0")):
        done = host.isthmus(*verb, check=False)
        said = "error: cannot create link eth0 in f: a link of that name is there already\n"
        assert (done.returncode, done.stderr) == (3, said)
    assert snapshot(host) == before


def test_a_name_that_leads_to_the_hosts_own_namespace_costs_no_process_its_life(lab: Lab) -> None:
    host = lab.host
    host.isthmus("ns", "create", "a")
    living = host.spawn("sleep", "1000")
    host.run("sh", "-ec", "umount /run/netns/a; mount --bind /proc/self/ns/net /run/netns/a")
    host.isthmus("ns", "rm", "a", "--force")
    assert "the host's own namespace" in host.isthmus("ns", "rm", "a", "--force", check=False).stderr
    assert living.poll() is None
    assert host.run("mountpoint", "-q", "/run/netns/a").returncode == 0
