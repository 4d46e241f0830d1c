"""`isthmus run`: whole processes, beside the bare namespace of unshare(1) and beside the commands of the note."""

from __future__ import annotations

import _socket
import errno
import os
import select
import signal
import sys
import time
from pathlib import Path
from typing import Final

from bench.figures import Sheet, p50
from bench.place import Hand, run
from bench.programs import ms, timed_process, type_attach, typed

from isthmus.engine import Host, create_network
from isthmus.model.address import Prefix
from isthmus.model.declared import NetworkWish

__all__ = ["running"]

_SETTLE_S: Final = 0.08
_ISTHMUS: Final = str(Path(sys.executable).parent / "isthmus")
# What answers at once: an interpreter that loads nothing.
_SERVER: Final = (
    sys.executable, "-I", "-S", "-c",
    "import _socket; s = _socket.socket(); s.setsockopt(1, 2, 1); s.bind(('', 80)); s.listen(9)\nwhile 1: s._accept()",
)  # fmt: skip
_OUTSIDE: Final = "198.51.100"


class _Outside:
    """A host beside one of ours, joined to it by a cable: who asks its ports."""

    def __init__(self, name: str, host: Hand | None = None) -> None:
        self.hand = Hand(name)
        near = ("-n", host.name) if host is not None else ()
        run("ip", *near, "link", "add", "up0", "type", "veth", "peer", "name", "eth0", "netns", name)
        run("ip", *near, "addr", "add", f"{_OUTSIDE}.1/24", "dev", "up0")
        run("ip", *near, "link", "set", "up0", "up")
        run("ip", *near, "route", "add", "default", "via", f"{_OUTSIDE}.9")
        run("ip", "-n", name, "addr", "add", f"{_OUTSIDE}.9/24", "dev", "eth0")
        run("ip", "-n", name, "link", "set", "eth0", "up")

    def answers(self) -> bool:
        """Ask port 8080 of the host once; a lost packet costs five milliseconds."""
        with self.hand.inside():
            client = _socket.socket()
        client.setblocking(False)
        try:
            if client.connect_ex((f"{_OUTSIDE}.1", 8080)) not in (0, errno.EINPROGRESS):
                return False
            poll = select.poll()
            poll.register(client, select.POLLOUT)
            return bool(poll.poll(5)) and not client.getsockopt(_socket.SOL_SOCKET, _socket.SO_ERROR)
        finally:
            client.close()

    def await_answer(self) -> None:
        """Ask until it answers."""
        deadline = time.monotonic() + 10
        while not self.answers():
            time.sleep(0.001)  # who asks in a loop has a CPU to itself
            if time.monotonic() > deadline:
                raise RuntimeError("port 8080 does not answer")


def _in_background(*argv: str) -> int:
    null = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in (0, 1)]
    return os.posix_spawnp(argv[0], argv, os.environ, file_actions=null)


class _ByHand:
    """The commands of the note for a namespace with a published port, and the command in it."""

    def __init__(self) -> None:
        self.hand = Hand("byhand")
        self.outside = _Outside("asks2", self.hand)
        with self.hand.inside():
            for line in ("ip link add br0 type bridge", "ip link set br0 up", "ip addr add 10.9.0.1/16 dev br0"):
                run(*line.split())
        run("ip", "netns", "exec", self.hand.name, "sysctl", "-qw", "net.ipv4.ip_forward=1")

    def timed(self, number: int) -> float:
        name, address = f"t{number}", f"10.9.1.{number + 1}"
        with self.hand.inside():
            start = time.perf_counter()
            typed("ip", "netns", "add", name)
            typed("ip", "netns", "exec", name, "ip", "link", "set", "dev", "lo", "up")
            type_attach(number, name, address, 8080)
            pid = _in_background("ip", "netns", "exec", name, *_SERVER)
        self.outside.await_answer()
        taken = time.perf_counter() - start
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        with self.hand.inside():
            run("iptables", "-t", "nat", "-F")
            run("iptables", "-F")
            run("ip", "link", "del", f"veth{number}")
            run("ip", "netns", "del", name)
        return taken


def _published(outside: _Outside, *options: str) -> float:
    start = time.perf_counter()
    pid = _in_background(_ISTHMUS, "run", *options, "-p", "8080:80", "--", *_SERVER)
    outside.await_answer()
    taken = time.perf_counter() - start
    os.kill(pid, signal.SIGTERM)
    os.waitpid(pid, 0)
    return taken


def running(sheet: Sheet) -> None:
    """Run a command in a namespace of its own: alone, and until its published port answers."""
    rounds = sheet.many(40, 3)
    python = sys.executable
    ours, bare, plain = [], [], []
    timed_process(_ISTHMUS, "run", "--", "true")
    for _ in range(rounds):
        time.sleep(_SETTLE_S)
        ours.append(timed_process(_ISTHMUS, "run", "--", "true"))
        time.sleep(_SETTLE_S)
        bare.append(timed_process("unshare", "-n", "true"))
        plain.append(timed_process(python, "-I", "-S", "-c", "pass"))
    n = f"n={rounds}"
    both = [one + other for one, other in zip(bare, plain, strict=True)]
    what = "isthmus run -- true / unshare -n true and python -I -S -c pass"
    sheet.write(what, p50(ours) / p50(both), 6, ms(ours, both, n))
    outside, by_hand = _Outside("asks1"), _ByHand()
    host = Host()
    with host:
        create_network(host, NetworkWish(name="default", subnets=(Prefix.parse("10.7.0.0/24"),)))
    host.close()
    published, hand = [], []
    for number in range(rounds):
        time.sleep(_SETTLE_S)
        published.append(_published(outside))
        time.sleep(_SETTLE_S)
        hand.append(by_hand.timed(number))
    what = "isthmus run -p 8080:80 -- CMD until the port answers / the note's commands, one process each"
    sheet.write(what, p50(published) / p50(hand), 0.8, ms(published, hand, n))
