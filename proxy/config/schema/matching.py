"""Which requests a route takes, beside their path: the keys `methods` and `match` of a route."""

import re
from typing import Annotated, ClassVar

from ..syntax.address_sets import AddressEntry, AddressFile
from ..syntax.expressions import Expression
from ..syntax.faults import Wrong, shown
from ..syntax.field_rules import IN_TOKENS
from ..syntax.kinds import pairs
from ..syntax.sections import Field, Many, Section, section
from .rules import AddressWord

PATTERN = "re:"
_METHOD = re.compile(rf"{IN_TOKENS}{{1,32}}")
_NAME = re.compile(rf"{IN_TOKENS}{{1,128}}")


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
    Expression(text.removeprefix(PATTERN))
    return text


def _spelled(entry: AddressEntry) -> str:
    return f"file:{entry.list_file}" if isinstance(entry, AddressFile) else entry.name


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
        default=(), key="from", description="Networks of clients, as in allow."
    )

    def __str__(self) -> str:
        conditions = [f"{name}: {value}" for name, value in self.header]
        conditions += [f"?{name}={value}" for name, value in self.query]
        if self.from_:
            conditions.append(f"from {', '.join(map(_spelled, self.from_))}")
        return " and ".join(conditions)

    @classmethod
    def _way_out(cls, given: object) -> str:
        """Say where a path stands, for that is what other programs match."""
        if isinstance(given, str):
            return "here that is path: /api/*, beside match: {header: ..., query: ..., from: ...}"
        return super()._way_out(given)


setattr(Match, "from", property(lambda match: match.from_))
