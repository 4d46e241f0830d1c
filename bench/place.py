"""Where a group of rows is measured: a process with network, mount and pid namespaces of its own.

`launch` starts it by unshare(1); /run is an empty tmpfs there, and all that it leaves ends with it. Inside,
`hand_host` is a second throw-away host for what the engine is compared with: a commit of one to nf_tables
must not look to the other like a stranger's.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from isthmus.kernel import libc, netns

__all__ = ["OUTSIDE", "ROOT", "Hand", "launch", "move_in", "own_netns", "run"]

ROOT: Final = Path(__file__).resolve().parents[1]
OUTSIDE: Final = "ISTHMUS_BENCH_OUTSIDE"
STATE: Final = "ISTHMUS_BENCH_STATE"
_UNSHARE: Final = ("unshare", "-nmp", "--fork", "--kill-child", "--mount-proc", "--propagation", "private")
_SYSCTLS: Final = ("net/ipv4/ip_forward", "net/ipv4/conf/all/rp_filter", "net/ipv4/conf/default/rp_filter")


def own_netns() -> str:
    """Return what identifies the network namespace of this process."""
    return os.readlink("/proc/self/ns/net")


def launch(group: str, *, quick: bool, output: int) -> int:
    """Run a group of rows in namespaces of its own; its results go to the descriptor `output`."""
    state = os.environ.get(STATE)
    folder = tempfile.mkdtemp(prefix="isthmus-bench-", dir=state) if state else ""
    environment = {**os.environ, OUTSIDE: own_netns(), "ISTHMUS_STATE_DIR": folder or "/run/isthmus-state"}
    argv = [*_UNSHARE, sys.executable, str(ROOT / "bench" / "run.py"), "--group", group, "--output", str(output)]
    try:
        return subprocess.run(
            argv + ["--quick"] * quick, env=environment, pass_fds=(output,), stdin=subprocess.DEVNULL, check=False
        ).returncode
    finally:
        if folder:
            shutil.rmtree(folder, ignore_errors=True)


def move_in() -> None:
    """Make the namespaces that this process was started in a host to play with.

    Raises:
        SystemExit: it was not started by `launch`, or is in the network namespace of whoever started that.
    """
    outside = os.environ.get(OUTSIDE)
    # In a pid namespace of its own /proc/1 is the bench itself; and where it is not, reading /proc/1/ns/net may
    # be EACCES, even for root: so the namespace that the bench was started from is told by whoever started it.
    if os.getpid() != 1 or not outside or own_netns() == outside:
        raise SystemExit("bench: refused to work in the network namespace of the machine")
    libc.mount("bench", "/run", "tmpfs", 0, "mode=755")
    libc.mount("sysfs", "/sys", "sysfs", 0)
    # `up` keeps files below /etc/netns: let them be a copy's.
    run("cp", "-a", "/etc", "/run/etc")
    libc.mount("/run/etc", "/etc", None, libc.MS_BIND)
    shutil.rmtree("/etc/netns", ignore_errors=True)
    netns.forget_own()
    run("ip", "link", "set", "lo", "up")
    for name in _SYSCTLS:  # what a new namespace inherits from the machine is set to the kernel's defaults
        Path("/proc/sys", name).write_text("0")


def run(*argv: str, where: str = "", check: bool = True) -> str:
    """Run a command to its end, in a named namespace unless `where` is empty; return its output."""
    enter = ("ip", "netns", "exec", where) if where else ()
    done = subprocess.run([*enter, *argv], capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    if check and done.returncode:
        raise RuntimeError(f"{' '.join(argv)}: {done.stderr.strip()}")
    return done.stdout


class Hand:
    """A second host, made by hand: a namespace to be in for as long as a `with` block lasts."""

    def __init__(self, name: str = "hand") -> None:
        self.name = name
        netns.make(name)
        self.fd = os.open(f"/run/netns/{name}", os.O_RDONLY | os.O_CLOEXEC)

    def inside(self) -> netns.Inside:
        """Be in it; a child that is started meanwhile is too."""
        return netns.Inside(self.fd)
