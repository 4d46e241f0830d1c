"""What an interface carries is put down before it moves to its bridge, and for as long as it is on it.

The bridge may be deleted, or set down, and takes that along: kernel/kept.py says what stands in then.
"""

from __future__ import annotations

from isthmus.model.host import HOST, BridgedNic
from isthmus.model.plan import Remove
from isthmus.planner.desired import Scope

TYPE_CHECKING = False
if TYPE_CHECKING:
    from isthmus.converge.host import Host
    from isthmus.model.carried import Kept
    from isthmus.model.network import Record
    from isthmus.model.plan import Plan, Step

__all__ = ["keep", "mend_bridges"]


def keep(host: Host, plan: Plan, after: Record) -> dict[str, object]:
    """Put down what a plan that leads to a record is about to move; return the stored facts when it has moved."""
    moves = [(step, step.item) for step in plan.steps if isinstance(step.item, BridgedNic)]
    blob = host.outlook.kept
    if not moves and blob is None:
        return {}
    from isthmus.store.kept import KEPT, decode_kept, encode_kept

    kept = decode_kept(blob)
    for step, item in moves:
        moving = _moving(host, step, item, kept.get(item.bridge))
        if moving is not None:
            kept[item.bridge] = moving
        _tell(host, step, item)
    during = encode_kept(kept)
    if during != blob:
        host.remember(KEPT, during)
    bridges = {one.bridge for one in after.networks.values() if one.is_lan}
    settled = encode_kept({name: one.replace(moving=False) for name, one in kept.items() if name in bridges})
    return {KEPT: settled} if settled != during else {}


def mend_bridges(host: Host) -> None:
    """Have the bridges of interfaces stand, with all that was on them, where somebody deleted one or set it down."""
    for network in host.db.seldom("networks").values():
        bridge = host.access.link(HOST, network.bridge) if network.is_lan else None
        if network.is_lan and (bridge is None or not bridge.is_up):
            from isthmus.converge.recovery import follow

            scope = Scope(host=True, namespaces=frozenset())
            follow(host, scope, f"bridge {network.bridge} was deleted or set down")


def _moving(host: Host, step: Step, item: BridgedNic, kept: Kept | None) -> Kept | None:
    from isthmus.kernel.kept import narrowed, with_these

    nic, bridge = host.access.link(HOST, item.name), host.access.link(HOST, item.bridge)
    if nic is None:
        return kept
    if not isinstance(step, Remove):
        return with_these(host.access, kept, nic, item.carried)
    return None if kept is None else narrowed(host.access, kept, (bridge, item.carried), (nic, item.lost))


def _tell(host: Host, step: Step, item: BridgedNic) -> None:
    if not item.lost:
        return
    addresses = [one.words[2] for one in item.lost if one.kind == "address"]
    routes = sum(one.kind == "route" for one in item.lost)
    told = [*addresses, *([f"{routes} route{'s' * (routes != 1)}"] if routes else [])]
    place = item.name if isinstance(step, Remove) else item.bridge
    note = f"bridge {item.bridge} was deleted or set down, and what {item.name} had is on {place} again"
    note += f": {', '.join(told)}" if told else ""
    if note not in host.notes:
        host.notes.append(note)
