"""Tables for people: columns where they fit, else one entry below the other. Nothing is ever cut.

A width is known on a terminal, or where COLUMNS gives one; a pipe or a mail has none, and lines are
as long as they are. Colours are for terminals alone, and not where NO_COLOR is set.
"""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from typing import NamedTuple

RED, YELLOW, GREEN = "31", "33", "32"
_GAP = "  "


class Cell(NamedTuple):
    """``text`` may have several lines; ``colour`` is an ANSI number, "" for none."""

    text: str
    colour: str = ""


def table(header: Sequence[str], rows: Sequence[Sequence[str | Cell]]) -> str:
    """Lay out rows below their header. Every row has a cell for each word of the header."""
    cells = [[one if isinstance(one, Cell) else Cell(one) for one in row] for row in rows]
    width = _width()
    columns = [
        max(len(line) for text in (word, *(row[number].text for row in cells))
            for line in text.split("\n"))
        for number, word in enumerate(header)
    ]  # fmt: skip
    if width is None or sum(columns) + len(_GAP) * (len(columns) - 1) <= width:
        lines = _aligned(header, cells, columns)
    else:
        lines = _one_below_the_other(header, cells, width)
    return "\n".join(lines)


def _aligned(header: Sequence[str], rows: list[list[Cell]], columns: list[int]) -> Iterator[str]:
    yield _GAP.join(word.ljust(size) for word, size in zip(header, columns, strict=True)).rstrip()
    for row in rows:
        parts = [cell.text.split("\n") for cell in row]
        for number in range(max(map(len, parts))):
            line = []
            for cell, part, size in zip(row, parts, columns, strict=True):
                text = part[number] if number < len(part) else ""
                line.append(_coloured(text, cell.colour) + " " * (size - len(text)))
            yield _GAP.join(line).rstrip()


def _one_below_the_other(
    header: Sequence[str], rows: list[list[Cell]], width: int
) -> Iterator[str]:
    labels = max(map(len, header))
    for position, row in enumerate(rows):
        if position:
            yield ""
        for word, cell in zip(header, row, strict=True):
            room = max(width - labels - len(_GAP), 10)
            wrapped = [
                piece
                for line in cell.text.split("\n")
                # A name or an address that is longer than the line stays in one piece.
                for piece in textwrap.wrap(
                    line, room, break_long_words=False, break_on_hyphens=False
                )
            ]
            for number, piece in enumerate(wrapped):
                label = "" if number else word
                yield f"{label:<{labels}}{_GAP}{_coloured(piece, cell.colour)}"


def _coloured(text: str, colour: str) -> str:
    if not colour or not text or not sys.stdout.isatty() or "NO_COLOR" in os.environ:
        return text
    return f"\x1b[{colour}m{text}\x1b[0m"


def _width() -> int | None:
    if sys.stdout.isatty() or "COLUMNS" in os.environ:
        return shutil.get_terminal_size().columns
    return None
