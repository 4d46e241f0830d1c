"""Plan -> the commands that a person would type: `ip`, `bridge`, `sysctl`, `nft`, in full keywords.

Run in an empty namespace, the script leads to the same kernel state as the engine, and the script of the
plan's undo leads back. A veth pair is deleted at once where the engine cuts it off first and deletes later.
Source: ip-link(8), ip-address(8), ip-route(8), ip-netns(8), bridge(8), nft(8), sysctl(8).
"""

from __future__ import annotations

from isthmus.model.address import IPV4
from isthmus.model.host import (
    HOST,
    HOSTS_HEAD,
    LIVE_GROUP,
    Autoconf,
    Bridge,
    BridgedNic,
    Directory,
    Element,
    File,
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
from isthmus.model.network import MTU_MIN_IPV6
from isthmus.model.plan import Add, Change, Plan, Remove, Step, moves
from isthmus.model.ruleset import TABLE, element_command
from isthmus.model.switches import SWITCHES, is_silent, overwritten, put_back, switched
from isthmus.planner.carrying import bridged_nic, pinned_mac
from isthmus.planner.shell import command, here, quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Final

__all__ = ["script"]

_MARK: Final = 0x69  # rtm_protocol of what is ours
_ONE_QUEUE: Final = ("numtxqueues", 1, "numrxqueues", 1)


def script(plan: Plan, paths: Mapping[str, str], rulesets: Mapping[str, str]) -> str:
    """Return a shell script; `paths` leads to namespaces without a name, `rulesets` is what nft loads, by family."""
    lines = ["#!/bin/sh", "set -e"]
    writer = _Writer(plan, paths, rulesets)
    elements: list[str] = []
    for step in plan.steps:
        if isinstance(step.item, Element):
            elements += _element_lines(step)
            continue
        lines += _nft(elements)
        elements = []
        lines += writer.lines(step)
    lines += _nft(elements)
    return "\n".join(lines) + "\n"


def _nft(lines: list[str]) -> list[str]:
    return here("nft --file -", "\n".join(lines)) if lines else []


def _element_lines(step: Step) -> list[str]:
    lines = []
    if isinstance(step, Change) and isinstance(step.before, Element):
        lines.append(element_command("delete", step.before))
    assert isinstance(step.item, Element)
    lines.append(element_command("delete" if isinstance(step, Remove) else "add", step.item))
    return lines


class _Writer:
    """Writes the commands of single steps."""

    def __init__(self, plan: Plan, paths: Mapping[str, str], rulesets: Mapping[str, str]) -> None:
        self._plan = plan
        self._switched = switched(plan)
        self._paths = paths
        self._rulesets = rulesets

    def lines(self, step: Step) -> list[str]:
        """Return the commands of a step (elements excepted, which go together)."""
        match step.item:
            case NamedNetns() as item:
                return _netns(step, item)
            case File() | Directory() | Symlink() | HostsLine() as item:
                return _remove_file(item) if isinstance(step, Remove) else _file(item)
            case Ruleset() as item:
                return self._table(step, item)
            case Sysctl() as item:
                return [] if isinstance(step, Remove) else list(self._sysctl(step, item))
            case Bridge() as item:
                return _bridge(step, item)
            case PinnedMac() as item:
                return [] if isinstance(step, Remove) else list(pinned_mac(item))
            case BridgedNic() as item:
                return list(bridged_nic(step, item))
            case Veth() as item:
                return list(self._veth(step, item))
            case LinkAddress():
                return [self._address(one, comes=comes) for comes, one in moves(step)]
            case Autoconf() as item:
                values = item.sysctls(on=not isinstance(step, Remove))
                return self._conf(item.netns, values)
            case Unredirected() as item:
                return self._conf(item.netns, [(item.sysctl, str(int(isinstance(step, Remove))))])
            case Route() as item:
                return list(self._route(step, item))
            case Rule() as item:
                return [self._in(item.netns, "ip", *_rule_words(step, item))]
            case Process() as item:
                return _process(step, item)
            case Element():
                return []

    def _in(self, netns: str, tool: str, *words: object) -> str:
        if netns == HOST:
            return command(tool, *words)
        if netns in self._paths:
            return command("nsenter", f"--net={self._paths[netns]}", tool, *words)
        return command(tool, "-netns", netns, *words)

    def _conf(self, netns: str, values: Iterable[tuple[str, str]]) -> list[str]:
        path = self._paths.get(netns, f"/run/netns/{netns}")
        words = (f"{name}={value}" for name, value in values)
        return [command("nsenter", f"--net={path}", "sysctl", "--quiet", "--write", *words)]

    def _sysctl(self, step: Step, item: Sysctl) -> Iterator[str]:
        """Write a value; what a global switch is copied to is written with it, where it is to be another."""
        if isinstance(step, Change) and overwritten(item.name, self._switched) is not None:
            return
        if is_silent(self._plan, item):
            yield command("ip", "link", "set", "dev", item.name.split("/")[3], "addrgenmode", "eui64")
            return
        copies = put_back(self._plan, item) if item.name in SWITCHES.values() else ()
        for one in (item, *copies):
            yield command("sysctl", "--write", f"{one.name}={one.value}")

    def _table(self, step: Step, item: Ruleset) -> list[str]:
        table = f"{item.family} {TABLE}"
        if isinstance(step, Remove):
            return [f"nft delete table {table}"]
        return here("nft --file -", f"table {table}\ndelete table {table}\n{self._rulesets[item.family]}")

    def _veth(self, step: Step, item: Veth) -> Iterator[str]:
        if isinstance(step, Remove) or (isinstance(step, Change) and isinstance(step.before, Veth) and self._cut(step)):
            yield self._in(item.netns, "ip", "link", "delete", "dev", item.name)
        if isinstance(step, Remove):
            return
        if isinstance(step, Change) and not self._cut(step):
            yield from self._mend(step, item)
        else:
            yield self._pair(item)
        yield self._in(
            item.netns, "ip", "link", "set", "dev", item.name, "alias", item.alias, *_no_link_local(item.mtu)
        )
        if item.master:
            flags = ("hairpin", _on(item.hairpin), "isolated", _on(item.isolated))
            yield self._in(item.netns, "bridge", "link", "set", "dev", item.name, *flags)
        yield self._in(item.netns, "ip", "link", "set", "dev", item.name, _up(item.up))
        alias = ("alias", item.alias) if item.netns != HOST else ()
        words = (*alias, *_no_link_local(item.mtu))
        if words:
            yield self._in(item.peer_netns, "ip", "link", "set", "dev", item.peer_name, *words)
        yield self._in(item.peer_netns, "ip", "link", "set", "dev", item.peer_name, _up(item.up))

    def _cut(self, step: Change) -> bool:
        return isinstance(step.before, Veth) and not step.before.peer_name

    def _pair(self, item: Veth) -> str:
        words: list[object] = ["ip", "link", "add", "name", item.name]
        if item.mac is not None:
            words += ["address", item.mac]
        words += ["mtu", item.mtu, "group", LIVE_GROUP, *_ONE_QUEUE]
        if item.master:
            words += ["master", item.master]
        if item.netns != HOST:
            words += ["netns", self._paths.get(item.netns, item.netns)]
        words += ["type", "veth", "peer", "name", item.peer_name, "address", item.peer_mac, "mtu", item.mtu]
        words += _ONE_QUEUE
        return command(*words, "netns", self._paths.get(item.peer_netns, item.peer_netns))

    def _mend(self, step: Change, item: Veth) -> Iterator[str]:
        before = step.before
        assert isinstance(before, Veth)
        words: list[object] = ["mtu", item.mtu]
        if item.mac is not None and item.mac != before.mac:
            words += ["address", item.mac]
        if item.marked != before.marked:
            words += ["group", _group(item.marked)]
        if item.master != before.master:
            words += ["master", item.master] if item.master else ["nomaster"]
        yield self._in(item.netns, "ip", "link", "set", "dev", item.name, *words)
        if (item.peer_name, item.peer_mac) != (before.peer_name, before.peer_mac):
            rename: tuple[str, ...] = ()
            if item.peer_name != before.peer_name:
                rename = ("name", item.peer_name)
                yield self._in(item.peer_netns, "ip", "link", "set", "dev", before.peer_name, "down")
            mac = ("address", item.peer_mac)
            yield self._in(item.peer_netns, "ip", "link", "set", "dev", before.peer_name, *mac, *rename)
        yield self._in(item.peer_netns, "ip", "link", "set", "dev", item.peer_name, "mtu", item.mtu)

    def _address(self, item: LinkAddress, *, comes: bool) -> str:
        text = f"{item.address}/{item.length}"
        if not comes:
            return self._in(item.netns, "ip", "address", "delete", text, "dev", item.ifname)
        words: list[object] = ["address", "add", text]
        if item.address.family == IPV4:
            words += ["broadcast", "+"] if item.length < 31 else []
        # `proto`, which marks an address as ours, is left out: ip of iproute2 6.1 does not know it here.
        words += ["dev", item.ifname]
        words += [] if item.address.family == IPV4 else ["nodad"]
        return self._in(item.netns, "ip", *words)

    def _route(self, step: Step, item: Route) -> Iterator[str]:
        if not isinstance(step, Add):
            old = step.before if isinstance(step, Change) and isinstance(step.before, Route) else item
            yield self._in(old.netns, "ip", *_route_words("delete", old))
        if not isinstance(step, Remove):
            yield self._in(item.netns, "ip", *_route_words("add", item))


def _no_link_local(mtu: int) -> tuple[str, ...]:
    """Return the words against a link-local address; a link of a smaller MTU has no IPv6 to speak of."""
    return ("addrgenmode", "none") if mtu >= MTU_MIN_IPV6 else ()


def _group(marked: bool) -> object:
    return LIVE_GROUP if marked else "default"


def _up(flag: bool) -> str:
    return "up" if flag else "down"


def _on(flag: bool) -> str:
    return "on" if flag else "off"


def _route_words(verb: str, item: Route) -> list[object]:
    family = "-4" if item.via.family == IPV4 else "-6"
    to = str(item.prefix) if item.prefix.length else "default"
    words: list[object] = [family, "route", verb, to, "via", item.via, "dev", item.ifname, "protocol", _MARK]
    return [*words, "table", item.table] if item.table else words


def _rule_words(step: Step, item: Rule) -> list[object]:
    family = "-4" if item.source.family == IPV4 else "-6"
    words: list[object] = [family, "rule", "delete" if isinstance(step, Remove) else "add"]
    words += ["priority", item.priority, "from", item.source, "lookup", item.table or "main"]
    return [*words, *(("suppress_prefixlength", 0) if item.specific else ()), "protocol", _MARK]


def _netns(step: Step, item: NamedNetns) -> list[str]:
    if isinstance(step, Remove):
        return [command("ip", "netns", "delete", item.name)]
    made = [command("ip", "netns", "add", item.name)] if isinstance(step, Add) else []
    return [*made, command("ip", "-netns", item.name, "link", "set", "dev", "lo", _up(item.loopback))]


def _file(item: File | Directory | Symlink | HostsLine) -> list[str]:
    if isinstance(item, Directory):
        return [command("mkdir", "--parents", item.path)]
    if isinstance(item, Symlink):
        return [command("ln", "--symbolic", "--force", "--no-dereference", item.target, item.path)]
    if isinstance(item, File):
        remove = [command("rm", "--force", item.path)] if item.path.endswith("/hosts") else []
        return [*remove, *here(f"cat > {quoted(item.path)}", item.text)]
    path = quoted(item.path)
    return [
        command("mkdir", "--parents", item.path.rpartition("/")[0]),
        f"test -s {path} || printf '%s%s\\n' {quoted(HOSTS_HEAD)} \"$(uname --nodename)\" > {path}",
        f"printf '%s\\n' {quoted(item.text[:-1])} >> {path}",
    ]


def _remove_file(item: File | Directory | Symlink | HostsLine) -> list[str]:
    if isinstance(item, Directory):
        return [command("rmdir", "--ignore-fail-on-non-empty", item.path)]
    if not isinstance(item, HostsLine):
        return [command("rm", "--force", item.path)]
    path, directory = quoted(item.path), item.path.rpartition("/")[0]
    empty = f'test "$(wc --lines < {path})" -gt {HOSTS_HEAD.count(chr(10)) + 1}'
    drop = command("sed", "--in-place", f"/^{item.text[:-1].replace('.', chr(92) + '.')}$/d", item.path)
    rmdir = command("rmdir", "--ignore-fail-on-non-empty", directory, directory.rpartition("/")[0])
    return [drop, f"{empty} || {{ rm --force {path}; {rmdir}; }}"]


def _bridge(step: Step, item: Bridge) -> list[str]:
    if isinstance(step, Remove):
        return [command("ip", "link", "delete", "dev", item.name)]
    words: list[object] = ["ip", "link", "set", "dev", item.name, "mtu", item.mtu]
    lines = []
    if isinstance(step, Add):
        head = (
            "ip",
            "link",
            "add",
            "name",
            item.name,
            "address",
            item.mac,
            "mtu",
            item.mtu + 1 if item.mtu == MTU_MIN_IPV6 else item.mtu - 1,
        )
        lines.append(command(*head, "group", LIVE_GROUP, "type", "bridge", "stp_state", 0))
    else:
        assert isinstance(step.before, Bridge)
        words += ["address", item.mac] if item.mac != step.before.mac else []  # also the same flushes the neighbours
        words += ["group", _group(item.marked)]
        lines.append(command("ip", "link", "set", "dev", item.name, "type", "bridge", "stp_state", int(item.stp)))
    lines.append(command(*words, "alias", item.alias, *_no_link_local(item.mtu)))
    lines.append(command("ip", "link", "set", "dev", item.name, _up(item.up)))
    return lines


def _process(step: Step, item: Process) -> list[str]:
    lines = []
    if not isinstance(step, Add):
        which = (
            f"pkill --full {quoted(' '.join(item.argv))}"
            if item.lasting
            else (f"ip netns pids {quoted(item.netns)} | xargs --no-run-if-empty kill")
        )
        lines.append(f"{which} || true")
    if not isinstance(step, Remove):
        inside = () if item.netns == HOST else ("ip", "netns", "exec", item.netns)
        if item.lasting:
            return [*lines, command(*inside, *item.argv)]
        run = command("setsid", *inside, *item.argv)
        lines.append(f"{run} < /dev/null > /dev/null 2>&1 &")
    return lines
