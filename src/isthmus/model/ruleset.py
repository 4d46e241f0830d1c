"""Our two tables, `inet isthmus` and `bridge isthmus`: the names and types of their sets and maps.

Source: planner/ruleset.nft and bridge.nft (a test compares them); type names and widths are nft's, nft(8) DATA TYPES.
"""

from __future__ import annotations

from isthmus.model.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from isthmus.model.host import Element

__all__ = [
    "FAMILIES",
    "PORT_SETS",
    "PROTOCOLS",
    "PROTOCOL_NAMES",
    "RULESET",
    "SETS",
    "TABLE",
    "SetType",
    "element_command",
    "element_text",
]

TABLE: Final = "isthmus"
# The families that a table of ours is in, each with its text below planner/. The second is there while a network has
# isolated ports or is on an adopted bridge.
FAMILIES: Final = {"inet": "ruleset.nft", "bridge": "bridge.nft"}
# The static rulesets' version: blake2s of both texts, 8 bytes (a test compares them).
RULESET: Final = "97aa8c889a8a65f4"
# IANA protocol numbers.
PROTOCOLS: Final = {"tcp": 6, "udp": 17, "sctp": 132}
PROTOCOL_NAMES: Final = {number: name for name, number in PROTOCOLS.items()}


# The sets that steer packets to an attachment; all others are of a network.
PORT_SETS: Final = frozenset({"port4", "port6", "anyport4", "anyport6", "open4", "open6"})


class SetType(Value):
    """A set's key types, a map's data types (empty: a set), whether its keys are intervals, its table's family."""

    key: tuple[str, ...]
    data: tuple[str, ...] = ()
    interval: bool = False
    family: str = "inet"


_IF, _MAC, _A4, _A6, _PROTO, _PORT = "ifname", "ether_addr", "ipv4_addr", "ipv6_addr", "inet_proto", "inet_service"

SETS: Final[dict[str, SetType]] = {
    "bridges": SetType(key=(_IF,)),
    "adopted": SetType(key=(_IF,)),
    "lan": SetType(key=(_IF,)),
    "lan_me": SetType(key=(_IF, _MAC)),
    "has_exit": SetType(key=(_IF,)),
    "no_exit": SetType(key=(_IF,)),
    "routed": SetType(key=(_IF,)),
    "self": SetType(key=(_IF, _IF)),
    "isolated": SetType(key=(_IF, _IF)),
    "pairs": SetType(key=(_IF, _IF)),
    "gateways4": SetType(key=(_A4,)),
    "gateways6": SetType(key=(_A6,)),
    "gateway_of4": SetType(key=(_A4, _IF)),
    "gateway_of6": SetType(key=(_A6, _IF)),
    "onlink4": SetType(key=(_IF, _A4), interval=True),
    "onlink6": SetType(key=(_IF, _A6), interval=True),
    "closed4": SetType(key=(_A4,), interval=True),
    "closed6": SetType(key=(_A6,), interval=True),
    "masq4": SetType(key=(_A4,), interval=True),
    "masq6": SetType(key=(_A6,), interval=True),
    "snat4": SetType(key=(_A4,), data=(_A4,), interval=True),
    "snat6": SetType(key=(_A6,), data=(_A6,), interval=True),
    "port4": SetType(key=(_A4, _PROTO, _PORT), data=(_A4, _PORT)),
    "port6": SetType(key=(_A6, _PROTO, _PORT), data=(_A6, _PORT)),
    "anyport4": SetType(key=(_PROTO, _PORT), data=(_A4, _PORT)),
    "anyport6": SetType(key=(_PROTO, _PORT), data=(_A6, _PORT)),
    "own4": SetType(key=(_A4, _A4)),
    "own6": SetType(key=(_A6, _A6)),
    "open4": SetType(key=(_A4, _PROTO, _PORT)),
    "open6": SetType(key=(_A6, _PROTO, _PORT)),
    "apart": SetType(key=(_IF,), family="bridge"),
    "members": SetType(key=(_IF, _MAC), family="bridge"),
    "guarded": SetType(key=(_IF,), family="bridge"),
    "inside4": SetType(key=(_A4,), interval=True, family="bridge"),
    "inside6": SetType(key=(_A6,), interval=True, family="bridge"),
    "inwards": SetType(key=(_MAC,), data=(_MAC,), family="bridge"),
    "outwards": SetType(key=(_IF,), data=(_MAC,), family="bridge"),
}


def element_command(verb: str, item: Element) -> str:
    """Return the line of nft that adds or deletes (`verb`) an element of a table of ours."""
    item = item if verb == "add" else item.replace(data=())
    return f"{verb} element {SETS[item.name].family} {TABLE} {element_text(item)}"


def element_text(item: Element) -> str:
    """Return an element as nft writes it behind its table."""
    kind = SETS[item.name]
    text = " . ".join(_part(name, part) for name, part in zip(kind.key, item.parts, strict=True))
    if item.data:
        text += " : " + " . ".join(_part(name, part) for name, part in zip(kind.data, item.data, strict=True))
    return f"{item.name} {{ {text} }}"


def _part(kind: str, part: object) -> str:
    if kind == "ifname":
        return f'"{part}"'
    if kind == "inet_proto" and isinstance(part, int):
        return PROTOCOL_NAMES.get(part, str(part))
    return str(part)
