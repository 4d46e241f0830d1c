"""What can be said against a wish without asking the kernel or the record: pure, and all of it at once.

Each function returns the objections, none of which stops the search for others. What other declarations
and the host have to say (a network of theirs, a route that overlaps, a port that is bound) is the engine's.
A field is named as in the file (`networks.br0.subnets[0]`).

Source: RFC 6890 for the prefixes with a meaning of their own; RFC 8200 section 5 for IPv6's least MTU.
"""

from __future__ import annotations

from isthmus.declare.clashes import claimed_twice
from isthmus.declare.words import is_multicast
from isthmus.errors import InvalidInput
from isthmus.model.address import IPV6, Prefix
from isthmus.model.network import MTU_MIN_IPV6, NAT, NIC, NONE, ROUTED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Final

    from isthmus.model.address import Address
    from isthmus.model.declared import (
        AttachmentWish,
        Declaration,
        LinkWish,
        NamespaceWish,
        NetworkWish,
        PublishWish,
    )

__all__ = ["declaration", "link", "namespace", "network"]

_SPECIAL: Final = (
    ("unspecified", "0.0.0.0/8"),
    ("loopback", "127.0.0.0/8"),
    ("link-local", "169.254.0.0/16"),
    ("multicast", "224.0.0.0/4"),
    ("broadcast", "255.255.255.255/32"),
    ("unspecified", "::/128"),
    ("loopback", "::1/128"),
    ("IPv4-mapped", "::ffff:0:0/96"),
    ("link-local", "fe80::/10"),
    ("multicast", "ff00::/8"),
)


def declaration(wish: Declaration) -> list[InvalidInput]:
    """Return every objection to a declaration."""
    networks = {one.name: one for one in wish.networks}
    found = [said for one in wish.networks for said in network(one, f"networks.{one.name}")]
    found += _pairs(networks)
    for one in wish.namespaces:
        found += namespace(one, networks, f"namespaces.{one.name}")
    for index, joined in enumerate(wish.links):
        found += link(joined, f"links[{index}]")
    return found + claimed_twice(wish)


def network(wish: NetworkWish, field: str = "") -> list[InvalidInput]:
    """Return every objection to a network by itself; `field` is the place it is declared at."""
    at = f"{field}." if field else ""
    found = list(_subnets(wish, f"{at}subnets"))
    found += _gateways(wish, f"{at}gateway")
    found += _snat(wish, f"{at}snat")
    found += _ranges(wish, f"{at}range")
    found += _nic(wish, at) if wish.uplink == NIC else _dhcp(wish, f"{at}dhcp")
    if wish.name in wish.allow:
        found.append(InvalidInput(f"{at}allow", wish.name, "a network need not be allowed to talk with itself"))
    has_ipv6 = not wish.subnets or any(prefix.family == IPV6 for prefix in wish.subnets)
    if wish.mtu is not None and wish.mtu < MTU_MIN_IPV6 and has_ipv6:
        hint = "" if wish.subnets else "without subnets it gets one of each family; name an IPv4 subnet"
        found.append(InvalidInput(f"{at}mtu", wish.mtu, f"IPv6 needs at least {MTU_MIN_IPV6} bytes", hint=hint))
    return found


def _pairs(networks: dict[str, NetworkWish]) -> Iterator[InvalidInput]:
    """Object to pairs of which one has no way out: its members have no route to the other."""
    for one in networks.values():
        for name in sorted(one.allow):
            closed = [both for both in (one.name, name) if both in networks and networks[both].uplink == NONE]
            if closed and name in networks and name != one.name:
                why = f"no pair with {one.name} comes of it: {closed[0]} has no way out (uplink none)"
                yield InvalidInput(f"networks.{one.name}.allow", name, why)


def _subnets(wish: NetworkWish, field: str) -> Iterator[InvalidInput]:
    families: set[int] = set()
    for index, prefix in enumerate(wish.subnets):
        at, text = f"{field}[{index}]", str(prefix)
        if prefix.family in families:
            why = f"a second IPv{prefix.family} subnet: a network has at most one subnet a family"
            yield InvalidInput(at, text, why)
        families.add(prefix.family)
        special = next((one for one in _SPECIAL if Prefix.parse(one[1]).overlaps(prefix)), None)
        if prefix.length == 0:
            yield InvalidInput(at, text, "holds every address: the prefix length of a subnet is at least 1")
        elif special is not None:
            yield InvalidInput(at, text, f"has {special[0]} addresses ({special[1]})")
        elif prefix.hosts.stop - prefix.hosts.start < 2:
            why = f"has room for 1 host, a subnet needs 2: its prefix length is at most {prefix.bits - 1}"
            yield InvalidInput(at, text, why)


def _gateways(wish: NetworkWish, field: str) -> Iterator[InvalidInput]:
    yield from _one_a_family(wish.gateways or (), field)
    for index, gateway in enumerate(wish.gateways or ()):
        at = f"{field}[{index}]"
        if wish.uplink == NIC:
            continue  # the LAN's router: what it is called there is not ours to say
        if not wish.subnets:
            yield InvalidInput(at, str(gateway), "a gateway needs a subnet to lie in", hint="name the subnet too")
        else:
            yield from _a_host_of(gateway, wish, at)


def _snat(wish: NetworkWish, field: str) -> Iterator[InvalidInput]:
    if wish.snat and wish.uplink != NAT:
        why = f"only an uplink of kind nat translates, this one is {wish.uplink}"
        yield InvalidInput(field, ", ".join(map(str, wish.snat)), why)
    yield from _one_a_family(wish.snat, field)
    families = {prefix.family for prefix in wish.subnets}
    for index, address in enumerate(wish.snat):
        at = f"{field}[{index}]"
        if address.is_unspecified or address.is_loopback or is_multicast(address):
            yield InvalidInput(at, str(address), "not a unicast address that packets can leave with")
        elif families and address.family not in families:
            yield InvalidInput(at, str(address), f"network {wish.name} has no IPv{address.family} subnet")


def _ranges(wish: NetworkWish, field: str) -> Iterator[InvalidInput]:
    yield from _one_a_family([first for first, _ in wish.ranges], field)
    for index, (first, last) in enumerate(wish.ranges):
        if wish.subnets and not any(first in prefix and last in prefix for prefix in wish.subnets):
            subnets = ", ".join(map(str, wish.subnets))
            why = f"is outside the subnets of network {wish.name} ({subnets})"
            yield InvalidInput(f"{field}[{index}]", f"{first}-{last}", why)
        elif not wish.subnets and wish.uplink != NIC:
            yield InvalidInput(f"{field}[{index}]", f"{first}-{last}", "a range needs a subnet to lie in")


def _dhcp(wish: NetworkWish, field: str) -> Iterator[InvalidInput]:
    if wish.dhcp is not None:
        yield InvalidInput(field, wish.dhcp, "only the lease of an interface on the bridge is taken over (uplink nic)")


def _nic(wish: NetworkWish, at: str) -> Iterator[InvalidInput]:
    """Object to what has no meaning where members are on the LAN itself."""
    if wish.bridge is not None:
        yield InvalidInput(f"{at}bridge", wish.bridge, "a bridge of somebody else's cannot get the interface too")
    if wish.allow:
        allowed = ", ".join(sorted(wish.allow))
        yield InvalidInput(f"{at}allow", allowed, "its members are on the LAN, and reach what the LAN reaches")


def _one_a_family(addresses: Iterable[Address], field: str) -> Iterator[InvalidInput]:
    families: set[int] = set()
    for index, address in enumerate(addresses):
        if address.family in families:
            why = f"a second IPv{address.family} address: at most one a family"
            yield InvalidInput(f"{field}[{index}]", str(address), why)
        families.add(address.family)


def _a_host_of(address: Address, wish: NetworkWish, field: str) -> Iterator[InvalidInput]:
    """Object to an address that no host of the network's subnets may have."""
    subnet = next((prefix for prefix in wish.subnets if address in prefix), None)
    if subnet is None:
        subnets = ", ".join(map(str, wish.subnets))
        yield InvalidInput(field, str(address), f"is outside the subnets of network {wish.name} ({subnets})")
    elif address.number not in subnet.hosts:
        kind = "network" if address.number == subnet.number else "broadcast"
        hosts = f"{subnet.address(subnet.hosts.start)} to {subnet.address(subnet.hosts.stop - 1)}"
        yield InvalidInput(field, str(address), f"is the {kind} address of {subnet}: hosts are {hosts}")


def _gateway_of(wish: NetworkWish, family: int) -> Address | None:
    """Return the gateway address that the network will have in that family, as far as the wish tells."""
    if wish.gateways == ():
        return None
    for gateway in wish.gateways or ():
        if gateway.family == family:
            return gateway
    if wish.uplink == NIC:
        return None
    for subnet in wish.subnets:
        if subnet.family == family:
            return subnet.address(subnet.hosts.start)
    return None


def namespace(wish: NamespaceWish, networks: dict[str, NetworkWish], field: str = "") -> list[InvalidInput]:
    """Return every objection to a namespace; `networks` are those known, others are the engine's to find."""
    at = f"{field}." if field else ""
    found: list[InvalidInput] = []
    default, seen = "", set[str]()
    for one in wish.attachments:
        place = f"{at}networks.{one.network}"
        if one.network in seen:
            found.append(InvalidInput(place, one.network, "a namespace is attached to a network once"))
        seen.add(one.network)
        found += _attachment(one, networks.get(one.network), place)
        if one.default_route and default:
            why = f"only one attachment takes the default route, and {default} does"
            found.append(InvalidInput(f"{place}.default-route", one.network, why))
        default = one.network if one.default_route else default
    for index, published in enumerate(wish.publishes):
        found += _publish(published, wish, networks, f"{at}publish[{index}]")
    return found


def _attachment(wish: AttachmentWish, known: NetworkWish | None, field: str) -> Iterator[InvalidInput]:
    yield from _one_a_family(wish.ips, f"{field}.ip")
    if known is None:
        return
    for index, address in enumerate(wish.ips):
        at = f"{field}.ip[{index}]"
        if known.subnets:
            yield from _a_host_of(address, known, at)
        if address == _gateway_of(known, address.family):
            yield InvalidInput(at, str(address), f"is the gateway address of network {known.name}")
    if wish.default_route and known.uplink == NONE:
        why = f"network {known.name} has no way out (uplink none)"
        yield InvalidInput(f"{field}.default-route", wish.network, why)


def _publish(
    wish: PublishWish, owner: NamespaceWish, networks: dict[str, NetworkWish], field: str
) -> Iterator[InvalidInput]:
    spec = _spec(wish)
    attached = [one.network for one in owner.attachments]
    if wish.network is not None and wish.network not in attached:
        yield InvalidInput(f"{field}.network", wish.network, f"namespace {owner.name} is not on that network")
        return
    if not attached:
        yield InvalidInput(field, spec, f"namespace {owner.name} is on no network")
        return
    aims = [networks.get(name) for name in ([wish.network] if wish.network else attached)]
    families = {prefix.family for one in aims if one is not None for prefix in one.subnets}
    all_known = all(one is not None and one.subnets for one in aims)
    if wish.host is not None and all_known and wish.host.family not in families:
        yield InvalidInput(field, spec, f"namespace {owner.name} has no IPv{wish.host.family} address there")
    asked = (4, 6) if wish.host is None else (wish.host.family,)
    led = [networks.get(wish.network or _default_of(owner, networks, family)) for family in asked]
    routed = next((one.name for one in led if one is not None and one.uplink == ROUTED), None)
    if routed is not None and (wish.host is not None or wish.host_port not in (None, wish.port)):
        must = "the host's port must equal" if wish.host is None else "the address is"
        why = f"network {routed} is routed, not translated: {must} the container's"
        yield InvalidInput(field, spec, why, hint=f"publish {wish.port} there, or use uplink nat")


def _default_of(wish: NamespaceWish, networks: dict[str, NetworkWish], family: int) -> str:
    """Return the network that the namespace's default route of a family will lead to, or nothing."""
    holders = [one for one in wish.attachments if one.default_route is not False]
    holders = [one for one in holders if _may_lead_out(networks.get(one.network), family)]
    first = next((one for one in holders if one.default_route), holders[0] if holders else None)
    return "" if first is None else first.network


def _may_lead_out(known: NetworkWish | None, family: int) -> bool:
    """Whether a network may have a way out of that family, as far as the wish tells."""
    if known is None:
        return True
    if known.uplink == NONE or known.gateways == ():
        return False
    return not known.subnets or any(prefix.family == family for prefix in known.subnets)


def _spec(wish: PublishWish) -> str:
    """Return what a person would write for it."""
    last = wish.count - 1
    port = f"{wish.port}-{wish.port + last}" if last else str(wish.port)
    host = "" if wish.host is None else f"[{wish.host}]:" if wish.host.family == IPV6 else f"{wish.host}:"
    if wish.host_port is None:
        return f"{host}{':' if host else ''}{port}/{wish.protocol}"
    host_port = f"{wish.host_port}-{wish.host_port + last}" if last else str(wish.host_port)
    return f"{host}{host_port}:{port}/{wish.protocol}"


def link(wish: LinkWish, field: str = "") -> list[InvalidInput]:
    """Return every objection to a direct link by itself."""
    at = f"{field}." if field else ""
    found: list[InvalidInput] = []
    if wish.a.namespace == wish.b.namespace:
        found.append(InvalidInput(f"{at}ends[1].ns", wish.b.namespace, "a link joins two different namespaces"))
    seen: set[Address] = set()
    for index, end in enumerate((wish.a, wish.b)):
        for place, (address, _) in enumerate(end.addresses):
            if address in seen:
                found.append(InvalidInput(f"{at}ends[{index}].ip[{place}]", str(address), "is on this link already"))
            seen.add(address)
    if wish.a.mac is not None and wish.a.mac == wish.b.mac:
        found.append(InvalidInput(f"{at}ends[1].mac", str(wish.b.mac), "is the MAC of the other end"))
    if wish.mtu is not None and wish.mtu < MTU_MIN_IPV6 and any(address.family == IPV6 for address in seen):
        found.append(InvalidInput(f"{at}mtu", wish.mtu, f"IPv6 needs at least {MTU_MIN_IPV6} bytes"))
    return found
