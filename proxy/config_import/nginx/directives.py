"""nginx's directives as a tree, and which of them hold at a place.

A directive that stands at an inner level replaces the outer ones of its name, also those that may
stand several times (add_header, allow, error_page). Each directive remembers whether anybody has
asked for it: what nobody asked for has not been taken over.
"""

from __future__ import annotations

import contextlib
import glob
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field
from typing import Any

from acme_client.late_dataclass import dataclass

from ..draft import CannotRead, Place

_LEVELS = 4  # folders above a site's file in which nginx.conf is looked for
# What these files of nginx's packages say is what this server does.
_SAID_ANYWAY = (
    "mime.types", "fastcgi_params", "fastcgi.conf", "uwsgi_params", "scgi_params",
    "options-ssl-nginx.conf", "fastcgi-php.conf",
)  # fmt: skip
_MOST = 200_000  # directives, what is included several times counts so often
_DEEPEST = 100  # blocks and files in each other; real ones have eight


@dataclass(slots=True)
class Directive:
    name: str
    args: tuple[str, ...]
    place: Place
    block: list[Directive] | None = None
    used: bool = False

    def __str__(self) -> str:
        text = " ".join([self.name, *self.args])
        return f"{text} {{…}}" if self.block is not None else text

    @property
    def arg(self) -> str:
        return self.args[0] if self.args else ""

    def use(self) -> None:
        """Mark the directive and all that stands in it as taken over."""
        self.used = True
        for inner in self.block or ():
            inner.use()


@dataclass(slots=True)
class Scope:
    """The directives of one block, and of those around it. ``folder``: that of nginx.conf, from
    which relative names of files start."""

    directives: Sequence[Directive]
    outer: Scope | None = None
    constants: dict[str, str] = field(default_factory=dict)  # of ``set``
    folder: str = ""

    def __post_init__(self) -> None:
        if self.outer is not None:
            self.folder = self.outer.folder

    def here(self, *names: str) -> list[Directive]:
        """Return the directives of these names that stand in this very block, and mark them."""
        found = [one for one in self.directives if one.name in names]
        for one in found:
            one.used = True
        return found

    def all(self, *names: str) -> list[Directive]:
        """Return those of the innermost block that has any, and mark those of all blocks."""
        held: list[Directive] = []
        scope: Scope | None = self
        while scope is not None:
            found = scope.here(*names)
            held = held or found
            scope = scope.outer
        return held

    def one(self, name: str) -> Directive | None:
        found = self.all(name)
        return found[-1] if found else None

    def word(self, name: str) -> str:
        """Return the first argument of a directive, "" where it is not given."""
        found = self.one(name)
        return found.arg if found else ""

    def learn_constants(self) -> None:
        """Keep what ``set`` says in this very block, where that is the same for every request."""
        for one in self.here("set"):
            if len(one.args) == 2 and "$" not in one.args[1]:
                self.constants[one.args[0].lstrip("$")] = one.args[1]

    def constant(self, name: str) -> str | None:
        scope: Scope | None = self
        while scope is not None:
            if name in scope.constants:
                return scope.constants[name]
            scope = scope.outer
        return None

    def inner(self, directive: Directive) -> Scope:
        return Scope(directive.block or [], self)


def walk(directives: Sequence[Directive]) -> Iterator[Directive]:
    for one in directives:
        yield one
        yield from walk(one.block or ())


def read(path: str) -> tuple[list[Directive], str, list[tuple[Place, str]]]:
    """Return the directives of a file with what it includes, the folder from which relative names
    start, and what could not be read. Raises `CannotRead`."""
    if os.path.isdir(path):
        path = os.path.join(path, "nginx.conf")
    if not os.access(path, os.R_OK):
        why = "it cannot be read" if os.path.exists(path) else "there is no such file"
        raise CannotRead(f"{path}: {why}")
    tree = _Tree(os.path.dirname(os.path.abspath(path)))
    found = tree.file(path)
    if not _is_whole(found):
        tree = _Tree(_prefix(path))
        found = tree.file(path)
    if not found and tree.errors:
        place, why = tree.errors[0]
        raise CannotRead(f"{place}: {why}")
    return found, tree.folder, tree.errors


def _is_whole(found: Sequence[Directive]) -> bool:
    """Whether a file is an nginx.conf, whatever its name, and not the file of one site."""
    return any(one.name in ("http", "events") for one in found)


def _prefix(path: str) -> str:
    """Return the folder of nginx.conf, which lies above that of a site's own file."""
    folder = os.path.dirname(os.path.abspath(path))
    above = folder
    for _level in range(_LEVELS):
        if os.path.exists(os.path.join(above, "nginx.conf")):
            return above
        above = os.path.dirname(above)
    return folder


@dataclass(slots=True)
class _Tree:
    """Reads files by crossplane, one by one, and puts them into each other. With its own includes
    crossplane tells the file that was included last as the place of what follows."""

    folder: str
    errors: list[tuple[Place, str]] = field(default_factory=list)
    count: int = 0
    open: list[str] = field(default_factory=list)
    depth: int = 0

    def file(self, path: str) -> list[Directive]:
        import crossplane  # type: ignore[import-untyped] # it has no types

        if path in self.open:
            raise CannotRead(f"{path}: includes lead in a circle")
        try:
            with contextlib.suppress(crossplane.errors.NgxParserBaseException):  # told below
                self._measure(crossplane.lex(path))
            parsed = crossplane.parse(
                path, single=True, strict=False, check_ctx=False, check_args=False
            )
        except (OSError, UnicodeDecodeError) as error:
            raise CannotRead(f"{path}: it cannot be read ({error})") from None
        for one in parsed["errors"]:
            text = str(one["error"]).rpartition(" in ")[0] or str(one["error"])
            self.errors.append((Place(path, one.get("line") or 0), text))
        self.open.append(path)
        found = [one for each in parsed["config"] for one in self._block(each["parsed"], path)]
        self.open.pop()
        return found

    def _measure(self, tokens: Iterator[tuple[str, int, bool]]) -> None:
        """Raise RecursionError where blocks and files are nested too deep, before crossplane
        recurses for each block. When it is Python that ends this, 3.13 may do so in a generator of
        the lexer, where the error is lost, and the rest of the file seems not to be there."""
        depth = self.depth
        for word, _, quoted in tokens:
            if quoted or word not in ("{", "}"):
                continue
            depth += 1 if word == "{" else -1
            if depth > _DEEPEST:
                raise RecursionError

    def _block(self, parsed: Sequence[Mapping[str, Any]], file: str) -> list[Directive]:
        found: list[Directive] = []
        self.depth += 1
        for one in parsed:
            self.count += 1
            if self.count > _MOST:
                raise CannotRead(f"{file}: more than {_MOST} directives")
            args = tuple(one["args"])
            # An editor's byte order mark is no part of the first word.
            word = one["directive"].removeprefix("\ufeff")
            if word == "include" and args:
                found += self._include(args[0], Place(file, one["line"]))
                continue
            if word == "if" and args:
                args = tuple(word for word in _unbracketed(args) if word)
            block = one.get("block")
            inner = None if block is None else self._block(block, file)
            found.append(Directive(word, args, Place(file, one["line"]), inner))
        self.depth -= 1
        return found

    def _include(self, name: str, place: Place) -> list[Directive]:
        for folder in (self.folder, os.path.dirname(place.file)):
            pattern = os.path.join(folder, name)
            paths = sorted(glob.glob(pattern)) if glob.has_magic(pattern) else [pattern]
            paths = [path for path in paths if os.path.isfile(path)]
            if paths or glob.has_magic(name):
                return [one for path in paths for one in self.file(path)]
        known = os.path.basename(name)
        if known == "proxy_params":  # of Debian, which every package of nginx has there
            return [
                Directive("proxy_set_header", ("Host", "$http_host"), place),
                Directive(
                    "proxy_set_header", ("X-Forwarded-For", "$proxy_add_x_forwarded_for"), place
                ),
            ]
        if known not in _SAID_ANYWAY:
            self.errors.append((place, f"there is no {name}"))
        return []


def _unbracketed(args: tuple[str, ...]) -> tuple[str, ...]:
    first, *rest = args
    words = [first.removeprefix("("), *rest]
    if first.startswith("("):
        words[-1] = words[-1].removesuffix(")")
    return tuple(words)
