"""The files that set sysctls at boot, as they are on this host. Source: sysctl.d(5), sysctl(8), ufw-framework(8)."""

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
_UFW: Final = "/etc/ufw/ufw.conf"
_UFW_DEFAULTS: Final = "/etc/default/ufw"


def read_sysctl_files() -> list[tuple[str, str]]:
    """Return (path, text) of each, by directory and name; one that cannot be read counts as empty.

    Where systemd boots, its own program reads them, which does not know the last one. UFW has one of its own, which it
    applies when it starts, after all others.
    """
    paths = [f"{directory}/{name}" for directory in _DIRECTORIES for name in _names(directory)]
    last = () if os.path.isdir("/run/systemd/system") else (_LAST,)
    return [(path, _text(path)) for path in (*paths, *last, *_of_ufw())]


def _of_ufw() -> tuple[str, ...]:
    """Return the file that UFW applies when it starts, if it is enabled and has one."""
    is_on = _variable(_UFW, "ENABLED").lower() == "yes"
    path = _variable(_UFW_DEFAULTS, "IPT_SYSCTL") if is_on else ""
    return (path,) if path else ()


def _variable(path: str, name: str) -> str:
    """Return what a shell would have of a file of assignments."""
    found = [line.strip().partition("=") for line in _text(path).splitlines()]
    values = [value.partition("#")[0].strip().strip("'\"") for key, _, value in found if key == name]
    return values[-1] if values else ""


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
