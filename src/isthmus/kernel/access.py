"""What one call holds open on the kernel: a socket for each namespace and family, and where namespaces are.

A namespace is known by the id of the record; which path leads to it is a hint, its cookie decides.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct

from isthmus.errors import InvalidInput, KernelError, NotFound
from isthmus.kernel.crier import Crier
from isthmus.kernel.later import close_later
from isthmus.kernel.netns import Inside, cookie, open_netns
from isthmus.kernel.netns_locate import find
from isthmus.kernel.sysctl import SysctlReader
from isthmus.model.address import Address
from isthmus.model.host import HOST
from isthmus.model.network import Namespace
from isthmus.netlink.rtnl import link as rtnl_link
from isthmus.netlink.socket import NETLINK_NETFILTER, NETLINK_ROUTE, Socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Final

    from isthmus.netlink.rtnl.link import Link
    from isthmus.netlink.wire import Request

__all__ = ["Access"]

_SIOCGIFINDEX: Final = 0x8933  # linux/sockios.h
_IFREQ: Final = struct.Struct("=16s24x")  # linux/if.h


class Access:
    """Sockets and namespace descriptors, opened when first needed."""

    def __init__(self) -> None:
        self._routes: dict[str, Socket] = {}
        self._nft: Socket | None = None
        self._crier: Crier | None = None
        self.sysctls = SysctlReader()
        # New addresses that no neighbour can know by another MAC.
        self.unannounced: set[Address] = set()
        # Bridges that have ports of ours already.
        self.populated: set[str] = set()
        self._fds: dict[str, int] = {}
        self._known: dict[str, Namespace] = {}
        # Ifindexes of bridges, for residents; a call that fails clears it.
        self.indexes: dict[str, int] = {}

    def know(self, namespaces: Iterable[Namespace]) -> None:
        """Tell where namespaces were found, and by which cookies they are known."""
        for namespace in namespaces:
            known = self._known.get(namespace.id)
            if known is not None and known.cookie != namespace.cookie:
                self.forget(namespace.id)
            self._known[namespace.id] = namespace

    def adopt(self, netns: str, fd: int, route: Socket) -> None:
        """Take over what is open on a namespace whose cookie was just read."""
        self.forget(netns)
        self._fds[netns] = fd
        self._routes[netns] = route

    def forget(self, netns: str) -> None:
        """Close what is open on a namespace: it was removed, or is about to be made anew."""
        held = self._routes.pop(netns, None)
        if held is not None:
            held.close()
        fd = self._fds.pop(netns, None)
        if fd is not None:
            os.close(fd)

    def made(self, netns: str, cookie: int) -> None:
        """Learn the cookie of a namespace that was just made."""
        known = self._known.get(netns)
        if known is not None:
            self._known[netns] = known.replace(cookie=cookie)

    def path_of(self, netns: str) -> str:
        """Return the path that a namespace was found at."""
        return self._known[netns].path

    def forget_namespaces(self) -> None:
        """Close what is open on namespaces, so that they can end; the host's sockets stay, and nothing is unsaid."""
        for netns in {*self._routes, *self._fds} - {HOST}:
            self.forget(netns)
        self._known.clear()
        self.unannounced.clear()
        self.populated.clear()

    def cookie_of(self, netns: str) -> int:
        """Return the cookie that a namespace is known by; 0: it is not made yet, or unknown."""
        known = self._known.get(netns)
        return known.cookie if known is not None else 0

    def fd(self, netns: str) -> int:
        """Return a descriptor of a namespace.

        Raises:
            NotFound: it is gone, or its name leads to another one now.
        """
        found = self._fds.get(netns)
        if found is None:
            found = self._fds[netns] = self._open(netns)
        return found

    def _open(self, netns: str) -> int:
        known = self._known.get(netns)
        if known is None:
            raise NotFound(f"no network namespace {netns!r}")
        try:
            fd = open_netns(known.path)
            if not known.cookie or cookie(fd) == known.cookie:
                return fd
            os.close(fd)
        except (NotFound, InvalidInput):
            pass
        # One of ours that lost its name is made again: what may live on in the old one is no longer it.
        path = find(known.cookie) if known.cookie and not known.made else None
        if path is None:
            raise NotFound(f"network namespace {netns!r} is gone")
        return open_netns(path)

    def is_alive(self, netns: str) -> bool:
        """Whether a namespace (or the host's) still exists."""
        if netns == HOST:
            return True
        try:
            self.fd(netns)
        except NotFound:
            return False
        return True

    def route(self, netns: str) -> Socket:
        """Return the rtnetlink socket of a namespace.

        Raises:
            NotFound: the namespace is gone.
        """
        held = self._routes.get(netns)
        if held is None:
            held = self._routes[netns] = self._rtnetlink(netns)
        return held

    def events(self, netns: str, group: int) -> Socket:
        """Return an rtnetlink socket of a namespace that listens to a group; the caller closes it.

        Raises:
            NotFound: the namespace is gone.
        """
        return self._rtnetlink(netns, group)

    def _rtnetlink(self, netns: str, *groups: int) -> Socket:
        if netns == HOST:
            return Socket(NETLINK_ROUTE, groups)
        with Inside(self.fd(netns)):
            return Socket(NETLINK_ROUTE, groups, small=True)

    @property
    def nft(self) -> Socket:
        """The host's nfnetlink socket."""
        if self._nft is None:
            self._nft = Socket(NETLINK_NETFILTER)
        return self._nft

    @property
    def crier(self) -> Crier:
        """What sends packets out of the host's links."""
        if self._crier is None:
            self._crier = Crier()
        return self._crier

    def link(self, netns: str, name: str) -> Link | None:
        """Read one link by name; None: it does not exist."""
        return self._link(netns, rtnl_link.by_name(name))

    def link_of_any_name(self, netns: str, name: str) -> Link | None:
        """Read one link by its name or an alternative one; None: no link has it."""
        return self._link(netns, rtnl_link.by_any_name(name))

    def has_link(self, netns: str, name: str) -> bool:
        """Whether there is a link of that name, at a tenth of the price of reading it (netdevice(7))."""
        try:
            fcntl.ioctl(self.route(netns).handle, _SIOCGIFINDEX, _IFREQ.pack(name.encode()))
        except OSError as error:
            if error.errno != errno.ENODEV:
                raise KernelError("find", f"link {name}", error.errno or 0) from error
            return False
        return True

    def link_at(self, netns: str, index: int) -> Link | None:
        """Read one link by ifindex; None: it does not exist."""
        return self._link(netns, rtnl_link.by_index(index))

    def _link(self, netns: str, request: Request) -> Link | None:
        answer = self.route(netns).ask([request])[0]
        if answer.errno in (errno.ENODEV, errno.ENOENT):
            return None
        if answer.errno:
            raise answer.error()
        return rtnl_link.decode(answer.payloads[0])

    def index(self, netns: str, name: str) -> int:
        """Return a link's ifindex.

        Raises:
            KernelError: ENODEV.
        """
        found = self.link(netns, name)
        if found is None:
            raise KernelError("find", f"link {name}", errno.ENODEV)
        return found.index

    def close(self) -> None:
        """Close everything, without waiting for it; what is asked for later is opened anew."""
        self.indexes.clear()
        self.sysctls.close()
        for netns in [*self._routes, *self._fds]:
            self.forget(netns)
        if self._nft is not None:
            close_later(self._nft.fileno())
            self._nft.close()
            self._nft = None
        if self._crier is not None:
            self._crier.close()
            self._crier = None
