"""The bridges, veth pairs, addresses and routes that ought to exist."""

from __future__ import annotations

from isthmus.model.address import Prefix, link_local
from isthmus.model.host import (
    HOST,
    Autoconf,
    Bridge,
    BridgedNic,
    HostObject,
    LinkAddress,
    Route,
    Rule,
    Sysctl,
    Unredirected,
    Veth,
)
from isthmus.model.network import Attachment, DirectLink, Network, Record
from isthmus.planner.forwarding import Facts, NicFacts
from isthmus.planner.marks import mark

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Final

__all__ = ["DEFAULT", "attachment_links", "autoconf", "direct_link", "namespace_routes", "network_links"]

DEFAULT: Final = {4: Prefix(family=4, number=0, length=0), 6: Prefix(family=6, number=0, length=0)}


def network_links(network: Network, facts: Facts) -> Iterator[HostObject]:
    """Yield a network's bridge (unless adopted), its gateway addresses, and the interface that is a port of it."""
    if not network.adopted and network.mac is not None:
        alias = mark("network", network.name, network.owner)
        yield Bridge(name=network.bridge, mac=network.mac, mtu=network.mtu, alias=alias)
    if network.is_lan:
        if network.nic in facts.nics:
            yield from _bridged_nic(network, facts.nics[network.nic])
        return
    if network.bridge in facts.gone:
        return
    for subnet in network.subnets:
        if subnet.gateway is not None:
            length = subnet.prefix.length
            yield LinkAddress(netns=HOST, ifname=network.bridge, address=subnet.gateway, length=length)
    subnet6 = network.subnet(6)
    if subnet6 is not None and subnet6.gateway is not None:
        # The kernel asks for a neighbour on behalf of a packet that it forwards from a link-local address, or not
        # at all (net/ipv6/ndisc.c, ndisc_send_ns); ours has no duplicate-address detection to wait for.
        own = link_local(network.mac) if network.mac is not None else facts.link_locals.get(network.bridge)
        if own is not None:
            yield LinkAddress(netns=HOST, ifname=network.bridge, address=own, length=64)


def _bridged_nic(network: Network, facts: NicFacts) -> Iterator[HostObject]:
    # A port whose link comes up again would get a link-local address: that of the bridge.
    yield Sysctl(name=f"net/ipv6/conf/{facts.name}/addr_gen_mode", value="1", borrowed=True)
    for name, value in facts.conf:
        yield Sysctl(name=name.format(link=network.bridge), value=value)
    yield BridgedNic(name=facts.name, bridge=network.bridge, carried=facts.carried, lost=facts.lost)
    if network.dhcp:
        from isthmus.planner.leases import bridge_client

        yield bridge_client(network)


def attachment_links(network: Network, attachment: Attachment, facts: Facts) -> Iterator[HostObject]:
    """Yield an attachment's veth pair and the addresses on its inner end; the pair waits while its bridge is gone."""
    is_port = network.bridge not in facts.gone
    has_router = any(subnet.gateway is not None for subnet in network.subnets)
    if is_port and network.bridge in facts.unpinned:
        yield facts.unpinned[network.bridge]
    yield Veth(
        netns=HOST,
        name=attachment.host_ifname,
        mac=attachment.host_mac,
        mtu=network.mtu,
        alias=mark("attachment", attachment.id, attachment.owner),
        peer_netns=attachment.namespace,
        peer_name=attachment.ifname,
        peer_mac=attachment.mac,
        master=network.bridge if is_port else None,
        hairpin=is_port and has_router and not network.is_lan,
        isolated=is_port and network.isolate_ports and not facts.bridge_table,
    )
    if network.adopted and attachment.address(6) is not None:
        yield Unredirected(netns=attachment.namespace, ifname=attachment.ifname)
    for address in attachment.addresses:
        subnet = network.subnet(address.family)
        length = subnet.prefix.length if subnet is not None else address.bits
        yield LinkAddress(netns=attachment.namespace, ifname=attachment.ifname, address=address, length=length)


def autoconf(record: Record, network: Network, attachment: Attachment) -> Iterator[Autoconf]:
    """Yield that a LAN's router tells an attachment its IPv6 addresses; not a way out where another network has it."""
    if attachment.learns(network):
        held = record.default_route_holder(attachment.namespace, 6) is not None
        default_route = attachment.priority is not None and not held
        netns, ifname = attachment.namespace, attachment.ifname
        own = 6 not in attachment.leased
        yield Autoconf(netns=netns, ifname=ifname, default_route=default_route, link_local=own)


def namespace_routes(record: Record, namespace: str) -> Iterator[Route | Rule]:
    """Yield a namespace's default routes, one a family at most, and the ways back of its other addresses."""
    for family in (4, 6):
        holder = record.default_route_holder(namespace, family)
        if holder is None or family in holder.leased:
            continue  # the router is in the lease
        subnet = record.networks[holder.network].subnet(family)
        if subnet is not None and subnet.gateway is not None:
            yield Route(netns=namespace, prefix=DEFAULT[family], via=subnet.gateway, ifname=holder.ifname)
    attachments = record.attachments_of(namespace)
    if len(attachments) > 1 or any(one.priority is None for one in attachments):
        from isthmus.planner.ways import source_routes

        yield from source_routes(record, namespace)


def direct_link(link: DirectLink) -> Iterator[HostObject]:
    """Yield a direct link's veth pair and the addresses on both ends."""
    yield Veth(
        netns=link.a.namespace,
        name=link.a.ifname,
        mac=link.a.mac,
        mtu=link.mtu,
        alias=mark("link", link.id, link.owner),
        peer_netns=link.b.namespace,
        peer_name=link.b.ifname,
        peer_mac=link.b.mac,
    )
    for end in (link.a, link.b):
        for address, length in end.addresses:
            yield LinkAddress(netns=end.namespace, ifname=end.ifname, address=address, length=length)
