"""Tell the neighbours of a new address: a gratuitous ARP, an unsolicited neighbour advertisement.

Whoever had that address before may still stand in their caches. Source: RFC 5227 section 3, RFC 826 for the
ARP packet; RFC 4861 section 4.4 and 7.2.6 for the advertisement (hop limit 255, override set).
"""

from __future__ import annotations

from _socket import AF_PACKET, SOCK_CLOEXEC, SOCK_DGRAM, socket
from struct import Struct, unpack

from isthmus.kernel.access import Access
from isthmus.kernel.netns import Inside
from isthmus.model.address import IPV4, Address
from isthmus.model.host import HOST, LinkAddress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Final

__all__ = ["announce"]

_ETH_P_ARP: Final = 0x0806
_ETH_P_IPV6: Final = 0x86DD
_ARP: Final = Struct(">HHBBH6s4s6s4s")
_BROADCAST: Final = b"\xff" * 6
_ALL_NODES: Final = bytes.fromhex("ff02") + bytes(13) + b"\x01"
_ALL_NODES_MAC: Final = bytes.fromhex("333300000001")
_ICMPV6: Final = 58
_NEIGHBOUR_ADVERTISEMENT: Final = 136
_OVERRIDE: Final = 0x20


def announce(access: Access, netns: str, addresses: Sequence[tuple[int, LinkAddress]]) -> None:
    """Announce addresses on links (by ifindex) of a namespace; a link that is down stays silent."""
    if netns == HOST:
        wire = socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC, 0)
    else:
        with Inside(access.fd(netns)):
            wire = socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC, 0)
    try:
        for index, item in addresses:
            link = access.link_at(netns, index)
            if link is None or link.mac is None:
                continue
            mac = link.mac.packed
            if item.address.family == IPV4:
                _send(wire, _gratuitous_arp(item.address, mac), item.ifname, _ETH_P_ARP, _BROADCAST)
            else:
                _send(wire, _advertisement(item.address, mac), item.ifname, _ETH_P_IPV6, _ALL_NODES_MAC)
    finally:
        wire.close()


def _send(wire: socket, packet: bytes, ifname: str, protocol: int, to: bytes) -> None:
    try:
        wire.sendto(packet, (ifname, protocol, 0, 0, to))
    except OSError:
        pass  # the link is down, or has gone: nobody is there to be told


def _gratuitous_arp(address: Address, mac: bytes) -> bytes:
    packet: bytes = _ARP.pack(1, 0x0800, 6, 4, 1, mac, address.packed, bytes(6), address.packed)
    return packet


def _advertisement(address: Address, mac: bytes) -> bytes:
    option = b"\x02\x01" + mac
    body = bytes((_NEIGHBOUR_ADVERTISEMENT, 0, 0, 0, _OVERRIDE, 0, 0, 0)) + address.packed + option
    pseudo = address.packed + _ALL_NODES + len(body).to_bytes(4, "big") + bytes((0, 0, 0, _ICMPV6))
    body = body[:2] + _checksum(pseudo + body) + body[4:]
    head = bytes((0x60, 0, 0, 0)) + len(body).to_bytes(2, "big") + bytes((_ICMPV6, 255))
    return head + address.packed + _ALL_NODES + body


def _checksum(data: bytes) -> bytes:
    total = sum(unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return int(~total & 0xFFFF).to_bytes(2, "big")
