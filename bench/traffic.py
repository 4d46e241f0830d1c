"""Packets through what the engine made, beside the same made by hand: throughput, and connections a second."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from pathlib import Path
from typing import Final

from bench.figures import Sheet, p50
from bench.place import Hand, run

from isthmus.engine import Host, attach, create_network, publish, unpublish
from isthmus.kernel import netns
from isthmus.model.address import Prefix
from isthmus.model.declared import AttachmentWish, NetworkWish, PublishWish

__all__ = ["connections", "throughput"]

_PORT: Final = 5201
_DEADLINE_S: Final = 5.0
_HOST: Final = "203.0.113.2"
_OUTSIDE: Final = "203.0.113.9"


def _plug(outside: str) -> None:
    """Give this host a cable to a namespace that plays the outside, and a default route by it."""
    netns.make(outside)
    for line in (
        f"ip link add eth0 type veth peer name eth0 netns {outside}",
        f"ip addr add {_HOST}/24 dev eth0",
        "ip link set eth0 up",
        f"ip -n {outside} addr add {_OUTSIDE}/24 dev eth0",
        f"ip -n {outside} link set eth0 up",
        f"ip route add default via {_OUTSIDE}",
    ):
        run(*line.split())


def _by_engine() -> Host:
    """Make network br0 with members a0 (10.8.0.2) and a1 (10.8.0.3), whose port 5201 is published as 8080."""
    _plug("a-out")
    host = Host()
    with host:
        create_network(host, NetworkWish(name="br0", subnets=(Prefix.parse("10.8.0.0/24"),)))
        for name in ("a0", "a1"):
            netns.make(name)
            attach(host, AttachmentWish(network="br0"), name)
        publish(host, "a1", PublishWish(port=_PORT, host_port=8080))
    return host


def _by_hand() -> None:
    """Make the same with ip and iptables, as the note does."""
    _plug("h-out")
    lines = [
        "ip link add br0 type bridge",
        "ip addr add 10.8.0.1/24 dev br0",
        "ip link set br0 up",
        "sysctl -q -w net.ipv4.ip_forward=1",
        "iptables -P FORWARD DROP",
        "iptables -A FORWARD -i br0 -j ACCEPT",
        "iptables -A FORWARD -o br0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
        "iptables -t nat -A POSTROUTING -s 10.8.0.0/24 -o eth0 -j MASQUERADE",
        f"iptables -t nat -A PREROUTING -p tcp --dport 8080 -j DNAT --to-destination 10.8.0.3:{_PORT}",
        f"iptables -A FORWARD -i eth0 -d 10.8.0.3 -o br0 -p tcp --dport {_PORT} -j ACCEPT",
    ]
    for name, address in (("h0", "10.8.0.2"), ("h1", "10.8.0.3")):
        netns.make(name)
        lines += [
            f"ip link add {name} type veth peer name eth0 netns {name}",
            f"ip link set {name} master br0",
            f"ip link set {name} up",
            f"ip -n {name} addr add {address}/24 dev eth0",
            f"ip -n {name} link set eth0 up",
            f"ip -n {name} route add default via 10.8.0.1",
        ]
    for line in lines:
        run(*line.split())


def _gbit_s(client: str, address: str, port: int, seconds: int) -> float:
    found = json.loads(run("iperf3", "-J", "-c", address, "-p", str(port), "-t", str(seconds), where=client))
    return float(found["end"]["sum_received"]["bits_per_second"]) / 1e9


def throughput(sheet: Sheet) -> None:
    """Namespace to namespace, out by masquerade, in by a published port / the same by hand."""
    paths = {
        "namespace to namespace": ("0", "10.8.0.3", _PORT),
        "out by masquerade": ("0", _OUTSIDE, _PORT),
        "in by a published port": ("-out", _HOST, 8080),
    }
    if shutil.which("iperf3") is None:
        for path in paths:
            sheet.write(f"throughput, {path} / by hand", None, 0.97, "no iperf3", at_least=True)
        return
    rounds, seconds = sheet.many(9, 1), sheet.many(2, 1)
    hand = Hand()
    _by_engine()
    with hand.inside():
        _by_hand()
    servers = [
        subprocess.Popen(["ip", "netns", "exec", name, "iperf3", "-s"], stdout=subprocess.DEVNULL)
        for name in ("a1", "a-out", "h1", "h-out")
    ]
    _await_links()
    for path, (client, address, port) in paths.items():
        ours: list[float] = []
        theirs: list[float] = []
        for number in range(rounds):
            pair = [("a", ours), ("h", theirs)]
            for side, samples in pair if number % 2 else reversed(pair):
                name = f"{side}{client}"
                samples.append(_gbit_s(name, address, port, seconds))
        ratio = p50(ours) / p50(theirs)
        detail = f"{p50(ours):.1f} / {p50(theirs):.1f} Gbit/s, medians of {rounds} times {seconds} s"
        sheet.write(f"throughput, {path} / by hand", ratio, 0.97, detail, at_least=True)
    for server in servers:
        server.kill()
        server.wait()


def _await_links() -> None:
    """Wait until servers listen and bridges forward: until a ping from each client is answered."""
    deadline = time.monotonic() + _DEADLINE_S
    for client in ("a0", "h0"):
        for address in ("10.8.0.3", _OUTSIDE):
            while not run("ping", "-c1", "-W1", address, where=client, check=False).count(" 0% packet loss"):
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{client} does not reach {address}")
    for server in ("a1", "a-out", "h1", "h-out"):
        while f":{_PORT}" not in run("ss", "-Hltn", where=server):
            if time.monotonic() > deadline:
                raise TimeoutError(f"iperf3 in {server} does not listen")


def _compiled() -> str | None:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return None
    run(compiler, "-O2", "-o", "/run/connect", str(Path(__file__).with_name("connect.c")))
    return "/run/connect"


def connections(sheet: Sheet) -> None:
    """Count new connections a second through 1 of 5,000 published ports / through 1 of 1."""
    total = sheet.many(5000, 100)
    what = f"connections/s through 1 of {total} published ports / 1 of 1"
    program = _compiled()
    if program is None:
        sheet.write(what, None, 0.95, "no C compiler", at_least=True)
        return
    rounds, seconds = sheet.many(9, 1), "1" if not sheet.quick else "0.3"
    host = _by_engine()
    half = total // 2
    more = [
        PublishWish(port=10_000 + start, host_port=10_000 + start, count=count)
        for start, count in ((0, half), (half, total - 1 - half))
    ]
    enter = ["ip", "netns", "exec", "a1", program, "serve", str(_PORT)]
    with subprocess.Popen(enter, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        server.stdout.readline()
        alone, among = [], []
        run(program, _HOST, "8080", seconds, where="a-out")  # fills caches and the connection-tracking table
        for _ in range(rounds):
            alone.append(float(run(program, _HOST, "8080", seconds, where="a-out")))
            with host:
                for wish in more:
                    publish(host, "a1", wish)
            among.append(float(run(program, _HOST, "8080", seconds, where="a-out")))
            with host:
                for wish in more:
                    unpublish(host, "a1", wish)
        server.kill()
    detail = f"{p50(among):.0f} / {p50(alone):.0f} a second, medians of {rounds}"
    sheet.write(what, p50(among) / p50(alone), 0.95, detail, at_least=True)
