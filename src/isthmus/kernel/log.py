"""Wait for files of a supervised command (inotify) and for its supervisor: what it writes, and its exit status.

Source: inotify(7), pidfd_open(2).
"""

from __future__ import annotations

import os
import select
import time
from math import ceil

from isthmus.kernel.libc import IN_MODIFY, IN_MOVED_TO, inotify_add_watch, inotify_init1
from isthmus.kernel.process import Running, exit_status, log_path, state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Final

__all__ = ["await_status", "pieces"]

_SIZE: Final = 1 << 16


def pieces(directory: str, name: str, *, follow: bool) -> Iterator[bytes]:
    """Return what the command of that name wrote, in pieces; `follow`: until all of it has ended.

    The file is open when this returns, so that nothing is lost when it is removed.
    """
    path = log_path(directory, name)
    log = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    events, pidfd = -1, -1
    if follow:
        events = inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        inotify_add_watch(events, path, IN_MODIFY)
        pidfd = _supervisor(directory, name)
    return _read(log, events, pidfd)


def await_status(directory: str, name: str, timeout_s: float) -> int | None:
    """Wait for a command's own end, which descendants of it may outlive; return its exit status.

    None: it runs on, or its supervisor was killed.
    """
    events = inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
    inotify_add_watch(events, f"{directory}/{name}", IN_MOVED_TO)
    pidfd = _supervisor(directory, name)
    deadline = time.monotonic() + timeout_s
    try:
        while True:
            ended = pidfd < 0 or _has_ended(pidfd, events)  # asked before the file is read: then it is the last word
            status = exit_status(directory, name)
            left_ms = ceil((deadline - time.monotonic()) * 1000)
            if status is not None or ended or left_ms <= 0:
                return status
            _poll(left_ms, events, pidfd)
    finally:
        for fd in (events, pidfd):
            if fd >= 0:
                os.close(fd)


def _supervisor(directory: str, name: str) -> int:
    found = state(directory, name)
    try:
        return os.pidfd_open(found.pid) if isinstance(found, Running) else -1
    except ProcessLookupError:
        return -1  # it has just ended


def _read(log: int, events: int, pidfd: int) -> Iterator[bytes]:
    try:
        while True:
            ended = pidfd < 0 or _has_ended(pidfd, events)  # asked before the rest is read: then that is all
            while piece := os.read(log, _SIZE):
                yield piece
            if ended:
                return
            _await(events, pidfd)
    finally:
        for fd in (log, events, pidfd):
            if fd >= 0:
                os.close(fd)


def _has_ended(pidfd: int, events: int) -> bool:
    """Whether the supervisor has ended; what has been told of the file is forgotten."""
    try:
        while os.read(events, _SIZE):
            pass
    except BlockingIOError:
        pass
    return bool(_poll(0, pidfd))


def _await(events: int, pidfd: int) -> None:
    _poll(None, events, pidfd)


def _poll(timeout_ms: int | None, *fds: int) -> list[tuple[int, int]]:
    poll = select.poll()
    for fd in fds:
        poll.register(fd, select.POLLIN)
    return poll.poll(timeout_ms)
