"""The sysctls that ought to be set: forwarding for each link that packets come in by, 127.0.0.1 for bridges.

Beside what networks need there is what was asked for by itself (rows of the record, `Forwarding`). Where that is a
global switch, what its write changes on other links are steps of their own: said, borrowed and given back.

What a packet needs is the value of the link that it comes in by, so nothing global is written where the
kernel allows it. IPv6 has such a value, `force_forwarding`, since Linux 6.17; before that `all/forwarding` alone
decides, and a change of it is copied to `default` and to every link, which are put back at once.
Source: Documentation/networking/ip-sysctl.rst.
"""

from __future__ import annotations

from isthmus.model.address import Address
from isthmus.model.host import HostState, Sysctl
from isthmus.model.network import NAT, Forwarding, Network, Record
from isthmus.model.switches import SWITCHES, copied_family, copied_value, link_switch
from isthmus.model.value import Value
from isthmus.planner.firewall import needs_loopback, publish_targets

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Final

    from isthmus.model.carried import Carried
    from isthmus.model.host import PinnedMac
    from isthmus.model.lease import Lease

__all__ = [
    "Facts",
    "NicFacts",
    "bridges_of",
    "covers",
    "host_sysctls",
    "namespace_sysctls",
    "publish_sysctls",
    "row_sysctls",
    "spread",
    "wished_sysctls",
]

_ALL_FORWARDING6: Final = SWITCHES[6]


class NicFacts(Value):
    """What an interface carries that is to be a port of a bridge (or came since it is), and what is set by hand.

    `name` is its present one, which need not be that of the record.
    `conf` are (sysctl, value), `{link}` in the place of the link's name: the interface's, or the bridge's once it is
    a port. `forwarding` are those of forwarding, usual ones too, while it is not one. `lost` is what it carried once
    and went with its bridge.
    """

    name: str
    carried: tuple[Carried, ...] = ()
    lost: tuple[Carried, ...] = ()
    conf: tuple[tuple[str, str], ...] = ()
    forwarding: tuple[tuple[str, str], ...] = ()


class Facts(Value):
    """What the planner must know of the host beside its objects.

    `uplinks4` and `uplinks6` are the links of the default routes; `learned6` those of them whose route came
    by a router advertisement; `force_forwarding`: the kernel has it; `bridge_table`: it has
    what planner/bridge.nft needs, asked where frames are judged; `copies`: the sysctls that global switches
    overwrite, read where one may be written; `switched`: the families whose global switch is on, read where the host's
    part is planned; `mtu` that of the default route's link (1500 without one);
    `strangers`: signs that somebody else needs forwarding; `run_directory`: where files of ours are that a
    reboot ends; `resolver`: the resolv.conf for namespaces (None: no names can be given); `hostname`: the host's name,
    which namespaces have as well; `nics`: the interfaces of networks with uplink `nic` that are there, by their names
    on record; `link_locals`: the link-local address of ours that an adopted bridge has (before a plan), or needs since
    it has none; `gone`: bridges that are not there and stay so, on which nothing can be; `leases`: those of attachments
    whose address is leased, by id; `masked`: a symbolic link has the name of our file for a boot, which is somebody
    else's; `links`: those that have the host's addresses, where one may be published at; no bridges of ours;
    `unpinned`: adopted bridges (after a plan) whose MAC the first port would change.
    """

    uplinks4: tuple[str, ...] = ()
    uplinks6: tuple[str, ...] = ()
    learned6: frozenset[str] = frozenset()
    force_forwarding: bool = True
    bridge_table: bool = True
    copies: tuple[str, ...] = ()
    switched: frozenset[int] = frozenset()
    mtu: int = 1500
    strangers: tuple[str, ...] = ()
    run_directory: str = "/run/isthmus"
    resolver: str | None = ""
    hostname: str = "localhost"
    nics: dict[str, NicFacts] = {}  # noqa: RUF012  never changed in place
    link_locals: dict[str, Address] = {}  # noqa: RUF012
    gone: frozenset[str] = frozenset()
    leases: dict[str, Lease] = {}  # noqa: RUF012
    masked: bool = False
    links: dict[Address, str] = {}  # noqa: RUF012
    unpinned: dict[str, PinnedMac] = {}  # noqa: RUF012

    @property
    def renamed(self) -> dict[str, str]:
        """The present names of the interfaces that have another one on record."""
        return {name: found.name for name, found in self.nics.items() if found.name != name}

    def forwarded(self, record: Record) -> dict[str, str]:
        """Return what a record's bridges forward because their interfaces do: values by sysctl."""
        lans = [one for one in record.networks.values() if one.nic in self.nics]
        return {name.format(link=one.bridge): value for one in lans for name, value in self.nics[one.nic].forwarding}


def host_sysctls(record: Record, facts: Facts) -> Iterator[Sysctl]:
    """Yield the forwarding sysctls of all networks with a way out by the host, and of the links it leads through."""
    exits = [network for network in record.networks.values() if network.has_exit and not network.is_lan]
    for network in exits:
        yield from _bridge_forwarding(network, facts, families=(4, 6))
    if any(network.has_host(4) for network in exits):
        for link in facts.uplinks4:
            yield Sysctl(name=f"net/ipv4/conf/{link}/forwarding", value="1", borrowed=True)
    if any(network.has_host(6) for network in exits):
        yield from _uplinks6(facts)


def _bridge_forwarding(network: Network, facts: Facts, families: tuple[int, ...]) -> Iterator[Sysctl]:
    for family in families:
        if not network.has_host(family) or network.bridge in facts.gone:
            continue
        if family == 4:
            name = f"net/ipv4/conf/{network.bridge}/forwarding"
            yield Sysctl(name=name, value="1", borrowed=network.adopted)
        elif facts.force_forwarding:
            name = f"net/ipv6/conf/{network.bridge}/force_forwarding"
            yield Sysctl(name=name, value="1", borrowed=network.adopted)


def _uplinks6(facts: Facts) -> Iterator[Sysctl]:
    if facts.force_forwarding:
        for link in facts.uplinks6:
            yield Sysctl(name=f"net/ipv6/conf/{link}/force_forwarding", value="1", borrowed=True)
        return
    # With forwarding on, an uplink with accept_ra=1 forgets its own default route.
    for link in sorted(facts.learned6):
        yield Sysctl(name=f"net/ipv6/conf/{link}/accept_ra", value="2", borrowed=True)
    yield Sysctl(name=_ALL_FORWARDING6, value="1", borrowed=True)


def covers(record: Record, family: int) -> bool:
    """Whether forwarding of a family was asked for on all links."""
    row = record.forwarding.get(str(family))
    return row is not None and row.now


def wished_sysctls(record: Record, facts: Facts) -> Iterator[Sysctl]:
    """Yield the sysctls of forwarding that was asked for by itself; a link that is not there has none."""
    for row in record.forwarding.values():
        if row.now:
            yield from row_sysctls(row, record, facts)


def row_sysctls(row: Forwarding, record: Record, facts: Facts) -> Iterator[Sysctl]:
    """Yield the sysctls of one row; what comes in by an interface comes by its bridge while it is a port of one."""
    if row.link:
        bridges = bridges_of(row.link, record, facts)
        for link in (row.link, *bridges):
            if link in bridges or f"net/ipv{row.family}/conf/{link}/forwarding" in facts.copies:
                yield Sysctl(name=link_switch(row.family, link), value="1", borrowed=True)
        return
    if row.family == 6:
        for link in sorted(facts.learned6.union(row.uplinks)):
            if f"net/ipv6/conf/{link}/forwarding" in facts.copies:
                yield Sysctl(name=f"net/ipv6/conf/{link}/accept_ra", value="2", borrowed=True)
    yield Sysctl(name=SWITCHES[row.family], value="1", borrowed=True)


def bridges_of(link: str, record: Record, facts: Facts) -> tuple[str, ...]:
    """Return the bridge of ours that a link is a port of, or none."""
    lans = [one for one in record.networks.values() if one.is_lan]
    return tuple(one.bridge for one in lans if link in (one.nic, facts.renamed.get(one.nic)))


def spread(current: HostState, wanted: HostState, record: Record) -> None:
    """Want what a global switch that was asked for makes of `default` and of links when it is written.

    It is wanted then, not for ever: who switches a link off later means it.
    """
    for family, name in SWITCHES.items():
        found, wish = current.get(("sysctl", name)), wanted.get(("sysctl", name))
        if not covers(record, family) or not isinstance(found, Sysctl) or not isinstance(wish, Sysctl):
            continue
        if found.value == wish.value:
            continue
        for key, item in current.items():
            if isinstance(item, Sysctl) and copied_family(item.name) == family and key not in wanted:
                wanted[key] = item.replace(value=copied_value(item.name, wish.value))


def namespace_sysctls(record: Record, namespaces: frozenset[str] | None, facts: Facts) -> Iterator[Sysctl]:
    """Yield what the publishes of these namespaces (None: all) need of the bridges they lead to.

    What namespaces outside the slice need stays needed. For uplink none: the answers to other networks
    come in by its bridge, which forwards only while something is published there. What is published at a certain
    address of the host is asked for by the link that has it, which need not be one of a default route.
    """
    loopback = set(record.loopback_elsewhere)
    published = {(name, family) for name in record.published_elsewhere for family in (4, 6)}
    hosts = set(record.hosts_elsewhere)
    for publish in record.publishes.values():
        if namespaces is None or publish.namespace in namespaces:
            for network, _, address in publish_targets(record, publish):
                published.add((network.name, address.family))
                if network.uplink == NAT and publish.host is not None:
                    hosts.add(publish.host)
                if address.family == 4 and needs_loopback(publish):
                    loopback.add(network.name)
    for name in sorted(loopback):
        network = record.networks[name]
        if network.uplink != "routed" and network.subnet(4) is not None and network.bridge not in facts.gone:
            path = f"net/ipv4/conf/{network.bridge}/route_localnet"
            yield Sysctl(name=path, value="1", borrowed=network.adopted)
    for name, family in sorted(published):
        if not record.networks[name].has_exit:
            yield from _bridge_forwarding(record.networks[name], facts, families=(family,))
    for link, family in sorted({(facts.links[host], host.family) for host in hosts if host in facts.links}):
        if family == 4 or facts.force_forwarding:
            yield Sysctl(name=link_switch(family, link), value="1", borrowed=True)


def publish_sysctls(record: Record, network: Network, facts: Facts) -> Iterator[Sysctl]:
    """Yield what the publishes that lead to a network need, of its bridge and of links that are published at."""
    rows = record.publishes.items()
    mine = {key: row for key, row in rows if any(one == network for one, _, _ in publish_targets(record, row))}
    others = {one.bridge for one in record.networks.values() if one != network}
    for item in namespace_sysctls(record.replace(publishes=mine), None, facts):
        if item.name.split("/")[3] not in others:
            yield item
