"""Ask a LAN whether somebody has an address, before it is given to somebody else.

An ARP probe (RFC 5227 section 2.1.1: sender address all zeros) and a neighbour solicitation from the unspecified
address (RFC 4862 section 5.4), each sent three times. The intervals are shorter than there, where a host that
cannot be asked again comes up: here the engine waits, on a LAN whose round trip is well under a millisecond.
"""

from __future__ import annotations

import time
from _socket import AF_PACKET, SOCK_CLOEXEC, SOCK_RAW, socket

from isthmus.errors import NotPermitted, Unavailable
from isthmus.kernel.announce import ALL_NODES, ETHERNET, ICMPV6, checksum
from isthmus.kernel.later import close_later
from isthmus.model.address import Address, Mac

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Final

__all__ = ["occupied"]

PROBES: Final = 3
INTERVAL_S: Final = 0.1
_ETH_P_ALL: Final = 3
_ARP, _IPV6 = 0x0806, 0x86DD
_PACKET_OUTGOING: Final = 4
_SOLICITATION, _ADVERTISEMENT = 135, 136


def occupied(ifname: str, mac: Mac, addresses: Sequence[Address]) -> dict[Address, Mac]:
    """Return those of some addresses that a station on a link's LAN claims, with its MAC; waits 0.3 s.

    Who probes for one of them at the same time counts too (RFC 5227 section 2.1.1).

    Raises:
        NotPermitted: no packet socket may be opened. Unavailable: the link or the kernel cannot send or receive now.
    """
    held: dict[Address, Mac] = {}
    if not addresses:
        return held
    wanted = {one.packed: one for one in addresses}
    try:
        wire = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0)
        try:
            wire.bind((ifname, _ETH_P_ALL))
            for _ in range(PROBES):
                for address in addresses:
                    wire.send(_probe(address, mac))
                _listen(wire, time.monotonic() + INTERVAL_S, wanted, mac, held)
            return held
        finally:
            close_later(wire.fileno())
            wire.close()
    except PermissionError as cause:
        raise NotPermitted("cannot ask the LAN whether an address is free: no packet socket") from cause
    except OSError as cause:
        raise Unavailable(f"cannot ask the LAN of {ifname} whether an address is free: {cause.strerror}") from cause


def _probe(address: Address, mac: Mac) -> bytes:
    if address.family == 4:
        body = bytes.fromhex("0001080006040001") + mac.packed + bytes(4) + bytes(6) + address.packed
        return bytes(ETHERNET.pack(b"\xff" * 6, mac.packed, _ARP)) + body
    group = ALL_NODES[:2] + bytes(9) + b"\x01\xff" + address.packed[13:]
    body = bytes((_SOLICITATION, 0, 0, 0, 0, 0, 0, 0)) + address.packed
    pseudo = bytes(16) + group + len(body).to_bytes(4, "big") + bytes((0, 0, 0, ICMPV6))
    body = body[:2] + checksum(pseudo + body) + body[4:]
    head = bytes((0x60, 0, 0, 0)) + len(body).to_bytes(2, "big") + bytes((ICMPV6, 255)) + bytes(16) + group
    return bytes(ETHERNET.pack(b"\x33\x33" + group[12:], mac.packed, _IPV6)) + head + body


def _listen(wire: socket, until: float, wanted: dict[bytes, Address], mac: Mac, held: dict[Address, Mac]) -> None:
    while (left := until - time.monotonic()) > 0:
        wire.settimeout(left)
        try:
            frame, source = wire.recvfrom(256)
        except TimeoutError:
            return
        if source[2] != _PACKET_OUTGOING and frame[6:12] != mac.packed:
            claimed = wanted.get(_claimed(frame))
            if claimed is not None:
                held[claimed] = Mac(packed=frame[6:12])


def _claimed(frame: bytes) -> bytes:
    """Return the address that a frame's sender claims, or probes for; empty: none."""
    kind = int.from_bytes(frame[12:14], "big")
    if kind == _ARP and len(frame) >= 42:
        return frame[28:32] if any(frame[28:32]) else frame[38:42]
    if kind == _IPV6 and len(frame) >= 78 and frame[20] == ICMPV6:
        solicits_for_itself = frame[54] == _SOLICITATION and not any(frame[22:38])
        return frame[62:78] if frame[54] == _ADVERTISEMENT or solicits_for_itself else b""
    return b""
