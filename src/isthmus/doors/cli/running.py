"""run, logs, stop: a command and its namespace."""

from __future__ import annotations

import os
import sys

from isthmus.declare import words
from isthmus.doors.cli.errors import INTERRUPTED
from isthmus.doors.cli.output import note, print_lines
from isthmus.engine import attend, clear_run, logs, run, stop
from isthmus.errors import IsthmusError
from isthmus.model.address import Address
from isthmus.model.declared import RunWish

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Final

    from isthmus.doors.cli.parse import Given
    from isthmus.doors.cli.session import Session
    from isthmus.engine.running import Ran
    from isthmus.model.plan import Report

__all__ = ["VERBS", "run_wish"]

_TIME_S: Final = 10.0


def run_wish(given: Given) -> RunWish:
    """Return what the options of `run` wish for.

    Raises:
        InvalidInput: they do not say it well.
    """
    name = given.text("name")
    ips, beyond = given.texts("ip"), given.has("allow-nonlocal")
    return RunWish(
        argv=given.command,
        name=None if name is None else words.namespace_name(name, "--name"),
        networks=tuple(words.network_name(one, "--network") for one in given.texts("network")),
        ips=tuple(Address.parse(one, "--ip") for one in ips if one not in words.DHCP),
        leased=words.leases(ips),
        publishes=tuple(words.publish(one, "--publish", allow_nonlocal=beyond) for one in given.texts("publish")),
        environment=_environment(given.texts("env-file"), given.texts("env")),
        foreground=not given.has("detach"),
    )


def _environment(files: list[str], texts: list[str]) -> tuple[str, ...]:
    if not files and not texts:
        return ()
    from isthmus.declare.environment import variables

    return variables(files, texts, os.environ)


def _run(session: Session, given: Given) -> int:
    wish = run_wish(given)
    ran = session.change(lambda host: run(host, wish, session.supervisor))
    if not wish.foreground:
        if given.has("show-commands") or given.has("verbose"):
            _tell(ran.report, given)
        else:
            print_lines([ran.name])
        return 0
    _tell_beside(ran, given)
    session.clear()
    status = attend(ran)
    try:
        session.change(lambda host: clear_run(host, ran.name))
    except IsthmusError as error:
        note(f"run {ran.name} has ended, and is not cleared: {error.message}")
    if status is None:
        raise IsthmusError(f"the supervisor of {ran.name} was killed: nobody knows how the command ended")
    return status


def _tell(report: Report, given: Given) -> None:
    from isthmus.doors.cli.report import tell  # a run that says nothing does not wait for it

    tell(report, given)


def _tell_beside(ran: Ran, given: Given) -> None:
    """Tell on stderr what was made and chosen: stdout is the command's."""
    stdout, sys.stdout = sys.stdout, sys.stderr
    try:
        if given.has("show-commands") or given.has("verbose"):
            _tell(ran.report, given)
        else:
            for text in ran.report.notes:
                note(text)
        sys.stderr.flush()
    finally:
        sys.stdout = stdout


def _logs(session: Session, given: Given) -> int:
    target, follow = words.target(given.word("TARGET"), "TARGET"), given.has("follow")
    try:
        for piece in session.read(lambda host: logs(host, target, follow=follow)):
            sys.stdout.buffer.write(piece)
            sys.stdout.buffer.flush()
    except KeyboardInterrupt:
        if not follow:
            raise
        return INTERRUPTED  # that is how one stops to follow
    return 0


def _stop(session: Session, given: Given) -> int:
    target, text = words.target(given.word("TARGET"), "TARGET"), given.text("time")
    time_s = _TIME_S if text is None else words.seconds(text, "--time")
    command, report = session.read(lambda host: stop(host, target, time_s))
    if command.transient:
        session.change(lambda host: clear_run(host, command.namespace))
    _tell(report, given)
    return 0


VERBS: Final[dict[str, Callable[[Session, Given], int]]] = {"run": _run, "logs": _logs, "stop": _stop}
