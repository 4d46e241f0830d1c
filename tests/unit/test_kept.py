"""What an interface carried, as it is stored, and what is left of it after a while."""

from __future__ import annotations

from struct import pack

import pytest

from isthmus.errors import StoreError
from isthmus.model.carried import Carried, Kept
from isthmus.netlink.rtnl.carried import ADDRESS, NEIGHBOUR, ROUTE
from isthmus.netlink.rtnl.kept import aged, likeness
from isthmus.netlink.wire import attr, attr_u32
from isthmus.store.kept import decode_kept, encode_kept

FOREVER = 0xFFFFFFFF


def address(preferred: int, valid: int) -> bytes:
    return pack("=BBBBI", 2, 24, 0, 0, 7) + attr(2, b"\xcb\0\x71\2") + attr(6, pack("=IIII", preferred, valid, 1, 1))


def route(index: int, ticks: int, protocol: int = 9) -> bytes:
    head = pack("=BBBBBBBBI", 10, 0, 0, 0, 254, protocol, 0, 1, 0)
    return (
        head + attr_u32(4, index) + attr(5, bytes(15) + b"\1") + attr(12, pack("=IIiIIIII", 0, 0, ticks, 0, 0, 0, 0, 0))
    )


def test_what_is_stored_is_read_back() -> None:
    items = ((Carried(kind=ADDRESS, payload=b"\0\1", arrival="learned"), 2.5),)
    kept = {"lan0": Kept(index=7, name="eth0", items=items, moving=True)}
    assert decode_kept(encode_kept(kept)) == kept
    assert decode_kept(encode_kept({})) == {}


@pytest.mark.parametrize("blob", [b"x", b"\x29\0", b"i\1\0\0\0"])
def test_what_makes_no_sense_is_said(blob: bytes) -> None:
    with pytest.raises(StoreError, match="carried makes no sense"):
        decode_kept(blob)


def test_lifetimes_run_on() -> None:
    assert aged(ADDRESS, address(20, 30), 10.5) == address(9, 19)
    assert aged(ADDRESS, address(5, 30), 10.0) == address(0, 20)
    assert aged(ADDRESS, address(5, 10), 10.0) is None
    assert aged(ADDRESS, address(FOREVER, FOREVER), 1e6) == address(FOREVER, FOREVER)
    assert aged(ROUTE, route(7, 3000), 10.0) == route(7, 2000)
    assert aged(ROUTE, route(7, 1000), 10.0) is None
    assert aged(ROUTE, route(7, 0), 10.0) == route(7, 0)
    assert aged(NEIGHBOUR, b"whatever", 10.0) == b"whatever"


def test_a_route_is_like_itself_at_another_link_and_learned_again() -> None:
    assert likeness(ROUTE, route(7, 3000), 7) == likeness(ROUTE, route(8, 10, protocol=3), 8)
