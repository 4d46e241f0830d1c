"""What a host is like, seen by other eyes than the engine's: iproute2, nft, /proc, and sqlite3 on the state file.

Used inside a lab's host (resident.py). What moves by itself, or is drawn anew each time something is made, is
left out: indexes, handles, timers, the order of making.
"""

from __future__ import annotations

import contextlib
import json
import marshal
import os
import re
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Final

__all__ = ["difference", "pending", "witness"]

_MOVING: Final = re.compile(
    r".*_timer|.*_life_time|expires|handle|dynamic_neigh_lifetime|ifindex|link|link_index|.*netnsid|no|id|port_id|"
    r"designated_.*|bridge_id|root_id|operstate|stats.*|packets|bytes|min_mtu|max_mtu|config_pending|topology.*"
)
_LINK_SYSCTLS: Final = ("net/ipv4/conf", "net/ipv6/conf")
_SO_NETNS_COOKIE: Final = 71
# Columns that are drawn anew, by table.
_DRAWN: Final = {
    "networks": ("sequence",),
    "namespaces": ("cookie",),
    "attachments": ("sequence", "priority"),
    "leases": ("rests_until",),
}
_TABLES: Final = ("networks", "namespaces", "attachments", "publishes", "links", "commands", "forwarding", "borrowed")


def witness(state: str, run: str) -> dict[str, Any]:
    """Return everything by sections; equal hosts give equal values."""
    found: dict[str, Any] = {"record": _record(state)}
    for title, argv in _questions(_names()).items():
        found[title] = _ask(argv)
    found["nft"] = _ask(("nft", "-j", "list", "ruleset"))
    found["sysctls"] = _sysctls()
    roots = ("/run/netns", "/etc/netns", "/etc/sysctl.d", run)
    found["files"] = [line for root in roots for line in _files(Path(root))]
    found["processes"] = _processes()
    return found


def _names() -> list[str]:
    with contextlib.suppress(FileNotFoundError):
        return sorted(name for name in os.listdir("/run/netns") if os.path.ismount(f"/run/netns/{name}"))
    return []


def _questions(names: list[str]) -> dict[str, tuple[str, ...]]:
    questions: dict[str, tuple[str, ...]] = {"ports": ("bridge", "-j", "-d", "link")}
    for name in ("", *names):
        enter = ("ip", "-n", name) if name else ("ip",)
        questions[f"links {name}"] = (*enter, "-j", "-d", "addr")
        for family in ("-4", "-6"):
            questions[f"routes {family} {name}"] = (*enter, "-j", "-d", family, "route", "show", "table", "all")
            questions[f"rules {family} {name}"] = (*enter, "-j", family, "rule", "show")
    return questions


def _ask(argv: tuple[str, ...]) -> list[str]:
    text = subprocess.run(argv, capture_output=True, text=True, check=False).stdout or "[]"
    found = json.loads(text)
    rows = found["nftables"] if isinstance(found, dict) else found
    return sorted(json.dumps(_still(one), sort_keys=True) for one in rows if one and "metainfo" not in one)


def _still(found: Any) -> Any:
    if isinstance(found, list):
        still = [_still(one) for one in found]
        return sorted(still, key=lambda one: json.dumps(one, sort_keys=True)) if _is_set(found) else still
    if not isinstance(found, dict):
        return found
    return {key: _still(one) for key, one in found.items() if not _MOVING.fullmatch(key)}


def _is_set(found: list[Any]) -> bool:
    """Whether a list has no order: the elements of a set, the addresses of a link."""
    return bool(found) and not (isinstance(found[0], dict) and found[0].keys() & {"match", "meta", "ct"})


def _sysctls() -> list[str]:
    lines = []
    for folder in _LINK_SYSCTLS:
        for link in Path("/proc/sys", folder).iterdir():
            with contextlib.suppress(OSError):  # a link that goes
                for path in link.iterdir():
                    with contextlib.suppress(OSError):
                        lines.append(f"{path} = {path.read_text().strip()}")
    lines.append(f"ip_forward = {Path('/proc/sys/net/ipv4/ip_forward').read_text().strip()}")
    return sorted(line for line in lines if "stable_secret" not in line)


def _files(root: Path) -> list[str]:
    lines = []
    for path in sorted(root.rglob("*")):
        if path.is_symlink():
            lines.append(f"{path} -> {os.readlink(path)}")
        elif path.is_dir() or path.name in ("pid", "log"):
            lines.append(str(path))
        elif os.path.ismount(path):
            lines.append(f"{path}: a namespace")
        else:
            lines.append(f"{path}: {path.read_text().rstrip()}")
    return lines


def _processes() -> list[str]:
    """Return the supervisors and commands that run on this host."""
    mine = f"ISTHMUS_LAB={os.environ['ISTHMUS_LAB']}".encode()
    found = []
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            if mine in environment and any(one.startswith(b"ISTHMUS_COMMAND=") for one in environment):
                found.append(Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode())
    return sorted(found)


def _connect(state: str) -> contextlib.AbstractContextManager[sqlite3.Connection] | None:
    path = f"{state}/state.db"
    if not os.path.exists(path) or not os.path.getsize(path):
        return None
    return contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10))


def _record(state: str) -> dict[str, list[str]]:
    opened = _connect(state)
    if opened is None:
        return {}
    with opened as db:
        if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'leases'").fetchall():
            return {}
        record = {table: _rows(db, table) for table in _TABLES}
        record["leases"] = _rows(db, "leases", "WHERE attachment IS NOT NULL")
        record["unconfirmed"] = [verb for (verb,) in db.execute("SELECT verb FROM journal WHERE phase = 'pending'")]
        found = db.execute("SELECT id, cookie FROM namespaces WHERE cookie").fetchall()
    record["cookies"] = [f"{name} has another cookie" for name, number in found if _cookie(name) != number]
    return {table: rows for table, rows in record.items() if rows}


def _rows(db: sqlite3.Connection, table: str, where: str = "") -> list[str]:
    db.row_factory = sqlite3.Row
    drawn = _DRAWN.get(table, ())
    rows = [dict(row) for row in db.execute(f"SELECT * FROM {table} {where}")]
    db.row_factory = None
    return sorted(repr({key: value for key, value in row.items() if key not in drawn}) for row in rows)


def pending(state: str) -> list[str]:
    """Return what the journal holds of calls, which a repair must have settled."""
    found = []
    with contextlib.suppress(FileNotFoundError):
        written = Path(state, "lock").read_bytes()
        size = int.from_bytes(written[:8], sys.byteorder)
        found = [" ".join(marshal.loads(written[8 : 8 + size])[:2])] if size else []
    opened = _connect(state)
    if opened is None:
        return found
    with opened as db, contextlib.suppress(sqlite3.OperationalError):  # not made yet
        rows = db.execute("SELECT verb, phase FROM journal WHERE phase <> 'pending'")
        found += [f"{verb} {phase}" for verb, phase in rows]
    return found


def _cookie(name: str) -> int | None:
    """Return the cookie of a named namespace, read by a thread that goes there and ends."""
    import ctypes
    import socket

    libc = ctypes.CDLL(None, use_errno=True)
    found: list[int] = []

    def look() -> None:
        with contextlib.suppress(OSError):
            fd = os.open(f"/run/netns/{name}", os.O_RDONLY)
            if libc.setns(fd, 0x40000000) == 0:
                with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
                    found.append(int.from_bytes(probe.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8), "little"))
            os.close(fd)

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    return found[0] if found else None


def difference(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Return the lines that are in one only, by section."""
    lines = []
    for section in before.keys() | after.keys():
        old, new = _lines(before.get(section, [])), _lines(after.get(section, []))
        lines += [f"{section} - {line[:300]}" for line in sorted(old - new)]
        lines += [f"{section} + {line[:300]}" for line in sorted(new - old)]
    return lines


def _lines(section: Any) -> set[str]:
    if isinstance(section, dict):
        return {f"{key}: {line}" for key, lines in section.items() for line in lines}
    return set(section)
