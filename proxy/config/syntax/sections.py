"""Sections: mappings of known keys, as frozen dataclasses that read themselves from words.

A section's fields are the keys. A field's annotation says how its value is read: a `Reading` reads
what stands in the document, another section reads a mapping, and `Many`, ``| None`` and `Before`
stand around these. Reading goes on behind a fault and collects every `Slip`; a section with one is
not made. Code makes sections, too, with values instead of words, which are taken as they are.

A start makes some fifty of these classes and reads two or three documents, so what is not asked for
costs nothing: how a key is read is worked out when the first document has it, and the methods that
`dataclass` would compile for each class, 5 ms for the largest, are written here once for all.

Annotations are objects in the modules that define sections, and not text as ``from __future__
import annotations`` makes of them: they are what reads.
"""

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import FrozenInstanceError
from functools import cached_property
from operator import attrgetter
from pathlib import Path
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    ClassVar,
    Literal,
    NamedTuple,
    TypeVar,
    Union,
    dataclass_transform,
    get_args,
    get_origin,
)

from .faults import Path as KeyPath
from .faults import Wrong

T = TypeVar("T")

SWITCH = {"true": True, "on": True, "yes": True, "false": False, "off": False, "no": False}


class Slip(NamedTuple):
    """What is wrong at a place below a section: a value, a key that is not known, or one that is
    missing."""

    path: KeyPath
    wrong: Wrong | Literal["unknown", "missing"]


class _Failed:
    """In place of a value that could not be read."""


FAILED = _Failed()
# Reads a value that stands at a place, in a document of a folder; adds what is wrong to the list.
Reader = Callable[[Any, Path, KeyPath, list[Slip]], Any]


class Reading:
    """Metadata for `Annotated`: how the type is read from what stands in the document. ``schema``
    describes that for the JSON Schema; ``takes_anything`` says that nearly any word is read."""

    schema: Mapping[str, Any] = {}
    takes_anything = False

    def read(self, given: Any, base: Path) -> object:
        """Return the value. ``base`` is the folder of the configuration. Raises `Wrong`."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True, eq=False)
class Before:
    """Metadata for `Annotated`: ``change`` is applied to what stands in the document before the
    type reads it. ``written_as`` is what may be written then, for the JSON Schema."""

    change: Callable[[Any], Any]
    written_as: Any = None


ONE_OR_MANY = Before(lambda given: given if isinstance(given, (list, tuple)) else [given])
# A list that may be written as its only element.
Many = Annotated[tuple[T, ...], ONE_OR_MANY]


def alone(key: str) -> Callable[[object], object]:
    """What stands before a section (`Before`) that may be written as one of its values: a word
    alone is that of ``key``."""
    return lambda given: {key: given} if isinstance(given, str) else given


def Field(  # noqa: N802 - as in the libraries that people know fields from
    *,
    description: str,
    default: Any = dataclasses.MISSING,
    secret: bool = False,
    key: str = "",
) -> Any:
    """A key of a section. ``key``: as it is written, where that is a word of Python's; a
    ``secret`` is in no `repr`."""
    metadata = {"description": description, "key": key}
    return dataclasses.field(default=default, repr=not secret, metadata=metadata)


class KnownKey(NamedTuple):
    """A key of a section. ``attribute`` is its name within. ``whole`` is how it is annotated, of
    which ``metadata`` is that of `Annotated`, and ``annotation`` the rest."""

    attribute: str
    whole: Any
    annotation: Any
    metadata: tuple[Any, ...]
    default: Any
    description: str

    @property
    def required(self) -> bool:
        return self.default is dataclasses.MISSING

    @classmethod
    def of(cls, field: dataclasses.Field[Any]) -> "KnownKey":
        annotation, metadata = apart(field.type)
        described = field.metadata.get("description", "")
        return cls(field.name, field.type, annotation, metadata, field.default, described)


def apart(annotation: Any) -> tuple[Any, tuple[Any, ...]]:
    """Return what `Annotated` stands around, and its metadata."""
    if get_origin(annotation) is not Annotated:
        return annotation, ()
    inner, *metadata = get_args(annotation)
    return inner, tuple(metadata)


class _Facts:
    """What is known of a section's keys, each worked out when it is asked for first."""

    def __init__(self, cls: type[Any], wide: bool) -> None:
        self.wide = wide
        self.fields = dataclasses.fields(cls)
        self._readers: dict[str, Reader] = {}

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The attributes in the order of a call, in which those that must be named come last."""
        return tuple(one.name for one in sorted(self.fields, key=lambda one: bool(one.kw_only)))

    @cached_property
    def defaults(self) -> dict[str, Any]:
        given = (one for one in self.fields if one.default is not dataclasses.MISSING)
        return {one.name: one.default for one in given}

    @cached_property
    def values(self) -> Callable[[Any], Any]:
        return attrgetter(*self.names) if self.names else lambda _made: ()

    @cached_property
    def keys(self) -> Mapping[str, KnownKey]:
        return {one.metadata.get("key") or one.name: KnownKey.of(one) for one in self.fields}

    @cached_property
    def required(self) -> tuple[str, ...]:
        return tuple(key for key, one in self.keys.items() if one.required)

    def reader(self, key: str) -> Reader:
        found = self._readers.get(key)
        if found is None:
            found = self._readers[key] = reader(self.keys[key].whole)
        return found


@dataclass_transform(frozen_default=True, field_specifiers=(Field,))
def section(cls: type[T]) -> type[T]:
    """Make a `Section` of a class whose fields are the known keys: a frozen dataclass that reads a
    mapping of words, and that code makes like any other, with values instead of words."""
    return _made(cls, named=False)


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(Field,))
def wide_section(cls: type[T]) -> type[T]:
    """As `section`, for one with so many keys that code has to name those it gives."""
    return _made(cls, named=True)


def _made(cls: type[T], named: bool) -> type[T]:
    if cls.__doc__ is None:
        cls.__doc__ = cls.__name__  # else `dataclass` composes a signature for it
    # What these would compile for each class, `Section` has.
    make = dataclasses.dataclass(init=False, repr=False, eq=False, match_args=False, kw_only=named)
    made = make(cls)
    setattr(made, "_facts", _Facts(made, named))  # noqa: B010 - mypy knows it of `Section` alone
    return made


def already_read(cls: type[T], **values: object) -> T:
    """Make a section of values that are known to be those of its keys; keys that are left out have
    their defaults. A call of the class does the same, and looks whether they are its keys."""
    facts: _Facts = cls.__dict__["_facts"]
    made = object.__new__(cls)
    made.__dict__.update(facts.defaults, **values)
    return made


def of_few(cls: type[T], values: Mapping[str, Any]) -> T:
    """Do as `already_read` where few of many keys are given: the section holds these alone, and
    those that are left out are found at the class. A site has ninety keys, and there are thousands
    of sites. To read a key that is left out takes longer."""
    made = object.__new__(cls)
    made.__dict__.update(values)
    return made


@section
class Section:
    """A mapping of known keys. Null is the same as leaving the key out.

    ``renamed`` are old spellings of keys, which are still taken, each with the present one.
    ``other_words`` are words of other programs that mean something else elsewhere, each with what
    to write here.
    """

    renamed: ClassVar[Mapping[str, str]] = {}
    other_words: ClassVar[Mapping[str, str]] = {}
    _facts: ClassVar[_Facts]

    # The keys that stand in the document; none for a section that code made.
    given: ClassVar[frozenset[str]] = frozenset()

    # What `dataclass` would compile for each class by itself.

    def __init__(self, *values: object, **named: object) -> None:
        names = self._facts.names
        made = {**self._facts.defaults, **dict(zip(names, values, strict=False)), **named}
        if len(values) > len(names) or made.keys() != set(names):
            amiss = ", ".join(sorted(made.keys() ^ set(names))) or "too many values"
            raise TypeError(f"{type(self).__name__}: missing or not known: {amiss}")
        self.__dict__.update({name: made[name] for name in names})

    def __setattr__(self, name: str, value: object) -> None:
        raise FrozenInstanceError(f"cannot assign to field {name!r}")

    def __delattr__(self, name: str) -> None:
        raise FrozenInstanceError(f"cannot delete field {name!r}")

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if type(other) is not type(self):
            return NotImplemented
        values = self._facts.values
        return bool(values(self) == values(other))

    def __hash__(self) -> int:
        return hash(self._facts.values(self))

    def __repr__(self) -> str:
        shown = [one.name for one in self._facts.fields if one.repr]
        told = ", ".join(f"{name}={getattr(self, name)!r}" for name in shown)
        return f"{type(self).__qualname__}({told})"

    @classmethod
    def known_keys(cls) -> Mapping[str, KnownKey]:
        """Return every key, as it is written, with what is known of it."""
        return cls._facts.keys

    @classmethod
    def other_word(cls, word: str) -> str | None:
        """Say what to write here instead of a word that is no key, if this section knows."""
        return cls.other_words.get(word)

    @classmethod
    def read(cls, given: Any, base: Path, at: KeyPath, slips: list[Slip]) -> Any:
        """Return the section that stands in a document; `FAILED` if something in it is wrong."""
        if isinstance(given, cls):
            return given
        if given is None:
            given = {}
        if not isinstance(given, dict):
            wrong = Wrong("a mapping of keys belongs here", cls._way_out(given))
            slips.append(Slip(at, wrong))
            return FAILED
        facts = cls._facts
        known = facts.keys
        before = len(slips)
        said = []
        values: dict[str, Any] = {}
        for key, value in given.items():
            one = known.get(key)
            if one is None:
                slips.append(Slip((*at, key), "unknown"))
            elif value is not None:
                said.append(key)
                values[one.attribute] = facts.reader(key)(value, base, (*at, key), slips)
        slips += [Slip((*at, key), "missing") for key in facts.required if key not in said]
        if len(slips) > before:
            return FAILED
        values["given"] = frozenset(said)
        return of_few(cls, values) if facts.wide else already_read(cls, **values)

    @classmethod
    def _way_out(cls, given: object) -> str:
        """Say which mapping a single value may have been meant for: that of the key which takes it.

        >>> # health: /healthz leads to "write {path: /healthz}"
        """
        known = ", ".join(cls.known_keys())
        required = cls._facts.required
        mapping = "{" + ", ".join(f"{name}: ..." for name in required) + "}"
        if isinstance(given, list):
            return f"write KEY: VALUE lines without dashes; known here: {known}"
        text = str(given)
        if text in cls.known_keys():
            return (
                f"write {{{text}: ...}}"
                if text not in _switches(cls)
                else f"write {{{text}: true}}"
            )
        if text.lower() in SWITCH or text.lower() in ("auto", "default", "none"):
            more = f"say more, as in {mapping}" if required else "say more"
            return f"{more}, or leave it out; known here: {known}"
        takers = [key for key in cls.known_keys() if _takes(cls, key, text)]
        if required:
            takers = [name for name in takers if name in required]
        if 0 < len(takers) <= 2:
            spelt = text if re.fullmatch(r"[A-Za-z0-9/._-]+", text) else f'"{text}"'
            return "write " + " or ".join(f"{{{name}: {spelt}}}" for name in takers)
        if not required:
            return f"known here: {known}"
        return f"write {mapping}; {required[0]}: {cls.known_keys()[required[0]].description}"


def _switches(section: type[Section]) -> list[str]:
    return [name for name, key in section.known_keys().items() if key.annotation is bool]


def _takes(section: type[Section], key: str, text: str) -> bool:
    """Whether a key takes this very word; those that take nearly any word do not count."""
    if any(one.takes_anything for one in _readings(section.known_keys()[key].whole)):
        return False
    slips: list[Slip] = []
    section._facts.reader(key)(text, Path(), (), slips)
    return not slips


def _readings(*annotations: Any) -> Iterator[Reading]:
    """Yield every `Reading` in an annotation: of ``Annotated[str, word] | None`` the one."""
    for annotation in annotations:
        if isinstance(annotation, Reading):
            yield annotation
        yield from _readings(*get_args(annotation))


# How annotations read


def reader(annotation: Any) -> Reader:
    """Return what reads the values of an annotation."""
    inner, metadata = apart(annotation)
    if metadata:
        return _marked(inner, metadata)
    if get_origin(annotation) in (Union, UnionType):
        (inner,) = (one for one in get_args(annotation) if one is not NoneType)
        reads = reader(inner)
        return lambda given, *rest: None if given is None else reads(given, *rest)
    if get_origin(annotation) is tuple:
        return _each(get_args(annotation)[0])
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation.read
    return lambda given, *_rest: given  # a `Before` has read it


def _marked(annotation: Any, marks: tuple[Any, ...]) -> Reader:
    """What reads an annotation with its marks, of which the last comes first."""
    if not marks:
        return reader(annotation)
    inner, mark = marks[:-1], marks[-1]
    if isinstance(mark, Reading):
        return _by_itself(mark)
    reads = _marked(annotation, inner)
    return _after(mark, reads) if isinstance(mark, Before) else reads


def _by_itself(mark: Reading) -> Reader:
    def read(given: Any, base: Path, at: KeyPath, slips: list[Slip]) -> Any:
        try:
            return mark.read(given, base)
        except Wrong as wrong:
            slips.append(Slip(at, wrong))
            return FAILED

    return read


def _after(mark: Before, reads: Reader) -> Reader:
    def read(given: Any, base: Path, at: KeyPath, slips: list[Slip]) -> Any:
        try:
            changed = mark.change(given)
        except Wrong as wrong:
            slips.append(Slip(at, wrong))
            return FAILED
        return reads(changed, base, at, slips)

    return read


def _each(annotation: Any) -> Reader:
    reads = reader(annotation)

    def read(given: Any, base: Path, at: KeyPath, slips: list[Slip]) -> Any:
        if not isinstance(given, (list, tuple)):
            slips.append(Slip(at, Wrong("a list belongs here", "begin each entry with a dash")))
            return FAILED
        return tuple(reads(one, base, (*at, number), slips) for number, one in enumerate(given))

    return read
