"""What hangs on a link, and moves with it."""

from __future__ import annotations

import struct

import pytest

from isthmus.netlink.rtnl import carried
from isthmus.netlink.wire import attr


@pytest.mark.parametrize("valid_s", [0, 1, 0xFFFFFFFF])
def test_an_address_without_a_lifetime_left_does_not_move(valid_s: int) -> None:
    """The kernel shows one for up to a second more, and takes none: EINVAL."""
    cacheinfo = attr(carried.IFA_CACHEINFO, struct.pack("=4I", 0, valid_s, 0, 0))
    payload = carried.IFADDRMSG.pack(carried.AF_INET, 24, 0, 0, 2) + cacheinfo
    assert carried.follows(carried.ADDRESS, payload, 2, ()) == bool(valid_s)
