"""ls: the whole host at a glance."""

from __future__ import annotations

from isthmus.doors.cli.namespaces import namespace_table
from isthmus.doors.cli.networks import network_table, note_pending
from isthmus.doors.cli.output import note, print_json, print_lines, table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from isthmus.doors.cli.parse import Given
    from isthmus.doors.cli.session import Session
    from isthmus.engine.listing import Json

__all__ = ["show"]


def show(session: Session, given: Given) -> int:
    """Print networks, namespaces, published ports, direct links, forwarding and commands."""
    from isthmus.engine import overview

    found = session.read(overview.overview)
    if given.text("format") == "json":
        print_json(found)
        return 0
    note_pending(found["pending"])
    if found["unconfirmed"]:
        waits = found["unconfirmed"]
        when = f"in {waits['seconds']} s" if waits["seconds"] else "by the next changing call: it is overdue"
        note(f"{waits['verb']} waits for `isthmus confirm`: it is taken back {when}")
    for one in found["namespaces"]:
        if not one["alive"]:
            what = "makes it again, unless another has its name" if one["made"] else "clears what hung on it"
            note(f"namespace {one['name']} is gone: isthmus repair {what}")
    for row in found["ports"]:
        if row["bound_by"]:
            note(f"published port {row['spec']} has since been bound by {row['bound_by']}")
    print_lines(network_table(found["networks"]))
    for lines in (
        namespace_table(found["namespaces"]),
        _ports(found["ports"]),
        _links(found["links"]),
        _forwarding(found["forwarding"]),
        _commands(found["commands"]),
    ):
        print_lines(["", *lines] if len(lines) > 1 else [])
    return 0


def _ports(rows: list[Json]) -> list[str]:
    shown = [(str(row["spec"]), " ".join(row["targets"]), str(row["namespace"]), row["owner"] or "") for row in rows]
    return table(("PUBLISHED", "LEADS TO", "NAMESPACE", "OWNER"), shown)


def _links(rows: list[Json]) -> list[str]:
    shown = []
    for row in rows:
        a, b = (f"{end['ifname']} in {end['namespace']} {' '.join(end['addresses'])}".rstrip() for end in row["ends"])
        shown.append((a, b, row["owner"] or ""))
    return table(("LINK", "TO", "OWNER"), shown)


def _forwarding(rows: list[Json]) -> list[str]:
    shown = [
        (
            f"IPv{row['family']}",
            row["link"] or "all",
            "yes" if row["now"] else "no",
            "yes" if row["persist"] else "no",
            row["owner"] or "",
        )
        for row in rows
    ]
    return table(("FORWARDING", "LINK", "NOW", "AT BOOT", "OWNER"), shown)


def _commands(rows: list[Json]) -> list[str]:
    shown = []
    for row in rows:
        state = str(row["state"]) if row["exit_status"] is None else f"{row['state']} ({row['exit_status']})"
        shown.append((str(row["namespace"]), state, " ".join(row["argv"]), row["log"] or ""))
    return table(("NAMESPACE", "STATE", "COMMAND", "LOG"), shown)
