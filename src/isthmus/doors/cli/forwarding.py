"""forwarding: show it, or switch it on or off."""

from __future__ import annotations

from isthmus.declare import words
from isthmus.doors.cli.errors import Usage
from isthmus.doors.cli.networks import note_pending
from isthmus.doors.cli.output import print_json, print_lines, table
from isthmus.doors.cli.report import CHANGES, say_before, tell, tell_json
from isthmus.model.declared import ForwardingWish

TYPE_CHECKING = False
if TYPE_CHECKING:
    from isthmus.doors.cli.parse import Given
    from isthmus.doors.cli.session import Session
    from isthmus.engine.listing import Json

__all__ = ["run"]


def run(session: Session, given: Given) -> int:
    """Show forwarding, plan a change of it, or make one."""
    word = given.text("on|off")
    families = words.families(ipv4=given.has("ipv4"), ipv6=given.has("ipv6"))
    if word is None:
        idle = [name for name in ("persist", "plan", "show-commands", "verbose") if given.has(name)]
        if idle:
            raise Usage(f"forwarding: --{idle[0]} needs on or off")
        return _show(session, given, families)
    if word not in ("on", "off"):
        raise Usage(f"forwarding: {word!r} is neither on nor off", hint="isthmus forwarding --help")
    links = tuple(dict.fromkeys(words.known_ifname(one, "--link") for one in given.texts("link")))
    wish = ForwardingWish(families=families, links=links, persist=given.has("persist"))
    return _switch(session, given, wish, on=word == "on")


def _switch(session: Session, given: Given, wish: ForwardingWish, *, on: bool) -> int:
    from isthmus.engine import plan_forwarding, switch_forwarding

    if given.has("plan"):
        report = session.read(lambda host: plan_forwarding(host, wish, on=on))
    else:
        report = session.change(lambda host: switch_forwarding(host, wish, on=on, before=say_before))
    if given.text("format") == "json":
        tell_json(report)
    else:
        tell(report, given, totals=True)
    return CHANGES if given.has("plan") and report.plan else 0


def _show(session: Session, given: Given, families: tuple[int, ...]) -> int:
    from isthmus.engine import listing
    from isthmus.engine.forwarding_state import forwarding

    links = tuple(words.link_name(one, "--link") for one in given.texts("link"))
    found, pending = session.read(lambda host: (forwarding(host, families, links), listing.pending(host)))
    note_pending(pending)
    if given.text("format") == "json":
        print_json(found)
    else:
        print_lines(_table(found))
    return 0


def _table(found: list[Json]) -> list[str]:
    rows = [
        (
            f"IPv{one['family']}",
            str(one["link"]),
            "on" if one["on"] else "off",
            ", ".join(one["by"]),
            "" if one["boot"] is None else _boot(one["boot"]),
        )
        for one in found
    ]
    return table(("FAMILY", "LINK", "NOW", "BY", "AT BOOT"), rows)


def _boot(said: Json) -> str:
    return f"{'on' if said['on'] else 'off'} ({said['file']}:{said['line']})"
