"""Whose turn it is to send: the order of a connection's answers (RFC 9218 §9, §10).

Urgency first. Within one urgency, answers that are of use only as a whole go one after the other,
in the order in which they were asked for; those that are of use in part share the connection in
rounds. Every eighth turn goes to whoever has waited longest, whatever its urgency, so that nobody
starves.

Only streams that have something to send are in it. Pure.
"""

from __future__ import annotations

from .priority import Priority

_FAIR = 8


class Schedule:
    """The streams that could send at this moment, if the windows and the socket let them."""

    __slots__ = ("_levels", "_priorities", "_served", "_turn")

    def __init__(self) -> None:
        self._levels: list[dict[int, bool]] = [{} for _ in range(8)]
        self._priorities: dict[int, Priority] = {}
        self._served: dict[int, int] = {}  # when each of them had its last turn
        self._turn = 0

    def __bool__(self) -> bool:
        return bool(self._priorities)

    def __contains__(self, stream: int) -> bool:
        return stream in self._priorities

    def add(self, stream: int, priority: Priority) -> None:
        """It has something to send, from now on."""
        if stream not in self._priorities:
            self._priorities[stream] = priority
            self._levels[priority[0]][stream] = priority[1]
            self._served[stream] = self._turn

    def remove(self, stream: int) -> None:
        """It has nothing, for now or for good."""
        priority = self._priorities.pop(stream, None)
        if priority is not None:
            del self._levels[priority[0]][stream]
            del self._served[stream]

    def change(self, stream: int, priority: Priority) -> None:
        if stream in self._priorities:
            self.remove(stream)
            self.add(stream, priority)

    def next(self) -> int | None:
        """The stream that may send one frame; None where nobody has anything."""
        if not self._priorities:
            return None
        self._turn += 1
        if self._turn % _FAIR == 0:
            chosen = min(self._served, key=self._served.__getitem__)
        else:
            level = next(level for level in self._levels if level)
            chosen = next(iter(level))
            if level[chosen] and len(level) > 1:
                level[chosen] = level.pop(chosen)  # the next one's round
        self._served[chosen] = self._turn
        return chosen
