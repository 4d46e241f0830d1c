"""Files, directories and links of ours, and lines of hosts files.

A hosts file is written in place: whoever has it mounted over /etc/hosts sees the new text.
"""

from __future__ import annotations

import errno
import os

from isthmus.errors import KernelError, NotPermitted
from isthmus.model.host import HOSTS_HEAD, NAMES_HEAD, Directory, File, HostsLine, Symlink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Final

    from isthmus.model.host import HostObject

    FileObject = Directory | File | Symlink | HostsLine

# How the lines begin with which a hosts file begins, whoever wrote it.
_HEAD: Final = (NAMES_HEAD, "127.", "::1 ")

__all__ = [
    "check_writable",
    "drop_file",
    "drop_lines",
    "is_kept",
    "link_target",
    "read_file",
    "read_text",
    "write_file",
]


def read_text(path: str) -> str:
    """Return a file's text; empty where there is none."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError as cause:
        if cause.errno != errno.ELOOP:  # a link that leads to itself
            raise
        return ""
    try:
        pieces = []
        while piece := os.read(fd, 65536):
            pieces.append(piece)
        return b"".join(pieces).decode("utf-8", "surrogateescape")
    except IsADirectoryError:
        return ""
    finally:
        os.close(fd)


def link_target(path: str) -> str | None:
    """Return where a symbolic link leads, be it there or not; None: there is no such link."""
    try:
        return os.readlink(path)
    except OSError:
        return None


def read_file(item: FileObject) -> FileObject | None:
    """Return a file object as it is; None: it is not there."""
    if isinstance(item, Directory):
        return item if os.path.isdir(item.path) else None
    if isinstance(item, HostsLine):
        return item if f"\n{item.text}" in read_text(item.path) else None
    try:
        return Symlink(path=item.path, target=os.readlink(item.path))
    except FileNotFoundError:
        return None
    except OSError:  # no link but a file
        return File(path=item.path, text=read_text(item.path))


def is_kept(item: File | Symlink) -> bool:
    """Whether a file below /etc/netns, as it is, was made by us: it begins as ours do, or leads to one that we keep.

    One without a word is ours, too: a call was killed there.
    """
    if isinstance(item, Symlink):
        return os.path.basename(os.path.dirname(item.target)) == "hosts"
    return item.text.startswith(NAMES_HEAD) or not item.text.strip()


def write_file(item: FileObject) -> None:
    """Write a file object, in the place of an old one.

    Raises:
        KernelError, NotPermitted: it cannot be written.
    """
    try:
        _write(item)
    except OSError as cause:
        raise _refusal("write", item.path, cause) from cause


def _write(item: FileObject) -> None:
    if isinstance(item, Directory):
        os.makedirs(item.path, mode=0o755, exist_ok=True)
    elif isinstance(item, HostsLine):
        line = item.text
        try:
            _append(item.path, line)
        except FileNotFoundError:  # the first line of all
            os.makedirs(os.path.dirname(item.path), mode=0o755, exist_ok=True)
            _append(item.path, line)
    elif isinstance(item, Symlink):
        _unlink(item.path)
        os.symlink(item.target, item.path)
    else:
        if os.path.islink(item.path):
            os.unlink(item.path)
        _fill(item.path, item.text)


def _append(path: str, line: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    try:
        head = "" if os.fstat(fd).st_size else f"{HOSTS_HEAD}{os.uname().nodename}\n"
        _write_all(fd, (head + line).encode())
    finally:
        os.close(fd)


def _write_all(fd: int, data: bytes) -> None:
    """Write in one go, or say that there is no space."""
    if os.write(fd, data) != len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _fill(path: str, text: str) -> None:
    """Give a file a text in one write: a kill leaves the old one, or the new one with empty lines below."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    try:
        data = text.encode("utf-8", "surrogateescape")
        size = os.lseek(fd, 0, os.SEEK_END)
        os.lseek(fd, 0, os.SEEK_SET)
        _write_all(fd, data.ljust(size, b"\n"))
        if size > len(data):
            os.ftruncate(fd, len(data))
    finally:
        os.close(fd)


def drop_file(item: FileObject) -> None:
    """Remove a file object; missing is success, and so is a directory that others use.

    Raises:
        KernelError, NotPermitted: it cannot be removed.
    """
    try:
        if isinstance(item, Directory):
            _rmdir(item.path)
        elif isinstance(item, HostsLine):
            drop_lines(item.path, [item])
        else:
            _unlink(item.path)
    except OSError as cause:
        raise _refusal("remove", item.path, cause) from cause


def drop_lines(path: str, gone: Sequence[HostsLine]) -> None:
    """Take lines out of a hosts file; the file and its directories go with the last line.

    Raises:
        KernelError, NotPermitted: it cannot be written.
    """
    try:
        text = read_text(path)
        lines = text.splitlines(keepends=True)
        without = {"\n", *(item.text for item in gone)}
        kept = [line for line in lines if line not in without]
        if all(line.startswith(_HEAD) for line in kept):
            _unlink(path)
            directory = os.path.dirname(path)
            _rmdir(directory)
            _rmdir(os.path.dirname(directory))
        elif kept != lines:
            _fill(path, "".join(kept))
    except OSError as cause:
        raise _refusal("remove", path, cause) from cause


def check_writable(items: Iterable[HostObject]) -> None:
    """Check before a change that its files can be written; lines of hosts files are in a directory of ours.

    Raises:
        NotPermitted: a file system is read-only, or the right is missing.
    """
    for item in items:
        if isinstance(item, File | Directory | Symlink):
            folder = os.path.dirname(item.path)
            while not os.path.isdir(folder) and len(folder) > 1:
                folder = os.path.dirname(folder)
            if not os.access(folder, os.W_OK, effective_ids=True):
                is_read_only = os.statvfs(folder).f_flag & os.ST_RDONLY
                raise _refusal("write", item.path, OSError(errno.EROFS if is_read_only else errno.EACCES, ""))


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except (FileNotFoundError, IsADirectoryError):  # a directory is somebody else's
        pass


def _rmdir(path: str) -> None:
    try:
        os.rmdir(path)
    except OSError as cause:
        if cause.errno not in (errno.ENOENT, errno.ENOTEMPTY, errno.EEXIST, errno.EBUSY):
            raise


def _refusal(verb: str, path: str, cause: OSError) -> KernelError | NotPermitted:
    if cause.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        hint = f"mount what {path} is on read-write" if cause.errno == errno.EROFS else ""
        return NotPermitted(f"cannot {verb} {path}: {errno.errorcode[cause.errno]}", hint=hint)
    return KernelError(verb, path, cause.errno or 0)
