"""The keys that change what is asked for, or answer in place of the site: ways through a site.

`strip_prefix` and `rewrite` change the path before the handler, `redirect` and `respond` answer in
its place, `error_pages` give errors another body.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from acme_client.late_dataclass import dataclass

from ..syntax import field_rules
from ..syntax.faults import Wrong, shown
from ..syntax.kinds import Switch, duration, mapping, number_word, one_of, word
from ..syntax.patterns import parse_redirect, parse_rewrite, parse_site_path
from ..syntax.sections import Before, Field, Section, already_read, section

_FILE = "file:"
_LONGEST_BODY = 64 * 1024


@dataclass(frozen=True, slots=True)
class ErrorPage:
    """What is sent with the statuses of ``codes`` (numbers, or a class like "5xx"): what the site
    answers for ``path``, or the bytes of ``page_file``. One of the two is given."""

    codes: tuple[int | str, ...]
    path: str = ""
    page_file: Path | None = None


def parse_codes(text: str) -> tuple[int | str, ...]:
    """The statuses of "404", "5xx" or "502,503,504". Raises `Wrong`."""
    found: list[int | str] = []
    for part in text.split(","):
        code = part.strip().lower()
        if code in ("4xx", "5xx"):
            found.append(code)
        elif len(code) == 3 and code.isascii() and code.isdigit() and 400 <= int(code) <= 599:
            found.append(int(code))
        else:
            raise Wrong(
                f"{shown(text)} are no statuses of errors",
                'write 404, "502,503,504", "4xx" or "5xx"',
            )
    return tuple(dict.fromkeys(found))


def parse_error_page(text: str, base: Path) -> tuple[str, Path | None]:
    """A path of the site, or a file: ``file:PATH``, or a whole path at which there is a file now.
    Raises `Wrong`."""
    if text.startswith(_FILE):
        name = text.removeprefix(_FILE)
        if not name:
            raise Wrong("file: names no file", "write it like file:/srv/errors/sorry.html")
        return "", base / name
    if text.startswith("/") and "\0" not in text and os.path.isfile(text):
        return "", Path(text)
    return parse_site_path(text), None


def _read_error_pages(entries: Iterator[tuple[str, object]], base: Path) -> tuple[ErrorPage, ...]:
    pages, seen = [], set[int | str]()
    for codes, page in entries:
        one = ErrorPage(parse_codes(codes), *parse_error_page(str(page), base))
        for code in one.codes:
            if code in seen:
                raise Wrong(f"{code} stands here twice", "leave one out")
            seen.add(code)
        pages.append(one)
    return tuple(pages)


_ERROR_PAGES = mapping(
    _read_error_pages,
    ("STATUS", "PAGE"),
    example="write it like {404: /404.html}",
    give="give it a path or a file",
)


def _parse_body(given: object) -> str:
    if isinstance(given, (list, dict)):
        raise Wrong("a text belongs here", "give a single value, in several lines behind |")
    text = str(given)
    if len(text.encode()) > _LONGEST_BODY:
        raise Wrong("this body is longer than 64 KiB", "put it into a file: error_pages or root")
    return text


def _parse_content_type(text: str) -> str:
    value = field_rules.value(text)
    if "/" not in value or field_rules.PLACE.search(value):
        raise Wrong(f"{shown(text)} is no media type", "write it like text/html; charset=utf-8")
    return value


def _parse_own_status(text: str) -> int:
    if not (len(text) == 3 and text.isascii() and text.isdigit() and 200 <= int(text) <= 599):
        raise Wrong(f"{shown(text)} is no status of an answer", "write one from 200 to 599")
    if text.startswith("3"):
        raise Wrong(f"{text} leads elsewhere", "write redirect: and where to")
    return int(text)


@section
class Respond(Section):
    """A fixed answer. ``retry_after`` is in seconds."""

    status: Annotated[int, number_word(_parse_own_status)] = Field(
        default=200, description="200 to 599, but for redirects."
    )
    body: Annotated[str, Before(_parse_body)] = Field(default="", description="Its text.")
    content_type: Annotated[str, word(_parse_content_type)] = Field(
        default="text/plain; charset=utf-8", description="What the text is."
    )
    retry_after: Annotated[float | None, duration("1s", "52w")] = Field(
        default=None, description="When clients may come again; with 503 this is maintenance."
    )


# Served as if nothing were given, where an outer level responds.
NO_RESPONSE = already_read(Respond, status=0)


def _status_alone(given: object) -> object:
    if isinstance(given, bool):
        given = str(given)
    if isinstance(given, str) and given.lower() in ("off", "false", "no"):
        return NO_RESPONSE
    if isinstance(given, str) and given.strip().isdigit():
        return {"status": given}
    return {"status": str(given)} if isinstance(given, int) else given


RespondEntry = Annotated[Respond, Before(_status_alone, written_as=bool | int | str | Respond)]


@section
class AnswerRules(Section):
    """What is asked for instead, and what is answered instead."""

    strip_prefix: Switch = Field(
        default=False,
        description="Leave out of the path what stands before the route's asterisk; backends are "
        "told in X-Forwarded-Prefix.",
    )
    rewrite: Annotated[str, word(parse_rewrite)] | None = Field(
        default=None,
        description="The path to ask for instead; {rest}, {path}, {query}, {host} are filled in.",
    )
    redirect: Annotated[str, word(parse_redirect)] | None = Field(
        default=None,
        description="Where to go instead; {rest}, {path}, {query}, {host} are filled in.",
    )
    status: Annotated[Literal[301, 302, 303, 307, 308], one_of(301, 302, 303, 307, 308)] = Field(
        default=308, description="The redirect's status."
    )
    respond: RespondEntry | None = Field(
        default=None,
        description="A fixed answer to every request: {status, body, content_type, retry_after}; "
        "off at a route that goes on.",
    )
    error_pages: Annotated[tuple[ErrorPage, ...], _ERROR_PAGES] = Field(
        default=(),
        description="STATUS: PAGE, like 404: /404.html; a path of the site, or a file. Statuses "
        'are numbers, lists ("502,503") or classes ("5xx").',
    )
    intercept: Switch = Field(
        default=False, description="Use error_pages for the errors of backends as well."
    )
