"""The files that set sysctls at boot, as they are on this host. Source: sysctl.d(5), sysctl(8)."""

from __future__ import annotations

import os

from isthmus.kernel.files import read_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

__all__ = ["read_sysctl_files"]

# The first one that has a name masks it in the others.
_DIRECTORIES: Final = (
    "/etc/sysctl.d",
    "/run/sysctl.d",
    "/usr/local/lib/sysctl.d",
    "/usr/lib/sysctl.d",
    "/lib/sysctl.d",
)
_LAST: Final = "/etc/sysctl.conf"


def read_sysctl_files() -> list[tuple[str, str]]:
    """Return (path, text) of each, by directory and name; one that cannot be read counts as empty.

    Where systemd boots, its own program reads them, which does not know the last one.
    """
    paths = [f"{directory}/{name}" for directory in _DIRECTORIES for name in _names(directory)]
    last = () if os.path.isdir("/run/systemd/system") else (_LAST,)
    return [(path, _text(path)) for path in (*paths, *last)]


def _names(directory: str) -> list[str]:
    try:
        return sorted(name for name in os.listdir(directory) if name.endswith(".conf"))
    except OSError:
        return []


def _text(path: str) -> str:
    try:
        return read_text(path)
    except OSError:
        return ""
