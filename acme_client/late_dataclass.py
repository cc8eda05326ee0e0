"""`dataclass` as the standard library has it, whose methods are compiled when one is used first.

The program has some three hundred dataclasses, and a start uses sixty of them. `dataclasses` writes
up to six functions for each and compiles them when the class is defined, 0.3 ms for a frozen class:
a third of the time that the imports of a start took. Here a class has its fields at once and a
stand-in for each function. The first call of any has `dataclasses` make all of them, which take the
stand-ins' places, so that later calls cost what they cost elsewhere. Pure.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar, dataclass_transform

T = TypeVar("T")

_COMPILED = ("__init__", "__repr__", "__eq__", "__hash__")


@dataclass_transform(field_specifiers=(dataclasses.field,))
def dataclass(
    *,
    frozen: bool = False,
    slots: bool = False,
    eq: bool = True,
    repr: bool = True,  # noqa: A002 - as in `dataclasses`
) -> Callable[[type[T]], type[T]]:
    """Make a dataclass, as `dataclasses.dataclass` does with these arguments."""
    wanted = dict.fromkeys(_COMPILED, True) | {"__repr__": repr, "__eq__": eq}
    wanted["__hash__"] = eq and frozen

    def make(cls: type[T]) -> type[T]:
        if cls.__doc__ is None:
            cls.__doc__ = cls.__name__  # else `dataclasses` composes a signature for it
        own = vars(cls)
        left = [name for name in _COMPILED if wanted[name] and own.get(name) is None]
        hashed = "__hash__" in own and own["__hash__"] is not None
        # Frozen by what follows; `dataclasses` insists on it below a class that is.
        below = any(_is_frozen(base) for base in cls.__mro__[1:])
        made: Any = dataclasses.dataclass(
            init=False, repr=False, eq=False, frozen=below and frozen, slots=slots
        )(cls)
        made.__dataclass_params__.frozen = frozen  # for `dataclasses`, where it derives from this
        if eq and not frozen and not hashed:
            made.__hash__ = None
        if frozen:
            made.__setattr__, made.__delattr__ = _refuse_assignment, _refuse_deletion
            if slots:
                made.__getstate__, made.__setstate__ = _state, _restore
        for name in left:
            setattr(made, name, _stand_in(made, name, left, frozen, eq))
        return made  # type: ignore[no-any-return] # `dataclasses` gives back such a class

    return make


def _is_frozen(cls: type[Any]) -> bool:
    return dataclasses.is_dataclass(cls) and bool(cls.__dataclass_params__.frozen)  # type: ignore[attr-defined] # each has them


def make_now(*classes: type[Any]) -> None:
    """Have the functions of these classes made, where they have not been used yet: before a fork,
    after which each process would make them for itself."""
    for cls in classes:
        for name in _COMPILED:
            waiting = getattr(vars(cls).get(name), "make_now", None)
            if waiting is not None:
                waiting()


def _stand_in(cls: type[Any], name: str, left: list[str], frozen: bool, eq: bool) -> Any:
    """A function that has all functions of a class made, and goes on as the one of its name."""

    def call(*arguments: Any, **named: Any) -> Any:
        _compile(cls, left, frozen, eq)
        return vars(cls)[name](*arguments, **named)

    call.make_now = lambda: _compile(cls, left, frozen, eq)  # type: ignore[attr-defined] # a function has what it is given
    return call


def _compile(cls: type[Any], left: list[str], frozen: bool, eq: bool) -> None:
    # The functions that `dataclasses` writes use the fields of a class, and nothing else of it.
    fields = [(one.name, one.type, one) for one in dataclasses.fields(cls)]
    own: dict[str, Any] = {"__doc__": cls.__doc__}
    if hasattr(cls, "__post_init__"):
        own["__post_init__"] = cls.__post_init__
    made = dataclasses.make_dataclass(cls.__name__, fields, frozen=frozen, eq=eq, namespace=own)
    for name in left:
        function = vars(made)[name]
        function.__qualname__ = f"{cls.__qualname__}.{name}"
        function.__module__ = cls.__module__
        setattr(cls, name, function)


def _refuse_assignment(_self: object, name: str, _value: object) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")


def _refuse_deletion(_self: object, name: str) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")


# How objects that have slots and take no assignment are copied and pickled.


def _state(made: Any) -> list[Any]:
    return [getattr(made, one.name) for one in dataclasses.fields(made)]


def _restore(made: Any, state: list[Any]) -> None:
    for one, value in zip(dataclasses.fields(made), state, strict=True):
        object.__setattr__(made, one.name, value)
