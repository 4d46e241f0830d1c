"""Members and publishes on record that a change does not name, and what it may not do to them.

Where a publish leads depends on the attachments of its namespace and on their networks. One that would come to lead to
where `publish` refuses it stands against the change; of a detach, it goes with the attachment.
"""

from __future__ import annotations

from isthmus.engine.publishes import Beside, check_fit, check_free, check_reach, is_translated, led_to
from isthmus.errors import InvalidInput, Refused
from isthmus.model.network import Attachment, Network, Publish, Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from isthmus.converge import Host

__all__ = ["check_led", "check_members", "goes", "leads_nowhere", "new_ways"]


def check_members(before: Network, after: Network, members: Iterable[Attachment]) -> None:
    """Check that members of a network keep their addresses when its subnets or gateways change.

    Raises:
        Refused: an address would be outside, or the gateway's.
    """
    if before.is_lan and after.is_lan:
        return
    outside, gateways = [], []
    for one in members:
        for address in one.addresses:
            subnet = after.subnet(address.family)
            if subnet is None or address not in subnet.prefix:
                outside.append(f"{one.namespace} has {address}")
            elif address == subnet.gateway:
                gateways.append(f"{one.namespace} has {address}")
    for found, field, what in ((outside, "subnets", "be outside"), (gateways, "gateway", "have the gateway's address")):
        if found:
            raise Refused(
                f"members of network {after.name} that are not of this declaration would {what}: {', '.join(found)}",
                users=tuple(one.partition(" ")[0] for one in found),
                hint="detach them first",
                field=field,
            )


def check_led(host: Host, before: Record, after: Record, row: Publish) -> None:
    """Check a publish on record that leads elsewhere after a change.

    Raises:
        Refused: it could not be had there.
    """
    try:
        _check(host, before, after, row)
    except (InvalidInput, Refused) as error:
        why = error.why if isinstance(error, InvalidInput) else error.message
        raise Refused(
            f"{row.namespace} publishes {row.spec}, and by then could not: {why}",
            users=(row.namespace,),
            hint=f"isthmus unpublish {row.namespace} {row.spec}",
        ) from error


def goes(host: Host, before: Record, after: Record, row: Publish) -> bool:
    """Whether a publish goes with an attachment: nothing is left where it leads, or what cannot have it."""
    if not led_to(after, row):
        return True
    try:
        _check(host, before, after, row)
    except (InvalidInput, Refused):
        return True
    return False


def leads_nowhere(before: Record, after: Record, row: Publish) -> bool:
    """Whether nothing is left where a publish led."""
    return not led_to(after, row) and bool(led_to(before, row))


def new_ways(before: Record, after: Record, row: Publish) -> list[Network]:
    """Return the networks that a publish comes to lead to, or that change in what they can have."""
    old = {(network.name, family): _kind(network) for network, family in led_to(before, row)}
    found = led_to(after, row)
    return [network for network, family in found if old.get((network.name, family)) != _kind(network)]


def _kind(network: Network) -> tuple[str, tuple[bool, ...]]:
    return network.uplink, tuple(subnet.gateway is None for subnet in network.subnets)


def _check(host: Host, before: Record, after: Record, row: Publish) -> None:
    ways = new_ways(before, after, row)
    check_fit(row, ways)
    if ways:
        check_reach(host, after, row)
    if ways and is_translated(after, row) and not is_translated(before, row):
        coming = [one for key, one in after.publishes.items() if key not in before.publishes]
        check_free(row, Beside(host, after, coming, frozenset(before.publishes.keys() - after.publishes.keys())))
