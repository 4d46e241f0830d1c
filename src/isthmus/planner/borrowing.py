"""Values that we change on things that are not ours: when one is borrowed, and when it goes back.

Giving back is compare-and-set: what somebody else wrote since is theirs.
"""

from __future__ import annotations

from isthmus.model.host import Directory, HostState, Sysctl
from isthmus.model.network import Borrowed, Record
from isthmus.model.plan import Add, Change, Plan, Remove

__all__ = ["give_back", "returned", "to_borrow"]


def give_back(current: HostState, wanted: HostState, old: Record, new: Record) -> None:
    """Decide about sysctls that nobody needs any more: what was before us, if the value is still ours."""
    for key, item in list(current.items()):
        if isinstance(item, Directory) and key not in wanted and not _is_ours(item, old):
            wanted[key] = item
        if not isinstance(item, Sysctl) or key in wanted:
            continue
        row = old.borrowed.get(item.name) or new.borrowed.get(item.name)
        if row is None and not item.borrowed and item.value == "1":
            wanted[key] = item.replace(value="0")
        elif row is not None and item.value == row.gave:
            wanted[key] = item.replace(value=row.before)
        else:
            wanted[key] = item


def _is_ours(item: Directory, record: Record) -> bool:
    """Whether we made a directory: one below /etc/netns is ours always, that one only if on record."""
    return item.path in record.borrowed or item.path.count("/") > 2


def to_borrow(plan: Plan, record: Record) -> tuple[Borrowed, ...]:
    rows = []
    for step in plan.steps:
        item = step.item
        if isinstance(step, Add) and isinstance(item, Directory) and not _is_ours(item, record):
            rows.append(Borrowed(name=item.path, before="", gave="directory"))
        if isinstance(step, Change) and isinstance(item, Sysctl) and item.borrowed and item.name not in record.borrowed:
            assert isinstance(step.before, Sysctl)
            rows.append(Borrowed(name=item.name, before=step.before.value, gave=item.value))
    return tuple(rows)


def returned(record: Record, wanted: HostState, plan: Plan, *, host: bool) -> tuple[tuple[str, str], ...]:
    """Return which borrowed rows to forget: given back, or somebody else's now, or on a link that is gone."""
    drops = []
    gone = [step.item for step in plan.steps if isinstance(step, Remove)]
    removed = {item.path for item in gone if isinstance(item, Directory)}
    for row in record.borrowed.values():
        item = wanted.get(("sysctl", row.name))
        if row.gave == "directory":
            if row.name in removed:
                drops.append(("borrowed", row.name))
            continue
        if (item is None and host) or (isinstance(item, Sysctl) and item.value != row.gave):
            drops.append(("borrowed", row.name))
    return tuple(drops)
