"""network create, ls, inspect, rm."""

from __future__ import annotations

from isthmus.declare import check, words
from isthmus.doors.cli.errors import Several, Usage
from isthmus.doors.cli.output import note, print_json, print_lines, table
from isthmus.doors.cli.report import tell
from isthmus.engine import create_network, listing, remove_network
from isthmus.errors import InvalidInput
from isthmus.model.address import Prefix
from isthmus.model.declared import NetworkWish

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Final

    from isthmus.doors.cli.parse import Given
    from isthmus.doors.cli.session import Session
    from isthmus.engine.listing import Json
    from isthmus.model.address import Address

__all__ = ["VERBS", "network_wish"]


def network_wish(given: Given) -> NetworkWish:
    """Return what the options of `network create` wish for.

    Raises:
        InvalidInput, Usage, Several: they do not say it well.
    """
    bridge, mtu, dhcp = given.text("bridge"), given.text("mtu"), given.text("dhcp")
    uplink, nic = words.uplink(given.text("uplink") or "nat", "--uplink")
    wish = NetworkWish(
        name=words.network_name(given.word("NAME"), "NAME"),
        subnets=tuple(Prefix.parse(one, "--subnet") for one in given.texts("subnet")),
        gateways=_gateways(given),
        bridge=None if bridge is None else words.ifname(bridge, "--bridge"),
        uplink=uplink,
        nic=nic,
        dhcp=None if dhcp is None else words.dhcp(dhcp, "--dhcp"),
        ranges=tuple(words.address_range(one, "--range") for one in given.texts("range")),
        snat=words.addresses(given.texts("snat"), "--snat"),
        isolate_ports=given.has("isolate-ports"),
        allow=frozenset(words.network_name(one, "--allow") for one in given.texts("allow")),
        mtu=None if mtu is None else words.mtu(mtu, "--mtu"),
        allow_overlap=given.has("allow-overlap"),
    )
    faults = [InvalidInput(_option_of(one.field), one.value, one.why, hint=one.hint) for one in check.network(wish)]
    if faults:
        raise Several(list(faults))
    return wish


def _gateways(given: Given) -> tuple[Address, ...] | None:
    texts = given.texts("gateway")
    if given.has("no-gateway") or texts == ["none"]:
        if given.has("no-gateway") and texts:
            raise Usage("network create: has both --gateway and --no-gateway")
        return ()
    return words.addresses(texts, "--gateway") if texts else None


def _option_of(field: str) -> str:
    """Return the option that a field of the file is: subnets[0] -> --subnet."""
    name = field.partition("[")[0]
    return "--subnet" if name == "subnets" else f"--{name}"


def _create(session: Session, given: Given) -> int:
    wish = network_wish(given)
    within = words.confirm_within(given.text("confirm-within"), "--confirm-within")
    row, report = session.change(lambda host: create_network(host, wish, confirm_within=within))
    subnets = ", ".join(
        f"{one.prefix} (gateway {one.gateway})" if one.gateway is not None else str(one.prefix) for one in row.subnets
    )
    uplink = _uplink(row.uplink, row.nic)
    tell(report, given, more=[f"network {row.name}: {subnets}, uplink {uplink}, bridge {row.bridge}"])
    return 0


def _uplink(uplink: str, nic: str | None) -> str:
    """Return the way out as --uplink takes it."""
    return f"{uplink}:{nic}" if nic else uplink


def _remove(session: Session, given: Given) -> int:
    name, force = words.network_name(given.word("NAME"), "NAME"), given.has("force")
    within = words.confirm_within(given.text("confirm-within"), "--confirm-within")
    report = session.change(lambda host: remove_network(host, name, force=force, confirm_within=within), waits=True)
    tell(report, given)
    return 0


def network_table(networks: list[Json]) -> list[str]:
    """Return networks as a table."""
    rows = [
        (
            str(one["name"]),
            _bridge(one),
            " ".join(str(subnet["prefix"]) for subnet in one["subnets"]),
            _uplink(one["uplink"], one["nic"]),
            str(len(one["members"])),
            one["owner"] or "",
        )
        for one in networks
    ]
    return table(("NAME", "BRIDGE", "SUBNETS", "UPLINK", "MEMBERS", "OWNER"), rows)


def _bridge(one: Json) -> str:
    """Return the name of a network's bridge, and whether it is there."""
    return str(one["bridge"]) + ("" if one["present"] else " (missing)")


def note_pending(pending: list[Json]) -> None:
    """Say on stderr which calls have not settled what they began."""
    for verb in dict.fromkeys(str(one["verb"]) for one in pending):
        note(f"`{verb}` is under way, or died half-way: the next changing call puts it right")


def _list(session: Session, given: Given) -> int:
    found, pending = session.read(lambda host: (listing.networks(host), listing.pending(host)))
    note_pending(pending)
    if given.text("format") == "json":
        print_json(found)
    else:
        print_lines(network_table(found))
    return 0


def _inspect(session: Session, given: Given) -> int:
    name = given.word("NAME")
    found = session.read(lambda host: listing.inspect_network(host, name))
    if given.text("format") == "json":
        print_json(found)
        return 0
    note_pending(found["pending"])
    print_lines(_inspected(found))
    return 0


def _inspected(one: Json) -> list[str]:
    """Return all of a network for people."""
    facts = {
        "network": one["name"],
        "owner": one["owner"] or "none (made by command)",
        "bridge": f"{_bridge(one)}{' (adopted)' if one['adopted'] else ''}",
        "uplink": _uplink(one["uplink"], one["nic"]),
        "snat": " ".join(one["snat"]) or "-",
        "mtu": one["mtu"],
        "allow": " ".join(one["allow"]) or "-",
        "isolated": "yes" if one["isolate_ports"] else "no",
    }
    lines = [f"{key + ':':10}{value}" for key, value in facts.items()]
    lines += [f"{'subnet:':10}{sub['prefix']}, gateway {sub['gateway'] or 'none'}" for sub in one["subnets"]]
    for title, rows in (("route for the LAN's router", one["router_routes"]), ("changed and missing", one["missing"])):
        lines += ["", f"{title}:", *(f"  {row}" for row in rows)] if rows else []
    members = [
        (
            str(row["namespace"]) + ("" if row["alive"] else " (gone)"),
            str(row["ifname"]),
            str(row["host_ifname"]),
            " ".join(row["addresses"]),
            str(row["mac"]),
            " ".join(f"IPv{family}" for family in row["default_route"]),
            " ".join(row["publishes"]),
        )
        for row in one["members"]
    ]
    titles = ("NAMESPACE", "LINK", "HOST SIDE", "ADDRESSES", "MAC", "DEFAULT ROUTE", "PORTS")
    lines += ["", *table(titles, members)]
    held: dict[str, list[str]] = {}
    for row in one["elements"]:
        if row["present"]:
            held.setdefault(row["table"], []).append(row["text"])
    for title, texts in held.items():
        lines += ["", f"elements of table {title}:", *(f"  {text}" for text in texts)]
    borrowed = [f"{row['name']} {row['gave']} (before: {row['before']})" for row in one["borrowed"]]
    return lines + (["", "borrowed:", *(f"  {text}" for text in borrowed)] if borrowed else [])


VERBS: Final[dict[str, Callable[[Session, Given], int]]] = {
    "create": _create,
    "ls": _list,
    "inspect": _inspect,
    "rm": _remove,
}
