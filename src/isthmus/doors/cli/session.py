"""One call of a verb: the host it works on, what is left to clear afterwards, and the end of the process."""

from __future__ import annotations

import os
import sys

from isthmus.doors.cli.output import note, progress
from isthmus.engine import Host
from isthmus.engine.waiting import is_waiting
from isthmus.errors import IsthmusError, NotPermitted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Final, TypeVar

    from isthmus.kernel.launch import Supervisor

    T = TypeVar("T")

__all__ = ["Session", "check_rights"]

# linux/capability.h
_CAPABILITIES: Final = {"CAP_NET_ADMIN": 12, "CAP_SYS_ADMIN": 21}


class Session:
    """A call of one verb. A changing one leaves dead links to a child, or waits until they are gone.

    `supervisor`: one that was started ahead, for `run`.
    """

    def __init__(self, supervisor: Supervisor | None = None) -> None:
        self._host: Host | None = None
        self._waits = False
        self.supervisor = supervisor

    def change(self, verb: Callable[[Host], T], *, waits: bool = False) -> T:
        """Run a changing verb; `waits`: the host shall be as before it all when the process ends.

        Raises:
            NotPermitted: this process may not change networks.
        """
        check_rights()
        host = Host()
        host.progress = progress()
        with host:
            self._host, self._waits = host, waits
            return verb(host)

    def read(self, verb: Callable[[Host], T], *, still: bool = False) -> T:
        """Run a verb that changes nothing; `still`: while nobody else does."""
        with Host(writable=False, still=still) as host:
            return verb(host)

    def clear(self) -> None:
        """Clear away what waits, or leave it to a child; the output is out by now."""
        if self._host is None:
            return
        from isthmus.engine import leave_to_child, reap

        if not self._waits:
            if is_waiting(self._host):
                leave_to_child(self._host.directory)
            self._host.access.close()
            return
        # Whatever the host says: a child of an earlier call may have been killed before it was done.
        try:
            reap(self._host.directory)
        except IsthmusError as error:
            note(f"dead links are left to the next call: {error.message}")


def check_rights() -> None:
    """Check that this process may change networks.

    Raises:
        NotPermitted: it may not.
    """
    if os.geteuid() == 0:
        return  # root, also of a user namespace; whether that is enough here the kernel says
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:
        effective = next((int(line.split()[1], 16) for line in file if line.startswith("CapEff:")), 0)
    missing = [name for name, bit in _CAPABILITIES.items() if not effective >> bit & 1]
    if missing:
        raise NotPermitted(
            f"cannot change networks: uid {os.geteuid()} lacks {' and '.join(missing)}",
            hint="run it as root, or in namespaces of your own: unshare -Urnm",
        )


def end(status: int) -> None:
    """End the process at once: closing the state file and tearing the interpreter down would cost 5 ms."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, KeyboardInterrupt):
            pass  # nobody reads any more, or wants to
    os._exit(status)
