"""Files of ours, whole."""

from __future__ import annotations

import os

from isthmus.errors import KernelError
from isthmus.model.host import File

__all__ = ["read_file", "write_file"]


def read_file(item: File) -> File | None:
    """Return a file as it is; None: it is not there."""
    try:
        with open(item.path, encoding="utf-8", errors="surrogateescape") as file:
            return File(path=item.path, text=file.read())
    except FileNotFoundError:
        return None


def write_file(item: File, *, gone: bool) -> None:
    """Write a file in the place of the old one, or remove it and the directory that it leaves empty."""
    directory = os.path.dirname(item.path)
    try:
        if gone:
            if os.path.lexists(item.path):
                os.unlink(item.path)
            if os.path.isdir(directory) and not os.listdir(directory):
                os.rmdir(directory)
            return
        os.makedirs(directory, mode=0o755, exist_ok=True)
        # In place: whoever has it mounted over /etc/hosts sees the new text.
        fd = os.open(item.path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        try:
            os.write(fd, item.text.encode("utf-8", "surrogateescape"))
        finally:
            os.close(fd)
    except OSError as cause:
        raise KernelError("write file", item.path, cause.errno or 0) from cause
