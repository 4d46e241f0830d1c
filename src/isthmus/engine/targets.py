"""Which namespace a target means: a name, a path, a pid, or the id of what is attached; which network a name."""

from __future__ import annotations

from isthmus.converge import Host
from isthmus.errors import InvalidInput, NotFound
from isthmus.kernel.netns_locate import locate, locate_open
from isthmus.model.network import Namespace, Network, Record
from isthmus.planner.desired import Scope
from isthmus.store.edit import namespace_edit
from isthmus.store.slices import load_slice

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

__all__ = ["clear_gone", "find_namespace", "find_network", "locate_target", "scope_of"]


_ID_LENGTH: Final = 12  # of an attachment's id, hex digits


def scope_of(*namespaces: str) -> Scope:
    """Return the scope of some namespaces, without the host's part."""
    return Scope(host=False, namespaces=frozenset(namespaces))


def locate_target(host: Host, target: str) -> tuple[Namespace, bool]:
    """Find a living namespace; return its row, and whether it is on record.

    A row of that id with another cookie is of a namespace that is gone: what hung on it is cleared first.

    Raises:
        NotFound, InvalidInput, Refused: no such namespace, or the host's own.
    """
    path = target
    if len(target) == _ID_LENGTH or target.startswith("netns-"):
        path = _recorded_path(host, target) or target
    located, fd, route = locate_open(path)
    by_either = "id = ? UNION ALL SELECT * FROM namespaces WHERE cookie = ?"  # half the price of OR
    rows = host.db.rows("namespaces", by_either, (located.id, located.cookie))
    found = next((row for row in rows.values() if row.cookie == located.cookie), None)
    if found is None and rows:
        clear_gone(host, located.id)
    row = found or Namespace(id=located.id, path=located.path, cookie=located.cookie)
    host.access.know([row])
    host.access.adopt(row.id, fd, route)
    return row, found is not None


def _recorded_path(host: Host, target: str) -> str | None:
    """Return where the namespace of an attachment's id, or one without a name, was found."""
    attached = host.db.rows("attachments", "id = ?", (target,))
    name = attached[target].namespace if attached else target
    known = host.db.rows("namespaces", "id = ?", (name,))
    return known[name].path if known else None


def find_namespace(host: Host, target: str) -> Namespace:
    """Return the row of a namespace on record, dead or alive.

    Raises:
        NotFound: nothing of that target is on record.
    """
    rows = host.db.rows("namespaces", "id = ?", (target,))
    if rows:
        return rows[target]  # type: ignore[no-any-return]
    attached = host.db.rows("attachments", "id = ?", (target,))
    if attached:
        return find_namespace(host, attached[target].namespace)
    try:
        located = locate(target)
    except (NotFound, InvalidInput):
        raise NotFound(f"nothing is attached to {target!r}") from None
    by_cookie = host.db.rows("namespaces", "cookie = ?", (located.cookie,))
    if not by_cookie:
        raise NotFound(f"nothing is attached to {target!r}")
    return next(iter(by_cookie.values()))  # type: ignore[no-any-return]


def find_network(record: Record, name: str) -> Network:
    """Return the network of that name.

    Raises:
        NotFound: there is none.
    """
    found = record.networks.get(name)
    if found is None:
        raise NotFound(f"no network {name!r}", hint="isthmus network ls shows them")
    return found


def clear_gone(host: Host, namespace: str) -> None:
    """Clear what hangs on a namespace that is gone."""
    record = load_slice(host.db, [namespace])
    host.change("clear", namespace_edit(record, namespace), scope_of(namespace), leaving=True, record=record)
