"""Dataclasses that compile their methods late are what `dataclasses` makes of the same classes."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
from dataclasses import FrozenInstanceError, field
from typing import ClassVar

import pytest

from acme_client import late_dataclass
from acme_client.late_dataclass import dataclass, make_now


@dataclass(frozen=True, slots=True)
class Point:
    x: int
    y: int = 0
    tags: tuple[str, ...] = field(default=(), compare=False, repr=False)
    known: ClassVar[int] = 3


@dataclass(frozen=True, slots=True)
class Placed(Point):
    z: int = 0


@dataclass(slots=True)
class Counter:
    name: str
    seen: list[int] = field(default_factory=list)
    doubled: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.doubled = 2 * len(self.name)


@dataclass(frozen=True, slots=True, repr=False)
class Quiet:
    word: str

    def __repr__(self) -> str:
        return "quiet"


@dataclass(slots=True, eq=False)
class Itself:
    value: int = 0


@dataclass(frozen=True, slots=True)
class Unused:
    value: int = 0


STANDARD = {
    cls: dataclasses.make_dataclass(
        cls.__name__,
        [(one.name, one.type, one) for one in dataclasses.fields(cls)],
        frozen=frozen,
        eq=eq,
        namespace={"__post_init__": vars(cls)["__post_init__"]} if cls is Counter else {},
    )
    for cls, frozen, eq in ((Point, True, True), (Placed, True, True), (Counter, False, True),
                            (Itself, False, False))
}  # fmt: skip


@pytest.mark.parametrize(
    ("cls", "values", "named"),
    [(Point, (1,), {}), (Point, (1, 2), {"tags": ("a",)}), (Placed, (1, 2), {"z": 3}),
     (Counter, ("abc",), {}), (Counter, ("abc", [1]), {})],
)  # fmt: skip
def test_an_object_is_made_shown_and_compared_as_by_dataclasses(cls, values, named) -> None:
    made, standard = cls(*values, **named), STANDARD[cls](*values, **named)
    assert repr(made) == repr(standard)
    assert dataclasses.astuple(made) == dataclasses.astuple(standard)
    assert made == cls(*values, **named)
    assert dataclasses.replace(made) == made
    assert cls.__match_args__ == STANDARD[cls].__match_args__
    assert (cls.__hash__ is None) == (STANDARD[cls].__hash__ is None)
    for wrong in ((), (1, 2, 3, 4, 5, 6)):
        with pytest.raises(TypeError):
            cls(*wrong)


def test_a_frozen_object_is_a_value() -> None:
    assert Point(1, tags=("a",)) == Point(1) != Point(2)
    assert Point(1) != Placed(1)
    assert {Point(1): "here"}[Point(1)] == "here"
    assert hash(Point(1, 2)) == hash(STANDARD[Point](1, 2))
    point = Point(1)
    with pytest.raises(FrozenInstanceError):
        point.x = 2
    with pytest.raises(FrozenInstanceError):
        del point.x
    assert not hasattr(point, "__dict__")


@pytest.mark.parametrize("made", [Point(1, 2, ("a",)), Placed(1, z=4), Quiet("a")])
def test_an_object_is_copied_and_pickled(made) -> None:
    assert pickle.loads(pickle.dumps(made)) == copy.copy(made) == copy.deepcopy(made) == made


def test_a_method_that_the_class_has_stays() -> None:
    assert repr(Quiet("secret")) == "quiet"
    assert Quiet("a") == Quiet("a")


def test_an_object_without_equality_is_itself() -> None:
    one = Itself()
    one.value = 5
    assert one != Itself(5)
    assert {one}


def test_a_class_of_the_standard_library_s_may_derive_from_one() -> None:
    @dataclasses.dataclass(frozen=True)
    class Further(Point):
        more: str = ""

    assert Further(1, more="a") == Further(1, more="a") != Further(1)


def test_nothing_is_compiled_before_it_is_used() -> None:
    compiled = STANDARD[Point].__init__.__code__.co_filename
    assert Unused.__init__.__code__.co_filename != compiled
    first = Unused()
    assert Unused.__init__.__code__.co_filename == compiled
    assert first == Unused()


def test_functions_that_were_made_now_are_not_made_later(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass(frozen=True, slots=True)
    class Early:
        x: int

    make_now(Early, int)  # others have nothing to be made
    made = vars(Early)["__init__"]
    monkeypatch.setattr(late_dataclass, "_compile", None)
    assert Early(1) == Early(1)
    assert repr(Early(2)).endswith("Early(x=2)")
    make_now(Early)
    assert vars(Early)["__init__"] is made


@dataclass(frozen=True, slots=True)
class Derived:
    word: str
    more: list[str] = field(default_factory=list)
    size: int = 1

    def __post_init__(self) -> None:
        if self.size < 0:
            raise ValueError("less than nothing")


@dataclass(slots=True)
class Named:
    word: str
    last: str = field(default="z", kw_only=True)


@dataclass(slots=True)
class Selfish:
    self: int
    _late_x: int = 2


@pytest.mark.parametrize("cls", [Point, Placed, Counter, Itself, Derived, Named, Selfish])
def test_init_has_the_arguments_that_dataclasses_gives_it(cls) -> None:
    frozen = cls.__dataclass_params__.frozen
    written = vars(late_dataclass._standard(cls, "__init__", frozen))["__init__"]
    ours = late_dataclass._plain_init(cls, frozen)
    assert (ours is None) == (cls in (Counter, Named, Selfish))
    if ours is not None:
        assert arguments_of(ours) == arguments_of(written)
        assert ours.__annotations__ == written.__annotations__


def arguments_of(function) -> list[tuple[object, ...]]:
    """Names, kinds and defaults; a factory's stand-in by what it is."""
    return [
        (one.name, one.kind, type(one.default) if repr(one.default)[0] == "<" else one.default)
        if one.default is not late_dataclass._ABSENT
        else (one.name, one.kind, type(dataclasses._HAS_DEFAULT_FACTORY))
        for one in inspect.signature(function).parameters.values()
    ]


def test_each_object_has_what_its_factory_makes_and_is_looked_at_when_it_is_there() -> None:
    one, other = Derived("a"), Derived("a")
    assert one == other
    assert one.more is not other.more
    given = ["x"]
    assert Derived("a", given).more is given
    with pytest.raises(ValueError, match="less than nothing"):
        Derived("a", size=-1)
    with pytest.raises(TypeError, match=r"Derived\.__init__\(\) missing 1 required"):
        Derived()
    assert Named("a", last="b").last == "b"
    assert Selfish(1)._late_x == 2
