"""The verbs of the sweep: how the host is before, the verb, and how the host is made as before again."""

from __future__ import annotations

import contextlib
import os
import random
import select
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from isthmus.declare.file import loads
from isthmus.declare.words import publish as port
from isthmus.engine import (
    Host,
    attach,
    attend,
    clear_run,
    confirm,
    create_namespace,
    create_network,
    detach,
    down,
    leave_to_child,
    publish,
    reap,
    remove_namespace,
    remove_network,
    repair,
    run,
    switch_forwarding,
    unpublish,
    up,
)
from isthmus.kernel.process import exit_status
from isthmus.model.address import Address, Mac, Prefix
from isthmus.model.declared import AttachmentWish, ForwardingWish, NetworkWish, RunWish

__all__ = ["BESIDE", "VERBS", "Step", "Verb", "seed"]

Step = Callable[[Host], Any]

_FIRST: Final = """
name: sweep
networks:
  br0: {subnets: [10.7.0.0/24, "fd07::/64"], uplink: nat}
namespaces:
  a:
    networks: {br0: {ip: [10.7.0.50, "fd07::50"], mac: "02:00:00:00:00:50"}}
    publish: ["8080:80/tcp", "127.0.0.1:53:53/udp"]
    command: [sleep, "1000"]
  b:
    networks: {br0: {ip: [10.7.0.51, "fd07::51"], mac: "02:00:00:00:00:51"}}
    publish: ["8081:80/tcp"]
"""
_SECOND: Final = """
name: sweep
networks:
  br0: {subnets: [10.7.0.0/25, "fd07::/80"], uplink: nat}
  br1: {subnets: [10.8.0.0/24], uplink: none, isolate-ports: true}
namespaces:
  a:
    networks: {br0: {ip: [10.7.0.60, "fd07::60"], mac: "02:00:00:00:00:50"}, br1: {ip: 10.8.0.50}}
    publish: ["8082:80/tcp", "8081:81/tcp", "5353:53/udp"]
    command: [sleep, "2000"]
  c:
    networks: {br0: {ip: [10.7.0.61, "fd07::61"]}}
links:
  - [{ns: a, ip: 10.0.0.1/30, name: x}, {ns: c, ip: 10.0.0.2/30, name: y}]
"""
_JOINED: Final = """
name: sweep
namespaces: {a: {}, b: {}, c: {}}
links:
  - [{ns: a, ip: 10.0.0.1/30, name: x}, {ns: b, ip: 10.0.0.2/30, name: y}]
"""


@dataclass(frozen=True)
class Verb:
    """`before` steps lead from an empty host to where the verb starts, `back` from after it to there.

    `leaving`: a call that fails on the way has been led to its end; else to its start. `first` steps are part
    of each round, ahead of the verb, without faults. `program`: the fault is not in the call but in the program that
    it starts whose command line holds this; it may fail or be killed when the call has succeeded already. Each
    `every`-th call is swept.
    """

    before: tuple[Step, ...]
    run: Step
    back: tuple[Step, ...]
    leaving: bool = False
    first: tuple[Step, ...] = ()
    floor: int = 20
    program: str = ""
    every: int = 1


def _network(name: str, *subnets: str) -> Step:
    wish = NetworkWish(name=name, subnets=tuple(map(Prefix.parse, subnets)))
    return lambda host: create_network(host, wish)


def _attach(number: int, name: str, *ports: str) -> Step:
    ips = (Address.parse(f"10.7.0.{number}"), Address.parse(f"fd07::{number}"))
    wish = AttachmentWish(network="br0", ips=ips, mac=Mac.parse(f"02:00:00:00:00:{number}"))
    return lambda host: attach(host, wish, name, [port(one, "publish") for one in ports])


def _namespace(name: str) -> Step:
    return lambda host: create_namespace(host, name)


def _up(text: str) -> Step:
    declaration = loads(text, "sweep.yaml")
    return lambda host: up(host, declaration)


def _forget(host: Host) -> None:
    """Take the state file away."""
    for name in os.listdir(host.directory):
        if name.startswith("state.db"):
            os.unlink(f"{host.directory}/{name}")


_WITH_NEIGHBOUR: Final = (
    _network("br0", "10.7.0.0/24", "fd07::/64"),
    _namespace("a"),
    _namespace("b"),
    _attach(51, "b", "127.0.0.1:8081:80/tcp"),
)
_ATTACH: Final = _attach(50, "a", "8080:80/tcp", "127.0.0.1:5300:53/udp")
_DETACH: Final[Step] = lambda host: detach(host, "br0", "a")  # noqa: E731


def _attach_second(number: int, name: str) -> Step:
    ips = (Address.parse(f"10.8.0.{number}"), Address.parse(f"fd08::{number}"))
    wish = AttachmentWish(network="br1", ips=ips, mac=Mac.parse(f"02:00:00:00:01:{number}"))
    return lambda host: attach(host, wish, name)


# The neighbour keeps the bridge's carrier, which the kernel sees to come and go when it finds the time. It is on both
# networks: its hosts file is rewritten by each verb.
_WITH_SECOND: Final = (
    *_WITH_NEIGHBOUR,
    _network("br1", "10.8.0.0/24", "fd08::/64"),
    _namespace("c"),
    _attach_second(51, "c"),
    _attach(52, "c"),
    _ATTACH,
)
_ATTACH_SECOND: Final = _attach_second(50, "a")
_DETACH_SECOND: Final[Step] = lambda host: detach(host, "br1", "a")  # noqa: E731
_PUBLISH: Final[Step] = lambda host: publish(host, "a", port("5353:53/udp", "publish"))  # noqa: E731
_UNPUBLISH: Final[Step] = lambda host: unpublish(host, "a", port("5353:53/udp", "publish"))  # noqa: E731
_REMOVE_A: Final[Step] = lambda host: remove_namespace(host, "a")  # noqa: E731
_REMOVE_NETWORK: Final[Step] = lambda host: remove_network(host, "br0")  # noqa: E731
_DOWN: Final[Step] = lambda host: down(host, "sweep")  # noqa: E731

_RUN_WISH: Final = RunWish(
    argv=("sleep", "1000"),
    name="r",
    networks=("br0",),
    ips=(Address.parse("10.7.0.50"), Address.parse("fd07::50")),
    publishes=(port("8080:80/tcp", "publish"),),
    environment=("KEY=value",),
    foreground=False,
)
_RUN: Final[Step] = lambda host: run(host, _RUN_WISH)  # noqa: E731
_RUN_WITHOUT: Final[Step] = lambda host: run(  # noqa: E731
    host, RunWish(argv=("sleep", "1000"), name="r", publishes=_RUN_WISH.publishes, foreground=False)
)
_REMOVE_RUN: Final[Step] = lambda host: remove_namespace(host, "r", force=True)  # noqa: E731
_UP: Final = _up(_FIRST)


def _somebody_on(_host: Host) -> None:
    for name in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
        with open(f"/proc/sys/net/{name}", "w") as file:
            file.write("1")


_OFF_NOW: Final[Step] = lambda host: switch_forwarding(host, ForwardingWish(), on=False)  # noqa: E731
_FOR_GOOD: Final = ForwardingWish(persist=True)
_ON: Final[Step] = lambda host: switch_forwarding(host, _FOR_GOOD, on=True)  # noqa: E731
_OFF: Final[Step] = lambda host: switch_forwarding(host, _FOR_GOOD, on=False)  # noqa: E731

_LAN: Final[Step] = lambda host: create_network(  # noqa: E731
    host, NetworkWish(name="lan0", uplink="nic", nic="eth0"), confirm_within=0
)
_OFF_LAN: Final[Step] = lambda host: remove_network(host, "lan0", confirm_within=0)  # noqa: E731
_GUARDED: Final[Step] = lambda host: create_network(  # noqa: E731
    host, NetworkWish(name="lan0", uplink="nic", nic="eth0"), confirm_within=3600
)
_OFF_GUARDED: Final[Step] = lambda host: remove_network(host, "lan0", confirm_within=3600)  # noqa: E731
_JOIN: Final[Step] = lambda host: attach(  # noqa: E731
    host, AttachmentWish(network="lan0", ips=(Address.parse("203.0.113.50"),), mac=Mac.parse("02:00:00:00:00:50")), "a"
)
_REVERT: Final[Step] = lambda host: confirm(host, revert=True)  # noqa: E731
_CONFIRM: Final[Step] = confirm

VERBS: Final = {
    "attach": Verb(_WITH_NEIGHBOUR, _ATTACH, (_DETACH,), floor=25),
    "detach": Verb((*_WITH_NEIGHBOUR, _ATTACH), _DETACH, (_ATTACH,), leaving=True),
    "attach to a second network": Verb(_WITH_SECOND, _ATTACH_SECOND, (_DETACH_SECOND,), floor=25),
    "detach from a second network": Verb(
        (*_WITH_SECOND, _ATTACH_SECOND), _DETACH_SECOND, (_ATTACH_SECOND,), leaving=True
    ),
    "publish": Verb((*_WITH_NEIGHBOUR, _ATTACH), _PUBLISH, (_UNPUBLISH,), floor=15),
    "unpublish": Verb((*_WITH_NEIGHBOUR, _ATTACH, _PUBLISH), _UNPUBLISH, (_PUBLISH,), leaving=True, floor=15),
    "first call": Verb((), repair, (), first=(_forget,), leaving=True, floor=20),
    "network create": Verb((repair,), _WITH_NEIGHBOUR[0], (_REMOVE_NETWORK,)),
    "network rm": Verb(_WITH_NEIGHBOUR[:1], _REMOVE_NETWORK, _WITH_NEIGHBOUR[:1], leaving=True),
    "ns create": Verb(_WITH_NEIGHBOUR[:1], _namespace("a"), (_REMOVE_A,)),
    "ns rm": Verb((*_WITH_NEIGHBOUR, _ATTACH), _REMOVE_A, (_namespace("a"), _ATTACH), leaving=True),
    "run": Verb(_WITH_NEIGHBOUR, _RUN, (_REMOVE_RUN,), floor=40),
    "run on a network of its own": Verb((repair,), _RUN_WITHOUT, (_REMOVE_RUN,), floor=50),
    "run ends": Verb((*_WITH_NEIGHBOUR, _RUN), _REMOVE_RUN, (_RUN,), leaving=True, floor=25),
    "up": Verb((repair,), _UP, (_DOWN,), floor=60),
    "up again": Verb((_UP,), _up(_SECOND), (_DOWN, _UP), floor=60),
    "up, to another end": Verb((_up(_JOINED),), _up(_JOINED.replace("ns: b", "ns: c")), (_up(_JOINED),), floor=15),
    "down": Verb((_UP,), _DOWN, (_UP,), leaving=True, floor=50),
    "nic onto the bridge": Verb((repair,), _LAN, (_OFF_LAN,), floor=25),
    "nic off the bridge": Verb((repair, _LAN), _OFF_LAN, (_LAN,), leaving=True, floor=20),
    "attach to a LAN": Verb(
        (repair, _LAN, _namespace("a")), _JOIN, (lambda host: detach(host, "lan0", "a"),), floor=25
    ),
    "nic, to be confirmed": Verb((repair,), _GUARDED, (_REVERT,), floor=25),
    "nic off, to be confirmed": Verb((repair, _LAN), _OFF_GUARDED, (_REVERT,), floor=25),
    "revert": Verb((repair, _GUARDED), _REVERT, (_GUARDED,), leaving=True, floor=20),
    "confirm": Verb((repair, _GUARDED), _CONFIRM, (_OFF_LAN, _GUARDED), floor=3),
    "forwarding on": Verb(_WITH_NEIGHBOUR[:1], _ON, (_OFF,), floor=25),
    "forwarding off": Verb((*_WITH_NEIGHBOUR[:1], _ON), _OFF, (_ON,), leaving=True, floor=25),
    "forwarding off, somebody's": Verb((repair, _somebody_on), _OFF_NOW, (_somebody_on,), leaving=True, floor=15),
    "reap": Verb(
        _WITH_NEIGHBOUR, lambda host: reap(host.directory), (), first=(_ATTACH, _DETACH), leaving=True, floor=8
    ),
}


def _run_and_remove(host: Host) -> None:
    _RUN(host)
    _REMOVE_RUN(host)


def _run_to_its_end(host: Host) -> None:
    ran = run(host, _RUN_WISH.replace(argv=("true",), foreground=True))
    status = attend(ran)
    # A kill in the command's process, once the starter was told that it runs, is the command's end, and on record so.
    if status not in (0, None) and status != exit_status(host.commands_directory, ran.name):
        raise AssertionError("an end of the supervisor is taken for the command's")
    clear_run(host, ran.name)


def _run_briefly(host: Host) -> None:
    ran = run(host, _RUN_WISH.replace(argv=("true",)))
    with contextlib.suppress(ProcessLookupError):
        pidfd = os.pidfd_open(ran.pid)
        select.select([pidfd], [], [])  # what clears is there when the supervisor has ended
        os.close(pidfd)


def _detach_and_leave(host: Host) -> None:
    _DETACH(host)
    leave_to_child(host.directory)


def _past_the_deadline(host: Host) -> None:
    create_network(host, NetworkWish(name="lan0", uplink="nic", nic="eth0"), confirm_within=_A_MOMENT_S)
    time.sleep(_A_MOMENT_S)


_A_MOMENT_S: Any = 0.3  # of whole seconds there would be too many
_SUPERVISOR: Final = "kernel/supervisor.py"

BESIDE: Final = {
    "nft": Verb((repair,), _WITH_NEIGHBOUR[0], (_REMOVE_NETWORK,), program="nft -f -", floor=1),
    "supervisor": Verb(_WITH_NEIGHBOUR, _run_and_remove, (), program=_SUPERVISOR),
    "supervisor in the foreground": Verb(_WITH_NEIGHBOUR, _run_to_its_end, (), program=_SUPERVISOR, floor=15),
    "clearing of a run": Verb(_WITH_NEIGHBOUR, _run_briefly, (), program="isthmus.engine.running", floor=12, every=5),
    "reaper": Verb(
        _WITH_NEIGHBOUR,
        _detach_and_leave,
        (),
        first=(_ATTACH,),
        leaving=True,
        program="isthmus.engine.reaper",
        floor=12,
        every=3,
    ),
    "guard": Verb((repair,), _past_the_deadline, (), program="isthmus.engine.confirming", floor=8, every=8),
}

_STEPS: Final = list(
    dict.fromkeys(
        step for verb in (VERBS | BESIDE).values() for step in (*verb.before, *verb.first, verb.run, *verb.back)
    )
)


def seed(step: Step) -> None:
    """Draw the same random bytes each time that a step is taken, so that what it makes has the same names and MACs."""
    source = random.Random(_STEPS.index(step) if step in _STEPS else -1)
    os.urandom = source.randbytes
