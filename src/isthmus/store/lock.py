"""The state directory, and the host lock in it, whose file tells who held it last and what its holder is about to do.

    length:u64 (native order; 0: nothing)   holder:u64 (drawn at random)   payload

The payload is written before the length, so a kill leaves no torn entry. What a power cut leaves is of a kernel that is
gone, and is forgotten (journal.forget_host). Who finds itself as the last holder knows that nobody has written since.
"""

from __future__ import annotations

import errno
import os
from fcntl import LOCK_EX, LOCK_NB, LOCK_SH, LOCK_UN, flock
from stat import S_ISREG, S_IWGRP, S_IWOTH
from struct import Struct

from isthmus.errors import NotPermitted, StoreError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

__all__ = ["DEFAULT_DIRECTORY", "Lock", "Stillness", "check_not_open_to_others", "read_begun", "state_directory"]

DEFAULT_DIRECTORY: Final = "/var/lib/isthmus"
_FILE: Final = "lock"
_HEAD: Final = Struct("=QQ")
_LENGTH: Final = Struct("=Q")
_NOTHING: Final = bytes(_LENGTH.size)


def state_directory() -> str:
    """Return where the state is: ISTHMUS_STATE_DIR or /var/lib/isthmus."""
    return os.environ.get("ISTHMUS_STATE_DIR") or DEFAULT_DIRECTORY


def _owned_directory(path: str) -> None:
    try:
        os.makedirs(path, mode=0o700, exist_ok=True)
        found = os.lstat(path)
    except PermissionError as cause:
        raise NotPermitted(
            f"cannot use state directory {path}: {cause.strerror}",
            hint="run as root, or set ISTHMUS_STATE_DIR",
        ) from cause
    except OSError as cause:
        raise StoreError(f"cannot use state directory {path}: {cause.strerror}") from cause
    check_not_open_to_others(path, found)


def check_not_open_to_others(path: str, found: os.stat_result) -> None:
    """Check that nobody else can have written something.

    Raises:
        StoreError: somebody could.
    """
    if found.st_mode & (S_IWGRP | S_IWOTH):
        raise StoreError(f"{path} can be written by others", hint=f"chmod go-w {path}, and look who did")
    if found.st_uid not in (0, os.geteuid()):
        hint = f"chown {os.geteuid()} {path}, if its owner is to be trusted, or set ISTHMUS_STATE_DIR"
        raise StoreError(f"{path} belongs to uid {found.st_uid}, not to us", hint=hint)


class Lock:
    """The host lock: one writer at a time. Close-on-exec; released by `release` or by the process's end.

    `left` is what a holder has begun and not ended: this one, or one that it found dead.
    """

    def __init__(self, directory: str) -> None:
        _owned_directory(directory)
        self._path = f"{directory}/{_FILE}"
        self._holder = os.urandom(_LENGTH.size)
        self.left: bytes | None = None
        self.fd = _open(self._path, os.O_RDWR | os.O_CREAT)

    def take(self) -> bool:
        """Wait until nobody else holds it, and hold it; return whether nobody else has held it since we did.

        Raises:
            StoreError: it cannot be read, or not be said who holds it.
        """
        flock(self.fd, LOCK_EX)
        try:
            holder, self.left = _read(self._path, self.fd)
            if holder == self._holder:
                return True
            self._write(self._holder, _LENGTH.size)
        except BaseException:
            self.release()
            raise
        return False

    def release(self) -> None:
        """Let the next writer in."""
        flock(self.fd, LOCK_UN)

    def close(self) -> None:
        """Close it, which releases it."""
        os.close(self.fd)

    def begin(self, payload: bytes) -> None:
        """Write down what the holder is about to do."""
        self._write(payload, _HEAD.size)
        self._write(_LENGTH.pack(len(payload)), 0)
        self.left = payload

    def _write(self, data: bytes, offset: int) -> None:
        try:
            os.pwrite(self.fd, data, offset)
        except OSError as cause:
            raise StoreError(f"cannot write {self._path}: {cause.strerror}") from cause

    def end(self) -> None:
        """Say that it is done. What cannot be said is found by the next holder, who has nothing left to do."""
        self.left = None
        try:
            os.pwrite(self.fd, _NOTHING, 0)
        except OSError:
            pass


def read_begun(directory: str) -> bytes | None:
    """Return what a dead holder of the lock was about to do, for who only reads; a living one is left alone."""
    path = f"{directory}/{_FILE}"
    if not os.path.lexists(path):
        return None
    fd = _open(path, os.O_RDONLY)
    try:
        flock(fd, LOCK_SH | LOCK_NB)
        return _read(path, fd)[1]
    except BlockingIOError:
        return None
    finally:
        os.close(fd)


class Stillness:
    """The host lock, shared by who only reads while nobody changes anything; nothing, where it cannot be had."""

    def __init__(self, directory: str) -> None:
        self._path = f"{directory}/{_FILE}"
        self._fd: int | None = None

    def take(self) -> None:
        """Wait until nobody changes the host, and let nobody."""
        try:
            self._fd = _open(self._path, os.O_RDONLY)
        except StoreError:
            return  # nobody has ever changed anything, or one may not ask
        flock(self._fd, LOCK_SH)

    def release(self) -> None:
        """Let writers in."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def _open(path: str, flags: int) -> int:
    try:
        fd = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    except OSError as cause:
        hint = "mount it read-write, or name another directory: ISTHMUS_STATE_DIR" if cause.errno == errno.EROFS else ""
        raise StoreError(f"cannot open {path}: {cause.strerror}", hint=hint) from cause
    found = os.fstat(fd)
    try:
        if not S_ISREG(found.st_mode):
            raise StoreError(f"{path} is no regular file")
        check_not_open_to_others(path, found)
    except StoreError:
        os.close(fd)
        raise
    return fd


def _read(path: str, fd: int) -> tuple[bytes, bytes | None]:
    """Return who held the lock last, and what was begun and not ended."""
    try:
        head = os.pread(fd, _HEAD.size, 0)
        length: int = _LENGTH.unpack_from(head)[0] if len(head) >= _LENGTH.size else 0
        return head[_LENGTH.size :], os.pread(fd, length, _HEAD.size) if length else None
    except (OSError, OverflowError) as cause:
        raise StoreError(f"cannot read {path}: {cause}") from cause
