"""The commands of this host's record: started and ended under their supervisors, in one directory."""

from __future__ import annotations

import errno
import os
import sys

from isthmus.errors import Refused
from isthmus.kernel.access import Access
from isthmus.model.host import HOST, Process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from isthmus.kernel.launch import Way

__all__ = ["Commands"]

_OWN: Final = "/proc/self/ns/net"  # the supervisor's is the host's too
_NOT_FOUND: Final = 127  # sh(1)
_PACKAGES: Final = {"busybox": "busybox", "dhcpcd": "dhcpcd (Debian: dhcpcd-base)"}
_FOLLOWER: Final = "isthmus.converge.leases"
_PATIENCE_S: Final = 8.0  # a server may ping an address for one to three seconds before it offers it


class Commands:
    """Starts and ends commands; process.py is imported when there is one.

    `state` is the directory of the state file. `ways`, by namespace, tells how those are started that a call runs for
    its caller, and learns the pids.
    """

    def __init__(self, directory: str, state: str, access: Access, ways: dict[str, Way]) -> None:
        self._directory = directory
        self._state = state
        self._access = access
        self._ways = ways

    def argv_of(self, item: Process) -> tuple[str, ...] | None:
        """Return what a command was started with; None: there is none.

        Empty where a call was killed while it started or ended it, and where one that ought to last has ended:
        it is to be started anew, or cleared away.
        """
        try:
            found = os.listdir(self._directory)
        except FileNotFoundError:
            return None
        if item.id not in found:
            return None if found else ()
        try:
            with open(self._argv(item), encoding="utf-8", errors="surrogateescape") as file:
                argv = tuple(file.read().split("\0"))
        except FileNotFoundError:
            return ()
        return argv if not item.lasting or self._runs(item) else ()

    def _argv(self, item: Process) -> str:
        return f"{self._directory}/{item.id}/argv"

    def _runs(self, item: Process) -> bool:
        from isthmus.kernel.process import Running, state

        return isinstance(state(self._directory, item.id), Running)

    def start(self, item: Process, *, waits: bool = True) -> None:
        """Start a command; returns when its program has been executed, or (`waits`) one that lasts is ready.

        Raises:
            Refused: it was not ready in time.
        """
        from isthmus.kernel.process import BACKGROUND, start

        if item.netns != HOST:
            self._access.fd(item.netns)
        path = _OWN if item.netns == HOST else self._access.path_of(item.netns)
        try:
            way = self._lasting_way(item) if item.lasting else self._ways.get(item.netns) or BACKGROUND
            pid = start(self._directory, item.id, path, item.argv, way)
            if item.lasting and waits:
                self._await_ready(item)
            elif not item.lasting:
                self._ways[item.netns] = way.replace(pid=pid)
            new = f"{self._argv(item)}.new"
            with open(new, "w", encoding="utf-8", errors="surrogateescape") as file:
                file.write("\0".join(item.argv))
            os.rename(new, self._argv(item))
        except BaseException:
            self.stop(item)
            raise

    def _lasting_way(self, item: Process) -> Way:
        """Tell the script of a member's client what to run when the lease has changed."""
        from isthmus.kernel.beside import source_of
        from isthmus.kernel.launch import BACKGROUND

        if item.netns == HOST:
            return BACKGROUND
        commands = os.path.abspath(self._directory)
        source = source_of(_FOLLOWER, "follow", os.path.abspath(self._state), commands, item.id, item.netns)
        told = {"CLIENT": f"{commands}/{item.id}", "PYTHON": sys.executable, "FOLLOW": source}
        return BACKGROUND.replace(environment=tuple(f"ISTHMUS_{name}={value}" for name, value in told.items()))

    def _await_ready(self, item: Process) -> None:
        from isthmus.kernel.log import await_status
        from isthmus.kernel.process import log_path

        status = await_status(self._directory, item.id, _PATIENCE_S)
        if status == 0:
            return  # a child of it goes on
        if status == _NOT_FOUND:
            program = item.argv[4]
            raise Refused(f"no program {program}: it has the DHCP client", hint=f"install {_PACKAGES[program]}")
        with open(log_path(self._directory, item.id), encoding="utf-8", errors="replace") as file:
            said = file.read().strip().rpartition("\n")[2]
        where = f" in {item.netns}" if item.netns != HOST else ""
        raise Refused(
            f"no DHCP server gives an address{where}, within {_PATIENCE_S:.0f} s ({said or 'nothing was said'})"
        )

    def stop(self, item: Process) -> None:
        """End a command with all its descendants; missing is success."""
        from isthmus.kernel.process import stop

        try:
            os.unlink(self._argv(item))
        except (FileNotFoundError, NotADirectoryError):
            pass
        stop(self._directory, item.id, 2.0)
        self._tidy()

    def _tidy(self) -> None:
        for path in (self._directory, os.path.dirname(self._directory)):
            try:
                os.rmdir(path)
            except OSError as cause:
                if cause.errno not in (errno.ENOENT, errno.ENOTEMPTY, errno.EEXIST, errno.EBUSY):
                    raise
                break  # others are there, or it never was
