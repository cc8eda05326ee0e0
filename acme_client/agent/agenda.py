"""Remembers, for each certificate, the moment at which time alone changes something.

A heap, in which a newer moment replaces an older one by being the last: entries that are out of
date stay until they come to the top, and are left out there. Pure: moments are Unix seconds.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator


class Agenda:
    def __init__(self) -> None:
        self._entries: list[tuple[float, int, str]] = []
        self._last: dict[str, int] = {}  # the number of each name's entry that counts
        self._count = 0

    def put(self, name: str, moment: float | None) -> None:
        """Replace the name's moment; None: time alone changes nothing."""
        self._count += 1
        self._last[name] = self._count
        if moment is not None:
            heapq.heappush(self._entries, (moment, self._count, name))

    def drop(self, name: str) -> None:
        self._last.pop(name, None)

    def due(self, now: float) -> Iterator[str]:
        """Take out the names whose moment has come. Names may be put in meanwhile."""
        while self._entries and self._entries[0][0] <= now:
            _moment, number, name = heapq.heappop(self._entries)
            if self._last.get(name) == number:
                yield name

    def next(self) -> float | None:
        """Return the next moment of any name."""
        while self._entries and self._last.get(self._entries[0][2]) != self._entries[0][1]:
            heapq.heappop(self._entries)
        return self._entries[0][0] if self._entries else None
