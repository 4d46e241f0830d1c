"""A network interface moved onto a bridge and back, while the LAN pings the host's address each two milliseconds."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time
from collections.abc import Callable
from socket import AF_INET, AF_INET6
from typing import Final

from bench.figures import Sheet
from bench.place import run

from isthmus.engine import Host, create_network, remove_network
from isthmus.model.declared import NetworkWish

__all__ = ["moving"]

_OUTPUT: Final = "/run/asked"
# ping(8) waits 10 ms after an echo request that was lost, whatever its interval: this one keeps its pace.
_PACE_S: Final = 0.002
_PINGER: Final = """
import _socket, select, struct, sys, time
family, address, pace_s = int(sys.argv[1]), sys.argv[2], float(sys.argv[3])
six = family == _socket.AF_INET6
sock = _socket.socket(family, _socket.SOCK_RAW, 58 if six else 1)
sock.setblocking(False)
sock.connect((address, 0))
ask, answer, begin = 128 if six else 8, 129 if six else 0, time.monotonic()
def request(number):
    body = struct.pack(">HHI", 77, number & 0xffff, number)
    total = ask * 256 + sum(struct.unpack(">4H", body))
    total = (total & 0xffff) + (total >> 16)
    return struct.pack(">BBH", ask, 0, 0 if six else ~total & 0xffff) + body
for number in range(1 << 30):
    due = begin + number * pace_s
    while (left := due - time.monotonic()) > 0:
        if select.select([sock], [], [], left)[0]:
            data = sock.recv(2048)[0 if six else 20:]
            if data[0] == answer and data[4:6] == b"\\0\\x4d":
                print(time.monotonic(), flush=True)
    try:
        sock.send(request(number))
    except OSError:
        pass  # no neighbour at the moment
"""
_SETTLE_S: Final = 2.5  # a young link is not on its bridge for up to a second; and detection of duplicates
_WINDOW_S: Final = 1.0
_CABLE: Final = (
    "ip netns add lan",
    "ip link add nic0 type veth peer name eth0 netns lan",
    "ip -n lan link set eth0 up",
    "ip -n lan addr add 203.0.113.9/24 dev eth0",
    "ip -n lan addr add 2001:db8::9/64 dev eth0 nodad",
    "ip link set nic0 up",
    "ip addr add 203.0.113.2/24 dev nic0",
    "ip addr add 2001:db8::2/64 dev nic0",
    "ip route add default via 203.0.113.9",
    "ip -6 route add default via 2001:db8::9",
)


def moving(sheet: Sheet) -> None:
    """Measure the longest time without an answer, for each family, of moves there and moves back."""
    rounds = sheet.many(10, 1)
    for line in _CABLE:
        run(*line.split())
    time.sleep(_SETTLE_S)
    for name, family, address in (("IPv4", AF_INET, "203.0.113.2"), ("IPv6", AF_INET6, "2001:db8::2")):
        gaps = [gap for _ in range(rounds) for gap in _one_round(family, address)]
        detail = f"worst of {len(gaps)} moves; median {sorted(gaps)[len(gaps) // 2]:.1f}"
        sheet.write(f"an interface onto the bridge and back: longest gap, {name}, ms", max(gaps), 20, detail)


def _one_round(family: int, address: str) -> list[float]:
    wish = NetworkWish(name="lan0", uplink="nic", nic="nic0")

    def there(host: Host) -> None:
        create_network(host, wish, confirm_within=0)

    def back(host: Host) -> None:
        remove_network(host, "lan0", confirm_within=0)

    return [_gap(family, address, there), _gap(family, address, back)]


def _gap(family: int, address: str, move: Callable[[Host], None]) -> float:
    asks = (sys.executable, "-I", "-S", "-c", _PINGER, str(family), address, str(_PACE_S))
    with open(_OUTPUT, "wb") as output:
        pinger = subprocess.Popen(("ip", "netns", "exec", "lan", *asks), stdin=subprocess.DEVNULL, stdout=output)
    time.sleep(_WINDOW_S / 2)
    host = Host()
    with host:
        move(host)
    host.close()
    time.sleep(_WINDOW_S)
    pinger.kill()
    pinger.wait()
    with open(_OUTPUT, "rb") as output:
        stamps = [float(line) for line in output if line.endswith(b"\n")]
    os.unlink(_OUTPUT)
    stamps.append(max(stamps[-1], stamps[0] + _WINDOW_S))  # silence until the end is a gap too
    return max(later - earlier for earlier, later in itertools.pairwise(stamps)) * 1000
