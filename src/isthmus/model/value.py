"""What a frozen, slotted, keyword-only dataclass is, at a sixtieth of its start-up cost.

`dataclasses` and `typing` cost one to four bare interpreter starts (docs/decisions/0001); this costs
none. A type checker sees ordinary frozen keyword-only dataclasses through `dataclass_transform`.
"""

from __future__ import annotations

from _operator import attrgetter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, ClassVar, Self, dataclass_transform
else:

    def dataclass_transform(**_: object):
        return lambda cls: cls


__all__ = ["Value"]


class _ValueType(type):
    """Turn annotated fields into slots, and their defaults into a table.

    Slots that a class names itself are no fields: they hold what it remembers of them.
    """

    def __new__(mcs, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> _ValueType:
        own = [field for field, kind in namespace.get("__annotations__", {}).items() if not kind.startswith("ClassVar")]
        defaults = {field: namespace.pop(field) for field in own if field in namespace}
        namespace["__slots__"] = (*own, *namespace.get("__slots__", ()))
        cls = super().__new__(mcs, name, bases, namespace)
        inherited = bases[0] if bases else None
        cls._layout = getattr(inherited, "_layout", ()) + tuple((field, cls.__dict__[field].__set__) for field in own)
        cls._defaults = {**getattr(inherited, "_defaults", {}), **defaults}
        fields = tuple(field for field, _ in cls._layout)
        cls._fields = fields
        if len(fields) > 1:
            cls._values = property(attrgetter(*fields))
        else:
            cls._values = property(lambda self: tuple(getattr(self, field) for field in fields))
        return cls

    if TYPE_CHECKING:
        _layout: tuple[tuple[str, Callable[..., None]], ...]
        _defaults: dict[str, Any]
        _fields: tuple[str, ...]
        _values: Any


@dataclass_transform(kw_only_default=True, frozen_default=True, eq_default=True)
class Value(metaclass=_ValueType):
    """A frozen record: fields by annotation, given by keyword, compared and hashed by content.

    Raises:
        TypeError: a field is missing or unknown.
        AttributeError: a field is set after creation.
    """

    if TYPE_CHECKING:
        _fields: ClassVar[tuple[str, ...]]
        _values: ClassVar[Any]

    if not TYPE_CHECKING:

        def __init__(self, **given):
            layout = self._layout
            if len(given) != len(layout):
                given = {**self._defaults, **given}
                if len(given) > len(layout):
                    unknown = sorted(given.keys() - set(self._fields))
                    raise TypeError(f"{type(self).__name__} has no field {', '.join(unknown)}")
            try:
                for name, put in layout:
                    put(self, given[name])
            except KeyError:
                unknown = sorted(given.keys() - set(self._fields))
                if unknown:
                    raise TypeError(f"{type(self).__name__} has no field {', '.join(unknown)}") from None
                missing = [name for name, _ in layout if name not in given]
                raise TypeError(f"{type(self).__name__} lacks {', '.join(missing)}") from None

        def __setattr__(self, name, value):
            raise AttributeError(f"{type(self).__name__} is frozen: cannot set {name}")

        def __delattr__(self, name):
            raise AttributeError(f"{type(self).__name__} is frozen: cannot delete {name}")

        def __eq__(self, other):
            if type(self) is not type(other):
                return NotImplemented
            return self._values == other._values

        def __hash__(self):
            return hash(self._values)

        def __reduce__(self):
            return (_rebuild, (type(self), self._values))

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={getattr(self, name)!r}" for name in self._fields)
        return f"{type(self).__name__}({fields})"

    def replace(self, **changes: Any) -> Self:
        """Return a copy with some fields changed.

        Raises:
            TypeError: there is no such field.
        """
        kind: Any = type(self)
        copy: Self = kind.__new__(kind)
        for (name, put), value in zip(kind._layout, self._values, strict=True):
            put(copy, changes.pop(name) if name in changes else value)
        if changes:
            raise TypeError(f"{kind.__name__} has no field {', '.join(sorted(changes))}")
        return copy


def _rebuild(cls: type, values: tuple[object, ...]) -> object:
    return cls(**dict(zip(cls._fields, values, strict=True)))  # type: ignore[attr-defined]
