"""What a change does to the record beside its edit: cookies, values lent, freed addresses, tables that went."""

from __future__ import annotations

from isthmus.model.host import HostState
from isthmus.model.network import Attachment, Borrowed, Record
from isthmus.store.edit import Edit
from isthmus.store.sqlite import Database

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from isthmus.converge.host import Host

__all__ = ["freed", "lent_to", "no_longer_loaded", "note_made", "with_cookies", "writes_names"]


def with_cookies(record: Record, cookies: dict[str, int]) -> Edit:
    """Return the edit that puts down the cookies of namespaces that were just made."""
    rows = record.namespaces
    return Edit(puts=tuple(rows[name].replace(cookie=cookie) for name, cookie in cookies.items() if name in rows))


def note_made(db: Database, record: Record, namespace: str, cookie: int) -> None:
    """Write the cookie of a namespace down that is made again, lest it be taken for a stranger's after a kill.

    That of a new one is written by `settle`: a row without any stands for what has its name.
    """
    if namespace in record.namespaces:
        db.run("UPDATE namespaces SET cookie = ? WHERE id = ?", (cookie, namespace))


def writes_names(host: Host, edit: Edit, record: Record) -> Callable[[str], None]:
    """Return what writes down the names that a lease brings, as soon as it is there."""

    def write(namespace: str) -> None:
        from isthmus.converge.leases import write_names

        write_names(host, edit, record, namespace)

    return write


def freed(record: Record, edit: Edit) -> tuple[str, ...]:
    """Return what is to be cleared away later: the flows of addresses that the edit frees."""
    rows = [row for row in edit.puts if isinstance(row, Attachment) and row.id in record.attachments]
    gone = {key for kind, key in edit.drops if kind == "attachments"} | {row.id for row in rows}
    if not gone:
        return ()
    before = {address for key in gone & record.attachments.keys() for address in record.attachments[key].addresses}
    after = {address for row in rows for address in row.addresses}
    return tuple(f"flows {address}" for address in sorted(before - after, key=str))


def lent_to(record: Record, rows: dict[str, Borrowed]) -> Record:
    """Return a record with these borrowed values."""
    return record.replace(borrowed={**record.borrowed, **rows}) if rows else record


def no_longer_loaded(fingerprint: str | None, wanted: HostState) -> str | None:
    """Return what is left of a fingerprint without the tables that are not wished; None: all is.

    A call that was stopped when it had taken one away has left that on record.
    """
    known = fingerprint.split() if fingerprint else []
    kept = [one for one in known if ("ruleset", one.partition(":")[0]) in wanted]
    return " ".join(kept) if kept != known else None
