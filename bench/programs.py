"""Whole processes: one-shot attach and detach, the command line, the note's commands, the CNI plugins."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

from bench.attach import Engine, make_namespaces
from bench.figures import Sheet, elapsed, p50
from bench.place import ROOT, Hand, run

__all__ = ["ms", "peers", "timed_process", "type_attach", "typed", "whole_processes"]

_CNI: Final = Path("/usr/lib/cni")
_CNI_CHAIN: Final = ("bridge", "portmap", "firewall")
_SETTLE_S: Final = 0.08  # a child that deletes dead links has the machine to itself

# What session.py does around a verb: what waits is left to a child, sockets are closed later, no teardown.
_ONE_SHOT: Final = f"""
import os, sys
sys.path.insert(0, {str(ROOT / "src")!r})
from isthmus.engine import Host, attach, detach, leave_to_child
from isthmus.engine.waiting import is_waiting
from isthmus.model.declared import AttachmentWish, PublishWish
host = Host()
with host:
    if sys.argv[1] == "attach":
        attach(host, AttachmentWish(network="br0"), sys.argv[2], (PublishWish(port=80, host_port=8000),))
    else:
        detach(host, "br0", sys.argv[2])
if is_waiting(host):
    leave_to_child(host.directory)
host.access.close()
if len(sys.argv) > 3:
    print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM:")), flush=True)
os._exit(0)
"""


def timed_process(*argv: str) -> float:
    """Return how long a process takes from its start until wait() returns."""
    null = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in (0, 1)]
    start = time.perf_counter()
    pid = os.posix_spawnp(argv[0], argv, os.environ, file_actions=null)
    status = os.waitpid(pid, 0)[1]
    taken = time.perf_counter() - start
    if status:
        raise RuntimeError(f"{' '.join(argv[:4])}: ended with {os.waitstatus_to_exitcode(status)}")
    return taken


def _one_shot(verb: str) -> float:
    return timed_process(sys.executable, "-I", "-S", "-c", _ONE_SHOT, verb, "e0")


def whole_processes(sheet: Sheet) -> None:
    """One-shot attach and detach, the command `isthmus attach`, and memory."""
    rounds = sheet.many(60, 4)
    engine = Engine()
    engine.host.close()
    make_namespaces("e", 1)
    python, command = sys.executable, str(Path(sys.executable).parent / "isthmus")
    bare, attaches, detaches, sites, commands = [], [], [], [], []
    _one_shot("attach")
    _one_shot("detach")
    for _ in range(rounds):
        time.sleep(_SETTLE_S)
        bare.append(timed_process(python, "-I", "-S", "-c", "pass"))
        attaches.append(_one_shot("attach"))
        detaches.append(_one_shot("detach"))
        time.sleep(_SETTLE_S)
        sites.append(timed_process(python, "-c", "pass"))
        commands.append(timed_process(command, "attach", "br0", "e0", "-p", "8000:80"))
        _one_shot("detach")
    n = f"n={rounds}"
    shot = p50(attaches)
    sheet.write(
        "one-shot detach / one-shot attach, whole processes", p50(detaches) / shot, 1.2, ms(detaches, attaches, n)
    )
    what = "python -I -S, import the engine, one attach / python -I -S -c pass"
    sheet.write(what, shot / p50(bare), 3.0, ms(attaches, bare, n))
    sheet.write("isthmus attach / its interpreter -c pass", p50(commands) / p50(sites), 5, ms(commands, sites, n))
    time.sleep(_SETTLE_S)
    peak_kib = int(run(python, "-I", "-S", "-c", _ONE_SHOT, "attach", "e0", "tell"))
    sheet.write("peak memory of a one-shot attach", peak_kib / 1024, 40, "VmHWM", unit=" MB")


def ms(over: list[float], under: list[float], n: str) -> str:
    """Return both medians in milliseconds, and how many samples there were."""
    return f"{p50(over) * 1e3:.1f} / {p50(under) * 1e3:.1f} ms, {n}"


class _Typed:
    """The commands of the note for one attach with one published port, one process each."""

    def __init__(self) -> None:
        self.hand = Hand()
        with self.hand.inside():
            for line in ("ip link add br0 type bridge", "ip link set br0 up", "ip addr add 10.9.0.1/16 dev br0"):
                run(*line.split())

    def attach(self, number: int, name: str) -> None:
        address = f"10.9.{number // 250 + 1}.{number % 250 + 1}"
        type_attach(number, name, address, 8000 + number)

    def timed(self, number: int, name: str) -> float:
        with self.hand.inside():
            return elapsed(lambda: self.attach(number, name))


def type_attach(number: int, name: str, address: str, host_port: int) -> None:
    """Join a namespace to bridge br0 and publish its port 80, as the note does: one process each."""
    inside = f"ip netns exec {name} ip"
    for line in (
        f"ip link add veth{number} type veth peer name peer{number}",
        f"ip link set dev peer{number} netns {name}",
        f"{inside} link set dev peer{number} name eth0",
        f"{inside} addr add {address}/16 dev eth0",
        f"{inside} link set dev eth0 up",
        f"{inside} route add default via 10.9.0.1",
        f"ip link set dev veth{number} master br0",
        f"ip link set dev veth{number} up",
        f"iptables -t nat -A PREROUTING -p tcp --dport {host_port} -j DNAT --to-destination {address}:80",
        f"iptables -A FORWARD -d {address} -o br0 -p tcp --dport 80 -j ACCEPT",
    ):
        typed(*line.split())


def typed(program: str, *arguments: str) -> None:
    """Run one command as cheaply as a shell would."""
    pid = os.posix_spawnp(program, (program, *arguments), os.environ)
    status = os.waitpid(pid, 0)[1]
    if status:
        raise RuntimeError(f"{program} {' '.join(arguments)}: ended with {os.waitstatus_to_exitcode(status)}")


class _Plugins:
    """The CNI plugins bridge (with host-local), portmap and firewall, chained as a runtime does."""

    def __init__(self) -> None:
        self.hand = Hand("cni")

    def _call(self, command: str, number: int, name: str) -> None:
        environment = {
            **os.environ,
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": f"bench{number}",
            "CNI_NETNS": f"/run/netns/{name}",
            "CNI_IFNAME": "eth0",
            "CNI_PATH": str(_CNI),
        }
        result: Any = None
        chain = _CNI_CHAIN if command == "ADD" else _CNI_CHAIN[::-1]
        for plugin in chain:
            asked = json.dumps(_cni_network(plugin, number, result)).encode()
            done = subprocess.run([_CNI / plugin], input=asked, capture_output=True, env=environment, check=False)
            if done.returncode:
                raise RuntimeError(f"{plugin} {command}: {done.stdout.decode()} {done.stderr.decode()}")
            result = json.loads(done.stdout) if done.stdout else result

    def timed(self, number: int, name: str) -> float:
        """Return the time of an ADD; the DEL after it is not in it."""
        with self.hand.inside():
            taken = elapsed(lambda: self._call("ADD", number, name))
            self._call("DEL", number, name)
            return taken


def _cni_network(plugin: str, number: int, result: Any) -> dict[str, Any]:
    network: dict[str, Any] = {"cniVersion": "0.4.0", "name": "bench", "type": plugin}
    if plugin == "bridge":
        ipam = {"type": "host-local", "subnet": "10.10.0.0/16", "dataDir": "/run/cni", "routes": [{"dst": "0.0.0.0/0"}]}
        network |= {"bridge": "cni0", "isGateway": True, "ipMasq": True, "hairpinMode": True, "ipam": ipam}
    if plugin == "portmap":
        mapping = {"hostPort": 8000 + number, "containerPort": 80, "protocol": "tcp"}
        network |= {"snat": True, "runtimeConfig": {"portMappings": [mapping]}}
    if result is not None:
        network["prevResult"] = result
    return network


def peers(sheet: Sheet) -> None:
    """Attach in process / the commands typed one by one, / the CNI plugins' ADD; ten of each take turns."""
    rounds, turn = sheet.many(40, 3), sheet.many(10, 3)
    engine, typed = Engine(), _Typed()
    plugins = _Plugins() if all((_CNI / one).exists() for one in (*_CNI_CHAIN, "host-local")) else None
    mine, by_hand, by_cni = (make_namespaces(prefix, rounds + 1) for prefix in ("e", "t", "c"))
    ours, theirs, adds = [], [], []
    for start in range(0, rounds + 1, turn):
        numbers = range(start, min(start + turn, rounds + 1))
        ours += [elapsed(lambda number=number: engine.attach(number, mine[number])) for number in numbers]  # type: ignore[misc]
        theirs += [typed.timed(number, by_hand[number]) for number in numbers]
        if plugins is not None:
            adds += [plugins.timed(number, by_cni[number]) for number in numbers]
    n = f"n={rounds}"
    ours, theirs, adds = ours[1:], theirs[1:], adds[1:]  # the first makes bridge and chains
    what = "attach with a port, in process / the note's commands, one process each"
    sheet.write(what, p50(ours) / p50(theirs), 0.10, ms(ours, theirs, n))
    what = "the same / the CNI plugins' ADD (bridge, host-local, portmap, firewall)"
    if adds:
        sheet.write(what, p50(ours) / p50(adds), 0.025, ms(ours, adds, n))
    else:
        sheet.write(what, None, 0.025, f"no containernetworking-plugins in {_CNI}")
