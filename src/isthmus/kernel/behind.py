"""What goes on asking for an interface that has moved to a bridge, and stays behind: rules of others, groups.

Source for the groups: net/ipv4/igmp.c igmp_mc_seq_show, net/ipv6/mcast.c igmp6_mc_seq_show.
"""

from __future__ import annotations

import errno

from isthmus.model.address import Address
from isthmus.netlink import nft, nft_naming

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Final

    from isthmus.kernel.access import Access
    from isthmus.netlink.rtnl.link import Link

__all__ = ["staying_behind"]

# What the kernel joins by itself: all nodes, the routers where it is one (of link, host and site), solicited nodes.
_OWN_GROUPS: Final = frozenset({"224.0.0.1", "ff01::1", "ff02::1", "ff01::2", "ff02::2", "ff05::2"})
_SOLICITED: Final = "ff02::1:ff"


def staying_behind(access: Access, link: Link, bridge: str) -> Iterator[str]:
    """Yield notes of what will not find the packets of a link that it asks for any more."""
    tables = dict.fromkeys(_tables_naming(access, link))
    if tables:
        yield f"rules of table {', '.join(tables)} name {link.name}: what came in by it comes by {bridge}"
    groups = [one for one in map(str, _groups(link.name)) if one not in _OWN_GROUPS and not one.startswith(_SOLICITED)]
    if groups:
        told = f"group{'s' * (len(groups) > 1)} {', '.join(groups)}"
        remedy = f"restart it, so that it joins on {bridge}"
        yield f"somebody has joined {told} on {link.name}, and will hear nothing there: {remedy}"


def _groups(name: str) -> Iterator[Address]:
    """Yield the multicast groups that are joined on a link."""
    device = ""
    for line in _lines("igmp"):
        if not line[0].isspace():
            device = line.split()[1]
        elif device == name:
            yield Address.decode(bytes.fromhex(line.split()[0])[::-1])
    for words in map(str.split, _lines("igmp6")):
        if words[1] == name:
            yield Address.decode(bytes.fromhex(words[2]))


def _lines(name: str) -> list[str]:
    try:
        with open(f"/proc/thread-self/net/{name}") as file:
            return file.readlines()
    except FileNotFoundError:  # no such family
        return []


def _tables_naming(access: Access, link: Link) -> Iterator[str]:
    known: dict[tuple[int, str, nft_naming.Lookup], bool] = {}
    for payload in access.nft.dump(nft.all_rules()):
        rule = nft_naming.names(payload, link.name, link.index)
        if rule is None:
            continue
        for lookup in rule.lookups:
            key = (rule.family, rule.table, lookup)
            if key not in known:
                dumped = access.nft.dump(nft_naming.elements(rule, lookup), absent=errno.ENOENT)
                known[key] = nft_naming.holds(lookup, dumped)
        if rule.compares or any(known[rule.family, rule.table, one] for one in rule.lookups):
            yield str(rule)
