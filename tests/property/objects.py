"""Strategies for values, elements, host objects and rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from hypothesis import strategies as st

from isthmus.model.address import Address, AddressRange, Mac, Prefix
from isthmus.model.host import (
    HOST,
    Autoconf,
    Bridge,
    Directory,
    Element,
    File,
    HostObject,
    HostsLine,
    HostState,
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
from isthmus.model.network import (
    Attachment,
    Borrowed,
    Command,
    DirectLink,
    Forwarding,
    LinkEnd,
    Namespace,
    Network,
    Publish,
    Record,
    Row,
    Subnet,
    host_end,
)
from isthmus.model.ruleset import SETS

__all__ = ["ADDRESSES", "ELEMENTS", "JOINED", "MACS", "ROWS", "STATES", "TEXT", "address", "elements", "prefix"]


def address(family: int) -> st.SearchStrategy[Address]:
    return st.integers(0, 2 ** (32 if family == 4 else 128) - 1).map(
        lambda number: Address(family=family, number=number)
    )


def prefix(family: int, shortest: int = 0) -> st.SearchStrategy[Prefix]:
    bits = 32 if family == 4 else 128
    return st.builds(Prefix.around, address(family), st.integers(shortest, bits))


def _range(family: int) -> st.SearchStrategy[AddressRange]:
    """Return ranges of three to seven addresses that begin with an odd one, so that none is a prefix."""
    return st.builds(
        lambda one, more: AddressRange(
            first=Address(family=family, number=one.number >> 3 << 3 | 1),
            last=Address(family=family, number=(one.number >> 3 << 3) + more),
        ),
        address(family),
        st.integers(3, 7),
    )


ADDRESSES: Final = address(4) | address(6)
MACS: Final = st.binary(min_size=5, max_size=5).map(lambda tail: Mac(packed=b"\x02" + tail))
TEXT: Final = st.text(st.characters(exclude_characters="\0\r", codec="utf-8"), max_size=12)
NAMES: Final = st.text("abcdefghijklmnopqrstuvwxyz0123456789_.-", min_size=1, max_size=15)
_PARTS: Final[dict[str, st.SearchStrategy[Any]]] = {
    "ifname": NAMES,
    "ether_addr": MACS,
    "inet_proto": st.integers(0, 255),
    "inet_service": st.integers(0, 65535),
    "ipv4_addr": address(4),
    "ipv6_addr": address(6),
}
_RANGES: Final[dict[str, st.SearchStrategy[Any]]] = {
    **_PARTS,
    "ipv4_addr": prefix(4) | _range(4),
    "ipv6_addr": prefix(6) | _range(6),
}


def elements(name: str) -> st.SearchStrategy[Element]:
    kind = SETS[name]
    keys = _RANGES if kind.interval else _PARTS
    parts = st.tuples(*(keys[one] for one in kind.key))
    return st.builds(
        lambda key, data: Element(name=name, parts=key, data=data),
        parts,
        st.tuples(*(_PARTS[one] for one in kind.data)),
    )


ELEMENTS: Final = st.sampled_from(sorted(SETS)).flatmap(elements)
_SPACE: Final = st.sampled_from(("a", "b", "c"))
_LINK: Final = st.sampled_from(("br0", "br1", "eth0", "eth1"))
_PLACE: Final = st.sampled_from((HOST, "a", "b"))
_PATH: Final = st.sampled_from(("/etc/netns", "/etc/netns/a", "/etc/netns/a/hosts", "/run/isthmus/hosts/n"))


def _make(kind: Callable[..., HostObject], **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[HostObject]:
    return st.builds(kind, **fields)


# Of a small world, so that two states have much in common. Sysctls are those of links that are not ours: one of a
# bridge of ours comes and goes with it.
_OBJECTS: Final = (
    _make(NamedNetns, name=_SPACE)
    | _make(Directory, path=_PATH)
    | _make(File, path=_PATH.map(lambda path: f"{path}.d"), text=st.text(max_size=5))
    | _make(Symlink, path=_PATH.map(lambda path: f"{path}.l"), target=_PATH)
    | _make(HostsLine, path=_PATH, address=address(4), name=_SPACE)
    | _make(Sysctl, name=st.sampled_from(("net/ipv4/conf/up0/forwarding", "net/ipv4/ip_forward")), value=_SPACE)
    | _make(Bridge, name=_LINK, mac=MACS, mtu=st.integers(68, 70), alias=_SPACE)
    | _make(
        Veth,
        netns=_PLACE,
        name=st.sampled_from(("v0", "v1", "v2")),
        mac=MACS,
        mtu=st.integers(68, 70),
        alias=_SPACE,
        peer_netns=_SPACE,
        peer_name=_LINK,
        peer_mac=MACS,
        master=_LINK,
    )
    | _make(
        LinkAddress,
        netns=_PLACE,
        ifname=_LINK,
        address=st.builds(Address.parse, st.just("10.0.0.1")),
        length=st.integers(8, 9),
    )
    | _make(Autoconf, netns=_SPACE, ifname=_LINK, default_route=st.booleans())
    | _make(Unredirected, netns=_SPACE, ifname=_LINK)
    | _make(PinnedMac, bridge=_LINK, mac=MACS)
    | _make(Route, netns=_SPACE, prefix=st.just(Prefix(family=4, number=0, length=0)), via=address(4), ifname=_LINK)
    | _make(Rule, netns=_SPACE, priority=st.just(5), source=address(4), table=st.sampled_from((0, 1)))
    | _make(Process, netns=_SPACE, argv=st.tuples(_SPACE))
    | ELEMENTS
)


def _state(objects: list[HostObject]) -> HostState:
    """Return a state that can be: with elements there is their table."""
    state = {item.key: item for item in objects}
    for family in {SETS[item.name].family for item in objects if isinstance(item, Element)}:
        table = Ruleset(version="1", family=family)
        state[table.key] = table
    return state


STATES: Final = st.lists(_OBJECTS, max_size=14).map(_state)

_WORDS: Final = TEXT
_OWNER: Final = st.sampled_from(("", "file"))
_BOTH: Final = st.tuples(address(4), address(6)) | st.tuples(address(4)) | st.tuples(address(6)) | st.just(())
_SUBNETS: Final = st.lists(st.builds(Subnet, prefix=prefix(4) | prefix(6), gateway=st.none() | ADDRESSES), max_size=2)
_WITH_LENGTH: Final = st.tuples(address(4), st.integers(0, 32)) | st.tuples(address(6), st.integers(0, 128))
_END: Final = st.builds(
    LinkEnd,
    namespace=NAMES,
    ifname=NAMES,
    mac=MACS,
    addresses=st.lists(
        st.tuples(address(4), st.integers(0, 32)) | st.tuples(address(6), st.integers(0, 128)), max_size=3
    ).map(tuple),
)
ROWS: Final[st.SearchStrategy[Row]] = st.one_of(
    st.builds(
        Network,
        name=NAMES,
        bridge=NAMES,
        mac=st.none() | MACS,
        subnets=_SUBNETS.map(tuple),
        uplink=st.sampled_from(("nat", "routed", "none")),
        adopted=st.booleans(),
        snat=_BOTH,
        isolate_ports=st.booleans(),
        allow=st.frozensets(NAMES, max_size=3),
        mtu=st.integers(68, 65535),
        sequence=st.integers(0, 2**62),
        owner=_OWNER,
    ),
    st.builds(Namespace, id=_WORDS, path=_WORDS, cookie=st.integers(0, 2**63 - 1), made=st.booleans(), owner=_OWNER),
    st.builds(
        Attachment,
        id=NAMES,
        network=NAMES,
        namespace=_WORDS,
        ifname=NAMES,
        host_ifname=NAMES,
        mac=MACS,
        addresses=_BOTH,
        priority=st.none() | st.integers(-5, 2**62),
        sequence=st.integers(0, 2**62),
        owner=_OWNER,
    ),
    st.builds(
        Publish,
        id=_WORDS,
        namespace=_WORDS,
        host=st.none() | ADDRESSES,
        host_port=st.integers(1, 65535),
        port=st.integers(1, 65535),
        protocol=st.sampled_from(("tcp", "udp", "sctp")),
        count=st.integers(1, 4096),
        network=st.none() | NAMES,
        owner=_OWNER,
    ),
    st.builds(DirectLink, id=NAMES, a=_END, b=_END, mtu=st.integers(68, 65535), owner=_OWNER),
    st.builds(Command, namespace=_WORDS, argv=st.lists(_WORDS, min_size=1, max_size=4).map(tuple), owner=_OWNER),
    st.builds(
        Forwarding,
        family=st.sampled_from((4, 6)),
        link=st.just("") | NAMES,
        now=st.booleans(),
        persist=st.booleans(),
        uplinks=st.lists(NAMES, max_size=2).map(tuple),
        owner=_OWNER,
    ),
    st.builds(Borrowed, name=_WORDS, before=_WORDS, gave=_WORDS, switched=st.booleans()),
)


# Namespaces joined by networks and by direct links, of few names and addresses.

_NETWORKS: Final = {name: Prefix.parse(f"10.{number}.0.0/24") for number, name in enumerate("mn", 1)}
_IFNAME: Final = st.sampled_from(("v0", "v1", "v2"))
_INNER: Final = st.sampled_from([(Address.parse(f"10.9.0.{number}"), 29) for number in range(1, 5)])
_LINK_END: Final = st.builds(
    LinkEnd,
    namespace=_SPACE,
    ifname=_IFNAME,
    mac=st.just(Mac.parse("02:00:00:00:00:01")),
    addresses=st.lists(_INNER, max_size=2, unique=True).map(tuple),
)


@st.composite
def _attachment(draw: st.DrawFn) -> Attachment:
    network, space = draw(st.sampled_from(sorted(_NETWORKS))), draw(_SPACE)
    which = bytes((0, 0, 0, ord(network), ord(space)))
    return Attachment(
        id=which.hex(),
        network=network,
        namespace=space,
        ifname=draw(_IFNAME),
        host_ifname=host_end(which),
        mac=Mac.parse("02:00:00:00:00:02"),
        addresses=(_NETWORKS[network].address(_NETWORKS[network].number + draw(st.integers(2, 4))),),
        priority=0,
        sequence=0,
    )


def _direct(ends: tuple[LinkEnd, LinkEnd]) -> DirectLink:
    a, b = ends
    return DirectLink(id=f"{a.namespace}{a.ifname}{b.namespace}{b.ifname}", a=a, b=b, mtu=1500)


def _joined(rows: list[Attachment | DirectLink]) -> Record:
    """Return a record of the rows that can be together: no namespace has two links of one name."""
    taken: set[tuple[str, str]] = set()
    attachments, links = {}, {}
    for row in rows:
        ends = (row,) if isinstance(row, Attachment) else (row.a, row.b)
        names = {(end.namespace, end.ifname) for end in ends}
        if names & taken or (isinstance(row, Attachment) and row.id in attachments):
            continue
        taken |= names
        if isinstance(row, Attachment):
            attachments[row.id] = row
        else:
            links[row.id] = row
    networks = {
        name: Network(
            name=name,
            bridge=name,
            mac=Mac.parse("02:00:00:00:00:03"),
            subnets=(Subnet(prefix=prefix, gateway=prefix.address(prefix.number + 1)),),
        )
        for name, prefix in _NETWORKS.items()
    }
    spaces = {name: Namespace(id=name, path=f"/run/netns/{name}", made=True) for name in ("a", "b", "c")}
    record = Record.empty()
    return record.replace(networks=networks, namespaces=spaces, attachments=attachments, links=links)


_PAIRS: Final = st.tuples(_LINK_END, _LINK_END).filter(lambda ends: ends[0].namespace != ends[1].namespace)
JOINED: Final = st.lists(_attachment() | _PAIRS.map(_direct), max_size=6).map(_joined)
