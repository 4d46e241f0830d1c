"""What a DHCP server gave to a member of a LAN."""

from __future__ import annotations

from isthmus.model.address import Address
from isthmus.model.value import Value

__all__ = ["Lease"]


class Lease(Value):
    """The addresses of an attachment that its DHCP client keeps, and a resolv.conf (empty: the server names none)."""

    addresses: tuple[Address, ...]
    resolver: str = ""
