"""Processes in network namespaces that no supervisor of ours started: they would go on in one that has lost its name.

A supervisor is the subreaper of all that its command starts (supervisor.py).
"""

from __future__ import annotations

import os

from isthmus.kernel.process import Running, state
from isthmus.kernel.processes import in_netns, parent, program

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["inhabitants"]


def inhabitants(directory: str, namespaces: Mapping[str, int]) -> dict[str, list[tuple[int, str]]]:
    """Return pid and program name of each, by the name of its namespace, which is given with a descriptor of it.

    `directory` is where supervisors keep their files.
    """
    places = {}
    for name, fd in namespaces.items():
        status = os.fstat(fd)
        places[status.st_dev, status.st_ino] = name
    found: dict[str, list[tuple[int, str]]] = {}
    if not places:
        return found
    ours = _supervisors(directory)
    for pid, place in sorted(in_netns(places)):
        try:
            if not _is_below(pid, ours):
                found.setdefault(places[place], []).append((pid, program(pid)))
        except OSError:
            continue  # it has ended
    return found


def _supervisors(directory: str) -> set[int]:
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return set()
    states = [state(directory, name) for name in names]
    return {one.pid for one in states if isinstance(one, Running)}


def _is_below(pid: int, ancestors: set[int]) -> bool:
    while pid > 1:
        if pid in ancestors:
            return True
        pid = parent(pid)
    return False
