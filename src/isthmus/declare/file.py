"""The declared file to a Declaration, or to everything that is wrong with it at once.

nodes.py reads YAML with its places, shapes.py says which keys there are and makes nouns, check.py objects
to what they say together; here the objections get their file, line and field.
"""

from __future__ import annotations

import os.path
from difflib import get_close_matches
from typing import Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from isthmus.declare import check
from isthmus.declare.fields import Written
from isthmus.declare.nodes import Mapping, Node, NodeProblem, Scalar, Sequence, compose, join
from isthmus.declare.shapes import FileShape, keys_at
from isthmus.declare.words import network_name
from isthmus.errors import InvalidInput, IsthmusError, NotFound, NotPermitted
from isthmus.model.declared import Declaration
from isthmus.model.value import Value

__all__ = ["SIZE_MAX", "DeclarationErrors", "Problem", "load", "loads"]

SIZE_MAX: Final = 4 << 20
_VALUE_SHOWN: Final = 80
# What pydantic says of the structure, in words of ours.
_WORDS: Final = {
    "model_type": "must be a mapping",
    "dict_type": "must be a mapping",
    "list_type": "must be a list",
    "too_short": "a link has two ends",
    "too_long": "a link has two ends",
}
Place = tuple[str | int, ...]


class Problem(Value):
    """One thing that is wrong: where (line and column count from 1), what stands there, and why it cannot."""

    source: str
    line: int
    column: int
    field: str
    value: str
    why: str
    hint: str = ""

    def __str__(self) -> str:
        said = [f"{self.source}:{self.line}:{self.column}", self.field, self.value, self.why]
        return ": ".join(part for part in said if part)


class DeclarationErrors(InvalidInput):
    """Reject a file; `errors` has everything that is wrong with it, by line."""

    def __init__(self, errors: tuple[Problem, ...]) -> None:
        first = errors[0]
        hints = dict.fromkeys(one.hint for one in errors if one.hint)
        IsthmusError.__init__(self, "\n".join(map(str, errors)), hint="; ".join(hints))
        self.field = first.field
        self.value = first.value
        self.why = first.why
        self.errors = errors


class _Places:
    """Where each field of a file stands, found by the name that the shape or the check calls it by."""

    def __init__(self, root: Node) -> None:
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
            for index, value in enumerate(node.items):
                self._note(value, join(called, index), join(written, index))
                if isinstance(value, Sequence):  # a link written as its two ends
                    for side, end in enumerate(value.items):
                        self._note(end, join(f"{join(called, index)}.ends", side), join(join(written, index), side))
                if isinstance(value, Scalar) and called.endswith(".networks"):
                    self._note(value, join(called, value.text), join(written, index))

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


def load(path: str) -> Declaration:
    """Read a declared file.

    Raises:
        NotFound: there is no such file.
        NotPermitted: it may not be read.
        DeclarationErrors: everything that is wrong with it.
        InvalidInput: it is a directory, cannot be read, is over 4 MiB, or is not UTF-8.
    """
    try:
        with open(path, "rb") as file:
            octets = file.read(SIZE_MAX + 1)
    except FileNotFoundError:
        raise NotFound(f"cannot read {path}: no such file") from None
    except PermissionError:
        raise NotPermitted(f"cannot read {path}: permission denied") from None
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise InvalidInput("file", path, f"cannot be read: {why.lower()}") from None
    if len(octets) > SIZE_MAX:
        raise InvalidInput("file", path, "is over 4 MiB")
    try:
        text = octets.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = octets.count(b"\n", 0, error.start) + 1
        raise InvalidInput("file", path, f"is not UTF-8: line {line}, byte {octets[error.start]:#04x}") from None
    return loads(text, path)


def loads(text: str, source: str) -> Declaration:
    """Read the text of a declared file; `source` is what messages call it, its stem the default name.

    Raises:
        DeclarationErrors: everything that is wrong with it.
    """
    problems = _Problems(source)
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            problems.add(1, 1, "", "", "is not UTF-8")
            problems.raise_any()
    root, unreadable = compose(text)
    for one in unreadable:
        problems.add_node(one)
    if root is None and not unreadable:
        problems.add(1, 1, "", "", "is empty", "begin with networks: or namespaces:")
    elif root is not None and not isinstance(root, Mapping):
        problems.add(root.line, root.column, "", "", "must be a mapping", "begin with networks: or namespaces:")
    if not isinstance(root, Mapping):
        problems.raise_any()
        raise AssertionError("no tree and no problem")
    problems.places = _Places(root)
    wish = _read(_plain(root), source, problems)
    problems.raise_any()
    return wish


class _Problems:
    """What was found wrong so far; each field is objected to once."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.places = _Places(Mapping(entries=(), line=1, column=1))
        self._found: dict[tuple[int, int, str, str], Problem] = {}

    def add(self, line: int, column: int, field: str, value: str, why: str, hint: str = "") -> None:
        """Note a problem at a known place."""
        shown = value if len(value) <= _VALUE_SHOWN else f"{value[:_VALUE_SHOWN]}..."
        found = Problem(source=self.source, line=line, column=column, field=field, value=shown, why=why, hint=hint)
        self._found.setdefault((line, column, field, why), found)

    def add_node(self, one: NodeProblem) -> None:
        """Note what the reader of YAML found."""
        self.add(one.line, one.column, one.field, repr(one.value) if one.value else "", one.why, one.hint)

    def add_field(self, field: str, value: object, why: str, hint: str = "") -> None:
        """Note a problem of a field, at the place where it, or what holds it, is written."""
        written, line, column = self.places.find(field)
        shown = "" if isinstance(value, dict | list) or value is None else repr(value)
        self.add(line, column, written, shown, why, hint)

    def add_key(self, field: str, why: str, hint: str = "", value: object = None) -> None:
        """Note a problem of a key, at its place."""
        written, line, column = self.places.key(field)
        self.add(line, column, written, "" if value is None else repr(value), why, hint)

    def add_missing(self, holder: str, key: str) -> None:
        """Note a key that is not there, at the place of what lacks it."""
        written, line, column = self.places.find(holder)
        self.add(line, column, join(written, key), "", "is missing")

    def raise_any(self) -> None:
        """Raise what was found, by line."""
        if self._found:
            raise DeclarationErrors(tuple(sorted(self._found.values(), key=lambda one: (one.line, one.column))))


def _plain(node: Node) -> object:
    """Return the tree as dicts, lists and `Written` texts; recursion is bounded by the reader."""
    match node:
        case Scalar():
            return Written.of(node.text, node.kind, node.plain)
        case Sequence():
            return [_plain(one) for one in node.items]
        case Mapping():
            return {key.text: _plain(value) for key, value in node.entries}


def _read(tree: object, source: str, problems: _Problems) -> Declaration:
    """Make the declaration; of a faulty file, of those of its entries that are well shaped, to check them too."""
    stem = os.path.splitext(os.path.basename(source))[0]
    assert isinstance(tree, dict)
    if "name" not in tree:
        try:
            network_name(stem, "name")
        except InvalidInput as error:
            why = f"is missing, and the file's stem is none: {error.why}"
            problems.add(1, 1, "name", repr(stem), why, "give the declaration a name: key")
    try:
        shape = FileShape.model_validate(tree)
    except ValidationError as error:
        shape = _well_shaped(tree, error, problems)
    wish = shape.wish(stem, source)
    for said in check.declaration(wish):
        problems.add_field(said.field, said.value, said.why, said.hint)
    return wish


def _field(place: Place) -> str:
    field = ""
    for part in place:
        field = join(field, part)
    return field


def _report(error: ErrorDetails, problems: _Problems) -> None:
    """Note an objection of pydantic's."""
    place: Place = tuple(part for part in error["loc"] if part != "[key]")
    field, value = _field(place), error["input"]
    if error["loc"][-1:] == ("[key]",):
        problems.add_key(field, error["ctx"]["why"], error["ctx"]["hint"], value)
    elif error["type"] == "isthmus":
        problems.add_field(field, value, error["ctx"]["why"], error["ctx"]["hint"])
    elif error["type"] == "extra_forbidden":
        keys = keys_at(place[:-1])
        near = get_close_matches(str(place[-1]).replace("_", "-"), keys, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known keys: {', '.join(keys)}"
        problems.add_key(field, "unknown key", hint)
    elif error["type"] == "missing":
        problems.add_missing(_field(place[:-1]), str(place[-1]))
    elif isinstance(value, Written) and value.plain and not value:
        problems.add_field(field, None, "nothing is written here", "leave the key out, or write {} for all defaults")
    else:
        problems.add_field(field, value, _WORDS.get(error["type"], error["msg"].lower()))


def _well_shaped(tree: dict[str, object], error: ValidationError, problems: _Problems) -> FileShape:
    """Note the faults of a file and read what is left without them, so that what remains can be checked too.

    A key goes alone where the rest says the same without it; else what holds it goes, lest the check
    objects to what was not written. Links go together, for they are named by number.
    """
    for one in error.errors(include_url=False):
        _report(one, problems)
        place = one["loc"]
        match place:
            case ("networks", _, "bridge" | "snat" | "isolate-ports" | "allow" | "mtu" | "allow-overlap", *_):
                _drop(tree, place[:3])
            case ("namespaces", _, "networks", _, str(), *_) if place[4] != "[key]":
                _drop(tree, place[:5])
            case ("namespaces", _, "publish" | "command", *_):
                _drop(tree, place[:3])
            case ("networks" | "namespaces", _, *_):
                _drop(tree, place[:2])
            case _:
                _drop(tree, place[:1])
    try:
        return FileShape.model_validate(tree)
    except ValidationError as more:  # a whole is looked at when its parts are sound
        return _well_shaped(tree, more, problems)


def _drop(tree: object, place: Place) -> None:
    """Take the value at a place away, if it or what holds it has not gone already."""
    for part in place[:-1]:
        tree = tree.get(part) if isinstance(tree, dict) else None
    if isinstance(tree, dict):
        tree.pop(place[-1], None)
