"""How long a crashed child waits for its successor. Pure; seconds.

Two kinds of crashes look alike only at first. A child that has served and falls is replaced at
once, each time: whatever felled it (a request, somebody's `kill`) comes now and then. A child that
falls while it starts will fall again, and each attempt costs CPU: its successors wait longer and
longer. What tells them apart is whether the child lived for longer after its start than the start
itself took.
"""

from __future__ import annotations

from collections.abc import Hashable

_FIRST = 0.05
_MOST = 10.0
_FACTOR = 3
# A child that serves for less than this has not shown that it can, however fast it started.
_SERVED_FOR = 0.1


class Backoff:
    def __init__(self) -> None:
        self._last: dict[Hashable, float] = {}

    def pause(self, who: Hashable, lived: float, start: float | None) -> float:
        """Seconds until the successor of ``who`` is started, which has crashed after ``lived``
        seconds. ``start``: how long it took until it served, None if it never did."""
        last = self._last.get(who, 0.0)
        served_well = start is not None and lived - start > max(start, _SERVED_FOR)
        pause = _FIRST if served_well or not last else min(_MOST, last * _FACTOR)
        self._last[who] = pause
        return pause
