"""The commands of this host's record: started and ended under their supervisors, in one directory."""

from __future__ import annotations

import errno
import os

from isthmus.kernel.access import Access
from isthmus.model.host import Process

__all__ = ["Commands"]


class Commands:
    """Starts and ends commands; process.py is imported when there is one."""

    def __init__(self, directory: str, access: Access) -> None:
        self._directory = directory
        self._access = access

    def is_known(self, netns: str) -> bool:
        """Whether a namespace's command has a directory: it runs, has ended and was not stopped, or was never begun."""
        try:
            found = os.listdir(self._directory)
        except FileNotFoundError:
            return False
        return netns in found or not found

    def was_begun(self, netns: str) -> bool:
        """Whether a known command runs or has ended; else a call was killed before it was on record."""
        from isthmus.kernel.process import state

        return state(self._directory, netns) is not None

    def start(self, item: Process) -> None:
        """Start a command; returns when its program has been executed."""
        from isthmus.kernel.process import start

        self._access.fd(item.netns)
        try:
            start(self._directory, item.netns, self._access.path_of(item.netns), item.argv)
        except BaseException:
            self._tidy()
            raise

    def stop(self, item: Process) -> None:
        """End a command with all its descendants; missing is success."""
        from isthmus.kernel.process import stop

        stop(self._directory, item.netns, 10.0)
        self._tidy()

    def _tidy(self) -> None:
        for path in (self._directory, os.path.dirname(self._directory)):
            try:
                os.rmdir(path)
            except OSError as cause:
                if cause.errno not in (errno.ENOENT, errno.ENOTEMPTY, errno.EEXIST):
                    raise
                break  # others are there, or it never was
