"""What a frozen, keyword-only dataclass is, at a sixtieth of its start-up cost.

`dataclasses` and `typing` cost one to four bare interpreter starts (docs/decisions/0001); this costs
none. A type checker sees ordinary frozen keyword-only dataclasses through `dataclass_transform`.
"""

from __future__ import annotations

from _operator import attrgetter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, ClassVar, Final, Self, dataclass_transform
else:

    def dataclass_transform(**_: object):
        return lambda cls: cls


__all__ = ["Value"]


class _ValueType(type):
    """Take annotated fields and their defaults down.

    Slots that a class names are no fields: they hold what it remembers of them.
    """

    def __new__(mcs, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> _ValueType:
        own = [field for field, kind in namespace.get("__annotations__", {}).items() if not kind.startswith("ClassVar")]
        defaults = {field: namespace.pop(field) for field in own if field in namespace}
        namespace.setdefault("__slots__", ())
        cls = super().__new__(mcs, name, bases, namespace)
        inherited = bases[0] if bases else None
        cls._fields = fields = (*getattr(inherited, "_fields", ()), *own)
        cls._names = frozenset(fields)
        cls._defaults = {**getattr(inherited, "_defaults", {}), **defaults}
        if len(fields) > 1:
            cls._values = property(attrgetter(*fields))
        else:
            cls._values = property(lambda self: tuple(getattr(self, field) for field in fields))
        return cls

    if TYPE_CHECKING:
        _fields: tuple[str, ...]
        _names: frozenset[str]
        _defaults: dict[str, Any]
        _values: Any


@dataclass_transform(kw_only_default=True, frozen_default=True, eq_default=True)
class Value(metaclass=_ValueType):
    """A frozen record: fields by annotation, given by keyword, compared and hashed by content.

    The dict of the keywords becomes that of the object, in one step whatever the number of fields.

    Raises:
        TypeError: a field is missing or unknown.
        AttributeError: a field is set after creation.
    """

    __slots__ = ("__dict__",)

    if TYPE_CHECKING:
        _fields: ClassVar[tuple[str, ...]]
        _values: ClassVar[Any]

    if not TYPE_CHECKING:

        def __init__(self, **given):
            if given.keys() != self._names:
                given = _completed(type(self), given)
            _fill(self, given)

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
        given = {**self.__dict__, **changes}
        if len(given) != len(self._fields):
            raise TypeError(f"{type(self).__name__} has no field {', '.join(sorted(changes.keys() - {*self._fields}))}")
        kind: Any = type(self)
        copy: Self = kind.__new__(kind)
        _fill(copy, given)
        return copy


_fill: Final = Value.__dict__["__dict__"].__set__  # gives an object its dict


def _completed(kind: _ValueType, given: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a value with its defaults."""
    whole = {**kind._defaults, **given}
    if whole.keys() != kind._names:
        unknown = sorted(given.keys() - kind._names)
        missing = [name for name in kind._fields if name not in whole]
        wrong = f"has no field {', '.join(unknown)}" if unknown else f"lacks {', '.join(missing)}"
        raise TypeError(f"{kind.__name__} {wrong}")
    return whole


def _rebuild(cls: type, values: tuple[object, ...]) -> object:
    return cls(**dict(zip(cls._fields, values, strict=True)))  # type: ignore[attr-defined]
