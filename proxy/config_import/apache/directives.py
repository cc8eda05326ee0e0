"""Apache's directives as a tree, with includes, definitions and the conditions on modules.

A module that is asked for with ``<IfModule>`` is taken to be there: the configuration was written
for a server that has it.
"""

from __future__ import annotations

import glob
import os
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import field

from acme_client.late_dataclass import dataclass

from ..draft import CannotRead, Place
from ..source_text import read_text

_MOST = 100_000  # directives
_DEPTH = 16
_SECTION = re.compile(r"<(/?)([A-Za-z]+)\s*([^>]*)>$")
_INLINE = frozenset(("ifmodule", "ifversion", "iffile", "ifdirective", "ifsection"))


@dataclass(slots=True)
class Directive:
    name: str  # in lower case
    args: list[str]
    place: Place
    block: list[Directive] | None = None
    used: bool = False
    written: str = ""

    def __str__(self) -> str:
        text = " ".join([self.written or self.name, *self.args])
        return f"<{text}>" if self.block is not None else text

    @property
    def arg(self) -> str:
        return self.args[0] if self.args else ""

    def use(self) -> None:
        self.used = True
        for one in self.block or ():
            one.use()


def here(directives: Sequence[Directive], *names: str) -> list[Directive]:
    found = [one for one in directives if one.name in names]
    for one in found:
        one.used = True
    return found


def last(directives: Sequence[Directive], name: str) -> Directive | None:
    found = here(directives, name)
    return found[-1] if found else None


def walk(directives: Sequence[Directive]) -> Iterator[Directive]:
    for one in directives:
        yield one
        yield from walk(one.block or ())


@dataclass(slots=True)
class Reader:
    """Reads a file with its includes. ``left`` tells what could not be read."""

    root: str = ""
    defined: dict[str, str] = field(default_factory=dict)
    left: list[tuple[Place, str, str]] = field(default_factory=list)
    count: int = 0
    seen: list[str] = field(default_factory=list)

    def file(self, path: str) -> list[Directive]:
        """Return the directives of a file with what it includes. Raises `CannotRead`."""
        if len(self.seen) > _DEPTH:
            raise CannotRead(f"{path}: includes lead in a circle")
        text = read_text(path, errors="surrogateescape")
        self.seen.append(path)
        lines = iter(_lines(text, path))
        found = self._block(lines, "")
        self.seen.pop()
        return found

    def _block(self, lines: Iterator[tuple[str, Place]], opened: str) -> list[Directive]:
        found: list[Directive] = []
        for line, place in lines:
            self.count += 1
            if self.count > _MOST:
                raise CannotRead(f"{place}: more than {_MOST} directives")
            section = _SECTION.fullmatch(line)
            if section:
                closing, name, rest = section.groups()
                if closing:
                    if name.lower() != opened:
                        raise CannotRead(f"{place}: {line} closes nothing")
                    return found
                found += self._section(name, self._filled(rest.strip()), place, lines)
                continue
            name, _blank, rest = line.partition(" ")
            self._one(name, self._filled(rest), place, found)
        if opened:
            raise CannotRead(f"{self.seen[-1]}: <{opened}> has no end")
        return found

    def _section(
        self, name: str, rest: str, place: Place, lines: Iterator[tuple[str, Place]]
    ) -> list[Directive]:
        low = name.lower()
        block = self._block(lines, low)
        if low in _INLINE:
            return [] if low == "ifmodule" and rest.startswith("!") else block
        if low == "ifdefine":
            absent = rest.startswith("!")
            return block if (rest.lstrip("!") in self.defined) is not absent else []
        return [Directive(low, _words(rest), place, block, written=name)]

    def _one(self, name: str, rest: str, place: Place, found: list[Directive]) -> None:
        low = name.lower()
        args = _words(rest)
        if low == "define" and args:
            self.defined[args[0]] = args[1] if len(args) > 1 else ""
        elif low == "serverroot" and args:
            self.root = args[0]
        elif low in ("include", "includeoptional") and args:
            found += self._include(args[0], low == "include", place)
        else:
            found.append(Directive(low, args, place, written=name))

    def _include(self, name: str, must: bool, place: Place) -> list[Directive]:
        folder = self.root if os.path.isdir(self.root) else os.path.dirname(self.seen[0])
        pattern = os.path.join(folder, name)
        if os.path.isdir(pattern):
            pattern = os.path.join(pattern, "*")
        paths = sorted(one for one in glob.glob(pattern) if os.path.isfile(one))
        if not paths and must:
            self.left.append((place, f"Include {name}", "there is no such file"))
        return [one for path in paths for one in self.file(path)]

    def _filled(self, text: str) -> str:
        def fill(found: re.Match[str]) -> str:
            return self.defined.get(found[1], found[0])

        return re.sub(r"\$\{([A-Za-z0-9_]+)\}", fill, text)


def _lines(text: str, path: str) -> Iterator[tuple[str, Place]]:
    held, begun = "", 0
    for number, line in enumerate(text.splitlines(), 1):
        begun = begun or number
        if line.rstrip().endswith("\\") and not line.lstrip().startswith("#"):
            held += line.rstrip()[:-1] + " "
            continue
        whole = " ".join((held + line).split()) if not re.search("[\"']", held + line) else (
            (held + line).strip()
        )  # fmt: skip
        if whole and not whole.startswith("#"):
            yield whole.replace("\t", " "), Place(path, begun)
        held, begun = "", 0


def _words(text: str) -> list[str]:
    """Split a line as Apache does: quotes hold words together, a backslash stays as it is."""
    lexer = shlex.shlex(text, posix=True)
    lexer.whitespace_split = True
    lexer.commenters = ""
    lexer.escape = ""
    lexer.quotes = "\"'"
    try:
        return [_unescaped(one) for one in lexer]
    except ValueError:  # a quotation without end
        return text.split()


def _unescaped(word: str) -> str:
    return word.replace('\\"', '"')
