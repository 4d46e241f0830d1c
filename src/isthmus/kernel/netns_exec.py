"""Run a program in a network namespace as `ip netns exec` does.

Own mount namespace, a /sys that shows the namespace's links, files of /etc/netns/NAME over those of /etc.
The supervisor of a command enters by the same function.
Source: iproute2 6.1 lib/namespace.c (netns_switch, bind_etc).
"""

from __future__ import annotations

import errno
import os
import sys

from isthmus.errors import KernelError, NotPermitted
from isthmus.kernel import libc
from isthmus.kernel.netns import RUN, open_netns

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from collections.abc import Sequence
    from typing import Final, NoReturn
else:
    import _signal  # `signal` imports `enum`

__all__ = ["enter", "execute", "replace"]

_ETC: Final = "/etc/netns"
_NOT_EXECUTABLE: Final = 126
_NOT_FOUND: Final = 127


def execute(target: str, argv: Sequence[str]) -> NoReturn:
    """Become the program, in the namespace of that name or absolute path.

    Ends the process with 127 when the program is not found and 126 when it cannot be executed,
    each with a line on stderr.

    Raises:
        NotFound, InvalidInput: there is no such namespace.
        NotPermitted, KernelError: the kernel refuses the way in.
    """
    enter(target if target.startswith("/") else f"{RUN}/{target}")
    sys.stdout.flush()
    try:
        replace(argv)
    except OSError as error:
        _say(f"error: cannot execute {argv[0]}: {error.strerror}")
        os._exit(_NOT_FOUND if isinstance(error, FileNotFoundError) else _NOT_EXECUTABLE)


def replace(argv: Sequence[str]) -> NoReturn:
    """Become the program, searched for in PATH, with the signals that Python ignores given back.

    Raises:
        OSError: it is not found or cannot be executed.
    """
    if not argv[0]:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    _signal.signal(_signal.SIGPIPE, _signal.SIG_DFL)
    _signal.signal(_signal.SIGXFSZ, _signal.SIG_DFL)
    os.execvp(argv[0], list(argv))


def enter(path: str, *, tells: bool = True) -> None:
    """Move this process for good into a namespace and into a mount namespace of its own.

    A file that /etc has none of is not bound over it; that is said as `ip netns exec` says it, if this `tells`.

    Raises:
        NotFound, InvalidInput: there is no network namespace at path.
        NotPermitted, KernelError: the kernel refuses.
    """
    fd = open_netns(path)
    step = "enter network namespace"
    name = os.path.basename(path) if os.path.dirname(path) == RUN else ""
    try:
        libc.setns(fd, libc.CLONE_NEWNET)
        step = "make a mount namespace for"
        libc.unshare(libc.CLONE_NEWNS)
        libc.mount("", "/", "none", libc.MS_SLAVE | libc.MS_REC)
        step = "mount /sys of network namespace"
        libc.mount(name or "netns", "/sys", "sysfs", _clear_sys())
    except OSError as error:
        if isinstance(error, PermissionError):
            raise NotPermitted(f"cannot {step} {path}: {error.strerror}") from error
        raise KernelError(step, path, error.errno or 0) from error
    finally:
        os.close(fd)
    if name:
        _bind_etc(name, tells=tells)


def _clear_sys() -> int:
    """Detach /sys; where that cannot be done, return the flags that one mounted over it must have."""
    try:
        libc.umount2("/sys", libc.MNT_DETACH)
    except OSError:
        try:
            return libc.MS_RDONLY if os.statvfs("/sys").f_flag & os.ST_RDONLY else 0
        except OSError:
            return 0
    return 0


def _bind_etc(name: str, *, tells: bool) -> None:
    """Bind each file of /etc/netns/NAME over the one in /etc; the kernel follows symlinks at both ends."""
    source = f"{_ETC}/{name}"
    try:
        entries = os.listdir(source)
    except OSError:
        return
    for entry in entries:
        try:
            libc.mount(f"{source}/{entry}", f"/etc/{entry}", "none", libc.MS_BIND)
        except OSError as error:
            if tells or error.errno != errno.ENOENT:
                _say(f"Bind {source}/{entry} -> /etc/{entry} failed: {error.strerror}")


def _say(line: str) -> None:
    """Write a line to descriptor 2, also where `sys.stderr` is gone."""
    try:
        os.write(2, os.fsencode(line) + b"\n")
    except OSError:
        pass  # nobody listens
