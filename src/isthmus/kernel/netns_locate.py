"""Find a network namespace: by what a user calls it, or by its cookie.

A path, a pid and an inode number are reused; the cookie is not (within a boot). Only namespaces that have a
name or a process are found: the kernel has no list of them.
"""

from __future__ import annotations

import os

from isthmus.errors import InvalidInput, NotFound, NotPermitted, Refused
from isthmus.kernel.netns import RUN, Inside, check_name, cookie, is_own, open_netns, socket_cookie
from isthmus.model.value import Value
from isthmus.netlink.socket import NETLINK_ROUTE, Socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Located", "cookie_alive", "distinct", "find", "locate", "locate_open"]


class Located(Value):
    """A namespace that was found: `id` is its name under /run/netns, else `netns-<cookie>`."""

    id: str
    path: str
    cookie: int


def locate(target: str) -> Located:
    """Find a namespace, as `locate_open` does, and keep nothing open."""
    located, fd, route = locate_open(target)
    route.close()
    os.close(fd)
    return located


def locate_open(target: str) -> tuple[Located, int, Socket]:
    """Find a namespace by its name under /run/netns, an absolute path, or a pid; return it, a descriptor, a socket.

    The rtnetlink socket, which who changes the namespace needs anyway, tells its cookie at the price of none.

    A name goes before a pid of the same digits (as for `ip link set netns`). A path or pid whose
    namespace also has a name is known by that name.

    Raises:
        NotFound: no such name, path or process.
        InvalidInput: not a name, or something else than a network namespace.
        Refused: it is the host's own namespace, whatever it was called.
    """
    path = _path(target)
    try:
        fd = open_netns(path)
    except NotFound:
        raise NotFound(f"no network namespace {target!r}: {path} does not exist") from None
    except InvalidInput as error:
        raise InvalidInput("", target, error.why) from None
    try:
        status = os.fstat(fd)
        if is_own(status):
            raise Refused(f"{target} is the host's own namespace")
        with Inside(fd):
            route = Socket(NETLINK_ROUTE, small=True)
        number = socket_cookie(route.handle)
    except BaseException:
        os.close(fd)
        raise
    folder, _, name = path.rpartition("/")
    name = name if folder == RUN else _name_of(status)
    if name:
        return Located(id=name, path=f"{RUN}/{name}", cookie=number), fd, route
    return Located(id=f"netns-{number}", path=path, cookie=number), fd, route


def _path(target: str) -> str:
    if target.startswith("/"):
        return target
    named = f"{RUN}/{target}"
    if target.isascii() and target.isdigit() and len(target) <= 20 and not os.path.exists(named):
        return f"/proc/{int(target)}/ns/net"
    check_name(target, "")
    return named


def _name_of(status: os.stat_result) -> str:
    """Return the name whose mount is that namespace, the first in order; empty: it has none."""
    for name in sorted(_names(), key=os.fsencode):
        try:
            other = os.stat(f"{RUN}/{name}")
        except OSError:
            continue  # removed meanwhile
        if other.st_ino == status.st_ino and other.st_dev == status.st_dev:
            return name
    return ""


def _names() -> list[str]:
    try:
        return os.listdir(RUN)
    except OSError:
        return []


def find(number: int, hint_path: str = "") -> str | None:
    """Return a path that leads now to the namespace with that cookie, or None.

    The hint is tried first, then /run/netns, then every distinct namespace of a process.
    """
    if hint_path and _cookie_at(hint_path) == number:
        return hint_path
    return next((path for path, _, found in distinct() if found == number), None)


def distinct() -> Iterator[tuple[str, int, int]]:
    """Yield a path, a descriptor and the cookie of each namespace that has a name or a process, the named ones first.

    It is held until the next one is asked for: its last process may end at any time.
    """
    seen: set[int] = set()
    for path in _candidates():
        try:
            inode = os.stat(path).st_ino
        except OSError:
            continue  # a kernel thread's, or ended meanwhile
        if inode in seen:
            continue
        seen.add(inode)
        try:
            fd = open_netns(path)
        except (NotFound, InvalidInput, NotPermitted):
            continue  # ended by now, a name without a namespace, or not ours to look at
        try:
            yield path, fd, cookie(fd)
        finally:
            os.close(fd)


def _candidates() -> Iterator[str]:
    for name in sorted(_names()):
        yield f"{RUN}/{name}"
    for pid in os.listdir("/proc"):
        if pid.isdigit():
            yield f"/proc/{pid}/ns/net"


def _cookie_at(path: str) -> int | None:
    try:
        fd = open_netns(path)
    except (NotFound, InvalidInput, NotPermitted):
        return None
    try:
        return cookie(fd)
    finally:
        os.close(fd)


def cookie_alive(number: int) -> bool:
    """Whether a name or a process still leads to the namespace with that cookie."""
    return find(number) is not None
