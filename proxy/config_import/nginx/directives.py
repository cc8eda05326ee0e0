"""nginx's directives as a tree, and which of them hold at a place.

A directive that stands at an inner level replaces the outer ones of its name, also those that may
stand several times (add_header, allow, error_page). Each directive remembers whether anybody has
asked for it: what nobody asked for has not been taken over.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..draft import CannotRead, Place

_MOST = 200_000  # directives, what is included several times counts so often


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
        """Mark it and all that stands in it."""
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

    def here(self, name: str) -> list[Directive]:
        """Those that stand in this very block."""
        found = [one for one in self.directives if one.name == name]
        for one in found:
            one.used = True
        return found

    def all(self, name: str) -> list[Directive]:
        """Those of the innermost block that has any."""
        held: list[Directive] = []
        scope: Scope | None = self
        while scope is not None:
            found = scope.here(name)
            held = held or found
            scope = scope.outer
        return held

    def one(self, name: str) -> Directive | None:
        found = self.all(name)
        return found[-1] if found else None

    def word(self, name: str) -> str:
        """The first argument of a directive, "" where it is not given."""
        found = self.one(name)
        return found.arg if found else ""

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


def read(path: str) -> tuple[list[Directive], list[tuple[Place, str]]]:
    """The directives of a file with what it includes, and what could not be read of it. Raises
    `CannotRead`."""
    import crossplane  # type: ignore[import-untyped] # it has no types

    if os.path.isdir(path):
        path = os.path.join(path, "nginx.conf")
    if not os.access(path, os.R_OK):
        why = "it cannot be read" if os.path.exists(path) else "there is no such file"
        raise CannotRead(f"{path}: {why}")
    # Not with ``combine``: it tells the file that was included last as the place of what follows.
    parsed = crossplane.parse(path, strict=False, check_ctx=False, check_args=False)
    errors = [
        (Place(one["file"], one.get("line") or 0), _plain(one["error"])) for one in parsed["errors"]
    ]
    found = _Tree(parsed["config"]).file(0) if parsed["config"] else []
    if not found and errors:
        place, why = errors[0]
        raise CannotRead(f"{place}: {why}")
    return found, errors


def _plain(error: str) -> str:
    """A message of crossplane without the place that it repeats."""
    text = error.partition("] ")[2] if error.startswith("[Errno") else error
    return text.rpartition(" in ")[0] if " in /" in text else text


@dataclass(slots=True)
class _Tree:
    """Puts the files that crossplane has read into each other."""

    files: Sequence[Mapping[str, Any]]
    count: int = 0
    open: list[int] = field(default_factory=list)

    def file(self, number: int) -> list[Directive]:
        if number in self.open:
            raise CannotRead(f"{self.files[number]['file']}: includes lead in a circle")
        self.open.append(number)
        found = self._block(self.files[number]["parsed"], self.files[number]["file"])
        self.open.pop()
        return found

    def _block(self, parsed: Sequence[Mapping[str, Any]], file: str) -> list[Directive]:
        found: list[Directive] = []
        for one in parsed:
            self.count += 1
            if self.count > _MOST:
                raise CannotRead(f"{file}: more than {_MOST} directives")
            if "includes" in one:
                for number in one["includes"]:
                    found += self.file(number)
                continue
            args = tuple(one["args"])
            if one["directive"] == "if" and args:
                args = tuple(word for word in _unbracketed(args) if word)
            block = one.get("block")
            inner = None if block is None else self._block(block, file)
            found.append(Directive(one["directive"], args, Place(file, one["line"]), inner))
        return found


def _unbracketed(args: tuple[str, ...]) -> tuple[str, ...]:
    first, *rest = args
    words = [first.removeprefix("("), *rest]
    if first.startswith("("):
        words[-1] = words[-1].removesuffix(")")
    return tuple(words)
