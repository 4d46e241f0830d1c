"""The one place that opens AF_NETLINK: requests in one send, dumps, batches.

Strict checking and extended ack are always on; of a send the last request alone is acknowledged, all before it answer
by an error or what was asked for. Every answer is read, since one that is left unread ends in ENOBUFS hundreds of calls
later, in an unrelated place. Source: netlink(7), linux/netlink.h, net/netlink/af_netlink.c netlink_rcv_skb.
"""

from __future__ import annotations

import _thread
import errno
from _socket import AF_NETLINK, MSG_DONTWAIT, SO_RCVBUF, SO_SNDBUF, SOCK_CLOEXEC, SOCK_RAW, SOL_SOCKET, socket
from struct import Struct

from isthmus.errors import KernelError, NotPermitted, Unsupported
from isthmus.netlink.wire import (
    MESSAGE_HEADER,
    NLM_F_ACK,
    NLM_F_DUMP,
    NLM_F_DUMP_INTR,
    NLM_F_MULTI,
    NLM_F_REQUEST,
    Request,
    attributes,
    messages,
    text,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Final

__all__ = ["NETLINK_NETFILTER", "NETLINK_ROUTE", "Answer", "Socket"]

NETLINK_ROUTE: Final = 0
NETLINK_NETFILTER: Final = 12
_SOL_NETLINK: Final = 270
_NETLINK_ADD_MEMBERSHIP: Final = 1
_NETLINK_CAP_ACK: Final = 10
_NETLINK_EXT_ACK: Final = 11
_NETLINK_GET_STRICT_CHK: Final = 12
_SO_RCVBUFFORCE: Final = 33
_SO_SNDBUFFORCE: Final = 32
_SO_ATTACH_FILTER: Final = 26
_PROGRAM: Final = Struct("HP")  # struct sock_fprog
_INSTRUCTION: Final = Struct("HBBI")  # struct sock_filter
_LOAD_BYTE: Final = 0x30  # BPF_LD | BPF_B | BPF_ABS
_SKIP_UNLESS: Final = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_RETURN: Final = 0x06  # BPF_RET | BPF_K
_ALL: Final = 0xFFFFFFFF
_NLMSG_ERROR: Final = 2
_NLMSG_DONE: Final = 3
_NLM_F_CAPPED: Final = 0x100
_NLM_F_ACK_TLVS: Final = 0x200
_NLMSGERR_ATTR_MSG: Final = 1
_ERROR: Final = Struct("=i")
_RECEIVE_BYTES: Final = 1 << 17  # a message of a dump has 32 KiB at most, a link with all its functions 80
_BUFFER_BYTES: Final = 1 << 22
_MESSAGES_A_SEND: Final = 200
_NAMES: Final = {NETLINK_ROUTE: "rtnetlink", NETLINK_NETFILTER: "nfnetlink"}
_LACKING: Final = (errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT, errno.ENOPROTOOPT)
_SHORT: Final = (errno.ENOBUFS, errno.ENOMEM)
_RIGHTS: Final = "run as root, or inside a user namespace: unshare -Urn"


class _Local(_thread._local):
    """A buffer for each thread: a fresh one for each message would cost ten times the system call."""

    def __init__(self) -> None:
        self.buffer = bytearray(_RECEIVE_BYTES)


_local: Final = _Local()


class Answer:
    """What came back for one request: errno (0: accepted), the kernel's words, the messages it sent."""

    __slots__ = ("errno", "extack", "payloads", "request")

    def __init__(self, request: Request) -> None:
        self.request = request
        self.errno = 0
        self.extack = ""
        self.payloads: list[bytes] = []

    def error(self) -> KernelError | NotPermitted:
        """Return the refusal as an exception."""
        request = self.request
        found = KernelError(request.operation, str(request.subject), self.errno, self.extack)
        if self.errno == errno.EPERM:
            return NotPermitted(found.message, hint=_RIGHTS)
        return found


def _wrapped(
    operation: str, subject: str, cause: OSError, feature: str = "netlink"
) -> KernelError | NotPermitted | Unsupported:
    """Return what a system call on a netlink socket was refused with, as an error of ours."""
    hint = "the kernel is short of memory: try again" if cause.errno in _SHORT else ""
    found = KernelError(operation, subject, cause.errno or 0, cause.strerror or "", hint=hint)
    if isinstance(cause, PermissionError):
        return NotPermitted(found.message, hint=_RIGHTS)
    if cause.errno in _LACKING:
        return Unsupported(feature, found.message)
    return found


class Socket:
    """A netlink socket in the network namespace of the thread that opens it.

    `groups` are those it listens to; a `small` one keeps the kernel's default buffer (208 KiB), enough for the few
    answers from a namespace.

    Raises:
        NotPermitted, Unsupported, KernelError: it cannot be opened, or later: used.
    """

    def __init__(self, protocol: int, groups: Sequence[int] = (), *, small: bool = False) -> None:
        self._sequence = 0
        try:
            self.handle = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol)
            try:
                self._set_up(protocol, groups, small=small)
            except OSError:
                self.handle.close()
                raise
        except OSError as cause:
            name = _NAMES[protocol]
            raise _wrapped("open", f"a socket of {name}", cause, feature=name) from cause

    def _set_up(self, protocol: int, groups: Sequence[int], *, small: bool) -> None:
        self.handle.bind((0, 0))
        for option in (_NETLINK_CAP_ACK, _NETLINK_EXT_ACK):
            self.handle.setsockopt(_SOL_NETLINK, option, 1)
        if protocol == NETLINK_ROUTE:
            self.handle.setsockopt(_SOL_NETLINK, _NETLINK_GET_STRICT_CHK, 1)
        for group in groups:
            self.handle.setsockopt(_SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP, group)
        if not small:
            self._make_room(_SO_RCVBUFFORCE, SO_RCVBUF, _BUFFER_BYTES)

    def hear_only(self, offset: int, value: int) -> None:
        """Have the kernel drop messages of groups whose payload has another byte at an offset; it may not be able to.

        Source: socket(7), linux/filter.h.
        """
        from array import array

        code = array("B")
        for one in (
            (_LOAD_BYTE, 0, 0, MESSAGE_HEADER.size + offset),
            (_SKIP_UNLESS, 0, 1, value),
            (_RETURN, 0, 0, _ALL),
            (_RETURN, 0, 0, 0),
        ):
            code.frombytes(_INSTRUCTION.pack(*one))
        try:
            self.handle.setsockopt(SOL_SOCKET, _SO_ATTACH_FILTER, _PROGRAM.pack(4, code.buffer_info()[0]))
        except OSError:
            pass

    def fileno(self) -> int:
        """Return the descriptor."""
        return self.handle.fileno()

    def close(self) -> None:
        """Close it. After an nf_tables deletion the kernel makes the last closer wait some 16 ms."""
        self.handle.close()

    def wait(self, timeout_s: float) -> bool:
        """Wait for a message of a group and drop it; False: none came in time."""
        if timeout_s <= 0:
            return False
        self.handle.settimeout(timeout_s)
        try:
            self._receive("an event")
        except TimeoutError:
            return False
        except KernelError as cause:
            if cause.errno != errno.ENOBUFS:  # events were lost: look again
                raise
        return True

    def heard(self) -> list[bytes] | None:
        """Return the messages of a group that have come since the last call; None: so many that some were lost."""
        found: list[bytes] = []
        try:
            while True:
                found += [payload for _, _, _, payload in messages(self._receive("events", MSG_DONTWAIT))]
        except BlockingIOError:
            return found
        except KernelError as cause:
            if cause.errno != errno.ENOBUFS:
                raise
            return None

    def ask(self, requests: Sequence[Request]) -> list[Answer]:
        """Send requests, few sends in all, and return an answer for each, in order; errors are not raised.

        The kernel goes on after a request that it refuses: rtnetlink has no transaction.
        """
        answers: list[Answer] = []
        for start in range(0, len(requests), _MESSAGES_A_SEND):
            answers += self._exchange(requests[start : start + _MESSAGES_A_SEND])
        return answers

    def _exchange(self, requests: Sequence[Request]) -> list[Answer]:
        answers: dict[int, Answer] = {}
        parts: list[bytes] = []
        last = requests[-1]
        for request in requests:
            parts += self._framed(request, request.flags | NLM_F_REQUEST | (NLM_F_ACK if request is last else 0))
            answers[self._sequence] = Answer(request)
        self._send(parts, requests[0])
        final = self._sequence
        while True:
            for kind, flags, sequence, payload in messages(self._receive(requests[0])):
                answer = answers.get(sequence)
                if answer is None:
                    continue
                if kind != _NLMSG_ERROR:
                    answer.payloads.append(payload)
                    continue
                answer.errno, answer.extack = _refusal(flags, payload)
                if sequence == final:
                    return list(answers.values())

    def do(self, *requests: Request) -> list[Answer]:
        """Send requests and raise the first refusal.

        Raises:
            KernelError, NotPermitted: one was refused; the others may have been carried out.
        """
        answers = self.ask(requests)
        for answer in answers:
            if answer.errno:
                raise answer.error()
        return answers

    def get(self, request: Request) -> bytes:
        """Ask for one thing and return its payload; no acknowledgement is asked for beside.

        Raises:
            KernelError, NotPermitted: the kernel refused it.
        """
        return self._all(request, 0)[0][0]

    def dump(self, request: Request, *, absent: int = 0) -> list[bytes]:
        """Send a dump request and return the payloads; a dump that was interrupted is taken again.

        A refusal with errno `absent` means that there is nothing to dump.

        Raises:
            KernelError: the kernel refused it.
        """
        for _ in range(16):
            try:
                found, intact = self._all(request, NLM_F_DUMP)
            except KernelError as cause:
                if cause.errno == absent:
                    return []
                raise
            if intact:
                return found
        raise KernelError(
            request.operation, str(request.subject), errno.EINTR, "the dump changed under each of 16 tries"
        )

    def _all(self, request: Request, flags: int) -> tuple[list[bytes], bool]:
        """Send a request and return all payloads that answer it, and whether nothing changed meanwhile."""
        self._send(self._framed(request, request.flags | NLM_F_REQUEST | flags), request)
        found: list[bytes] = []
        intact = True
        while True:
            for kind, flags, sequence, payload in messages(self._receive(request)):
                if sequence != self._sequence:
                    continue
                intact = intact and not flags & NLM_F_DUMP_INTR
                if kind in (_NLMSG_ERROR, _NLMSG_DONE):
                    number, words = _refusal(flags, payload) if len(payload) >= 4 else (0, "")
                    if number:
                        answer = Answer(request)
                        answer.errno, answer.extack = number, words
                        raise answer.error()
                    return found, intact
                found.append(payload)
                if not flags & NLM_F_MULTI:
                    return found, intact

    def batch(self, begin: Request, requests: Sequence[Request], end: Request) -> list[Answer]:
        """Send an nfnetlink batch: all of `requests` take effect, or none.

        Returns answers of refused requests alone; empty means committed. The ack is asked of `end`'s
        predecessor only in effect: the kernel reports each error, and acks what bears NLM_F_ACK.
        Source: nfnetlink.c nfnetlink_rcv_batch.
        """
        first = self._sequence + 1
        parts = self._framed(begin, NLM_F_REQUEST)
        answers: dict[int, Answer] = {first: Answer(begin)}
        last = len(requests) - 1
        for number, request in enumerate(requests):
            parts += self._framed(request, request.flags | NLM_F_REQUEST | (NLM_F_ACK if number == last else 0))
            answers[self._sequence] = Answer(request)
        final = self._sequence
        parts += self._framed(end, NLM_F_REQUEST)
        self._send(parts, begin)
        refused: list[Answer] = []
        while True:
            for kind, flags, sequence, payload in messages(self._receive(begin)):
                answer = answers.get(sequence)
                if answer is None or kind != _NLMSG_ERROR:
                    continue
                answer.errno, answer.extack = _refusal(flags, payload)
                if answer.errno:
                    refused.append(answer)
                if sequence in (final, first):
                    return refused

    def _send(self, parts: list[bytes], request: Request) -> None:
        """Send messages, of which `request` is the first."""
        data = b"".join(parts)
        try:
            try:
                self.handle.send(data)
            except OSError as cause:
                if cause.errno != errno.EMSGSIZE:
                    raise
                self._make_room(_SO_SNDBUFFORCE, SO_SNDBUF, len(data))
                self.handle.send(data)
        except OSError as cause:
            raise _wrapped(request.operation, str(request.subject), cause) from cause

    def _make_room(self, force: int, ask: int, size: int) -> None:
        """Enlarge a buffer of the socket, beyond what everybody may have where we may."""
        try:
            self.handle.setsockopt(SOL_SOCKET, force, size)
        except PermissionError:
            self.handle.setsockopt(SOL_SOCKET, ask, size)

    def _receive(self, wanted: Request | str, flags: int = 0) -> bytes:
        """Receive what answers a request and those sent with it, or what a string names."""
        buffer = _local.buffer
        try:
            size = self.handle.recv_into(buffer, 0, flags)
        except (TimeoutError, BlockingIOError):
            raise
        except OSError as cause:
            if not isinstance(wanted, str):
                wanted = f"what the kernel says to: {wanted.operation} {wanted.subject}"
            raise _wrapped("read", wanted, cause) from cause
        return bytes(memoryview(buffer)[:size])

    def _framed(self, request: Request, flags: int) -> list[bytes]:
        self._sequence += 1
        payload = request.payload
        padding = b"\0" * (-len(payload) & 3)
        return [MESSAGE_HEADER.pack(16 + len(payload), request.kind, flags, self._sequence, 0), payload, padding]


def _refusal(flags: int, payload: bytes) -> tuple[int, str]:
    number = -_ERROR.unpack_from(payload)[0]
    if not number or not flags & _NLM_F_ACK_TLVS:
        return number, ""
    # struct nlmsgerr: error, then the header of the request (all of it, unless capped).
    offset = 4 + 16
    if not flags & _NLM_F_CAPPED:
        offset = 4 + ((MESSAGE_HEADER.unpack_from(payload, 4)[0] + 3) & ~3)
    return number, text(attributes(payload, offset).get(_NLMSGERR_ATTR_MSG, b""))
