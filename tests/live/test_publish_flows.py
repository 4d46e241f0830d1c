"""Published ports over time: flows follow, other flows stay, ports are chosen and refused."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from typing import Final

import pytest
from tests.live.driving import EngineRefused, conntrack, drive, end, up

from isthmus.testing import HOST4, HOST6, LAN4, LAN6, Lab, Place

TOPOLOGY: Final = """
name: flows
networks:
  br0: {subnets: [10.9.0.0/24, "fd09::/64"]}
namespaces:
  a: {networks: [br0]}
  b: {networks: [br0]}
"""
# One socket that keeps its port: each line on stdin is sent, the answer or "silence" printed.
CLIENT: Final = """
import socket, sys
kind = socket.SOCK_STREAM if sys.argv[3] == "tcp" else socket.SOCK_DGRAM
sock = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET, kind)
sock.settimeout(5)
if kind == socket.SOCK_DGRAM:
    sock.bind(("", 5555))
sock.connect((sys.argv[1], int(sys.argv[2])))
print("ready", flush=True)
for line in sys.stdin:
    sock.settimeout(float(line))
    try:
        sock.send(b"who\\n")
        print(sock.recv(100).decode().strip(), flush=True)
    except TimeoutError:
        print("silence", flush=True)
    except ConnectionError as error:
        print(type(error).__name__, flush=True)
"""


class Client:
    """A client whose flow stays the same from question to question."""

    def __init__(self, place: Place, address: str, port: int, protocol: str = "udp") -> None:
        self.process = place.spawn(sys.executable, "-I", "-S", "-c", CLIENT, address, str(port), protocol)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def ask(self, *, timeout: float = 5.0) -> str:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{timeout}\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def is_silenced(self) -> bool:
        return self.ask(timeout=0.5) in ("silence", "ConnectionRefusedError")


@pytest.fixture
def flows(lab: Lab, bridge_nf: int) -> Lab:
    assert bridge_nf in (0, 1)
    up(lab.host, TOPOLOGY)
    for name in ("a", "b"):
        lab.host.netns(name).serve(name, 80, 81)
    lab.lan.serve("lan", 53, 80, 9000)
    return lab


def publish(lab: Lab, target: str, spec: str) -> None:
    drive(lab.host, f"do(publish, {target!r}, port({spec!r}))")


def unpublish(lab: Lab, target: str, spec: str, *, cut: bool = False) -> None:
    drive(lab.host, f"do(unpublish, {target!r}, port({spec!r}), cut={cut})")


@pytest.mark.parametrize("address", [HOST4, "2001:db8::2"])
@pytest.mark.parametrize("spec", ["53:80/udp", "{address}:53:80/udp"])
def test_a_udp_flow_follows_at_once(flows: Lab, address: str, spec: str) -> None:
    spec = spec.format(address=f"[{address}]" if ":" in address else address)
    peer = LAN6 if ":" in address else LAN4
    host_server = flows.host.serve("host", 53, protocols=("udp",))
    client = Client(flows.lan, address, 53)
    assert client.ask() == f"host {peer} 53"
    end(host_server)

    publish(flows, "a", spec)
    assert client.ask() == f"a {peer} 80"

    # Moved in one call to another namespace: withdrawn there and published here.
    unpublish(flows, "a", spec)
    publish(flows, "b", spec)
    assert client.ask() == f"b {peer} 80"

    flows.host.serve("host", 53, protocols=("udp",))
    unpublish(flows, "b", spec)
    assert client.ask() == f"host {peer} 53"


def test_a_declaration_moves_a_udp_port_in_one_call(flows: Lab) -> None:
    up(flows.host, TOPOLOGY.replace("  a: {networks: [br0]}", '  a: {networks: [br0], publish: ["53:80/udp"]}'))
    client = Client(flows.lan, HOST4, 53)
    assert client.ask() == f"a {LAN4} 80"
    up(flows.host, TOPOLOGY.replace("  b: {networks: [br0]}", '  b: {networks: [br0], publish: ["53:80/udp"]}'))
    assert client.ask() == f"b {LAN4} 80"


def test_a_declared_port_of_a_namespace_that_goes_is_free(lab: Lab) -> None:
    text = (
        "name: moves\nnetworks: {n: {subnet: 10.1.0.0/24}}\nnamespaces: {%s: {networks: [n], publish: ['8081:80']}}\n"
    )
    for name in ("a", "b"):
        up(lab.host, text % name)
        (only,) = ports(lab)
        assert only.startswith(f"{name} 8081:80/tcp")


def test_exactly_the_entries_of_a_withdrawn_port_are_deleted(flows: Lab) -> None:
    publish(flows, "a", "53:80/udp")
    publish(flows, "b", "54:80/udp")
    flows.host.serve("host", 7001)
    outward = Client(flows.host.netns("a"), LAN4, 53)
    assert outward.ask() == f"lan {HOST4} 53"
    assert Client(flows.host, LAN4, 53).ask() == f"lan {HOST4} 53"
    assert Client(flows.lan, HOST4, 53).ask() == f"a {LAN4} 80"
    assert flows.lan.probe(HOST4, 54, "udp") == f"b {LAN4} 80"
    assert flows.lan.probe(HOST4, 7001, "udp") == f"host {LAN4} 7001"
    doomed = conntrack(flows.host, "-p", "udp", "--orig-dst", HOST4, "--orig-port-dst", "53")
    before = conntrack(flows.host)
    assert len(doomed) == 1

    unpublish(flows, "a", "53:80/udp")

    assert conntrack(flows.host) == [entry for entry in before if entry not in doomed]


def test_a_container_s_own_flow_to_the_same_port_outside_goes_on(flows: Lab) -> None:
    client = Client(flows.host.netns("a"), LAN4, 53)
    assert client.ask() == f"lan {HOST4} 53"
    before = conntrack(flows.host, "-p", "udp")
    publish(flows, "b", "53:80/udp")
    assert conntrack(flows.host, "-p", "udp") == before
    unpublish(flows, "b", "53:80/udp")
    assert conntrack(flows.host, "-p", "udp") == before
    assert client.ask() == f"lan {HOST4} 53"


def test_established_tcp_goes_on_through_a_withdrawn_publish(flows: Lab) -> None:
    publish(flows, "a", "8080:80")
    client = Client(flows.lan, HOST4, 8080, "tcp")
    assert client.ask() == f"a {LAN4} 80"
    unpublish(flows, "a", "8080:80")
    assert client.ask() == f"a {LAN4} 80"
    assert flows.lan.probe(HOST4, 8080) == "refused"


def test_cut_ends_established_tcp(flows: Lab) -> None:
    publish(flows, "a", "8080:80")
    publish(flows, "b", "8081:80")
    client, other = Client(flows.lan, HOST4, 8080, "tcp"), Client(flows.lan, HOST4, 8081, "tcp")
    assert client.ask() == f"a {LAN4} 80"
    assert other.ask() == f"b {LAN4} 80"
    unpublish(flows, "a", "8080:80", cut=True)
    assert client.ask(timeout=1) in ("silence", "ConnectionResetError")
    assert other.ask() == f"b {LAN4} 80"


def test_other_connections_are_not_disturbed_while_a_port_changes(flows: Lab) -> None:
    publish(flows, "a", "8080:80")
    publish(flows, "a", "53:80/udp")
    clients = [
        Client(flows.lan, HOST4, 8080, "tcp"),
        Client(flows.lan, HOST4, 53),
        Client(flows.host.netns("a"), LAN4, 9000, "tcp"),
        Client(flows.host.netns("b"), "10.9.0.2", 80, "tcp"),
    ]
    answers = [client.ask() for client in clients]
    assert answers == [f"a {LAN4} 80", f"a {LAN4} 80", f"lan {HOST4} 9000", "a 10.9.0.3 80"]
    changes: list[Callable[[], None]] = [
        lambda: publish(flows, "b", "8081:80"),
        lambda: publish(flows, "b", "54:80/udp"),
        lambda: unpublish(flows, "b", "54:80/udp"),
        lambda: unpublish(flows, "b", "8081:80"),
    ]
    for change in changes:
        change()
        assert [client.ask() for client in clients] == answers


def test_detach_forgets_all_of_a_freed_address(flows: Lab) -> None:
    publish(flows, "a", "8080:80")
    assert flows.lan.probe(HOST4, 8080) == f"a {LAN4} 80"
    assert flows.host.netns("a").probe(LAN4, 9000, "udp") == f"lan {HOST4} 9000"
    assert flows.host.netns("a").probe(LAN6, 9000) == "lan 2001:db8::2 9000"
    assert flows.host.netns("b").probe(LAN4, 9000) == f"lan {HOST4} 9000"
    assert flows.host.netns("b").probe(LAN6, 9000) == "lan 2001:db8::2 9000"
    of_b = [entry for family in ("ipv4", "ipv6") for entry in conntrack(flows.host, "-f", family) if is_of_b(entry)]
    assert len(of_b) == 2

    drive(flows.host, "do(detach, 'br0', 'a'); reap(state_directory())")

    left = [entry for family in ("ipv4", "ipv6") for entry in conntrack(flows.host, "-f", family)]
    assert [entry for entry in left if "10.9.0.2 " in entry or "fd09::2 " in entry] == []
    assert [entry for entry in left if is_of_b(entry)] == of_b


def is_of_b(entry: str) -> bool:
    return "10.9.0.3 " in entry or "fd09::3 " in entry


def test_a_range_maps_one_to_one(flows: Lab) -> None:
    a = flows.host.netns("a")
    a.serve("range", *range(7200, 7220))
    publish(flows, "a", "7100-7119:7200-7219")
    publish(flows, "a", "7100-7119:7200-7219/udp")
    for protocol in ("tcp", "udp"):
        answers = [flows.lan.probe(HOST4, port, protocol) for port in range(7100, 7120)]
        assert answers == [f"range {LAN4} {port}" for port in range(7200, 7220)]
    assert flows.lan.probe(HOST4, 7120) == "refused"
    unpublish(flows, "a", "7100-7119:7200-7219")
    assert flows.lan.probe(HOST4, 7105) == "refused"
    assert flows.lan.probe(HOST4, 7105, "udp") == f"range {LAN4} 7205"


def chosen(lab: Lab) -> int:
    port: int = drive(lab.host, "row, _ = do(publish, 'a', PublishWish(port=80)); out = row.host_port")
    return port


def test_the_next_free_port_is_neither_ephemeral_nor_reserved_nor_taken(lab: Lab) -> None:
    up(lab.host, TOPOLOGY)
    lab.host.netns("a").serve("a", 80)
    lab.host.sysctl("net/ipv4/ip_local_port_range", "1024 65000")
    lab.host.sysctl("net/ipv4/ip_local_reserved_ports", "65001-65003,65006")
    lab.host.serve("host", 65004)
    drive(lab.host, "do(publish, 'b', port('65005:80'))")
    assert chosen(lab) == 65007
    assert lab.lan.probe(HOST4, 65007) == f"a {LAN4} 80"


def test_a_port_of_the_ephemeral_range_is_not_chosen_when_the_rest_is_full(lab: Lab) -> None:
    up(lab.host, TOPOLOGY)
    lab.host.sysctl("net/ipv4/ip_local_port_range", "20000 65535")
    lab.host.sysctl("net/ipv4/ip_local_reserved_ports", "1024-19990")
    assert chosen(lab) == 19991


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
@pytest.mark.parametrize("bound", ["", "127.0.0.1", HOST4, "::1"])
def test_a_port_that_a_process_holds_is_refused_with_its_name(lab: Lab, protocol: str, bound: str) -> None:
    up(lab.host, TOPOLOGY)
    server = lab.host.serve("holder", 8080, address=bound, protocols=(protocol,))
    with pytest.raises(EngineRefused) as caught:
        publish(lab, "a", f"8080:80/{protocol}")
    program = program_of(server)
    assert str(caught.value).startswith(f"Refused: host port 8080/{protocol} is taken by {program} (pid {server.pid})")
    end(server)
    publish(lab, "a", f"8080:80/{protocol}")


def test_of_two_that_hold_a_port_the_one_of_that_address_is_named(lab: Lab) -> None:
    up(lab.host, TOPOLOGY)
    held = {address: lab.host.serve("holder", 7100, address=address).pid for address in ("127.0.0.1", HOST4, HOST6)}
    for address, pid in held.items():
        shown = f"[{address}]" if ":" in address else address
        with pytest.raises(EngineRefused, match=rf"taken by .* \(pid {pid}\)"):
            publish(lab, "a", f"{shown}:7100:80")


def program_of(process: subprocess.Popen[str]) -> str:
    with open(f"/proc/{process.pid}/comm", encoding="utf-8") as file:
        return file.read().strip()


def test_a_port_held_on_another_address_or_protocol_is_free(lab: Lab) -> None:
    up(lab.host, TOPOLOGY)
    lab.host.netns("a").serve("a", 80)
    lab.host.serve("host", 8080, address="127.0.0.1", protocols=("tcp",))
    publish(lab, "a", f"{HOST4}:8080:80")
    publish(lab, "a", "8080:80/udp")
    assert lab.lan.probe(HOST4, 8080) == f"a {LAN4} 80"
    assert lab.host.probe("127.0.0.1", 8080) == "host 127.0.0.1 8080"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("8080:80", "8080:81"),
        ("8080:80", f"{HOST4}:8080:81"),
        (f"{HOST4}:8080:80", "8080:81"),
        ("127.0.0.1:8080:80", "8080:81"),
        ("8000-8100:100-200", "8080:81"),
        ("8080:80", "8000-8100:100-200"),
    ],
)
def test_a_port_that_another_publishes_is_refused_with_its_name(lab: Lab, first: str, second: str) -> None:
    up(lab.host, TOPOLOGY)
    publish(lab, "a", first)
    with pytest.raises(EngineRefused, match=r"^Refused: host port .* is taken: a publishes "):
        publish(lab, "b", second)


def test_a_direct_link_hides_nothing_of_what_its_far_end_publishes(lab: Lab) -> None:
    up(lab.host, TOPOLOGY)
    lab.host.isthmus("connect", "a", "b")
    publish(lab, "a", "8080:80")
    with pytest.raises(EngineRefused, match=r"^Refused: host port .* is taken: a publishes "):
        publish(lab, "b", "8080:81")
    for name in ("a", "b"):
        publish(lab, name, "82")
    assert len({one.split()[1].split(":")[0] for one in ports(lab)}) == 3


def test_publishes_that_do_not_overlap_stand_side_by_side(lab: Lab) -> None:
    up(lab.host, TOPOLOGY)
    for name in ("a", "b"):
        lab.host.netns(name).serve(name, 80)
    publish(lab, "a", f"{HOST4}:8080:80")
    publish(lab, "b", "203.0.113.3:8080:80")
    publish(lab, "b", "127.0.0.1:8080:80")
    assert lab.lan.probe(HOST4, 8080) == f"a {LAN4} 80"
    assert lab.lan.probe("203.0.113.3", 8080) == f"b {LAN4} 80"
    assert lab.host.probe("127.0.0.1", 8080) == "b 10.9.0.1 80"
    with pytest.raises(EngineRefused, match="b publishes no such port"):
        unpublish(lab, "b", "8080:80")
    unpublish(lab, "b", "127.0.0.1:8080:80")
    assert ports(lab) == [f"a {HOST4}:8080:80/tcp 10.9.0.2:80", "b 203.0.113.3:8080:80/tcp 10.9.0.3:80"]


def ports(lab: Lab) -> list[str]:
    found = json.loads(lab.host.isthmus("ls", "--format", "json").stdout)["ports"]
    return [f"{one['namespace']} {one['spec']} {' '.join(one['targets'])}" for one in found]


def test_members_of_a_routed_network_publish_the_same_port_each_its_own(lab: Lab) -> None:
    up(
        lab.host,
        "name: same\n"
        "networks: {n: {subnet: 10.1.0.0/24}, r: {subnet: 10.2.0.0/24, uplink: routed}}\n"
        "namespaces:\n"
        '  a: {networks: [n], publish: ["80:80"]}\n'
        '  b: {networks: [r], publish: ["80:80"]}\n'
        "  c: {networks: [r]}\n",
    )
    publish(lab, "c", "80:80")
    assert ports(lab) == ["a 80:80/tcp 10.1.0.2:80", "b 80:80/tcp 10.2.0.2:80", "c 80:80/tcp 10.2.0.3:80"]
    for name in ("a", "b", "c"):
        lab.host.netns(name).serve(name, 80)
    lab.lan.run("ip", "route", "add", "10.2.0.0/24", "via", HOST4)
    assert lab.lan.probe(HOST4, 80) == f"a {LAN4} 80"
    assert [lab.lan.probe(one, 80) for one in ("10.2.0.2", "10.2.0.3")] == [f"b {LAN4} 80", f"c {LAN4} 80"]

    with pytest.raises(EngineRefused, match="host port 80/tcp is taken: b publishes 80:80/tcp"):
        publish(lab, "b", "80:80")
    unpublish(lab, "c", "80:80", cut=True)

    assert ports(lab) == ["a 80:80/tcp 10.1.0.2:80", "b 80:80/tcp 10.2.0.2:80"]
    assert lab.lan.probe("10.2.0.2", 80) == f"b {LAN4} 80"
    assert drive(lab.host, "out = steps(do(repair))") == []


@pytest.mark.parametrize("host", ["127.0.0.1", HOST4])
def test_a_port_of_a_routed_network_is_published_at_the_namespace_s_own_address_alone(lab: Lab, host: str) -> None:
    """Else what was meant for the host, or one address of it, would be open to the LAN."""
    networks = "networks: {n: {subnet: 10.1.0.0/24}, r: {subnet: 10.2.0.0/24, uplink: routed}}\n"
    file = lab.host.path / "r.yaml"
    file.write_text(f"{networks}namespaces:\n  a: {{networks: [r], publish: ['{host}:91:91']}}\n")
    done = lab.host.isthmus("up", str(file), check=False)
    assert f"r.yaml:3:32: namespaces.a.publish[0]: '{host}:91:91/tcp': network r is routed" in done.stderr
    file.write_text(f"{networks}namespaces: {{a: {{networks: [n, r]}}}}\n")
    lab.host.isthmus("up", str(file))
    for argv in (("publish", "a", f"{host}:91:91", "--network", "r"), ("publish", "a", f"{host}:91-92:91-92")):
        done = lab.host.isthmus(*argv, check=False)
        assert "network r is routed: there a published address is the container's own" in done.stderr
        assert f"hint: write {argv[2].removeprefix(f'{host}:')}/tcp" in done.stderr
        lab.host.isthmus("detach", "n", "a", check=False)  # the second is led by the default route
    assert ports(lab) == []
    # What leads to a translated network by the default route goes with that.
    lab.host.isthmus("attach", "n", "a", "--default-route", "-p", f"{host}:91:91")
    lab.host.isthmus("detach", "n", "a")
    assert ports(lab) == []


def test_a_publish_of_an_older_state_file_is_found_and_withdrawn(flows: Lab) -> None:
    publish(flows, "a", "8080:80")
    with closing(sqlite3.connect(flows.host.path / "state" / "state.db")) as db:
        db.executescript("UPDATE publishes SET id = '8080/tcp'; ALTER TABLE borrowed DROP COLUMN switched;")
        db.execute("PRAGMA user_version = 3")
    with pytest.raises(EngineRefused, match="host port 8080/tcp is taken: a publishes 8080:80/tcp"):
        publish(flows, "b", "8080:81")
    unpublish(flows, "a", "8080:80")
    assert ports(flows) == []
    assert drive(flows.host, "out = steps(do(repair))") == []
