"""Processes seen through /proc: who is in a network namespace, when one started; and their end.

Source: proc(5), pidfd_open(2), pidfd_send_signal(2).
"""

from __future__ import annotations

import errno
import os
import select
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from collections.abc import Container, Iterable, Iterator
    from typing import Final
else:
    import _signal  # `signal` imports `enum`

__all__ = ["end", "in_netns", "parent", "pids_in", "processes", "program", "started", "wait"]

_KILL_TIMEOUT_S: Final = 5.0
_PASSING_S: Final = 0.002


def in_netns(places: Container[tuple[int, int]]) -> Iterator[tuple[int, tuple[int, int]]]:
    """Yield the processes whose main thread is in one of these network namespaces, given as (device, inode).

    One that only passes through, as our own calls do to open a socket there, is not in it: a second look tells.
    """
    pids = [pid for pid, _ in _found_in(places, os.listdir("/proc"))]
    if pids:
        time.sleep(_PASSING_S)
        yield from _found_in(places, pids)


def _found_in(places: Container[tuple[int, int]], pids: Iterable[str | int]) -> Iterator[tuple[int, tuple[int, int]]]:
    for pid in pids:
        if isinstance(pid, int) or pid.isdigit():
            try:
                status = os.stat(f"/proc/{pid}/ns/net")
            except OSError:
                continue  # ended, a zombie, or hidden from us
            if (status.st_dev, status.st_ino) in places:
                yield int(pid), (status.st_dev, status.st_ino)


def pids_in(device: int, inode: int) -> list[int]:
    """Return the processes whose main thread is in the network namespace of that identity."""
    return [pid for pid, _ in in_netns({(device, inode)})]


def processes(netns: int | str) -> list[tuple[int, str]]:
    """Return pid and program name of each process in a namespace, given by descriptor or path.

    Raises:
        FileNotFoundError: there is no such path.
    """
    status = os.stat(netns)
    found = []
    for pid in sorted(pids_in(status.st_dev, status.st_ino)):
        try:
            found.append((pid, program(pid)))
        except OSError:
            continue  # ended meanwhile
    return found


def program(pid: int) -> str:
    """Return the name of a process's program.

    Raises:
        OSError: it has ended.
    """
    with open(f"/proc/{pid}/comm", errors="replace") as file:
        return file.read().rstrip("\n")


def parent(pid: int) -> int:
    """Return the parent of a process (field 4 of /proc/PID/stat); 0: none that we see.

    Raises:
        OSError: it has ended.
    """
    return int(_fields(pid)[1])


def started(pid: int) -> int | None:
    """Return when a process started, in clock ticks since boot; None when it has ended (a zombie too).

    With the pid it names one process for good (field 22 of /proc/PID/stat).
    """
    try:
        fields = _fields(pid)
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


def _fields(pid: int) -> list[bytes]:
    """Return the fields of /proc/PID/stat after the name, from the third on."""
    with open(f"/proc/{pid}/stat", "rb") as file:
        return file.read().rpartition(b")")[2].split()


def wait(pidfds: Iterable[int], timeout_s: float) -> list[int]:
    """Wait until the processes have ended; return the descriptors of those that have not in time."""
    poll = select.poll()
    left = set(pidfds)
    for fd in left:
        poll.register(fd, select.POLLIN)
    deadline = time.monotonic() + timeout_s
    while left:
        ready = poll.poll(max(0.0, deadline - time.monotonic()) * 1000)
        if not ready:
            break
        for fd, _ in ready:
            poll.unregister(fd)
            left.discard(fd)
    return sorted(left)


def end(pids: Iterable[int], timeout_s: float) -> list[int]:
    """End processes: SIGTERM, up to timeout_s for them to go, then SIGKILL; one that is gone is success.

    Returns those that even SIGKILL did not end within five seconds (they wait for a device).
    """
    opened: dict[int, int] = {}
    try:
        for pid in pids:
            try:
                opened[os.pidfd_open(pid)] = pid
            except OSError as error:
                if error.errno not in (errno.ESRCH, errno.EINVAL):  # gone, or now a thread's id
                    raise
        _signal_all(opened, _signal.SIGTERM)
        left = wait(opened, timeout_s)
        _signal_all(left, _signal.SIGKILL)
        return [opened[fd] for fd in wait(left, _KILL_TIMEOUT_S)]
    finally:
        for fd in opened:
            os.close(fd)


def _signal_all(pidfds: Iterable[int], number: int) -> None:
    for fd in pidfds:
        try:
            _signal.pidfd_send_signal(fd, number)
        except ProcessLookupError:
            pass  # ended by itself
