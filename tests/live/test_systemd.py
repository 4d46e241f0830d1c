"""Under systemd: the guard of a change that waits is a transient unit, run by a real systemd that is PID 1 of its own.

It has namespaces of its own inside the lab's host, whose network and /run it shares, and a cgroup of its own; it finds
no units but a few empty targets, may write no sysctl but the network's, and cannot boot, load modules or set the clock.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from tests.live.driving import end, wait_for

from isthmus.testing import Host, Lab, Place

SYSTEMD: Final = "/lib/systemd/systemd"
CREATE: Final = ("network", "create", "lan0", "--uplink", "nic:eth0", "--confirm-within")
INTO_CGROUP: Final = """
mkdir "$1" && echo $$ >"$1/cgroup.procs" || exit 1
exec unshare --cgroup --mount --pid --uts --fork --kill-child --mount-proc --propagation private sh -ec "$2"
"""
AS_PID_1: Final = """
umount --recursive --lazy /sys
mount -t sysfs none /sys
mount -t cgroup2 none /sys/fs/cgroup
mkdir /run/units /run/net
mount --bind /dev /dev
mount -o remount,ro,bind /dev
mount --bind /proc/sys/net /run/net
mount --bind /proc/sys /proc/sys
mount -o remount,ro,bind /proc/sys
mount --bind /run/net /proc/sys/net
for name in lab sysinit basic shutdown; do
    printf '[Unit]\\nDefaultDependencies=no\\n' >/run/units/$name.target
done
exec env -i PATH="$PATH" container=lab SYSTEMD_UNIT_PATH=/run/units SYSTEMD_GENERATOR_PATH=/run/none \
    SYSTEMD_ENVIRONMENT_GENERATOR_PATH=/run/none \
    setpriv --bounding-set=-sys_boot,-sys_module,-sys_time --inh-caps=-all \
    /lib/systemd/systemd --system --unit=lab.target --log-target=console --show-status=no
"""


class Booted(Place):
    """The lab's host as what runs under its systemd sees it, which answers nobody outside of its pid namespace."""

    def __init__(self, host: Host, pid: str) -> None:
        super().__init__(("nsenter", "-t", pid, "-n", "-m", "-p", "--"), host._environment, host._processes)

    def isthmus(self, *argv: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.run(sys.executable, "-m", "isthmus.doors.cli", *argv, check=check)


@pytest.fixture
def host(lab: Lab) -> Iterator[Booted]:
    """Give a host that runs systemd."""
    if not Path(SYSTEMD).exists() or shutil.which("setpriv") is None:
        pytest.skip("systemd is not installed")
    host = lab.host
    if host.run("mount", "-t", "cgroup2", "none", "/sys/fs/cgroup", check=False).returncode:
        pytest.skip("cgroup2 cannot be mounted")
    folder = f"/sys/fs/cgroup/isthmus-lab-{host.pid}"
    process = host.spawn("sh", "-c", INTO_CGROUP, "sh", folder, AS_PID_1)
    find = ("pgrep", "--parent", str(process.pid), "--exact", "systemd")
    try:
        wait_for(lambda: host.run(*find, check=False).stdout != "", "PID 1")
        booted = Booted(host, host.run(*find).stdout.strip())
        wait_for(lambda: booted.run("systemctl", "is-system-running", check=False).stdout == "running\n", "systemd")
        yield booted
    finally:
        end(process)
        clear = ("find", folder, "-depth", "-type", "d", "-exec", "rmdir", "{}", "+")
        wait_for(lambda: not host.run(*clear, check=False).returncode, "the cgroup's end")


def units(host: Booted) -> list[str]:
    done = host.run("systemctl", "list-units", "--output=json", "isthmus-confirm-*")
    return [one["unit"] for one in json.loads(done.stdout) if one["sub"] == "running"]


def is_on_bridge(host: Booted) -> bool:
    (link,) = host.ip_json("link", "show", "eth0")
    return "master" in link


def test_a_unit_takes_back_what_nobody_confirms(host: Booted) -> None:
    host.isthmus(*CREATE, "2")
    (unit,) = units(host)
    shown = host.run("systemctl", "show", "--property=MainPID,ControlGroup,Type", unit).stdout
    assert f"ControlGroup=/system.slice/{unit}\n" in shown
    assert "Type=notify\n" in shown
    assert is_on_bridge(host)
    wait_for(lambda: not is_on_bridge(host) and units(host) == [], "the way back")
    assert "too late: network create was taken back" in host.isthmus("confirm", check=False).stderr


def test_a_unit_ends_when_the_change_is_confirmed_or_fails(host: Booted) -> None:
    host.isthmus(*CREATE, "60")
    assert len(units(host)) == 1
    host.isthmus("confirm")
    assert units(host) == []
    assert is_on_bridge(host)
    host.isthmus("network", "rm", "lan0", "--confirm-within", "60")
    assert len(units(host)) == 1
    host.isthmus("confirm", "--revert")
    assert units(host) == []
    assert is_on_bridge(host)
    host.isthmus("network", "rm", "lan0", "--confirm-within", "none")
    done = host.isthmus(*CREATE, "60", "--dhcp", "none", check=False)  # no server answers
    assert (done.returncode, units(host)) == (3, [])


def test_without_a_guard_nothing_is_begun(host: Booted) -> None:
    host.run("mkdir", "/run/bin")
    host.run("sh", "-c", "printf '#!/bin/sh\\nexit 1\\n' >/run/bin/systemd-run; chmod +x /run/bin/systemd-run")
    done = host.run(
        "sh",
        "-c",
        'PATH=/run/bin:$PATH; exec "$@"',
        "sh",
        sys.executable,
        "-m",
        "isthmus.doors.cli",
        *CREATE,
        "60",
        check=False,
    )
    assert "cannot start what would take the change back: systemd-run failed" in done.stderr, done.stderr
    assert not is_on_bridge(host)
