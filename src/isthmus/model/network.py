"""What an operator declares: networks, namespaces, attachments, publishes, direct links.

These are the rows of the record. `owner` is the name of the declaration (a file) that a row belongs to;
the empty string means that a command made it. A namespace is named by an `id`: its name under
/run/netns, or `netns-COOKIE` for one that has none.
"""

from __future__ import annotations

from isthmus.model.address import Address, Mac, Prefix
from isthmus.model.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, ClassVar, Final, Literal

    Uplink = Literal["nat", "routed", "none", "nic"]

__all__ = [
    "ALL_RECORDS",
    "HOST_END",
    "MTU_MIN",
    "MTU_MIN_IPV6",
    "NAT",
    "NIC",
    "NONE",
    "ROUTED",
    "Attachment",
    "Borrowed",
    "Command",
    "DirectLink",
    "Forwarding",
    "LinkEnd",
    "Namespace",
    "Network",
    "Publish",
    "Record",
    "Row",
    "Subnet",
    "host_end",
    "is_host_end",
]

NAT: Final = "nat"
ROUTED: Final = "routed"
NONE: Final = "none"
NIC: Final = "nic"
MTU_MIN: Final = 68  # RFC 791 section 3.2
MTU_MIN_IPV6: Final = 1280  # RFC 8200 section 5; below it a link has no IPv6 (net/ipv6/addrconf.c, addrconf_notify)
HOST_END: Final = "isv"  # how the name of a host end begins


class Subnet(Value):
    """A prefix of a network, and its gateway: the address that the bridge carries there (None: no address).

    On a network with uplink `nic` the gateway is the LAN's router. `range` is the first and the last address that
    may be given there; None: any of the prefix, but on such a network none.
    """

    prefix: Prefix
    gateway: Address | None
    range: tuple[Address, Address] | None = None


class Network(Value):
    """A switch for namespaces: a bridge, its subnets, and its way out.

    `adopted`: the bridge is somebody else's, we add ports (and gateway addresses) only. `nic` is the interface that is
    a port of the bridge, with uplink `nic` alone: the members are on its LAN, and the host's addresses on the bridge.
    `mtu` is in bytes, chosen when the network was made. `snat` holds at most one address a family;
    a family without one is masqueraded. `dhcp` is the client identifier by which isthmus itself keeps the host's
    IPv4 address on the bridge of such a network, in hex digits (`none`: it sends none; empty: isthmus keeps none).
    `allow` names networks that this one may talk with; a pair is open when either side allows it. `sequence` is the
    order of making. `transient`: made for a run, it goes with its last one.
    """

    name: str
    bridge: str
    mac: Mac | None
    subnets: tuple[Subnet, ...]
    uplink: Uplink = "nat"
    nic: str = ""
    dhcp: str = ""
    adopted: bool = False
    snat: tuple[Address, ...] = ()
    isolate_ports: bool = False
    allow: frozenset[str] = frozenset()
    mtu: int = 1500
    sequence: int = 0
    owner: str = ""
    transient: bool = False

    @property
    def has_exit(self) -> bool:
        """Whether its members get a default route."""
        return self.uplink != NONE

    @property
    def is_lan(self) -> bool:
        """Whether its members are on the LAN themselves: then nothing of theirs crosses the host."""
        return self.uplink == NIC

    @property
    def judges_frames(self) -> bool:
        """Whether frames between ports of its bridge are judged as such: isolated ports, or a wire beside ours."""
        return self.isolate_ports or self.adopted

    def has_host(self, family: int) -> bool:
        """Whether the host may be on it in a family: it has a gateway, or a bridge with the host's own addresses."""
        return any(net.prefix.family == family and (net.gateway or self.adopted or self.is_lan) for net in self.subnets)

    def subnet(self, family: int) -> Subnet | None:
        """Return its subnet of that family, if it has one."""
        for subnet in self.subnets:
            if subnet.prefix.family == family:
                return subnet
        return None


class Namespace(Value):
    """A network namespace that we made or attached something to.

    `cookie` is SO_NETNS_COOKIE, 0 while a declared one is not made yet; `path` is where it was found
    (a hint: the cookie decides); `made` tells whether it is ours to remove.
    """

    id: str
    path: str
    cookie: int = 0
    made: bool = False
    owner: str = ""


class Attachment(Value):
    """A namespace's port on a network: one veth pair.

    `host_ifname` is the host's end. `addresses` has at most one a family, and none of those that are `leased`: a
    DHCP client inside keeps it, on a network with uplink `nic`. `priority` orders claims on the
    default route, lowest first (the sequence of attaching; `--default-route` takes one below all others);
    None: never takes it.
    """

    id: str
    network: str
    namespace: str
    ifname: str
    host_ifname: str
    mac: Mac
    addresses: tuple[Address, ...]
    priority: int | None
    sequence: int
    leased: tuple[int, ...] = ()
    owner: str = ""

    @property
    def host_mac(self) -> Mac:
        """The MAC of the host's end: as random as its name, and like it the attachment's own."""
        return Mac(packed=b"\xfe" + bytes.fromhex(self.host_ifname[-10:]))

    def learns(self, network: Network) -> bool:
        """Whether its IPv6 addresses come by router advertisements: on a LAN, while it was given none."""
        return network.is_lan and self.address(6) is None and network.mtu >= MTU_MIN_IPV6

    def address(self, family: int) -> Address | None:
        """Return its address of that family, if it has one."""
        for address in self.addresses:
            if address.family == family:
                return address
        return None


def host_end(drawn: bytes) -> str:
    """Return the name of the host's end of an attachment, from five bytes drawn at random."""
    return f"{HOST_END}{drawn.hex()}"


def is_host_end(link: str) -> bool:
    """Whether a link's name is one of those."""
    return link.startswith(HOST_END) and len(link) == len(HOST_END) + 10


class Publish(Value):
    """Host ports that lead to a namespace: `count` ports from `host_port` on, to as many from `port` on.

    `host` None: every address of the host, in each family that the target has. `network` None: the
    attachment that has the default route of the family. `protocol` is 'tcp', 'udp' or 'sctp'. On a routed network the
    host ports are the namespace's own, at its own address: there two namespaces may have the same. So `id` names the
    namespace, too (but in rows of older versions, which had one of a claim at most).
    """

    id: str
    namespace: str
    host: Address | None
    host_port: int
    port: int
    protocol: str
    count: int = 1
    network: str | None = None
    owner: str = ""

    @property
    def claim(self) -> str:
        """What of the host it asks for: [HOSTIP:]HOSTPORT[-LAST]/PROTO."""
        host = "" if self.host is None else f"[{self.host}]:" if self.host.family == 6 else f"{self.host}:"
        return f"{host}{_ports(self.host_port, self.count)}/{self.protocol}"

    @property
    def spec(self) -> str:
        """The whole of it: [HOSTIP:]HOSTPORT:PORT/PROTO."""
        head, _, protocol = self.claim.rpartition("/")
        return f"{head}:{_ports(self.port, self.count)}/{protocol}"

    def named(self) -> Publish:
        """Return it with the id of a new one."""
        on = "" if self.network is None else f"%{self.network}"
        return self.replace(id=f"{self.claim}{on} {self.namespace}")

    def overlaps(self, other: Publish) -> bool:
        """Whether both claim one port of one host address."""
        return (
            self.protocol == other.protocol
            and (self.host is None or other.host is None or self.host == other.host)
            and self.host_port < other.host_port + other.count
            and other.host_port < self.host_port + self.count
        )


def _ports(first: int, count: int) -> str:
    return str(first) if count == 1 else f"{first}-{first + count - 1}"


class LinkEnd(Value):
    """One end of a direct link: the namespace's id, the name inside, an address with its prefix length."""

    namespace: str
    ifname: str
    mac: Mac
    addresses: tuple[tuple[Address, int], ...]


class DirectLink(Value):
    """A veth pair between two namespaces, without a bridge."""

    id: str
    a: LinkEnd
    b: LinkEnd
    mtu: int = 1500
    owner: str = ""


class Command(Value):
    """A supervised process of a namespace: one a namespace. `transient`: a run; its namespace goes when it ends."""

    namespace: str
    argv: tuple[str, ...]
    owner: str = ""
    transient: bool = False

    @property
    def id(self) -> str:
        """The namespace's id: it has one command at most."""
        return self.namespace


class Forwarding(Value):
    """That a family is forwarded: on every link by the global switch (`link` empty), or on one link.

    `now`: it is switched on; `persist`: a file of ours switches it on at each boot. Each may be without the
    other. `uplinks`: of IPv6's global switch, links that go on accepting router advertisements (accept_ra 2).
    """

    family: int
    link: str = ""
    now: bool = True
    persist: bool = False
    uplinks: tuple[str, ...] = ()
    owner: str = ""

    @property
    def id(self) -> str:
        """`4` or `6`, and the link where it is of one."""
        return f"{self.family} {self.link}".rstrip()


class Borrowed(Value):
    """A value that we changed on something that is not ours: `before` us, and the one we `gave`.

    `name` is a sysctl in slash form. `switched`: the global switch that is copied to it was on by then.
    """

    name: str
    before: str
    gave: str
    switched: bool = False


Row = Network | Namespace | Attachment | Publish | DirectLink | Command | Forwarding | Borrowed


class Record(Value):
    """What was asked for, in memory: each kind of row by its key.

    A record may be a slice: all networks, but only some namespaces and what hangs on them. What it must know
    of the rest is told by `loopback_elsewhere` (networks of which a namespace outside needs 127.0.0.1 to be
    translated), `published_elsewhere` (those of which one outside has any publish), `hosts_elsewhere` (addresses
    of the host at which one outside is published) and `made_elsewhere` (whether one outside is ours). `ends` are
    namespaces outside that direct links lead to: they are in it, what else hangs on them is not. The dicts are never
    changed in place.
    """

    __slots__ = ("_by_namespace", "_holders")
    if TYPE_CHECKING:
        _by_namespace: ClassVar[dict[str, tuple[Attachment, ...]]]
        _holders: ClassVar[dict[tuple[str, int], Attachment | None]]

    networks: dict[str, Network]
    namespaces: dict[str, Namespace]
    attachments: dict[str, Attachment]
    publishes: dict[str, Publish]
    links: dict[str, DirectLink]
    commands: dict[str, Command]
    forwarding: dict[str, Forwarding]
    borrowed: dict[str, Borrowed]
    loopback_elsewhere: frozenset[str] = frozenset()
    published_elsewhere: frozenset[str] = frozenset()
    hosts_elsewhere: frozenset[Address] = frozenset()
    made_elsewhere: bool = False
    ends: frozenset[str] = frozenset()

    @classmethod
    def empty(cls) -> Record:
        """Return the record of a host that nothing was asked of."""
        tables: dict[str, Any] = {kind: {} for kind in ALL_RECORDS}
        return cls(**tables)

    def replace(self, **changes: object) -> Record:
        """Return a changed one; what is known of attachments stays known where they stay."""
        found: Record = super().replace(**changes)
        if "attachments" not in changes and "networks" not in changes:
            for memo in self.__slots__:
                if hasattr(self, memo):
                    object.__setattr__(found, memo, getattr(self, memo))
        return found

    def has_whole(self, namespace: str) -> bool:
        """Whether all that hangs on a namespace is in it."""
        return namespace in self.namespaces and namespace not in self.ends

    def attachments_of(self, namespace: str) -> tuple[Attachment, ...]:
        """Return a namespace's attachments in the order of attaching."""
        try:
            return self._by_namespace.get(namespace, ())
        except AttributeError:
            groups: dict[str, list[Attachment]] = {}
            for one in sorted(self.attachments.values(), key=_sequence):
                groups.setdefault(one.namespace, []).append(one)
            object.__setattr__(self, "_by_namespace", {name: tuple(group) for name, group in groups.items()})
            return self._by_namespace.get(namespace, ())

    def default_route_holder(self, namespace: str, family: int) -> Attachment | None:
        """Return which of a namespace's attachments has the default route of a family."""
        try:
            return self._holders[namespace, family]
        except AttributeError:
            object.__setattr__(self, "_holders", {})
        except KeyError:
            pass
        holders = [one for one in self.attachments_of(namespace) if self._may_lead_out(one, family)]
        found = min(holders, key=lambda one: (one.priority or 0, one.sequence)) if holders else None
        self._holders[namespace, family] = found
        return found

    def _may_lead_out(self, attachment: Attachment, family: int) -> bool:
        network = self.networks.get(attachment.network)
        if attachment.priority is None or network is None or not network.has_exit:
            return False
        subnet = network.subnet(family)
        has_router = subnet is not None and subnet.gateway is not None and attachment.address(family) is not None
        return has_router or (family == 4 and 4 in attachment.leased)

    def members(self, network: str) -> list[Attachment]:
        """Return a network's attachments in the order of attaching."""
        found = [one for one in self.attachments.values() if one.network == network]
        return sorted(found, key=_sequence)


def _sequence(row: Attachment) -> int:
    return row.sequence


ALL_RECORDS: Final = {
    "networks": Network,
    "namespaces": Namespace,
    "attachments": Attachment,
    "publishes": Publish,
    "links": DirectLink,
    "commands": Command,
    "forwarding": Forwarding,
    "borrowed": Borrowed,
}
