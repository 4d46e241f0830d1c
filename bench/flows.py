"""Publish of a udp port while the connection-tracking table is full of other flows."""

from __future__ import annotations

from typing import Final

from bench.attach import Engine
from bench.figures import Sheet, elapsed, p50

from isthmus.engine import attach, publish, unpublish
from isthmus.kernel import netns
from isthmus.model.address import Address
from isthmus.model.declared import AttachmentWish, PublishWish
from isthmus.netlink import conntrack
from isthmus.netlink.socket import NETLINK_NETFILTER, Socket
from isthmus.netlink.wire import NLM_F_CREATE, NLM_F_EXCL, Request, attr, attr_u8, nested

__all__ = ["flows"]

# linux/netfilter/nfnetlink_conntrack.h, nf_conntrack_common.h
_NEW: Final = 1 << 8
_CTA_TUPLE_ORIG, _CTA_TUPLE_REPLY, _CTA_STATUS, _CTA_TIMEOUT = 1, 2, 3, 7
_CTA_TUPLE_IP, _CTA_TUPLE_PROTO = 1, 2
_IPS_ASSURED_CONFIRMED_SEEN_REPLY: Final = 1 << 1 | 1 << 2 | 1 << 3
_UDP: Final = 17
_A_SEND: Final = 100
_PORT: Final = 5353


def _tuple(kind: int, source: bytes, destination: bytes, source_port: int, port: int) -> bytes:
    ports = attr(2, source_port.to_bytes(2, "big")) + attr(3, port.to_bytes(2, "big"))
    return nested(
        kind,
        nested(_CTA_TUPLE_IP, attr(1, source), attr(2, destination)),
        nested(_CTA_TUPLE_PROTO, attr_u8(1, _UDP), ports),
    )


def _insert(socket: Socket, count: int) -> None:
    """Put in flows from 10.1.x.y to 10.200.0.1, port 53."""
    server = Address.parse("10.200.0.1").packed
    base = Address.parse("10.1.0.0").number
    for start in range(0, count, _A_SEND):
        requests = []
        for number in range(start, min(start + _A_SEND, count)):
            client = Address(family=4, number=base + number // 50_000 + 1).packed
            port = 1024 + number % 50_000
            payload = (
                bytes((2, 0, 0, 0))
                + _tuple(_CTA_TUPLE_ORIG, client, server, port, 53)
                + _tuple(_CTA_TUPLE_REPLY, server, client, 53, port)
                + attr_u32_big(_CTA_STATUS, _IPS_ASSURED_CONFIRMED_SEEN_REPLY)
                + attr_u32_big(_CTA_TIMEOUT, 3600)
            )
            requests.append(Request(_NEW, NLM_F_CREATE | NLM_F_EXCL, payload, "insert", "a flow"))
        socket.do(*requests)


def attr_u32_big(kind: int, value: int) -> bytes:
    """Encode a number in network order."""
    return attr(kind, value.to_bytes(4, "big"))


def flows(sheet: Sheet) -> None:
    """Publish with 100,000 flows of others / the kernel's own filtered dump alone."""
    count, rounds = sheet.many(100_000, 1000), sheet.many(60, 5)
    engine = Engine()
    netns.make("e0")
    host = engine.host
    with host:
        attach(host, AttachmentWish(network="br0"), "e0")
    socket = Socket(NETLINK_NETFILTER)
    _insert(socket, count)
    wish = PublishWish(port=53, host_port=_PORT, protocol="udp")

    def publish_it() -> None:
        with host:
            publish(host, "e0", wish)

    def dump() -> None:
        socket.dump(conntrack.of_destination(4, _UDP, _PORT, None))

    publishes, dumps = [], []
    for _ in range(rounds):
        dumps.append(elapsed(dump))
        publishes.append(elapsed(publish_it))
        with host:
            unpublish(host, "e0", wish)
    detail = f"{p50(publishes) * 1e3:.2f} / {p50(dumps) * 1e3:.2f} ms, {rounds} rounds, {count} flows"
    sheet.write(
        "publish of a udp port among many flows / the filtered dump alone", p50(publishes) / p50(dumps), 1.3, detail
    )
