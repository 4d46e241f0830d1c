"""The addresses that a DHCP server gave to members: the record has none of them, the kernel is asked."""

from __future__ import annotations

from isthmus.converge import Host
from isthmus.errors import NotFound
from isthmus.model.network import Attachment
from isthmus.netlink.rtnl import address as rtnl_address

TYPE_CHECKING = False
if TYPE_CHECKING:
    from isthmus.model.address import Address

__all__ = ["leased_addresses"]


def leased_addresses(host: Host, attachment: Attachment) -> list[tuple[Address, int]]:
    """Return the IPv4 addresses with a lifetime that an attachment has now, with their prefix lengths."""
    if not attachment.leased:
        return []
    try:
        link = host.access.link(attachment.namespace, attachment.ifname)
        if link is None:
            return []
        payloads = host.access.route(attachment.namespace).dump(rtnl_address.of_link(link.index))
    except NotFound:
        return []  # the namespace is gone
    found = [rtnl_address.decode(one) for one in payloads]
    return [(one.address, one.length) for one in found if one.address.family == 4 and one.is_leased]
