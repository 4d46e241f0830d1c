"""Isolated ports: no frame leads from member to member, but what was translated at a published port."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any, Final

import pytest
from tests.live.driving import Sniffer, drive, send_frame, udp_frame, up, wait_for

from isthmus.testing import HOST4, LAN4, Lab, Place, snapshot

TOPOLOGY: Final = """
name: apart
networks:
  n: {subnets: [10.4.0.0/24, "fd04::/64"], isolate-ports: true}
namespaces:
  h: {networks: {n: {ip: 10.4.0.2}}, publish: ["8087:80", "8087:80/udp"]}
  i: {networks: {n: {ip: 10.4.0.3}}}
  j: {networks: {n: {ip: 10.4.0.4}}}
"""
OPEN: Final = TOPOLOGY.replace(", isolate-ports: true", "")
PLAN: Final = f"HOST = Host(writable=False); out = steps(do(plan, load_text({TOPOLOGY!r})))"
FORGED, HONEST = b"mark forged", b"mark honest"
STRANGE_MAC: Final = "02:00:00:00:00:77"


@pytest.fixture(params=["ours", "adopted"])
def apart(request: pytest.FixtureRequest, lab: Lab, bridge_nf: int) -> Lab:
    """Give members h, i and j on a bridge of ours, or on one of a stranger's."""
    assert bridge_nf in (0, 1)
    text = TOPOLOGY
    if request.param == "adopted":
        lab.host.run("ip", "link", "add", "far0", "type", "bridge")
        lab.host.run("ip", "link", "set", "far0", "up")
        text = text.replace("isolate-ports", "bridge: far0, isolate-ports")
    up(lab.host, text)
    for name in ("h", "i", "j"):
        lab.host.netns(name).serve(name, 80)
    return lab


def mac_of(place: Place, link: str = "eth0") -> str:
    (found,) = place.ip_json("link", "show", link)
    return str(found["address"])


def port_of(lab: Lab, name: str) -> str:
    """Return the host's end of a member's link."""
    (inner,) = lab.host.netns(name).ip_json("link", "show", "eth0")
    (outer,) = [one for one in lab.host.ip_json("link", "show") if one["ifindex"] == inner["link_index"]]
    return str(outer["ifname"])


def bridge_of(lab: Lab) -> str:
    (found,) = lab.host.ip_json("link", "show", port_of(lab, "h"))
    return str(found["master"])


def raw(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def tagged(frame: bytes) -> bytes:
    return frame[:12] + b"\x81\x00\x00\x07" + frame[12:]


def datagram6(mac: str, source: str, target: str) -> bytes:
    """An Ethernet frame of IPv6 with an unknown transport: nobody looks further."""
    import socket

    addresses = socket.inet_pton(socket.AF_INET6, source) + socket.inet_pton(socket.AF_INET6, target)
    header = b"\x60\0\0\0" + len(FORGED).to_bytes(2, "big") + b"\xfd\x40"
    return raw(mac) + raw("02:00:00:00:00:09") + b"\x86\xdd" + header + addresses + FORGED


def forbidden(lab: Lab) -> dict[str, bytes]:
    """Return frames that h may send and i shall not see."""
    h, i = lab.host.netns("h"), lab.host.netns("i")
    gateway, mac, own = mac_of(lab.host, bridge_of(lab)), mac_of(i), mac_of(h)

    def to(target: str, source: str = own) -> bytes:
        frame = udp_frame(target, "10.4.0.2", "10.4.0.3", 5005, 80, FORGED)
        return frame[:6] + raw(source) + frame[12:]

    return {
        "its MAC": to(mac),
        "a broadcast": to("ff:ff:ff:ff:ff:ff"),
        "a multicast": to("01:00:5e:00:00:fb"),
        "an IPv6 multicast": to("33:33:00:00:00:01"),
        "the bridge group address": to("01:80:c2:00:00:00"),
        "an unknown MAC": to("02:00:00:00:00:99"),
        "a MAC that it took to itself": to(STRANGE_MAC),
        "by the gateway": to(gateway),
        "by the gateway, IPv6": datagram6(gateway, "fd04::2", "fd04::3"),
        "its MAC, IPv6": datagram6(mac, "fd04::2", "fd04::3"),
        "the MAC of its port": to(mac_of(lab.host, port_of(lab, "i"))),
        "the MAC of one's own port": to(mac_of(lab.host, port_of(lab, "h"))),
        "another ethertype": to(mac)[:12] + b"\x88\xb5" + FORGED * 5,
        "a broadcast of another ethertype": to("ff:ff:ff:ff:ff:ff")[:12] + b"\x88\xb5" + FORGED * 5,
        "a VLAN tag": tagged(to(mac)),
        "a VLAN tag, broadcast": tagged(to("ff:ff:ff:ff:ff:ff")),
        "a VLAN tag, by the gateway": tagged(to(gateway)),
        "from a MAC out of nowhere": to(mac, "02:00:00:00:00:55"),
        "from the gateway's MAC": to(mac, gateway),
        "from its own MAC": to(mac, mac),
    }


def saw(sniffer: Sniffer, lab: Lab, name: str) -> list[bytes]:
    """Return the forged frames that came to a member until one of the host's did."""
    place, bridge = lab.host.netns(name), bridge_of(lab)
    place.pings("10.4.0.1")  # the bridge learns anew where it is
    frame = udp_frame(mac_of(place), "10.4.0.1", "10.4.0.3", 5007, 80, HONEST)
    send_frame(lab.host, bridge, frame[:6] + raw(mac_of(lab.host, bridge)) + frame[12:])
    assert sniffer.wait(lambda frame: HONEST in frame) is not None
    return [frame for frame in sniffer.seen if FORGED in frame]


def forged(lab: Lab) -> tuple[dict[str, bytes], list[bytes]]:
    """Send the forbidden frames from h; return them, and those that came to i."""
    frames = forbidden(lab)
    sniffer = Sniffer(lab.host.netns("i"), "eth0")
    # The bridge learns a MAC at i's port that is not i's.
    send_frame(lab.host.netns("i"), "eth0", b"\xff" * 6 + raw(STRANGE_MAC) + b"\x88\xb5" + bytes(46))
    for frame in frames.values():
        send_frame(lab.host.netns("h"), "eth0", frame)
    return frames, saw(sniffer, lab, "i")


def test_no_frame_leads_to_a_neighbour(apart: Lab) -> None:
    frames, came = forged(apart)
    assert [name for name, frame in frames.items() if frame in came] == []
    assert came == []


def test_the_frames_are_such_that_an_open_network_passes_them(lab: Lab) -> None:
    up(lab.host, OPEN)
    frames, came = forged(lab)
    # Not those to a MAC of the host's ports; by the gateway they are routed, a tagged one is not.
    assert len(came) >= len(frames) - 5


def test_members_reach_published_ports_by_the_host_and_nobody_overhears(apart: Lab) -> None:
    i, j = apart.host.netns("i"), apart.host.netns("j")
    assert i.probe("10.4.0.2", 80, timeout=0.5) in ("timed out", "unreachable")
    # Nothing is learned any more: each frame goes to all ports that may have it.
    apart.host.run("ip", "link", "set", "dev", bridge_of(apart), "type", "bridge", "ageing_time", "0")
    sniffer = Sniffer(j, "eth0")
    for protocol in ("tcp", "udp"):
        for address, seen in ((HOST4, "10.4.0.1"), ("2001:db8::2", "fd04::1"), ("fd04::1", "fd04::1")):
            for name in ("h", "i"):
                assert apart.host.netns(name).probe(address, 8087, protocol) == f"h {seen} 80"
    saw(sniffer, apart, "j")
    members = {raw(mac_of(apart.host.netns(name))) for name in ("h", "i")}
    assert [frame for frame in sniffer.seen if frame[6:12] in members] == []


def bridge_table(lab: Lab) -> list[dict[str, Any]]:
    """Return our table of family bridge, if there is one, without handles and counters."""
    found = []
    for one in lab.host.nft_json():
        ((kind, part),) = one.items()
        if part.get("family") != "bridge":
            continue
        part.pop("handle", None)
        if "elem" in part:
            part["elem"].sort(key=json.dumps)
        part["expr"] = [{} if "counter" in each else each for each in part.get("expr", [])]
        found.append({kind: part})
    return found


def handle(lab: Lab) -> int:
    """Return what tells our table of family inet from one that was loaded again."""
    return int(lab.host.nft_json("list", "table", "inet", "isthmus")[0]["table"]["handle"])


def test_the_table_is_there_as_long_as_a_network_has_isolated_ports(lab: Lab) -> None:
    up(lab.host, OPEN)
    assert bridge_table(lab) == []
    before = snapshot(lab.host)
    drive(lab.host, "do(create_network, network('more', '10.5.0.0/24', isolate_ports=True))")
    assert bridge_table(lab) != []
    drive(lab.host, "do(remove_network, 'more')")
    assert bridge_table(lab) == []
    assert snapshot(lab.host) == before


def test_ports_are_isolated_and_opened_while_members_are_on_them(lab: Lab, bridge_nf: int) -> None:
    assert bridge_nf in (0, 1)
    up(lab.host, OPEN)
    lab.host.netns("h").serve("h", 80)
    i = lab.host.netns("i")
    assert i.probe("10.4.0.2", 80) == "h 10.4.0.3 80"
    up(lab.host, TOPOLOGY)
    assert i.probe("10.4.0.2", 80, timeout=0.5) == "timed out"
    assert i.probe(HOST4, 8087) == "h 10.4.0.1 80"
    up(lab.host, OPEN)
    assert i.probe("10.4.0.2", 80) == "h 10.4.0.3 80"
    assert bridge_table(lab) == []


def test_a_member_that_the_file_does_not_name_is_isolated_with_the_others(lab: Lab, bridge_nf: int) -> None:
    assert bridge_nf in (0, 1)
    up(lab.host, OPEN)
    drive(lab.host, "do(create_namespace, 'z'); do(attach, AttachmentWish(network='n'), 'z')")
    lab.host.netns("h").serve("h", 80)
    z = lab.host.netns("z")
    assert z.probe("10.4.0.2", 80).startswith("h ")
    up(lab.host, TOPOLOGY)
    assert z.probe("10.4.0.2", 80, timeout=0.5) == "timed out"


def test_all_that_is_ours_goes_with_a_member_and_with_the_last_network(lab: Lab) -> None:
    up(lab.host, TOPOLOGY)
    ports = {name: port_of(lab, name) for name in ("h", "i", "j")}
    drive(lab.host, "do(detach, 'n', 'i')")
    text = json.dumps(bridge_table(lab))
    assert {name for name, port in ports.items() if port in text} == {"h", "j"}
    drive(lab.host, "do(down, 'apart'); reap(state_directory())")
    assert lab.host.nft_json() == []


RULES: Final = {
    "a chain flushed": "nft flush chain bridge isthmus between",
    "a rule added": "nft insert rule bridge isthmus forward accept",
    "a set deleted": "nft flush chain bridge isthmus between; nft delete set bridge isthmus members",
    "the policy changed": "nft add chain bridge isthmus forward '{ policy drop; }'",
    "the table deleted": "nft delete table bridge isthmus",
    "the table dormant": "nft add table bridge isthmus '{ flags dormant; }'",
    "all flushed": "nft flush ruleset",
}
ELEMENTS: Final = {
    "a set flushed": "nft flush set bridge isthmus apart",
    "an element deleted": "nft delete element bridge isthmus apart '{{ {port} }}'",
    "a member deleted": "nft delete element bridge isthmus members '{{ {port} . {mac} }}'",
}


@pytest.mark.parametrize("edit", RULES)
def test_a_foreign_edit_of_the_rules_is_seen_and_mended_by_any_verb(lab: Lab, edit: str) -> None:
    up(lab.host, TOPOLOGY)
    before, inet = bridge_table(lab), handle(lab)
    assert drive(lab.host, PLAN) == []
    lab.host.run("sh", "-ec", RULES[edit])
    planned = drive(lab.host, PLAN)
    assert "Ruleset ('ruleset', 'bridge')" in " ".join(planned)
    assert ("Ruleset ('ruleset', 'inet')" in " ".join(planned)) is (edit == "all flushed")
    (note,) = drive(lab.host, "out = entered()")
    tables = "table inet isthmus and table bridge isthmus" if edit == "all flushed" else "table bridge isthmus"
    assert note == f"somebody changed or flushed {tables}: it was loaded again"
    assert bridge_table(lab) == before
    assert (handle(lab) == inet) is (edit != "all flushed")


@pytest.mark.parametrize("edit", ELEMENTS)
def test_a_foreign_edit_of_the_elements_is_seen_and_mended_by_up(lab: Lab, edit: str) -> None:
    up(lab.host, TOPOLOGY)
    before = bridge_table(lab)
    lab.host.run("sh", "-ec", ELEMENTS[edit].format(port=port_of(lab, "i"), mac=mac_of(lab.host.netns("i"))))
    assert bridge_table(lab) != before
    assert drive(lab.host, PLAN) != []
    up(lab.host, TOPOLOGY)
    assert bridge_table(lab) == before


@pytest.mark.parametrize("edit", ["a set flushed", "an element deleted"])
def test_a_port_that_somebody_opened_is_closed_by_any_verb(lab: Lab, edit: str) -> None:
    up(lab.host, TOPOLOGY)
    before = bridge_table(lab)
    unnamed = lab.host.unnamed()
    drive(lab.host, f"do(attach, AttachmentWish(network='n'), '/proc/{unnamed.pid}/ns/net')")
    os.kill(unnamed.pid, signal.SIGKILL)
    wait_for(lambda: len(lab.host.ip_json("link", "show", "master", "n")) == 3, "the end of a namespace")
    lab.host.run("sh", "-ec", ELEMENTS[edit].format(port=port_of(lab, "i"), mac=mac_of(lab.host.netns("i"))))
    assert drive(lab.host, "out = entered()") == ["somebody changed what the firewall's sets hold: it was put back"]
    apart, wanted = (
        [one["set"] for one in table if one.get("set", {}).get("name") == "apart"]
        for table in (bridge_table(lab), before)
    )
    assert set(apart[0]["elem"]) >= set(wanted[0]["elem"])


def test_a_foreign_element_is_taken_away_by_any_verb(lab: Lab) -> None:
    up(lab.host, TOPOLOGY)
    before = bridge_table(lab)
    lab.host.run("nft", "add element bridge isthmus apart { other0 }")
    assert drive(lab.host, PLAN) == ["Remove Element ('element', 'apart', ('other0',))"]
    assert drive(lab.host, "out = entered()") == ["somebody changed what the firewall's sets hold: it was put back"]
    assert bridge_table(lab) == before


# A kernel that has no nf_tables of family bridge: nft is told so.
OLDER_NFT: Final = """#!/bin/sh
text=$(mktemp); cat > "$text"
if grep -q '^table bridge' "$text"; then
    echo 'Error: Could not process rule: Operation not supported'; rm "$text"; exit 1
fi
exec 8<"$text"; rm "$text"; exec {real} "$@" <&8
"""


@pytest.fixture
def without_bridge_family(lab: Lab, tmp_path: Path) -> Lab:
    real = tmp_path / "nft"
    lab.host.run("cp", "/usr/sbin/nft", str(real))
    stub = tmp_path / "stub"
    stub.write_text(OLDER_NFT.format(real=real))
    stub.chmod(0o755)
    lab.host.run("mount", "--bind", str(stub), os.path.realpath("/usr/sbin/nft"))
    with pytest.raises(AssertionError):
        assert lab.host.run(str(real), "list", "tables").stdout
    return lab


def test_without_the_bridge_family_the_kernels_flag_isolates(without_bridge_family: Lab, tmp_path: Path) -> None:
    lab = without_bridge_family
    for name in ("bridge-nf-call-iptables", "bridge-nf-call-ip6tables"):
        lab.host.run("sh", "-c", f"! test -d /proc/sys/net/bridge || sysctl -w net.bridge.{name}=0")
    up(lab.host, TOPOLOGY)
    real = str(tmp_path / "nft")
    assert lab.host.run(real, "list", "tables").stdout == "table inet isthmus\n"
    ports = lab.host.ip_json("link", "show", "master", "n")
    assert {one["linkinfo"]["info_slave_data"]["isolated"] for one in ports} == {True}
    lab.host.netns("h").serve("h", 80)
    i = lab.host.netns("i")
    assert i.probe("10.4.0.2", 80, timeout=0.5) == "timed out"
    assert i.probe(HOST4, 8087) == "h 10.4.0.1 80"
    assert drive(lab.host, PLAN) == []
    state = lab.host.path / "state"
    for file in state.glob("state.db*"):
        file.unlink()
    drive(lab.host, "from isthmus.engine import rebuild, repair; rebuild(); do(repair)")
    assert drive(
        lab.host, "HOST = Host(writable=False); out = do(lambda host: host.record().networks['n'].isolate_ports)"
    )
    assert drive(lab.host, PLAN) == []


def test_what_the_flag_isolated_is_taken_over_without_a_gap(lab: Lab) -> None:
    up(lab.host, TOPOLOGY)
    drive(lab.host, "with HOST: HOST.db.set_meta('version', 'older')")
    for name in ("h", "i", "j"):  # as an older isthmus left it
        lab.host.run("bridge", "link", "set", "dev", port_of(lab, name), "isolated", "on")
    lab.host.run("nft", "delete", "table", "bridge", "isthmus")
    steps = drive(lab.host, PLAN)
    assert list(dict.fromkeys(step.split()[1] for step in steps)) == ["Ruleset", "Element", "Veth"]
    up(lab.host, TOPOLOGY)
    assert {
        one["linkinfo"]["info_slave_data"]["isolated"] for one in lab.host.ip_json("link", "show", "master", "n")
    } == {False}
    assert drive(lab.host, PLAN) == []


ON_THE_LAN: Final = """
do(create_network, NetworkWish(name='lan0', uplink='nic', nic='eth0', isolate_ports=True), confirm_within=0)
for number, name in ((101, 'h'), (102, 'i')):
    do(create_namespace, name)
    do(attach, AttachmentWish(network='lan0', ips=(Address.parse(f'203.0.113.{number}'),)), name)
"""


def test_members_of_a_lan_reach_all_of_it_but_each_other(lab: Lab, bridge_nf: int) -> None:
    assert bridge_nf in (0, 1)
    drive(lab.host, ON_THE_LAN)
    h, i = lab.host.netns("h"), lab.host.netns("i")
    for place in (h, i):
        assert place.pings(LAN4)
        assert place.pings(HOST4)
    assert lab.lan.pings("203.0.113.101")
    assert not h.pings("203.0.113.102", timeout=1)
    drive(lab.host, "do(detach, 'lan0', 'h'); do(detach, 'lan0', 'i')")
    drive(lab.host, "do(remove_network, 'lan0', confirm_within=0)")
    assert bridge_table(lab) == []
