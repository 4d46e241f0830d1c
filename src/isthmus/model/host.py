"""What exists on a host: one frozen value for each object of the kernel, and its key.

A `HostState` is a dict from key to object. Two objects with one key are the same thing in two
conditions; the planner makes a `Change` of them. A namespace is named by the id of the record;
HOST is the host's own.
"""

from __future__ import annotations

from isthmus.model.address import Address, AddressRange, Mac, Prefix
from isthmus.model.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from isthmus.model.carried import Carried

    Key = tuple[object, ...]
    HostState = dict[Key, "HostObject"]

__all__ = [
    "ETC_NETNS",
    "HOST",
    "HOSTS_HEAD",
    "LIVE_GROUP",
    "NAMES_HEAD",
    "TRASH_GROUP",
    "Autoconf",
    "Bridge",
    "BridgedNic",
    "Directory",
    "Element",
    "File",
    "HostObject",
    "HostState",
    "HostsLine",
    "Key",
    "LinkAddress",
    "NamedNetns",
    "PinnedMac",
    "Process",
    "Route",
    "Rule",
    "Ruleset",
    "Symlink",
    "Sysctl",
    "Unredirected",
    "Veth",
]

HOST: Final = ""
# IFLA_GROUP of our links: "isth" in ASCII, and one that marks links that wait for deletion.
LIVE_GROUP: Final = 0x69737468
TRASH_GROUP: Final = 0x69737469
ETC_NETNS: Final = "/etc/netns"
NAMES_HEAD: Final = "# kept by isthmus\n"  # how our files below it begin: others there are somebody's
# How a hosts file that we keep begins; the host's own name is behind it, which a namespace has as well.
HOSTS_HEAD: Final = f"{NAMES_HEAD}127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n127.0.1.1 "

if not TYPE_CHECKING:
    Key = tuple
    HostState = dict


class NamedNetns(Value):
    """A namespace under /run/netns that we made; `loopback`: its `lo` is up (looked at with the host's part)."""

    name: str
    loopback: bool = True

    @property
    def key(self) -> Key:
        return ("netns", self.name)


class File(Value):
    """A file of ours, whole; `text` is its content."""

    path: str
    text: str

    @property
    def key(self) -> Key:
        return ("file", self.path)


class Directory(Value):
    """A directory of ours, or one that stays because it was there before us."""

    path: str

    @property
    def key(self) -> Key:
        return ("directory", self.path)


class Symlink(Value):
    """A symbolic link of ours."""

    path: str
    target: str

    @property
    def key(self) -> Key:
        return ("file", self.path)


class HostsLine(Value):
    """A line of a hosts file that many share; the file comes with its first line and goes with its last.

    `address` None: a line that keeps the file while a name may have no address (a lease that runs out), since whoever
    has it mounted would not see one that is made anew.
    """

    path: str
    address: Address | None
    name: str

    @property
    def key(self) -> Key:
        return ("hosts", self.path, self.address, self.name)

    @property
    def text(self) -> str:
        return f"{self.address or '#'} {self.name}\n"


class Ruleset(Value):
    """A static table of ours, loaded from planner/ruleset.nft or bridge.nft; `version` is a hash of both texts."""

    version: str
    family: str = "inet"

    @property
    def key(self) -> Key:
        return ("ruleset", self.family)


class Sysctl(Value):
    """A value under /proc/sys; `name` in slash form. `borrowed`: the object it hangs on is not ours."""

    name: str
    value: str
    borrowed: bool = False

    @property
    def key(self) -> Key:
        return ("sysctl", self.name)


class Bridge(Value):
    """A bridge of ours on the host: MAC and MTU pinned, STP off, no link-local address, up; `marked`: in our group."""

    name: str
    mac: Mac
    mtu: int
    alias: str
    up: bool = True
    stp: bool = False
    marked: bool = True

    @property
    def key(self) -> Key:
        return ("bridge", self.name)


class PinnedMac(Value):
    """That a bridge without ports, which is somebody else's, keeps its MAC when it gets ports of ours and loses them.

    The kernel gives it the lowest one of its ports, or none, unless one was set; to set the same drops its permanent
    neighbours, which are carried over. It stays set: no message unsets it.
    Source: net/bridge/br_stp_if.c, br_stp_recalculate_bridge_id; net/core/neighbour.c, neigh_changeaddr.
    """

    bridge: str
    mac: Mac
    neighbours: tuple[Carried, ...] = ()

    @property
    def key(self) -> Key:
        return ("pinned-mac", self.bridge)


class BridgedNic(Value):
    """A link of the host that is a port of a bridge of ours; what it carried hangs on the bridge.

    `name` is the present one: it may have been renamed since, so it is known by its bridge.
    `carried` is what is still to be moved: onto the bridge when this is wanted, off it when it goes.
    `lost` is what went with the bridge, of what was kept, and is to hang there again.
    """

    name: str
    bridge: str
    carried: tuple[Carried, ...] = ()
    lost: tuple[Carried, ...] = ()

    @property
    def key(self) -> Key:
        return ("nic", self.bridge)


class Veth(Value):
    """A veth pair: the near end in `netns`, the far (peer) end in `peer_netns`; both up.

    On an attachment the near end is the host's, a port of bridge `master`, and its name is the pair's alone. Any other
    pair is known by where it leads, too: one that leads elsewhere is another. `mac` None: the kernel's choice.
    `marked`: the near end is in our group.
    """

    netns: str
    name: str
    mac: Mac | None
    mtu: int
    alias: str
    peer_netns: str
    peer_name: str
    peer_mac: Mac
    master: str | None = None
    hairpin: bool = False
    isolated: bool = False
    up: bool = True
    marked: bool = True

    @property
    def key(self) -> Key:
        near = ("veth", self.netns, self.name)
        return near if self.netns == HOST else (*near, self.peer_netns)


class LinkAddress(Value):
    """An address on a link, usable at once (no duplicate-address detection)."""

    netns: str
    ifname: str
    address: Address
    length: int

    @property
    def key(self) -> Key:
        return ("address", self.netns, self.ifname, self.address)

    def __str__(self) -> str:
        return f"link {self.ifname}: {self.address}/{self.length}"


class Autoconf(Value):
    """That a link makes itself IPv6 addresses by router advertisements (SLAAC), and asks for these.

    `default_route`: it takes its default route of them, too. `link_local`: the kernel makes the address to ask with;
    else a DHCP client does, and keeps the kernel from it.
    """

    netns: str
    ifname: str
    default_route: bool = True
    link_local: bool = True

    @property
    def key(self) -> Key:
        return ("autoconf", self.netns, self.ifname)

    def sysctls(self, *, on: bool = True) -> tuple[tuple[str, str], ...]:
        """Return what is set for it, in order, inside; without `on` what ends it."""
        values = {"accept_ra_defrtr": on and self.default_route, "autoconf": on}
        if self.link_local or not on:
            values["addr_gen_mode"] = not on
        return tuple((f"net/ipv6/conf/{self.ifname}/{name}", str(int(value))) for name, value in values.items())


class Unredirected(Value):
    """That a link inside heeds no ICMPv6 redirect past its gateway (IPv4's are not sent: docs/decisions/0003)."""

    netns: str
    ifname: str

    @property
    def key(self) -> Key:
        return ("unredirected", self.netns, self.ifname)

    @property
    def sysctl(self) -> str:
        """The switch inside: 0, where it is 1 by default."""
        return f"net/ipv6/conf/{self.ifname}/accept_redirects"


class Route(Value):
    """A unicast route of a table (0: main); `prefix` of length 0 is the default route."""

    netns: str
    prefix: Prefix
    via: Address
    ifname: str
    table: int = 0

    @property
    def key(self) -> Key:
        return ("route", self.netns, self.prefix, self.table)

    def __str__(self) -> str:
        return f"link {self.ifname}: {self.prefix} via {self.via}"


class Rule(Value):
    """A policy rule: what is sent from an address asks a table (0: main) for its route.

    `specific`: the table's default route is passed over there. The lowest `priority` is asked first.
    """

    netns: str
    priority: int
    source: Address
    table: int
    specific: bool = False

    @property
    def key(self) -> Key:
        return ("rule", self.netns, self.priority, self.source, self.table, self.specific)

    def __str__(self) -> str:
        return f"{self.netns}: from {self.source}"


class Element(Value):
    """An element of a set or map of our tables.

    `name` is the set's (its types are in model/ruleset.py). `parts` and `data` hold one Python value for
    each type: str for ifname, Mac, Address for an address, Prefix for one in an interval set (AddressRange: a
    stranger's), int for a protocol number or port (host order). `data` is empty for a set.
    """

    name: str
    parts: tuple[str | int | Address | Prefix | AddressRange | Mac, ...]
    data: tuple[str | int | Address | Prefix | AddressRange | Mac, ...] = ()

    @property
    def key(self) -> Key:
        return ("element", self.name, self.parts)


class Process(Value):
    """A supervised command in a namespace; `name` is what its supervisor calls it (empty: as the namespace).

    A `lasting` one is a DHCP client: it is ready when it has a lease and puts itself into the background, and missed
    when it has ended.
    """

    netns: str
    argv: tuple[str, ...]
    name: str = ""
    lasting: bool = False

    @property
    def id(self) -> str:
        """What its supervisor calls it."""
        return self.name or self.netns

    @property
    def key(self) -> Key:
        return ("process", self.id)


HostObject = (
    NamedNetns
    | Directory
    | File
    | Symlink
    | HostsLine
    | Ruleset
    | Sysctl
    | Bridge
    | PinnedMac
    | BridgedNic
    | Veth
    | LinkAddress
    | Autoconf
    | Unredirected
    | Route
    | Rule
    | Element
    | Process
)
