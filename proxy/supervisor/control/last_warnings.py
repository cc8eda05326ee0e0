"""The last warnings of the log, for the page: each line once, with how often it came. Pure.

A backend that is away makes the same lines for hours, and a scanner one for each address that it
has. Neither may push out the line that tells why a certificate is not renewed: so lines that say
the same are one, and of lines that differ in numbers only a few are kept.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from ...ipc.documents import Warned, WarnedLine

MOST = 50
# Of lines that differ in numbers and addresses only.
_MOST_ALIKE = 5
# What `log` adds where it has left out the same line, or lines like it.
_MEANWHILE = re.compile(r" \((?:and )?(\d{1,9}) (?:times more meanwhile|more like this)\)$")
_NUMBERS = re.compile(r"[0-9a-f.:]*\d[0-9a-f.:]*")


class LastWarnings:
    """``counts``: lines since the start, by their level."""

    def __init__(self) -> None:
        self._lines: dict[tuple[str, str], WarnedLine] = {}  # oldest first
        self.counts: Counter[str] = Counter()

    def add(self, warned: Warned) -> None:
        text, level = warned["text"], warned["level"]
        times = 1
        while (meanwhile := _MEANWHILE.search(text)) is not None:
            text, times = text[: meanwhile.start()], times + int(meanwhile[1])
        self.counts[level] += times
        key = (level, text)
        before = self._lines.pop(key, None)
        times += before["times"] if before is not None else 0
        self._lines[key] = {
            "at": warned["at"], "level": level, "process": warned["process"], "text": text,
            "times": times,
        }  # fmt: skip
        if before is None:
            self._leave_out(key)

    def _leave_out(self, newest: tuple[str, str]) -> None:
        level, shape = newest[0], _shape(newest[1])
        alike = [key for key in self._lines if key[0] == level and _shape(key[1]) == shape]
        if len(alike) > _MOST_ALIKE:
            del self._lines[alike[0]]
        elif len(self._lines) > MOST:
            del self._lines[next(iter(self._lines))]

    def __iter__(self) -> Iterator[WarnedLine]:
        """Newest first."""
        return reversed(self._lines.values())


def _shape(text: str) -> str:
    return _NUMBERS.sub("#", text)
