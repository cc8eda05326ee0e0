"""The kinds of values that keys take: durations within bounds, counts, switches, files, lists.

Each kind reads one word, or refuses it with a `Wrong`, and says for the JSON Schema what an editor
should let through. Bounds are wide: they catch the slip of a key or a unit, not a bold choice.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, TypeVar, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from .faults import Wrong, nearest, shown
from .units import parse_duration, parse_size, spell_duration, spell_size

T = TypeVar("T")

DURATION = r"^[0-9.]+$|^([0-9.]+(w|d|h|ms|m|s))+$"
SIZE = r"^[0-9.]+ *([KMG]iB|[kMG]?B)?$"

_EMAIL = re.compile(r"[^\s@:,]{1,64}@[^\s@:,]{1,255}")
_PATH = 4096  # bytes; PATH_MAX of Linux
_TYPOGRAPHIC = re.compile("[\u2018-\u201f\u00ab\u00bb\u2039\u203a]")
_SWITCH = {"true": True, "on": True, "yes": True, "false": False, "off": False, "no": False}


class Section(BaseModel):
    """A mapping of known keys. Null is the same as leaving the key out."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _leave_out_nulls(cls, given: Any) -> Any:
        if given is None:
            return {}
        if not isinstance(given, dict):
            raise Wrong("a mapping of keys belongs here", cls._way_out(given))
        known_keys = cls.model_fields
        return {k: v for k, v in given.items() if v is not None or k not in known_keys}

    @classmethod
    def _way_out(cls, given: object) -> str:
        """The mapping that a single value may have been meant for: that of the key which takes it.

        >>> # health: /healthz leads to "write {path: /healthz}"
        """
        known = ", ".join(cls.model_fields)
        if isinstance(given, list):
            return f"write KEY: VALUE lines without dashes; known here: {known}"
        text = str(given)
        if text.lower() in _SWITCH:
            return f"say more, or leave it out; known here: {known}"
        takers = [name for name, taken in cls.model_fields.items() if _takes(taken, text)]
        if len(takers) == 1:
            spelt = text if re.fullmatch(r"[A-Za-z0-9/._-]+", text) else f'"{text}"'
            return f"write {{{takers[0]}: {spelt}}}"
        return f"known here: {known}"


def _takes(field: FieldInfo, text: str) -> bool:
    """Whether a key takes this very word; those that take nearly any word do not count."""
    annotation: Any = field.annotation
    if any(one.takes_anything for one in _words(annotation, *field.metadata)):
        return False
    wanted: Any = Annotated[annotation, *field.metadata] if field.metadata else annotation
    try:
        TypeAdapter(wanted).validate_python(text)
    except ValidationError:
        return False
    return True


def _words(*annotations: Any) -> Iterator[_Word]:
    """Every `_Word` in an annotation: of ``Annotated[str, word] | None`` the one."""
    for annotation in annotations:
        if isinstance(annotation, _Word):
            yield annotation
        yield from _words(*get_args(annotation))


class _Word:
    """Metadata for `Annotated`: how the type is read from a word."""

    def __init__(
        self, parse: Callable[[str], object], schema: Mapping[str, Any], anything: bool = False
    ) -> None:
        self._parse = parse
        self._schema = schema
        self.takes_anything = anything

    def _read(self, value: object) -> object:
        if isinstance(value, (list, dict)):
            kind = "list" if isinstance(value, list) else "mapping"
            raise Wrong(f"a {kind} stands where one value belongs", "give a single value")
        text = str(value)
        if not text.strip():
            raise Wrong("there is no value", "give one, or leave the key out")
        if _TYPOGRAPHIC.search(text[0] + text[-1]):
            raise Wrong(
                f"{shown(text)} has typographic quotation marks",
                "write straight ones, \" or ', or none",
            )
        return self._parse(text)

    def __get_pydantic_core_schema__(
        self, _source: Any, _handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self._read)

    def __get_pydantic_json_schema__(
        self, _schema: CoreSchema, _handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return dict(self._schema)


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
            raise Wrong(f"{shown(text)} is not known here", nearest(text, list(by_word)))
        return by_word[text]

    return _Word(parse, {"enum": list(known)})


# Single kinds


def _parse_switch(text: str) -> bool:
    value = _SWITCH.get(text.lower())
    if value is None:
        raise Wrong(f"{shown(text)} is neither true nor false", "write true or false")
    return value


def _parse_file(text: str) -> str:
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
File = Annotated[
    str, _Word(_parse_file, {"type": "string"}, anything=True)
]  # as written; relative to the configuration's directory
Email = Annotated[str, word(_parse_email, format="email")]
Token = Annotated[str, _Word(_parse_token, {"type": "string"}, anything=True)]
Account = Annotated[str, number_word(_parse_token)]  # of the system: by name or number
