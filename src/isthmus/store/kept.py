"""What interfaces carried when they moved to their bridges, as a stored fact: by bridge, in the kernel's own messages.

As bytes it is `marshal` of plain tuples, as an edit is (edit.py).
"""

from __future__ import annotations

import marshal

from isthmus.errors import StoreError
from isthmus.model.carried import Carried, Kept

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Final

__all__ = ["KEPT", "decode_kept", "encode_kept"]

KEPT: Final = "carried"


def encode_kept(kept: Mapping[str, Kept]) -> bytes | None:
    """Write it down; None: nothing is kept."""
    rows = {}
    for bridge, one in kept.items():
        items = [(item.kind, item.payload, item.arrival, since) for item, since in one.items]
        rows[bridge] = (one.index, one.name, items, one.moving)
    return marshal.dumps(rows, 2) if rows else None


def decode_kept(blob: bytes | None) -> dict[str, Kept]:
    """Read it back, without the words of what was carried.

    Raises:
        StoreError: it is not that.
    """
    try:
        found = {}
        for bridge, (index, name, items, moving) in (marshal.loads(blob) if blob else {}).items():
            kept = tuple((Carried(kind=kind, payload=data, arrival=how), since) for kind, data, how, since in items)
            found[bridge] = Kept(index=index, name=name, items=kept, moving=moving)
        return found
    except (ValueError, TypeError, EOFError, AttributeError) as cause:
        raise StoreError(f"state file: meta: {KEPT} makes no sense: {cause}") from cause
