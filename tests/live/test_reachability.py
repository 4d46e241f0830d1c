"""The matrix of reachability.yaml, and what only raw packets can ask."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from tests.live.driving import Sniffer, send_frame, udp_frame, up

from isthmus.testing import LAN4, Lab, Place

MATRIX: Final[dict[str, Any]] = yaml.safe_load(Path(__file__).with_name("reachability.yaml").read_text())
ROWS: Final[list[tuple[str, str, str, int, str]]] = [tuple(row) for row in MATRIX["rows"]]
SUBNETS4: Final = [f"10.{number}.0.0/24" for number in range(4, 10)]
SUBNETS6: Final = [f"fd0{number}::/64" for number in range(4, 10)]
# A refusal of neighbour discovery takes the kernel three seconds; a packet that is dropped is not waited for so long.
TIMEOUT_S: Final = {"unreachable": 8.0, "timed out": 1.0}


class World:
    """The topology, and what each row of the matrix got."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        lab.host.run("ip", "addr", "add", "2001:db8::3/64", "dev", "eth0", "nodad", "preferred_lft", "0")
        routes = [f"route add {subnet} via 203.0.113.2" for subnet in SUBNETS4]
        routes += [f"-6 route add {subnet} via 2001:db8::2" for subnet in SUBNETS6]
        for line in routes:
            lab.lan.run("ip", *line.split())
        up(lab.host, MATRIX["topology"])
        self.place("f").run("ip", "route", "add", "default", "via", "10.6.0.1")
        self.place("f").run("ip", "-6", "route", "add", "default", "via", "fd06::1")
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda item: self.place(item[0]).serve(item[0], *item[1]), MATRIX["servers"].items()))
            # The patient ones first.
            order = sorted(ROWS, key=lambda row: -TIMEOUT_S.get(row[4], 0))
        with ThreadPoolExecutor(24) as pool:
            self.answers = dict(zip(order, pool.map(self.ask, order), strict=True))

    def place(self, name: str) -> Place:
        if name in ("lan", "host"):
            place: Place = getattr(self.lab, name)
            return place
        return self.lab.host.netns(name)

    def ask(self, row: tuple[str, str, str, int, str]) -> str:
        source, protocol, address, port, expected = row
        if protocol == "ping":
            wait_s = 1 if expected == "silent" else 5
            return "answered" if self.place(source).pings(address, timeout=wait_s) else "silent"
        return self.place(source).probe(address, port, protocol, timeout=TIMEOUT_S.get(expected, 5.0))


@pytest.fixture(scope="module", params=[0, 1], ids=["nf0", "nf1"])
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with Lab(tmp_path_factory.mktemp("reachability")) as lab:
        if lab.host.run("test", "-d", "/proc/sys/net/bridge", check=False).returncode == 0:
            for name in ("bridge-nf-call-iptables", "bridge-nf-call-ip6tables"):
                lab.host.sysctl(f"net/bridge/{name}", request.param)
        elif request.param:
            pytest.skip("br_netfilter: the kernel lacks it, or it is not loaded")
        yield World(lab)


@pytest.mark.parametrize("row", ROWS, ids=[f"{row[0]}-{row[1]}-{row[2]}-{row[3]}" for row in ROWS])
def test_reachability(world: World, row: tuple[str, str, str, int, str]) -> None:
    assert world.answers[row] == row[4]


def test_the_matrix_has_no_row_twice() -> None:
    assert len({row[:4] for row in ROWS}) == len(ROWS) >= 60


def crc32c(data: bytes) -> int:
    """RFC 9260 appendix A: the checksum of SCTP."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def sctp_init(source_port: int, port: int) -> bytes:
    """A packet with an INIT chunk (RFC 9260 section 3.3.2)."""
    chunk = struct.pack(">BBHIIHHI", 1, 0, 20, 0xC0FFEE, 65536, 1, 1, 1)
    header = struct.pack(">HHI", source_port, port, 0)
    return header + struct.pack("<I", crc32c(header + bytes(4) + chunk)) + chunk


RAW_SENDER: Final = """
import socket, sys
family, protocol = (socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET), int(sys.argv[2])
sock = socket.socket(family, socket.SOCK_RAW, protocol)
sock.sendto(bytes.fromhex(sys.argv[3]), (sys.argv[1], 0))
"""


@pytest.mark.parametrize(
    ("source", "address", "seen"),
    [
        ("lan", "203.0.113.2", LAN4),
        ("lan", "2001:db8::2", "2001:db8::9"),
        ("host", "127.0.0.1", "10.9.0.1"),
        ("c", "203.0.113.2", "10.8.0.2"),
    ],
)
def test_sctp_is_translated(world: World, source: str, address: str, seen: str) -> None:
    sniffer = Sniffer(world.place("a"), "eth0")
    packet = sctp_init(7777, 8084)
    world.place(source).python(RAW_SENDER, address, "132", packet.hex())
    frame = sniffer.wait(lambda frame: is_of(frame, 132))
    assert frame is not None
    length, family, at = (54, socket.AF_INET6, 22) if frame[12:14] == b"\x86\xdd" else (34, socket.AF_INET, 26)
    received = frame[length:]
    assert socket.inet_ntop(family, frame[at : at + (16 if length == 54 else 4)]) == seen
    assert struct.unpack(">H", received[2:4])[0] == 80
    assert received[12:] == packet[12:]


def is_of(frame: bytes, protocol: int, port: int | None = None) -> bool:
    """Tell whether a frame holds this protocol (and goes to this port)."""
    start, number = (54, frame[20]) if frame[12:14] == b"\x86\xdd" else (34, frame[23])
    if frame[12:14] not in (b"\x08\x00", b"\x86\xdd") or number != protocol:
        return False
    return port is None or int.from_bytes(frame[start + 2 : start + 4], "big") == port


def marks(frames: list[bytes]) -> set[bytes]:
    """The texts of the datagrams among frames that this file sent."""
    return {frame[42:] for frame in frames if frame[42:47] == b"mark "}


@pytest.mark.parametrize(("source", "target"), [(LAN4, "127.0.0.1"), ("127.0.0.1", "203.0.113.2")])
def test_loopback_addresses_from_the_wire_reach_no_container(world: World, source: str, target: str) -> None:
    (link,) = world.lab.host.ip_json("link", "show", "eth0")
    sniffer = Sniffer(world.place("a"), "eth0")
    port = 8083 if target == "127.0.0.1" else 8080
    forged = udp_frame(link["address"], source, target, 5001, port, b"mark forged")
    honest = udp_frame(link["address"], LAN4, "203.0.113.2", 5002, 8080, b"mark honest")
    send_frame(world.lab.lan, "eth0", forged, honest)
    assert sniffer.wait(lambda frame: frame[42:] == b"mark honest") is not None
    assert marks(sniffer.seen) == {b"mark honest"}


RECEIVER: Final = """
import socket, sys
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind(("0.0.0.0", 7002))
print("ready", flush=True)
while True:
    print(sock.recv(100).decode(), flush=True)
"""


@pytest.mark.parametrize(("source", "target"), [(LAN4, "127.0.0.1"), ("127.0.0.1", "203.0.113.2")])
@pytest.mark.parametrize("wire", ["lan", "a"])
def test_loopback_addresses_from_a_wire_reach_no_service_of_the_host(
    world: World, source: str, target: str, wire: str
) -> None:
    host = world.lab.host
    ifname = {"lan": "eth0", "a": "br0"}[wire]
    # The worst case: the kernel itself would take such packets.
    before = host.sysctl(f"net/ipv4/conf/{ifname}/route_localnet")
    host.sysctl(f"net/ipv4/conf/{ifname}/route_localnet", 1)
    (link,) = host.ip_json("link", "show", ifname)
    honest_source, honest_target = (LAN4, "203.0.113.2") if wire == "lan" else ("10.9.0.2", "10.9.0.1")
    receiver = host.spawn("python3", "-I", "-S", "-c", RECEIVER)
    assert receiver.stdout is not None
    assert receiver.stdout.readline() == "ready\n"
    forged = udp_frame(link["address"], source.replace(LAN4, honest_source), target, 5003, 7002, b"mark forged")
    honest = udp_frame(link["address"], honest_source, honest_target, 5004, 7002, b"mark honest")
    send_frame(world.place(wire), "eth0", forged, honest)
    assert receiver.stdout.readline() == "mark honest\n"
    receiver.kill()
    receiver.wait()
    host.sysctl(f"net/ipv4/conf/{ifname}/route_localnet", before)
