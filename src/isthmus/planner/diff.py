"""(current, desired) -> Plan, in an order that the kernel accepts and that stays safe in between.

Taking away goes first and in reverse order: what steers packets to an address goes before the address,
what drops packets goes last. Bringing in goes the other way round: the drops are in the kernel before a
bridge is up, steering comes when the link stands.
"""

from __future__ import annotations

from isthmus.model.host import (
    HOST,
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
from isthmus.model.plan import Add, Change, Plan, Remove, Step
from isthmus.model.ruleset import FAMILIES, PORT_SETS, SETS
from isthmus.model.switches import SWITCHES, overwritten, switched

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator
    from typing import Final

__all__ = ["diff"]

_RANKS: Final[dict[type, int]] = {
    NamedNetns: 0,
    Directory: 1,
    File: 1,
    Symlink: 1,
    HostsLine: 1,
    Ruleset: 2,
    Element: 3,
    Bridge: 4,
    LinkAddress: 5,
    Sysctl: 6,
    PinnedMac: 6,
    BridgedNic: 7,
    Veth: 7,
    Autoconf: 8,
    Unredirected: 8,
    Route: 9,
    Rule: 9,
    Process: 11,
}
# What else steps of one rank are sorted by: a directory goes before what is in it.
_PLACE: Final[dict[type, str]] = {
    **dict.fromkeys((Directory, File, Symlink, HostsLine), "path"),
    **dict.fromkeys((NamedNetns, Bridge), "name"),
    PinnedMac: "bridge",
    **dict.fromkeys((Route, Rule, Autoconf, Unredirected), "netns"),
}
_RANK_INNER_ADDRESS: Final = 8
_RANK_PORT_ELEMENT: Final = 10
_RANK_LASTING: Final = 10


def _order(item: HostObject) -> tuple[int, str]:
    """Return what steps are sorted by: rank, then place or name, so that one change gives one plan.

    Equal ones keep the order that they were wished in. A global switch goes before the links that it overwrites, and
    after accept_ra, without which it takes learned routes away.
    """
    kind = type(item)
    rank = _RANKS[kind]
    if type(item) is Element:
        return _RANK_PORT_ELEMENT if item.name in PORT_SETS else rank, item.name
    if type(item) is LinkAddress:
        return _RANK_INNER_ADDRESS if item.netns != HOST else rank, item.netns
    if type(item) is Process:
        return _RANK_LASTING if item.lasting else rank, item.netns
    if type(item) is Veth:
        return rank, f"{item.peer_netns} {item.peer_name}"
    if type(item) is Sysctl:
        return rank, "" if item.name.endswith("/accept_ra") else "a" if item.name in SWITCHES.values() else "b"
    return rank, getattr(item, _PLACE[kind]) if kind in _PLACE else ""


def diff(current: HostState, wanted: HostState) -> Plan:
    """Return the steps from `current` to `wanted`; equal states give an empty plan."""
    anew = [family for family in FAMILIES if _is_loaded_anew(current, wanted, ("ruleset", family))]
    if anew:  # and what its sets hold goes with it
        current = {
            key: item
            for key, item in current.items()
            if type(item) is not Element or SETS[item.name].family not in anew
        }
    renamed = _renamed(current, wanted)
    remade = _remade(renamed, current, wanted) if renamed else ()
    gone = [item for key, item in current.items() if key not in wanted or key in remade]
    links = _links_of(gone)
    bridges = {item.name for item in gone if type(item) is Bridge}
    # With the last IPv4 address of a link the kernel takes its routes away (net/ipv4/fib_frontend.c, fib_disable_ip).
    bare = {(item.netns, item.ifname) for item in gone if type(item) is LinkAddress and item.address.family == 4}
    coming: list[tuple[tuple[int, str], Step]] = []
    for key, item in wanted.items():
        found = current.get(key) if key not in remade else None
        if found is not None and _goes_first(found, item, links, renamed, bare):
            gone.append(found)
            found = None
        elif type(found) is Sysctl and _bridge_of(found) in bridges:
            gone.append(found)
            continue
        if found is None:
            coming.append((_order(item), Add(item=item)))
        elif found != item:
            coming.append((_order(item), Change(before=found, item=item)))
    coming.sort(key=lambda pair: pair[0])
    plan = Plan(steps=(*_removals(gone, links, current, wanted), *(step for _, step in coming)))
    families = switched(plan)
    if not families:
        return plan
    made = [step.item.name for _, step in coming if type(step) is Add and type(step.item) is Bridge]
    kept = (*_kept(current, wanted, families, bridges), *_inherited(wanted, families, made))
    return plan.replace(kept=kept)


def _goes_first(
    found: HostObject,
    item: HostObject,
    links: Container[tuple[str, str]],
    renamed: Container[tuple[str, str]],
    bare: Container[tuple[str, str]],
) -> bool:
    """Whether what is there must go before it comes as wished: its link goes, is renamed, or loses all its routes."""
    if isinstance(found, LinkAddress | Autoconf | Unredirected):
        return (found.netns, found.ifname) in links
    if type(found) is not Route:
        return False
    link = (found.netns, found.ifname)
    # No order can be given for a link that is no more.
    return link in links or (found != item and link in renamed) or (found.prefix.family == 4 and link in bare)


def _is_loaded_anew(current: HostState, wanted: HostState, table: Key) -> bool:
    return table in current and table in wanted and current[table] != wanted[table]


def _inherited(wanted: HostState, families: Iterable[int], made: Iterable[str]) -> Iterator[Sysctl]:
    """Yield what bridges that the plan makes have of `default`, before a switch is copied to them, too."""
    for bridge in made:
        for family in families:
            default = wanted.get(("sysctl", f"net/ipv{family}/conf/default/forwarding"))
            name = f"net/ipv{family}/conf/{bridge}/forwarding"
            if type(default) is Sysctl and ("sysctl", name) not in wanted:
                yield default.replace(name=name)


def _kept(current: HostState, wanted: HostState, families: Iterable[int], gone: Container[str]) -> Iterator[Sysctl]:
    """Yield what the switches of these families overwrite, and stays as it is; not of links that are gone by then.

    Of IPv6 that is more on the way to 0, which the way back of another plan may be.
    """
    off = dict.fromkeys(families, "0")
    for key, item in current.items():
        if type(item) is not Sysctl or wanted.get(key) != item:
            continue
        if overwritten(item.name, off) is not None and _bridge_of(item) not in gone:
            yield item


def _bridge_of(item: Sysctl) -> str:
    """Return which link a sysctl is of: net/FAMILY/conf/LINK/NAME."""
    return item.name.split("/")[3] if item.name.count("/") == 4 else ""


def _links_of(gone: list[HostObject]) -> dict[tuple[str, str], Key]:
    """Return the ends of the pairs that go, with the key of their pair."""
    links: dict[tuple[str, str], Key] = {}
    for item in gone:
        if type(item) is Veth:
            links[item.netns, item.name] = links[item.peer_netns, item.peer_name] = item.key
    return links


def _renamed(current: HostState, wanted: HostState) -> dict[tuple[str, str], Key]:
    """Return the far ends, by their present names, that get another name, with the keys of their pairs."""
    found: dict[tuple[str, str], Key] = {}
    for key, item in wanted.items():
        before = current.get(key) if type(item) is Veth else None
        if type(before) is Veth and before.peer_name != item.peer_name:  # type: ignore[union-attr]
            found[before.peer_netns, before.peer_name] = key
    return found


def _remade(renamed: dict[tuple[str, str], Key], current: HostState, wanted: HostState) -> set[Key]:
    """Return the renamed pairs that take a name which a link gives up, or give one up to another.

    They are made anew: renames that exchange names have no order, and one that goes has its name until it is deleted.
    """
    ends = {end for item in wanted.values() if type(item) is Veth for end in _ends(item)}
    freed = {end for key, item in current.items() if type(item) is Veth and key not in wanted for end in _ends(item)}
    freed |= renamed.keys() & ends
    targets = {key: wanted[key] for key in renamed.values()}
    takers = {key for key, item in targets.items() if type(item) is Veth and _ends(item)[1] in freed}
    return takers | {key for end, key in renamed.items() if end in ends}


def _ends(item: Veth) -> tuple[tuple[str, str], tuple[str, str]]:
    return (item.netns, item.name), (item.peer_netns, item.peer_name)


def _removals(
    gone: list[HostObject], links: dict[tuple[str, str], Key], current: HostState, wanted: HostState
) -> list[Step]:
    falling: dict[Key, list[HostObject]] = {}
    own = []
    for item in gone:
        cause = _falls_with(item, links, current, wanted)
        if cause is None:
            own.append(item)
        else:
            falling.setdefault(cause, []).append(item)
    own.reverse()
    own.sort(key=_order, reverse=True)
    return [Remove(item=item, falling=tuple(sorted(falling.get(item.key, ()), key=_order))) for item in own]


def _falls_with(
    item: HostObject, links: dict[tuple[str, str], Key], current: HostState, wanted: HostState
) -> Key | None:
    """Return the key of what is taken away and takes an object with it: its link, table or namespace."""
    cause: Key | None = None
    if type(item) is Element and item.name not in PORT_SETS:
        cause = ("ruleset", SETS[item.name].family)
    elif isinstance(item, LinkAddress) and item.netns == HOST:
        cause = ("bridge", item.ifname)
    elif type(item) is Sysctl:
        cause = ("bridge", _bridge_of(item))
    elif type(item) is Rule:
        cause = ("netns", item.netns)
    elif isinstance(item, LinkAddress | Autoconf | Unredirected | Route):
        wish = wanted.get(item.key)
        # A new link of that name comes when the old one is out of its way, with all that hangs on it.
        if wish is None or wish.ifname == item.ifname:  # type: ignore[union-attr]
            return links.get((item.netns, item.ifname))
    return cause if cause in current and cause not in wanted else None
