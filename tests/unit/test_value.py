"""Tests of model/value.py."""

from __future__ import annotations

import copy
import pickle
from typing import TYPE_CHECKING, ClassVar

import pytest

from isthmus.model.value import Value


class Point(Value):
    x: int
    y: int = 0


class Named(Point):
    name: str


class Single(Value):
    only: str


class Remembering(Point):
    __slots__ = ("_double",)
    if TYPE_CHECKING:
        _double: ClassVar[int]

    @property
    def double(self) -> int:
        try:
            return self._double
        except AttributeError:
            object.__setattr__(self, "_double", 2 * self.x)
            return self.double


class Other(Value):
    x: int
    y: int = 0


def test_fields_are_given_by_keyword_and_default() -> None:
    assert (Point(x=1).x, Point(x=1).y) == (1, 0)
    assert Point(x=1, y=2).y == 2


def test_inherited_fields_come_first() -> None:
    assert repr(Named(x=1, name="a")) == "Named(x=1, y=0, name='a')"


def test_a_missing_field_is_named() -> None:
    with pytest.raises(TypeError, match="Point lacks x"):
        Point(y=1)  # type: ignore[call-arg]


def test_an_unknown_field_is_named() -> None:
    with pytest.raises(TypeError, match="Point has no field z"):
        Point(x=1, y=2, z=3)  # type: ignore[call-arg]


def test_positional_arguments_are_refused() -> None:
    with pytest.raises(TypeError):
        Point(1)  # type: ignore[call-arg]


def test_a_field_cannot_be_set_or_deleted() -> None:
    point = Point(x=1)
    with pytest.raises(AttributeError, match="Point is frozen: cannot set x"):
        point.x = 2  # type: ignore[misc]
    with pytest.raises(AttributeError, match="Point is frozen: cannot delete x"):
        del point.x
    assert point.x == 1


def test_there_is_no_room_for_other_attributes() -> None:
    with pytest.raises(AttributeError, match="Point is frozen: cannot set z"):
        Point(x=1).z = 2  # type: ignore[attr-defined]


def test_a_value_does_not_change_with_the_dict_that_it_was_made_of() -> None:
    given = {"x": 1, "y": 2}
    point = Point(**given)
    given["x"] = 3
    assert point == Point(x=1, y=2)


def test_a_copy_forgets_what_the_value_remembers_of_itself() -> None:
    point = Remembering(x=1)
    assert point.double == 2
    assert point.replace(x=2).double == 4


@pytest.mark.parametrize(
    ("one", "other"),
    [(Point(x=1), Point(x=1, y=0)), (Single(only="a"), Single(only="a"))],
)
def test_equal_content_is_equal_and_hashes_alike(one: Value, other: Value) -> None:
    assert one == other
    assert hash(one) == hash(other)
    assert len({one, other}) == 1


def test_other_content_is_unequal() -> None:
    assert Point(x=1) != Point(x=2)
    assert Single(only="a") != Single(only="b")


def test_another_type_of_the_same_content_is_unequal() -> None:
    others: list[object] = [Other(x=1), (1, 0)]
    assert Point(x=1) not in others


def test_a_value_with_a_list_does_not_hash() -> None:
    with pytest.raises(TypeError):
        hash(Single(only=[]))  # type: ignore[arg-type]


def test_replace_changes_a_copy() -> None:
    point = Point(x=1, y=2)
    assert point.replace(y=3) == Point(x=1, y=3)
    assert point == Point(x=1, y=2)


def test_replace_refuses_an_unknown_field() -> None:
    with pytest.raises(TypeError, match="Point has no field z"):
        Point(x=1).replace(z=1)


@pytest.mark.parametrize("value", [Point(x=1, y=2), Named(x=1, name="n"), Single(only="a")])
def test_a_value_survives_copy_and_pickle(value: Value) -> None:
    assert copy.deepcopy(value) == value
    assert pickle.loads(pickle.dumps(value)) == value
