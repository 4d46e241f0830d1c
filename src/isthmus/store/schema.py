"""The tables of the state file, and how rows of the record become rows of SQL and back.

Addresses are kept as text in lists, and as bytes in network order where they are searched by.
"""

from __future__ import annotations

from isthmus.errors import InvalidInput, StoreError
from isthmus.model.address import Address, Mac, Prefix
from isthmus.model.network import (
    ALL_RECORDS,
    Attachment,
    Borrowed,
    Command,
    DirectLink,
    Forwarding,
    LinkEnd,
    Namespace,
    Network,
    Publish,
    Row,
    Subnet,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Final

    SqlRow = tuple[Any, ...]

__all__ = [
    "APPLICATION_ID",
    "ENCODE",
    "KEYS",
    "LEASED",
    "MIGRATIONS",
    "SCHEMA",
    "UPSERT",
    "VERSION",
    "decode_row",
    "kind_of",
]

APPLICATION_ID: Final = 0x69737468  # "isth"
VERSION: Final = 5
# Stand before the addresses of an attachment: the families that are leased.
LEASED: Final = {"dhcp": 4, "dhcp6": 6}

_FORWARDING: Final = """forwarding (
    id TEXT PRIMARY KEY, family INT, link TEXT, now INT, persist INT, uplinks TEXT, owner TEXT) WITHOUT ROWID"""

SCHEMA: Final = f"""
CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE networks (
    name TEXT PRIMARY KEY, bridge TEXT UNIQUE, mac TEXT, subnets TEXT, uplink TEXT, adopted INT, snat TEXT,
    isolate_ports INT, allow TEXT, mtu INT, sequence INT, owner TEXT, transient INT) WITHOUT ROWID;
CREATE TABLE namespaces (id TEXT PRIMARY KEY, path TEXT, cookie INT, made INT, owner TEXT) WITHOUT ROWID;
CREATE INDEX namespaces_by_cookie ON namespaces (cookie);
CREATE INDEX namespaces_made ON namespaces (id) WHERE made;
CREATE TABLE attachments (
    id TEXT PRIMARY KEY, network TEXT, namespace TEXT, ifname TEXT, host_ifname TEXT, mac TEXT UNIQUE,
    addresses TEXT, priority INT, sequence INT, owner TEXT, UNIQUE (namespace, ifname)) WITHOUT ROWID;
CREATE INDEX attachments_by_network ON attachments (network, namespace);
CREATE TABLE publishes (
    id TEXT PRIMARY KEY, namespace TEXT, host TEXT, host_port INT, port INT, protocol TEXT, count INT,
    network TEXT, owner TEXT) WITHOUT ROWID;
CREATE INDEX publishes_by_namespace ON publishes (namespace);
CREATE INDEX publishes_by_port ON publishes (protocol, host_port);
CREATE INDEX publishes_of_ranges ON publishes (protocol, host_port) WHERE count > 1;
CREATE TABLE links (
    id TEXT PRIMARY KEY, a_namespace TEXT, a_ifname TEXT, a_mac TEXT, a_addresses TEXT,
    b_namespace TEXT, b_ifname TEXT, b_mac TEXT, b_addresses TEXT, mtu INT, owner TEXT) WITHOUT ROWID;
CREATE TABLE commands (namespace TEXT PRIMARY KEY, argv TEXT, owner TEXT, transient INT) WITHOUT ROWID;
CREATE INDEX commands_of_runs ON commands (namespace) WHERE transient;
CREATE TABLE {_FORWARDING};
CREATE TABLE borrowed (name TEXT PRIMARY KEY, before TEXT, gave TEXT, switched INT) WITHOUT ROWID;
CREATE TABLE leases (
    network TEXT, address BLOB, attachment TEXT, rests_until REAL, PRIMARY KEY (network, address)) WITHOUT ROWID;
CREATE TABLE cursors (network TEXT, family INT, address BLOB, PRIMARY KEY (network, family)) WITHOUT ROWID;
CREATE TABLE multihomed (namespace TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE journal (id INTEGER PRIMARY KEY, verb TEXT, phase TEXT, scope BLOB, redo BLOB, deadline REAL);
CREATE TABLE trash (what TEXT PRIMARY KEY) WITHOUT ROWID;
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {VERSION};
"""

# What leads from each version to the next one; a new column comes last, as it does in the tables above.
MIGRATIONS: Final = {
    1: (
        f"CREATE TABLE {_FORWARDING}",
        "ALTER TABLE networks ADD COLUMN transient INT",
        "ALTER TABLE commands ADD COLUMN transient INT",
        "CREATE INDEX commands_of_runs ON commands (namespace) WHERE transient",
    ),
    2: ("CREATE INDEX namespaces_made ON namespaces (id) WHERE made",),
    3: (),  # ids of publishes name their namespaces: rows keep theirs, but an older version would not find the new ones
    4: ("ALTER TABLE borrowed ADD COLUMN switched INT",),
}

COLUMNS: Final = {
    "networks": "name bridge mac subnets uplink adopted snat isolate_ports allow mtu sequence owner transient",
    "namespaces": "id path cookie made owner",
    "attachments": "id network namespace ifname host_ifname mac addresses priority sequence owner",
    "publishes": "id namespace host host_port port protocol count network owner",
    "links": "id a_namespace a_ifname a_mac a_addresses b_namespace b_ifname b_mac b_addresses mtu owner",
    "commands": "namespace argv owner transient",
    "forwarding": "id family link now persist uplinks owner",
    "borrowed": "name before gave switched",
}
KEYS: Final = {
    "networks": "name",
    "namespaces": "id",
    "attachments": "id",
    "publishes": "id",
    "links": "id",
    "commands": "namespace",
    "forwarding": "id",
    "borrowed": "name",
}


def _upsert(kind: str) -> str:
    key, *others = COLUMNS[kind].split()
    marks = ", ".join("?" * (len(others) + 1))
    # Not INSERT OR REPLACE: that would silently drop another row which has one of its unique values.
    values = ", ".join(f"{name} = excluded.{name}" for name in others)
    return f"INSERT INTO {kind} VALUES ({marks}) ON CONFLICT ({key}) DO UPDATE SET {values}"


UPSERT: Final = {kind: _upsert(kind) for kind in COLUMNS}
_KINDS: Final = {row: kind for kind, row in ALL_RECORDS.items()}


def kind_of(row: Row) -> str:
    """Return the name of the table that a row belongs to."""
    return _KINDS[type(row)]


def _subnet(one: Subnet) -> str:
    given = f",{one.range[0]},{one.range[1]}" if one.range is not None else ""
    return f"{one.prefix},{one.gateway or ''}{given}"


def _load_subnet(text: str) -> Subnet:
    prefix, gateway, *given = text.split(",")
    return Subnet(
        prefix=Prefix.parse(prefix),
        gateway=Address.parse(gateway) if gateway else None,
        range=(Address.parse(given[0]), Address.parse(given[1])) if given else None,
    )


def _network(row: Network) -> SqlRow:
    subnets = " ".join(map(_subnet, row.subnets))
    return (
        row.name,
        row.bridge,
        str(row.mac) if row.mac else None,
        subnets,
        f"{row.uplink}:{row.nic}:{row.dhcp}" if row.nic else row.uplink,
        int(row.adopted),
        " ".join(map(str, row.snat)),
        int(row.isolate_ports),
        " ".join(sorted(row.allow)),
        row.mtu,
        row.sequence,
        row.owner,
        int(row.transient),
    )


def _load_network(row: SqlRow) -> Network:
    uplink, nic, dhcp = (*row[4].split(":"), "", "")[:3]
    return Network(
        name=row[0],
        bridge=row[1],
        mac=Mac.parse(row[2]) if row[2] else None,
        subnets=tuple(map(_load_subnet, row[3].split())),
        uplink=uplink,
        nic=nic,
        dhcp=dhcp,
        adopted=bool(row[5]),
        snat=tuple(map(Address.parse, row[6].split())),
        isolate_ports=bool(row[7]),
        allow=frozenset(row[8].split()),
        mtu=row[9],
        sequence=row[10],
        owner=row[11],
        transient=bool(row[12]),
    )


def _attachment(row: Attachment) -> SqlRow:
    addresses = " ".join([*[word for word in LEASED if LEASED[word] in row.leased], *map(str, row.addresses)])
    return (
        row.id,
        row.network,
        row.namespace,
        row.ifname,
        row.host_ifname,
        str(row.mac),
        addresses,
        row.priority,
        row.sequence,
        row.owner,
    )


def _load_attachment(row: SqlRow) -> Attachment:
    words, leased = row[6].split(), []
    while words and words[0] in LEASED:
        leased.append(LEASED[words.pop(0)])
    return Attachment(
        id=row[0],
        network=row[1],
        namespace=row[2],
        ifname=row[3],
        host_ifname=row[4],
        mac=Mac.parse(row[5]),
        addresses=tuple(map(Address.parse, words)),
        leased=tuple(leased),
        priority=row[7],
        sequence=row[8],
        owner=row[9],
    )


def _forwarding(row: Forwarding) -> SqlRow:
    return (row.id, row.family, row.link, int(row.now), int(row.persist), " ".join(row.uplinks), row.owner)


def _load_forwarding(row: SqlRow) -> Forwarding:
    return Forwarding(
        family=row[1],
        link=row[2],
        now=bool(row[3]),
        persist=bool(row[4]),
        uplinks=tuple(row[5].split()),
        owner=row[6],
    )


def _publish(row: Publish) -> SqlRow:
    host = str(row.host) if row.host is not None else None
    return (
        row.id,
        row.namespace,
        host,
        row.host_port,
        row.port,
        row.protocol,
        row.count,
        row.network,
        row.owner,
    )


def _load_publish(row: SqlRow) -> Publish:
    return Publish(
        id=row[0],
        namespace=row[1],
        host=Address.parse(row[2]) if row[2] is not None else None,
        host_port=row[3],
        port=row[4],
        protocol=row[5],
        count=row[6],
        network=row[7],
        owner=row[8],
    )


def _end(end: LinkEnd) -> SqlRow:
    addresses = " ".join(f"{address}/{length}" for address, length in end.addresses)
    return (end.namespace, end.ifname, str(end.mac), addresses)


def _load_end(row: SqlRow) -> LinkEnd:
    addresses = []
    for text in row[3].split():
        address, prefix = Prefix.parse_host(text)
        addresses.append((address, prefix.length))
    return LinkEnd(namespace=row[0], ifname=row[1], mac=Mac.parse(row[2]), addresses=tuple(addresses))


def _load_link(row: SqlRow) -> DirectLink:
    return DirectLink(id=row[0], a=_load_end(row[1:5]), b=_load_end(row[5:9]), mtu=row[9], owner=row[10])


ENCODE: Final[dict[type, Callable[[Any], SqlRow]]] = {
    Network: _network,
    Namespace: lambda row: (row.id, row.path, row.cookie, int(row.made), row.owner),
    Attachment: _attachment,
    Publish: _publish,
    DirectLink: lambda row: (row.id, *_end(row.a), *_end(row.b), row.mtu, row.owner),
    Command: lambda row: (row.namespace, "\0".join(row.argv), row.owner, int(row.transient)),
    Forwarding: _forwarding,
    Borrowed: lambda row: (row.name, row.before, row.gave, int(row.switched)),
}
_DECODERS: Final[dict[str, Callable[[SqlRow], Row]]] = {
    "networks": _load_network,
    "namespaces": lambda row: Namespace(id=row[0], path=row[1], cookie=row[2], made=bool(row[3]), owner=row[4]),
    "attachments": _load_attachment,
    "publishes": _load_publish,
    "links": _load_link,
    "commands": lambda row: Command(
        namespace=row[0], argv=tuple(row[1].split("\0")), owner=row[2], transient=bool(row[3])
    ),
    "forwarding": _load_forwarding,
    "borrowed": lambda row: Borrowed(name=row[0], before=row[1], gave=row[2], switched=bool(row[3])),
}


def decode_row(kind: str, row: SqlRow) -> Row:
    """Turn a row of SQL into a row of the record.

    Raises:
        StoreError: the row makes no sense.
    """
    try:
        return _DECODERS[kind](row)
    except (InvalidInput, ValueError, TypeError, AttributeError, IndexError) as cause:
        raise StoreError(f"state file: table {kind}: row {row[0]!r} makes no sense: {cause}") from cause
