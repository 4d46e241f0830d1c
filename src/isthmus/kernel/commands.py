"""The commands of this host's record: started and ended under their supervisors, in one directory."""

from __future__ import annotations

import errno
import os

from isthmus.kernel.access import Access
from isthmus.model.host import Process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from isthmus.kernel.launch import Way

__all__ = ["Commands"]


class Commands:
    """Starts and ends commands; process.py is imported when there is one.

    `ways`, by namespace, tells how those are started that a call runs for its caller, and learns the pids.
    """

    def __init__(self, directory: str, access: Access, ways: dict[str, Way]) -> None:
        self._directory = directory
        self._access = access
        self._ways = ways

    def argv_of(self, netns: str) -> tuple[str, ...] | None:
        """Return what a namespace's command was started with; None: there is none.

        Empty where a call was killed while it started or ended it: it is to be started anew, or cleared away.
        """
        try:
            found = os.listdir(self._directory)
        except FileNotFoundError:
            return None
        if netns not in found:
            return None if found else ()
        try:
            with open(self._argv(netns), encoding="utf-8", errors="surrogateescape") as file:
                return tuple(file.read().split("\0"))
        except FileNotFoundError:
            return ()

    def _argv(self, netns: str) -> str:
        return f"{self._directory}/{netns}/argv"

    def start(self, item: Process) -> None:
        """Start a command; returns when its program has been executed."""
        from isthmus.kernel.process import BACKGROUND, start

        self._access.fd(item.netns)
        try:
            way = self._ways.get(item.netns) or BACKGROUND
            pid = start(self._directory, item.netns, self._access.path_of(item.netns), item.argv, way)
            self._ways[item.netns] = way.replace(pid=pid)
            new = f"{self._argv(item.netns)}.new"
            with open(new, "w", encoding="utf-8", errors="surrogateescape") as file:
                file.write("\0".join(item.argv))
            os.rename(new, self._argv(item.netns))
        except BaseException:
            self.stop(item)
            raise

    def stop(self, item: Process) -> None:
        """End a command with all its descendants; missing is success."""
        from isthmus.kernel.process import stop

        try:
            os.unlink(self._argv(item.netns))
        except (FileNotFoundError, NotADirectoryError):
            pass
        stop(self._directory, item.netns, 2.0)
        self._tidy()

    def _tidy(self) -> None:
        for path in (self._directory, os.path.dirname(self._directory)):
            try:
                os.rmdir(path)
            except OSError as cause:
                if cause.errno not in (errno.ENOENT, errno.ENOTEMPTY, errno.EEXIST):
                    raise
                break  # others are there, or it never was
