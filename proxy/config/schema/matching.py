"""Which requests a route takes, beside their path: the keys `methods` and `match` of a route."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from typing import Annotated, Any, ClassVar

from pydantic import Field
from pydantic.fields import FieldInfo

from ..syntax.address_sets import AddressEntry, parse_entry
from ..syntax.faults import Wrong, shown
from ..syntax.kinds import Many, Section, from_folder, pairs, section

PATTERN = "re:"
_METHOD = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,32}")
_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}")


def parse_method(text: str) -> str:
    """A method's name in capitals. Raises `Wrong`."""
    if not _METHOD.fullmatch(text):
        raise Wrong(f"{shown(text)} is no method", "write methods like [GET, POST]")
    return text.upper()


def _parse_field_name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise Wrong(f"{shown(text)} is no name of a field", "write it like X-Version")
    return text.lower()


def _parse_parameter(text: str) -> str:
    if not text:
        raise Wrong("this parameter of the query has no name", "write it like {a: b}")
    return text


def parse_test(text: str) -> str:
    """A value, ``*`` for any, or ``re:`` and a regular expression. Raises `Wrong`."""
    if not text.startswith(PATTERN):
        return text
    pattern = text.removeprefix(PATTERN)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # what Python will read in another way one day
            compiled = re.compile(pattern)
    except (re.error, RecursionError, OverflowError, Warning) as error:
        raise Wrong(
            f"{shown(pattern)} is no regular expression: {error}",
            "write it as Python's re has it",
        ) from None
    if _is_slow(compiled.pattern):
        raise Wrong(
            f"{shown(pattern)} repeats a repetition, which a client's value can make endless",
            "write it without one in the other, as in (a+)+, and without references back",
        )
    return text


def _is_slow(pattern: str) -> bool:
    """Whether a repetition without bound stands in another: such an expression may take
    exponential time (CWE-1333). References back are slow alike."""
    parser: Any = re._parser  # type: ignore[attr-defined] # Python's own, and nowhere described
    return any(_repeated(parser.parse(pattern), 0))


def _repeated(parsed: Any, depth: int) -> Iterator[bool]:
    for operation, given in parsed:
        name = str(operation)
        if name == "GROUPREF":
            yield True
        elif name in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"):
            _least, most, inner = given
            many = int(most) > 32
            if many and depth:
                yield True
            yield from _repeated(inner, depth + many)
        elif name == "SUBPATTERN":
            yield from _repeated(given[-1], depth)
        elif name == "BRANCH":
            for one in given[1]:
                yield from _repeated(one, depth)
        elif name in ("ASSERT", "ASSERT_NOT"):
            yield from _repeated(given[1], depth)
        elif name == "ATOMIC_GROUP":
            yield from _repeated(given, depth)
        elif name == "GROUPREF_EXISTS":
            yield True


AddressWord = Annotated[AddressEntry, from_folder(parse_entry)]


@section
class Match(Section):
    """What must be so of a request that a route takes: all of it."""

    other_words: ClassVar = {
        **dict.fromkeys(("path", "prefix", "uri", "url"), "the route has its path: beside match"),
        **dict.fromkeys(("headers", "field", "fields"), "write header: {NAME: VALUE}"),
        **dict.fromkeys(("method", "methods"), "write methods: [GET], beside match"),
        **dict.fromkeys(("host", "name", "names", "domain"), "hosts are the names of a site"),
        **dict.fromkeys(
            ("remote_ip", "client_ip", "address", "ip", "client"), "write from: [10.0.0.0/8]"
        ),
    }

    header: Annotated[tuple[tuple[str, str], ...], pairs(_parse_field_name, parse_test)] = Field(
        default=(),
        description="NAME: VALUE; * is any value, re: begins an expression that is searched for.",
    )
    query: Annotated[tuple[tuple[str, str], ...], pairs(_parse_parameter, parse_test)] = Field(
        default=(), description="NAME: VALUE of parameters of the query, likewise."
    )
    from_: Many[AddressWord] = Field(
        default=(), alias="from", description="Networks of clients, as in allow."
    )

    @classmethod
    def known_keys(cls) -> dict[str, FieldInfo]:
        """Return every key; ``from`` is a word of Python's, and has another name within."""
        return {field.alias or name: field for name, field in super().known_keys().items()}


setattr(Match, "from", property(lambda match: match.from_))
