"""The commands that move what hangs on a link, or keep it there (script.py)."""

from __future__ import annotations

from isthmus.model.plan import Remove
from isthmus.planner.shell import command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from isthmus.model.carried import Carried
    from isthmus.model.host import BridgedNic, PinnedMac
    from isthmus.model.plan import Step

__all__ = ["bridged_nic", "pinned_mac"]


def bridged_nic(step: Step, item: BridgedNic) -> Iterator[str]:
    """Yield the move in the order of kernel/nic.py."""
    old, new = (item.bridge, item.name) if isinstance(step, Remove) else (item.name, item.bridge)
    if not isinstance(step, Remove):
        yield command("ip", "link", "set", "dev", item.name, "master", item.bridge)
    else:
        yield command("ip", "link", "set", "dev", item.name, "up")
    for one in (*item.carried, *item.lost):
        if one.arrival != "made":
            yield command("ip", *_placed(one, new), *(("nodad",) if _has_detection(one) else ()))
    for one in reversed(item.carried):
        if one.kind == "route":
            family, kind, _, *rest = _placed(one, old)
            yield command("ip", family, kind, "delete", *rest)
    if isinstance(step, Remove):
        yield command("ip", "link", "set", "dev", item.name, "nomaster")
    for one in reversed(item.carried):
        words = _placed(one, old)
        if one.kind == "address":
            yield command("ip", "address", "delete", *words[2 : 5 if words[3] == "peer" else 3], "dev", old)
        elif one.kind == "neighbour":
            last = words.index("dev")
            yield command(
                "ip", "neighbour", "delete", *words[2 : 4 if words[2] == "proxy" else 3], *words[last : last + 2]
            )
    for one in (*item.carried, *item.lost):
        if _has_detection(one) and one.arrival != "made":
            yield command("ip", *_placed(one, new))


def pinned_mac(item: PinnedMac) -> Iterator[str]:
    """Yield how a bridge's MAC is set to what it is; its neighbours come again."""
    yield command("ip", "link", "set", "dev", item.bridge, "address", item.mac)
    for one in item.neighbours:
        yield command("ip", *_placed(one, item.bridge))


def _placed(one: Carried, link: str) -> tuple[str, ...]:
    return tuple(word.replace("{dev}", link) for word in one.words)


def _has_detection(one: Carried) -> bool:
    """Whether it is an IPv6 address without the flag that it is added with, to be used at once."""
    return one.kind == "address" and ":" in one.words[2] and "nodad" not in one.words
