"""The kinds of values that keys take: durations within bounds, counts, switches, files, lists.

Each kind reads one word, or refuses it with a `Wrong`, and says for the JSON Schema what an editor
should let through. Bounds are wide: they catch the slip of a key or a unit, not a bold choice.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

from .faults import Wrong, nearest, shown
from .sections import SWITCH, Reading
from .units import parse_duration, parse_size, spell_duration, spell_size

DURATION = r"^[0-9.]+$|^([0-9.]+(w|d|h|ms|m|s))+$"
SIZE = r"^[0-9.]+ *([KMG]iB|[kMG]?B)?$"
# In JSON Schema.
MAPPING_OF_WORDS = {"type": "object", "additionalProperties": {"type": "string"}}

_EMAIL = re.compile(r"[^\s@:,]{1,64}@[^\s@:,]{1,255}")
_PATH = 4096  # bytes; PATH_MAX of Linux
_TYPOGRAPHIC = frozenset("\u2018\u2019\u201a\u201b\u201c\u201d\u201e\u201f\u00ab\u00bb\u2039\u203a")
_VARIABLE = re.compile(r"\$([A-Za-z_][A-Za-z0-9_]*)", re.ASCII)
_OF_NGINX = ("request_uri", "uri", "host", "http_host", "server_name", "args", "scheme")


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

    def read(self, given: object, base: Path) -> object:
        if isinstance(given, (list, dict)):
            kind = "list" if isinstance(given, list) else "mapping"
            raise Wrong(f"a {kind} stands where one value belongs", "give a single value")
        text = str(given)
        if not text.strip():
            raise Wrong("there is no value", "give one, or leave the key out")
        if text[0] in _TYPOGRAPHIC or text[-1] in _TYPOGRAPHIC:
            raise Wrong(
                f"{shown(text)} has typographic quotation marks",
                "write straight ones, \" or ', or none",
            )
        try:
            if self._place is not None:
                return self._place(text, base)
            return self._parse(text)
        except Wrong as wrong:
            raise Wrong(wrong.what, _unfilled(text) or wrong.remedy) from None


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

    def read(self, given: object, base: Path) -> tuple[Any, ...]:
        if not isinstance(given, dict):
            raise Wrong(f"a mapping of {': '.join(self._kinds)} belongs here", self._example)
        return self._read_entries(self._entries(given), base)

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
            meant = SWITCH.get(text.lower())
            if meant is not None and {"auto", "off"} <= by_word.keys():
                raise Wrong(
                    f"{shown(text)} is not known here", f"write {'auto' if meant else 'off'}"
                )
            raise Wrong(f"{shown(text)} is not known here", nearest(text, list(by_word)))
        return by_word[text]

    return _Word(parse, {"enum": list(known)})


# Single kinds


def _parse_switch(text: str) -> bool:
    value = SWITCH.get(text.lower())
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


@lru_cache(maxsize=64)  # thousands of sites may have one root
def _place(text: str, base: Path) -> Path:
    return base / parse_file(text)


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
        place=_place,
    ),
]
Email = Annotated[str, word(_parse_email, format="email")]
Token = Annotated[str, _Word(_parse_token, {"type": "string"}, anything=True)]
Account = Annotated[str, number_word(_parse_token)]  # of the system: by name or number
