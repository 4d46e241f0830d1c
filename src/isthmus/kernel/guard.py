"""A process that acts at a set time unless it is ended before: whoever started it may be gone by then.

It has a session of its own, inherits nothing, and so outlives the terminal, the shell and a kill of the caller.
Where PID 1 is systemd it is a transient unit, which a logout does not end either (logind, KillUserProcesses).
"""

from __future__ import annotations

import os
import sys

from isthmus.errors import Unavailable
from isthmus.kernel.processes import end, started

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

__all__ = ["start", "stop"]

_UNIT: Final = "unit "
_BY_PIPE: Final = "import os\ndef ready():\n os.write(3, b'+')\n os.close(3)\n"
# sd_notify(3); a leading @ stands for the NUL of an abstract address.
_BY_NOTE: Final = """import os, _socket
def ready():
 path = os.environ["NOTIFY_SOCKET"].replace("@", chr(0), 1)
 _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM).sendto(b"READY=1", path)
"""
_PATIENCE_S: Final = 2.0


def start(program: str) -> str:
    """Run Python source by a bare interpreter; return what identifies the process, once the source says `ready`.

    The source finds the function `ready` in place, and calls it when it holds all that it needs.

    Raises:
        Unavailable: it cannot be started.
    """
    if os.path.isdir("/run/systemd/system"):
        return _start_unit(program)
    reader, writer = os.pipe()
    try:
        argv = [sys.executable, "-I", "-S", "-c", _BY_PIPE + program]
        actions = [(os.POSIX_SPAWN_DUP2, writer, 3)]
        actions += [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in (0, 1, 2)]  # type: ignore[misc]
        pid = os.posix_spawn(sys.executable, argv, os.environ, file_actions=actions, setsid=True)
    finally:
        os.close(writer)
    try:
        is_ready = os.read(reader, 1)  # end of file: it has ended, or is about to
    finally:
        os.close(reader)
    since = started(pid)
    if not is_ready or since is None:
        raise Unavailable("cannot start what would take the change back")
    return f"{pid} {since}"


def _start_unit(program: str) -> str:
    unit = f"isthmus-confirm-{os.urandom(4).hex()}"
    settings = [f"--setenv={name}={value}" for name, value in os.environ.items() if name.startswith("ISTHMUS_")]
    kind = ("--service-type=notify", f"--property=TimeoutStartSec={_PATIENCE_S * 5:.0f}")
    argv = ["systemd-run", "--quiet", "--collect", *kind, f"--unit={unit}", *settings, "--"]
    if _run([*argv, sys.executable, "-I", "-S", "-c", _BY_NOTE + program]):
        raise Unavailable("cannot start what would take the change back: systemd-run failed")
    return _UNIT + unit


def stop(identity: str) -> None:
    """End it; it may have ended."""
    if identity.startswith(_UNIT):
        _run(["systemctl", "stop", identity[len(_UNIT) :]])
        return
    pid, _, since = identity.partition(" ")
    if pid.isdigit() and str(started(int(pid))) == since:
        end([int(pid)], _PATIENCE_S)


def _run(argv: list[str]) -> int:
    try:
        pid = os.posix_spawnp(argv[0], argv, os.environ)
    except OSError:
        return 127
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
