"""Where commands of a test run: a throw-away host, and the namespaces on it.

A `Host` is a child process that holds a network and a mount namespace: /run is an empty tmpfs, /etc a
copy (an overlay), /sys that of the namespace, so nothing that runs in it can touch the machine's own.
Commands enter by nsenter(1), which replaces itself: a pid is that of the command.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from isthmus.testing.programs import PROBE, SERVER

__all__ = ["CommandFailed", "Host", "Place", "Unnamed"]

# $1 is a folder for the layers of /etc. The name of the mount on /run marks this mount namespace and its
# copies. What IPv4 inherits from the machine (documentation of net.core.devconf_inherit_init_net) is set
# to the kernel's defaults.
_SET_UP: Final = """
set -e
mount -t tmpfs tmpfs "$1"
mkdir "$1/upper" "$1/work"
mount -t overlay overlay -o "lowerdir=/etc,upperdir=$1/upper,workdir=$1/work" /etc 2>/dev/null || {
    cp -a /etc "$1/etc"
    mount --bind "$1/etc" /etc
}
umount -l "$1"
mount -t tmpfs -o mode=755 "$ISTHMUS_LAB" /run
mount -t sysfs sysfs /sys
rm -rf /etc/netns /etc/resolv.conf /etc/sysctl.conf /etc/sysctl.d/*
echo "nameserver 203.0.113.9" >/etc/resolv.conf
echo 0 >/proc/sys/net/ipv4/ip_forward
for scope in all default; do
    echo 0 >/proc/sys/net/ipv4/conf/$scope/rp_filter
    echo 0 >/proc/sys/net/ipv4/conf/$scope/route_localnet
    echo 0 >/proc/sys/net/ipv4/conf/$scope/proxy_arp
done
ip link set lo up
echo ready
exec cat
"""


class CommandFailed(subprocess.CalledProcessError):
    """Report a command's exit status with all that it printed."""

    def __str__(self) -> str:
        return f"{super().__str__()}\nstdout: {self.stdout}\nstderr: {self.stderr}"


class Place:
    """Somewhere to run commands: `enter` is the command line that leads there."""

    def __init__(self, enter: tuple[str, ...], environment: dict[str, str], processes: list[subprocess.Popen[str]]):
        self._enter = enter
        self._environment = environment
        self._processes = processes

    def argv(self, *argv: str, cwd: str | os.PathLike[str] | None = None) -> list[str]:
        """Return the command line that runs a command in this place (cwd: / unless told)."""
        chdir = ("env", "-C", os.fspath(cwd)) if cwd is not None else ()
        return [*self._enter, *chdir, *argv]

    def run(
        self,
        *argv: str,
        check: bool = True,
        input: str | None = None,  # noqa: A002  the name that subprocess.run gives it
        timeout: float = 60,
        cwd: str | os.PathLike[str] | None = None,
        env: dict[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end and return its status and output.

        Raises:
            CommandFailed: another status than 0, unless `check` is false.
            subprocess.TimeoutExpired: it was killed after `timeout` seconds.
        """
        done = subprocess.run(
            self.argv(*argv, cwd=cwd),
            check=False,
            capture_output=True,
            text=True,
            env={**self._environment, **(env or {})},
            timeout=timeout,
            input=input or "",
        )
        if check and done.returncode:
            raise CommandFailed(done.returncode, done.args, done.stdout, done.stderr)
        return done

    def spawn(
        self,
        *argv: str,
        cwd: str | os.PathLike[str] | None = None,
        env: dict[str, str] | None = None,
        stderr: int = subprocess.PIPE,
    ) -> subprocess.Popen[str]:
        """Start a command with pipes for stdin and stdout; the lab ends it and closes them."""
        process = subprocess.Popen(
            self.argv(*argv, cwd=cwd),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            env={**self._environment, **(env or {})},
        )
        self._processes.append(process)
        return process

    def python(self, source: str, *args: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run Python source with this interpreter."""
        return self.run(sys.executable, "-c", source, *args, check=check)

    def ip_json(self, *args: str) -> list[dict[str, Any]]:
        """Run `ip -j -d ARGS` and return its objects."""
        return [one for one in json.loads(self.run("ip", "-j", "-d", *args).stdout or "[]") if one]

    def nft_json(self, *args: str) -> list[dict[str, Any]]:
        """Run `nft -j ARGS` (`list ruleset` unless told) and return its objects, without the first, metainfo."""
        found: list[dict[str, Any]] = json.loads(self.run("nft", "-j", *(args or ("list", "ruleset"))).stdout)[
            "nftables"
        ]
        return [one for one in found if "metainfo" not in one]

    def sysctl(self, name: str, value: str | int | None = None) -> str:
        """Return a sysctl by its name in slash form, after setting it if a value is given."""
        path = f"/proc/sys/{name}"
        if value is not None:
            self.run("sh", "-c", 'echo "$1" >"$2"', "sh", str(value), path)
        return self.run("cat", path).stdout.strip()

    def serve(
        self, name: str, *ports: int, address: str = "", protocols: tuple[str, ...] = ("tcp", "udp")
    ) -> subprocess.Popen[str]:
        """Start a server on these ports that answers "NAME peer-address local-port"; it listens when this returns.

        Without an address it listens on all of both families. `kill` and `wait` end it before the lab does.
        """
        argv = (sys.executable, "-I", "-S", "-c", SERVER, name, address, ",".join(protocols), *map(str, ports))
        return _await_ready(self.spawn(*argv))

    def probe(
        self,
        address: str,
        port: int,
        protocol: str = "tcp",
        *,
        timeout: float = 2,
        source: str = "",
        source_port: int = 0,
    ) -> str:
        """Ask a server once, and return its answer or what came instead.

        That is 'refused', 'timed out', 'unreachable', 'prohibited', 'reset', 'closed', 'not permitted',
        'no such source address', or the name of an errno.
        """
        arguments = (address, str(port), protocol, str(timeout), source, str(source_port))
        return self.run(sys.executable, "-I", "-S", "-c", PROBE, *arguments).stdout.strip()

    def pings(self, address: str, *, timeout: int = 2) -> bool:
        """Tell whether one echo request is answered in `timeout` seconds."""
        return self.run("ping", "-n", "-c1", f"-W{timeout}", address, check=False).returncode == 0


class Unnamed(Place):
    """A network namespace without a name: that of process `pid`, on the files of its host."""

    def __init__(self, host: Host, process: subprocess.Popen[str]):
        super().__init__((*host._enter, *_nsenter(process.pid, "-n")), host._environment, host._processes)
        self.process = process
        self.pid = process.pid


class Host(Place):
    """A throw-away host; `path` is its folder, which holds the state of its isthmus too."""

    def __init__(self, path: Path, lab_id: str, processes: list[subprocess.Popen[str]]):
        for name in ("etc", "state", "run"):
            (path / name).mkdir(parents=True)
        environment = {
            **os.environ,
            "LC_ALL": "C.UTF-8",
            "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin:/usr/bin:/bin",
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "ISTHMUS_LAB": lab_id,
            "ISTHMUS_STATE_DIR": str(path / "state"),
            "ISTHMUS_RUN_DIR": str(path / "run"),
        }
        machine = Place((), environment, processes)
        argv = ("unshare", "--net", "--mount", "--propagation", "private", "sh", "-c", _SET_UP, "sh", str(path / "etc"))
        self.pid = _await_ready(machine.spawn(*argv)).pid
        super().__init__(_nsenter(self.pid, "-n", "-m"), environment, processes)
        self.path = path
        # It was made a moment ago, so it is not that of PID 1 (which may not be readable) if it is not ours.
        if os.path.samefile(f"/proc/{self.pid}/ns/net", "/proc/self/ns/net"):
            raise RuntimeError(f"process {self.pid} has no network namespace of its own")

    def isthmus(
        self,
        *args: str,
        check: bool = True,
        input: str | None = None,  # noqa: A002  as in `run`
        cwd: str | os.PathLike[str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run the command line of isthmus."""
        return self.run(sys.executable, "-m", "isthmus.doors.cli", *args, check=check, input=input, cwd=cwd)

    def netns(self, name: str) -> Place:
        """Return the namespace of that name under /run/netns, which need not exist yet."""
        return Place((*self._enter, "ip", "netns", "exec", name), self._environment, self._processes)

    def within(self, name: str, *argv: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command by `ip netns exec NAME`."""
        return self.netns(name).run(*argv, check=check)

    def unnamed(self) -> Unnamed:
        """Make a network namespace that has no name but a process; its `lo` is up."""
        script = "ip link set lo up; echo ready; exec cat"
        return Unnamed(self, _await_ready(self.spawn("unshare", "--net", "sh", "-c", script)))


def _nsenter(pid: int, *kinds: str) -> tuple[str, ...]:
    return ("nsenter", "-t", str(pid), *kinds, "--")


def _await_ready(process: subprocess.Popen[str]) -> subprocess.Popen[str]:
    assert process.stdout is not None
    if process.stdout.readline() != "ready\n":
        output, errors = process.communicate(timeout=10)
        raise CommandFailed(process.returncode, process.args, output, errors)
    return process
