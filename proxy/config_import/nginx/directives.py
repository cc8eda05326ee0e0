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
    """The directives of one block, and of those around it."""

    directives: Sequence[Directive]
    outer: Scope | None = None
    constants: dict[str, str] = field(default_factory=dict)  # of ``set``

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
    import crossplane

    if os.path.isdir(path):
        path = os.path.join(path, "nginx.conf")
    if not os.access(path, os.R_OK):
        why = "it cannot be read" if os.path.exists(path) else "there is no such file"
        raise CannotRead(f"{path}: {why}")
    parsed = crossplane.parse(
        path, combine=True, strict=False, check_ctx=False, check_args=False, comments=False
    )
    errors = [
        (Place(one["file"], one.get("line") or 0), _plain(one["error"])) for one in parsed["errors"]
    ]
    config = parsed["config"]
    found = _tree(config[0]["parsed"] if config else [], [0])
    if not found and errors:
        place, why = errors[0]
        raise CannotRead(f"{place}: {why}")
    return found, errors


def _plain(error: str) -> str:
    """A message of crossplane without the place that it repeats."""
    text = error.partition("] ")[2] if error.startswith("[Errno") else error
    return text.rpartition(" in ")[0] if " in /" in text else text


def _tree(parsed: Sequence[Mapping[str, Any]], count: list[int]) -> list[Directive]:
    found = []
    for one in parsed:
        count[0] += 1
        if count[0] > _MOST:
            raise CannotRead(f"{one['file']}: more than {_MOST} directives")
        args = tuple(one["args"])
        name = one["directive"]
        block = one.get("block")
        if name == "if" and args:  # crossplane keeps a bracket that stands beside a blank
            args = tuple(word for word in _unbracketed(args) if word)
        found.append(
            Directive(
                name,
                args,
                Place(one["file"], one["line"]),
                None if block is None else _tree(block, count),
            )
        )
    return found


def _unbracketed(args: tuple[str, ...]) -> tuple[str, ...]:
    first, *rest = args
    words = [first.removeprefix("("), *rest]
    if first.startswith("("):
        words[-1] = words[-1].removesuffix(")")
    return tuple(words)
