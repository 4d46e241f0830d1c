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
    from collections.abc import Sequence
    from typing import Final

    Leased = tuple[Address, int]

__all__ = ["leased_addresses", "named_lease", "present_lease"]

_GLOBAL: Final = 0  # RT_SCOPE_UNIVERSE


def leased_addresses(access: Access, attachment: Attachment, network: Network | None = None) -> list[Leased]:
    """Return the addresses with a lifetime that an attachment has now, with their prefix lengths.

    Those of a family that is leased; with its network those of IPv6 that it learns, too.
    """
    learns = network is not None and attachment.learns(network)
    families = (*attachment.leased, 6) if learns else attachment.leased
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
    fitting = [one for one in fitting if learns or not one.is_learned]
    return [(one.address, one.length) for one in fitting]


def present_lease(access: Access, attachment: Attachment, clients: Sequence[str]) -> Lease:
    """Return what an attachment has now; `clients` are the folders of its DHCP clients."""
    addresses = tuple(one for one, _ in leased_addresses(access, attachment))
    texts = [text for one in clients if addresses and "\nnameserver " in (text := read_text(f"{one}/resolver"))]
    return Lease(addresses=addresses, resolver=texts[0] if texts else "")


def named_lease(attachment: Attachment, hosts: str) -> Lease:
    """Return what the hosts file of a network says of an attachment beside the addresses that are on record."""
    known = {str(one) for one in attachment.addresses}
    pairs = [line.split(" ") for line in read_text(hosts).splitlines()]
    found = [one[0] for one in pairs if one[0] not in ("#", *known) and one[1:] == [attachment.namespace]]
    return Lease(addresses=tuple(map(Address.parse, found)))
