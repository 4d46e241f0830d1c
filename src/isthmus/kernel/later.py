"""Close descriptors without waiting for it.

The last close of a packet socket, or of an nfnetlink socket that deleted elements, waits for an RCU grace
period: 11 to 16 ms on Linux 6.18. Descriptors that travel over a socket pair whose two ends travel with them
can be freed by nobody but the kernel's collector of unix sockets, and that works in a kernel thread.
Source: unix(7) SCM_RIGHTS; measured, docs/decisions/0003.
"""

from __future__ import annotations

from _socket import AF_UNIX, SCM_RIGHTS, SOCK_CLOEXEC, SOCK_DGRAM, SOL_SOCKET, socketpair
from struct import pack

__all__ = ["close_later"]


def close_later(*descriptors: int) -> None:
    """Let the kernel close descriptors in a thread of its own; the caller closes its copies right after.

    The caller's copies must be closed after this call (or by the process's end): the closing is then not the
    last one, and does not wait.
    """
    left, right = socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC)
    try:
        travelling = (*descriptors, left.fileno(), right.fileno())
        left.sendmsg([b"\0"], [(SOL_SOCKET, SCM_RIGHTS, pack(f"={len(travelling)}i", *travelling))])
    finally:
        left.close()
        right.close()
