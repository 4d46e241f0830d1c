"""The declared file to a Declaration, or to everything that is wrong with it at once.

nodes.py reads YAML with its places, shapes.py says which keys there are and makes nouns, check.py objects
to what they say together; here the objections get their file, line and field.
"""

from __future__ import annotations

import os.path
import re
from difflib import get_close_matches
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from isthmus.declare import check
from isthmus.declare.fields import Written
from isthmus.declare.nodes import Mapping, Node, NodeProblem, Scalar, Sequence, compose, join
from isthmus.declare.places import Places, Problem
from isthmus.declare.shapes import FileShape, keys_at
from isthmus.declare.words import network_name
from isthmus.errors import InvalidInput, IsthmusError, NotFound, NotPermitted
from isthmus.model.declared import Declaration
from isthmus.model.network import NIC

__all__ = ["SIZE_MAX", "DeclarationErrors", "Problem", "load", "load_placed", "loads"]

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
# How an objection names another link: by its number among those that are looked at.
_LINK: Final = re.compile(r"\blinks\[\d+\]")
Place = tuple[str | int, ...]


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
        self.several = tuple(IsthmusError(str(one), hint=one.hint, field=one.field) for one in errors)


def load(path: str) -> Declaration:
    """Read a declared file; raises what `load_placed` does."""
    return load_placed(path)[0]


def load_placed(path: str) -> tuple[Declaration, Places]:
    """Read a declared file; return where its fields stand, too, which tells an error of the engine its line.

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
    return _loads(text, path)


def loads(text: str, source: str) -> Declaration:
    """Read the text of a declared file; `source` is what messages call it, its stem the default name.

    Raises:
        DeclarationErrors: everything that is wrong with it.
    """
    return _loads(text, source)[0]


def _loads(text: str, source: str) -> tuple[Declaration, Places]:
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
    problems.places = Places(root, source)
    wish = _read(_plain(root), source, problems)
    problems.raise_any()
    return wish, problems.places


class _Problems:
    """What was found wrong so far; each field is objected to once."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.places = Places(Mapping(entries=(), line=1, column=1), source)
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
        why = _LINK.sub(lambda found: self.places.find(found[0])[0], why)
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

    An item or a key goes alone where the rest says the same without it; else what holds it goes, lest the check
    objects to what was not written.
    """
    faulty: set[Place] = set()
    for one in error.errors(include_url=False):
        _report(one, problems)
        faulty.add(_apart(one["loc"], one["input"]))
    gone = [place for place in sorted(faulty, key=_order, reverse=True) if _drop(tree, place)]
    problems.places = problems.places.without(map(_field, gone))
    try:
        return FileShape.model_validate(tree)
    except ValidationError as more:  # a whole is looked at when its parts are sound
        return _well_shaped(tree, more, problems)


def _apart(place: Place, value: object) -> Place:
    """Return the place of what is left out for a fault, in a value; of an uplink where none was to be an interface."""
    match place:
        case ("networks", _, "uplink", *_) if isinstance(value, str) and not value.startswith(NIC):
            return place[:3]
        case ("networks", _, "bridge" | "snat" | "isolate-ports" | "allow" | "mtu" | "allow-overlap", *_):
            return place[:3]
        case ("namespaces", _, "networks", _, "ip", int(), *_):
            return place[:6]
        case ("namespaces", _, "networks", _, str(), *_) if place[4] != "[key]":
            return place[:5]
        case ("namespaces", _, "publish", int(), *_):
            return place[:4]
        case ("namespaces", _, "publish" | "command", *_):
            return place[:3]
        case ("networks" | "namespaces", _, *_) | ("forwarding", int(), *_):
            return place[:2]
        case ("links", int(), "ends", int(), "ip", int(), *_):
            return place[:6]
        case ("links", int(), "ends", int(), "ip" | "name" | "mac", *_):
            return place[:5]
        case ("links", int(), "mtu", *_):
            return place[:3]
        case ("links", int(), *_):
            return place[:2]
        case _:
            return place[:1]


def _order(place: Place) -> list[tuple[int, str]]:
    """Sort what is held behind what holds it, and items by number."""
    return [(part, "") if isinstance(part, int) else (-1, part) for part in place]


def _drop(tree: Any, place: Place) -> bool:
    """Take the value at a place away, or what stands for the list that it is of; return whether it was there."""
    part, *rest = place
    if part == "ends" and isinstance(tree, list):  # a link written as its two ends
        return _drop(tree, tuple(rest))
    is_there = part in tree if isinstance(tree, dict) else isinstance(tree, list) and len(tree) > int(part)
    if is_there and rest and (isinstance(tree[part], list) or not isinstance(rest[0], int)):
        return _drop(tree[part], tuple(rest))
    if is_there:
        del tree[part]
    return is_there
