"""ns create, ls, rm; exec."""

from __future__ import annotations

from isthmus.declare import words
from isthmus.doors.cli.output import print_json, print_lines, table
from isthmus.doors.cli.report import tell

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Final, NoReturn

    from isthmus.doors.cli.parse import Given
    from isthmus.doors.cli.session import Session
    from isthmus.engine.listing import Json

__all__ = ["VERBS", "execute", "namespace_table"]


def _create(session: Session, given: Given) -> int:
    from isthmus.engine import create_namespace

    name = words.namespace_name(given.word("NAME"), "NAME")
    tell(session.change(lambda host: create_namespace(host, name)), given)
    return 0


def _remove(session: Session, given: Given) -> int:
    from isthmus.engine import remove_namespace

    name, force = words.namespace_name(given.word("NAME"), "NAME"), given.has("force")
    tell(session.change(lambda host: remove_namespace(host, name, force=force), waits=True), given)
    return 0


def namespace_table(namespaces: list[Json]) -> list[str]:
    """Return namespaces as a table."""
    rows = [
        (
            str(one["name"]) + ("" if one["alive"] else " (gone)"),
            "yes" if one["made"] else "no",
            " ".join(one["networks"]),
            " ".join(one["addresses"]),
            str(one["processes"]),
            one["owner"] or "",
        )
        for one in namespaces
    ]
    return table(("NAME", "OURS", "NETWORKS", "ADDRESSES", "PROCESSES", "OWNER"), rows)


def _list(session: Session, given: Given) -> int:
    from isthmus.doors.cli.networks import note_pending
    from isthmus.engine import listing, overview

    found, pending = session.read(lambda host: (overview.namespaces(host), listing.pending(host)))
    note_pending(pending)
    if given.text("format") == "json":
        print_json(found)
    else:
        print_lines(namespace_table(found))
    return 0


def execute(session: Session, given: Given) -> NoReturn:
    """Become the command, inside the namespace."""
    from isthmus.engine import execute as become

    target = words.target(given.word("TARGET"), "TARGET")
    session.read(lambda host: become(host, target, given.command))


VERBS: Final[dict[str, Callable[[Session, Given], int]]] = {"create": _create, "ls": _list, "rm": _remove}
