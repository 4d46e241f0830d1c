"""Host objects as JSON: an object of `is` and the fields that are not as they are by default."""

from __future__ import annotations

from typing import Any, Final

from isthmus.model import host
from isthmus.model.address import Address, Mac, Prefix
from isthmus.model.host import HostObject, HostState
from isthmus.model.plan import Change, Plan, Remove, Step

__all__ = ["load_state", "plan_text", "save_state"]

_KINDS: Final[dict[str, Any]] = {
    kind.__name__: kind
    for kind in (
        host.NamedNetns,
        host.Directory,
        host.File,
        host.Symlink,
        host.HostsLine,
        host.Ruleset,
        host.Sysctl,
        host.Bridge,
        host.PinnedMac,
        host.Veth,
        host.LinkAddress,
        host.Autoconf,
        host.Unredirected,
        host.Route,
        host.Rule,
        host.Element,
        host.Process,
    )
}
_READ: Final[dict[str, Any]] = {
    "mac": Mac.parse,
    "peer_mac": Mac.parse,
    "address": Address.parse,
    "source": Address.parse,
    "via": Address.parse,
    "prefix": Prefix.parse,
    "parts": lambda parts: tuple(map(_part, parts)),
    "data": lambda parts: tuple(map(_part, parts)),
    "argv": tuple,
}


def _part(text: str | int) -> str | int | Address | Prefix | Mac:
    if isinstance(text, int) or (":" not in text and not text[:1].isdecimal()):
        return text
    if len(text) == 17 and text.count(":") == 5:
        return Mac.parse(text)
    return Prefix.parse(text) if "/" in text else Address.parse(text)


def load_state(objects: list[dict[str, Any]]) -> HostState:
    """Return the state of a file's objects, in their order."""
    state: HostState = {}
    for one in objects:
        fields = {name: _READ[name](value) if name in _READ else value for name, value in one.items() if name != "is"}
        item: HostObject = _KINDS[one["is"]](**fields)
        assert item.key not in state, one
        state[item.key] = item
    return state


def save_state(state: HostState) -> list[dict[str, Any]]:
    """Return what `load_state` reads."""
    return [{"is": type(item).__name__, **_fields(item)} for item in state.values()]


def _fields(item: HostObject) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in type(item).__annotations__:
        value = getattr(item, name)
        if isinstance(value, tuple):
            found[name] = [one if isinstance(one, int) else str(one) for one in value]
        else:
            found[name] = str(value) if isinstance(value, Address | Prefix | Mac) else value
    return found


def plan_text(plan: Plan) -> str:
    """Return a line for each step: its sign, the object, what it was before; and below it what falls with it."""
    lines = []
    for step in plan.steps:
        lines.append(_line(step))
        if isinstance(step, Remove):
            lines += [f"    with {_words(item)}" for item in step.falling]
    return "".join(f"{line}\n" for line in lines)


def _line(step: Step) -> str:
    if isinstance(step, Change):
        before, now = _fields(step.before), _fields(step.item)
        kept = " ".join(str(part) for part in step.item.key[1:] if part)
        moved = ", ".join(f"{name} {before[name]} -> {now[name]}" for name in now if before[name] != now[name])
        return f"~ {type(step.item).__name__} {kept}: {moved}"
    return f"{'-' if isinstance(step, Remove) else '+'} {_words(step.item)}"


def _words(item: HostObject) -> str:
    parts = [str(part) if not isinstance(part, tuple) else " . ".join(map(str, part)) for part in item.key if part]
    return " ".join([type(item).__name__, *parts[1:]])
