"""Which rows of direct links are what became of which wishes of a declaration: a link has no name to be known by."""

from __future__ import annotations

from isthmus.model.declared import LinkWish
from isthmus.model.network import DirectLink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["claims", "matched"]


def matched(rows: Iterable[DirectLink], wishes: Sequence[LinkWish]) -> dict[int, DirectLink]:
    """Return the row of each wish, by the wish's number; one without is not in it.

    Names that are asked for tell most, then equal addresses; a row is of one wish only.
    """
    fitting = [
        (-_likeness(row, wish), number, row) for row in rows for number, wish in enumerate(wishes) if _fits(row, wish)
    ]
    found: dict[int, DirectLink] = {}
    taken: set[str] = set()
    for _, number, row in sorted(fitting, key=lambda one: one[:2]):
        if number not in found and row.id not in taken:
            found[number] = row
            taken.add(row.id)
    return found


def claims(row: DirectLink, wish: LinkWish) -> bool:
    """Whether a wish is about the very link of a row: by its names, or, without them, by its addresses."""
    ends = ((row.a, wish.a), (row.b, wish.b))
    same = all(end.addresses == meant.addresses for end, meant in ends)
    return _fits(row, wish) and (same or all(meant.ifname is not None for _, meant in ends))


def _fits(row: DirectLink, wish: LinkWish) -> bool:
    return all(
        end.namespace == meant.namespace and meant.ifname in (None, end.ifname)
        for end, meant in ((row.a, wish.a), (row.b, wish.b))
    )


def _likeness(row: DirectLink, wish: LinkWish) -> int:
    ends = ((row.a, wish.a), (row.b, wish.b))
    return sum(10 * (meant.ifname is not None) + (end.addresses == meant.addresses) for end, meant in ends)
