"""What the objects of one declaration claim twice: subnets, bridges, addresses, MACs, names and ports.

Pure, like check.py, which objects to each object by itself. The second claim is the one objected to, and
the objection names the first.
"""

from __future__ import annotations

from isthmus.errors import InvalidInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from isthmus.model.address import Address, Prefix
    from isthmus.model.declared import Declaration, NamespaceWish, NetworkWish, PublishWish

__all__ = ["claimed_twice"]


def claimed_twice(wish: Declaration) -> list[InvalidInput]:
    """Return an objection for each thing that the declaration claims more than once."""
    found = list(_networks(wish.networks))
    found += _members(wish.namespaces)
    found += _ifnames(wish)
    found += _publishes(wish)
    found += _forwarding(wish)
    return found


def _forwarding(wish: Declaration) -> Iterator[InvalidInput]:
    claims: set[tuple[int, str]] = set()
    for index, one in enumerate(wish.forwarding):
        for place in ((family, link) for link in one.links or ("",) for family in one.families):
            if place in claims:
                why = f"says IPv{place[0]} forwarding{' on ' * bool(place[1])}{place[1]} a second time"
                yield InvalidInput(f"forwarding[{index}]", None, why)
            claims.add(place)


def _networks(networks: tuple[NetworkWish, ...]) -> Iterator[InvalidInput]:
    taken: list[tuple[str, Prefix]] = []
    bridges: dict[str, str] = {}
    for one in networks:
        for index, prefix in enumerate(one.subnets):
            # A second subnet of one family is check.py's: an overlap inside a network always is one.
            clash = next((held for held in taken if held[0] != one.name and held[1].overlaps(prefix)), None)
            if clash is not None:
                why = f"overlaps {clash[1]} of network {clash[0]}"
                yield InvalidInput(f"networks.{one.name}.subnets[{index}]", str(prefix), why)
            taken.append((one.name, prefix))
        if one.bridge is not None:
            holder = bridges.setdefault(one.bridge, one.name)
            if holder != one.name:
                why = f"is the bridge of network {holder}: no two networks have one bridge"
                yield InvalidInput(f"networks.{one.name}.bridge", one.bridge, why)


def _members(namespaces: tuple[NamespaceWish, ...]) -> Iterator[InvalidInput]:
    addresses: dict[tuple[str, Address], str] = {}
    macs: dict[object, str] = {}
    for one in namespaces:
        for attachment in one.attachments:
            at = f"namespaces.{one.name}.networks.{attachment.network}"
            for index, address in enumerate(attachment.ips):
                holder = addresses.setdefault((attachment.network, address), one.name)
                if holder != one.name:
                    yield InvalidInput(f"{at}.ip[{index}]", str(address), f"is taken by namespace {holder}")
            if attachment.mac is not None:
                if attachment.mac in macs:
                    yield InvalidInput(f"{at}.mac", str(attachment.mac), f"is taken by {macs[attachment.mac]}")
                macs.setdefault(attachment.mac, f"namespace {one.name} on network {attachment.network}")


def _ifnames(wish: Declaration) -> Iterator[InvalidInput]:
    """Object to a second link of one name in one namespace; names left to be chosen never clash."""
    claims: list[tuple[str, str, str, str]] = []
    for one in wish.namespaces:
        for attachment in one.attachments:
            if attachment.ifname is not None:
                field = f"namespaces.{one.name}.networks.{attachment.network}.ifname"
                claims.append((one.name, attachment.ifname, field, f"the attachment to {attachment.network}"))
    for index, link in enumerate(wish.links):
        for side, end in enumerate((link.a, link.b)):
            if end.ifname is not None:
                claims.append((end.namespace, end.ifname, f"links[{index}].ends[{side}].name", f"links[{index}]"))
    taken: dict[tuple[str, str], str] = {}
    for namespace, ifname, field, holder in claims:
        if (namespace, ifname) in taken:
            first = taken[namespace, ifname]
            yield InvalidInput(field, ifname, f"is the name of {first} in namespace {namespace} already")
        taken.setdefault((namespace, ifname), holder)


def _publishes(wish: Declaration) -> Iterator[InvalidInput]:
    """Object to each publish of a host port that an earlier one has; sorted by port, so 5,000 take no time.

    On a routed network each namespace has its own, and where a publish leads by a default route the engine knows.
    """
    claims = [
        (published.protocol, published.host_port, place, published, one, f"namespaces.{one.name}.publish[{index}]")
        for place, one in enumerate(wish.namespaces)
        for index, published in enumerate(one.publishes)
        if published.host_port is not None
    ]
    claims.sort(key=lambda claim: claim[:3])
    open_claims: list[tuple[str, int, PublishWish, NamespaceWish]] = []
    for protocol, first, _, published, one, field in claims:
        open_claims = [held for held in open_claims if held[0] == protocol and held[1] > first]
        for _, _, other, holder in open_claims:
            if published.host is not None and other.host is not None and published.host != other.host:
                continue
            same = one.name == holder.name and published.network == other.network
            if same or (wish.translates(one, published) and wish.translates(holder, other)):
                last = first + published.count - 1
                ports = str(first) if published.count == 1 else f"{first}-{last}"
                yield InvalidInput(field, f"{ports}/{protocol}", f"overlaps a publish of namespace {holder.name}")
                break
        open_claims.append((protocol, first + published.count, published, one))
