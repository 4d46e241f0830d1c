"""A network interface moved onto a bridge and back, while the LAN pings the host's address each two milliseconds."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import time
from typing import Final

from bench.figures import Sheet
from bench.place import run

from isthmus.engine import Host, create_network, remove_network
from isthmus.model.declared import NetworkWish

__all__ = ["moving"]

_STAMP: Final = re.compile(rb"^\[(\d+\.\d+)\] \d+ bytes", re.MULTILINE)
_OUTPUT: Final = "/run/ping"
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
    for family, address in (("IPv4", "203.0.113.2"), ("IPv6", "2001:db8::2")):
        gaps = [gap for _ in range(rounds) for gap in _one_round(address)]
        detail = f"worst of {len(gaps)} moves; median {sorted(gaps)[len(gaps) // 2]:.1f}"
        sheet.write(f"an interface onto the bridge and back: longest gap, {family}, ms", max(gaps), 20, detail)


def _one_round(address: str) -> list[float]:
    wish = NetworkWish(name="lan0", uplink="nic", nic="nic0")

    def there(host: Host) -> None:
        create_network(host, wish, confirm_within=0)

    def back(host: Host) -> None:
        remove_network(host, "lan0", confirm_within=0)

    return [_gap(address, there), _gap(address, back)]


def _gap(address: str, move: object) -> float:
    assert callable(move)
    argv = ("ip", "netns", "exec", "lan", "ping", "-n", "-D", "-i", "0.002", "-w", "10", address)
    with open(_OUTPUT, "wb") as output:  # a file: a pipe that nobody reads stops ping
        ping = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    time.sleep(_WINDOW_S / 2)
    host = Host()
    with host:
        move(host)
    host.close()
    time.sleep(_WINDOW_S)
    ping.terminate()
    ping.wait()
    with open(_OUTPUT, "rb") as output:
        stamps = [float(one) for one in _STAMP.findall(output.read())]
    os.unlink(_OUTPUT)
    stamps.append(max(stamps[-1], stamps[0] + _WINDOW_S))  # silence until the end is a gap too
    return max(later - earlier for earlier, later in itertools.pairwise(stamps)) * 1000
