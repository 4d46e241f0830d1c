"""What goes with rows of a declaration that it owned and says no longer, and who else uses that."""

from __future__ import annotations

from isthmus.converge import Host
from isthmus.engine.faults import Faults
from isthmus.engine.networks import drop_networks, subject
from isthmus.errors import Refused
from isthmus.kernel.inhabitants import inhabitants
from isthmus.kernel.netns import RUN
from isthmus.kernel.processes import end
from isthmus.model.network import (
    Attachment,
    Command,
    DirectLink,
    Forwarding,
    LinkEnd,
    Namespace,
    Network,
    Publish,
    Record,
)
from isthmus.planner.desired import Scope
from isthmus.store.edit import Edit, namespace_edit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator
    from typing import Final

    OwnedRow = Network | Namespace | Attachment | Publish | DirectLink | Command | Forwarding

__all__ = ["OwnedRow", "check_inhabitants", "drop", "end_inhabitants", "rows_of"]

_PATIENCE_S: Final = 5.0
_KINDS: Final = {Publish: "publishes", Attachment: "attachments", Command: "commands"}


def rows_of(record: Record, owners: Collection[str] | None = None) -> Iterator[OwnedRow]:
    """Yield the rows that may belong to a declaration; those of some where `owners` is given."""
    tables = (
        record.networks,
        record.namespaces,
        record.attachments,
        record.publishes,
        record.links,
        record.commands,
        record.forwarding,
    )
    for table in tables:
        for row in table.values():
            if owners is None or row.owner in owners:
                yield row


def drop(host: Host, record: Record, rows: Iterable[OwnedRow], *, force: str | None) -> tuple[Edit, Scope]:
    """Return the edit that drops rows with all that hangs on them, and its scope.

    `force` None: what is not of the same declarations goes, too; else how to say that.

    Raises:
        Refused: something else hangs on a namespace, lives in one, or uses a network; `several` has each of these.
    """
    rows = list(rows)
    namespaces = frozenset(row.id for row in rows if isinstance(row, Namespace))
    networks = tuple(row.name for row in rows if isinstance(row, Network))
    drops, touched = [], set(namespaces)
    for row in rows:
        if isinstance(row, Publish | Attachment | Command):
            touched.add(row.namespace)
            drops.append((_KINDS[type(row)], row.id))
        elif isinstance(row, Forwarding):
            drops.append(("forwarding", row.id))
        elif isinstance(row, DirectLink):
            touched |= {row.a.namespace, row.b.namespace}
            drops.append(("links", row.id))
    gone = namespace_edit(record, *namespaces)
    touched |= {end.namespace for kind, key in gone.drops if kind == "links" for end in _ends(record.links[key])}
    edit = Edit(drops=tuple(drops)).plus(gone)
    faults = Faults()
    if force is not None:
        with faults.at(""):
            _check_users(record, namespaces, {row.owner for row in rows}, force)
    with faults.at(""):
        more, scope = drop_networks(host, edit.on(record), networks, namespaces, force=force)
    if force is not None:
        with faults.at(""):
            check_inhabitants(host, rows, force)
    faults.raise_any(bare=True)
    return edit.plus(more), Scope(host=True, namespaces=(scope.namespaces or frozenset()) | touched)


def _ends(link: DirectLink) -> tuple[LinkEnd, LinkEnd]:
    return link.a, link.b


def _check_users(record: Record, namespaces: frozenset[str], owners: set[str], force: str) -> None:
    """Check that nobody else has anything on namespaces.

    Raises:
        Refused: somebody has, and what.
    """
    users, used = [], set[str]()
    for row in rows_of(record):
        if row.owner in owners or isinstance(row, Network | Namespace | Forwarding):
            continue
        if isinstance(row, DirectLink):
            mine = namespaces & {row.a.namespace, row.b.namespace}
            what = f"the link of {row.a.namespace} to {row.b.namespace}"
        else:
            mine, what = namespaces & {row.namespace}, _what(row)
        if mine:
            used |= mine
            users.append(f"{what} ({f'of {row.owner}' if row.owner else 'by command'})")
    if users:
        raise Refused(
            f"{subject('namespace', sorted(used), 'is', 'are')} in use: {', '.join(users)}",
            users=tuple(users),
            hint=f"remove that first, or {force}",
        )


def _what(row: Attachment | Publish | Command) -> str:
    if isinstance(row, Attachment):
        return f"{row.namespace} on {row.network}"
    return f"{row.spec} of {row.namespace}" if isinstance(row, Publish) else f"the command of {row.namespace}"


def check_inhabitants(host: Host, rows: Iterable[OwnedRow], force: str) -> None:
    """Check that no process lives in a namespace that goes, but commands of ours.

    Raises:
        Refused: some do, and their pids.
    """
    found = _inhabitants(host, rows)
    if found:
        users = tuple(f"{pid} ({program})" for inside in found.values() for pid, program in inside)
        where = subject("namespace", list(found), "has", "have")
        raise Refused(f"{where} processes inside: {', '.join(users)}", users=users, hint=f"end them, or {force}")


def end_inhabitants(host: Host, rows: Iterable[OwnedRow]) -> None:
    """End the processes in namespaces that go; commands of ours are ended by the plan."""
    end([pid for inside in _inhabitants(host, rows).values() for pid, _ in inside], _PATIENCE_S)


def _inhabitants(host: Host, rows: Iterable[OwnedRow]) -> dict[str, list[tuple[int, str]]]:
    """Look into those that still have their names: where a name leads by now may be another one, even the host's."""
    named = [row for row in rows if isinstance(row, Namespace) and row.path == f"{RUN}/{row.id}"]
    host.access.know(named)
    held = {row.id: host.access.fd(row.id) for row in named if host.access.is_alive(row.id)}
    return inhabitants(host.commands_directory, held)
