"""The verbs that are seldom called, or wait anyway: their modules are loaded when they are.

Finding and running a module costs some 0.2 ms; what an attach does not need, it does not load.
"""

from __future__ import annotations

from isthmus.converge import Host
from isthmus.model.plan import Report

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import NoReturn

    from isthmus.engine.running import Ran
    from isthmus.kernel.launch import Supervisor
    from isthmus.model.declared import Declaration, ForwardingWish, NetworkWish, RunWish
    from isthmus.model.network import Command, Network

__all__ = [
    "attend",
    "clear_run",
    "commands",
    "confirm",
    "create_namespace",
    "create_network",
    "declarations",
    "down",
    "execute",
    "leave_to_child",
    "logs",
    "plan",
    "plan_forwarding",
    "reap",
    "rebuild",
    "remove_namespace",
    "remove_network",
    "repair",
    "run",
    "stop",
    "switch_forwarding",
    "up",
]


def create_namespace(host: Host, name: str) -> Report:
    """Make a named network namespace, `lo` up, as `ip netns add` does (namespaces.py)."""
    from isthmus.engine import namespaces

    return namespaces.create_namespace(host, name)


def remove_namespace(host: Host, name: str, *, force: bool = False) -> Report:
    """Remove a named namespace with all that is attached to it (namespaces.py)."""
    from isthmus.engine import namespaces

    return namespaces.remove_namespace(host, name, force=force)


def execute(host: Host, target: str, argv: Sequence[str]) -> NoReturn:
    """Become a command inside a namespace, as `ip netns exec` does (namespaces.py)."""
    from isthmus.engine import namespaces

    namespaces.execute(host, target, argv)


def create_network(host: Host, wish: NetworkWish, *, confirm_within: int | None = None) -> tuple[Network, Report]:
    """Make a network (networks.py)."""
    from isthmus.engine import networks

    return networks.create_network(host, wish, confirm_within=confirm_within)


def remove_network(host: Host, name: str, *, force: bool = False, confirm_within: int | None = None) -> Report:
    """Take a network away (networks.py)."""
    from isthmus.engine import networks

    return networks.remove_network(host, name, force=force, confirm_within=confirm_within)


def reap(directory: str) -> None:
    """Clear away what waits: dead links, flows of freed addresses, the log of the state file (reaper.py)."""
    from isthmus.engine import reaper

    reaper.reap(directory)


def leave_to_child(directory: str) -> None:
    """Leave the reaping to a process of its own, which outlives this one (reaper.py)."""
    from isthmus.engine import reaper

    reaper.leave_to_child(directory)


def up(
    host: Host,
    declaration: Declaration,
    *,
    restart: bool = False,
    confirm_within: int | None = None,
    before: Callable[[tuple[str, ...]], None] | None = None,
) -> Report:
    """Make the host as declared (declaring.py)."""
    from isthmus.engine import declaring

    return declaring.up(host, declaration, restart=restart, confirm_within=confirm_within, before=before)


def plan(host: Host, declaration: Declaration) -> Report:
    """Return what `up` would do; nothing is changed (declaring.py)."""
    from isthmus.engine import declaring

    return declaring.plan(host, declaration)


def down(host: Host, *names: str, force: bool = False, confirm_within: int | None = None) -> Report:
    """Remove exactly what declarations made (declaring.py)."""
    from isthmus.engine import declaring

    return declaring.down(host, *names, force=force, confirm_within=confirm_within)


def confirm(host: Host, *, revert: bool = False) -> str:
    """Let the pending change stand, or take it back now (confirming.py)."""
    from isthmus.engine import confirming

    return confirming.confirm(host, revert=revert)


def declarations(host: Host) -> list[str]:
    """Return the names of the declarations that own something here, sorted."""
    from isthmus.engine import declaring

    return declaring.declarations(host)


def switch_forwarding(
    host: Host, wish: ForwardingWish, *, on: bool, before: Callable[[tuple[str, ...]], None] | None = None
) -> Report:
    """Switch forwarding on or off, now and where wished at each boot (forwarding.py)."""
    from isthmus.engine import forwarding

    return forwarding.switch_forwarding(host, wish, on=on, before=before)


def plan_forwarding(host: Host, wish: ForwardingWish, *, on: bool) -> Report:
    """Return what `switch_forwarding` would do; nothing is changed (forwarding.py)."""
    from isthmus.engine import forwarding

    return forwarding.plan_forwarding(host, wish, on=on)


def repair(host: Host) -> Report:
    """Bring the whole host to the record (mending.py)."""
    from isthmus.engine import mending

    return mending.repair(host)


def rebuild(directory: str | None = None) -> tuple[str, ...]:
    """Make the record anew from the marks in the kernel, before a `repair`; return what to note (rebuilding.py)."""
    from isthmus.engine import rebuilding

    return rebuilding.rebuild(directory)


def run(host: Host, wish: RunWish, supervisor: Supervisor | None = None) -> Ran:
    """Make a namespace and start a command in it; all of it goes when the command ends (running.py)."""
    from isthmus.engine import running

    return running.run(host, wish, supervisor)


def attend(ran: Ran) -> int | None:
    """Wait for a run in the foreground, passing signals on; return the command's exit status (running.py)."""
    from isthmus.engine import running

    return running.attend(ran)


def clear_run(host: Host, name: str) -> Report | None:
    """Clear a run that has ended; None: there is none (converge/runs.py)."""
    from isthmus.converge import runs

    return runs.clear_run(host, name)


def stop(host: Host, target: str, timeout_s: float) -> tuple[Command, Report]:
    """End a command with all its descendants; takes a reading host (running.py)."""
    from isthmus.engine import running

    return running.stop(host, target, timeout_s)


def logs(host: Host, target: str, *, follow: bool = False) -> Iterator[bytes]:
    """Return what a command has written, in pieces; takes a reading host (running.py)."""
    from isthmus.engine import running

    return running.logs(host, target, follow=follow)


def commands(report: Report) -> tuple[str, str]:
    """Return the script of a report's plan, and the script that undoes it (script.py)."""
    from isthmus.engine import script

    return script.commands(report)
