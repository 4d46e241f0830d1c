"""The C library's namespace and mount calls that `os` lacks, without the price of `ctypes`.

`ctypes` costs 4 ms to import, the extension module `_ctypes` under it 0.4 ms; it is loaded at the first call.
Python 3.12 has `setns` and `unshare` of its own: then those are used.
Source: setns(2), unshare(2), mount(2), umount(2), prctl(2), inotify(7); CPython Modules/_ctypes/ctypes.h for the flags.
"""

from __future__ import annotations

import posix
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Final

__all__ = [
    "CLONE_NEWNET",
    "CLONE_NEWNS",
    "IN_MODIFY",
    "IN_MOVED_TO",
    "MNT_DETACH",
    "MS_BIND",
    "MS_RDONLY",
    "MS_REC",
    "MS_SHARED",
    "MS_SLAVE",
    "PR_SET_CHILD_SUBREAPER",
    "PR_SET_NAME",
    "PR_SET_PDEATHSIG",
    "inotify_add_watch",
    "inotify_init1",
    "mount",
    "prctl",
    "setns",
    "umount2",
    "unshare",
]

CLONE_NEWNS: Final = 0x00020000
CLONE_NEWNET: Final = 0x40000000
MS_RDONLY: Final = 0x1
MS_BIND: Final = 0x1000
MS_REC: Final = 0x4000
MS_SLAVE: Final = 0x80000
MS_SHARED: Final = 0x100000
MNT_DETACH: Final = 2
IN_MODIFY: Final = 0x2
IN_MOVED_TO: Final = 0x80
PR_SET_PDEATHSIG: Final = 1
PR_SET_NAME: Final = 15
PR_SET_CHILD_SUBREAPER: Final = 36

_FUNCFLAG_CDECL: Final = 0x1
_FUNCFLAG_USE_ERRNO: Final = 0x8
_functions: Final[dict[str, Callable[..., int]]] = {}


def _load(name: str) -> Callable[..., int]:
    """Find a function of the C library."""
    import _ctypes

    class Int(_ctypes._SimpleCData):  # type: ignore[type-arg]
        _type_ = "i"

    class Function(_ctypes.CFuncPtr):
        _flags_ = _FUNCFLAG_CDECL | _FUNCFLAG_USE_ERRNO
        _restype_ = Int

    pointer: Any = Function(_ctypes.dlsym(_ctypes.dlopen(None, 0), name))  # type: ignore[arg-type]
    get_errno = _ctypes.get_errno

    def call(*arguments: object) -> int:
        result: int = pointer(*arguments)
        if result < 0:
            number = get_errno()
            raise OSError(number, posix.strerror(number))
        return result

    _functions[name] = call
    return call


def _long(number: int) -> object:
    """Wrap an integer as the unsigned long that the prototype asks for; a bare one is passed as an int."""
    wrapped = _types.get("L")
    if wrapped is None:
        import _ctypes

        class ULong(_ctypes._SimpleCData):  # type: ignore[type-arg]
            _type_ = "L"

        wrapped = _types["L"] = ULong
    return wrapped(number)


_types: Final[dict[str, Callable[[int], object]]] = {}

if sys.version_info >= (3, 12):
    from posix import setns, unshare
else:

    def setns(fd: int, nstype: int) -> None:
        """Move this thread into the namespace that fd is open on."""
        (_functions.get("setns") or _load("setns"))(fd, nstype)

    def unshare(flags: int) -> None:
        """Move this thread into new namespaces."""
        (_functions.get("unshare") or _load("unshare"))(flags)


def _bytes(text: str | bytes | None) -> bytes | None:
    return text.encode(errors="surrogateescape") if isinstance(text, str) else text


def mount(source: str, target: str, fstype: str | None, flags: int, data: str | None = None) -> None:
    """Attach a filesystem, or change how an attached one propagates.

    Raises:
        OSError: with the kernel's errno.
    """
    function = _functions.get("mount") or _load("mount")
    function(_bytes(source), _bytes(target), _bytes(fstype), _long(flags), _bytes(data))


def umount2(target: str, flags: int) -> None:
    """Detach a filesystem.

    Raises:
        OSError: with the kernel's errno; EINVAL when nothing is mounted there.
    """
    (_functions.get("umount2") or _load("umount2"))(_bytes(target), flags)


def prctl(option: int, argument: int | bytes) -> int:
    """Change an attribute of this process or thread.

    Raises:
        OSError: with the kernel's errno.
    """
    function = _functions.get("prctl") or _load("prctl")
    return function(option, argument if isinstance(argument, bytes) else _long(argument), _long(0), _long(0), _long(0))


def inotify_init1(flags: int) -> int:
    """Return a new descriptor that tells what happens to files.

    Raises:
        OSError: with the kernel's errno.
    """
    return (_functions.get("inotify_init1") or _load("inotify_init1"))(flags)


def inotify_add_watch(fd: int, path: str, mask: int) -> int:
    """Ask to be told what happens to a file.

    Raises:
        OSError: with the kernel's errno.
    """
    return (_functions.get("inotify_add_watch") or _load("inotify_add_watch"))(fd, _bytes(path), mask)
