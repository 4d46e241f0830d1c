"""The one table of this door, class of error -> exit status, and how errors are said."""

from __future__ import annotations

import errno
import os
import sys

from isthmus.errors import (
    InvalidInput,
    IsthmusError,
    KernelError,
    NotExecutable,
    NotFound,
    NotPermitted,
    ProgramNotFound,
    Refused,
    Unsupported,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Final

__all__ = ["INTERRUPTED", "PIPE_BROKEN", "STATUS", "Several", "Usage", "run_status_of", "say", "status_of", "unsaid"]

INTERRUPTED: Final = 130
PIPE_BROKEN: Final = 141
_OTHER: Final = 1
_INVALID: Final = 64
_NO_EXEC: Final = 126
_NO_PROGRAM: Final = 127
_NOT_PERMITTED: Final = 5
_RIGHTS: Final = "run it as root, or in namespaces of your own: unshare -Urnm"
_ROOT: Final = "root lacks a right here (CAP_NET_ADMIN, CAP_SYS_ADMIN), or the kernel does not take it in that state"
_OUTSIDE: Final = "no user namespace may do that, but the real root outside"
_EVERYBODY: Final = ["0", "0", "4294967295"]  # user_namespaces(7): uids of the initial namespace


class Usage(IsthmusError):
    """Report a command line that says nothing."""


class Several(IsthmusError):
    """Carry several errors, all of which are said; if their exit statuses differ, it is that of invalid input."""

    def __init__(self, errors: list[IsthmusError]) -> None:
        super().__init__("; ".join(one.message for one in errors))
        self.several = tuple(errors)


# The first that fits counts. Everything else is 1; 2 is `plan`'s alone.
STATUS: Final[tuple[tuple[type[IsthmusError], int], ...]] = (
    (Usage, _INVALID),
    (InvalidInput, _INVALID),
    (Refused, 3),
    (NotFound, 4),
    (NotPermitted, _NOT_PERMITTED),
    (Unsupported, 6),
)


def status_of(error: BaseException) -> int:
    """Return the exit status of an error."""
    if isinstance(error, Several):
        found = {status_of(one) for one in error.several}
        return found.pop() if len(found) == 1 else _INVALID
    if isinstance(error, BaseExceptionGroup):
        return status_of(error.exceptions[0])
    for kind, status in STATUS:
        if isinstance(error, kind):
            return status
    return _NOT_PERMITTED if _is_permission(error) else _OTHER


def run_status_of(error: BaseException) -> int:
    """Return the exit status of an error of `run`, of which all others are its command's."""
    return _NO_PROGRAM if isinstance(error, ProgramNotFound) else _NO_EXEC if isinstance(error, NotExecutable) else 125


def _is_permission(error: BaseException | None) -> bool:
    """Whether the kernel refused for want of a right, here or in what this was raised from."""
    while error is not None:
        if isinstance(error, PermissionError):
            return True
        if isinstance(error, KernelError) and error.errno in (errno.EPERM, errno.EACCES):
            return True
        error = error.__cause__
    return False


def say(error: BaseException) -> None:
    """Write an error to stderr: `error:` lines, its `hint:` (errors in a row may share one), and `note:` lines."""
    before = ""
    for one in _each(error):
        hint = one.hint if isinstance(one, IsthmusError) else ""
        if not hint and status_of(one) == _NOT_PERMITTED:
            hint = _OUTSIDE if _is_in_a_user_namespace() else _RIGHTS if os.geteuid() else _ROOT
        if before and hint != before:
            sys.stderr.write(f"hint: {before}\n")
        for line in _text(one).splitlines():
            sys.stderr.write(f"error: {line}\n")
        before = hint
    if before:
        sys.stderr.write(f"hint: {before}\n")
    for one in _each(error):
        for line in getattr(one, "__notes__", ()):
            sys.stderr.write(f"note: {line}\n")


def _is_in_a_user_namespace() -> bool:
    try:
        with open("/proc/self/uid_map", encoding="ascii") as file:
            return file.read().split() != _EVERYBODY
    except OSError:
        return False


def unsaid(error: OSError) -> IsthmusError:
    """Return the error for what could not be written to stdout; what was asked for is done by then."""
    return IsthmusError(f"cannot write to stdout: {error.strerror}; what was asked for is done")


def _each(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, IsthmusError) and error.several:
        yield from error.several
    elif isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            yield from _each(one)
    else:
        yield error


def _text(error: BaseException) -> str:
    if isinstance(error, IsthmusError):
        return error.message
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return f"unexpected {type(error).__name__}: {error}"
