"""Send packets out of links of the host; in a resident, beside the work that follows.

A broadcast on a bridge reaches all its ports within the system call, some 1 us each.
"""

from __future__ import annotations

from _socket import AF_PACKET, SOCK_CLOEXEC, SOCK_RAW, socket

from isthmus.kernel.later import close_later

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _queue import SimpleQueue

__all__ = ["Crier"]


class Crier:
    """A packet socket of the host, bound to nothing; `beside`: a thread of its own does the sending from now on."""

    def __init__(self) -> None:
        self.beside = False
        self._socket = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0)
        self._waiting: SimpleQueue[tuple[bytes, str] | None] | None = None
        self._ordered = self._sent = 0
        self._closing = False

    def send(self, packet: bytes, ifname: str) -> None:
        """Send a packet out of a link; one that is down, or has gone, has nobody to be told."""
        if not self.beside:
            self._send(packet, ifname)
            return
        if self._waiting is None:
            self._waiting = self._start()
        self._ordered += 1
        self._waiting.put((packet, ifname))

    def _start(self) -> SimpleQueue[tuple[bytes, str] | None]:
        import _thread
        from _queue import SimpleQueue

        waiting: SimpleQueue[tuple[bytes, str] | None] = SimpleQueue()
        self._through: SimpleQueue[None] = SimpleQueue()
        _thread.start_new_thread(self._run, (waiting,))
        return waiting

    def _send(self, packet: bytes, ifname: str) -> None:
        try:
            self._socket.sendto(packet, (ifname, 0))
        except OSError:
            pass

    def _run(self, waiting: SimpleQueue[tuple[bytes, str] | None]) -> None:
        while True:
            order = waiting.get()
            if order is None:
                self._through.put(None)
                if self._closing:
                    return
            else:
                self._send(*order)
                self._sent += 1

    def flush(self) -> None:
        """Return when all is sent."""
        if self._waiting is not None and self._sent < self._ordered:
            self._waiting.put(None)
            self._through.get()

    def close(self) -> None:
        """Send what waits, and close without waiting for the kernel."""
        if self._waiting is not None:
            self._closing = True
            self._waiting.put(None)
            self._through.get()
        close_later(self._socket.fileno())
        self._socket.close()
