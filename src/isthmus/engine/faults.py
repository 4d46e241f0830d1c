"""What of a declaration cannot be had here: gathered while its rows are chosen, raised as one error.

Each fault has for `field` its place in the declaration (`networks.br0.subnets[0]`), which is found in a file by
declare/places.py.
"""

from __future__ import annotations

from isthmus.errors import InvalidInput, IsthmusError, NotFound, Refused, Unsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Self

__all__ = ["Faults", "gathered"]


class Faults:
    """The faults found so far."""

    def __init__(self) -> None:
        self._found: list[IsthmusError] = []

    def at(self, place: str, *, whole: bool = False) -> Trial:
        """Begin a part that may fail by itself: its error is kept, and what follows the block goes on.

        What the error says of its field is below `place`; with `whole`, the place itself is meant.
        """

        def keep(error: IsthmusError) -> None:
            for one in error.several or (error,):
                below = "" if whole else one.field
                one.field = f"{place}.{below}" if place and below else place or below
                self._found.append(one)

        return Trial(keep)

    def raise_any(self, *, bare: bool = False) -> None:
        """Raise what was found, as one error that gathers it; with `bare` a single one as it is."""
        if bare and len(self._found) == 1:
            raise self._found[0]
        if self._found:
            raise gathered(self._found)


class Trial:
    """A block whose error is kept, where it is one of what was declared; `failed` tells whether there was one."""

    def __init__(self, keep: Callable[[IsthmusError], None]) -> None:
        self._keep = keep
        self.failed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if not isinstance(error, InvalidInput | Refused | NotFound | Unsupported):
            return False
        if error.field == "ISTHMUS_POOLS":
            return False  # the environment's, not the declaration's
        self._keep(error)
        self.failed = True
        return True


def gathered(found: Sequence[IsthmusError]) -> IsthmusError:
    """Make one error of several: of their class if they are of one, else InvalidInput."""
    text = "\n".join(f"{one.field}: {_why(one)}" if one.field else _why(one) for one in found)
    hint = "; ".join(dict.fromkeys(one.hint for one in found if one.hint))
    kinds, first = {type(one) for one in found}, found[0]
    error: IsthmusError
    if kinds == {Refused}:
        users = (user for one in found if isinstance(one, Refused) for user in one.users)
        error = Refused(text, users=tuple(dict.fromkeys(users)), hint=hint, field=first.field)
    elif kinds == {NotFound}:
        error = NotFound(text, hint=hint, field=first.field)
    elif isinstance(first, Unsupported) and len(kinds) == 1:
        error = Unsupported(first.feature, text, hint=hint)
    else:
        invalid = next((one for one in found if isinstance(one, InvalidInput)), None)
        value = invalid.value if invalid is not None else None
        error = InvalidInput((invalid or first).field, value, _why(invalid or first), hint=hint)
        error.message = text
        error.args = (text,)
    error.several = tuple(found)
    return error


def _why(error: IsthmusError) -> str:
    return f"{error.value!r}: {error.why}" if isinstance(error, InvalidInput) else error.message
