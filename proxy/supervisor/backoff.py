"""How long a crashed child waits for its successor: at once the first time, longer each time after,
so that a fault at start costs no CPU. Pure; seconds."""

from __future__ import annotations

from collections.abc import Hashable

_FIRST = 0.05
_MOST = 10.0
_FACTOR = 3
# A child that lived this long was not crashing at start, which takes it a second: whoever is killed
# now and then, or falls over a request now and then, is replaced at once each time.
_FORGET_AFTER = 5.0


class Backoff:
    def __init__(self) -> None:
        self._last: dict[Hashable, float] = {}

    def pause(self, who: Hashable, lived: float) -> float:
        """Seconds until ``who``, who has just crashed after ``lived`` seconds, is replaced."""
        last = self._last.get(who, 0.0)
        pause = _FIRST if lived > _FORGET_AFTER or not last else min(_MOST, last * _FACTOR)
        self._last[who] = pause
        return pause
