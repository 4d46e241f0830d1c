"""Declared files: plan, up, down. Each row that a declaration made bears its name."""

from __future__ import annotations

from isthmus.converge import Host
from isthmus.converge.pending import check_against
from isthmus.engine import confirming
from isthmus.engine.attachments import settle_ports
from isthmus.engine.declared import DeclaredEdit
from isthmus.engine.forwarding_words import effects, undone
from isthmus.engine.publishes import bound_notes, route_notes
from isthmus.engine.removing import drop, end_inhabitants, rows_of
from isthmus.errors import NotFound
from isthmus.model.declared import Declaration
from isthmus.model.network import Attachment, Record
from isthmus.model.plan import Plan, Report

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


__all__ = ["declarations", "down", "plan", "up"]


def declarations(host: Host) -> list[str]:
    """Return the names of the declarations that own something here, sorted."""
    record = host.record()
    return sorted({row.owner for row in rows_of(record) if row.owner})


def plan(host: Host, declaration: Declaration) -> Report:
    """Return what `up` would do; nothing is changed.

    Raises:
        Refused, InvalidInput, NotFound: what `up` would raise before it changes anything.
    """
    record = host.record()
    edit, scope = DeclaredEdit(host, declaration, record).edit()
    report = host.preview(edit, scope, record)
    after = edit.on(record)
    said = (*effects(host, report.plan), *undone(after)) if after.forwarding or record.forwarding else ()
    return report.replace(
        notes=(*report.notes, *said, *route_notes(host, after.networks.values()), *bound_notes(after))
    )


def up(
    host: Host,
    declaration: Declaration,
    *,
    restart: bool = False,
    confirm_within: int | None = None,
    before: Callable[[tuple[str, ...]], None] | None = None,
) -> Report:
    """Make the host as declared; what the same declaration owned and no longer says is removed.

    A second call finds nothing to do. With `restart`, commands that ended are started again. `confirm_within`:
    seconds in which it must be confirmed (confirming.py). `before` is told what a global switch of forwarding will
    do to links, before it is done.

    Raises:
        Refused, InvalidInput, NotFound: something cannot be had; the host is as before.
    """
    record = host.record()
    edit, scope = DeclaredEdit(host, declaration, record).edit()
    if restart:
        _clear_ended(host, record, declaration.name)
    after = edit.on(record)
    if before is not None and after.forwarding != record.forwarding:
        before(effects(host, host.preview(edit, scope, record).plan))
    host.declaration = declaration.name
    try:
        report = confirming.change(host, "up", edit, scope, record=record, within=confirm_within)
    finally:
        host.declaration = ""
    networks = after.networks
    fresh = [row for row in edit.puts if isinstance(row, Attachment) and row.id not in record.attachments]
    ports = [(row, networks[row.network]) for row in fresh if networks[row.network].adopted]
    routes = route_notes(host, networks.values())
    notes = (*settle_ports(host, ports), *undone(after), *routes, *bound_notes(after))
    return report.replace(notes=(*report.notes, *notes))


def _clear_ended(host: Host, record: Record, name: str) -> None:
    """Forget commands that ended, so that the plan misses them."""
    from isthmus.kernel.process import Ended, state, stop

    for row in record.commands.values():
        if row.owner == name and isinstance(state(host.commands_directory, row.namespace), Ended):
            stop(host.commands_directory, row.namespace, 5.0)


def down(host: Host, *names: str, force: bool = False, confirm_within: int | None = None) -> Report:
    """Remove exactly what declarations made.

    Raises:
        NotFound: nothing here belongs to one of them.
        Refused: others use a network of theirs, have something on a namespace or live in one; with `force` that goes
            with it, and processes are ended.
    """
    if not names:
        return Report(plan=Plan(steps=()))
    record = host.record()
    owned = list(rows_of(record, names))
    for name in names:
        if not any(row.owner == name for row in owned):
            raise NotFound(f"nothing here belongs to declaration {name!r}")
    edit, scope = drop(host, record, owned, force=None if force else "say --force")
    if force:
        if host.pending is not None:
            check_against(host.pending, edit, scope, record)
        end_inhabitants(host, owned)
    return confirming.change(host, "down", edit, scope, record=record, within=confirm_within, leaving=True)
