"""Whether this host forwards, now and after the next boot, for each family and link, and who says so.

A view as in listing.py; keys are documented in docs/json.md.
"""

from __future__ import annotations

from isthmus.converge import Host
from isthmus.engine.forwarding_words import known_links, needs, next_boot
from isthmus.engine.listing import read_record
from isthmus.kernel.facts import forwarding_links
from isthmus.kernel.sysctl import read_sysctl
from isthmus.model.network import Record
from isthmus.model.switches import SWITCHES, copied_family, link_switch
from isthmus.planner.forwarding import covers
from isthmus.planner.persisting import OWN_FILE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from isthmus.engine.listing import Json
    from isthmus.planner.persisting import Assignment

    Boot = dict[str, tuple[str, Assignment | None]]

__all__ = ["forwarding"]


def forwarding(host: Host, families: Iterable[int] = (4, 6), links: Iterable[str] = ()) -> list[Json]:
    """Return forwarding of the global switch (`all`), of `default` and of each link; of some only if named.

    Raises:
        NotFound: no link has a name.
    """
    record, scopes = read_record(host), ("all", "default")
    needed, boot, wanted = needs(host, record), next_boot(record), known_links(host, links, kept=scopes)
    return [
        _one(family, link, record, needed, boot)
        for family in families
        if read_sysctl(SWITCHES[family]) is not None
        for link in (*scopes, *forwarding_links(family))
        if not wanted or link in wanted
    ]


def _one(family: int, link: str, record: Record, needed: dict[str, tuple[str, ...]], boot: Boot) -> Json:
    values = {name: read_sysctl(name) for name in _deciding(family, link)}
    on = [name for name, value in values.items() if value == "1"]
    by = dict.fromkeys(who for name in on for who in _who(name, family, record, needed, boot))
    return {
        "family": family,
        "link": link,
        "on": bool(on),
        "by": list(by),
        "boot": _boot([boot.get(name, ("0", None)) for name in values]),
        "sysctls": {name: value for name, value in values.items() if value is not None},
    }


def _deciding(family: int, link: str) -> tuple[str, ...]:
    """Return the sysctls any of which makes a link forward, its own first."""
    if link == "all":
        return (SWITCHES[family],)
    return (link_switch(family, link),) if family == 4 else (link_switch(6, link), SWITCHES[6])


def _who(name: str, family: int, record: Record, needed: dict[str, tuple[str, ...]], boot: Boot) -> Iterator[str]:
    """Say who switched a sysctl on, where that can be known."""
    row = record.borrowed.get(name)
    bridges = {network.bridge for network in record.networks.values() if not network.adopted}
    is_ours = (row is not None and row.before != row.gave) or any(f"/{bridge}/" in name for bridge in bridges)
    if is_ours and name in needed:
        yield from needed[name]
    came_since = row is None and SWITCHES[family] in record.borrowed
    if copied_family(name) and covers(record, family) and (is_ours or came_since):
        yield from needed[SWITCHES[family]]
    elif not is_ours:
        value, line = boot.get(name, ("0", None))
        # By the switch, which is off by now; or by a line of ours that came when it was on.
        idle = line is not None and line.name in SWITCHES.values() and read_sysctl(line.name) != "1"
        idle = idle or (row is not None and line is not None and line.path == OWN_FILE)
        yield f"{line.path}:{line.line}" if line is not None and value == "1" and not idle else "somebody"


def _boot(found: list[tuple[str, Assignment | None]]) -> Json | None:
    """Return what files make of a link at the next boot; None: they say nothing."""
    said = [(value, line) for value, line in found if line is not None]
    for value, line in sorted(said, key=lambda one: one[0] != "1"):
        assert line is not None
        return {"on": value == "1", "file": line.path, "line": line.line}
    return None
