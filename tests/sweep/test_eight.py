"""Eight processes attach and detach at once: nothing is given twice at any instant, and nothing is left."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import sys
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from tests.live.driving import drive, wait_for

from isthmus.testing import Lab, snapshot

WORKERS: Final = 8
DURATION_S: Final = float(os.environ.get("ISTHMUS_EIGHT_S", "30"))
NAMESPACES: Final = [f"w{worker}{one}" for worker in range(WORKERS) for one in "ab"]

# Each call is a process of its own, as a command is; what waits is left to a child, as a command leaves it.
_WORKER: Final = """
import json, os, random, sys, time
from isthmus.declare.words import publish as port
from isthmus.engine import Host, attach, detach, leave_to_child, publish, unpublish
from isthmus.engine.waiting import is_waiting
from isthmus.model.declared import AttachmentWish, PublishWish

number, until = int(sys.argv[1]), time.monotonic() + float(sys.argv[2])
chance = random.Random(number)
calls, errors = 0, []

def call(verb, *args, **kwargs):
    global calls
    reading, writing = os.pipe()
    if not os.fork():
        said = ""
        host = Host()
        try:
            with host:
                verb(host, *args, **kwargs)
        except BaseException as error:
            said = f"{verb.__name__} {args}: {type(error).__name__}: {error}"
        os.write(writing, said.encode() or b"+")
        if is_waiting(host):
            os.close(reading)
            os.close(writing)
            leave_to_child(host.directory)
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        said = pipe.read().decode()
    os.wait()
    calls += 1
    if said != "+":
        errors.append(said or f"{verb.__name__} {args}: died")

while time.monotonic() < until and not errors:
    for name in (f"w{number}a", f"w{number}b"):
        network = chance.choice(["br0", "br1"])
        ifname = chance.choice([None, f"own{number}"])
        ports = [PublishWish(port=80)]
        if name.endswith("a"):
            ports.append(port(f"{21000 + number}:53/udp", "publish"))
        call(attach, AttachmentWish(network=network, ifname=ifname), name, ports)
        if chance.random() < 0.3:
            call(publish, name, port(f"{22000 + number}:81/tcp", "publish"))
            call(unpublish, name, port(f"{22000 + number}:81/tcp", "publish"))
        if chance.random() < 0.7:
            call(detach, network, name)
        else:
            other = "br1" if network == "br0" else "br0"
            call(attach, AttachmentWish(network=other), name)
            call(detach, network, name)
            call(detach, other, name)
print(json.dumps([calls, errors]))
"""


def twice(found: Iterable[Any]) -> list[Any]:
    return [one for one, count in Counter(found).items() if count > 1]


def seen_in_kernel(lab: Lab) -> dict[str, list[Any]]:
    """Return addresses, MACs, host-side links and published ports that the kernel holds more than once."""
    addresses: list[str] = []
    macs: list[str] = []
    for name in NAMESPACES:
        for link in json.loads(lab.host.run("ip", "-n", name, "-j", "addr", check=False).stdout or "[]"):
            if link and link["link_type"] != "loopback" and not link["ifname"].startswith("dead"):
                macs.append(link["address"])
                addresses += [one["local"] for one in link["addr_info"] if one["scope"] == "global"]
    host = lab.host.ip_json("link")
    macs += [link["address"] for link in host if link["ifname"].startswith("isv")]
    names = [link["ifname"] for link in host]
    ports = []
    for item in lab.host.nft_json("list", "table", "inet", "isthmus"):
        held = item.get("map", {})
        if "port" in held.get("name", ""):
            ports += [(held["name"], json.dumps(element[0])) for element in held.get("elem", [])]
    return {"address": twice(addresses), "mac": twice(macs), "name": twice(names), "port": twice(ports)}


def seen_on_record(path: Path) -> dict[str, list[Any]]:
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)) as db:
        rows = db.execute("SELECT namespace, ifname, host_ifname, mac, addresses FROM attachments").fetchall()
        ports = db.execute("SELECT protocol, host_port FROM publishes").fetchall()
        leases = db.execute("SELECT network, address FROM leases WHERE attachment IS NOT NULL").fetchall()
    return {
        "name": twice([(row[0], row[1]) for row in rows] + [row[2] for row in rows]),
        "mac": twice(row[3] for row in rows),
        "address": twice(address for row in rows for address in row[4].split()) + twice(leases),
        "port": twice(ports),
    }


def has_carrier(lab: Lab) -> bool:
    links = {link["ifname"]: link["flags"] for link in lab.host.ip_json("link")}
    return any("NO-CARRIER" not in links[name] for name in ("br0", "br1"))


def test_eight_processes_attach_and_detach_at_once(lab: Lab) -> None:
    pristine = snapshot(lab.host)
    drive(lab.host, "do(create_network, network('br0', '10.16.0.0/16', 'fd16::/64'))")
    drive(lab.host, "do(create_network, network('br1', '10.17.0.0/16', 'fd17::/64'))")
    drive(lab.host, f"[do(create_namespace, name) for name in {NAMESPACES}]")
    # A bridge that had ports has other limits of its queue than one that never had.
    for name in ("br0", "br1"):
        drive(lab.host, f"do(attach, AttachmentWish(network={name!r}), 'w0a'); do(detach, {name!r}, 'w0a')")
    drive(lab.host, "from isthmus.engine import reap; out = reap(state_directory())")
    wait_for(lambda: not has_carrier(lab), "bridges that have seen that their ports are gone")
    before = snapshot(lab.host)
    workers = [lab.host.spawn(sys.executable, "-c", _WORKER, str(number), str(DURATION_S)) for number in range(WORKERS)]
    rounds = 0
    double: list[dict[str, list[Any]]] = []
    while any(worker.poll() is None for worker in workers):
        kernel, record = seen_in_kernel(lab), seen_on_record(lab.host.path / "state" / "state.db")
        double += [found for found in (kernel, record) if any(found.values())]
        rounds += 1
    answers = [worker.communicate() for worker in workers]
    results: list[tuple[int, list[str]]] = [
        json.loads(output) if output else (0, [errors]) for output, errors in answers
    ]
    calls = sum(result[0] for result in results)
    print(f"eight processes: {calls} calls in {DURATION_S} s, looked at {rounds} times")
    assert [error for result in results for error in result[1]] == []
    assert double == []
    assert calls >= 10 * DURATION_S
    assert rounds >= 5
    drive(lab.host, "from isthmus.engine import reap; out = reap(state_directory())")
    deadline = time.monotonic() + 10
    while (now := snapshot(lab.host)) != before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert now == before
    drive(lab.host, f"[do(remove_namespace, name) for name in {NAMESPACES}]")
    drive(lab.host, "do(remove_network, 'br0'); do(remove_network, 'br1')")
    assert snapshot(lab.host) == pristine
