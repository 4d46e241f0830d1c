"""The routes and rules by which what is sent from an address of a namespace leaves by that address's own network.

The host translates back, and lets through, what comes to the bridge that it sent the question to. So answers must not
take the short way over another network of the namespace, nor the default route of one (docs/decisions/0015). A
namespace with one attachment that has the default route needs none of it.
"""

from __future__ import annotations

from isthmus.model.host import Route, Rule
from isthmus.model.network import Attachment, Record
from isthmus.planner.links import DEFAULT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Final

    from isthmus.model.address import Address

__all__ = ["OUT", "source_routes"]

_TABLES: Final = 0x69000000  # and 24 bits of the attachment's id
# Asked in this order, all before the kernel's own rule for main (32766): the subnets of the other networks; all that
# main knows better than by a default route, which somebody may have added; the way out.
_OTHERS, _MAIN, OUT = 26880, 26881, 26882


def source_routes(record: Record, namespace: str) -> Iterator[Route | Rule]:
    """Yield what the addresses of a namespace need whose network has a gateway and a way out."""
    for one in record.attachments_of(namespace):
        network = record.networks[one.network]
        for address in one.addresses:
            subnet = network.subnet(address.family)
            if network.has_exit and subnet is not None and subnet.gateway is not None:
                yield from _of_address(record, one, address, subnet.gateway)


def _of_address(record: Record, one: Attachment, address: Address, via: Address) -> Iterator[Route | Rule]:
    netns, ifname, family = one.namespace, one.ifname, address.family
    table = _TABLES | int(one.id[-6:], 16)
    networks = dict.fromkeys(other.network for other in record.attachments_of(netns) if other.network != one.network)
    others = [subnet for subnet in (record.networks[name].subnet(family) for name in networks) if subnet is not None]
    for subnet in others:
        yield Route(netns=netns, prefix=subnet.prefix, via=via, ifname=ifname, table=table)
    if others:
        yield Rule(netns=netns, priority=_OTHERS, source=address, table=table, specific=True)
    if record.default_route_holder(netns, family) is not one:
        yield Route(netns=netns, prefix=DEFAULT[family], via=via, ifname=ifname, table=table)
        yield Rule(netns=netns, priority=_MAIN, source=address, table=0, specific=True)
        yield Rule(netns=netns, priority=OUT, source=address, table=table)
