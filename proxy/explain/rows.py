"""The rows of a page, how values of the configuration are spelt there, and the page as text or as a
document. Pure."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Generator, Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any

from acme_client.late_dataclass import dataclass

from ..config.schema.own_filters import FilterUse
from ..config.schema.rules import UNLIMITED, BasicAuth
from ..config.values import ServiceUrl
from ..errors import Fault
from ..filters.code import FilterName
from ..protocol.message import Response

_PLACE = re.compile(r"(.*):(\d+):(\d+)")


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the page. ``place``: where the configuration says so; "" for what is a default
    or follows from the request."""

    title: str
    text: str
    place: str = ""


# The rows of a page in turn, and between them what has to be awaited for those that follow: its
# outcome is sent into the generator. So a page can be made where other requests are served.
Steps = Generator[Row | Awaitable[Response | Fault], Any, None]


def shown(value: object) -> str:
    """Spell a value as the configuration has it."""
    if isinstance(value, ServiceUrl | BasicAuth):
        return str(value)
    if value is None:
        return "null"
    if value == UNLIMITED:
        return "unlimited"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, FilterName):
        return str(value)
    if isinstance(value, FilterUse):  # what it is made of may be secret
        return f"{{use: {value.use}, timeout: {value.timeout:g}s}}"
    if hasattr(value, "__dataclass_fields__"):
        parts = ((one.name, getattr(value, one.name)) for one in fields(value))  # type: ignore[arg-type] # checked above
        return "{" + ", ".join(f"{name}: {shown(part)}" for name, part in parts) + "}"
    if isinstance(value, tuple):
        return "[" + ", ".join(map(shown, value)) + "]"
    return str(value)


def refused(fault: Fault) -> Row:
    """Return the answer to a request that is refused."""
    kind = fault.what
    why = f": {fault.detail}" if fault.detail else ""
    return Row("answer", f"{kind.status} {kind.text} ({fault.kind}{why})")


def lines(rows: Sequence[Row]) -> Iterator[str]:
    """Yield the page for people: a title once for the rows that follow each other under it."""
    width = max((len(row.title) for row in rows), default=0)
    last = ""
    for row in rows:
        title = row.title if row.title != last else ""
        last = row.title
        place = f"  [{row.place}]" if row.place else ""
        yield f"{title:<{width}}  {row.text}{place}"


def document(rows: Sequence[Row]) -> list[Mapping[str, str]]:
    """Return the page for programs."""
    return [{"title": row.title, "text": row.text, "place": row.place} for row in rows]


def in_the_file(origins: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return keys and their places as they stand in the file, by its name, line and column."""
    return sorted(origins.items(), key=_order)


def _order(origin: tuple[str, str]) -> tuple[str, int, int, str]:
    key, place = origin
    found = _PLACE.fullmatch(place)
    return (found[1], int(found[2]), int(found[3]), key) if found else (place, 0, 0, key)
