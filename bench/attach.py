"""Attach and detach in a resident process, beside the floor; and how an attach grows with the ports of a bridge."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Final

from bench.figures import Sheet, elapsed, p50, p99
from bench.floor import Floor

from isthmus.engine import Host, attach, create_network, detach, reap
from isthmus.kernel import netns
from isthmus.model.address import Prefix
from isthmus.model.declared import AttachmentWish, NetworkWish, PublishWish

__all__ = ["Engine", "growth", "in_process", "make_namespaces", "remove_namespaces"]

_A_ROUND: Final = 50
_AROUND: Final = 20  # attaches that the figure of number 10, or 1,000, is the median of
_SETTLE_S: Final = 0.5  # the kernel deletes namespaces in the background


class Engine:
    """The engine as a resident has it: state file and sockets stay open between calls."""

    def __init__(self) -> None:
        self.host = Host()
        with self.host:
            create_network(self.host, NetworkWish(name="br0", subnets=(Prefix.parse("10.8.0.0/16"),), mtu=1500))

    def attach(self, number: int, name: str) -> None:
        """Attach a namespace and publish a port of it."""
        with self.host:
            attach(self.host, AttachmentWish(network="br0"), name, (PublishWish(port=80, host_port=8000 + number),))

    def detach(self, name: str) -> None:
        """Detach a namespace; the dead link stays for `reap`."""
        with self.host:
            detach(self.host, "br0", name)

    def reap(self) -> None:
        """Clear away what waits, as a resident's thread does."""
        reap(self.host.directory)


def make_namespaces(prefix: str, count: int) -> list[str]:
    """Make namespaces and return their names."""
    names = [f"{prefix}{number}" for number in range(count)]
    for name in names:
        netns.make(name)
    return names


def remove_namespaces(names: Sequence[str]) -> None:
    """Remove namespaces, and let the kernel settle."""
    for name in names:
        netns.remove(name)
    time.sleep(_SETTLE_S)


def _open(name: str) -> int:
    return os.open(f"/run/netns/{name}", os.O_RDONLY | os.O_CLOEXEC)


def _one_round(engine: Engine, floor: Floor, count: int) -> tuple[list[float], list[float], list[float]]:
    """Return the times of attaches, of the floor's, and of detaches; engine and floor take turns."""
    ours, theirs = make_namespaces("e", count), make_namespaces("f", count)
    fds = [_open(name) for name in theirs]
    attaches: list[float] = []
    floors: list[float] = []
    for number, (name, fd) in enumerate(zip(ours, fds, strict=True)):
        attaches.append(elapsed(lambda number=number, name=name: engine.attach(number, name)))  # type: ignore[misc]
        floors.append(elapsed(lambda number=number, fd=fd: floor.attach(number, fd)))  # type: ignore[misc]
    detaches = [elapsed(lambda name=name: engine.detach(name)) for name in ours]  # type: ignore[misc]
    for fd in fds:
        os.close(fd)
    engine.reap()
    floor.clear(count)
    remove_namespaces([*ours, *theirs])
    return attaches, floors, detaches


def in_process(sheet: Sheet) -> None:
    """Attach / floor and detach / attach, p50 and p99."""
    total, each = sheet.many(1000, 20), sheet.many(_A_ROUND, 10)
    engine, floors = Engine(), (Floor(plain=True), Floor())
    for floor in floors:
        floor.raise_bridge()
        _one_round(engine, floor, 5)  # the first calls import, compile and open
    attaches: list[float] = []
    bare: tuple[list[float], list[float]] = ([], [])
    detaches: list[float] = []
    while len(attaches) < total:
        for floor, taken in zip(floors, bare, strict=True):
            for samples, more in zip((attaches, taken, detaches), _one_round(engine, floor, each), strict=True):
                samples += more
    half, worst = p50(attaches), p99(attaches)
    plain, lean = p50(bare[0]), p50(bare[1])
    n = f"n={len(attaches)}"
    what = "attach with a port, in process: p50 / floor p50, its pairs as the kernel makes them"
    sheet.write(what, half / plain, 1.8, f"{half * 1e3:.2f} / {plain * 1e3:.2f} ms, {n}")
    detail = f"{worst * 1e3:.2f} ms; the floor's own {p99(bare[0]) * 1e3:.2f}"
    sheet.write("the same: p99 / floor p50", worst / plain, 5, detail)
    what = "the same: p50 / floor p50, its pairs with one queue as the engine's"
    sheet.write(what, half / lean, 1.8, f"{half * 1e3:.2f} / {lean * 1e3:.2f} ms")
    cut = p50(detaches)
    sheet.write("detach, in a resident: p50 / attach p50", cut / half, 0.6, f"{cut * 1e3:.2f} ms, {n}")
    sheet.write("the same: p99 / attach p50", p99(detaches) / half, 5, f"{p99(detaches) * 1e3:.2f} ms")


def growth(sheet: Sheet) -> None:
    """Attach number 1,000 of a bridge / number 10, and engine / floor there."""
    total, around = sheet.many(1000, 30), sheet.many(_AROUND, 6)
    engine, floor = Engine(), Floor(plain=True)
    floor.raise_bridge()
    ours, theirs = make_namespaces("e", total + around // 2), make_namespaces("f", total + around // 2)
    attaches: list[float] = []
    floors: list[float] = []
    for number, (name, other) in enumerate(zip(ours, theirs, strict=True)):
        fd = _open(other)
        attaches.append(elapsed(lambda number=number, name=name: engine.attach(number, name)))  # type: ignore[misc]
        floors.append(elapsed(lambda number=number, fd=fd: floor.attach(number, fd)))  # type: ignore[misc]
        os.close(fd)
    # The very first attach imports and compiles.
    early, late = p50(attaches[1 : around + 1]), p50(attaches[-around:])
    bare = p50(floors[-around:])
    detail = f"{late * 1e3:.2f} / {early * 1e3:.2f} ms, medians of {around}"
    sheet.write(f"attach number {total} / number 10, a port each", late / early, 2.0, detail)
    detail = f"{late * 1e3:.2f} / {bare * 1e3:.2f} ms; the floor grows by {bare / p50(floors[1 : around + 1]):.2f}"
    sheet.write(f"attach number {total}: engine / floor", late / bare, 1.8, detail)
