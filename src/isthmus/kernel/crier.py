"""Send packets out of links of the host.

A broadcast on a bridge reaches all its ports within the system call, some 1.6 us each. A thread that did it beside the
rest of an attach made that slower, since both want the interpreter (docs/decisions/0008).
"""

from __future__ import annotations

from _socket import AF_PACKET, SOCK_CLOEXEC, SOCK_RAW, socket

from isthmus.kernel.later import close_later

__all__ = ["Crier"]


class Crier:
    """A packet socket of the host, bound to nothing."""

    def __init__(self) -> None:
        self._socket = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0)

    def send(self, packet: bytes, ifname: str) -> None:
        """Send a packet out of a link; one that is down, or has gone, has nobody to be told."""
        try:
            self._socket.sendto(packet, (ifname, 0))
        except OSError:
            pass

    def close(self) -> None:
        """Close without waiting for the kernel."""
        close_later(self._socket.fileno())
        self._socket.close()
