"""Make and remove named network namespaces, and run commands in any."""

from __future__ import annotations

import os

from isthmus.converge import Host
from isthmus.engine.removing import check_inhabitants, end_inhabitants
from isthmus.engine.targets import locate_target, scope_of
from isthmus.errors import NotFound, Refused
from isthmus.kernel import netns as kernel_netns
from isthmus.kernel.facts import read_resolvers
from isthmus.kernel.netns_locate import locate
from isthmus.model.network import Namespace
from isthmus.model.plan import Report
from isthmus.planner.names import is_cut_off
from isthmus.store.edit import Edit, namespace_edit
from isthmus.store.slices import load_slice

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

__all__ = ["check_new_namespace", "claim_name", "create_namespace", "execute", "note_names", "remove_namespace"]


def check_new_namespace(name: str) -> None:
    """Check that a name is free under /run/netns.

    Raises:
        InvalidInput: not a name. Refused: somebody has it.
    """
    kernel_netns.check_name(name)
    if name in kernel_netns.named():
        raise Refused(f"network namespace {name} exists already")


def note_names(host: Host, *, files: bool = True) -> None:
    """Note, once, what names do not lead to in a namespace that is to be made; with `files`, of what it has none."""
    found = read_resolvers()
    notes = []
    if found is None:
        notes.append("/etc/netns cannot be written here: names inside are those of the host's /etc")
    else:
        lost = [path for path in ("/etc/hosts", "/etc/resolv.conf") if files and not os.path.exists(path)]
        notes += [f"the host has no {path}, or one that leads nowhere: inside there is none either" for path in lost]
        if is_cut_off(*found):
            notes.append("no resolver of the host's /etc/resolv.conf is reached from inside a namespace")
    host.notes += [text for text in notes if text not in host.notes]


def claim_name(host: Host, name: str) -> None:
    """Check that a name is free, and clear what hung on a namespace of that name that is gone."""
    check_new_namespace(name)
    record = load_slice(host.db, [name])
    if name in record.namespaces:
        host.change("clear", namespace_edit(record, name), scope_of(name), leaving=True, record=record)


def create_namespace(host: Host, name: str, *, owner: str = "") -> Report:
    """Make a named network namespace, `lo` up, as `ip netns add` does.

    Raises:
        Refused: the name is in use.
    """
    claim_name(host, name)
    note_names(host)
    row = Namespace(id=name, path=f"{kernel_netns.RUN}/{name}", made=True, owner=owner)
    return host.change("ns create", Edit(puts=(row,)), scope_of(name))


def remove_namespace(host: Host, name: str, *, force: bool = False) -> Report:
    """Remove a named namespace with all that is attached to it.

    Raises:
        NotFound: no such namespace.
        Refused: processes run inside (their pids), it belongs to a declaration, or we did not make it;
            unless `force`, which ends the processes.
    """
    kernel_netns.check_name(name)
    rows = host.db.rows("namespaces", "id = ?", (name,))
    present = name in kernel_netns.named()
    row = rows.get(name)
    if row is None and not present:
        raise NotFound(f"no network namespace {name!r}")
    if row is not None and row.owner and not force:
        raise Refused(f"namespace {name} belongs to declaration {row.owner}", hint=f"isthmus down {row.owner}")
    if (row is None or not row.made) and not force:
        raise Refused(
            f"network namespace {name} was not made by isthmus", hint=f"ip netns delete {name}, or say --force"
        )
    if row is None:
        row, _ = locate_target(host, name)
    record = load_slice(host.db, [name])
    is_run = name in record.commands and record.commands[name].transient
    if is_run and not force:
        raise Refused(f"network namespace {name} is that of a run", hint=f"isthmus stop {name}, or say --force")
    if present:
        if force:
            end_inhabitants(host, [row])
        else:
            check_inhabitants(host, [row], "say --force")
    if row.id not in record.namespaces or not row.made:
        record = Edit(puts=(row.replace(made=True),)).on(record)
    edit, scope = namespace_edit(record, name), scope_of(name)
    if is_run:
        from isthmus.converge.runs import run_edit

        edit, scope = run_edit(host, record, name)
    return host.change("ns rm", edit, scope, leaving=True, record=record)


def execute(host: Host, target: str, argv: Sequence[str]) -> NoReturn:
    """Become a command inside a namespace, as `ip netns exec` does; does not return."""
    from isthmus.kernel.netns_exec import execute as become

    known = _recorded(host, target) if os.path.exists(host.db.path) else None
    located = locate(known.path if known is not None and (not known.made or known.id != target) else target)
    become(located.path, argv)


def _recorded(host: Host, target: str) -> Namespace | None:
    """Return the row of a namespace by its own id, or by that of an attachment."""
    where = "id = ? OR id = (SELECT namespace FROM attachments WHERE id = ?)"
    rows = host.db.rows("namespaces", where, (target, target))
    return next(iter(rows.values()), None)
