"""Values that we change on things that are not ours: when one is borrowed, and when it goes back.

Giving back is compare-and-set: what somebody else wrote since is theirs.
"""

from __future__ import annotations

from isthmus.model.host import HOST, Directory, HostState, LinkAddress, Sysctl
from isthmus.model.network import Borrowed, Record
from isthmus.model.plan import Add, Change, Plan, Remove, Step
from isthmus.model.switches import SWITCHES, copied_family, overwritten, switched
from isthmus.planner.forwarding import Facts, covers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Final

__all__ = ["found_there", "give_back", "present", "returned", "said_of", "to_borrow", "went_on"]

_DIRECTORY: Final = "directory"
_ADDRESS: Final = "address"


def present(record: Record, renamed: Mapping[str, str]) -> Record:
    """Return a record that calls what is borrowed of interfaces by their present names."""
    if not renamed:
        return record
    rows = [one.replace(name=_present_name(one.name, renamed)) for one in record.borrowed.values()]
    return record.replace(borrowed={one.name: one for one in rows})


def _present_name(name: str, renamed: Mapping[str, str]) -> str:
    parts = name.split("/")
    if len(parts) == 5:
        parts[3] = renamed.get(parts[3], parts[3])
    return "/".join(parts)


def give_back(current: HostState, wanted: HostState, records: tuple[Record, Record], facts: Facts) -> frozenset[str]:
    """Decide about what nobody needs any more: what was before us comes back, if the value is still ours.

    A link's value stays while a global switch that was asked for covers it; that of a link which came since goes back
    with `default`, of a bridge with its interface. What an edit drops from the borrowed rows goes back in any case.

    Returns the names of borrowed rows whose object stays as it is: a value that strangers need now, or wrote by the
    global switch; an address that was there before us.
    """
    old, new = records
    left = set()
    nics = {one.bridge: one.nic for one in new.networks.values() if one.is_lan}
    switches = SWITCHES.values() if facts.strangers else ()
    busy = {name for name in switches if name in new.borrowed and ("sysctl", name) not in wanted}
    for key, item in list(current.items()):
        if isinstance(item, Directory) and key not in wanted and not _is_ours(item, old):
            wanted[key] = item
        if isinstance(item, LinkAddress) and key not in wanted and address_name(item) in old.borrowed:
            wanted[key] = item
            left.add(address_name(item))
        if not isinstance(item, Sysctl) or key in wanted:
            continue
        row = old.borrowed.get(item.name) or new.borrowed.get(item.name)
        family = copied_family(item.name)
        wanted[key] = item
        if covers(new, family) and (row is None or item.name in new.borrowed):
            continue
        if row is None and not item.borrowed and item.value == "1":
            wanted[key] = item.replace(value="0")
            continue
        if row is None and item.name.endswith("/forwarding"):
            links = (nics.get(item.name.split("/")[3]), "default")
            rows = (old.borrowed.get(f"net/ipv{family}/conf/{link}/forwarding") for link in links)
            row = next(filter(None, rows), None)
        if row is None:
            continue
        is_theirs = item.value == row.gave and went_on(row, old, facts)
        if row.name in new.borrowed and (is_theirs or _switch_of(item.name, old) in busy):
            left.add(item.name)
        elif item.value == row.gave:
            wanted[key] = item.replace(value=row.before)
    return frozenset(left)


def _switch_of(name: str, record: Record) -> str:
    """Return the global switch that a value goes with: itself, or the one that was copied to it."""
    if name.endswith("/accept_ra"):
        return SWITCHES[6]
    family = copied_family(name)
    return SWITCHES[family] if covers(record, family) else name


def went_on(row: Borrowed, record: Record, facts: Facts) -> bool:
    """Whether the global switch that is copied to a borrowed value went on without us: that wrote the value, too."""
    family = copied_family(row.name)
    is_theirs = family in facts.switched and SWITCHES[family] not in record.borrowed
    return is_theirs and not row.switched and row.before != row.gave


def said_of(left: frozenset[str], facts: Facts) -> Iterator[str]:
    """Say which borrowed values stay as they are, and why."""
    if left.intersection(SWITCHES.values()):
        yield f"forwarding is left on, others need it: {', '.join(facts.strangers)}"
    for family in sorted(facts.switched):
        links = sorted(name.split("/")[3] for name in left if copied_family(name) == family)
        if links and SWITCHES[family] not in left:
            what = f"IPv{family} forwarding of {', '.join(links)}"
            yield f"{what} is left on: somebody has switched {SWITCHES[family]} on since"


def found_there(before: HostState, wanted: HostState, current: HostState) -> tuple[Borrowed, ...]:
    """Return the addresses on an adopted bridge that we want too and that were there before us: they stay."""
    rows = []
    for key, item in wanted.items():
        if isinstance(item, LinkAddress) and item.netns == HOST and key not in before and key in current:
            rows.append(Borrowed(name=address_name(item), before="there", gave=_ADDRESS))
    return tuple(rows)


def address_name(item: LinkAddress) -> str:
    """Return what an address that was there before us is borrowed by."""
    return f"address {item.ifname} {item.address}"


def _is_ours(item: Directory, record: Record) -> bool:
    """Whether we made a directory: one below /etc/netns is ours always, that one only if on record."""
    return item.path in record.borrowed or item.path.count("/") > 2


def to_borrow(plan: Plan, record: Record, target: Record, facts: Facts) -> tuple[Borrowed, ...]:
    """Return what a plan that leads to a record (`target`) is about to change on things that are not ours.

    What a global switch overwrites and keeps its value is borrowed for as long as the write lasts; for as long as
    the switch was asked for, so that a link that was on before us is told from one that came since.
    """
    rows, own = [], facts.forwarded(target)
    for step in plan.steps:
        item = step.item
        if isinstance(step, Add) and isinstance(item, Directory) and not _is_ours(item, record):
            rows.append(Borrowed(name=item.path, before="", gave=_DIRECTORY))
        if isinstance(item, Sysctl) and item.borrowed and item.name not in record.borrowed:
            before = _value_before(step, own)
            if before is not None and before != item.value:
                was_on = copied_family(item.name) in facts.switched
                rows.append(Borrowed(name=item.name, before=before, gave=item.value, switched=was_on))
    switches = switched(plan)
    for item in plan.kept:
        gave = overwritten(item.name, switches)
        if gave is None or item.name in record.borrowed:
            continue
        if item.value != gave or covers(target, copied_family(item.name)):
            rows.append(Borrowed(name=item.name, before=item.value, gave=gave))
    return tuple(rows)


def _value_before(step: Step, own: Mapping[str, str]) -> str | None:
    """Return the value of a sysctl that a step changes, or that a new bridge would have without it."""
    if isinstance(step, Change) and isinstance(step.before, Sysctl):
        return step.before.value
    return own.get(step.item.name) if isinstance(step, Add) and isinstance(step.item, Sysctl) else None


def returned(
    record: Record,
    wanted: HostState,
    plan: Plan,
    *,
    host: bool,
    left: frozenset[str],
    renamed: Mapping[str, str],
) -> tuple[tuple[str, str], ...]:
    """Return which borrowed rows of a record that is reached are to forget.

    Those given back, somebody else's now, or of a link that is gone. They are called as the record calls them.
    """
    drops = []
    gone = [step.item for step in plan.steps if isinstance(step, Remove)]
    removed = {item.path for item in gone if isinstance(item, Directory)}
    for row in record.borrowed.values():
        if row.gave == _DIRECTORY:
            # A slice without a namespace of ours does not tell whether others need it.
            forget = row.name in removed or (("directory", row.name) not in wanted and not record.made_elsewhere)
        elif row.gave == _ADDRESS:
            forget = row.name in left
        else:
            name = _present_name(row.name, renamed)
            item = wanted.get(("sysctl", name))
            forget = item is None and host
            forget = forget or name in left or (isinstance(item, Sysctl) and item.value != row.gave)
            forget = forget or (row.before == row.gave and not covers(record, copied_family(row.name)))
        if forget:
            drops.append(("borrowed", row.name))
    return tuple(drops)
