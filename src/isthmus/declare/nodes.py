"""YAML text to a tree that still knows what was written, and where.

A scalar stays the text it was written as, with a note of what YAML takes it for: shapes.py decides whether
that may stand there. Anchors and aliases are followed within bounds; tags, merge keys, duplicate keys and
second documents are problems. The tree is built from the parser's events without recursion, so that depth
is a number to check and not a crash.

Source: YAML 1.1 types at yaml.org/type (what PyYAML reads), YAML 1.2.2 section 10.3.2 (what editors read).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import yaml

from isthmus.model.value import Value

try:
    from yaml import CSafeLoader as _Loader
except ImportError:  # PyYAML without libyaml: the same language, slower
    from yaml import SafeLoader as _Loader  # type: ignore[assignment]

__all__ = ["Mapping", "Node", "NodeProblem", "Scalar", "Sequence", "compose", "join", "kind_of_plain"]

DEPTH_MAX: Final = 32
ALIASED_NODES_MAX: Final = 100_000
_RESOLVER: Final = yaml.SafeLoader.yaml_implicit_resolvers
_KINDS: Final = {
    "bool": "a boolean",
    "int": "a number",
    "float": "a number",
    "null": "null",
    "timestamp": "a date",
    "merge": "a merge key",
    "value": "a default key",
}
# What YAML 1.2 reads as a number and YAML 1.1, as PyYAML has it, does not.
_NUMBER_1_2: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|0o[0-7]+|0x[0-9a-fA-F]+")


class Scalar(Value):
    """A text; `kind` is what YAML takes an unquoted one for when that is no string ('a number'), else empty."""

    text: str
    kind: str
    plain: bool
    line: int
    column: int


class Sequence(Value):
    """A list."""

    items: tuple[Node, ...]
    line: int
    column: int


class Mapping(Value):
    """A mapping, in the order written; of a key written twice the first."""

    entries: tuple[tuple[Scalar, Node], ...]
    line: int
    column: int


Node = Scalar | Sequence | Mapping


class NodeProblem(Value):
    """What cannot be read, and where: line and column count from 1, `field` is as far as it is known."""

    line: int
    column: int
    field: str
    value: str
    why: str
    hint: str = ""


class _Open:
    """A collection whose end has not been seen."""

    def __init__(self, is_mapping: bool, line: int, column: int, anchor: str | None) -> None:
        self.is_mapping = is_mapping
        self.line = line
        self.column = column
        self.anchor = anchor
        self.children: list[Node] = []
        self.weight = 1


def join(field: str, key: str | int) -> str:
    """Name what stands under a key, or at an index, of a field."""
    if isinstance(key, int):
        return f"{field}[{key}]"
    name = key if key.isprintable() else repr(key)[1:-1]
    return f"{field}.{name}" if field else name


def kind_of_plain(text: str) -> str:
    """Say what YAML 1.1 or 1.2 takes an unquoted text for, when that is no string; else nothing."""
    for tag, pattern in [*_RESOLVER.get(text[:1], []), *_RESOLVER.get(None, [])]:
        if pattern.match(text):
            return _KINDS.get(tag.rpartition(":")[2], "something else")
    return "a number" if _NUMBER_1_2.fullmatch(text) else ""


def compose(text: str) -> tuple[Node | None, list[NodeProblem]]:
    """Read one YAML document; None when there is none, or none that can be read to its end."""
    composer = _Composer()
    try:
        for event in yaml.parse(text, Loader=_Loader):
            if not composer.take(event):
                return None, composer.problems
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)
        why = "not YAML: " + " ".join(part for part in (error.context, error.problem) if part)
        composer.problems.append(NodeProblem(line=line, column=column, field="", value="", why=why))
        return None, composer.problems
    except yaml.YAMLError as error:
        why = "not YAML: " + " ".join(str(error).split())
        composer.problems.append(NodeProblem(line=1, column=1, field="", value="", why=why))
        return None, composer.problems
    return composer.root, composer.problems


class _Composer:
    """Build a tree from events; `problems` gathers what can be stepped over."""

    def __init__(self) -> None:
        self.root: Node | None = None
        self.problems: list[NodeProblem] = []
        self._stack: list[_Open] = []
        self._anchors: dict[str, tuple[Node, int]] = {}
        self._documents = 0
        self._aliased = 0

    def take(self, event: yaml.Event) -> bool:
        """Take one event; False: reading on makes no sense."""
        mark = event.start_mark
        line, column = (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)
        match event:
            case yaml.DocumentStartEvent():
                self._documents += 1
                if self._documents > 1:
                    self._object(line, column, "", "a second document: a declaration is one")
                    return False
            case yaml.AliasEvent():
                return self._alias(event.anchor or "", line, column)
            case yaml.ScalarEvent():
                self._tag(event.tag, line, column)
                plain = event.style in (None, "")
                kind = kind_of_plain(event.value) if plain else ""
                self._put(Scalar(text=event.value, kind=kind, plain=plain, line=line, column=column), event.anchor, 1)
            case yaml.MappingStartEvent() | yaml.SequenceStartEvent():
                self._tag(event.tag, line, column)
                if len(self._stack) >= DEPTH_MAX:
                    self._object(line, column, "", f"nested more than {DEPTH_MAX} deep")
                    return False
                self._stack.append(_Open(isinstance(event, yaml.MappingStartEvent), line, column, event.anchor))
            case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                self._close()
        return True

    def _object(self, line: int, column: int, value: str, why: str, hint: str = "", key: str = "") -> None:
        field = ""
        for holder in self._stack:
            if not holder.is_mapping:
                field = join(field, len(holder.children))
            elif len(holder.children) % 2 and isinstance(name := holder.children[-1], Scalar):
                field = join(field, name.text)
        field = join(field, key) if key else field
        self.problems.append(NodeProblem(line=line, column=column, field=field, value=value, why=why, hint=hint))

    def _tag(self, tag: str | None, line: int, column: int) -> None:
        if tag is not None:
            self._object(line, column, tag, "tags are not read here", hint="remove it; quote a text that begins with !")

    def _alias(self, anchor: str, line: int, column: int) -> bool:
        if anchor not in self._anchors:
            why = "is an alias of nothing that was finished before it"
            self._object(line, column, f"*{anchor}", why, hint="quote a text that begins with *")
            return False
        node, weight = self._anchors[anchor]
        self._aliased += weight
        if self._aliased > ALIASED_NODES_MAX:
            self._object(line, column, f"*{anchor}", f"aliases stand for more than {ALIASED_NODES_MAX} values")
            return False
        self._put(node, None, weight)
        return True

    def _put(self, node: Node, anchor: str | None, weight: int) -> None:
        if anchor is not None:
            self._anchors[anchor] = (node, weight)
        if self._stack:
            self._stack[-1].children.append(node)
            self._stack[-1].weight += weight
        elif self.root is None:
            self.root = node

    def _close(self) -> None:
        done = self._stack.pop()
        node: Node
        if done.is_mapping:
            node = Mapping(entries=tuple(self._entries(done.children)), line=done.line, column=done.column)
        else:
            node = Sequence(items=tuple(done.children), line=done.line, column=done.column)
        self._put(node, done.anchor, done.weight)

    def _entries(self, children: list[Node]) -> Iterator[tuple[Scalar, Node]]:
        first: dict[str, int] = {}
        for key, node in zip(children[::2], children[1::2], strict=True):
            if not isinstance(key, Scalar):
                self._object(key.line, key.column, "", "a key is a text, not a collection")
            elif key.kind == "a merge key":
                hint = "write the keys out, or alias a whole value"
                self._object(key.line, key.column, key.text, "merge keys are not read here", hint, key.text)
            elif key.kind:
                hint = f'quote it: "{key.text}"'
                why = f"YAML reads this key as {key.kind}, not as text"
                self._object(key.line, key.column, key.text, why, hint, key.text)
            elif key.text in first:
                why = f"the key stands twice, first in line {first[key.text]}"
                self._object(key.line, key.column, key.text, why, key=key.text)
            else:
                first[key.text] = key.line
                yield key, node
