"""The keys that say how files of a document root are answered. They mean nothing without a root."""

import re
from typing import Annotated, Literal

from ..syntax import field_rules
from ..syntax.faults import Wrong, shown
from ..syntax.kinds import one_of, pairs, word
from ..syntax.patterns import parse_site_path
from ..syntax.sections import Before, Field, Many, Section, already_read, section


def _parse_file_name(text: str) -> str:
    if "/" in text or "\0" in text or not text.isprintable() or len(text.encode()) > 255:
        raise Wrong(f"{shown(text)} is not the name of a file", "write it like index.html")
    if text.startswith("."):
        raise Wrong(f"{shown(text)} is hidden, and never sent", "name a file without the dot")
    return text


def _parse_extension(text: str) -> str:
    if not re.fullmatch(r"\.[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*", text):
        raise Wrong(f"{shown(text)} is no ending of a file's name", "write it like .html")
    return text


def _parse_globs(text: str) -> str:
    """Patterns with a comma between them; each is for the name, or with a slash for the path."""
    parts = [part.strip() for part in text.split(",")]
    for part in parts:
        if not part or not part.isprintable():
            raise Wrong(f"{shown(text)} is no list of patterns", 'write it like "*.css,*.js"')
        if "/" in part and not part.startswith("/"):
            raise Wrong(f"{shown(part)} starts in the middle of a path", f"write /{part}")
    return ",".join(parts)


def _parse_cache_control(text: str) -> str:
    value = field_rules.value(text)
    if not value or field_rules.PLACE.search(value):
        raise Wrong(
            f"{shown(text)} is no Cache-Control, which is the same for everybody",
            'write it like "public, max-age=31536000, immutable" or no-cache',
        )
    return value


@section
class Listing(Section):
    """A page of what a folder holds, where it has no index. Off unless it has a format."""

    format: Annotated[
        Literal["auto", "html", "json", "off"], one_of("auto", "html", "json", "off")
    ] = Field(
        default="auto", description="auto is a page, or JSON for clients that prefer it (Accept)."
    )
    sort: Annotated[Literal["name", "size", "time"], one_of("name", "size", "time")] = Field(
        default="name", description="The order where the query says none (?sort=size&order=desc)."
    )


def _switch_alone(given: object) -> object:
    if isinstance(given, bool):
        given = str(given)
    if isinstance(given, str):
        word = given.lower()
        if word in ("true", "on", "yes", "auto"):
            return {"format": "auto"}
        if word in ("false", "off", "no"):
            return {"format": "off"}
        if word in ("html", "json"):
            return {"format": word}
        raise Wrong(f"{shown(given)} is neither true nor false", "write true, html, json or false")
    return given


ListingEntry = Annotated[Listing, Before(_switch_alone, written_as=bool | str | Listing)]


@section
class FileRules(Section):
    """How files are answered. Means nothing without a root."""

    index: Many[Annotated[str, word(_parse_file_name)]] = Field(
        default=("index.html",), description="What is sent for a folder: the first that is there."
    )
    listing: ListingEntry = Field(
        default=already_read(Listing, format="off"),
        description="What a folder without an index holds: true, false, html, json or more.",
    )
    fallback: Annotated[str, word(parse_site_path)] | None = Field(
        default=None,
        description="The file below the root for pages that no file takes (single-page apps).",
    )
    extensions: Many[Annotated[str, word(_parse_extension)]] = Field(
        default=(), description="Endings that may be left out: .html sends about.html for /about."
    )
    cache_control: Annotated[
        tuple[tuple[str, str], ...], pairs(_parse_globs, _parse_cache_control)
    ] = Field(
        default=(),
        description="PATTERNS: VALUE of Cache-Control; the first pattern that fits decides.",
    )
