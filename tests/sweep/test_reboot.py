"""After a reboot nothing is leaked: no address, no port, no lease; networks made by command are made again."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from isthmus.testing import HOST4, LAN4, Host, Lab, snapshot

FILE: Final = """
name: web
networks: {web: {subnets: [10.9.0.0/24, "fd09::/64"]}}
namespaces:
  w:
    networks: {web: {ip: 10.9.0.2}}
    publish: ["8090:80/tcp"]
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    found = tmp_path / "web.yaml"
    found.write_text(FILE)
    return found


def isthmus(host: Host, state: Path, *argv: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run the command line on another state directory than the host's own."""
    program = (sys.executable, "-m", "isthmus.doors.cli", *argv)
    return host.run(*program, check=check, env={"ISTHMUS_STATE_DIR": str(state)})


def fill(host: Host, file: Path) -> None:
    host.isthmus("network", "create", "br0", "--subnet", "10.7.0.0/24", "--subnet", "fd07::/64")
    host.isthmus("ns", "create", "a")
    host.isthmus("attach", "br0", "a", "--ip", "10.7.0.50", "-p", "8080:80", "-p", "5353:53/udp")
    host.isthmus("run", "-d", "--name", "r", "-p", "9000:90", "--", "sleep", "1000")
    host.isthmus("up", str(file))


def count(state: Path, *tables: str) -> dict[str, int]:
    with contextlib.closing(sqlite3.connect(f"file:{state}/state.db?mode=ro", uri=True)) as db:
        return {table: db.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables}


def bridge(host: Host, name: str) -> tuple[str, list[str]]:
    (link,) = host.ip_json("addr", "show", "dev", name)
    return link["address"], sorted(one["local"] for one in link["addr_info"] if one["scope"] == "global")


@pytest.fixture(params=["namespace", "boot"])
def rebooted(request: pytest.FixtureRequest, tmp_path: Path, file: Path) -> Iterator[tuple[Lab, Path, Any]]:
    """Give a host that has the state file of one that is gone, and what br0 was there."""
    with Lab(tmp_path / "first") as first:
        fill(first.host, file)
        state, before = first.host.path / "state", bridge(first.host, "br0")
    with Lab(tmp_path / "second") as second:
        if request.param == "boot":
            other = tmp_path / "boot_id"
            other.write_text("01234567-89ab-cdef-0123-456789abcdef\n")
            second.host.run("mount", "--bind", str(other), "/proc/sys/kernel/random/boot_id")
        yield second, state, before


def test_nothing_is_leaked_by_a_reboot(rebooted: tuple[Lab, Path, Any], file: Path) -> None:
    lab, state, before = rebooted
    pristine = snapshot(lab.host)
    isthmus(lab.host, state, "repair")
    bound = count(state, "namespaces", "attachments", "publishes", "leases", "commands", "links", "journal", "trash")
    assert {table: rows for table, rows in bound.items() if rows} == {}
    assert bridge(lab.host, "br0") == before
    shown = json.loads(isthmus(lab.host, state, "network", "ls", "--format", "json").stdout)
    names = {row["name"] for row in (shown if isinstance(shown, list) else shown["networks"])}
    assert names == {"br0", "web"}  # not the one that was made for a run
    # The same address and the same ports can be had again, and work.
    isthmus(lab.host, state, "ns", "create", "a")
    isthmus(lab.host, state, "attach", "br0", "a", "--ip", "10.7.0.50", "-p", "8080:80", "-p", "5353:53/udp")
    lab.host.netns("a").serve("again", 80)
    assert lab.lan.probe(HOST4, 8080) == f"again {LAN4} 80"
    isthmus(lab.host, state, "up", str(file))
    assert isthmus(lab.host, state, "plan", str(file), check=False).returncode == 0
    isthmus(lab.host, state, "down", "web")
    isthmus(lab.host, state, "ns", "rm", "a", "--force")
    isthmus(lab.host, state, "network", "rm", "br0")
    assert snapshot(lab.host) == pristine


def test_files_of_namespaces_go_with_the_boot_and_somebodys_stay(rebooted: tuple[Lab, Path, Any]) -> None:
    lab, state, _ = rebooted
    script = """
    mkdir -p /etc/netns/a /etc/netns/w /etc/netns/other
    ln -s /run/isthmus/hosts/br0 /etc/netns/a/hosts
    printf '# kept by isthmus\nnameserver 192.0.2.1\n' | tee /etc/netns/a/resolv.conf >/etc/netns/w/resolv.conf
    echo '192.0.2.1 mine' | tee /etc/netns/w/hosts >/etc/netns/other/hosts
    """
    lab.host.run("sh", "-ec", script)
    isthmus(lab.host, state, "repair")
    left = lab.host.run("find", "/etc/netns", "-not", "-type", "d").stdout.split()
    assert sorted(left) == ["/etc/netns/other/hosts", "/etc/netns/w/hosts"]
    assert lab.host.run("ls", "/etc/netns").stdout.split() == ["other", "w"]


def test_a_state_file_of_a_namespace_that_lives_is_refused(lab: Lab, tmp_path: Path, file: Path) -> None:
    fill(lab.host, file)
    before = snapshot(lab.host)
    state = lab.host.path / "state"
    with Lab(tmp_path / "second") as second:
        pristine = snapshot(second.host)
        done = isthmus(second.host, state, "repair", check=False)
        assert done.returncode == 3
        assert "of another network namespace, which still lives" in done.stderr
        assert "hint: work inside that namespace, or set ISTHMUS_STATE_DIR" in done.stderr
        assert snapshot(second.host) == pristine
    assert snapshot(lab.host) == before
    lab.host.isthmus("detach", "br0", "a")
