"""Tell a bridge's neighbours of a new address: a gratuitous ARP, an unsolicited neighbour advertisement.

Whoever had that address before may still stand in their caches. The packet leaves by the bridge, not from
inside the namespace: the new port may not forward yet, the others do; and one packet socket serves all (its
close makes the closer wait some 12 ms, Linux 6.18, so it is done later). Source: RFC 5227 section 3 and
RFC 826 for ARP; RFC 4861 sections 4.4 and 7.2.6 for the advertisement (hop limit 255, override set).
"""

from __future__ import annotations

from struct import Struct, unpack

from isthmus.kernel.access import Access
from isthmus.model.address import IPV4, Address, Mac
from isthmus.netlink.rtnl import neighbour as rtnl_neighbour

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from isthmus.netlink.wire import Request

__all__ = ["ALL_NODES", "ETHERNET", "ICMPV6", "announce", "checksum"]

ETHERNET: Final = Struct(">6s6sH")
_ARP: Final = Struct(">HHBBH6s4s6s4s")
_ETH_P_ARP: Final = 0x0806
_ETH_P_IPV6: Final = 0x86DD
_BROADCAST: Final = b"\xff" * 6
ALL_NODES: Final = bytes.fromhex("ff02") + bytes(13) + b"\x01"
_ALL_NODES_MAC: Final = bytes.fromhex("333300000001")
ICMPV6: Final = 58
_NEIGHBOUR_ADVERTISEMENT: Final = 136
_OVERRIDE: Final = 0x20


def announce(access: Access, bridge: str, index: int, address: Address, mac: Mac) -> Request:
    """Announce that an address is at a MAC, to all ports of a bridge; return what tells the host's own cache.

    What leaves by the bridge does not come in by it.
    """
    if address.family == IPV4:
        packet = ETHERNET.pack(_BROADCAST, mac.packed, _ETH_P_ARP) + _gratuitous_arp(address, mac.packed)
    else:
        packet = ETHERNET.pack(_ALL_NODES_MAC, mac.packed, _ETH_P_IPV6) + _advertisement(address, mac.packed)
    access.crier.send(packet, bridge)
    return rtnl_neighbour.delete(index, address)


def _gratuitous_arp(address: Address, mac: bytes) -> bytes:
    packet: bytes = _ARP.pack(1, 0x0800, 6, 4, 1, mac, address.packed, bytes(6), address.packed)
    return packet


def _advertisement(address: Address, mac: bytes) -> bytes:
    option = b"\x02\x01" + mac
    body = bytes((_NEIGHBOUR_ADVERTISEMENT, 0, 0, 0, _OVERRIDE, 0, 0, 0)) + address.packed + option
    pseudo = address.packed + ALL_NODES + len(body).to_bytes(4, "big") + bytes((0, 0, 0, ICMPV6))
    body = body[:2] + checksum(pseudo + body) + body[4:]
    head = bytes((0x60, 0, 0, 0)) + len(body).to_bytes(2, "big") + bytes((ICMPV6, 255))
    return head + address.packed + ALL_NODES + body


def checksum(data: bytes) -> bytes:
    """Return the Internet checksum of an even number of bytes. Source: RFC 1071."""
    total = sum(unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return int(~total & 0xFFFF).to_bytes(2, "big")
