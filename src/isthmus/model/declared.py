"""What an operator wishes, before anything is chosen for them: the nouns of a file and of a command.

A verb of the engine takes these; choosing (addresses, names, MACs, ports) turns them into the rows of
model/network.py. None means: choose for me.
"""

from __future__ import annotations

from isthmus.model.address import Address, Mac, Prefix
from isthmus.model.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from isthmus.model.network import Uplink

__all__ = [
    "AttachmentWish",
    "Declaration",
    "ForwardingWish",
    "LinkEndWish",
    "LinkWish",
    "NamespaceWish",
    "NetworkWish",
    "PublishWish",
    "RunWish",
]


class NetworkWish(Value):
    """A network to be. `subnets` empty: one of each family from the pools.

    `gateways` None: the first address of each subnet; empty: a bridge without an address.
    `nic`: the interface for uplink `nic`; `dhcp`: take over its IPv4 lease, by this client identifier (hex digits,
    `none` or `auto`; None: do not). `ranges`: (first, last) of the addresses that may be given.
    `bridge`: the name of an existing bridge to adopt; None: one of ours. `mtu` None: that of the link
    with the default route.
    """

    name: str
    subnets: tuple[Prefix, ...] = ()
    gateways: tuple[Address, ...] | None = None
    bridge: str | None = None
    uplink: Uplink = "nat"
    nic: str = ""
    dhcp: str | None = None
    ranges: tuple[tuple[Address, Address], ...] = ()
    snat: tuple[Address, ...] = ()
    isolate_ports: bool = False
    allow: frozenset[str] = frozenset()
    mtu: int | None = None
    allow_overlap: bool = False


class PublishWish(Value):
    """Ports to publish. `host_port` None: the next free one (then `count` is 1).

    `host` None: all addresses; `allow_nonlocal`: `host` need not be an address of the host.
    """

    port: int
    protocol: str = "tcp"
    host: Address | None = None
    host_port: int | None = None
    count: int = 1
    network: str | None = None
    allow_nonlocal: bool = False


class AttachmentWish(Value):
    """A port to be on a network. `default_route` True: takes the default route; False: never; None: if first.

    `leased`: the families of which its address comes from the LAN's DHCP server.
    """

    network: str
    ips: tuple[Address, ...] = ()
    leased: tuple[int, ...] = ()
    mac: Mac | None = None
    ifname: str | None = None
    default_route: bool | None = None


class NamespaceWish(Value):
    """A named namespace to be, with its attachments in order, its publishes and its command (None: none)."""

    name: str
    attachments: tuple[AttachmentWish, ...] = ()
    publishes: tuple[PublishWish, ...] = ()
    command: tuple[str, ...] | None = None


class LinkEndWish(Value):
    """One end of a direct link: a target (name, path, pid), addresses with prefix lengths, a name inside."""

    namespace: str
    addresses: tuple[tuple[Address, int], ...] = ()
    ifname: str | None = None
    mac: Mac | None = None


class LinkWish(Value):
    """A veth pair to be between two namespaces."""

    a: LinkEndWish
    b: LinkEndWish
    mtu: int | None = None


class ForwardingWish(Value):
    """Forwarding to be on: of these families, on these links (none: on all, by the global switch).

    `persist`: at each boot, too, by a file under /etc/sysctl.d.
    """

    families: tuple[int, ...] = (4, 6)
    links: tuple[str, ...] = ()
    persist: bool = False


class Declaration(Value):
    """A declared file: everything that should exist under its name."""

    name: str
    networks: tuple[NetworkWish, ...] = ()
    namespaces: tuple[NamespaceWish, ...] = ()
    links: tuple[LinkWish, ...] = ()
    forwarding: tuple[ForwardingWish, ...] = ()
    source: str = ""

    def translates(self, namespace: NamespaceWish, publish: PublishWish) -> bool:
        """Whether a publish surely has ports of the host: all networks that it may lead to are declared, none routed.

        On a routed network host ports are the namespace's own.
        """
        uplinks = {one.name: one.uplink for one in self.networks}
        names = [one.network for one in namespace.attachments if publish.network in (None, one.network)]
        return all(uplinks.get(name, "routed") != "routed" for name in names)


class RunWish(Value):
    """A command to be run in a namespace that is made for it and goes when it ends.

    `name` None: drawn. `ips` belong to the networks whose subnets they are in; `leased`: on those of the networks that
    are LANs its addresses of these families come from DHCP servers, and the command starts then. Ports or addresses
    without a network mean the network `default`, which is made when it is missing and goes with the last run on it.
    `environment` (KEY=VALUE) is added to the caller's. `foreground`: it has the caller's terminal and descriptors;
    else it is left running.
    """

    argv: tuple[str, ...]
    name: str | None = None
    networks: tuple[str, ...] = ()
    ips: tuple[Address, ...] = ()
    leased: tuple[int, ...] = ()
    publishes: tuple[PublishWish, ...] = ()
    environment: tuple[str, ...] = ()
    foreground: bool = True
