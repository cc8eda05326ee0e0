"""`dataclass` as the standard library has it, whose methods are compiled when one is used first.

The program has some three hundred dataclasses, and a start uses sixty of them. `dataclasses` writes
up to six functions for each and compiles them when the class is defined, 0.3 ms for a frozen class:
a third of the time that the imports of a start took. Here a class has its fields at once and a
stand-in for each function. The first call has the function made, which takes the stand-in's place,
so that later calls cost what they cost elsewhere. Pure.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar, dataclass_transform

T = TypeVar("T")

_COMPILED = ("__init__", "__repr__", "__eq__", "__hash__")
_ABSENT: Any = object()  # the argument that stands for what a field's factory makes


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
            setattr(made, name, _stand_in(made, name, frozen))
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


def _stand_in(cls: type[Any], name: str, frozen: bool) -> Any:
    """A function that has the one of its name made, and goes on as that."""

    def call(*arguments: Any, **named: Any) -> Any:
        return _compile(cls, name, frozen)(*arguments, **named)

    call.make_now = lambda: _compile(cls, name, frozen)  # type: ignore[attr-defined] # a function has what it is given
    return call


def _compile(cls: type[Any], name: str, frozen: bool) -> Callable[..., Any]:
    """Make the function of this name, put it into its class, and return it."""
    function = _plain_init(cls, frozen) if name == "__init__" else None
    if function is None:
        function = vars(_standard(cls, name, frozen))[name]
    function.__qualname__ = f"{cls.__qualname__}.{name}"
    function.__module__ = cls.__module__
    setattr(cls, name, function)
    return function


def _standard(cls: type[Any], name: str, frozen: bool) -> type[Any]:
    """A class for which `dataclasses` has written the function of this name. Such a function uses
    the fields of its class, and nothing else of it."""
    fields = [(one.name, one.type, one) for one in dataclasses.fields(cls)]
    own: dict[str, Any] = {"__doc__": cls.__doc__}
    if hasattr(cls, "__post_init__"):
        own["__post_init__"] = cls.__post_init__
    init = name == "__init__"
    return dataclasses.make_dataclass(
        cls.__name__, fields, namespace=own, init=init, frozen=init and frozen,
        repr=name == "__repr__", eq=name == "__eq__", unsafe_hash=name == "__hash__",
    )  # fmt: skip


def _plain_init(cls: type[Any], frozen: bool) -> Callable[..., Any] | None:
    """`__init__` as `dataclasses` writes it, in a tenth of the time: it is what nearly all classes
    need and most of them need alone. None for a class whose fields are not all plain arguments."""
    arguments, lines, defaults = ["self"], [], []
    known: dict[str, Any] = {"_late_set": object.__setattr__, "_late_absent": _ABSENT}
    for one in dataclasses.fields(cls):
        name = value = one.name
        if not one.init or one.kw_only or name == "self" or name.startswith("_late_"):
            return None
        if one.default_factory is not dataclasses.MISSING:
            known[f"_late_{name}"] = one.default_factory
            value = f"_late_{name}() if {name} is _late_absent else {name}"
            defaults.append(_ABSENT)
        elif one.default is not dataclasses.MISSING:
            defaults.append(one.default)
        elif defaults:
            return None
        arguments.append(f"{name}=_late_absent" if defaults else name)
        lines.append(f"_late_set(self, {name!r}, {value})" if frozen else f"self.{name} = {value}")
    if hasattr(cls, "__post_init__"):
        lines.append("self.__post_init__()")
    body = "\n ".join(lines or ["pass"])
    exec(f"def __init__({', '.join(arguments)}):\n {body}\n", known)  # noqa: S102 - as `dataclasses` does
    function: Any = known.pop("__init__")
    function.__defaults__ = tuple(defaults) or None
    function.__annotations__ = {one.name: one.type for one in dataclasses.fields(cls)}
    function.__annotations__["return"] = None
    return function  # type: ignore[no-any-return] # it has just been made


def _refuse_assignment(_self: object, name: str, _value: object) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")


def _refuse_deletion(_self: object, name: str) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")


# How objects that have slots and take no assignment are copied and pickled.


def _state(made: Any) -> list[Any]:
    return [getattr(made, name) for name, _put in _slots(type(made))]


def _restore(made: Any, state: list[Any]) -> None:
    for (_name, put), value in zip(_slots(type(made)), state, strict=True):
        put(made, value)


# Of each class the names of its fields, each with what sets it past `_refuse_assignment`: its slot.
_known_slots: dict[type[Any], tuple[tuple[str, Callable[[Any, Any], None]], ...]] = {}


def _slots(cls: type[Any]) -> tuple[tuple[str, Callable[[Any, Any], None]], ...]:
    found = _known_slots.get(cls)
    if found is None:
        names = [one.name for one in dataclasses.fields(cls)]
        found = tuple((name, getattr(cls, name).__set__) for name in names)
        _known_slots[cls] = found
    return found
