"""Links by their present names: bridges of ours get theirs back, what is borrowed of a link goes with it.

A sysctl has the name of its link, and moves with it. So the ifindex of each link that something is borrowed of is kept.
"""

from __future__ import annotations

from isthmus.converge.host import Host
from isthmus.model.host import HOST
from isthmus.model.network import Record
from isthmus.planner.borrowing import present
from isthmus.store.schema import ENCODE, UPSERT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["remember_links", "with_present_links"]


def remember_links(host: Host, borrowed: Iterable[str]) -> None:
    """Keep the ifindexes of the links that these sysctls are of."""
    names = dict.fromkeys(name.split("/")[3] for name in borrowed if name.count("/") == 4)
    links = [link for link in (host.access.link(HOST, name) for name in names) if link is not None]
    host.remember("links", " ".join(f"{link.name}/{link.index}" for link in links))


def with_present_links(host: Host, record: Record) -> Record:
    """Return a record that calls links by their present names, which is written down.

    An interface that is a port of a bridge of ours is known by its network's row.

    Raises:
        Refused: a bridge of ours was renamed, and is not given its name again.
    """
    if not all(host.access.has_link(HOST, one.bridge) for one in record.networks.values()):
        from isthmus.converge.amiss import name_bridges

        name_bridges(host, record)
    after = present(record, _renamed(host, record))
    rows = [row for name, row in after.borrowed.items() if record.borrowed.get(name) != row]
    if rows and host.writable:
        with host.db.transaction():
            for name in record.borrowed.keys() - after.borrowed.keys():
                host.db.run("DELETE FROM borrowed WHERE name = ?", (name,))
            for row in rows:
                host.db.run(UPSERT["borrowed"], ENCODE[type(row)](row))
        remember_links(host, after.borrowed)
    return after


def _renamed(host: Host, record: Record) -> dict[str, str]:
    known = str(host.db.meta("links") or "").split() if record.borrowed else []
    ports = {one.nic for one in record.networks.values()}
    found = {}
    for name, _, index in (one.partition("/") for one in known):
        link = host.access.link_at(HOST, int(index)) if name not in ports else None
        if link is not None and link.name != name:
            found[name] = link.name
    return found
