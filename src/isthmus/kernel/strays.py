"""Strays: what bears our marks and is asked for by nobody, which only who looks at the whole record can tell.

Of names, those of namespaces that are no more: somebody deleted one, and the record was made anew without it.
"""

from __future__ import annotations

import os

from isthmus.errors import InvalidInput
from isthmus.kernel.access import Access
from isthmus.kernel.files import read_file, read_text
from isthmus.kernel.netns import RUN
from isthmus.kernel.ruleset import set_elements
from isthmus.model.address import Address
from isthmus.model.host import (
    ETC_NETNS,
    HOST,
    LIVE_GROUP,
    NAMES_HEAD,
    Bridge,
    Directory,
    File,
    HostObject,
    HostsLine,
    HostState,
    NamedNetns,
    Symlink,
    Veth,
)
from isthmus.model.ruleset import SETS
from isthmus.netlink.rtnl import link as rtnl_link

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["strays"]


def strays(access: Access, known: HostState, run_directory: str) -> Iterator[HostObject]:
    """Yield all elements of our tables, links of the host that bear our group and alias, and names left behind.

    Beside what is `known` these are strays.
    """
    for name in SETS:
        yield from set_elements(access, name)
    yield from _links(access)
    known_names = {item.name for item in known.values() if isinstance(item, NamedNetns | HostsLine)}
    yield from _lines(f"{run_directory}/hosts", known_names)
    for name in _entries(ETC_NETNS):
        if _is_gone(name, known_names):
            yield from _files(f"{ETC_NETNS}/{name}", f"{run_directory}/hosts")


def _links(access: Access) -> Iterator[Bridge | Veth]:
    for payload in access.route(HOST).dump(rtnl_link.all_links()):
        link = rtnl_link.decode(payload)
        if link.group != LIVE_GROUP or not link.alias.startswith("isthmus ") or link.mac is None:
            continue
        if link.kind == "bridge":
            yield Bridge(name=link.name, mac=link.mac, mtu=link.mtu, alias=link.alias, up=link.is_up)
        elif link.kind == "veth":
            yield Veth(
                netns=HOST,
                name=link.name,
                mac=None,
                mtu=link.mtu,
                alias=link.alias,
                peer_netns="?",
                peer_name="",
                peer_mac=link.mac,
            )


def _is_gone(name: str, known: set[str]) -> bool:
    """Whether a namespace is neither on record nor there: another state directory may have one that is."""
    return name not in known and not os.path.lexists(f"{RUN}/{name}")


def _lines(folder: str, known: set[str]) -> Iterator[HostsLine]:
    for network in _entries(folder):
        for line in read_text(f"{folder}/{network}").splitlines():
            text, _, name = line.partition(" ")
            if not name or " " in name or not _is_gone(name, known):
                continue
            try:
                address = None if text == "#" else Address.parse(text)
            except InvalidInput:
                continue
            if address is None or not address.is_loopback:
                yield HostsLine(path=f"{folder}/{network}", address=address, name=name)


def _files(folder: str, hosts: str) -> Iterator[Directory | File | Symlink]:
    """Yield what of a folder of names is surely ours, and the folder where that is all; nothing on a read-only /etc."""
    ours = [found for name in ("hosts", "resolv.conf") if (found := _own(f"{folder}/{name}", hosts)) is not None]
    if not ours or not os.access(folder, os.W_OK):
        return
    if len(ours) == len(_entries(folder)):
        yield Directory(path=folder)
    yield from ours


def _own(path: str, hosts: str) -> File | Symlink | None:
    match read_file(File(path=path, text="")):
        case Symlink() as found if os.path.dirname(found.target) == hosts:
            return found
        case File() as found if found.text.startswith(NAMES_HEAD):
            return found
        case _:
            return None


def _entries(folder: str) -> list[str]:
    return sorted(os.listdir(folder)) if os.path.isdir(folder) else []
