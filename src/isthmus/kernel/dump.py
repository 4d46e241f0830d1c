"""Keys -> HostState: what the kernel holds of the objects that a change looks at.

Only what is asked for is read, by name, so that an attach does not grow with the number of containers.
A dump of everything also returns strays: what bears our marks and is asked for by nobody.
"""

from __future__ import annotations

import errno
import os

from isthmus.errors import InvalidInput, NotFound
from isthmus.kernel.access import Access
from isthmus.kernel.facts import is_ours
from isthmus.kernel.files import is_kept, read_file
from isthmus.kernel.netns import RUN, cookie, is_placeholder, open_netns
from isthmus.kernel.ruleset import fingerprint, set_elements
from isthmus.model.host import (
    ETC_NETNS,
    HOST,
    LIVE_GROUP,
    Autoconf,
    Bridge,
    BridgedNic,
    Directory,
    Element,
    File,
    HostObject,
    HostsLine,
    HostState,
    Key,
    LinkAddress,
    NamedNetns,
    PinnedMac,
    Process,
    Route,
    Rule,
    Ruleset,
    Symlink,
    Sysctl,
    Unredirected,
    Veth,
)
from isthmus.model.ruleset import SETS
from isthmus.netlink import nft
from isthmus.netlink.rtnl import address as rtnl_address
from isthmus.netlink.rtnl import route as rtnl_route

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable
    from typing import Final

    from isthmus.netlink.rtnl.link import Link
    from isthmus.netlink.rtnl.rule import PolicyRule

__all__ = ["Dumper"]

_ASSUMED: Final = frozenset({Veth, LinkAddress, Autoconf, Unredirected, Route, Rule, HostsLine, Element})
# Whose removal is content when they are gone already, at no cost.
_TOLERANT: Final = frozenset({HostsLine, Element})


class Dumper:
    """Reads the kernel's side of a set of wished or remembered objects.

    `loaded` is (version, fingerprint) of the rulesets as we loaded them last, `commands` returns the argv of a
    live or ended command, or None.
    """

    def __init__(
        self, access: Access, loaded: tuple[str, str], commands: Callable[[Process], tuple[str, ...] | None]
    ) -> None:
        self._access = access
        self._loaded = loaded
        self._commands = commands
        self._links: dict[tuple[str, str], Link | None] = {}
        self._bare: set[tuple[str, str]] = set()
        self._falling: set[tuple[str, str]] = set()
        self._unmade: set[str] = set()
        self._loopback = False
        self._tables: list[str] | None = None
        self._addresses: dict[tuple[str, str], list[rtnl_address.IpAddress]] = {}
        self._rules: dict[tuple[str, int], list[PolicyRule]] = {}

    def dump(
        self,
        known: HostState,
        *,
        doomed: Container[Key] = (),
        fresh: Container[Key] = (),
        missed: Container[Key] = (),
        strays: str = "",
        loopback: bool = False,
    ) -> HostState:
        """Return the present condition of each known object that exists (and strays).

        Those are asked for by our run directory (`strays`), which has hosts files.
        Of what is `doomed` (not wished any more) it matters only that it is there, and of some not even that.
        What hangs on a link that is not there, or on a doomed one, is not asked for: it cannot be there, or is
        taken to be there and goes with it; but what a new link of that name is to have may be on the old one otherwise.
        Of pairs with one name the doomed come first in `known`. What is `fresh` is not there, sysctls and directories
        excepted. A command whose namespace is to be made again is one to be started again. A DHCP client that is not
        there and ought to be (`missed`) is one that has ended: after a boot, too. `loopback`: whether `lo` of
        namespaces is looked at.
        """
        state: HostState = {}
        elements: list[Element] = []
        self._bare.clear()
        self._falling.clear()
        self._loopback = loopback
        for key, item in known.items():
            if type(item) in _ASSUMED and key in fresh:
                continue
            if type(item) in _TOLERANT and key in doomed:
                state[key] = item
            elif isinstance(item, Element):
                elements.append(item)
            else:
                found = self._linked(item, is_doomed=key in doomed)
                if found is not None:
                    state[found.key] = found
                elif type(item) is Process and item.lasting and key in missed and key not in doomed:
                    state[key] = item.replace(argv=())
        for found in self._strays(known, strays) if strays else self._elements(elements):
            state.setdefault(found.key, found)
        return state

    def _strays(self, known: HostState, run_directory: str) -> Iterable[HostObject]:
        from isthmus.kernel.strays import strays

        return strays(self._access, known, run_directory)

    def _linked(self, item: HostObject, *, is_doomed: bool) -> HostObject | None:
        """Read an object, unless the link that it hangs on is not there, or about to go."""
        if isinstance(item, LinkAddress | Autoconf | Unredirected | Route):
            link = (item.netns, item.ifname)
            if link not in self._bare:
                return self._read(item)
            if link not in self._falling:
                return None
            return item if is_doomed else self._read(item)
        if isinstance(item, NamedNetns):
            return self._doomed_netns(item) if is_doomed else self._living_netns(item)
        if isinstance(item, BridgedNic):
            return self._nic(item, is_doomed=is_doomed)
        if isinstance(item, Process) and is_doomed:
            argv = self._commands(item)
            return None if argv is None else item.replace(argv=argv)
        if isinstance(item, File | Symlink):
            return _file(item, is_doomed=is_doomed)
        if not isinstance(item, Veth):
            return self._read(item)
        is_anothers = (item.netns, item.name) in self._falling  # which has the name still, and makes way
        found = self._doomed_veth(item) if is_doomed else None if is_anothers else self._read(item)
        if found is None or is_doomed:
            ends = {(item.netns, item.name), (item.peer_netns, item.peer_name)}
            self._bare |= ends
            if found is not None:
                self._falling |= ends
        return found

    def _read(self, item: HostObject) -> HostObject | None:
        try:
            found = self._reader(item)
        except (NotFound, InvalidInput):  # its namespace is gone, and all that was in it
            found = None
        if found is None and isinstance(item, NamedNetns):
            self._unmade.add(item.name)
        return found

    def _reader(self, item: HostObject) -> HostObject | None:
        match item:
            case Veth():
                return self._veth(item)
            case LinkAddress():
                return self._address(item)
            case Autoconf():
                from isthmus.kernel.autoconf import read_autoconf

                return read_autoconf(self._access, item)
            case Unredirected():
                from isthmus.kernel.redirects import is_unredirected

                return item if is_unredirected(self._access, item) else None
            case Route():
                return self._route(item)
            case Rule():
                return self._rule(item)
            case Sysctl():
                value = self._access.sysctls.read(item.name)
                return None if value is None else item if value == item.value else item.replace(value=value)
            case Bridge():
                return self._bridge(item.name)
            case NamedNetns():
                return self._netns(item)
            case Directory() | HostsLine():
                return read_file(item)
            case Ruleset():
                return self._ruleset(item.family)
            case Process():
                argv = self._commands(item)
                return None if argv is None else item.replace(argv=() if item.netns in self._unmade else argv)
            case Element() | BridgedNic() | PinnedMac() | File() | Symlink():
                return None

    def _link(self, netns: str, name: str) -> Link | None:
        key = (netns, name)
        if key not in self._links:
            self._links[key] = self._access.link(netns, name)
        return self._links[key]

    def _bridge(self, name: str) -> Bridge | None:
        link = self._link(HOST, name)
        if link is None or link.kind != "bridge" or link.mac is None or not is_ours(link):
            return None
        return Bridge(
            name=name,
            mac=link.mac,
            mtu=link.mtu,
            alias=link.alias,
            up=link.is_up,
            stp=link.stp != 0,
            marked=link.group == LIVE_GROUP,
        )

    def _nic(self, item: BridgedNic, *, is_doomed: bool) -> BridgedNic | None:
        """One that goes carries what hangs on the bridge now; it may be off it already, and not yet all else."""
        from isthmus.kernel.nic import read_carried

        link, bridge = self._link(HOST, item.name), self._link(HOST, item.bridge)
        is_port = link is not None and bridge is not None and link.master == bridge.index
        carried = read_carried(self._access, item.bridge) if is_doomed else ()
        lost = item.lost if is_doomed else ()
        there = is_port or ((carried or lost) and link is not None)
        return item.replace(carried=carried, lost=lost) if there else None

    def _veth(self, item: Veth) -> Veth | None:
        near = self._link(item.netns, item.name)
        if near is None or near.kind != "veth" or not is_ours(near):
            return None  # one of that name which is a stranger's: making ours will fail, and say so
        far = self._far_end(item, near)
        master = self._access.link_at(item.netns, near.master) if near.master else None
        return Veth(
            netns=item.netns,
            name=item.name,
            mac=None if item.mac is None else near.mac,
            mtu=near.mtu if far is None or near.mtu != item.mtu else far.mtu,
            alias=near.alias,
            peer_netns=item.peer_netns if far is not None else "?",
            peer_name=far.name if far is not None else "",
            peer_mac=far.mac if far is not None and far.mac is not None else item.peer_mac,
            master=master.name if master is not None else None,
            hairpin=near.hairpin,
            isolated=near.isolated,
            up=near.is_up and (far is None or far.is_up),
            marked=near.group == LIVE_GROUP,
        )

    def _doomed_veth(self, item: Veth) -> Veth | None:
        if item.netns == HOST:
            return item  # its name was drawn at random: that it is gone already is content, a stranger cannot have it
        try:
            near = self._link(item.netns, item.name)
        except NotFound:
            return None
        return item if near is not None and is_ours(near) else None

    def _far_end(self, item: Veth, near: Link) -> Link | None:
        try:
            far = self._access.link_at(item.peer_netns, near.peer)
        except NotFound:
            return None
        if far is None or far.kind != "veth" or far.peer != near.index:
            return None
        self._links[item.peer_netns, far.name] = far
        return far

    def _address(self, item: LinkAddress) -> LinkAddress | None:
        key = (item.netns, item.ifname)
        if key not in self._addresses:
            link = self._link(*key)
            found = []
            if link is not None:
                socket = self._access.route(item.netns)
                found = [rtnl_address.decode(one) for one in socket.dump(rtnl_address.of_link(link.index))]
            self._addresses[key] = found
        for one in self._addresses[key]:
            if one.address == item.address:
                return item.replace(length=one.length)
        return None

    def _route(self, item: Route) -> Route | None:
        socket = self._access.route(item.netns)
        for payload in socket.dump(rtnl_route.routes_of(item.table, item.prefix.family), absent=errno.ENOENT):
            route = rtnl_route.decode(payload)
            if route.prefix == item.prefix and route.protocol == rtnl_route.RTPROT_ISTHMUS and route.via and route.oifs:
                link = self._access.link_at(item.netns, route.oifs[0])
                return item.replace(via=route.via, ifname=link.name if link is not None else "")
        return None

    def _rule(self, item: Rule) -> Rule | None:
        from isthmus.netlink.rtnl import rule as rtnl_rule

        key = (item.netns, item.source.family)
        if key not in self._rules:
            request = rtnl_rule.all_rules(item.source.family)
            self._rules[key] = [rtnl_rule.decode(one) for one in self._access.route(item.netns).dump(request)]
        return item if any(one.is_as(item) for one in self._rules[key]) else None

    def _netns(self, item: NamedNetns) -> NamedNetns | None:
        wanted = self._access.cookie_of(item.name)
        fd = open_netns(f"{RUN}/{item.name}")
        try:
            # Without a cookie on record a call was killed between making it and writing that down.
            return item if not wanted or cookie(fd) == wanted else None
        finally:
            os.close(fd)

    def _living_netns(self, item: NamedNetns) -> HostObject | None:
        found = self._read(item)
        is_known = found is not None and self._access.cookie_of(item.name)
        lo = self._link(item.name, "lo") if is_known and self._loopback else None
        return found if lo is None else item.replace(loopback=lo.is_up)

    def _doomed_netns(self, item: NamedNetns) -> HostObject | None:
        # The file alone: a call was killed between taking the mount away and taking the name away.
        return item if is_placeholder(f"{RUN}/{item.name}") else self._read(item)

    def _ruleset(self, family: str) -> Ruleset | None:
        if self._tables is None:
            self._tables = fingerprint(self._access).split()
        found = next((one for one in self._tables if one.startswith(f"{family}:")), None)
        if found is None:
            return None
        version, wanted = self._loaded
        return Ruleset(version=version if found in wanted.split() else f"changed {found}", family=family)

    def _elements(self, wanted: list[Element]) -> Iterable[Element]:
        plain = [one for one in wanted if not SETS[one.name].interval]
        for answer in self._access.nft.ask([nft.element(one) for one in plain]) if plain else ():
            if not answer.errno:
                yield from nft.decode_elements(answer.payloads)
            elif answer.errno != errno.ENOENT:
                raise answer.error()
        names = {one.name for one in wanted if SETS[one.name].interval}
        keys: set[Key] = {one.key for one in wanted}
        for name in sorted(names):
            for element in set_elements(self._access, name):
                if element.key in keys:
                    yield element


def _file(item: File | Symlink, *, is_doomed: bool) -> HostObject | None:
    """Read a file; what somebody put below /etc/netns in its place is as it should be, and stays."""
    found = read_file(item)
    if isinstance(found, File | Symlink) and found.path.startswith(f"{ETC_NETNS}/") and not is_kept(found):
        return None if is_doomed else item
    return found
