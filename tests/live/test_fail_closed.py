"""Somebody flushes or edits our table: what is open meanwhile, and that the next verb mends it before all else."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any, Final

import pytest
from tests.live.driving import EngineRefused, Sniffer, drive, end, send_frame, udp_frame, up, wait_for

from isthmus.testing import HOST4, LAN4, Lab

TOPOLOGY: Final = """
name: closed
networks:
  br0: {subnets: [10.9.0.0/24, "fd09::/64"]}
  br1: {subnets: [10.8.0.0/24, "fd08::/64"]}
namespaces:
  a: {networks: [br0], publish: ["127.0.0.1:8083:80", "8080:80"]}
  b: {networks: [br0]}
  c: {networks: [br1]}
"""
LOCALNET: Final = "net/ipv4/conf/br0/route_localnet"
# Any verb that changes something: its own change is as far from the firewall as can be.
VERB: Final = "do(create_namespace, 'fresh')"


@pytest.fixture
def closed(lab: Lab, bridge_nf: int) -> Lab:
    assert bridge_nf in (0, 1)
    up(lab.host, TOPOLOGY)
    for name in ("a", "b", "c"):
        lab.host.netns(name).serve(name, 80, 81)
    lab.host.serve("secret", 7002, address="127.0.0.1")
    lab.lan.run("ip", "route", "add", "10.0.0.0/8", "via", HOST4)
    return lab


def crafty(lab: Lab) -> None:
    """Let namespace b send packets to 127.0.0.1 by the gateway."""
    b = lab.host.netns("b")
    b.sysctl("net/ipv4/conf/all/route_localnet", 1)
    b.run("ip", "rule", "add", "pref", "1", "to", "127.0.0.1", "lookup", "100")
    b.run("ip", "route", "add", "127.0.0.1", "via", "10.9.0.1", "dev", "eth0", "src", "10.9.0.3", "table", "100")
    b.run("ip", "rule", "add", "pref", "2", "lookup", "local")
    b.run("ip", "rule", "del", "pref", "0")


def steals(lab: Lab) -> str:
    """Ask the host's own 127.0.0.1 from namespace b."""
    return lab.host.netns("b").probe("127.0.0.1", 7002, timeout=1)


def table(lab: Lab) -> list[dict[str, Any]]:
    """Return our table without handles and counters."""
    found = lab.host.nft_json("list", "table", "inet", "isthmus")
    for one in found:
        for part in one.values():
            part.pop("handle", None)
            if isinstance(part.get("elem"), list):
                part["elem"].sort(key=json.dumps)
            for expression in part.get("expr", []):
                if "counter" in expression:
                    expression["counter"] = {}
    return found


def test_the_hole_that_a_flush_leaves_is_closed_by_the_next_verb(closed: Lab) -> None:
    crafty(closed)
    before = table(closed)
    assert closed.host.sysctl(LOCALNET) == "1"
    assert steals(closed) == "timed out"

    closed.host.run("nft", "flush", "ruleset")
    assert steals(closed) == "secret 10.9.0.3 7002"

    drive(closed.host, VERB)
    assert steals(closed) == "timed out"
    assert table(closed) == before
    assert closed.host.probe("127.0.0.1", 8083) == "a 10.9.0.1 80"
    assert closed.lan.probe(HOST4, 8080) == f"a {LAN4} 80"
    assert closed.host.netns("c").probe("10.9.0.2", 80, timeout=0.5) == "timed out"


DROPPED: Final = re.compile(r"packets (\d+)")
ASK: Final = """
import socket, sys
sock = socket.socket()
sock.setblocking(False)
sock.connect_ex(("127.0.0.1", 7002))
sys.stdin.read()
"""


def from_loopback(frame: bytes) -> bool:
    return frame[12:14] == b"\x08\x00" and frame[26] == 127


def leaving(lab: Lab) -> str:
    return lab.host.run("nft", "list", "chain", "inet", "isthmus", "leave").stdout


def test_an_answer_from_127_0_0_1_that_was_on_its_way_does_not_leave(closed: Lab) -> None:
    """The kernel sends it again until it is taken: it is not for this member."""
    crafty(closed)
    b = closed.host.netns("b")
    b.run("nft", "add table ip deaf; add chain ip deaf in { type filter hook prerouting priority -300; }")
    b.run("nft", "add rule ip deaf in ip saddr 127.0.0.0/8 drop")
    closed.host.run("nft", "flush", "ruleset")
    sniffer = Sniffer(b, "eth0")
    asker = b.spawn(sys.executable, "-I", "-S", "-c", ASK)
    assert sniffer.wait(from_loopback) is not None
    drive(closed.host, VERB)
    sniffer = Sniffer(b, "eth0")
    wait_for(lambda: any(map(int, DROPPED.findall(leaving(closed)))), "an answer that is sent again")
    (link,) = b.ip_json("link", "show", "eth0")
    send_frame(closed.host, "br0", udp_frame(link["address"], "10.9.0.1", "10.9.0.3", 5001, 80, b"mark"))
    assert sniffer.wait(lambda frame: frame.endswith(b"mark")) is not None
    assert not any(map(from_loopback, sniffer.seen))
    end(asker)


def test_the_table_is_back_before_the_verb_does_its_own_work(closed: Lab) -> None:
    closed.host.run("nft", "flush", "ruleset")
    notes = drive(closed.host, "out = entered()")
    assert notes == ["somebody changed or flushed table inet isthmus: it was loaded again"]
    assert table(closed)
    # Also when the verb itself is refused.
    closed.host.run("nft", "flush", "ruleset")
    with pytest.raises(EngineRefused, match="no network 'nowhere'"):
        drive(closed.host, "do(remove_network, 'nowhere')")
    assert table(closed)
    assert drive(closed.host, "out = entered()") == []


def test_a_verb_that_takes_the_last_loopback_publish_away_mends_first(closed: Lab) -> None:
    crafty(closed)
    closed.host.run("nft", "flush", "ruleset")
    drive(closed.host, "do(down, 'closed', force=True); reap(state_directory())")
    assert closed.host.nft_json() == []
    assert closed.host.run("ls", "/proc/sys/net/ipv4/conf").stdout.split() == ["all", "default", "eth0", "lo"]


def hidden_nft(lab: Lab) -> str:
    """Hide the nft program in this host alone, and return a script that brings it back."""
    real = [path for path in ("/usr/sbin", "/sbin", "/usr/local/sbin", "/usr/bin") if Path(path, "nft").exists()]
    targets = sorted({str(Path(path, "nft").resolve()) for path in real})
    for target in targets:
        lab.host.run("mount", "--bind", "/dev/null", target)
    return "; ".join(f"umount {target}" for target in targets)


def test_without_nft_the_hole_is_closed_by_the_sysctl(closed: Lab) -> None:
    crafty(closed)
    closed.host.run("nft", "flush", "ruleset")
    assert steals(closed) == "secret 10.9.0.3 7002"
    back = hidden_nft(closed)
    said = "error: cannot load the ruleset: there is no nft program\nhint: install nftables\n"
    for verb in ("repair", "ns create fresh"):
        told = closed.host.isthmus(*verb.split(), check=False)
        assert (told.returncode, told.stderr) == (6, said)
    assert closed.host.sysctl(LOCALNET) == "0"
    assert steals(closed) == "timed out"

    closed.host.run("sh", "-ec", back)
    told = closed.host.isthmus("repair")
    restored = "note: somebody changed or flushed table inet isthmus: it was loaded again\n"
    assert (told.stdout, told.stderr) == ("", restored)
    assert closed.host.isthmus("repair").stdout == "nothing to change\n"
    assert closed.host.sysctl(LOCALNET) == "1"
    assert steals(closed) == "timed out"
    assert closed.host.probe("127.0.0.1", 8083) == "a 10.9.0.1 80"


def rule_handle(lab: Lab, chain: str) -> str:
    """Return the handle of a chain's last rule."""
    lines = lab.host.run("nft", "-a", "list", "chain", "inet", "isthmus", chain).stdout.splitlines()
    return [line.rpartition(" ")[2] for line in lines if "# handle" in line and "chain" not in line][-1]


RULES: Final = {
    "a rule deleted": "nft delete rule inet isthmus into handle {into}",
    "a rule added": "nft insert rule inet isthmus forward accept",
    "a chain flushed": "nft flush chain inet isthmus wire",
    "a set deleted": "nft flush chain inet isthmus translate; nft delete set inet isthmus masq6",
    "the policy changed": "nft add chain inet isthmus forward '{{ policy drop; }}'",
    "the table deleted": "nft delete table inet isthmus",
    "the table dormant": "nft add table inet isthmus '{{ flags dormant; }}'",
}
ELEMENTS: Final = {
    "a set flushed": "nft flush set inet isthmus bridges",
    "a map flushed": "nft flush map inet isthmus anyport4",
    "an element deleted": "nft delete element inet isthmus closed4 '{ 10.9.0.0/24 }'",
    "a port deleted": "nft delete element inet isthmus anyport4 '{ tcp . 8080 }'",
}
PLAN: Final = f"HOST = Host(writable=False); out = steps(do(plan, load_text({TOPOLOGY!r})))"


@pytest.mark.parametrize("edit", RULES)
def test_a_foreign_edit_of_the_rules_is_seen_and_mended_by_any_verb(lab: Lab, edit: str) -> None:
    up(lab.host, TOPOLOGY)
    before = table(lab)
    assert drive(lab.host, PLAN) == []
    lab.host.run("sh", "-ec", RULES[edit].format(into=rule_handle(lab, "into")))
    assert drive(lab.host, PLAN) != []
    drive(lab.host, VERB)
    assert table(lab) == before


@pytest.mark.parametrize("edit", ELEMENTS)
def test_a_foreign_edit_of_the_elements_is_seen_and_mended_by_up(lab: Lab, edit: str) -> None:
    up(lab.host, TOPOLOGY)
    before = table(lab)
    lab.host.run("sh", "-ec", ELEMENTS[edit])
    assert table(lab) != before
    assert drive(lab.host, PLAN) != []
    up(lab.host, TOPOLOGY)
    assert table(lab) == before


STRAYS: Final = {
    "a port": "anyport4 { tcp . 9999 : 10.9.0.2 . 81 }",
    "a pair": "pairs { br0 . br1, br1 . br0 }",
    "a port that leads elsewhere": "anyport4 { tcp . 8080 : 10.8.0.2 . 80 }",
    "a subnet": "masq4 { 10.77.0.0/24 }",
    "a range": "onlink4 { br0 . 10.77.0.3-10.77.0.9 }",
}


@pytest.mark.parametrize("stray", STRAYS)
def test_a_foreign_element_is_shown_by_plan_and_taken_away_by_any_verb(lab: Lab, stray: str) -> None:
    up(lab.host, TOPOLOGY)
    before = table(lab)
    if "elsewhere" in stray:
        lab.host.run("nft", "delete element inet isthmus anyport4 { tcp . 8080 }")
    lab.host.run("nft", f"add element inet isthmus {STRAYS[stray]}")
    assert table(lab) != before
    shown = lab.host.isthmus("plan", "-", input="name: others", check=False)
    assert shown.returncode == 2, shown
    done = lab.host.isthmus("ns", "create", "fresh")
    assert "somebody changed what the firewall's sets hold: it was put back" in done.stderr
    assert table(lab) == before
    assert lab.host.isthmus("plan", "-", input="name: others").stdout == "nothing to change\n"


ADD: Final = "import subprocess; subprocess.run(['nft', 'add element inet isthmus pairs { br0 . br1 }'], check=True)"
# A verb that sends a batch, in a call that somebody overtakes, or one that dies when its batch is sent.
OVERTAKEN: Final = {
    "while a verb is under way": f"""
with HOST:
    {ADD}
    publish(HOST, 'b', port('90:90'))
""",
    "after a call that died": f"""
import isthmus.converge.host
settle, isthmus.converge.host.settle = isthmus.converge.host.settle, lambda *_: os._exit(0)
if os.fork() == 0:
    do(publish, 'b', port('90:90'))
os.wait()
isthmus.converge.host.settle = settle
{ADD}
""",
}


@pytest.mark.parametrize("when", OVERTAKEN)
def test_a_foreign_element_is_seen_although_a_batch_of_ours_came_later(lab: Lab, when: str) -> None:
    up(lab.host, TOPOLOGY)
    drive(lab.host, OVERTAKEN[when])
    assert drive(lab.host, "out = entered()") == ["somebody changed what the firewall's sets hold: it was put back"]
    assert lab.host.nft_json("list", "set", "inet", "isthmus", "pairs")[0]["set"].get("elem", []) == []
    assert drive(lab.host, "out = entered()") == []


def test_a_newer_ruleset_is_loaded_with_all_that_its_sets_held(lab: Lab) -> None:
    up(lab.host, TOPOLOGY)
    before = table(lab)
    # As after an upgrade: what is loaded is of another version, and the verb looks at one network alone.
    drive(lab.host, "with HOST: HOST.db.set_meta('version', 'older')")
    drive(lab.host, "do(create_network, network('br2', '10.7.0.0/24')); do(remove_network, 'br2')")
    assert table(lab) == before


@pytest.mark.parametrize("flush", ["nft flush ruleset", "true"], ids=["flushed", "upgraded"])
def test_a_namespace_that_ended_is_no_hindrance(lab: Lab, flush: str) -> None:
    up(lab.host, TOPOLOGY)
    before = table(lab)
    unnamed = lab.host.unnamed()
    wish = f"AttachmentWish(network='br0'), '/proc/{unnamed.pid}/ns/net', (port('8099:80'),)"
    drive(lab.host, f"do(attach, {wish})")
    if flush == "true":  # as after an upgrade
        drive(lab.host, "with HOST: HOST.db.set_meta('version', 'older')")
    os.kill(unnamed.pid, signal.SIGKILL)
    wait_for(lambda: len(lab.host.ip_json("link", "show", "master", "br0")) == 2, "the end of a namespace")
    lab.host.run("sh", "-ec", flush)
    notes = drive(lab.host, "out = entered()")
    assert [one for one in notes if "was cleared" in one]
    assert table(lab) == before
    assert drive(lab.host, "out = entered()") == []


def test_tables_of_others_are_left_alone(closed: Lab) -> None:
    closed.host.run("nft", "add table inet foreign; add chain inet foreign c { type filter hook input priority 5; }")
    foreign = closed.host.nft_json("list", "table", "inet", "foreign")
    closed.host.run("nft", "delete", "table", "inet", "isthmus")
    drive(closed.host, VERB)
    assert closed.host.nft_json("list", "table", "inet", "foreign") == foreign
    assert drive(closed.host, "out = entered()") == []


# What a verb made can be used when it returns.

FIRST: Final = """
import errno, socket, sys, time
address, port = sys.argv[1:]
sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
sock.settimeout(5)
begin = time.monotonic()
sock.connect((address, int(port)))
print(time.monotonic() - begin)
"""


@pytest.mark.parametrize("address", ["203.0.113.9", "2001:db8::9", "10.9.0.1", "fd09::1", "10.9.0.2", "fd09::2"])
def test_the_first_connect_after_attach_needs_no_second_try(lab: Lab, bridge_nf: int, address: str) -> None:
    assert bridge_nf in (0, 1)
    up(lab.host, TOPOLOGY)
    lab.host.netns("a").serve("a", 80)
    lab.host.serve("host", 80)
    lab.lan.serve("lan", 80)
    source = f"""
import subprocess
do(create_namespace, 'fresh')
do(attach, AttachmentWish(network='br0'), 'fresh')
done = subprocess.run(["ip", "netns", "exec", "fresh", sys.executable, "-I", "-S", "-c", {FIRST!r}, {address!r}, "80"],
                      capture_output=True, text=True)
assert done.returncode == 0, done.stderr
out = float(done.stdout)
"""
    assert drive(lab.host, source) < 0.3


@pytest.mark.parametrize("address", [HOST4, "2001:db8::2"])
def test_the_first_connect_from_outside_needs_no_second_try(lab: Lab, bridge_nf: int, address: str) -> None:
    assert bridge_nf in (0, 1)
    up(lab.host, TOPOLOGY)
    unnamed = lab.host.unnamed()
    unnamed.serve("fresh", 80)
    target = f"/proc/{unnamed.pid}/ns/net"
    drive(lab.host, f"do(attach, AttachmentWish(network='br0'), {target!r}, (port('8085:80'),))")
    begin = time.monotonic()
    answer = lab.lan.python(FIRST, address, "8085")
    assert float(answer.stdout) < 0.3, time.monotonic() - begin


def test_the_ruleset_comes_back_with_its_elements_in_one_transaction(lab: Lab, tmp_path: Path) -> None:
    up(lab.host, TOPOLOGY)
    lab.host.run("nft", "flush", "ruleset")
    seen = tmp_path / "monitor"
    lab.host.spawn("sh", "-c", f"exec stdbuf -oL nft monitor > {seen}")

    def is_listening() -> bool:
        lab.host.run("nft", "add table inet probe; delete table inet probe")
        return seen.exists() and "probe" in seen.read_text()

    wait_for(is_listening, "the monitor")
    drive(lab.host, "entered()")
    # nft 1.0.6 ends by itself at the first interval of a concatenated set; what is asserted stands before that.
    wait_for(lambda: "element inet isthmus has_exit" in seen.read_text(), "the elements")
    commits = seen.read_text().split("# new generation")
    (loaded,) = [one for one in commits if "add chain inet isthmus postrouting" in one]
    assert "element inet isthmus bridges" in loaded
    assert "element inet isthmus closed4" in loaded
    assert "element inet isthmus masq4" in loaded


def test_a_new_address_is_announced_to_the_neighbours(lab: Lab) -> None:
    up(lab.host, TOPOLOGY)
    sniffer = Sniffer(lab.host.netns("b"), "eth0")
    source = """
do(create_namespace, 'fresh')
done = do(attach, AttachmentWish(network='br0', mac=Mac.parse('02:00:00:00:0f:0f')), 'fresh')
out = [str(one) for one in done.attachment.addresses]
"""
    address4, address6 = drive(lab.host, source)
    mac = bytes.fromhex("020000000f0f")
    four, six = socket.inet_aton(address4), socket.inet_pton(socket.AF_INET6, address6)

    def is_arp(frame: bytes) -> bool:
        return frame[12:14] == b"\x08\x06" and frame[22:32] == mac + four and frame[38:42] == four

    def is_advertisement(frame: bytes) -> bool:
        return frame[12:14] == b"\x86\xdd" and frame[20] == 58 and frame[54] == 136 and frame[62:78] == six

    if not any(map(is_arp, sniffer.seen)):
        assert sniffer.wait(is_arp) is not None
    advertisement = next(filter(is_advertisement, sniffer.seen), None) or sniffer.wait(is_advertisement)
    assert advertisement is not None
    assert advertisement[:6] == bytes.fromhex("333300000001")
    assert advertisement[21] == 255
    assert advertisement[58] & 0xE0 == 0x20  # override; neither router nor solicited
    assert advertisement[78:86] == b"\x02\x01" + mac


def test_an_address_that_moved_is_reached_at_its_new_owner_at_once(lab: Lab) -> None:
    up(lab.host, TOPOLOGY)
    b = lab.host.netns("b")
    for name in ("one", "two"):
        drive(lab.host, f"do(create_namespace, {name!r})")
        lab.host.netns(name).serve(name, 80)
    wish = "AttachmentWish(network='br0', ips=(Address.parse('10.9.0.77'), Address.parse('fd09::77')))"
    drive(lab.host, f"do(attach, {wish}, 'one')")
    for place in (b, lab.host):
        assert place.probe("10.9.0.77", 80).startswith("one ")
        assert place.probe("fd09::77", 80).startswith("one ")
    drive(lab.host, f"do(detach, 'br0', 'one'); do(attach, {wish}, 'two')")
    for place in (b, lab.host):
        assert place.probe("10.9.0.77", 80, timeout=0.9).startswith("two ")
        assert place.probe("fd09::77", 80, timeout=0.9).startswith("two ")
