"""Where the fields of a file stand, and what is wrong there, said with file, line and field.

Objections come from the file's shape (file.py), from what it says together (check.py), and from the engine,
which names a field as check.py does and knows nothing of lines.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from isthmus.declare.nodes import Mapping, Node, NodeProblem, Scalar, Sequence, join
from isthmus.declare.shapes import AttachmentShape, ForwardingShape, NetworkShape, PublishShape
from isthmus.errors import InvalidInput, IsthmusError

__all__ = ["Places", "Problem", "in_keys"]

_OPTION: Final = re.compile(r"--([a-z0-9]+(?:-[a-z0-9]+)*)( ?)")
# Every option of the command line is a key of the same name; those that are said to be true there.
_KEYS: Final = {
    field.alias or name: field.annotation is bool
    for shape in (NetworkShape, AttachmentShape, PublishShape, ForwardingShape)
    for name, field in shape.model_fields.items()
}


def in_keys(hint: str) -> str:
    """Say a hint in keys of the file where it names options; one that tells a command stays as it is."""
    if "isthmus " in hint:
        return hint

    def key(found: re.Match[str]) -> str:
        name, space = found.groups()
        if name not in _KEYS:
            return found[0]
        if _KEYS[name]:
            return f"{name}: true{space}"
        return f"{name}: " if space else name

    return _OPTION.sub(key, hint)


class Problem(NodeProblem):
    """One thing that is wrong, of whatever kind, and in which file."""

    source: str

    def __str__(self) -> str:
        said = [f"{self.source}:{self.line}:{self.column}", self.field, self.value, self.why]
        return ": ".join(part for part in said if part)


class Places:
    """Where each field of a file stands, found by the name that the shape or the check calls it by.

    `gone` are items of lists, as written, that are left out: what follows them is called by a lower number.
    """

    def __init__(self, root: Node, source: str, gone: frozenset[str] = frozenset()) -> None:
        self._root = root
        self._source = source
        self._gone = gone
        self._marks: dict[str, tuple[str, int, int]] = {}
        self._keys: dict[str, tuple[str, int, int]] = {}
        self._note(root, "", "")

    def _note(self, node: Node, called: str, written: str) -> None:
        self._marks.setdefault(called, (written, node.line, node.column))
        if isinstance(node, Mapping):
            for key, value in node.entries:
                at = join(called, key.text)
                if key.text == "subnet":
                    at = join(called, "subnets")
                    self._marks.setdefault(join(called, "subnet"), (join(written, "subnet"), key.line, key.column))
                self._keys.setdefault(at, (join(written, key.text), key.line, key.column))
                self._note(value, at, join(written, key.text))
                # An objection to a whole collection is shown at its key.
                if not isinstance(value, Scalar):
                    self._marks[at] = (join(written, key.text), key.line, key.column)
        elif isinstance(node, Sequence):
            kept = [index for index in range(len(node.items)) if join(written, index) not in self._gone]
            for place, index in enumerate(kept):
                value = node.items[index]
                self._note(value, join(called, place), join(written, index))
                if isinstance(value, Sequence):  # a link written as its two ends
                    for side, end in enumerate(value.items):
                        self._note(end, join(f"{join(called, place)}.ends", side), join(join(written, index), side))
                if isinstance(value, Scalar) and called.endswith(".networks"):
                    self._note(value, join(called, value.text), join(written, index))

    def without(self, fields: Iterable[str]) -> Places:
        """Return the places where these fields are left out, too; those that are no items of lists change nothing."""
        gone = frozenset(self.find(field)[0] for field in fields if field.endswith("]"))
        return Places(self._root, self._source, self._gone | gone) if gone else self

    def key(self, field: str) -> tuple[str, int, int]:
        """Return the field as written, line and column of its key."""
        single = field.replace("[0]", "")  # one item that stands for a list
        return self._keys.get(field) or self._keys.get(single) or self.find(field)

    def find(self, field: str) -> tuple[str, int, int]:
        """Return the field as written, line and column; of a field that is not written, its holder's."""
        while field not in self._marks:
            single = field.replace("[0]", "")
            if single in self._marks:
                return self._marks[single]
            field = field[: max(field.rfind("."), field.rfind("["), 0)]
        return self._marks[field]

    def tell(self, error: IsthmusError) -> tuple[IsthmusError, ...]:
        """Return what the engine's error gathers, by line: each names file, line and field, its hint names keys.

        The errors are those of the engine, changed in place; one that is about no field comes first, as it is.
        """
        told = []
        for one in error.several:
            written, line, column = self.find(one.field) if one.field else ("", 0, 0)
            if one.field:
                problem = Problem(
                    source=self._source,
                    line=line,
                    column=column,
                    field=written,
                    value=repr(one.value) if isinstance(one, InvalidInput) else "",
                    why=one.why if isinstance(one, InvalidInput) else one.message,
                )
                one.message = str(problem)
                one.args = (one.message,)
            one.hint = in_keys(one.hint)
            told.append((line, column, one))
        return tuple(one for _, _, one in sorted(told, key=lambda item: item[:2]))
