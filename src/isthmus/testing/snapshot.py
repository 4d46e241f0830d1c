"""The whole network state of a place as text, so that a test can compare before and after byte for byte.

What moves by itself is left out: counters, timers, handles, generation ids, learned neighbours and FDB
entries, dates. Lists whose order is the kernel's hashing are sorted.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

from isthmus.testing.place import Place

__all__ = ["snapshot"]

_JSON: Final = (
    ("ip", "-j", "-d", "addr", "show"),
    ("ip", "-j", "-d", "-4", "route", "show", "table", "all"),
    ("ip", "-j", "-d", "-6", "route", "show", "table", "all"),
    ("ip", "-j", "-4", "rule", "show"),
    ("ip", "-j", "-6", "rule", "show"),
    ("ip", "-j", "neigh", "show", "nud", "permanent"),
    ("ip", "-j", "neigh", "show", "proxy"),
    ("bridge", "-j", "-d", "link", "show"),
    ("bridge", "-j", "vlan", "show"),
)
_SAVES: Final = ("iptables-save", "ip6tables-save", "iptables-legacy-save", "ip6tables-legacy-save")
_MOVING: Final = re.compile(r".*_timer|.*_life_time|expires|handle|dynamic_neigh_lifetime")
# `grep -r ""` prints PATH:VALUE; what cannot be read (stable_secret that is not set) is skipped.
_SYSCTLS: Final = 'cd /proc/sys && exec grep -rs "" net/ipv4/conf net/ipv6/conf net/ipv4/ip_forward net/bridge'
_FILES: Final = """
for folder in /run/netns /etc/netns /etc/sysctl.d; do
    [ -d "$folder" ] && find "$folder" -mindepth 1 -printf '%y %m %p\\n'
    [ -d "$folder" ] && find "$folder" -type f -size -64k -exec grep -Hs '' {} +
done
true
"""


def snapshot(place: Place) -> str:
    """Return links, addresses, routes, rules, neighbours, bridge ports, firewall, sysctls and files as text.

    One object a line below a heading for each command, so that a difference reads well.
    """
    sections = [_section(" ".join(argv), _objects(place, *argv)) for argv in _JSON]
    fdb = json.loads(place.run("bridge", "-j", "fdb", "show").stdout or "[]")
    permanent = [_dump(one) for one in fdb if one.get("state") == "permanent"]
    sections.append(_section("bridge fdb show, permanent", sorted(permanent)))
    sections.append(_section("nft list ruleset", [_dump(one) for one in place.nft_json()]))
    sections += [_section(program, _saved(place, program)) for program in _SAVES]
    sections.append(_section("sysctls", sorted(place.run("sh", "-c", _SYSCTLS, check=False).stdout.splitlines())))
    sections.append(_section("files", sorted(place.run("sh", "-c", _FILES).stdout.splitlines())))
    return "".join(sections)


def _section(title: str, lines: list[str]) -> str:
    return "\n".join([f"== {title}", *lines, ""])


def _objects(place: Place, *argv: str) -> list[str]:
    found = json.loads(place.run(*argv).stdout or "[]")
    return sorted(_dump(one) for one in found if one)


def _saved(place: Place, program: str) -> list[str]:
    """Return what iptables-save prints, without dates and counters."""
    found = place.run("sh", "-c", 'command -v "$1" >/dev/null || exit 0; exec "$1"', "sh", program).stdout
    return [re.sub(r"\[\d+:\d+\]", "", line) for line in found.splitlines() if not line.startswith("#")]


def _dump(found: object) -> str:
    return json.dumps(_still(found), sort_keys=True)


def _still(found: object) -> object:
    """Return a copy without what moves by itself."""
    if isinstance(found, list):
        return [_still(one) for one in found]
    if not isinstance(found, dict):
        return found
    still: dict[str, Any] = {key: _still(one) for key, one in found.items() if not _MOVING.fullmatch(key)}
    if isinstance(still.get("counter"), dict):
        still["counter"] = {key: one for key, one in still["counter"].items() if key not in ("packets", "bytes")}
    if isinstance(still.get("elem"), list):
        still["elem"] = sorted(still["elem"], key=_dump)
    return still
