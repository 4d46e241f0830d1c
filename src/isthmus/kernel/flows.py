"""Connection-tracking entries that contradict what is published, or belong to an address that was freed.

A UDP flow keeps the translation of its first packet for as long as it goes on; it must be forgotten when the
port gets another meaning. TCP goes on unless it is asked to be cut.
"""

from __future__ import annotations

import errno

from isthmus.kernel.access import Access
from isthmus.model.address import Address
from isthmus.model.host import HOST, Element
from isthmus.model.plan import Step
from isthmus.model.ruleset import PROTOCOLS
from isthmus.netlink import conntrack
from isthmus.netlink.rtnl import address as rtnl_address

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence
    from typing import Final

    from isthmus.netlink.conntrack import Entry
    from isthmus.netlink.wire import Request

    Claim = tuple[int, int, Address | None, int]

__all__ = ["forget_addresses", "forget_ports", "forget_published"]

_TCP: Final = PROTOCOLS["tcp"]
_SINGLE_DUMPS: Final = 4  # a dump walks the whole table (5 ms at 262,144 buckets): more ports, one dump for all


def forget_published(access: Access, steps: Iterable[Step]) -> None:
    """Delete the udp and sctp entries of the ports that these steps publish, move or withdraw."""
    claims = []
    for step in steps:
        claim = _claim(step.item) if isinstance(step.item, Element) else None
        if claim is not None and claim[1] != _TCP:
            claims.append(claim)
    if claims:
        forget_ports(access, claims)


def _claim(element: Element) -> Claim | None:
    """Return (family, protocol, host address or None, host port) of a translated port."""
    parts = element.parts
    if element.name in ("anyport4", "anyport6"):
        protocol, port = parts
        host = None
    elif element.name in ("port4", "port6"):
        host, protocol, port = parts
    else:
        return None
    assert isinstance(protocol, int)
    assert isinstance(port, int)
    assert host is None or isinstance(host, Address)
    return int(element.name[-1]), protocol, host, port


def forget_ports(access: Access, claims: Sequence[Claim]) -> int:
    """Delete entries whose first packet went to these host ports; return how many.

    A claim without an address is one on every address of the host, and on no other.
    """
    local = None
    doomed: list[Entry] = []
    for family, protocol in sorted({(claim[0], claim[1]) for claim in claims}):
        wanted = {(host, port) for one, other, host, port in claims if (one, other) == (family, protocol)}
        for entry in _entries(access, family, protocol, wanted):
            if (entry.destination, entry.destination_port) in wanted:
                doomed.append(entry)
            elif (None, entry.destination_port) in wanted:
                local = _local_addresses(access) if local is None else local
                if entry.destination in local or entry.destination.is_loopback:
                    doomed.append(entry)
    return _delete(access, doomed)


def _entries(access: Access, family: int, protocol: int, wanted: set[tuple[Address | None, int]]) -> Iterator[Entry]:
    if len(wanted) <= _SINGLE_DUMPS:
        for host, port in wanted:
            request = conntrack.of_destination(family, protocol, port, host)
            yield from map(conntrack.decode, access.nft.dump(request))
    else:
        yield from map(conntrack.decode, access.nft.dump(conntrack.of_destination(family, protocol, None, None)))


def _local_addresses(access: Access) -> set[Address]:
    found = access.route(HOST).dump(rtnl_address.all_addresses())
    return {rtnl_address.decode(one).address for one in found}


def forget_addresses(access: Access, addresses: Collection[Address]) -> int:
    """Delete all entries of addresses that nobody has any more; return how many."""
    doomed = {}
    for request in _requests(addresses):
        for entry in map(conntrack.decode, access.nft.dump(request)):
            if entry.source in addresses or entry.replier in addresses:
                doomed[entry.original, entry.zone] = entry
    return _delete(access, list(doomed.values()))


def _requests(addresses: Collection[Address]) -> Iterator[Request]:
    """Yield the dumps in which the entries of some addresses are: two for each, or one for all of a family."""
    for family in (4, 6):
        some = [one for one in addresses if one.family == family]
        if family == 6 or len(some) > _SINGLE_DUMPS:
            if some:
                yield conntrack.of_family(family)
        else:
            for address in some:
                yield conntrack.of_source(address, reply=False)
                yield conntrack.of_source(address, reply=True)


def _delete(access: Access, doomed: Sequence[Entry]) -> int:
    if not doomed:
        return 0
    answers = access.nft.ask([conntrack.delete(entry) for entry in doomed])
    for answer in answers:
        if answer.errno not in (0, errno.ENOENT):
            raise answer.error()
    return sum(1 for answer in answers if not answer.errno)
