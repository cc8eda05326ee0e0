"""The kinds of values that keys take: durations within bounds, counts, switches, files, lists.

Each kind reads one word, or refuses it with a `Wrong`, and says for the JSON Schema what an editor
should let through. Bounds are wide: they catch the slip of a key or a unit, not a bold choice.

Annotations are objects here and in the modules of `schema` that define sections, not text as
``from __future__ import annotations`` makes of them: pydantic would compile and evaluate that text
once for each class that inherits it, which took a start 15 ms.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self, TypeVar, dataclass_transform, get_args

from pydantic import (
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    ModelWrapValidatorHandler,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    model_validator,
)
from pydantic.dataclasses import dataclass
from pydantic.fields import FieldInfo
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import ArgsKwargs, CoreSchema, core_schema

from .faults import Wrong, nearest, shown
from .units import parse_duration, parse_size, spell_duration, spell_size

T = TypeVar("T")

DURATION = r"^[0-9.]+$|^([0-9.]+(w|d|h|ms|m|s))+$"
SIZE = r"^[0-9.]+ *([KMG]iB|[kMG]?B)?$"
# In JSON Schema.
MAPPING_OF_WORDS = {"type": "object", "additionalProperties": {"type": "string"}}

_EMAIL = re.compile(r"[^\s@:,]{1,64}@[^\s@:,]{1,255}")
_PATH = 4096  # bytes; PATH_MAX of Linux
_TYPOGRAPHIC = re.compile("[\u2018-\u201f\u00ab\u00bb\u2039\u203a]")
_VARIABLE = re.compile(r"\$([A-Za-z_][A-Za-z0-9_]*)", re.ASCII)
_OF_NGINX = ("request_uri", "uri", "host", "http_host", "server_name", "args", "scheme")
_SWITCH = {"true": True, "on": True, "yes": True, "false": False, "off": False, "no": False}


# Sections lie in one another, and the outermost has the rules of all: made at once, those of each
# inner one would be made twice, which is a quarter of the time that a start takes to import.
_CONFIG = ConfigDict(extra="forbid", defer_build=True)


@dataclass_transform(frozen_default=True, field_specifiers=(Field,))
def section(cls: type[T]) -> type[T]:
    """Make a `Section` of a class whose fields are the known keys: a frozen dataclass that reads a
    mapping of words, and that code makes like any other, with values instead of words."""
    made: Any = dataclass(frozen=True, config=_CONFIG)(cls)
    return made  # type: ignore[no-any-return] # pydantic gives back the class that it was given


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(Field,))
def wide_section(cls: type[T]) -> type[T]:
    """As `section`, for one with so many keys that code has to name those it gives."""
    made: Any = dataclass(frozen=True, kw_only=True, config=_CONFIG)(cls)
    return made  # type: ignore[no-any-return] # see `section`


def already_read(cls: type[T], **values: object) -> T:
    """Make a section of values that have been read, or that code knows to be sound; keys that are
    left out have their defaults.

    Calling the class does the same, and reads each value once more: the first call makes pydantic
    build the rules of that class alone, 1 to 7 ms each, at whichever import makes a default.
    """
    made = object.__new__(cls)
    fields: dict[str, FieldInfo] = cls.__pydantic_fields__  # type: ignore[attr-defined] # set by `section`
    made.__dict__.update({name: field.default for name, field in fields.items()}, **values)
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

    @property
    def given(self) -> frozenset[str]:
        """Return the keys that stand in the document; none for a section that code made."""
        found: frozenset[str] = self.__dict__.get("_given", frozenset())
        return found

    @classmethod
    def known_keys(cls) -> dict[str, FieldInfo]:
        """Return every key with what pydantic knows of it."""
        fields: dict[str, FieldInfo] = cls.__pydantic_fields__  # type: ignore[attr-defined] # set by `section`
        return fields

    @classmethod
    def other_word(cls, word: str) -> str | None:
        """Say what to write here instead of a word that is no key, if this section knows."""
        return cls.other_words.get(word)

    @model_validator(mode="wrap")
    @classmethod
    def _leave_out_nulls(cls, given: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        if isinstance(given, (cls, ArgsKwargs)):
            return handler(given)
        if given is None:
            given = {}
        if not isinstance(given, dict):
            raise Wrong("a mapping of keys belongs here", cls._way_out(given))
        known = cls.known_keys()
        said = {k: v for k, v in given.items() if v is not None or k not in known}
        made = handler(said)
        made.__dict__["_given"] = frozenset(said)
        return made

    @classmethod
    def _way_out(cls, given: object) -> str:
        """Say which mapping a single value may have been meant for: that of the key which takes it.

        >>> # health: /healthz leads to "write {path: /healthz}"
        """
        known = ", ".join(cls.known_keys())
        required = [name for name, field in cls.known_keys().items() if field.is_required()]
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
        if text.lower() in _SWITCH or text.lower() in ("auto", "default", "none"):
            more = f"say more, as in {mapping}" if required else "say more"
            return f"{more}, or leave it out; known here: {known}"
        takers = [name for name, taken in cls.known_keys().items() if _takes(taken, text)]
        if required:
            takers = [name for name in takers if name in required]
        if 0 < len(takers) <= 2:
            spelt = text if re.fullmatch(r"[A-Za-z0-9/._-]+", text) else f'"{text}"'
            return "write " + " or ".join(f"{{{name}: {spelt}}}" for name in takers)
        if not required:
            return f"known here: {known}"
        return f"write {mapping}; {required[0]}: {cls.known_keys()[required[0]].description}"


class Reading:
    """Metadata for `Annotated`: how the type is read from what stands in the document. ``schema``
    describes that for the JSON Schema."""

    schema: Mapping[str, Any] = {}

    def read(self, given: Any, info: ValidationInfo) -> object:
        """Return the value. Raises `Wrong`."""
        raise NotImplementedError

    def __get_pydantic_core_schema__(
        self, _source: Any, _handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.with_info_plain_validator_function(self.read)

    def __get_pydantic_json_schema__(
        self, _schema: CoreSchema, _handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return dict(self.schema)


def folder(info: ValidationInfo) -> Path:
    """Return the folder of the configuration, from which relative paths start."""
    found: Path = (info.context or {}).get("base", Path())
    return found


class _Word(Reading):
    """How the type is read from a word."""

    def __init__(
        self,
        parse: Callable[[str], object],
        schema: Mapping[str, Any],
        anything: bool = False,
        place: Callable[[str, Path], object] | None = None,
    ) -> None:
        self._parse = parse
        self.schema = schema
        self._place = place  # reads a path, which starts from the folder of the configuration
        self.takes_anything = anything

    def read(self, given: object, info: ValidationInfo) -> object:
        if info.context is None and not isinstance(given, str):
            return given  # made by code, and no word
        if isinstance(given, (list, dict)):
            kind = "list" if isinstance(given, list) else "mapping"
            raise Wrong(f"a {kind} stands where one value belongs", "give a single value")
        text = str(given)
        if not text.strip():
            raise Wrong("there is no value", "give one, or leave the key out")
        if _TYPOGRAPHIC.search(text[0] + text[-1]):
            raise Wrong(
                f"{shown(text)} has typographic quotation marks",
                "write straight ones, \" or ', or none",
            )
        try:
            if self._place is not None and info.context is not None:
                return self._place(text, folder(info))
            return self._parse(text)
        except Wrong as wrong:
            raise Wrong(wrong.what, _unfilled(text) or wrong.remedy) from None


def _switches(section: type[Section]) -> list[str]:
    return [name for name, field in section.known_keys().items() if field.annotation is bool]


def _takes(field: FieldInfo, text: str) -> bool:
    """Whether a key takes this very word; those that take nearly any word do not count."""
    annotation: Any = field.annotation
    if any(one.takes_anything for one in _words(annotation, *field.metadata)):
        return False
    wanted: Any = Annotated[annotation, *field.metadata] if field.metadata else annotation
    try:
        TypeAdapter(wanted).validate_python(text, context={})
    except ValidationError:
        return False
    return True


def _words(*annotations: Any) -> Iterator[_Word]:
    """Yield every `_Word` in an annotation: of ``Annotated[str, word] | None`` the one."""
    for annotation in annotations:
        if isinstance(annotation, _Word):
            yield annotation
        yield from _words(*get_args(annotation))


def _unfilled(text: str) -> str | None:
    """Say what to do where a word cannot be read because something in it was to be filled in."""
    if "{{" in text or "<%" in text:
        return "the placeholder of a template is not filled in; variables are written ${NAME}"
    variable = _VARIABLE.search(text)
    if variable is None or variable[1] in _OF_NGINX:
        return None
    return f"variables of the environment are written ${{{variable[1]}}}"


def word(parse: Callable[[str], object], **schema: Any) -> _Word:
    return _Word(parse, {"type": "string", **schema})


def number_word(parse: Callable[[str], object], **schema: Any) -> _Word:
    """A word that YAML and editors may also take for a number."""
    return _Word(parse, {"type": ["string", "number"], **schema})


class _OneOrMany:
    """A list that may be written as its only element."""

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self._read, handler(source))

    @staticmethod
    def _read(value: object) -> object:
        return value if isinstance(value, (list, tuple)) else [value]

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        many = handler(schema)
        return {"anyOf": [many["items"], many]}


Many = Annotated[tuple[T, ...], _OneOrMany()]


def alone(key: str) -> Callable[[object], object]:
    """What stands before a section (`BeforeValidator`) that may be written as one of its values:
    a word alone is that of ``key``."""
    return lambda given: {key: given} if isinstance(given, str) else given


def place_or(known: Callable[[str], str | None]) -> _Word:
    """A file's whole path as text, or a word that ``known`` turns into another."""

    def place(text: str, base: Path) -> str:
        return known(text) or str(base / parse_file(text))

    return _Word(lambda text: known(text) or text, {"type": "string"}, anything=True, place=place)


def from_folder(read: Callable[[str, Path], object], **schema: Any) -> _Word:
    """A word whose meaning depends on the folder of the configuration."""
    return _Word(
        lambda text: read(text, Path()), {"type": "string", **schema}, anything=True, place=read
    )


class _Mapping(Reading):
    """Metadata for `Annotated`: how a tuple, which can be hashed, is read from a mapping of single
    values. ``read`` gets the entries, each checked when its turn comes, and the folder of the
    configuration."""

    schema = MAPPING_OF_WORDS

    def __init__(
        self,
        read: Callable[[Iterator[tuple[str, Any]], Path], tuple[Any, ...]],
        kinds: tuple[str, str],
        example: str,
        give: str,
    ) -> None:
        self._read_entries = read
        self._kinds = kinds
        self._example = example
        self._give = give

    def read(self, given: object, info: ValidationInfo) -> tuple[Any, ...]:
        if isinstance(given, tuple):
            return given  # made by code
        if not isinstance(given, dict):
            raise Wrong(f"a mapping of {': '.join(self._kinds)} belongs here", self._example)
        return self._read_entries(self._entries(given), folder(info))

    def _entries(self, given: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
        for name, value in given.items():
            if isinstance(value, (list, dict)) or value is None:
                raise Wrong(f"{shown(name)} needs a single {self._kinds[1].lower()}", self._give)
            yield name, value


def mapping(
    read: Callable[[Iterator[tuple[str, Any]], Path], tuple[Any, ...]],
    kinds: tuple[str, str] = ("NAME", "VALUE"),
    example: str = "write NAME: VALUE lines",
    give: str = "give it one",
) -> _Mapping:
    """A mapping of single values, from which ``read`` makes a tuple. Messages call its names and
    values ``kinds``; ``example`` says how to write the mapping, and ``give`` what to write for a
    value that is missing."""
    return _Mapping(read, kinds, example, give)


def pairs(name: Callable[[str], str], value: Callable[[str], str]) -> _Mapping:
    """A mapping in which ``name`` and ``value`` read each word, as a tuple of pairs."""

    def read(entries: Iterator[tuple[str, Any]], _base: Path) -> tuple[tuple[str, str], ...]:
        return tuple({name(key): value(str(word_)) for key, word_ in entries}.items())

    return mapping(read)


# Within bounds


def duration(low: str, high: str) -> _Word:
    """Seconds, as a float."""
    least, most = parse_duration(low), parse_duration(high)

    def parse(text: str) -> float:
        seconds = parse_duration(text)
        if not least <= seconds <= most:
            raise Wrong(
                f"{spell_duration(seconds)} is out of bounds", f"choose between {low} and {high}"
            )
        return seconds

    return number_word(parse, pattern=DURATION)


def size(low: str, high: str, unlimited: bool = False) -> _Word:
    """Bytes; with ``unlimited`` that word is None."""
    least, most = parse_size(low), parse_size(high)

    def parse(text: str) -> int | None:
        if unlimited and text.strip() == "unlimited":
            return None
        if unlimited and text.strip().lower() in ("none", "off", "infinite", "inf", "-1", "no"):
            raise Wrong(f"{shown(text)} is not a size", "write unlimited")
        octets = parse_size(text)
        if not least <= octets <= most:
            raise Wrong(
                f"{spell_size(octets)} is out of bounds", f"choose between {low} and {high}"
            )
        return octets

    pattern = f"{SIZE}|^unlimited$" if unlimited else SIZE
    return number_word(parse, pattern=pattern)


def count(low: int, high: int) -> _Word:
    def parse(text: str) -> int:
        number = text.strip()
        if not (number.isascii() and number.isdigit()):
            raise Wrong(f"{shown(text)} is not a whole number", f"write one from {low} to {high}")
        if len(number) > 15 or not low <= int(number) <= high:
            raise Wrong(f"{shown(number)} is out of bounds", f"choose between {low} and {high}")
        return int(number)

    return _Word(parse, {"type": "integer", "minimum": low, "maximum": high})


def one_of(*known: str | int) -> _Word:
    """Exactly one of some words, or of some numbers."""
    by_word = {str(value): value for value in known}

    def parse(text: str) -> str | int:
        if text not in by_word:
            meant = _SWITCH.get(text.lower())
            if meant is not None and {"auto", "off"} <= by_word.keys():
                raise Wrong(
                    f"{shown(text)} is not known here", f"write {'auto' if meant else 'off'}"
                )
            raise Wrong(f"{shown(text)} is not known here", nearest(text, list(by_word)))
        return by_word[text]

    return _Word(parse, {"enum": list(known)})


# Single kinds


def _parse_switch(text: str) -> bool:
    value = _SWITCH.get(text.lower())
    if value is None:
        raise Wrong(f"{shown(text)} is neither true nor false", "write true or false")
    return value


def parse_file(text: str) -> str:
    """Read the name of a file. Raises `Wrong`."""
    if "\0" in text or not text.isprintable():
        raise Wrong(f"{shown(text)} has characters that a path should not have", "rename it")
    if text.startswith("~"):
        raise Wrong(f"{shown(text)} starts with a tilde", "write the home directory out")
    if len(text.encode(errors="surrogateescape")) > _PATH:
        raise Wrong(f"the path is longer than {_PATH} bytes", "shorten it")
    return text


def _parse_email(text: str) -> str:
    if not text.isprintable() or not _EMAIL.fullmatch(text):
        raise Wrong(f"{shown(text)} is not an e-mail address", "write it like ops@example.org")
    return text


def _parse_token(text: str) -> str:
    if not text.isprintable() or len(text) > 1024:
        raise Wrong(f"{shown(text)} is not one line of text", "give what the CA handed out")
    return text.strip()


Switch = Annotated[bool, _Word(_parse_switch, {"type": "boolean"})]
# A relative path starts from the configuration's folder.
File = Annotated[
    Path,
    _Word(
        parse_file,
        {"type": "string"},
        anything=True,
        place=lambda text, base: base / parse_file(text),
    ),
]
Email = Annotated[str, word(_parse_email, format="email")]
Token = Annotated[str, _Word(_parse_token, {"type": "string"}, anything=True)]
Account = Annotated[str, number_word(_parse_token)]  # of the system: by name or number
