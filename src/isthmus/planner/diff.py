"""(current, desired) -> Plan, in an order that the kernel accepts and that stays safe in between.

Taking away goes first and in reverse order: what steers packets to an address goes before the address,
what drops packets goes last. Bringing in goes the other way round: the drops are in the kernel before a
bridge is up, steering comes when the link stands.
"""

from __future__ import annotations

from isthmus.model.host import (
    HOST,
    Bridge,
    Directory,
    Element,
    File,
    HostObject,
    HostsLine,
    HostState,
    Key,
    LinkAddress,
    NamedNetns,
    Process,
    Route,
    Ruleset,
    Symlink,
    Sysctl,
    Veth,
)
from isthmus.model.plan import Add, Change, Plan, Remove, Step
from isthmus.planner.firewall import PORT_SETS

TYPE_CHECKING = False
if TYPE_CHECKING:
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
    Veth: 7,
    Route: 9,
    Process: 11,
}
_RANK_INNER_ADDRESS: Final = 8
_RANK_PORT_ELEMENT: Final = 10


def _rank(item: HostObject) -> int:
    if type(item) is Element and item.name in PORT_SETS:
        return _RANK_PORT_ELEMENT
    if type(item) is LinkAddress and item.netns != HOST:
        return _RANK_INNER_ADDRESS
    return _RANKS[type(item)]


def _order(item: HostObject) -> tuple[int, str]:
    """Return what steps are sorted by: rank, then place or name, so that one change gives one plan.

    Equal ones keep the order that they were wished in, as sysctls do (accept_ra before forwarding).
    """
    match item:
        case Directory() | File() | Symlink() | HostsLine():
            return _rank(item), item.path  # a directory before what is in it
        case Veth():
            return _rank(item), f"{item.peer_netns} {item.peer_name}"
        case LinkAddress() | Route() | Process():
            return _rank(item), item.netns
        case NamedNetns() | Bridge() | Element():
            return _rank(item), item.name
        case Sysctl() | Ruleset():
            return _rank(item), ""


def diff(current: HostState, wanted: HostState) -> Plan:
    """Return the steps from `current` to `wanted`; equal states give an empty plan."""
    table = current.get(("ruleset",))
    if table is not None and ("ruleset",) in wanted and table != wanted[("ruleset",)]:
        # It is loaded anew, and what its sets hold goes with it.
        current = {key: item for key, item in current.items() if type(item) is not Element}
    gone = [item for key, item in current.items() if key not in wanted]
    gone.reverse()
    gone.sort(key=_order, reverse=True)
    falling: dict[Key, list[HostObject]] = {}
    for item in reversed(gone):
        if cause := _falls_with(item, current, wanted):
            falling.setdefault(cause, []).append(item)
    with_others = {id(item) for items in falling.values() for item in items}
    steps: list[Step] = [
        Remove(item=item, falling=tuple(falling.get(item.key, ()))) for item in gone if id(item) not in with_others
    ]
    coming: list[tuple[tuple[int, str], Step]] = []
    for key, item in wanted.items():
        found = current.get(key)
        if found is None:
            coming.append((_order(item), Add(item=item)))
        elif found != item:
            coming.append((_order(item), Change(before=found, item=item)))
    coming.sort(key=lambda pair: pair[0])
    steps += [step for _, step in coming]
    return Plan(steps=tuple(steps))


def _falls_with(item: HostObject, current: HostState, wanted: HostState) -> Key | None:
    """Return the key of what is taken away and takes an object with it: its link, its table."""
    cause: Key | None = None
    if type(item) is Element and item.name not in PORT_SETS:
        cause = ("ruleset",)
    elif isinstance(item, LinkAddress) and item.netns == HOST:
        cause = ("bridge", item.ifname)
    return cause if cause in current and cause not in wanted else None
