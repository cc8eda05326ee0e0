"""What is counted of an engine since this process began. Metrics tell it; no step depends on it."""

from __future__ import annotations

import threading
from bisect import bisect_left
from typing import Literal, TypedDict

# Why a watch had to compare what is there with what it knew, because changes cannot be had one by
# one any more.
Why = Literal["compacted", "restored"]


# Upper bounds in seconds; a call waits for three seconds a member at most.
ENGINE_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class EngineFigures(TypedDict):
    """``seconds``: how many calls took at most each of `ENGINE_BUCKETS`, and how many took longer;
    ``fenced``: steps that were refused because their lock had been lost; ``conflicts``: because
    another machine was faster; ``reloads``: how often changes had escaped a watch, by reason."""

    seconds: list[int]
    seconds_sum: float
    fenced: int
    conflicts: int
    reloads: dict[str, int]


class Figures:
    """Any thread may count."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seconds = [0] * (len(ENGINE_BUCKETS) + 1)
        self._seconds_sum = 0.0
        self._fenced = 0
        self._conflicts = 0
        self._reloads: dict[str, int] = {"compacted": 0, "restored": 0}

    def called(self, seconds: float) -> None:
        """Count a call, which took so long until its answer, or until there was to be none."""
        with self._lock:
            self._seconds[bisect_left(ENGINE_BUCKETS, seconds)] += 1
            self._seconds_sum += seconds

    def fenced(self) -> None:
        """Count a step that was refused because the lock that it was made under had been lost."""
        with self._lock:
            self._fenced += 1

    def conflict(self) -> None:
        """Count a step that was refused because others had changed what it was worked out from."""
        with self._lock:
            self._conflicts += 1

    def reload(self, why: Why) -> None:
        with self._lock:
            self._reloads[why] += 1

    def document(self) -> EngineFigures:
        with self._lock:
            return {
                "seconds": list(self._seconds),
                "seconds_sum": self._seconds_sum,
                "fenced": self._fenced,
                "conflicts": self._conflicts,
                "reloads": dict(self._reloads),
            }
