"""Ports of the host's namespace: who holds them, and which the kernel keeps for itself."""

from __future__ import annotations

import errno
import os
from _socket import (
    AF_INET,
    AF_INET6,
    IPPROTO_IPV6,
    IPV6_V6ONLY,
    SO_REUSEADDR,
    SOCK_CLOEXEC,
    SOCK_DGRAM,
    SOCK_STREAM,
    SOL_SOCKET,
    socket,
)
from sys import byteorder

from isthmus.kernel.sysctl import read_sysctl
from isthmus.model.address import Address

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

__all__ = ["ephemeral_range", "holder_of", "is_bound", "reserved_ports"]

# SCTP: its number is not in every C library's list.
_SOCKETS: Final = {"tcp": (SOCK_STREAM, 6), "udp": (SOCK_DGRAM, 17), "sctp": (SOCK_STREAM, 132)}


def is_bound(host: Address | None, port: int, protocol: str) -> bool:
    """Whether a process of this namespace holds a port: a bind of it fails with EADDRINUSE.

    None is every address of both families. SCTP has no sockets on many kernels: never held there.
    """
    if host is not None:
        return _taken(host.af, str(host), port, protocol) or False
    found = _taken(AF_INET6, "::", port, protocol, both=True)
    return bool(_taken(AF_INET, "0.0.0.0", port, protocol) if found is None else found)


def _taken(family: int, address: str, port: int, protocol: str, *, both: bool = False) -> bool | None:
    """Whether a bind fails with EADDRINUSE (`both`: of either family); None: this kernel has no such sockets."""
    kind, number = _SOCKETS[protocol]
    try:
        probe = socket(family, kind | SOCK_CLOEXEC, number)
    except OSError:
        return None
    try:
        if protocol == "tcp":
            # Connections in TIME_WAIT hold nothing that a translation needs; a listener still refuses.
            probe.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
        if family == AF_INET6:
            probe.setsockopt(IPPROTO_IPV6, IPV6_V6ONLY, not both)
        probe.bind((address, port))
    except OSError as cause:
        return cause.errno == errno.EADDRINUSE
    finally:
        probe.close()
    return False


def holder_of(host: Address | None, port: int, protocol: str) -> str:
    """Return `PROGRAM (pid N)` of the process that holds a port of an address (None: of any), as far as /proc tells."""
    inodes = _inodes(host, port, protocol)
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            links = [os.readlink(f"/proc/{name}/fd/{fd}") for fd in os.listdir(f"/proc/{name}/fd")]
            if any(link.startswith("socket:[") and link[8:-1] in inodes for link in links):
                with open(f"/proc/{name}/comm", encoding="utf-8", errors="replace") as file:
                    return f"{file.read().strip()} (pid {name})"
        except OSError:
            continue  # it ended meanwhile
    return "a process that /proc does not show"


def _inodes(host: Address | None, port: int, protocol: str) -> set[str]:
    """Return the inodes of sockets that keep others off a port of an address. Source: proc(5), /proc/net/tcp."""
    found = set()
    wanted = None if host is None else {_hex(host.packed), _hex(bytes(len(host.packed)))}
    if wanted is not None and host is not None and host.family == 4:  # a socket of both families has it mapped
        wanted |= {_hex(bytes(10) + b"\xff\xff" + host.packed), _hex(bytes(16))}
    for table in (protocol, f"{protocol}6"):
        try:
            with open(f"/proc/net/{table}", encoding="ascii") as file:
                rows = [line.split() for line in file][1:]
        except OSError:
            continue
        for row in rows:
            local, _, number = row[1].rpartition(":")
            if int(number, 16) == port and row[2].endswith(":0000") and (wanted is None or local in wanted):
                found.add(row[9])
    return found


def _hex(packed: bytes) -> str:
    """Return an address as /proc/net has it: words of the machine's byte order."""
    words = [packed[at : at + 4] for at in range(0, len(packed), 4)]
    return "".join(f"{int.from_bytes(word, byteorder):08X}" for word in words)


def ephemeral_range() -> tuple[int, int]:
    """Return the first and last port that the kernel gives to outgoing connections."""
    text = read_sysctl("net/ipv4/ip_local_port_range") or "32768 60999"
    low, high = text.split()
    return int(low), int(high)


def reserved_ports() -> frozenset[int]:
    """Return the ports that the operator keeps out of automatic choice."""
    found: set[int] = set()
    for part in (read_sysctl("net/ipv4/ip_local_reserved_ports") or "").split(","):
        first, _, last = part.partition("-")
        if first:
            found.update(range(int(first), int(last or first) + 1))
    return frozenset(found)
