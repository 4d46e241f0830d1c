"""What the planner must know of the host beside its objects."""

from __future__ import annotations

import errno
import os

from isthmus.kernel.access import Access
from isthmus.kernel.files import read_text
from isthmus.kernel.sysctl import conf_links, read_sysctl
from isthmus.model.address import IPV6, link_local
from isthmus.model.host import HOST, LIVE_GROUP, TRASH_GROUP
from isthmus.model.network import is_host_end
from isthmus.model.switches import SWITCHES
from isthmus.netlink import nft
from isthmus.netlink.rtnl import address as rtnl_address
from isthmus.netlink.rtnl import link as rtnl_link
from isthmus.netlink.rtnl import route as rtnl_route
from isthmus.netlink.socket import NETLINK_ROUTE, Socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container
    from typing import Any, Final

    from isthmus.model.address import Address, Mac
    from isthmus.netlink.rtnl.link import Link
    from isthmus.netlink.rtnl.route import IpRoute

__all__ = [
    "HostFacts",
    "RouteWatch",
    "address_links",
    "bridge_of",
    "default_links",
    "forwarding_links",
    "has_bridge",
    "is_bridge",
    "is_ours",
    "read_copies",
    "read_facts",
    "read_link_local",
    "read_machine",
    "read_resolvers",
    "read_strangers",
    "read_switched",
]


_ADDR_GEN_MODE_NONE: Final = "1"  # linux/if_link.h
_OVERFLOW_UID: Final = 65534  # what an owner without a name in our user namespace is shown as


def read_resolvers() -> tuple[str, str] | None:
    """Return the host's resolv.conf and that of systemd-resolved; None: names cannot be given to namespaces here.

    That is so in a user namespace on the real root's /etc, whose owner it does not know.
    """
    try:
        owner = os.stat("/etc/netns").st_uid
    except FileNotFoundError:
        owner = os.stat("/etc").st_uid
    if owner == _OVERFLOW_UID:
        return None
    return read_text("/etc/resolv.conf"), read_text("/run/systemd/resolve/resolv.conf")


class HostFacts:
    """The links of the default routes, read once a call."""

    def __init__(self, uplinks4: tuple[str, ...], uplinks6: tuple[str, ...], learned6: frozenset[str]) -> None:
        self.uplinks4 = uplinks4
        self.uplinks6 = uplinks6
        self.learned6 = learned6

    def text(self) -> str:
        """One line that differs when they do."""
        return " ".join((*self.uplinks4, "/", *self.uplinks6, "/", *sorted(self.learned6)))


class RouteWatch:
    """Tells a resident whether a route of the host has changed since it last read them."""

    def __init__(self) -> None:
        groups = (rtnl_route.RTNLGRP_IPV4_ROUTE, rtnl_route.RTNLGRP_IPV6_ROUTE)
        self._socket = Socket(NETLINK_ROUTE, groups=groups, small=True)
        # Each link that goes up brings routes of its own; only a default route matters here.
        self._socket.hear_only(*rtnl_route.OF_DEFAULT)
        self.links: HostFacts | None = None

    def read(self, access: Access) -> HostFacts:
        """Return the links of the default routes, from memory while no route changes."""
        heard = self._socket.heard()
        if self.links is None or heard is None or any(rtnl_route.is_default(payload) for payload in heard):
            self.links = default_links(access)
        return self.links

    def close(self) -> None:
        """Close it."""
        self._socket.close()


def _default_routes(access: Access, family: int) -> list[IpRoute]:
    found = [
        rtnl_route.decode(one) for one in access.route(HOST).dump(rtnl_route.main_routes(family), absent=errno.ENOENT)
    ]
    return [one for one in found if one.is_default]


def default_links(access: Access) -> HostFacts:
    """Read which links the default routes of table main leave by, best metric first."""
    names: dict[int, str] = {}

    def name_of(index: int) -> str:
        if index not in names:
            link = access.link_at(HOST, index)
            names[index] = link.name if link is not None else ""
        return names[index]

    found: dict[int, tuple[str, ...]] = {}
    learned: set[str] = set()
    for family in (4, 6):
        routes = sorted(_default_routes(access, family), key=lambda one: one.priority)
        links = [name_of(index) for one in routes for index in one.oifs]
        found[family] = tuple(dict.fromkeys(name for name in links if name and name != "lo"))
        if family == 6:
            learned |= {name_of(index) for one in routes if one.is_learned for index in one.oifs}
    return HostFacts(found[4], found[6], frozenset(learned - {""}))


def address_links(access: Access, besides: Container[Address]) -> dict[Address, str]:
    """Return the links that the host's addresses are on; none of `lo`, link-local ones, and those `besides`."""
    dumped = [rtnl_address.decode(one) for one in access.route(HOST).dump(rtnl_address.all_addresses())]
    found = [one for one in dumped if not one.is_link_local and one.address not in besides]
    links = {index: access.link_at(HOST, index) for index in {one.index for one in found}}
    names = {index: link.name for index, link in links.items() if link is not None and link.name != "lo"}
    return {one.address: names[one.index] for one in found if one.index in names}


def forwarding_links(family: int) -> list[str]:
    """Return the links that may forward a family, sorted: all but the host's ends of attachments."""
    return [link for link in conf_links(family) if not is_host_end(link)]


def read_copies() -> tuple[str, ...]:
    """Return the names of the sysctls that a write of a global switch overwrites.

    Host ends of attachments are left out: as ports of a bridge they forward nothing, whatever their value.
    """
    found = [
        f"net/ipv{family}/conf/{link}/forwarding"
        for family in (4, 6)
        for link in ("default", *forwarding_links(family))
    ]
    forced = [f"net/ipv6/conf/{link}/force_forwarding" for link in forwarding_links(6)]
    return ("net/ipv4/conf/all/accept_redirects", *found, *forced)


def read_strangers(access: Access) -> tuple[str, ...]:
    """Return signs that somebody else needs this host to forward."""
    signs = [f"chain {name} at the forward hook" for name in nft.foreign_forward_chains(access.nft.dump(nft.chains()))]
    signs += [f"{family}tables-legacy rules" for family in ("ip", "ip6") if _has_legacy_tables(family)]
    links = [rtnl_link.decode(one) for one in access.route(HOST).dump(rtnl_link.all_links())]
    ours = {one.index for one in links if one.group in (LIVE_GROUP, TRASH_GROUP)}
    busy = {one.master for one in links if one.group not in (LIVE_GROUP, TRASH_GROUP)}
    for one in links:
        if one.kind in ("tun", "wireguard", "ppp"):
            signs.append(f"{one.kind} link {one.name}")
        elif one.kind == "bridge" and one.index not in ours and one.index in busy:
            signs.append(f"bridge {one.name} with ports")
    return tuple(signs)


def read_switched() -> frozenset[int]:
    """Return the families whose global switch of forwarding is on."""
    return frozenset(family for family, name in SWITCHES.items() if read_sysctl(name) == "1")


def is_bridge(access: Access, name: str) -> bool:
    """Whether the host has a bridge of that name."""
    link = access.link(HOST, name)
    return link is not None and link.kind == "bridge"


def has_bridge(access: Access, name: str) -> bool:
    """Whether a bridge of ours is there: what else has its name is somebody's."""
    if name in access.indexes:
        return True
    link = access.link(HOST, name)
    if link is None or link.kind != "bridge" or not is_ours(link):
        return False
    access.indexes[name] = link.index
    return True


def bridge_of(access: Access, mac: Mac) -> Link | None:
    """Return the bridge of ours that has a MAC, whatever its name is."""
    links = [rtnl_link.decode(one) for one in access.route(HOST).dump(rtnl_link.all_links())]
    return next((one for one in links if one.kind == "bridge" and is_ours(one) and one.mac == mac), None)


def is_ours(link: Link) -> bool:
    """Whether a link bears our marks and does not wait for deletion.

    Between the message that makes a link and the one that gives it its alias, the group alone marks it.
    """
    return link.group == LIVE_GROUP or (link.alias.startswith("isthmus ") and link.group != TRASH_GROUP)


def _has_legacy_tables(family: str) -> bool:
    try:
        return bool(read_text(f"/proc/net/{family}_tables_names").strip())
    except PermissionError:  # its owner stays the real root where one unshare made the user and network namespaces
        return False


def read_link_local(access: Access, bridge: str) -> tuple[Address | None, Address | None]:
    """Return the link-local address of ours that a bridge of somebody else's has, and the one that it needs.

    None is needed where it has one that is not ours, or is still to get one: the kernel gives it with the carrier.
    """
    link = access.link(HOST, bridge)
    if link is None or link.mac is None:
        return None, None
    found = [rtnl_address.decode(one) for one in access.route(HOST).dump(rtnl_address.of_link(link.index))]
    found = [one for one in found if one.address.family == IPV6 and one.is_link_local]
    ours = next((one.address for one in found if one.proto == rtnl_address.IFA_PROTO_ISTHMUS), None)
    if any(one.proto != rtnl_address.IFA_PROTO_ISTHMUS for one in found):
        return ours, None
    gets_one = not link.is_running and read_sysctl(f"net/ipv6/conf/{bridge}/addr_gen_mode") != _ADDR_GEN_MODE_NONE
    return ours, ours if ours or gets_one else link_local(link.mac)


def read_facts(access: Access, links: HostFacts) -> dict[str, Any]:
    """Return the fields of `planner.forwarding.Facts`."""
    mtu = 1500
    for name in (*links.uplinks4, *links.uplinks6):
        found = access.link(HOST, name)
        if found is not None:
            mtu = found.mtu
            break
    forced = read_sysctl("net/ipv6/conf/all/force_forwarding") is not None
    return {
        "uplinks4": links.uplinks4,
        "uplinks6": links.uplinks6,
        "learned6": links.learned6,
        "force_forwarding": forced,
        "mtu": mtu,
    }


def read_machine() -> bytes:
    """Return five bytes that are this machine's own."""
    from _blake2 import blake2s

    for path in ("/etc/machine-id", "/var/lib/dbus/machine-id", "/proc/sys/kernel/random/boot_id"):
        try:
            with open(path, encoding="ascii") as file:
                text = file.read().strip()
        except (OSError, UnicodeDecodeError):
            continue
        if text:
            return bytes(blake2s(b"isthmus ula " + text.encode(), digest_size=5).digest())
    return os.urandom(5)
