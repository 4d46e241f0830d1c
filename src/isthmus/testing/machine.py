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
_PASSING_S: Final = 0.002
_MARK: Final = b"ISTHMUS_LAB="


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

    They are known by its mark in their environment; where there is none of any lab, by its mark among their
    mounts (a mount namespace that was copied from the lab's has it too), or by a network namespace of a holder.
    Who is seen there once only is passing through: a call that looks into every namespace of the machine.
    """
    namespaces = _network_namespaces(holders)
    found = [pid for pid in os.listdir("/proc") if pid.isdecimal() and _is_inside(pid, lab_id, namespaces)]
    if found:
        time.sleep(_PASSING_S)
    return [int(pid) for pid in found if _is_inside(pid, lab_id, namespaces)]


def _is_inside(pid: str, lab_id: str, namespaces: set[str]) -> bool:
    mark = lab_id.encode()
    try:
        marked = [one for one in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0") if one.startswith(_MARK)]
        if marked:
            return _MARK + mark in marked
        return os.readlink(f"/proc/{pid}/ns/net") in namespaces or mark in Path(f"/proc/{pid}/mountinfo").read_bytes()
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
