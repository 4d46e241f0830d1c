"""Whether something waits to be cleared away after a call (reaper.py clears it)."""

from __future__ import annotations

import os

from isthmus.converge import Host

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

__all__ = ["is_waiting"]

# No call makes a checkpoint on its own path; beyond this size of the log one is due.
_LOG_MAX: Final = 1 << 20


def is_waiting(host: Host) -> bool:
    """Whether dead links, flows of freed addresses or a long log of the state file wait."""
    if host.trashed or host.db.all("SELECT 1 FROM trash LIMIT 1"):
        return True
    try:
        return os.stat(f"{host.db.path}-wal").st_size > _LOG_MAX
    except OSError:
        return False
