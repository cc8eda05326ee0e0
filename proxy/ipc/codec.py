"""Messages to JSON objects and back: a dataclass is its own schema. Pure.

`encode` writes a message as its fields and a ``type``. A `Vocabulary` reads such an object as one
of the messages that one side may send: it compares every field with the annotation and refuses
what is missing, of another type, or not a field at all. A receiver therefore never sees half a
message, and a process that has been taken over cannot make another one fail in the middle of its
work.

Supported annotations: None, bool, int, float, str, unions, Literal, list, tuple (of any length),
dict with str keys, TypedDict, other dataclasses, and object (any JSON value). What is annotated
with `AS_IT_IS` is compared in its outermost type only: for large documents from a trusted side.
"""

from __future__ import annotations

import dataclasses
import re
import types
import typing
from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar, Generic, Literal, Protocol, TypeVar, Union

from acme_client.late_dataclass import make_now

JsonObject = dict[str, object]
AS_IT_IS = "not looked into"

_Read = Callable[[object], object]
T_co = TypeVar("T_co", covariant=True)


class Malformed(Exception):
    """What has come is no message of this vocabulary; the text says why."""


class _Message(Protocol):
    __dataclass_fields__: ClassVar[dict[str, Any]]


def kind_of(message: type) -> str:
    """The ``type`` of a message's class: ``KIND`` if it has one, else its name in snake_case."""
    given = getattr(message, "KIND", None)
    return given if isinstance(given, str) else _snake_case(message.__name__)


def _snake_case(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def encode(message: _Message) -> JsonObject:
    """The JSON object that `Vocabulary.decode` reads."""
    return {"type": kind_of(type(message)), **_fields(message)}


def _fields(value: Any) -> JsonObject:
    kind = type(value)
    names = _NAMES.get(kind)
    if names is None:
        names = _NAMES[kind] = _names(kind)
    return {name: _plain(getattr(value, name)) for name in names}


def _names(kind: type[_Message]) -> tuple[str, ...]:
    return tuple(field.name for field in dataclasses.fields(kind))


# The names of each dataclass's fields. It grows to the number of messages and of their parts.
_NAMES: dict[type, tuple[str, ...]] = {}


# Types whose values JSON takes as they are. A TypedDict is a dict, and has no other values in it.
_AS_IT_IS = frozenset({str, int, float, bool, type(None), dict})


def _plain(value: object) -> object:
    if type(value) in _AS_IT_IS:
        return value
    if isinstance(value, tuple | list):
        return [_plain(one) for one in value]
    if dataclasses.is_dataclass(value):
        return _fields(value)
    return value


class Vocabulary(Generic[T_co]):
    """The messages of one direction. Made from their union.

    ``same_program`` False: the other side may be another version of this program, so fields that
    are not known here are left out instead of refused.
    """

    def __init__(self, union: object, *, same_program: bool = True) -> None:
        self._kinds: dict[str, type[Any]] = {
            kind_of(one): one for one in typing.get_args(union) or (union,)
        }
        self._strict = same_program
        # By kind, made when the first of its kind comes: a process is sent a few kinds, and a start
        # should not wait for the annotations of all.
        self._readers: dict[str, _Read] = {}

    @property
    def kinds(self) -> tuple[type[Any], ...]:
        return tuple(self._kinds.values())

    def prepare(self, *messages: type[_Message]) -> None:
        """Make now what the first message of each of these classes would have made."""
        for message in messages:
            self._prepared(kind_of(message), message)
            _NAMES[message] = _names(message)
            make_now(message)

    def _prepared(self, kind: str, message: type[_Message]) -> _Read:
        read = self._readers[kind] = _dataclass(message, strict=self._strict)
        return read

    def decode(self, value: Mapping[str, object], descriptors: int = 0) -> T_co:
        """The message in a JSON object that came with so many descriptors.

        Raises `Malformed` for an unknown kind, for a wrong field, and for a message that came
        without the descriptors that it needs (``DESCRIPTORS`` of its class).
        """
        fields = dict(value)
        kind = fields.pop("type", None)
        message = self._kinds.get(kind) if isinstance(kind, str) else None
        if message is None or not isinstance(kind, str):
            raise Malformed(f"unknown message {kind!r:.100}")
        read = self._readers.get(kind)
        if read is None:
            read = self._prepared(kind, message)
        try:
            made = read(fields)
        except Malformed as why:
            raise Malformed(f"message {kind}: {why}") from None
        if descriptors < getattr(message, "DESCRIPTORS", 0):
            raise Malformed(f"message {kind} came without its descriptor")
        return typing.cast(T_co, made)


# Readers: each takes a JSON value and gives the Python value, or raises `Malformed`


def _reader(hint: Any, *, strict: bool) -> _Read:
    origin = typing.get_origin(hint)
    if origin is Annotated:
        inner, *marks = typing.get_args(hint)
        if AS_IT_IS in marks:
            is_object = typing.is_typeddict(inner) or typing.get_origin(inner) is dict
            return _instance(dict if is_object else list)
        return _reader(inner, strict=strict)
    if origin in (Union, types.UnionType):
        hints = typing.get_args(hint)
        return _union(hints, [_reader(one, strict=strict) for one in hints])
    if origin is Literal:
        return _literal(typing.get_args(hint))
    if origin is list:
        return _list(_reader(typing.get_args(hint)[0], strict=strict))
    if origin is tuple:
        each = _list(_reader(typing.get_args(hint)[0], strict=strict))
        return lambda value: tuple(typing.cast(list[object], each(value)))
    if origin is dict:
        return _dict(_reader(typing.get_args(hint)[1], strict=strict))
    if typing.is_typeddict(hint):
        return _typed_dict(hint, strict=strict)
    if dataclasses.is_dataclass(hint):
        return _dataclass(hint, strict=strict)
    if hint in (object, Any):
        return lambda value: value
    return _instance(hint)


def _instance(kind: Any) -> _Read:
    if kind is type(None):
        return _literal((None,))
    # JSON writes a float without a fraction as it likes; bool is an int to Python alone.
    taken = (float, int) if kind is float else kind

    def read(value: object) -> object:
        if type(value) is kind and kind is not float:
            return value
        if not isinstance(value, taken) or (isinstance(value, bool) and kind is not bool):
            raise Malformed(f"{kind.__name__} expected, not {value!r:.100}")
        if value != value:  # not a number, which Python's JSON has and which spoils every sum
            raise Malformed(f"{kind.__name__} expected, not {value!r}")
        return value

    return read


def _literal(allowed: tuple[object, ...]) -> _Read:
    plain = frozenset(one for one in allowed if type(one) is str)

    def read(value: object) -> object:
        if type(value) is str and value in plain:
            return value
        if not any(value == one and type(value) is type(one) for one in allowed):
            raise Malformed(f"one of {allowed!r:.100} expected, not {value!r:.100}")
        return value

    return read


def _union(hints: tuple[Any, ...], readers: list[_Read]) -> _Read:
    # What is None, a text or a whole number of the allowed kinds needs no further look.
    plain = tuple(one for one in hints if one in (type(None), str, int, bool))

    def read(value: object) -> object:
        if type(value) in plain:
            return value
        first: Malformed | None = None
        for one in readers:
            try:
                return one(value)
            except Malformed as why:
                first = first or why
        # Of "X or None" what is wrong with an X says more than that it is not None.
        raise first or Malformed("no type is allowed")

    return read


def _list(each: _Read) -> _Read:
    def read(value: object) -> object:
        if not isinstance(value, list):
            raise Malformed(f"a list expected, not {value!r:.100}")
        return [each(one) for one in value]

    return read


def _dict(each: _Read) -> _Read:
    def read(value: object) -> object:
        return {name: each(one) for name, one in _object(value).items()}

    return read


def _object(value: object) -> JsonObject:
    if not isinstance(value, dict):
        raise Malformed(f"an object expected, not {value!r:.100}")
    return value


def _typed_dict(kind: Any, *, strict: bool) -> _Read:
    return _named(_readers(kind, strict), frozenset(kind.__required_keys__), strict)


def _dataclass(kind: Any, *, strict: bool) -> _Read:
    needed = frozenset(
        field.name
        for field in dataclasses.fields(kind)
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    )
    known = {field.name for field in dataclasses.fields(kind)}
    readers = {name: one for name, one in _readers(kind, strict).items() if name in known}
    read = _named(readers, needed, strict)
    return lambda value: kind(**typing.cast(dict[str, Any], read(value)))


def _readers(kind: Any, strict: bool) -> dict[str, _Read]:
    hints = typing.get_type_hints(kind, include_extras=True)
    return {
        name: _reader(hint, strict=strict)
        for name, hint in hints.items()
        if typing.get_origin(hint) is not ClassVar
    }


def _named(readers: Mapping[str, _Read], needed: frozenset[str], strict: bool) -> _Read:
    def read(value: object) -> object:
        given = _object(value)
        if missing := needed - given.keys():
            raise Malformed(f"{', '.join(sorted(missing))} missing")
        found: JsonObject = {}
        for name, one in given.items():
            reader = readers.get(name)
            if reader is None:
                if strict:
                    raise Malformed(f"unknown field {name!r:.100}")
                continue
            try:
                found[name] = reader(one)
            except Malformed as why:
                raise Malformed(f"{name}: {why}") from None
        return found

    return read
