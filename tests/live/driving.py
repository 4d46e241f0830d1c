"""The engine, driven inside a lab's host, and packets that no socket would send.

Each call is a process of its own there, as a command is: what it returns is what the source left in `out`.
"""

from __future__ import annotations

import json
import os
import selectors
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any, Final

from isthmus.testing import Host, Place

__all__ = [
    "DEADLINE_S",
    "EngineRefused",
    "Sniffer",
    "conntrack",
    "drive",
    "end",
    "send_frame",
    "udp_frame",
    "up",
    "wait_for",
]

DEADLINE_S: Final = 10.0

_PRELUDE: Final = """
import json, os, sys, time
from isthmus.engine import *
from isthmus.errors import IsthmusError
from isthmus.model.address import Address, Mac, Prefix
from isthmus.model.declared import *
from isthmus.planner.desired import EVERYTHING
from isthmus.store.lock import state_directory

def network(name, *subnets, **more):
    return NetworkWish(name=name, subnets=tuple(map(Prefix.parse, subnets)), **more)

def port(text, **more):
    from isthmus.declare.words import publish as parse
    return parse(text, "publish").replace(**more)

def load_text(text):
    from isthmus.declare.file import loads
    return loads(text, "declared.yaml")

def steps(report):
    return [f"{type(step).__name__} {type(step.item).__name__} {step.item.key}" for step in report.plan.steps]

HOST = Host()

def do(verb, *args, **kwargs):
    with HOST:
        return verb(HOST, *args, **kwargs)

def entered():
    with HOST:
        return list(HOST.notes)

out = None
try:
    exec(sys.argv[1])
except IsthmusError as error:
    print(f"{type(error).__name__}: {error}; {error.hint}", file=sys.stderr)
    sys.exit(3)
print("out:" + json.dumps(out))
"""


class EngineRefused(AssertionError):
    """Carries the class and the words of an error of the engine."""


def drive(host: Host, source: str, *, before: tuple[str, ...] = ()) -> Any:
    """Run source in the prelude's world inside the host, and return its `out`; `before` is put before the program.

    Raises:
        EngineRefused: an IsthmusError ended it.
    """
    done = host.run(*before, sys.executable, "-c", _PRELUDE, source, check=False)
    if done.returncode == 3:
        raise EngineRefused(done.stderr.strip())
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.rpartition("out:")[2])


def up(host: Host, text: str) -> list[str]:
    """Bring a declared text up and return the steps that it took."""
    steps: list[str] = drive(host, f"out = steps(do(up, load_text({text!r})))")
    return steps


def wait_for(condition: Callable[[], bool], what: str) -> None:
    """Ask again and again until it is true.

    Raises:
        TimeoutError: it was not within ten seconds.
    """
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {DEADLINE_S} s")


def conntrack(host: Host, *filters: str) -> list[str]:
    """Return the connection-tracking entries that match, one a line, without their changing parts."""
    lines = host.run("conntrack", "-L", *filters, check=False).stdout.splitlines()
    return sorted(" ".join(part for part in line.split() if "=" in part) for line in lines)


_SNIFFER: Final = r"""
import socket, sys
sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
sock.bind((sys.argv[1], 0))
print("ready", flush=True)
while True:
    data, address = sock.recvfrom(65536)
    print(address[2], data.hex(), flush=True)
"""

_SENDER: Final = r"""
import socket, sys
sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
sock.bind((sys.argv[1], 0))
for frame in sys.argv[2:]:
    sock.send(bytes.fromhex(frame))
"""


class Sniffer:
    """Frames that come to a link from when this is made; frames that leave by it are left out."""

    def __init__(self, place: Place, ifname: str) -> None:
        argv = (sys.executable, "-I", "-S", "-c", _SNIFFER, ifname)
        self._process = place.spawn(*argv)
        assert self._process.stdout is not None
        self._stdout = self._process.stdout.fileno()
        self._rest = b""
        self.seen: list[bytes] = []
        line = self._line(time.monotonic() + DEADLINE_S)
        assert line == b"ready", line

    def _line(self, deadline: float) -> bytes | None:
        while b"\n" not in self._rest:
            with selectors.DefaultSelector() as selector:
                selector.register(self._stdout, selectors.EVENT_READ)
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    return None
            data = os.read(self._stdout, 65536)
            if not data:
                return None
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        return line

    def wait(self, wanted: Callable[[bytes], bool]) -> bytes | None:
        """Return the first frame that fits, or None when none came in ten seconds; all are kept in `seen`."""
        deadline = time.monotonic() + DEADLINE_S
        while (line := self._line(deadline)) is not None:
            kind, _, text = line.partition(b" ")
            if kind == b"4":  # PACKET_OUTGOING
                continue
            frame = bytes.fromhex(text.decode())
            self.seen.append(frame)
            if wanted(frame):
                return frame
        return None


def send_frame(place: Place, ifname: str, *frames: bytes) -> None:
    """Send whole Ethernet frames by a link."""
    place.run(sys.executable, "-I", "-S", "-c", _SENDER, ifname, *(frame.hex() for frame in frames))


def udp_frame(target_mac: str, source: str, target: str, source_port: int, port: int, data: bytes) -> bytes:
    """An Ethernet frame with a datagram, whatever its addresses; without a UDP checksum, which IPv4 allows."""
    udp = struct.pack(">HHHH", source_port, port, 8 + len(data), 0) + data
    ip = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(udp), 1, 0, 64, 17, 0)
    ip += socket.inet_aton(source) + socket.inet_aton(target)
    total = sum(struct.unpack(">10H", ip))
    total = (total & 0xFFFF) + (total >> 16)
    ip = ip[:10] + struct.pack(">H", ~(total + (total >> 16)) & 0xFFFF) + ip[12:]
    ethernet = bytes.fromhex(target_mac.replace(":", "")) + bytes.fromhex("020000000009") + b"\x08\x00"
    return ethernet + ip + udp


def end(process: subprocess.Popen[str]) -> None:
    """Kill a process of a place and wait for it."""
    process.kill()
    process.wait()
