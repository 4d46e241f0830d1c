"""Forwarding at the next boot: the file of ours under /etc/sysctl.d, and what all such files say together.

A file of ours has its keys in slash form. Files of others are read, never written: whether a later one undoes ours
is found by going through them as a boot does.

Source: sysctl.d(5) for names that mask each other, their order, keys with `/` or `.`, `-` and globs;
sysctl(8), `--system`, for /etc/sysctl.conf, which is read last; ufw-framework(8) for its own, which comes after it.
"""

from __future__ import annotations

from isthmus.model.host import Directory, File, HostObject
from isthmus.model.network import Forwarding, Record
from isthmus.model.switches import SWITCHES, link_switch, overwritten
from isthmus.model.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Final

__all__ = [
    "OWN_FILE",
    "Assignment",
    "assignments",
    "at_boot",
    "is_ours",
    "own_rows",
    "persisted_files",
]

_DIRECTORY: Final = "/etc/sysctl.d"
OWN_FILE: Final = f"{_DIRECTORY}/60-isthmus-forwarding.conf"
_HEAD: Final = """\
# kept by isthmus: what was asked for by `isthmus forwarding on --persist` or a declared file
# `isthmus forwarding off --persist` takes it away; what is changed here is put right by `isthmus repair`
"""
_OF: Final = "# of "
_ALL_FORCED: Final = "net/ipv6/conf/all/force_forwarding"
# Two names of one value.
_SAME: Final = {"net/ipv4/conf/all/forwarding": SWITCHES[4]}


def persisted_files(record: Record) -> Iterator[HostObject]:
    """Yield our file, and its directory, where something is wished for at each boot."""
    rows = [row for row in record.forwarding.values() if row.persist]
    if rows:
        yield Directory(path=_DIRECTORY)
        yield File(path=OWN_FILE, text=_HEAD + "".join(_lines(row) for row in sorted(rows, key=_order)))


def _order(row: Forwarding) -> tuple[str, int]:
    return row.link, row.family  # the global switches first: they are copied to every link


def _lines(row: Forwarding) -> str:
    owner = f"{_OF}{row.owner}\n" if row.owner else ""
    uplinks = "".join(f"net/ipv6/conf/{link}/accept_ra = 2\n" for link in row.uplinks)
    return f"{owner}{uplinks}{link_switch(row.family, row.link) if row.link else SWITCHES[row.family]} = 1\n"


def is_ours(text: str) -> bool:
    """Whether a text is of a file of ours, or of none."""
    return not text or text.startswith(_HEAD.split(":")[0])


def own_rows(text: str) -> dict[str, Forwarding]:
    """Read rows back from the text of our file."""
    rows: dict[str, Forwarding] = {}
    owner, uplinks = "", list[str]()
    for line in text.splitlines():
        if line.startswith(_OF):
            owner = line[len(_OF) :]
        name, _, value = line.partition(" = ")
        parts = name.split("/")
        if name.endswith("/accept_ra") and len(parts) == 5:
            uplinks.append(parts[3])
        elif value == "1":
            for family, switch in SWITCHES.items():
                link = "" if name == switch else parts[3] if len(parts) == 5 else None
                if link is not None and name in (switch, link_switch(family, link)):
                    row = Forwarding(family=family, link=link, persist=True, uplinks=tuple(uplinks), owner=owner)
                    rows[row.id] = row
            owner, uplinks = "", []
    return rows


class Assignment(Value):
    """A line of a file: `name` in slash form, perhaps a pattern; `value` None: patterns leave that name alone."""

    name: str
    value: str | None
    path: str
    line: int

    @property
    def is_pattern(self) -> bool:
        """Whether it may mean several sysctls."""
        return any(letter in self.name for letter in "*?[")


def assignments(files: Iterable[tuple[str, str]]) -> list[Assignment]:
    """Return what counts of (path, text) of files, in the order that a boot applies it.

    Files come by directory, the most important one first: it masks those of the same name in the others. What is in
    no such directory comes last, as it comes.
    """
    chosen: dict[str, tuple[str, str]] = {}
    for number, (path, text) in enumerate(files):
        directory, _, name = path.rpartition("/")
        chosen.setdefault(name if directory.endswith("/sysctl.d") else f"\U0010ffff{number:06}", (path, text))
    found: dict[str, Assignment] = {}
    for name in sorted(chosen):
        for one in _parsed(*chosen[name]):
            found.pop(one.name, None)  # the last one counts, in its place
            found[one.name] = one
    return list(found.values())


def _parsed(path: str, text: str) -> Iterator[Assignment]:
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if not stripped or stripped[0] in "#;":
            continue
        key, equals, value = stripped.partition("=")
        excludes = not equals and key.startswith("-")
        if equals or excludes:
            name = _slashed(key.strip().removeprefix("-").strip())
            yield Assignment(name=name, value=value.strip() if equals else None, path=path, line=number)


def _slashed(key: str) -> str:
    """Return a key in slash form: the first separator tells which form it has."""
    key = key.removeprefix("/proc/sys/").lstrip("/")
    dot, slash = key.find("."), key.find("/")
    if dot < 0 or 0 <= slash < dot:
        return key
    return key.translate({ord("."): "/", ord("/"): "."})


def at_boot(lines: Iterable[Assignment], names: Iterable[str]) -> dict[str, tuple[str, Assignment | None]]:
    """Return the value that sysctls of forwarding have after a boot, and which line gave it; without one: "0".

    `names` are those of this host: a pattern means them, and what a global switch is copied to is among them.
    """
    from fnmatch import fnmatchcase

    known = [*names, _ALL_FORCED, *_SAME]
    state: dict[str, tuple[str, Assignment | None]] = {_SAME.get(name, name): ("0", None) for name in known}
    ordered = list(lines)
    plain = {one.name for one in ordered if not one.is_pattern}
    for one in ordered:
        matching = [one.name] if not one.is_pattern else [name for name in known if name not in plain]
        for name in sorted(matching):
            same = len(name.split("/")) == len(one.name.split("/"))
            if one.value is not None and same and (name == one.name or fnmatchcase(name, one.name)):
                _write(state, _SAME.get(name, name), one)
    return state


def _write(state: dict[str, tuple[str, Assignment | None]], name: str, line: Assignment) -> None:
    """Write as the kernel does: a switch is copied to every link, IPv4's only when it changes."""
    if name not in state or line.value is None:
        return
    copies = line.value in ("0", "1") and (state[name][0] != line.value or name != SWITCHES[4])
    values = {family: line.value for family, switch in SWITCHES.items() if switch == name}
    for other in state if copies else ():
        copied = overwritten(other, values)
        if copied is not None:
            state[other] = (copied, line)
        elif name == _ALL_FORCED and other.endswith("/force_forwarding"):
            state[other] = (line.value, line)
    state[name] = (line.value, line)
