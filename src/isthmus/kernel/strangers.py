"""Processes in network namespaces that no supervisor of ours started: they would go on in one that has lost its name.

Source: proc(5). A supervisor is the subreaper of all that its command starts (supervisor.py).
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["strangers"]


def strangers(directory: str, paths: Iterable[str]) -> dict[str, list[tuple[int, str]]]:
    """Return pid and program name of each stranger, by the path of its namespace; a path that is gone has none.

    `directory` is where supervisors keep their files.
    """
    places = {}
    for path in paths:
        try:
            status = os.stat(path)
        except FileNotFoundError:
            continue
        places[status.st_dev, status.st_ino] = path
    found: dict[str, list[tuple[int, str]]] = {}
    if not places:
        return found
    ours = _supervisors(directory)
    for pid in sorted(int(name) for name in os.listdir("/proc") if name.isdigit()):
        try:
            status = os.stat(f"/proc/{pid}/ns/net")
            path = places.get((status.st_dev, status.st_ino), "")
            if path and not _is_below(pid, ours):
                with open(f"/proc/{pid}/comm", errors="replace") as file:
                    found.setdefault(path, []).append((pid, file.read().rstrip("\n")))
        except OSError:
            continue  # it has ended, or is hidden from us
    return found


def _supervisors(directory: str) -> set[int]:
    found: set[int] = set()
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return found
    for name in names:
        try:
            with open(f"{directory}/{name}/pid") as file:
                found.add(int(file.read().split()[0]))
        except (OSError, ValueError, IndexError):
            continue  # what it had started has ended
    return found


def _is_below(pid: int, ancestors: set[int]) -> bool:
    while pid > 1:
        if pid in ancestors:
            return True
        with open(f"/proc/{pid}/stat", "rb") as file:
            pid = int(file.read().rpartition(b")")[2].split()[1])
    return False
