"""Leases of members: the address is the kernel's, the resolver what lease.sh wrote down; a hosts file has the name."""

from __future__ import annotations

from isthmus.errors import InvalidInput, NotFound
from isthmus.kernel.access import Access
from isthmus.kernel.files import read_text
from isthmus.model.address import Address
from isthmus.model.lease import Lease
from isthmus.model.network import Attachment
from isthmus.netlink.rtnl import address as rtnl_address

__all__ = ["leased_addresses", "named_lease", "present_lease"]


def leased_addresses(access: Access, attachment: Attachment) -> list[tuple[Address, int]]:
    """Return the IPv4 addresses with a lifetime that an attachment has now, with their prefix lengths."""
    if not attachment.leased:
        return []
    try:
        link = access.link(attachment.namespace, attachment.ifname)
        if link is None:
            return []
        payloads = access.route(attachment.namespace).dump(rtnl_address.of_link(link.index))
    except (NotFound, InvalidInput):
        return []  # the namespace is gone, or not made yet
    found = [rtnl_address.decode(one) for one in payloads]
    return [(one.address, one.length) for one in found if one.address.family == 4 and one.is_leased]


def present_lease(access: Access, attachment: Attachment, client: str) -> Lease:
    """Return what an attachment has now; `client` is the folder of its DHCP client."""
    addresses = tuple(one for one, _ in leased_addresses(access, attachment))
    text = read_text(f"{client}/resolver") if addresses else ""
    return Lease(addresses=addresses, resolver=text if "\nnameserver " in text else "")


def named_lease(attachment: Attachment, hosts: str) -> Lease:
    """Return what the hosts file of a network says of an attachment beside the addresses that are on record."""
    known = {str(one) for one in attachment.addresses}
    pairs = [line.split(" ") for line in read_text(hosts).splitlines()]
    found = [one[0] for one in pairs if one[0] not in ("#", *known) and one[1:] == [attachment.namespace]]
    return Lease(addresses=tuple(map(Address.parse, found)))
