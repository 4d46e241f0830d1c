"""What is said of a network's subnets: whether they are free, which gateway and range each has."""

from __future__ import annotations

from isthmus.errors import InvalidInput, Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from isthmus.model.address import Address, Prefix
    from isthmus.model.declared import NetworkWish

__all__ = ["check_overlap", "gateway_in", "range_in"]


def range_in(prefix: Prefix, wish: NetworkWish) -> tuple[Address, Address] | None:
    """Return the range that was wished for a subnet."""
    return next((one for one in wish.ranges if one[0] in prefix), None)


def gateway_in(prefix: Prefix, wish: NetworkWish) -> Address | None:
    """Return the gateway that was wished for a subnet, or its first address; None: none.

    Raises:
        InvalidInput: it is no host of the subnet.
    """
    if wish.gateways is None:
        return prefix.address(prefix.hosts.start)
    if not wish.gateways:
        return None
    inside = [one for one in wish.gateways if one in prefix]
    if inside:
        if inside[0].number not in prefix.hosts:
            raise InvalidInput("gateway", str(inside[0]), f"is the network or broadcast address of {prefix}")
        return inside[0]
    if any(one.family == prefix.family for one in wish.gateways):
        wrong = next(one for one in wish.gateways if one.family == prefix.family)
        raise InvalidInput("gateway", str(wrong), f"outside subnet {prefix}")
    return prefix.address(prefix.hosts.start)


def check_overlap(prefix: Prefix, ours: dict[Prefix, str], routes: dict[Prefix, str], field: str) -> None:
    """Check that a subnet overlaps no network's, and no route of the host.

    Raises:
        Refused: it does, and what.
    """
    for other, name in ours.items():
        if prefix.overlaps(other):
            raise Refused(f"subnet {prefix} overlaps {other} of network {name}", users=(name,), field=field)
    for other, link in routes.items():
        if prefix.overlaps(other):
            raise Refused(
                f"subnet {prefix} overlaps the host's route to {other} by {link}",
                hint="choose another, or say --allow-overlap",
                field=field,
            )
