"""Network namespaces: open, tell apart, run inside; make and remove named ones as `ip netns` does.

Finding one by pid or cookie is netns_locate.py's, running a program in one netns_exec.py's.
Source: iproute2 6.1 ip/ipnetns.c (compared by strace), ioctl_ns(2), linux/sockios.h, asm-generic/socket.h.
"""

from __future__ import annotations

import _socket
import _thread
import errno
import fcntl
import os
import struct
import sys

from isthmus.errors import InvalidInput, IsthmusError, KernelError, NotFound, NotPermitted, Refused, Unsupported
from isthmus.kernel.libc import CLONE_NEWNET, MNT_DETACH, MS_BIND, MS_REC, MS_SHARED, mount, setns, umount2, unshare

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Final

__all__ = [
    "RUN",
    "Inside",
    "boot_identity",
    "boots_elsewhere",
    "check_name",
    "cookie",
    "forget_own",
    "go_home",
    "is_own",
    "is_placeholder",
    "make",
    "named",
    "open_netns",
    "own_cookie",
    "remove",
]

RUN: Final = "/run/netns"
_OWN: Final = "/proc/thread-self/ns/net"
_NS_GET_NSTYPE: Final = 0xB703
_SO_NETNS_COOKIE: Final = 71
_SIOCGIFFLAGS: Final = 0x8913
_SIOCSIFFLAGS: Final = 0x8914
_IFF_UP: Final = 0x1
_IFREQ: Final = struct.Struct("=16sh22x")
_NOT_TO_BE_OPENED: Final = (errno.ENXIO, errno.ENODEV, errno.ELOOP, errno.ENAMETOOLONG)


class _Home:
    """The namespace a thread belongs to (`fd`), and the one it is in now; closed when the thread ends."""

    def __init__(self) -> None:
        self.fd = self.now = os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)
        status = os.fstat(self.fd)
        self.device, self.inode = status.st_dev, status.st_ino

    def __del__(self, close: object = os.close) -> None:
        try:
            close(self.fd)  # type: ignore[operator]
        except (AttributeError, OSError):
            pass  # never opened, or closed by a `closerange`


class _Local(_thread._local):
    home: _Home | None = None


_local: Final = _Local()


def _home() -> _Home:
    if _local.home is None:
        _local.home = _Home()
    return _local.home


def forget_own() -> None:
    """Forget which namespace is this thread's own, which it left for good."""
    _local.home = None


def go_home() -> None:
    """Be in this thread's own namespace again, where an interrupt came between a move and its `with` block."""
    home = _local.home
    if home is not None:
        if not is_own(os.stat(_OWN)):  # in a user namespace alone one may not even enter where one is
            _go_back(home.fd)
        home.now = home.fd


def _error(operation: str, subject: str, error: OSError) -> IsthmusError:
    """Turn the kernel's refusal into ours."""
    number = error.errno or 0
    if number in (errno.EPERM, errno.EACCES):
        name = errno.errorcode[number]
        return NotPermitted(f"cannot {operation} {subject}: {name}", hint="run it as root (CAP_SYS_ADMIN is needed)")
    return KernelError(operation, subject, number)


class Inside:
    """Be in another network namespace for the length of a `with` block; blocks may nest.

    Only the calling thread moves. Sockets opened inside stay there, and so does an open file under
    /proc/sys/net, which is that of the calling thread; /proc/net is that of the main thread.

    Raises:
        NotPermitted: the kernel refuses the move.
    """

    __slots__ = ("_back", "_fd", "_home")

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def __enter__(self) -> None:
        home = _home()
        self._home = home
        self._back = home.now
        try:
            setns(self._fd, CLONE_NEWNET)
        except OSError as error:
            raise _error("enter", "the network namespace", error) from error
        home.now = self._fd

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        _go_back(self._back)
        self._home.now = self._back


def _go_back(fd: int) -> None:
    """Return to a namespace that this thread was in.

    There is no going on from the wrong one: what is not undone there the next call undoes, from the right one.
    """
    for _ in range(3):
        try:
            return setns(fd, CLONE_NEWNET)
        except OSError as error:
            last = error
    os.write(2, f"error: cannot return to the own network namespace: {last.strerror}\n".encode())
    os._exit(1)


def open_netns(path: str) -> int:
    """Open a network namespace by path; the descriptor is close-on-exec.

    Raises:
        NotFound: nothing is there (a process that ended has no namespace either).
        InvalidInput: something else than a network namespace is there.
        NotPermitted: this process may not open it. KernelError: not for now.
    """
    try:
        # Not blocking: the path of a FIFO would keep us here forever.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ESRCH):
            raise NotFound(f"no network namespace at {path}") from None
        if error.errno in _NOT_TO_BE_OPENED:
            raise InvalidInput("", path, f"not a network namespace ({error.strerror})") from None
        raise _error("open network namespace", path, error) from error  # which says nothing of what is there
    except ValueError:
        raise InvalidInput("", path, "not a path") from None
    if not _is_netns(fd):
        os.close(fd)
        raise InvalidInput("", path, "not a network namespace")
    return fd


def _is_netns(fd: int) -> bool:
    # The device first: the ioctl's number means something else to other files. The kernel has one nsfs.
    if os.fstat(fd).st_dev != _home().device:
        return False
    try:
        return fcntl.ioctl(fd, _NS_GET_NSTYPE) == CLONE_NEWNET
    except OSError as error:
        if error.errno != errno.ENOTTY:
            raise
        return False


def is_own(status: os.stat_result) -> bool:
    """Whether what was stat'ed is the namespace that this thread belongs to."""
    home = _home()
    return status.st_ino == home.inode and status.st_dev == home.device


def cookie(fd: int) -> int:
    """Return the namespace's cookie, which the kernel gives to no other one within a boot.

    Raises:
        Unsupported: before Linux 5.14.
    """
    with Inside(fd):
        return own_cookie()


def own_cookie() -> int:
    """Return the cookie of the namespace that this thread is in now."""
    probe = _probe()
    try:
        return socket_cookie(probe)
    finally:
        probe.close()


def boot_identity() -> tuple[str, int]:
    """Return the kernel's boot id and the cookie of the namespace that we are in.

    Raises:
        Unsupported: there is no /proc/sys.
    """
    path = "/proc/sys/kernel/random/boot_id"
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError as cause:
        raise Unsupported("/proc/sys", f"cannot read {path}: there is none", hint="mount -t proc proc /proc") from cause
    try:
        return os.read(fd, 64).decode().strip(), own_cookie()
    finally:
        os.close(fd)


def boots_elsewhere() -> bool:
    """Whether PID 1 has our /etc in another network namespace: then what a boot reads there is not for this one.

    False where it cannot be known: /proc/1 is not for everybody to look at.
    """
    try:
        theirs, ours = os.stat("/proc/1/ns/net"), os.stat(_OWN)
        return not os.path.samestat(theirs, ours) and os.path.samestat(os.stat("/proc/1/root/etc"), os.stat("/etc"))
    except OSError:
        return False


def _probe() -> _socket.socket:
    # A local socket carries the cookie and takes the interface ioctls like any other, and is the cheapest.
    return _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC, 0)


def socket_cookie(probe: _socket.socket) -> int:
    """Return the cookie of the namespace that a socket is of.

    Raises:
        Unsupported: before Linux 5.14.
    """
    try:
        return int.from_bytes(probe.getsockopt(_socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8), sys.byteorder)
    except OSError as error:
        if error.errno == errno.ENOPROTOOPT:
            raise Unsupported(
                "SO_NETNS_COOKIE", "this kernel cannot tell network namespaces apart: Linux 5.14"
            ) from None
        raise


def check_name(name: str, field: str = "name") -> None:
    """Accept what may name a namespace: a file name that no tool takes for an option or a path.

    Raises:
        InvalidInput: empty, over 255 bytes, `.` or `..`, a `/`, newline or NUL in it, or a leading `-`.
    """
    if not 1 <= len(os.fsencode(name)) <= 255:
        raise InvalidInput(field, name, "a namespace's name has 1 to 255 bytes")
    if name in (".", "..") or name.startswith("-") or any(bad in name for bad in "/\n\0"):
        raise InvalidInput(
            field, name, "a namespace's name is no '.' or '..', has no '/', newline or NUL, no leading '-'"
        )


def make(name: str, learned: Callable[[str, int], None] | None = None) -> int:
    """Make a netns as `ip netns add` does, `lo` up; return its cookie, told to `learned` before the name leads there.

    An empty file of that name which nothing is mounted on (a call was killed there) is taken over.

    Raises:
        Refused: the name is in use.
        NotPermitted, KernelError: the kernel's refusal; nothing is left then.
    """
    check_name(name)
    path, home = f"{RUN}/{name}", _home()
    try:
        setns(home.now, CLONE_NEWNET)  # where that is not allowed, there would be no way back from the new one
        _share_run()
        _create(name, path)
        try:
            try:
                unshare(CLONE_NEWNET)
                number = _raise_lo()
                if learned is not None:
                    learned(name, number)
                mount(_OWN, path, "none", MS_BIND)
                return number
            finally:
                _go_back(home.now)
        except BaseException:
            _erase(path)
            raise
    except OSError as error:
        raise _error("make network namespace", name, error) from error


def _share_run() -> None:
    """Make /run/netns a mount point whose mounts every mount namespace sees."""
    try:
        os.mkdir(RUN, 0o755)
    except FileExistsError:
        pass
    lock = os.open(RUN, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)  # `ip netns add` takes it too: two at once would mount it twice
        try:
            mount("", RUN, "none", MS_SHARED | MS_REC)
        except OSError as error:
            if error.errno != errno.EINVAL:  # EINVAL: not a mount point yet
                raise
            mount(RUN, RUN, "none", MS_BIND | MS_REC)
            mount("", RUN, "none", MS_SHARED | MS_REC)
    finally:
        os.close(lock)


def _create(name: str, path: str) -> None:
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0))
    except FileExistsError:
        if not is_placeholder(path):
            why = f"cannot make network namespace {name}: {path} exists, and is not ours"
            raise Refused(why, hint="take it away, or choose another name") from None


def is_placeholder(path: str) -> bool:
    """Whether an empty file without rights is there, as one is made to mount a namespace on; nothing is mounted."""
    try:
        status = os.lstat(path)
    except OSError:
        return False
    return status.st_mode == 0o100000 and not status.st_size and status.st_dev != _home().device


def _raise_lo() -> int:
    """Set `lo` of this namespace up; return the namespace's cookie."""
    probe = _probe()
    try:
        _, flags = _IFREQ.unpack(fcntl.ioctl(probe, _SIOCGIFFLAGS, _IFREQ.pack(b"lo", 0)))
        fcntl.ioctl(probe, _SIOCSIFFLAGS, _IFREQ.pack(b"lo", flags | _IFF_UP))
        return socket_cookie(probe)
    finally:
        probe.close()


def _erase(path: str) -> None:
    while True:
        try:
            umount2(path, MNT_DETACH)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOENT):  # not mounted, not there: as wished
                raise
            break
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def remove(name: str) -> None:
    """Remove a name from /run/netns; the namespace ends when nothing else holds it. Missing is success.

    Raises:
        NotPermitted, KernelError: the kernel's refusal.
    """
    check_name(name)
    try:
        _erase(f"{RUN}/{name}")
    except OSError as error:
        raise _error("remove network namespace", name, error) from error


def named() -> dict[str, str]:
    """Return name -> path of the network namespaces under /run/netns, sorted; stale plain files are left out."""
    try:
        names = sorted(os.listdir(RUN))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    found = {}
    for name in names:
        path = f"{RUN}/{name}"
        try:
            os.close(open_netns(path))
        except (NotFound, InvalidInput, NotPermitted):
            continue
        found[name] = path
    return found
