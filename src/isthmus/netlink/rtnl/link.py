"""RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK: bridges, veth pairs, bridge ports.

Source: linux/if_link.h, linux/rtnetlink.h, linux/veth.h. Order matters, see each builder.
"""

from __future__ import annotations

from struct import Struct

from isthmus.model.address import Mac
from isthmus.model.value import Value
from isthmus.netlink.wire import (
    NLM_F_CREATE,
    NLM_F_ECHO,
    NLM_F_EXCL,
    Request,
    attr,
    attr_string,
    attr_u8,
    attr_u32,
    decoder,
    nested,
    pick,
    text,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

__all__ = [
    "IFF_UP",
    "RTNLGRP_LINK",
    "Link",
    "all_links",
    "by_any_name",
    "by_index",
    "by_name",
    "change",
    "create_bridge",
    "create_veth",
    "cut_off",
    "decode",
    "delete",
    "delete_group",
    "ports_of",
    "switch_stp",
]

_RTM_NEWLINK: Final = 16
_RTM_DELLINK: Final = 17
_RTM_GETLINK: Final = 18

RTNLGRP_LINK: Final = 1
_IF_OPER_UNKNOWN: Final = 0
_IF_OPER_DORMANT: Final = 5
_IF_OPER_UP: Final = 6
_IF_LINK_MODE_DORMANT: Final = 1
IFF_UP: Final = 0x1
_IFLA_ADDRESS: Final = 1
_IFLA_IFNAME: Final = 3
_IFLA_MTU: Final = 4
_IFLA_LINK: Final = 5
_IFLA_MASTER: Final = 10
_IFLA_OPERSTATE: Final = 16
_IFLA_LINKMODE: Final = 17
_IFLA_LINKINFO: Final = 18
_IFLA_IFALIAS: Final = 20
_IFLA_AF_SPEC: Final = 26
_IFLA_GROUP: Final = 27
_IFLA_NET_NS_FD: Final = 28
_IFLA_EXT_MASK: Final = 29
_IFLA_NUM_TX_QUEUES: Final = 31
_IFLA_NUM_RX_QUEUES: Final = 32
_IFLA_LINK_NETNSID: Final = 37
_IFLA_ALT_IFNAME: Final = 53
_IFLA_INFO_KIND: Final = 1
_IFLA_INFO_DATA: Final = 2
_IFLA_INFO_SLAVE_KIND: Final = 4
_IFLA_INFO_SLAVE_DATA: Final = 5
_VETH_INFO_PEER: Final = 1
_IFLA_BR_STP_STATE: Final = 5
_IFLA_VXLAN_LINK: Final = 3
_IFLA_BR_FORWARD_DELAY: Final = 1
_IFLA_BRPORT_STATE: Final = 1
_IFLA_BRPORT_MODE: Final = 4
_IFLA_BRPORT_ISOLATED: Final = 33
_IFLA_INET6_ADDR_GEN_MODE: Final = 8
_IN6_ADDR_GEN_MODE_NONE: Final = 1
_AF_INET6: Final = 10

_INFO: Final = Struct("=BxHiII")  # struct ifinfomsg: family, type, index, flags, change
_ONE_QUEUE: Final = attr_u32(_IFLA_NUM_TX_QUEUES, 1) + attr_u32(_IFLA_NUM_RX_QUEUES, 1)
_NO_STATISTICS: Final = attr_u32(_IFLA_EXT_MASK, 1 << 3)  # RTEXT_FILTER_SKIP_STATS


class Link(Value):
    """A link as the kernel shows it; indexes and groups are ints, `mac` None for none.

    `master` and `peer` are ifindexes (0: none); `peer` is IFLA_LINK (or a VXLAN's), for a veth its other end, in the
    namespace that `peer_netnsid` tells (-1: this one).
    """

    index: int
    name: str
    flags: int
    mtu: int
    mac: Mac | None
    group: int
    master: int
    alias: str
    kind: str
    operstate: int
    peer: int
    peer_netnsid: int
    hairpin: bool
    isolated: bool
    port_state: int
    stp: int
    forward_delay_cs: int

    @property
    def is_up(self) -> bool:
        """Whether IFF_UP is set."""
        return bool(self.flags & IFF_UP)

    @property
    def is_running(self) -> bool:
        """Whether it is up and has a carrier, or does not tell."""
        return self.is_up and self.operstate in (_IF_OPER_UNKNOWN, _IF_OPER_UP)


def create_bridge(name: str, *, mac: Mac, mtu: int, group: int) -> Request:
    """Create a bridge, down, STP off, its MAC pinned (a MAC in this message is addr_assign_type 3)."""
    payload = (
        _INFO.pack(0, 0, 0, 0, 0)
        + attr_string(_IFLA_IFNAME, name)
        + attr(_IFLA_ADDRESS, mac.packed)
        + attr_u32(_IFLA_MTU, mtu)
        + attr_u32(_IFLA_GROUP, group)
        + nested(
            _IFLA_LINKINFO,
            attr_string(_IFLA_INFO_KIND, "bridge"),
            nested(_IFLA_INFO_DATA, attr_u32(_IFLA_BR_STP_STATE, 0)),
        )
    )
    return Request(_RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL | NLM_F_ECHO, payload, "create", f"bridge {name}")


def create_veth(
    name: str,
    *,
    mac: Mac | None,
    mtu: int,
    group: int,
    master: int,
    peer_name: str,
    peer_mac: Mac,
    peer_netns_fd: int,
    netns_fd: int | None = None,
) -> Request:
    """Create a veth pair, both ends down, the far end straight into its namespace with its final name.

    Each end has one queue a direction. By default it has one for each possible CPU, which cost 0.2 ms at two CPUs
    (sysfs, and a wait for all CPUs) and are used by XDP and GRO on the link alone. Source: drivers/net/veth.c.
    The echo carries this end's ifindex and in IFLA_LINK the far end's. With `netns_fd` none is asked for: it would go
    to the socket of that namespace with the sender's port id, and be taken for an answer of it (net/core/rtnetlink.c,
    rtmsg_ifinfo_send). An alias here is silently ignored (Linux 6.18), and IFF_UP in the far end's ifinfomsg fails
    with ENOTCONN.
    """
    echo = NLM_F_ECHO if netns_fd is None else 0
    payload = (
        _INFO.pack(0, 0, 0, 0, 0)
        + attr_string(_IFLA_IFNAME, name)
        + attr_u32(_IFLA_MTU, mtu)
        + attr_u32(_IFLA_GROUP, group)
        + _ONE_QUEUE
        + (attr(_IFLA_ADDRESS, mac.packed) if mac is not None else b"")
        + (attr_u32(_IFLA_MASTER, master) if master else b"")
        + (attr_u32(_IFLA_NET_NS_FD, netns_fd) if netns_fd is not None else b"")
        + nested(
            _IFLA_LINKINFO,
            attr_string(_IFLA_INFO_KIND, "veth"),
            nested(
                _IFLA_INFO_DATA,
                attr(
                    _VETH_INFO_PEER,
                    _INFO.pack(0, 0, 0, 0, 0)
                    + attr_string(_IFLA_IFNAME, peer_name)
                    + attr(_IFLA_ADDRESS, peer_mac.packed)
                    + attr_u32(_IFLA_MTU, mtu)
                    + _ONE_QUEUE
                    + attr_u32(_IFLA_NET_NS_FD, peer_netns_fd),
                ),
            ),
        )
    )
    return Request(_RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL | echo, payload, "create", f"link {name}")


def change(
    index: int,
    *,
    subject: str,
    operation: str = "change",
    name: str | None = None,
    by_name: str | None = None,
    alias: str | None = None,
    up: bool | None = None,
    group: int | None = None,
    master: int | None = None,
    mtu: int | None = None,
    mac: Mac | None = None,
    no_link_local: bool | None = None,
    port: tuple[bool, bool] | None = None,
) -> Request:
    """Change a link by ifindex, or by name where `index` is 0; `port` is (hairpin, isolated) of a bridge port.

    IFLA_INET6_ADDR_GEN_MODE must come in an earlier message than IFF_UP: in one message the flags are
    applied first, and the link-local address is there (seen on Linux 6.18).
    """
    flags, mask = (IFF_UP if up else 0), (0 if up is None else IFF_UP)
    parts = [_INFO.pack(0, 0, index, flags, mask)]
    if by_name is not None or name is not None:
        parts.append(attr_string(_IFLA_IFNAME, by_name or name or ""))
    if alias is not None:
        parts.append(attr(_IFLA_IFALIAS, alias.encode()))
    if group is not None:
        parts.append(attr_u32(_IFLA_GROUP, group))
    if master is not None:
        parts.append(attr_u32(_IFLA_MASTER, master))
    if mtu is not None:
        parts.append(attr_u32(_IFLA_MTU, mtu))
    if mac is not None:
        parts.append(attr(_IFLA_ADDRESS, mac.packed))
    if no_link_local is not None:
        mode = attr_u8(_IFLA_INET6_ADDR_GEN_MODE, _IN6_ADDR_GEN_MODE_NONE if no_link_local else 0)
        parts.append(nested(_IFLA_AF_SPEC, nested(_AF_INET6, mode)))
    if port is not None:
        hairpin, isolated = port
        flags_of_port = nested(
            _IFLA_INFO_SLAVE_DATA, attr_u8(_IFLA_BRPORT_MODE, hairpin), attr_u8(_IFLA_BRPORT_ISOLATED, isolated)
        )
        parts.append(nested(_IFLA_LINKINFO, attr_string(_IFLA_INFO_SLAVE_KIND, "bridge"), flags_of_port))
    return Request(_RTM_NEWLINK, 0, b"".join(parts), operation, subject)


def switch_stp(name: str, *, on: bool) -> Request:
    """Switch the spanning tree of a bridge on or off."""
    data = nested(_IFLA_INFO_DATA, attr_u32(_IFLA_BR_STP_STATE, on))
    payload = (
        _INFO.pack(0, 0, 0, 0, 0)
        + attr_string(_IFLA_IFNAME, name)
        + nested(_IFLA_LINKINFO, attr_string(_IFLA_INFO_KIND, "bridge"), data)
    )
    return Request(_RTM_NEWLINK, 0, payload, "switch STP of", f"bridge {name}")


def cut_off(name: str, group: int) -> Request:
    """Have a bridge take no frame from a port and give it none, for good, and put the link into a group.

    A dormant port is for its bridge one without a carrier, whatever its far end does. To take it down, or off its
    bridge, would make the caller wait for all CPUs (0.3 ms, synchronize_net). Source: RFC 2863 section 3.1.12;
    net/core/link_watch.c rfc2863_policy, net/bridge/br_if.c br_port_carrier_check.
    """
    payload = (
        _INFO.pack(0, 0, 0, 0, 0)
        + attr_string(_IFLA_IFNAME, name)
        + attr_u32(_IFLA_GROUP, group)
        + attr_u8(_IFLA_OPERSTATE, _IF_OPER_DORMANT)
        + attr_u8(_IFLA_LINKMODE, _IF_LINK_MODE_DORMANT)
    )
    return Request(_RTM_NEWLINK, 0, payload, "cut off", f"link {name}")


def delete(name: str) -> Request:
    """Delete a link by name. The kernel makes the deleter of a veth wait some 20 ms."""
    payload = _INFO.pack(0, 0, 0, 0, 0) + attr_string(_IFLA_IFNAME, name)
    return Request(_RTM_DELLINK, 0, payload, "delete", f"link {name}")


def delete_group(group: int) -> Request:
    """Delete every link of a group, with one wait for all; ENODEV: none is in it."""
    payload = _INFO.pack(0, 0, 0, 0, 0) + attr_u32(_IFLA_GROUP, group)
    return Request(_RTM_DELLINK, 0, payload, "delete", f"links of group {group:#x}")


def by_name(name: str) -> Request:
    """Ask for one link by name."""
    payload = _INFO.pack(0, 0, 0, 0, 0) + attr_string(_IFLA_IFNAME, name) + _NO_STATISTICS
    return Request(_RTM_GETLINK, 0, payload, "read", f"link {name}")


def by_any_name(name: str) -> Request:
    """Ask for one link by its name or an alternative one, of up to 127 bytes."""
    payload = _INFO.pack(0, 0, 0, 0, 0) + attr_string(_IFLA_ALT_IFNAME, name) + _NO_STATISTICS
    return Request(_RTM_GETLINK, 0, payload, "read", f"link {name}")


def see_carriers(port: str, bridge: int) -> list[Request]:
    """Read a bridge's new port, then the bridge, which makes the kernel see that they have a carrier.

    Else its linkwatch may take a second, until when it drops what the host sends by a bridge that had no port.
    Source: net/core/rtnetlink.c rtnl_getlink, net/core/link_watch.c linkwatch_sync_dev.
    """
    return [by_name(port), by_index(bridge)]


def by_index(index: int) -> Request:
    """Ask for one link by ifindex."""
    return Request(_RTM_GETLINK, 0, _INFO.pack(0, 0, index, 0, 0) + _NO_STATISTICS, "read", f"link {index}")


def all_links() -> Request:
    """Ask for all links, as a dump."""
    return Request(_RTM_GETLINK, 0, _INFO.pack(0, 0, 0, 0, 0) + _NO_STATISTICS, "read", "all links")


def ports_of(index: int) -> Request:
    """Ask for the ports of a bridge, as a dump that the kernel filters."""
    payload = _INFO.pack(0, 0, 0, 0, 0) + attr_u32(_IFLA_MASTER, index) + _NO_STATISTICS
    return Request(_RTM_GETLINK, 0, payload, "read", f"ports of link {index}")


@decoder
def decode(payload: bytes) -> Link:
    """Decode an RTM_NEWLINK.

    Raises:
        WireError: not one.
    """
    _, _, index, flags, _ = _INFO.unpack_from(payload)
    found = pick(payload, _PICKED, _INFO.size)
    info = pick(found.get(_IFLA_LINKINFO, b""), _PICKED_INFO)
    kind = text(info.get(_IFLA_INFO_KIND, b""))
    data = pick(info[_IFLA_INFO_DATA], _PICKED_BRIDGE) if kind == "bridge" and _IFLA_INFO_DATA in info else {}
    below = pick(info.get(_IFLA_INFO_DATA, b""), _PICKED_VXLAN) if kind == "vxlan" else {}
    port: dict[int, bytes] = {}
    if info.get(_IFLA_INFO_SLAVE_KIND) == b"bridge\0":
        port = pick(info.get(_IFLA_INFO_SLAVE_DATA, b""), _PICKED_PORT)
    mac = found.get(_IFLA_ADDRESS, b"")
    return Link(
        index=index,
        name=text(found.get(_IFLA_IFNAME, b"")),
        flags=flags,
        mtu=_number(found, _IFLA_MTU),
        mac=Mac(packed=mac) if len(mac) == 6 else None,
        group=_number(found, _IFLA_GROUP),
        master=_number(found, _IFLA_MASTER),
        alias=text(found.get(_IFLA_IFALIAS, b"")),
        kind=kind,
        operstate=_number(found, _IFLA_OPERSTATE),
        peer=_number(found, _IFLA_LINK) or _number(below, _IFLA_VXLAN_LINK),
        peer_netnsid=_number(found, _IFLA_LINK_NETNSID, -1),
        hairpin=bool(_number(port, _IFLA_BRPORT_MODE)),
        isolated=bool(_number(port, _IFLA_BRPORT_ISOLATED)),
        port_state=_number(port, _IFLA_BRPORT_STATE),
        stp=_number(data, _IFLA_BR_STP_STATE),
        forward_delay_cs=_number(data, _IFLA_BR_FORWARD_DELAY),
    )


_PICKED: Final = frozenset(
    {
        _IFLA_ADDRESS,
        _IFLA_IFNAME,
        _IFLA_MTU,
        _IFLA_LINK,
        _IFLA_MASTER,
        _IFLA_OPERSTATE,
        _IFLA_LINKINFO,
        _IFLA_IFALIAS,
        _IFLA_GROUP,
        _IFLA_LINK_NETNSID,
    }
)
_PICKED_INFO: Final = frozenset({_IFLA_INFO_KIND, _IFLA_INFO_DATA, _IFLA_INFO_SLAVE_KIND, _IFLA_INFO_SLAVE_DATA})
_PICKED_VXLAN: Final = frozenset({_IFLA_VXLAN_LINK})
_PICKED_BRIDGE: Final = frozenset({_IFLA_BR_STP_STATE, _IFLA_BR_FORWARD_DELAY})
_PICKED_PORT: Final = frozenset({_IFLA_BRPORT_MODE, _IFLA_BRPORT_ISOLATED, _IFLA_BRPORT_STATE})


def _number(found: dict[int, bytes], kind: int, default: int = 0) -> int:
    payload = found.get(kind)
    return default if payload is None else int.from_bytes(payload, "little")
