"""Reads YAML text into plain values and their places.

The document is put together from the parser's events rather than by a YAML loader, for five
reasons:

- every key and every value keeps its line and column, so that a fault found much later can point
  at it;
- a key written twice is a fault. Loaders let the last one win, silently;
- anchors, aliases and merge keys work, within a bound: nine lines can stand for billions of values;
- the depth is bounded before anything is built. A hundred thousand opening brackets end libyaml's
  composer with a segmentation fault;
- a plain word stays a word. YAML 1.1 reads ``off`` as false, ``1.20`` as 1.2, ``22:30`` as 1350 and
  an octal user id as another user; here the schema, which knows what a key is for, reads the word.
  Only null (``~``, ``null``, nothing at all) is told apart, and means "not given".

Nothing here knows a key by name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import field
from typing import Any

import yaml
from yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    MappingEndEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from acme_client.late_dataclass import dataclass

from .environment import FromVariable, expand
from .faults import Fault, Origin, Origins, Path, Wrong, one_line, shown, spell
from .other_formats import recognise
from .plain_word import PlainWord

try:
    from yaml import CSafeLoader as _Loader
except ImportError:  # PyYAML built without libyaml: ten times slower, and the same events
    from yaml import SafeLoader as _Loader  # type: ignore[assignment]  # the same interface

LARGEST = 64 * 1024 * 1024  # bytes; ten thousand sites take about two million
# After aliases are followed; ten thousand sites have about a hundred thousand. A text may always
# have as many values as it writes out.
_VALUES = 300_000
_BYTES_EACH = 4
_DEPTH = 32  # the deepest key there is stands at eight
_FAULTS = 100  # enough to see what is going on in a file that is not a configuration at all

_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_STRING_TAG = "tag:yaml.org,2002:str"

Value = Any  # None, str, list of values, dict from str to values


@dataclass(frozen=True, slots=True)
class Document:
    """``value`` is a dict; parts that could not be read are missing from it."""

    value: dict[str, Value]
    origins: Origins
    faults: tuple[Fault, ...]


def parse(text: str, filename: str, environment: Mapping[str, str] | None = None) -> Document:
    """Read a text. Never raises: what is wrong with it is among the faults.

    ``${NAME}`` in a value is filled in from ``environment``; where that is None, nothing is.
    """
    document = _parse(text, filename, environment)
    if not document.value and document.faults:
        other = recognise(text)
        if other is not None:
            fault = Fault(Origin(filename, 1, 1), "", *other)
            return Document({}, document.origins, (fault,))
    return document


def _parse(text: str, filename: str, environment: Mapping[str, str] | None) -> Document:
    reader = _Reader(filename, environment, text)
    if len(text) > LARGEST:
        reader.blame(None, (), f"the file is larger than {LARGEST >> 20} MiB", "split it up")
        return reader.document(None)
    try:
        return reader.document(reader.read(text))
    except yaml.reader.ReaderError as error:
        before = text.encode()[: error.position].decode(errors="ignore")
        line, column = before.count("\n"), len(before) - before.rfind("\n") - 1
        reader.blame(yaml.Mark("", 0, line, column, "", 0), (), *_plainly(error, ""))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        if "simple key" in str(getattr(error, "context", "")) or "quoted scalar" in str(
            getattr(error, "context", "")
        ):
            mark = getattr(error, "context_mark", None) or mark  # where it begins
        column = mark.column if mark else 0
        reader.blame(mark, (), *_plainly(error, reader.line(mark), column))
    except UnicodeEncodeError:  # half of a surrogate pair, which libyaml cannot be handed
        reader.blame(None, (), "the text holds what UTF-8 cannot carry", "save the file as UTF-8")
    except _TooMuch as bound:
        reader.blame(bound.mark, (), str(bound), bound.remedy)
    return reader.document(None)


@dataclass(slots=True)
class _Node:
    mark: Any  # yaml's Mark: line and column from 0
    content: str | list[_Node] | _Pairs | None = None
    merge: bool = False  # a plain <<
    plain: bool = False  # a word without quotation marks
    open: bool = False  # not complete yet: an alias to it would never end


@dataclass(slots=True)
class _Pairs:
    """A mapping as it was written: keys may repeat."""

    pairs: list[tuple[_Node, _Node]]


class _TooMuch(Exception):
    def __init__(self, mark: Any, what: str, remedy: str) -> None:
        super().__init__(what)
        self.mark = mark
        self.remedy = remedy


@dataclass(slots=True)
class _Reader:
    filename: str
    environment: Mapping[str, str] | None = None
    text: str = ""
    faults: list[Fault] = field(default_factory=list)
    anchors: dict[str, _Node] = field(default_factory=dict)
    values: int = 0
    most: int = _VALUES
    origins: Origins = field(init=False)

    def __post_init__(self) -> None:
        self.most = max(_VALUES, len(self.text) // _BYTES_EACH)
        self.origins = Origins(Origin(self.filename, 1, 1))

    def document(self, value: Value) -> Document:
        return Document(value or {}, self.origins, tuple(self.faults))

    def blame(self, mark: Any, path: Path, what: str, remedy: str) -> None:
        if len(self.faults) < _FAULTS:
            self.faults.append(Fault(self.origin(mark), spell(path), what, remedy))

    def origin(self, mark: Any) -> Origin:
        line, column = (mark.line, mark.column) if mark else (0, 0)
        return Origin(self.filename, line + 1, column + 1)

    def line(self, mark: Any) -> str:
        lines = self.text.splitlines()
        return lines[mark.line] if mark and mark.line < len(lines) else ""

    # From events to nodes

    def read(self, text: str) -> Value:
        root: _Node | None = None
        loader = _Loader(text)
        events = iter(loader.get_event, None)
        try:
            for event in events:
                if type(event) is DocumentStartEvent:
                    if root is not None:
                        what = "a second document begins here"
                        self.blame(event.start_mark, (), what, "keep one per file")
                        break
                    root = self.node(next(events), events, 0)
        finally:
            loader.dispose()
        if root is None or root.content is None:
            return None
        if not isinstance(root.content, _Pairs):
            remedy = "write KEY: VALUE lines"
            if isinstance(root.content, list):
                remedy += "; a list of sites stands below a line of its own, sites:"
            self.blame(root.mark, (), "the file is not a mapping of keys", remedy)
            return None
        return self.plain(root, ())

    def node(self, event: Any, events: Iterator[Any], depth: int) -> _Node:
        if depth > _DEPTH:
            raise _too_deep(event.start_mark)
        kind = type(event)
        if kind is AliasEvent:
            return self.alias(event)
        if event.tag is not None:
            self.refuse_tag(event)
        if kind is ScalarEvent:
            value = event.value
            if event.style:
                made = _Node(event.start_mark, value)
            else:
                word = None if value in _NULLS else PlainWord(value)
                made = _Node(event.start_mark, word, value == "<<", True)
            if event.anchor:
                self.anchors[event.anchor] = made
            return made
        made = _Node(event.start_mark)
        if event.anchor:
            self.anchors[event.anchor] = made
        made.open = True
        if kind is SequenceStartEvent:
            items: list[_Node] = []
            for inner in events:
                if type(inner) is SequenceEndEvent:
                    break
                items.append(self.node(inner, events, depth + 1))
            made.content = items
        else:
            pairs: list[tuple[_Node, _Node]] = []
            for inner in events:
                if type(inner) is MappingEndEvent:
                    break
                key = self.node(inner, events, depth + 1)
                pairs.append((key, self.node(next(events), events, depth + 1)))
            made.content = _Pairs(pairs)
        made.open = False
        return made

    def alias(self, event: Any) -> _Node:
        known = self.anchors.get(event.anchor)
        name = one_line(event.anchor)
        if known is None:
            self.blame(
                event.start_mark,
                (),
                f"the alias *{name} has no anchor before it",
                f"write &{name} at the value that is meant",
            )
            return _Node(event.start_mark)
        if known.open:
            raise _TooMuch(
                event.start_mark, f"*{name} stands inside the value it is for", "write it out"
            )
        return known

    def refuse_tag(self, event: Any) -> None:
        if event.tag not in ("!", _STRING_TAG):
            self.blame(
                event.start_mark,
                (),
                f"the tag {shown(event.tag)} has no meaning here",
                "leave it out",
            )

    # From nodes to values

    def plain(self, node: _Node, path: Path, key: _Node | None = None) -> Value:
        self.values += 1
        if self.values > self.most:
            raise self.too_many(node)
        if len(path) > _DEPTH:
            raise _too_deep(node.mark)
        self.origins.put_mark(path, node.mark, None if key is None else key.mark)
        content = node.content
        if isinstance(content, str):
            if "$" in content and self.environment is not None:
                return self.expanded(content, node, path)
            return content
        if isinstance(content, list):
            return [self.plain(item, (*path, index)) for index, item in enumerate(content)]
        return None if content is None else self.mapping(content.pairs, path)

    def expanded(self, text: str, node: _Node, path: Path) -> str | None:
        """Fill in a value's variables; an empty plain word is "not given", as everywhere."""
        try:
            value = expand(text, self.environment or {})
        except Wrong as wrong:
            self.blame(node.mark, path, wrong.what, wrong.remedy)
            return None
        if not value and node.plain:
            return None
        return value if value == text.replace("$$", "$") else FromVariable(value)

    def count(self, node: _Node) -> None:
        self.values += 1
        if self.values > self.most:
            raise self.too_many(node)

    def too_many(self, node: _Node) -> _TooMuch:
        what = f"more than {self.most} values, aliases followed"
        return _TooMuch(node.mark, what, "repeat less by alias")

    def mapping(self, pairs: list[tuple[_Node, _Node]], path: Path) -> dict[str, Value]:
        values: dict[str, Value] = {}
        first: dict[str, _Node] = {}
        for key, value in pairs:
            if key.merge:
                continue
            name = key.content
            if not isinstance(name, str):
                self.blame(key.mark, path, "a key here is not a plain word", "write KEY: VALUE")
            elif name in first:
                self.blame(
                    key.mark,
                    (*path, name),
                    f"this key stands here twice, first in line {first[name].mark.line + 1}",
                    "keep one of the two",
                )
            else:
                first[name] = key
                values[name] = self.plain(value, (*path, name), key)
        for key, value in pairs:
            if key.merge:
                self.merge(value, values, path)
        return values

    def merge(self, source: _Node, values: dict[str, Value], path: Path, depth: int = 0) -> None:
        """Merge a source (<<) into ``values``: a key of the mapping itself wins, else the first
        source."""
        if depth > _DEPTH:
            raise _too_deep(source.mark)
        self.count(source)
        sources = source.content if isinstance(source.content, list) else [source]
        for each in sources:
            self.count(each)
            if not isinstance(each.content, _Pairs):
                self.blame(
                    each.mark, path, "<< takes a mapping or a list of them", "name one by its alias"
                )
                continue
            for key, value in each.content.pairs:
                name = key.content
                if key.merge:
                    self.merge(value, values, path, depth + 1)
                elif isinstance(name, str) and name not in values:
                    values[name] = self.plain(value, (*path, name), key)


def _too_deep(mark: Any) -> _TooMuch:
    return _TooMuch(mark, f"more than {_DEPTH} levels deep", "no key lies that deep")


def _plainly(error: yaml.YAMLError, line: str, column: int = 0) -> tuple[str, str]:
    """Say what is wrong and what to do, of the parser's own faults in this line of the text, at
    this column from 0."""
    problem = str(getattr(error, "problem", None) or getattr(error, "reason", None) or error)
    if "scanning an alias" in str(getattr(error, "context", None) or ""):
        asterisk = re.search(r"\*[^\s,\]}]*", line)
        return (
            "a value that begins with an asterisk means something else in YAML",
            f'quote it: "{one_line(asterisk[0]) if asterisk else "*.example.org"}"',
        )
    if "\t" in line[: len(line) - len(line.lstrip())] or (
        "\t" in line and ("cannot start any token" in problem or "tab" in problem)
    ):
        return "this line has a tab where YAML takes spaces alone", "indent with spaces"
    blank = next((c for c in line if not c.isascii() and (c.isspace() or c in _INVISIBLE)), None)
    if blank is not None:
        where = line.index(blank) + 1
        return (
            f"the character in column {where} is U+{ord(blank):04X}, which looks like a space",
            "replace it by a space, or take it out; it often comes with text from a web page",
        )
    if re.search(r"[\[{,:]\s*\$\{", line):
        return (
            "inside brackets and braces a value with ${...} needs quotation marks",
            'quote it: "${NAME}"',
        )
    braced = re.search(r"[\[{,].*?:\s+([^\s\"'\[{,][^\s\"',]*\{\w+\}[^\s,}]*)", line)
    if braced is not None:
        return (
            "inside brackets and braces a value with {...} needs quotation marks",
            f'quote it: "{one_line(braced[1])}"',
        )
    if "cannot start any token" in problem and column < len(line):
        return (
            f"this is not YAML: no value starts with {line[column]} there",
            f"quote a value that starts with {line[column]}, and indent with spaces",
        )
    for part, remedy in _REMEDIES:
        if part in problem:
            return f"this is not YAML: {problem}", remedy
    return f"this is not YAML: {problem}", "see the lines up to here"


# Zero-width characters and the byte order mark, which `str.isspace` does not count as blanks.
_INVISIBLE = "\u200b\u200c\u200d\u2060\ufeff"

_REMEDIES = (
    ("end of stream", "close the quotation mark, bracket or brace that is still open"),
    ("expected node content", "close the bracket or brace that is still open"),
    ("cannot start any token", "indent with spaces; quote a value that starts with @ or `"),
    (
        "mapping values are not allowed",
        "indent this line as its neighbours are; and quote a value that holds a colon and a blank",
    ),
    (
        "could not find expected ':'",
        "every line of a mapping is KEY: VALUE, with a blank behind the colon",
    ),
    (
        "did not find expected key",
        "indent the keys of a mapping alike, and the entries of a list; quote values with * or &",
    ),
    (
        "did not find expected '-'",
        "indent the entries of a list alike, and all keys of an entry as the one behind its dash",
    ),
    ("expected ',' or", "close the bracket or brace, and separate its entries by commas"),
    ("quoted scalar", "close the quotation mark"),
    ("control characters", "take the control character out; save the file as UTF-8"),
    ("not allowed", "take the control character out; save the file as UTF-8"),
)
