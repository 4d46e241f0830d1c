"""What files of the host tell a change: the forwarding that is switched on at each boot."""

from __future__ import annotations

from isthmus.kernel.files import link_target, read_text
from isthmus.model.network import Forwarding
from isthmus.planner.persisting import OWN_FILE, own_rows

__all__ = ["is_masked", "kept_forwarding"]


def kept_forwarding(rows: dict[str, Forwarding]) -> tuple[Forwarding, ...]:
    """Return the rows that outlive a boot: those that our file still says; it has switched them on."""
    said = own_rows(read_text(OWN_FILE))
    return tuple(row.replace(now=True) for row in rows.values() if row.persist and row.id in said)


def is_masked() -> bool:
    """Whether a symbolic link has the name of our file: an administrator's, who may mask it so."""
    return link_target(OWN_FILE) is not None
