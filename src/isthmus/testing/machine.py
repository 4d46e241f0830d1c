"""The machine that carries the labs: what a lab left on it, and the end of a lab's processes."""

from __future__ import annotations

import os
import select
import signal
import socket
import time
from pathlib import Path
from typing import Final

__all__ = ["LeftBehind", "end_processes", "processes_of", "traces"]

_FOLDERS: Final = ("/run/netns", "/etc/netns", "/etc/sysctl.d", "/var/lib/isthmus", "/run/isthmus")
_DEADLINE_S: Final = 10.0


class LeftBehind(AssertionError):
    """Report what is on the machine after a lab and was not before."""


def traces() -> set[str]:
    """Return one line for each link, mount and file of the machine that a lab might leave."""
    found = {f"link {name}" for _, name in socket.if_nameindex()}
    # mountinfo(5): the fifth field is the mount point.
    found |= {f"mount {line.split()[4]}" for line in Path("/proc/self/mountinfo").read_text().splitlines()}
    for folder in _FOLDERS:
        for path, _, names in os.walk(folder):
            found |= {f"path {path}", *(f"path {path}/{name}" for name in names)}
    return found


def processes_of(lab_id: str, holders: list[int]) -> list[int]:
    """Return the processes of a lab.

    They are known by any of: its mark in their environment, its mark among their mounts (a mount
    namespace that was copied from the lab's has it too), a network namespace of a holder.
    """
    namespaces = _network_namespaces(holders)
    return [int(name) for name in os.listdir("/proc") if name.isdecimal() and _is_inside(name, lab_id, namespaces)]


def _is_inside(pid: str, lab_id: str, namespaces: set[str]) -> bool:
    mark = lab_id.encode()
    try:
        return (
            os.readlink(f"/proc/{pid}/ns/net") in namespaces
            or b"ISTHMUS_LAB=" + mark in Path(f"/proc/{pid}/environ").read_bytes()
            or mark in Path(f"/proc/{pid}/mountinfo").read_bytes()
        )
    except OSError:  # it ended meanwhile, is a zombie, or is above us
        return False


def _network_namespaces(holders: list[int]) -> set[str]:
    """Return the network namespaces of these processes, and the named ones below their /run/netns."""
    found = set()
    for pid in holders:
        try:
            found.add(os.readlink(f"/proc/{pid}/ns/net"))
            names = os.listdir(f"/proc/{pid}/root/run/netns")
            found |= {f"net:[{os.stat(f'/proc/{pid}/root/run/netns/{name}').st_ino}]" for name in names}
        except OSError:
            continue
    return found - {os.readlink("/proc/self/ns/net")}


def end_processes(lab_id: str, holders: list[int]) -> None:
    """Kill all processes of a lab, the holders last, and wait until they have ended.

    Raises:
        LeftBehind: some still run after ten seconds.
    """
    deadline = time.monotonic() + _DEADLINE_S
    # The holders keep the namespaces by which the others are found.
    for _ in range(2):  # one may start another and end while the first look goes by
        while others := [pid for pid in processes_of(lab_id, holders) if pid not in holders]:
            _kill(others, deadline)
    _kill(holders, deadline)


def _kill(pids: list[int], deadline: float) -> None:
    waiting = select.poll()
    handles = set()
    try:
        for pid in pids:
            try:
                handle = os.pidfd_open(pid)
            except ProcessLookupError:
                continue
            handles.add(handle)
            waiting.register(handle, select.POLLIN)
            signal.pidfd_send_signal(handle, signal.SIGKILL)
        pending = set(handles)
        while pending:
            ended = waiting.poll(max(0.0, deadline - time.monotonic()) * 1000)
            if not ended:
                raise LeftBehind(f"processes {pids} do not end")
            for handle, _ in ended:
                waiting.unregister(handle)
                pending.discard(handle)
    finally:
        for handle in handles:
            os.close(handle)
