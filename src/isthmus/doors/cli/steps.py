"""The steps of a plan as lines for people (+ - ~), and as JSON.

What hangs on an object of the same step (addresses of a bridge, routes of an attachment, elements and
sysctls of a network) is said in that object's line; `verbose` gives each its own.
"""

from __future__ import annotations

from isthmus.doors.cli.ports import port_lines
from isthmus.model.address import IPV6, Address, AddressRange, Mac, Prefix
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
from isthmus.model.ruleset import PORT_SETS
from isthmus.model.switches import SWITCHES, copied_family, forwards, switched
from isthmus.model.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

__all__ = ["Line", "lines", "sign_of", "step_json", "summary"]

_ACTIONS: Final = {"+": "add", "-": "remove", "~": "change"}
_KINDS: Final = {
    NamedNetns: "namespace",
    Directory: "directory",
    File: "file",
    Symlink: "symlink",
    HostsLine: "hosts-line",
    Ruleset: "ruleset",
    Sysctl: "sysctl",
    Bridge: "bridge",
    PinnedMac: "pinned-mac",
    Veth: "veth",
    LinkAddress: "address",
    Autoconf: "autoconf",
    Unredirected: "unredirected",
    Route: "route",
    Rule: "rule",
    Element: "element",
    Process: "command",
}


class Line(Value):
    """A line for people: its sign, what it is about, and what hangs on that."""

    sign: str
    text: str
    details: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.sign} {self.text}" + (f"  {', '.join(self.details)}" if self.details else "")


def sign_of(step: Step) -> str:
    """Return + - or ~."""
    match step:
        case Add():
            return "+"
        case Remove():
            return "-"
        case Change():
            return "~"


def lines(plan: Plan, *, verbose: bool = False) -> list[Line]:
    """Return the lines of a plan, in its order."""
    if verbose:
        return [Line(sign=sign_of(step), text=_text(step)) for step in plan.steps]
    heads = _heads(plan)
    found: dict[object, Line] = {}
    details: dict[object, tuple[list[str], list[str]]] = {}
    ports: list[tuple[str, Element]] = []
    far = _far_ends(plan)
    for number, step in enumerate(plan.steps):
        sign, item = sign_of(step), step.item
        if isinstance(item, Element) and item.name in PORT_SETS:
            ports.append((sign, item))
            continue
        head = _head_of(item, sign, heads)
        if head is None:
            found[(sign, item.key) if item.key in heads.values() else number] = Line(sign=sign, text=_text(step))
        elif detail := _detail(item):
            is_far = isinstance(item, LinkAddress | Autoconf | Route) and (sign, item.netns, item.ifname) in far
            details.setdefault((sign, head), ([], []))[is_far].append(detail)
    shown = []
    for key, line in found.items():
        near_end, far_end = details.get(key, ((), ()))
        shown.append(line.replace(details=(*near_end, *far_end)))
    return shown + [Line(sign=sign, text=text) for sign, text in port_lines(ports)]


def _far_ends(plan: Plan) -> set[tuple[str, str, str]]:
    """Return the second end of each direct link, as its line names them: what hangs on it is said after the first's."""
    steps = [(sign_of(step), step.item) for step in plan.steps]
    return {(sign, one.peer_netns, one.peer_name) for sign, one in steps if isinstance(one, Veth) and one.netns != HOST}


def _heads(plan: Plan) -> dict[object, object]:
    """Return what others may hang on: a place (sign, namespace, link) -> the key of the object there."""
    heads: dict[object, object] = {
        (copied, value): ("sysctl", SWITCHES[copied]) for copied, value in switched(plan).items()
    }
    for step in plan.steps:
        if isinstance(step, Change):
            continue
        sign, item = sign_of(step), step.item
        match item:
            case Bridge():
                heads[sign, HOST, item.name] = item.key
                heads.setdefault((sign, "networks"), item.key)
            case Element(name="adopted"):
                heads[sign, HOST, item.parts[0]] = item.key
                heads.setdefault((sign, "networks"), item.key)
            case Veth():
                heads[sign, item.peer_netns, item.peer_name] = item.key
                heads[sign, item.netns, item.name] = item.key
                heads[sign, HOST, item.peer_mac] = item.key
                heads.setdefault((sign, "files"), item.key)
                if item.netns == HOST:
                    heads.setdefault(("ways", item.peer_netns), item.key)
            case NamedNetns():
                heads[sign, "files", item.name] = item.key
                heads[sign, "files"] = item.key
            case Element() if item.name in PORT_SETS:
                heads["ports"] = "ports"
            case _:
                pass
    return heads


def _head_of(item: HostObject, sign: str, heads: dict[object, object]) -> object | None:
    """Return the key of the object that says this one in its line, if the same plan has it."""
    match item:
        case Rule() | Route() if isinstance(item, Rule) or item.table:
            return heads.get(("ways", item.netns))
        case LinkAddress() | Autoconf() | Unredirected() | Route():
            return heads.get((sign, item.netns, item.ifname))
        case File() | Directory() | Symlink() | HostsLine():
            if item.path.startswith("/etc/sysctl.d"):
                return None
            # /etc/netns/NAME/hosts; what is above it or shared hangs on the first of its kind.
            name = "/".join(item.path.split("/")[3:4])
            return next(
                (
                    heads[place]
                    for one in (sign, "+", "-")
                    for place in ((one, "files", name), (one, "files"))
                    if place in heads
                ),
                None,
            )
        case Sysctl() if (copied_family(item.name), item.value) in heads:
            return heads[copied_family(item.name), item.value] if forwards(item.name) else None
        case Sysctl(borrowed=False):
            link = item.name.split("/")[3]
            return heads.get(("+", HOST, link)) or heads.get(("-", HOST, link)) or heads.get("ports")
        case Element(name="adopted"):
            return None
        case Element(name="own4" | "own6"):
            return heads.get("ports") or heads.get((sign, "files"))
        case Element():
            named = heads.get((sign, HOST, item.parts[0]))
            return named if named is not None else heads.get((sign, "networks"))
        case _:
            return None


def _detail(item: HostObject) -> str:
    match item:
        case LinkAddress() if item.address.family == IPV6 and item.address.number >> 118 == 0x3FA:
            return ""  # fe80::/10, which every link has
        case LinkAddress():
            return f"{item.address}/{item.length}"
        case Sysctl(borrowed=True) if copied_family(item.name):
            return item.name.split("/")[3]
        case Autoconf():
            return "IPv6 by router advertisements"
        case Route() if item.table:
            return ""  # like rules, which each attachment has of a namespace on several networks
        case Route(prefix=Prefix(length=0)):
            return f"default via {item.via}"
        case Route():
            return f"{item.prefix} via {item.via}"
        case _:
            return ""


def _text(step: Step) -> str:
    """Return what a step is about; of a change, what changes."""
    item = step.item
    if isinstance(step, Change):
        if isinstance(item, Sysctl) and isinstance(step.before, Sysctl):
            return f"sysctl {item.name} {step.before.value} -> {item.value}"
        if isinstance(item, File | Symlink | Directory):
            return f"file {item.path}"
        if isinstance(item, BridgedNic):
            return _nic(item)
        if isinstance(item, Process) and isinstance(step.before, Process) and not step.before.argv:
            return f"{_noun(item)}: it had ended, and is started again"
        changes = [
            f"{name} {_word(getattr(step.before, name))} -> {_word(getattr(item, name))}"
            for name in item._fields
            if getattr(step.before, name, None) != getattr(item, name)
        ]
        return f"{_noun(item)}: {', '.join(changes)}"
    return _noun(item)


def _noun(item: HostObject) -> str:
    match item:
        case NamedNetns():
            return f"namespace {item.name}"
        case File():
            return f"file {item.path}"
        case Directory():
            return f"directory {item.path}"
        case Symlink():
            return f"link {item.path} -> {item.target}"
        case HostsLine():
            return f"line {item.text[:-1]} of {item.path}"
        case Ruleset():
            return f"firewall table {item.family} isthmus"
        case Sysctl():
            return f"sysctl {item.name} {item.value}"
        case Bridge():
            return f"bridge {item.name}"
        case PinnedMac():
            return f"MAC {item.mac} of bridge {item.bridge}, as it is and from now on whatever its ports"
        case BridgedNic():
            return _nic(item)
        case Veth():
            return _veth(item)
        case LinkAddress():
            return f"address {item.address}/{item.length} on {item.ifname}{_inside(item.netns)}"
        case Autoconf():
            return f"router advertisements on {item.ifname}{_inside(item.netns)}"
        case Unredirected():
            return f"ICMPv6 redirects not heeded on {item.ifname}{_inside(item.netns)}"
        case Route():
            prefix = "default" if item.prefix.length == 0 else str(item.prefix)
            return f"route {prefix} via {item.via}{_inside(item.netns)}{', by source' if item.table else ''}"
        case Rule():
            return f"rule {item.priority} from {item.source}{_inside(item.netns)}"
        case Element():
            data = f" : {' . '.join(map(str, item.data))}" if item.data else ""
            if item.name == "adopted":
                return f"network on bridge {item.parts[0]}, which is somebody else's"
            return f"element {item.name} {{ {' . '.join(map(str, item.parts))}{data} }}"
        case Process() if item.lasting:
            return f"DHCP{'v6' * item.name.startswith('dhcp6 ')} client on {item.argv[2]}{_inside(item.netns)}"
        case Process():
            return f"command{_inside(item.netns)}: {' '.join(item.argv)}"


def _nic(item: BridgedNic) -> str:
    hung = [one for one in (*item.carried, *item.lost) if one.arrival != "made"]
    addresses = [one.words[2] for one in hung if one.kind == "address"]
    routes = sum(one.kind in ("route", "nexthop") for one in hung)
    moved = [*addresses, *([f"{routes} route{'s' * (routes != 1)}"] if routes else [])]
    return f"link {item.name} on bridge {item.bridge}" + (f", with {', '.join(moved)}" if moved else "")


def _veth(item: Veth) -> str:
    if item.master is not None:
        return f"link {item.peer_name} in {item.peer_netns} on {item.master}"
    if item.netns == HOST:
        return f"link {item.name}"
    if not item.peer_name:
        return f"link {item.name} in {item.netns}, which leads elsewhere"
    return f"link {item.name} in {item.netns} to {item.peer_name} in {item.peer_netns}"


def _inside(netns: str) -> str:
    return f" in {netns}" if netns != HOST else ""


def _word(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return " ".join(map(str, value))
    return "none" if value in (None, "") else str(value)


def summary(shown: list[Line]) -> str:
    """Return `3 added, 1 changed, 0 removed`, or `nothing to change`."""
    if not shown:
        return "nothing to change"
    added, changed, removed = (sum(line.sign == sign for line in shown) for sign in "+~-")
    return f"{added} added, {changed} changed, {removed} removed"


def step_json(step: Step) -> dict[str, object]:
    """Return a step as JSON has it (docs/json.md)."""
    found: dict[str, object] = {"action": _ACTIONS[sign_of(step)], "kind": _KINDS[type(step.item)]}
    found["object"] = _fields(step.item)
    if isinstance(step, Change):
        found["before"] = _fields(step.before)
    return found


def _fields(item: HostObject) -> dict[str, object]:
    return {name: _plain(getattr(item, name)) for name in item._fields}


def _plain(value: object) -> object:
    if isinstance(value, Address | Prefix | AddressRange | Mac):
        return str(value)
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    return value
