"""The floor: the bare netlink messages for the same kernel objects, sockets open, nothing written down.

The messages are those that the engine sends for one attach (kernel/links.py), in the same sends: the pair with
both MACs, alias, port flags, up; then inside: no link-local address, up, address, route; then one element.
A `plain` floor asks for the pair as one does who knows no better: with the queues that the kernel gives by default.
"""

from __future__ import annotations

import os
from typing import Final

from bench.place import Hand

from isthmus.kernel import netns
from isthmus.kernel.ruleset import load_ruleset
from isthmus.model.address import Address, Mac, Prefix
from isthmus.model.host import Element
from isthmus.netlink import nft
from isthmus.netlink.rtnl import address as rtnl_address
from isthmus.netlink.rtnl import link as rtnl_link
from isthmus.netlink.rtnl import route as rtnl_route
from isthmus.netlink.socket import NETLINK_NETFILTER, NETLINK_ROUTE, Socket
from isthmus.netlink.wire import (
    NLM_F_CREATE,
    NLM_F_ECHO,
    NLM_F_EXCL,
    Request,
    attr,
    attr_string,
    attr_u32,
    nested,
)

__all__ = ["GROUP", "Floor"]

GROUP: Final = 0x666C6F72  # "flor"
_TCP: Final = 6
_DEFAULT: Final = Prefix.parse("0.0.0.0/0")
_MTU: Final = 1500
# linux/if_link.h, linux/rtnetlink.h, linux/veth.h
_RTM_NEWLINK: Final = 16
_IFLA_ADDRESS: Final = 1
_IFLA_IFNAME: Final = 3
_IFLA_MTU: Final = 4
_IFLA_MASTER: Final = 10
_IFLA_LINKINFO: Final = 18
_IFLA_GROUP: Final = 27
_IFLA_NET_NS_FD: Final = 28
_IFLA_INFO_KIND: Final = 1
_IFLA_INFO_DATA: Final = 2
_VETH_INFO_PEER: Final = 1


class Floor:
    """A host of its own with one bridge, 10.9.0.1/16, and the static ruleset."""

    def __init__(self, *, plain: bool = False) -> None:
        self.hand = Hand("plain" if plain else "floor")
        self._pair = _plain_pair if plain else rtnl_link.create_veth
        self._gateway = Address.parse("10.9.0.1")
        with self.hand.inside():
            self._route = Socket(NETLINK_ROUTE)
            self._nft = Socket(NETLINK_NETFILTER)

    def raise_bridge(self, group: int = 0) -> None:
        """Load the ruleset anew and make the bridge, in a group of links."""
        with self.hand.inside():
            load_ruleset("inet", (), 0)
        request = rtnl_link.create_bridge("br0", mac=Mac.parse("02:00:00:00:00:01"), mtu=_MTU, group=group)
        self._bridge = rtnl_link.decode(self._route.do(request)[0].payloads[0]).index
        self._route.do(
            rtnl_link.change(self._bridge, subject="br0", up=True),
            rtnl_address.add(self._bridge, self._gateway, 16, "br0"),
        )

    def attach(self, number: int, fd: int) -> None:
        """Join a namespace to the bridge by the link `vNUMBER`, and publish a port of it."""
        name, address = f"v{number}", Address(family=4, number=self._gateway.number + 1 + number)
        mac = Mac(packed=b"\x06\0\0\0" + number.to_bytes(2, "big"))
        peer_mac = Mac(packed=b"\x02\0\0\1" + number.to_bytes(2, "big"))
        answers = self._route.do(
            self._pair(
                name,
                mac=mac,
                mtu=_MTU,
                group=GROUP,
                master=self._bridge,
                peer_name="eth0",
                peer_mac=peer_mac,
                peer_netns_fd=fd,
            ),
            rtnl_link.change(
                0, by_name=name, subject="", alias=f"floor {number}", no_link_local=True, port=(True, False)
            ),
            rtnl_link.change(0, by_name=name, subject="", up=True),
        )
        peer = rtnl_link.decode(answers[0].payloads[0]).peer
        with netns.Inside(fd):
            inside = Socket(NETLINK_ROUTE)
        inside.do(
            rtnl_link.change(peer, subject="", no_link_local=True),
            rtnl_link.change(peer, subject="", up=True),
            rtnl_address.add(peer, address, 16, ""),
            rtnl_route.add(_DEFAULT, self._gateway, peer, ""),
        )
        inside.close()
        self._commit(nft.add_elements([_published(number, address)]))

    def attach_named(self, number: int, name: str) -> None:
        """Make a namespace and attach it."""
        netns.make(name)
        fd = os.open(f"/run/netns/{name}", os.O_RDONLY | os.O_CLOEXEC)
        self.attach(number, fd)
        os.close(fd)

    def clear(self, count: int) -> None:
        """Withdraw the ports of the first `count` attaches, then delete all links by their group."""
        self.withdraw(count)
        self.delete_links()

    def delete_links(self) -> None:
        """Delete all links in one message: the kernel waits once."""
        self._route.do(rtnl_link.delete_group(GROUP))

    def withdraw(self, count: int) -> None:
        """Withdraw the ports of the first `count` attaches."""
        base = self._gateway.number + 1
        gone = [_published(number, Address(family=4, number=base + number)) for number in range(count)]
        self._commit(nft.delete_elements(gone))

    def _commit(self, requests: list[Request]) -> None:
        refused = self._nft.batch(nft.batch_begin(None), requests, nft.batch_end())
        if refused:
            raise refused[0].error()


def _published(number: int, address: Address) -> Element:
    return Element(name="anyport4", parts=(_TCP, 8000 + number), data=(address, 80))


def _plain_pair(
    name: str, *, mac: Mac, mtu: int, group: int, master: int, peer_name: str, peer_mac: Mac, peer_netns_fd: int
) -> Request:
    head = bytes(16)  # struct ifinfomsg
    peer = (
        head
        + attr_string(_IFLA_IFNAME, peer_name)
        + attr(_IFLA_ADDRESS, peer_mac.packed)
        + attr_u32(_IFLA_MTU, mtu)
        + attr_u32(_IFLA_NET_NS_FD, peer_netns_fd)
    )
    payload = (
        head
        + attr_string(_IFLA_IFNAME, name)
        + attr(_IFLA_ADDRESS, mac.packed)
        + attr_u32(_IFLA_MTU, mtu)
        + attr_u32(_IFLA_GROUP, group)
        + attr_u32(_IFLA_MASTER, master)
        + nested(
            _IFLA_LINKINFO,
            attr_string(_IFLA_INFO_KIND, "veth"),
            nested(_IFLA_INFO_DATA, attr(_VETH_INFO_PEER, peer)),
        )
    )
    return Request(_RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL | NLM_F_ECHO, payload, "create", f"link {name}")
