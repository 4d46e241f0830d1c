"""Leases of members: the address is the kernel's, the resolver what lease.sh wrote down; a hosts file has the name."""

from __future__ import annotations

from isthmus.errors import InvalidInput, NotFound
from isthmus.kernel.access import Access
from isthmus.kernel.files import read_text
from isthmus.model.address import Address
from isthmus.model.lease import Lease
from isthmus.model.network import Attachment, Network
from isthmus.netlink.rtnl import address as rtnl_address

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    Leased = tuple[Address, int]

__all__ = ["leased_addresses", "named_lease", "present_lease"]

_GLOBAL: Final = 0  # RT_SCOPE_UNIVERSE


def leased_addresses(access: Access, attachment: Attachment, network: Network | None = None) -> list[Leased]:
    """Return the addresses with a lifetime that an attachment has now, with their prefix lengths.

    Those of IPv4 where it is leased; with its network those of IPv6 that it learns, too.
    """
    families = (*((4,) if attachment.leased else ()), *((6,) if network and attachment.learns(network) else ()))
    if not families:
        return []
    try:
        link = access.link(attachment.namespace, attachment.ifname)
        if link is None:
            return []
        payloads = access.route(attachment.namespace).dump(rtnl_address.of_link(link.index))
    except (NotFound, InvalidInput):
        return []  # the namespace is gone, or not made yet
    found = [rtnl_address.decode(one) for one in payloads]
    fitting = [one for one in found if one.address.family in families and one.is_leased and one.scope == _GLOBAL]
    return [(one.address, one.length) for one in fitting]


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
