"""The elements that the sets and maps of our tables ought to hold; ruleset.nft and bridge.nft say what they do."""

from __future__ import annotations

from isthmus.model.address import Address
from isthmus.model.host import Element
from isthmus.model.network import Attachment, Network, Publish, Record
from isthmus.model.ruleset import PROTOCOLS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = [
    "attachment_elements",
    "frame_elements",
    "needs_loopback",
    "network_elements",
    "publish_aims",
    "publish_elements",
    "publish_targets",
    "record_elements",
]


def network_elements(network: Network, others: Iterable[Network]) -> Iterator[Element]:
    """Yield what the firewall must know of a network; `others` are all networks of the host."""
    bridge = network.bridge
    if network.is_lan:
        yield Element(name="lan", parts=(bridge,))
        yield from [Element(name="lan_me", parts=(bridge, network.mac))] if network.mac is not None else []
        return
    yield Element(name="adopted" if network.adopted else "bridges", parts=(bridge,))
    yield Element(name="self", parts=(bridge, bridge))
    yield Element(name="has_exit" if network.has_exit else "no_exit", parts=(bridge,))
    if network.isolate_ports:
        yield Element(name="isolated", parts=(bridge, bridge))
    if network.uplink == "routed":
        yield Element(name="routed", parts=(bridge,))
    for other in others:
        if (
            other.name != network.name
            and not other.is_lan
            and (other.name in network.allow or network.name in other.allow)
        ):
            yield Element(name="pairs", parts=(bridge, other.bridge))
            yield Element(name="pairs", parts=(other.bridge, bridge))
    for subnet in network.subnets:
        family, prefix = subnet.prefix.family, subnet.prefix
        yield Element(name=f"onlink{family}", parts=(bridge, prefix))
        if network.uplink != "routed":
            yield Element(name=f"closed{family}", parts=(prefix,))
        if subnet.gateway is not None:
            yield Element(name=f"gateways{family}", parts=(subnet.gateway,))
            yield Element(name=f"gateway_of{family}", parts=(subnet.gateway, bridge))
        if network.uplink == "nat":
            fixed = [one for one in network.snat if one.family == family]
            if fixed:
                yield Element(name=f"snat{family}", parts=(prefix,), data=(fixed[0],))
            else:
                yield Element(name=f"masq{family}", parts=(prefix,))


def frame_elements(network: Network) -> Iterator[Element]:
    """Yield what table bridge must know of a network on an adopted bridge: what the wire beside it is not to carry."""
    if not network.adopted:
        return
    for subnet in network.subnets:
        family, prefix = subnet.prefix.family, subnet.prefix
        if subnet.gateway is not None or not network.has_exit:
            yield Element(name=f"inside{family}", parts=(prefix,))


def attachment_elements(network: Network, attachment: Attachment) -> Iterator[Element]:
    """Yield what table bridge must know of the port of an attachment: that it is isolated, that a wire is beside it."""
    if network.isolate_ports:
        yield Element(name="apart", parts=(attachment.host_ifname,))
        yield Element(name="members", parts=(attachment.host_ifname, attachment.mac))
    if network.adopted:
        yield Element(name="guarded", parts=(attachment.host_ifname,))
        yield Element(name="inwards", parts=(attachment.mac,), data=(attachment.host_mac,))
        yield Element(name="outwards", parts=(attachment.host_ifname,), data=(attachment.host_mac,))


def publish_targets(record: Record, publish: Publish) -> Iterator[tuple[Network, Attachment, Address]]:
    """Yield, for each family, the network, attachment and address that a publish leads to, if the host can be there."""
    for network, attachment, address in publish_aims(record, publish):
        if network.has_host(address.family):
            yield network, attachment, address


def publish_aims(record: Record, publish: Publish) -> Iterator[tuple[Network, Attachment, Address]]:
    """Yield the same whether the host can be there or not."""
    families = (4, 6) if publish.host is None else (publish.host.family,)
    attachments = record.attachments_of(publish.namespace)
    for family in families:
        if publish.network is not None:
            fitting = tuple(one for one in attachments if one.network == publish.network)
        else:
            holder = record.default_route_holder(publish.namespace, family)
            # Without any default route (a network without a way out): the first that has the family.
            fitting = (holder,) if holder is not None else attachments
        for attachment in fitting:
            address = attachment.address(family)
            network = record.networks.get(attachment.network)
            if address is not None and network is not None:
                yield network, attachment, address
                break


def publish_elements(record: Record, publish: Publish) -> Iterator[Element]:
    """Yield the elements of a publish: one for each port and family, and for each other address of its namespace."""
    protocol = PROTOCOLS[publish.protocol]
    attachments = record.attachments_of(publish.namespace)
    for network, target, address in publish_targets(record, publish):
        family = address.family
        for other in attachments:
            own = other.address(family) if other is not target and network.uplink == "nat" else None
            if own is not None:
                yield Element(name=f"own{family}", parts=(own, address))
        for offset in range(publish.count):
            port, host_port = publish.port + offset, publish.host_port + offset
            if network.uplink == "routed":
                yield Element(name=f"open{family}", parts=(address, protocol, port))
            elif publish.host is None:
                yield Element(name=f"anyport{family}", parts=(protocol, host_port), data=(address, port))
            else:
                yield Element(name=f"port{family}", parts=(publish.host, protocol, host_port), data=(address, port))


def record_elements(record: Record, *, frames: bool) -> Iterator[tuple[str, Element]]:
    """Yield all that a whole record asks of the sets, with the namespace that it is of (empty: a network).

    `frames`: with what table bridge holds.
    """
    for network in record.networks.values():
        yield from (("", one) for one in network_elements(network, record.networks.values()))
        yield from (("", one) for one in frame_elements(network) if frames)
    for row in record.attachments.values():
        wanted = attachment_elements(record.networks[row.network], row) if frames else ()
        yield from ((row.namespace, one) for one in wanted)
    for publish in record.publishes.values():
        yield from ((publish.namespace, one) for one in publish_elements(record, publish))


def needs_loopback(publish: Publish) -> bool:
    """Whether 127.0.0.1 must be translated for it: then its bridge needs route_localnet."""
    host = publish.host
    return host is None or (host.family == 4 and host.is_loopback)
