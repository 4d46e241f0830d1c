"""Parts of the record: what a change of some namespaces must know, by index, whatever the number of others."""

from __future__ import annotations

from isthmus.model.address import Address, Prefix
from isthmus.model.host import ETC_NETNS
from isthmus.model.network import NAT, Record
from isthmus.store.sqlite import Database

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any, Final

__all__ = [
    "hosts_elsewhere",
    "load_networks",
    "load_slice",
    "perhaps_publishing",
    "publishes_elsewhere",
    "taken_addresses",
]


def load_networks(db: Database) -> Record:
    """Load what an attach of a namespace that is not on record must know: it is not ours, and nothing hangs on it."""
    nothing: Any = {}
    borrowed = db.seldom("borrowed")
    return Record(
        networks=db.seldom("networks"),
        namespaces=nothing,
        attachments=nothing,
        publishes=nothing,
        links=nothing,
        commands=nothing,
        forwarding=nothing,
        borrowed=borrowed,
        made_elsewhere=ETC_NETNS in borrowed,  # we made it: then one of ours may need it
    )


def load_slice(db: Database, namespaces: Sequence[str]) -> Record:
    """Load all networks, and these namespaces with all that hangs on them."""
    marks = ", ".join("?" * len(namespaces))
    ends = f"a_namespace IN ({marks}) OR b_namespace IN ({marks})"
    links = db.rows("links", ends, (*namespaces, *namespaces)) if db.has("links") else {}
    known = sorted({*namespaces, *(end.namespace for link in links.values() for end in (link.a, link.b))})
    inside = f"namespace IN ({marks})"
    return Record(
        networks=db.seldom("networks"),
        namespaces=db.rows("namespaces", f"id IN ({', '.join('?' * len(known))})", known),
        attachments=db.rows("attachments", inside, namespaces),
        publishes=db.rows("publishes", inside, namespaces),
        links=links,
        commands=db.rows("commands", inside, namespaces) if db.has("commands") else {},
        forwarding=db.seldom("forwarding"),
        borrowed=db.seldom("borrowed"),
        made_elsewhere=bool(db.all(f"SELECT 1 FROM namespaces WHERE made AND id NOT IN ({marks}) LIMIT 1", namespaces)),
        ends=frozenset(known).difference(namespaces),
    )


_PUBLISHERS: Final = (
    " FROM attachments a CROSS JOIN publishes p ON p.namespace = a.namespace"
    " WHERE a.network = ? AND a.namespace NOT IN ({marks})"
    " AND (p.network = a.network OR (p.network IS NULL AND a.namespace {} multihomed))"
)


def publishes_elsewhere(db: Database, network: str, namespaces: Iterable[str], *, loopback: bool) -> bool:
    """Whether a namespace outside the given ones surely publishes through a network (at 127.0.0.1 too)."""
    outside = sorted(namespaces)
    query = _PUBLISHERS.format("NOT IN", marks=", ".join("?" * len(outside)))
    if loopback:
        query += " AND (p.host IS NULL OR p.host LIKE '127.%')"
    return bool(db.all(f"SELECT 1{query} LIMIT 1", (network, *outside)))


def hosts_elsewhere(db: Database, hosts: Iterable[Address], namespaces: Iterable[str]) -> frozenset[Address]:
    """Return at which of these addresses of the host a namespace outside the given ones publishes, on networks nat."""
    known = {str(one): one for one in hosts}
    outside = sorted(namespaces)
    nat = [row.name for row in db.seldom("networks").values() if row.uplink == NAT]
    marks = [", ".join("?" * len(values)) for values in (known, outside, nat)]
    rows = db.all(
        "SELECT DISTINCT host FROM publishes p WHERE host IN ({0}) AND namespace NOT IN ({1})"
        " AND (network IN ({2}) OR (network IS NULL AND EXISTS ("
        "SELECT 1 FROM attachments a WHERE a.namespace = p.namespace AND a.network IN ({2}))))".format(*marks),
        (*known, *outside, *nat, *nat),
    )
    return frozenset(known[str(row[0])] for row in rows)


def perhaps_publishing(db: Database, network: str, namespaces: Iterable[str]) -> list[str]:
    """Return namespaces on several networks that may publish through this one: their default route decides."""
    outside = sorted(namespaces)
    query = _PUBLISHERS.format("IN", marks=", ".join("?" * len(outside)))
    return [str(row[0]) for row in db.all(f"SELECT DISTINCT a.namespace{query}", (network, *outside))]


def taken_addresses(db: Database, network: str, prefix: Prefix, low: int, high: int, now: float) -> frozenset[int]:
    """Return the numbers of a subnet from `low` to `high` that are leased or rest."""
    width = prefix.bits // 8
    rows = db.all(
        "SELECT address FROM leases WHERE network = ? AND address BETWEEN ? AND ? AND length(address) = ?"
        " AND (attachment IS NOT NULL OR rests_until > ?)",
        (network, low.to_bytes(width, "big"), high.to_bytes(width, "big"), width, now),
    )
    return frozenset(int.from_bytes(row[0], "big") for row in rows)
