"""The exception tree of isthmus.

    IsthmusError
    ├── InvalidInput      what was asked for cannot be said that way (field, value)
    ├── Refused           well said, but would hurt or contradict something (carries users)
    │   └── NotExecutable     a program that cannot be executed
    ├── NotFound          no such network, namespace, attachment or publish
    │   └── ProgramNotFound   no such program
    ├── NotPermitted      this process may not do it
    ├── Unsupported       this kernel or machine lacks a feature, by name
    ├── KernelError       the kernel said no: operation, object, errno, its own words
    ├── ApplyError        a step of a plan failed; whether the host is as before
    ├── StoreError        the state file cannot be used
    └── Unavailable       may be tried again (somebody else holds the lock)

Wording: lower case, no full stop, *what we tried: on which object: why*. A remedy is a separate `hint`.
"""

from __future__ import annotations

import errno as errno_names

__all__ = [
    "ApplyError",
    "InvalidInput",
    "IsthmusError",
    "KernelError",
    "NotExecutable",
    "NotFound",
    "NotPermitted",
    "ProgramNotFound",
    "Refused",
    "StoreError",
    "Unavailable",
    "Unsupported",
]


class IsthmusError(Exception):
    """Say what went wrong, and in `hint` what to do about it.

    `field` is what of the request it is about, where that is known; `several`: the errors that this one gathers.
    """

    several: tuple[IsthmusError, ...] = ()

    def __init__(self, message: str, *, hint: str = "", field: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.field = field


class InvalidInput(IsthmusError):
    """Reject a value; `field` is its place (`networks.br0.subnets[0]`), `value` what stood there."""

    def __init__(self, field: str, value: object, why: str, *, hint: str = "") -> None:
        super().__init__(f"{field}: {value!r}: {why}" if field else f"{value!r}: {why}", hint=hint, field=field)
        self.value = value
        self.why = why


class Refused(IsthmusError):
    """Decline a well-formed request; `users` names what stands against it."""

    def __init__(self, message: str, *, users: tuple[str, ...] = (), hint: str = "", field: str = "") -> None:
        super().__init__(message, hint=hint, field=field)
        self.users = users


class NotExecutable(Refused):
    """Report a program that cannot be executed."""


class NotFound(IsthmusError):
    """Report that a named thing does not exist."""


class ProgramNotFound(NotFound):
    """Report that there is no such program."""


class NotPermitted(IsthmusError):
    """Report that this process lacks a right."""


class Unsupported(IsthmusError):
    """Report a feature that this kernel or machine lacks; `feature` is its name."""

    def __init__(self, feature: str, message: str, *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.feature = feature


class KernelError(IsthmusError):
    """Carry a refusal of the kernel: what was tried, on what, errno and the extended ack's text."""

    def __init__(self, operation: str, subject: str, errno: int, extack: str = "", *, hint: str = "") -> None:
        name = errno_names.errorcode.get(errno, str(errno))
        words = f" (kernel: {extack})" if extack else ""
        super().__init__(f"cannot {operation} {subject}: {name}{words}", hint=hint)
        self.operation = operation
        self.subject = subject
        self.errno = errno
        self.extack = extack


class ApplyError(IsthmusError):
    """Report the step that failed; `undone` tells whether the host is as it was before."""

    def __init__(self, message: str, *, undone: bool, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.undone = undone


class StoreError(IsthmusError):
    """Report a state file that is torn, foreign, newer than this program, or open to others."""


class Unavailable(IsthmusError):
    """Report something that may work when tried again."""
