"""A change of the record as a value: rows to put, rows to drop; written down in the journal, done at the end.

As bytes it is `marshal` of plain tuples (strings, ints, None): built in, no import, and read back only
from our own state file, which nobody else may write.
"""

from __future__ import annotations

import marshal

from isthmus.errors import StoreError
from isthmus.model.network import Namespace, Record, Row
from isthmus.model.value import Value
from isthmus.store.schema import ENCODE, KEYS, decode_row, kind_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, ClassVar

    from isthmus.store.schema import SqlRow

__all__ = ["Edit", "namespace_edit"]


class Edit(Value):
    """Rows to put (in place of one of the same key) and (table, key) of rows to drop; drops come first."""

    __slots__ = ("_kinds", "_rows")
    if TYPE_CHECKING:
        _kinds: ClassVar[frozenset[str]]
        _rows: ClassVar[list[tuple[str, SqlRow]]]

    puts: tuple[Row, ...] = ()
    drops: tuple[tuple[str, str], ...] = ()

    def __bool__(self) -> bool:
        return bool(self.puts or self.drops)

    @property
    def kinds(self) -> frozenset[str]:
        """The tables that it changes."""
        try:
            return self._kinds
        except AttributeError:
            kinds = frozenset([kind for kind, _ in self.drops] + [kind_of(row) for row in self.puts])
            object.__setattr__(self, "_kinds", kinds)
            return kinds

    def plus(self, other: Edit) -> Edit:
        """Return both edits as one, `other` later."""
        return Edit(puts=self.puts + other.puts, drops=self.drops + other.drops)

    def on(self, record: Record) -> Record:
        """Return the record after the edit."""
        tables: dict[str, Any] = {kind: dict(getattr(record, kind)) for kind in self.kinds}
        for kind, key in self.drops:
            tables[kind].pop(key, None)
        for row in self.puts:
            kind = kind_of(row)
            tables[kind][getattr(row, KEYS[kind])] = row
        return record.replace(**tables) if tables else record

    def inverse(self, record: Record) -> Edit:
        """Return the edit that leads back to a record. A namespace of ours that went is to be made again."""
        keys = dict.fromkeys(self.drops)
        keys |= {(kind_of(row), getattr(row, KEYS[kind_of(row)])): None for row in self.puts}
        puts, drops = [], []
        for kind, key in keys:
            row = getattr(record, kind).get(key)
            if row is None:
                drops.append((kind, key))
            else:
                puts.append(row.replace(cookie=0) if isinstance(row, Namespace) and row.made else row)
        return Edit(puts=tuple(puts), drops=tuple(drops))

    @property
    def rows(self) -> list[tuple[str, SqlRow]]:
        """What it puts as rows of SQL, with their tables."""
        try:
            return self._rows
        except AttributeError:
            rows = [(kind_of(row), ENCODE[type(row)](row)) for row in self.puts]
            object.__setattr__(self, "_rows", rows)
            return rows

    def encode(self) -> bytes:
        """Write it down."""
        return marshal.dumps((self.rows, self.drops), 2)

    @classmethod
    def decode(cls, blob: bytes) -> Edit:
        """Read it back.

        Raises:
            StoreError: not an edit.
        """
        try:
            puts, drops = marshal.loads(blob)
            return cls(puts=tuple(decode_row(kind, row) for kind, row in puts), drops=tuple(drops))
        except (ValueError, TypeError, EOFError, KeyError) as cause:
            raise StoreError(f"state file: journal: an entry makes no sense: {cause}") from cause


def namespace_edit(record: Record, *namespaces: str) -> Edit:
    """Return the edit that drops namespaces with all that hangs on them."""
    gone = frozenset(namespaces)
    drops = [("attachments", row.id) for row in record.attachments.values() if row.namespace in gone]
    drops += [("publishes", row.id) for row in record.publishes.values() if row.namespace in gone]
    drops += [("links", row.id) for row in record.links.values() if gone & {row.a.namespace, row.b.namespace}]
    drops += [("commands", name) for name in namespaces if name in record.commands]
    return Edit(drops=(*drops, *(("namespaces", name) for name in namespaces)))
