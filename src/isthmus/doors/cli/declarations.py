"""up, down, plan, repair: what a declared file says, and what is crooked."""

from __future__ import annotations

import os.path

from isthmus.declare import words
from isthmus.doors.cli.errors import Several, Usage
from isthmus.doors.cli.interrupt import end_at_interrupt, raise_at_interrupt
from isthmus.doors.cli.output import note, print_lines
from isthmus.doors.cli.report import CHANGES, say_before, tell, tell_json
from isthmus.errors import InvalidInput, IsthmusError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Final

    from isthmus.declare.places import Places
    from isthmus.doors.cli.parse import Given
    from isthmus.doors.cli.session import Session
    from isthmus.engine import Host
    from isthmus.model.declared import Declaration
    from isthmus.model.plan import Report

__all__ = ["VERBS", "declared_name"]

_DEFAULT: Final = "isthmus.yaml"


def _up(session: Session, given: Given) -> int:
    if given.has("plan"):
        return _plan(session, given)
    declaration, places = _read(_file(given))
    from isthmus.engine import up

    within = words.confirm_within(given.text("confirm-within"), "--confirm-within")
    restart = given.has("restart")
    try:
        report = session.change(
            lambda host: up(host, declaration, restart=restart, confirm_within=within, before=say_before)
        )
    except IsthmusError as error:
        raise _placed(error, places) from error.__cause__
    _tell(report, given)
    return 0


def _plan(session: Session, given: Given) -> int:
    declaration, places = _read(_file(given))
    from isthmus.engine import plan

    try:
        report = session.read(lambda host: plan(host, declaration), still=True)
    except IsthmusError as error:
        raise _placed(error, places) from error.__cause__
    _tell(report, given)
    return CHANGES if report.plan else 0


def _read(path: str) -> tuple[Declaration, Places]:
    """Load what reads files, and read one; Ctrl-C ends the process while it loads: its library would panic at one."""
    end_at_interrupt()
    from isthmus.declare.file import load_placed

    raise_at_interrupt()
    return load_placed(path)


def _file(given: Given) -> str:
    file = given.text("FILE") or _DEFAULT
    return "/dev/stdin" if file == "-" else file


def _placed(error: IsthmusError, places: Places) -> IsthmusError:
    """Give what cannot be had of a file its lines; any other error is what it was."""
    return Several(list(places.tell(error))) if error.several else error


def _tell(report: Report, given: Given) -> None:
    if given.text("format") == "json":
        tell_json(report)
    else:
        tell(report, given, totals=True)


def _down(session: Session, given: Given) -> int:
    from isthmus.engine import declarations, down

    wanted, force = given.text("NAME|FILE"), given.has("force")
    if given.has("all") and wanted is not None:
        raise Usage("down: has both a declaration and --all")
    within = words.confirm_within(given.text("confirm-within"), "--confirm-within")
    names = None if given.has("all") else [declared_name(wanted or _DEFAULT)]

    def remove(host: Host) -> Report:
        return down(host, *(names or declarations(host)), force=force, confirm_within=within)

    tell(session.change(remove, waits=True), given, totals=True)
    return 0


def declared_name(text: str) -> str:
    """Return the name of a declaration, given by it or by its file, which may have changed or gone."""
    if not os.path.isfile(text) and not text.endswith((".yaml", ".yml")):
        return text
    stem = os.path.splitext(os.path.basename(text))[0]
    if not os.path.isfile(text):
        return stem
    try:
        return _read(text)[0].name
    except InvalidInput:
        return _name_in(text) or stem


def _name_in(path: str) -> str:
    """Return what follows `name:` in a file that says something wrong elsewhere."""
    from isthmus.declare.nodes import Mapping, Scalar, compose

    with open(path, encoding="utf-8-sig", errors="replace") as file:
        root, _ = compose(file.read())
    entries = root.entries if isinstance(root, Mapping) else ()
    for key, value in entries:
        if key.text == "name" and isinstance(value, Scalar):
            return value.text
    return ""


def _repair(session: Session, given: Given) -> int:
    from isthmus.engine import rebuild, repair

    if given.has("rebuild"):
        from isthmus.doors.cli.session import check_rights

        check_rights()
        for one in rebuild():
            note(one)
    tell(session.change(repair, waits=True), given, totals=True)
    return 0


def _confirm(session: Session, given: Given) -> int:
    from isthmus.engine import confirm

    revert = given.has("revert")
    verb, notes = session.change(lambda host: (confirm(host, revert=revert), tuple(host.notes)))
    for one in notes:
        note(one)
    print_lines([f"{verb} was taken back" if revert else f"{verb} stays"])
    return 0


VERBS: Final[dict[str, Callable[[Session, Given], int]]] = {
    "up": _up,
    "down": _down,
    "plan": _plan,
    "repair": _repair,
    "confirm": _confirm,
}
