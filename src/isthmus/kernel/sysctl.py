"""Values under /proc/sys, of the network namespace that the calling thread is in."""

from __future__ import annotations

import errno
import os

from isthmus.errors import KernelError, NotPermitted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

__all__ = ["SysctlReader", "conf_links", "conf_values", "read_sysctl", "write_sysctl"]

_KEPT: Final = 32


class SysctlReader:
    """Reads values that are asked for again and again: the first ones stay open, which saves finding them."""

    def __init__(self) -> None:
        self._open: dict[str, int] = {}

    def read(self, name: str) -> str | None:
        """Return a value, as `read_sysctl` does."""
        fd = self._open.get(name)
        if fd is not None:
            try:
                return _read(fd)
            except OSError:  # ENOENT: its link has gone; another one may have that name now
                os.close(self._open.pop(name))
        fd = _open(name)
        if fd is None:
            return None
        if len(self._open) < _KEPT:
            self._open[name] = fd
            return _read(fd)
        try:
            return _read(fd)
        finally:
            os.close(fd)

    def close(self) -> None:
        """Close what is open."""
        while self._open:
            os.close(self._open.popitem()[1])


def read_sysctl(name: str) -> str | None:
    """Return a value without its newline; None: this kernel or link has no such name."""
    fd = _open(name)
    if fd is None:
        return None
    try:
        return _read(fd)
    finally:
        os.close(fd)


def _open(name: str) -> int | None:
    try:
        return os.open(f"/proc/sys/{name}", os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as cause:
        if cause.errno == errno.EOPNOTSUPP:
            return None
        raise KernelError("read sysctl", name, cause.errno or 0) from cause


def _read(fd: int) -> str:
    return os.pread(fd, 4096, 0).decode().strip()


def write_sysctl(name: str, value: str) -> bool:
    """Write a value; False: there is no such name (its link has gone).

    Raises:
        NotPermitted: /proc/sys is read-only here, or we may not.
        KernelError: the kernel refuses the value.
    """
    try:
        fd = os.open(f"/proc/sys/{name}", os.O_WRONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as cause:
        if cause.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise NotPermitted(
                f"cannot write sysctl {name}: {errno.errorcode[cause.errno]}", hint="mount /proc/sys read-write"
            ) from cause
        raise KernelError("write sysctl", name, cause.errno or 0) from cause
    try:
        os.write(fd, value.encode())
    except OSError as cause:
        raise KernelError("write sysctl", f"{name} = {value}", cause.errno or 0) from cause
    finally:
        os.close(fd)
    return True


def conf_links(family: int) -> tuple[str, ...]:
    """Return the links that have sysctls of a family, sorted; `all` and `default` are left out."""
    try:
        names = os.listdir(f"/proc/sys/net/ipv{family}/conf")
    except FileNotFoundError:
        return ()
    return tuple(sorted(name for name in names if name not in ("all", "default")))


def conf_values(family: int, link: str) -> dict[str, str]:
    """Return a link's sysctls of a family by name; those that cannot be read are left out."""
    folder = f"net/ipv{family}/conf/{link}"
    found = {}
    try:
        names = os.listdir(f"/proc/sys/{folder}")
    except FileNotFoundError:
        return {}
    for name in names:
        try:
            value = read_sysctl(f"{folder}/{name}")
        except (KernelError, OSError, UnicodeDecodeError):
            continue  # stable_secret says EIO while it is not set
        if value is not None:
            found[name] = value
    return found
