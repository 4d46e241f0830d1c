"""The command `isthmus`: choose the verb, run it, say what went wrong, end with its status."""

from __future__ import annotations

import gc
import os
import sys

from isthmus.doors.cli.errors import INTERRUPTED, PIPE_BROKEN, Usage, run_status_of, say, status_of, unsaid
from isthmus.doors.cli.interrupt import raise_at_interrupt
from isthmus.doors.cli.parse import Given, choose, parse
from isthmus.errors import IsthmusError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from isthmus.doors.cli.session import Session
    from isthmus.kernel.launch import Supervisor

    Run = Callable[[Session, Given], int]

__all__ = ["main"]


def main() -> None:
    """Run the command line of this process; does not return."""
    if None in (sys.stdin, sys.stdout, sys.stderr):
        _open_closed()
    supervisor = _supervisor() if sys.argv[1:2] == ["run"] else None
    from isthmus.doors.cli.session import Session, end

    session = Session(supervisor)
    try:
        status = _finished(session, sys.argv[1:])
    except KeyboardInterrupt:
        status = INTERRUPTED
    end(status)


def _finished(session: Session, argv: Sequence[str]) -> int:
    """Run a command line, say how that went, and clear up behind it; what comes when a verb has ended is not said."""
    try:
        status = _written(_guarded(session, argv))
    except KeyboardInterrupt:
        status = INTERRUPTED
    session.clear()
    return status


def _written(status: int) -> int:
    """Write out what is buffered still; return the status then."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _drop_stdout()
        return status or PIPE_BROKEN
    except OSError as error:
        say(unsaid(error))
        _drop_stdout()
        return status or 1
    return status


def _open_closed() -> None:
    """Have what the caller closed lead nowhere, so that no other file gets its number."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115  it stays open


def _supervisor() -> Supervisor | None:
    """Start a supervisor for `run`, so that its interpreter starts while ours loads the engine."""
    from isthmus.kernel.launch import Supervisor

    try:
        return Supervisor()
    except (IsthmusError, OSError):
        return None  # then `run` tries again, and says why not


def _guarded(session: Session, argv: Sequence[str]) -> int:
    try:
        return _run(session, argv)
    except BrokenPipeError:
        _drop_stdout()
        return PIPE_BROKEN
    except KeyboardInterrupt as error:
        say(error)
        return INTERRUPTED
    except Exception as error:
        if os.environ.get("ISTHMUS_TRACEBACK"):
            raise
        say(error)
        if argv[:1] == ["run"]:
            return run_status_of(error)
        # `plan` tells changes by 2 and any error by 1.
        is_plan = argv[:1] == ["plan"] or (argv[:1] in (["up"], ["forwarding"]) and "--plan" in argv)
        return 1 if is_plan and not isinstance(error, Usage) else status_of(error)


def _drop_stdout() -> None:
    """Let what is still buffered go nowhere, so that the end is quiet."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, 1)
    os.close(devnull)


def _run(session: Session, argv: Sequence[str]) -> int:
    chosen = choose(argv)
    if isinstance(chosen, str):
        sys.stdout.write(f"{chosen}\n")
        return 0
    verb, words = chosen
    try:
        given = parse(verb, words)
    except SystemExit:  # --help
        return 0
    carry_out = _load(verb.words)
    gc.freeze()  # what is loaded stays
    gc.enable()
    raise_at_interrupt()  # from here on there may be something to undo
    return carry_out(session, given)


def _load(words: tuple[str, ...]) -> Run:
    """Import what carries a verb out, and nothing else."""
    match words:
        case ("attach" | "detach" | "connect" | "publish" | "unpublish" as name,):
            from isthmus.doors.cli import attachments

            return attachments.VERBS[name]
        case ("network", name):
            from isthmus.doors.cli import networks

            return networks.VERBS[name]
        case ("ns", name):
            from isthmus.doors.cli import namespaces

            return namespaces.VERBS[name]
        case ("exec",):
            from isthmus.doors.cli import namespaces

            return namespaces.execute
        case ("run" | "logs" | "stop" as name,):
            from isthmus.doors.cli import running

            return running.VERBS[name]
        case ("forwarding",):
            from isthmus.doors.cli import forwarding

            return forwarding.run
        case ("ls",):
            from isthmus.doors.cli import overview

            return overview.show
        case (name,):
            from isthmus.doors.cli import declarations

            return declarations.VERBS[name]
    raise AssertionError(words)
