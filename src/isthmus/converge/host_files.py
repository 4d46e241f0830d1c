"""Files of the host that outlive a boot: those of namespaces, and that of the forwarding which is switched on then."""

from __future__ import annotations

from isthmus.errors import IsthmusError, Refused
from isthmus.kernel.files import drop_file, is_kept, link_target, read_file, read_text
from isthmus.kernel.netns_locate import cookie_alive
from isthmus.model.host import ETC_NETNS, Directory, File, Symlink
from isthmus.model.network import Forwarding
from isthmus.planner.persisting import OWN_FILE, own_rows
from isthmus.store.journal import forget_host

TYPE_CHECKING = False
if TYPE_CHECKING:
    from isthmus.converge.host import Host

__all__ = ["forget", "is_masked", "kept_forwarding"]


def forget(host: Host, boot_id: str, cookie: int) -> None:
    """Forget what was bound to a kernel that is gone, and take the files of its namespaces away.

    Raises:
        Refused: it is not gone; another network namespace of this boot, which lives, is what the state is of.
    """
    db = host.db
    known = db.meta("cookie")
    if db.meta("boot_id") == boot_id and isinstance(known, int) and cookie_alive(known):
        raise Refused(
            f"the state in {host.directory} is of another network namespace, which still lives",
            hint="work inside that namespace, or set ISTHMUS_STATE_DIR for this one",
        )
    try:
        for row in db.rows("namespaces", "made").values():
            _drop_names(f"{ETC_NETNS}/{row.id}")
        if ETC_NETNS in db.rows("borrowed"):
            drop_file(Directory(path=ETC_NETNS))
    except IsthmusError:
        pass  # a read-only /etc: they stay, and stop nobody
    forget_host(db, host.lock, boot_id, cookie, kept_forwarding(db.rows("forwarding")))


def _drop_names(directory: str) -> None:
    for name in ("hosts", "resolv.conf"):
        found = read_file(File(path=f"{directory}/{name}", text=""))
        if isinstance(found, File | Symlink) and is_kept(found):
            drop_file(found)
    drop_file(Directory(path=directory))


def kept_forwarding(rows: dict[str, Forwarding]) -> tuple[Forwarding, ...]:
    """Return the rows that outlive a boot: those that our file still says; it has switched them on."""
    said = own_rows(read_text(OWN_FILE))
    return tuple(row.replace(now=True) for row in rows.values() if row.persist and row.id in said)


def is_masked() -> bool:
    """Whether a symbolic link has the name of our file: an administrator's, who may mask it so."""
    return link_target(OWN_FILE) is not None
