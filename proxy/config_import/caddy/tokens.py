"""Caddyfiles as trees of directives: words, quotes, braces, snippets, imports, heredocs.

As Caddy's own reader has it: a directive is a line of words; an opening brace at a line's end
begins a block; ``{$NAME:default}`` is a variable of the environment; ``(name) { … }`` is a snippet,
and ``import name a b`` puts it in place with ``{args[0]}`` filled in, or another file.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import field

from acme_client.late_dataclass import dataclass

from ..draft import CannotRead, Place
from ..source_text import read_text

_DEPTH = 16  # imports in imports
_MOST = 50_000  # directives
_ENVIRONMENT = re.compile(r"\{\$([A-Za-z0-9_]+)(?::([^}]*))?\}")


@dataclass(frozen=True, slots=True)
class Token:
    text: str
    place: Place
    quoted: bool = False


@dataclass(slots=True)
class Directive:
    name: str
    args: list[str]
    place: Place
    block: list[Directive] | None = None

    def __str__(self) -> str:
        text = " ".join([self.name, *self.args])
        return f"{text} {{…}}" if self.block is not None else text

    def inner(self, name: str) -> list[Directive]:
        return [one for one in self.block or () if one.name == name]


def lines_of(text: str, file: str, environment: Mapping[str, str]) -> list[list[Token]]:
    """Split a text into lines, and each into its words. Raises `CannotRead`."""
    text = _ENVIRONMENT.sub(lambda found: environment.get(found[1], found[2] or ""), text)
    lines: list[list[Token]] = [[]]
    position, line, length = 0, 1, len(text)
    while position < length:
        char = text[position]
        if char == "\n":
            line += 1
            position += 1
            if lines[-1]:
                lines.append([])
            continue
        if char in " \t\r":
            position += 1
            continue
        if char == "\\" and text[position + 1 : position + 2] == "\n":
            position += 2
            line += 1
            continue
        if char == "#":
            end = text.find("\n", position)
            position = length if end < 0 else end
            continue
        place = Place(file, line)
        if char in '"`':
            word, position = _quoted(text, position, place)
            line += word.count("\n")
            lines[-1].append(Token(word, place, quoted=True))
            continue
        found = re.compile(r"<<([A-Za-z0-9_-]+)\n").match(text, position)
        if found:
            word, end = _heredoc(text, found.end(), found[1], place)
            line += text.count("\n", position, end)
            position = end
            lines[-1].append(Token(word, place, quoted=True))
            continue
        end = position
        while end < length and text[end] not in " \t\r\n":
            end += 1
        lines[-1].append(Token(text[position:end], place))
        position = end
    return [one for one in lines if one]


def _quoted(text: str, start: int, place: Place) -> tuple[str, int]:
    mark = text[start]
    word: list[str] = []
    position = start + 1
    while position < len(text):
        char = text[position]
        if char == mark:
            return "".join(word), position + 1
        if char == "\\" and mark == '"' and text[position + 1 : position + 2] in ('"', "\\"):
            position += 1
            char = text[position]
        word.append(char)
        position += 1
    raise CannotRead(f"{place}: this quotation has no end")


def _heredoc(text: str, start: int, marker: str, place: Place) -> tuple[str, int]:
    lines: list[str] = []
    position = start
    while position < len(text):
        end = text.find("\n", position)
        end = len(text) if end < 0 else end
        one = text[position:end]
        if one.strip() == marker or one.strip().startswith(f"{marker} "):
            indent = one[: len(one) - len(one.lstrip())]
            body = "\n".join(each.removeprefix(indent) for each in lines)
            return body, position + len(indent) + len(marker)
        lines.append(one)
        position = end + 1
    raise CannotRead(f"{place}: this heredoc has no end ({marker})")


@dataclass(slots=True)
class Parser:
    """Reads files with their imports. ``notes`` tell what could not be read, and is left out."""

    environment: Mapping[str, str]
    snippets: dict[str, list[Directive]] = field(default_factory=dict)
    notes: list[tuple[Place, str, str]] = field(default_factory=list)
    count: int = 0

    def file(self, path: str, depth: int = 0) -> list[Directive]:
        """Return the directives of a file, its imports in place. Raises `CannotRead`."""
        lines = iter(lines_of(read_text(path), path, self.environment))
        return self._block(lines, os.path.dirname(os.path.abspath(path)), depth, None)

    def _block(
        self, lines: Iterator[list[Token]], folder: str, depth: int, opened: Place | None
    ) -> list[Directive]:
        found: list[Directive] = []
        for line in lines:
            if line[0].text == "}" and not line[0].quoted:
                if opened is None:
                    raise CannotRead(f"{line[0].place}: this brace closes nothing")
                return found
            self.count += 1
            if self.count > _MOST:
                raise CannotRead(f"{line[0].place}: more than {_MOST} directives")
            words = list(line)
            inline = None
            if words[-1].text == "}" and not words[-1].quoted and len(words) > 2:
                # `handle { respond 200 }` on one line
                opening = next((n for n, one in enumerate(words) if one.text == "{"), None)
                if opening is not None:
                    inside = words[opening + 1 : -1]
                    inline = self._block(iter([inside]), folder, depth, None) if inside else []
                    words = words[:opening]
            block = inline
            if block is None and words[-1].text == "{" and not words[-1].quoted:
                words = words[:-1]
                block = self._block(lines, folder, depth, line[0].place)
            elif block is None and words[-1].text == "{}" and len(words) > 1:
                words, block = words[:-1], []
            name = words[0].text if words else ""
            one = Directive(name, [word.text for word in words[1:]], line[0].place, block)
            if re.fullmatch(r"\([^()\s]+\)", name) and block is not None:
                self.snippets[name[1:-1]] = block
            elif name == "import" and one.args:
                found += self._import(one, folder, depth)
            else:
                found.append(one)
        if opened is not None:
            raise CannotRead(f"{opened}: this block has no end")
        return found

    def _import(self, one: Directive, folder: str, depth: int) -> list[Directive]:
        name, *args = one.args
        if depth >= _DEPTH:
            raise CannotRead(f"{one.place}: imports lead in a circle")
        if name in self.snippets:
            return [_filled(each, args) for each in self.snippets[name]]
        pattern = os.path.join(folder, name)
        paths = sorted(glob.glob(pattern))
        if not paths and not glob.has_magic(name):
            self.notes.append((one.place, str(one), "there is no such file and no such snippet"))
        return [
            _filled(each, args)
            for path in paths
            if os.path.isfile(path)
            for each in self.file(path, depth + 1)
        ]


def _filled(one: Directive, args: list[str]) -> Directive:
    if not args:
        return one

    def fill(text: str) -> str:
        return re.sub(
            r"\{args\[(\d+)\]\}|\{args\.(\d+)\}",
            lambda found: (args[int(found[1] or found[2])]
                           if int(found[1] or found[2]) < len(args) else ""),
            text,
        )  # fmt: skip

    words: list[str] = []
    for word in one.args:
        if word in ("{args[:]}", "{args.*}"):
            words += args
        else:
            words.append(fill(word))
    block = None if one.block is None else [_filled(each, args) for each in one.block]
    return Directive(fill(one.name), words, one.place, block)
