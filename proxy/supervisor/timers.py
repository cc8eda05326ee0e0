"""Timers of the supervisor's loop: a heap of moments, with the time as a parameter."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable


class Timer:
    __slots__ = ("action", "cancelled")

    def __init__(self, action: Callable[[], None]) -> None:
        self.action = action
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Timers:
    """Moments are seconds of `time.monotonic`; equal ones run in the order they were made."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()

    def at(self, moment: float, action: Callable[[], None]) -> Timer:
        appointment = Timer(action)
        heapq.heappush(self._heap, (moment, next(self._order), appointment))
        return appointment

    def pause(self, now: float) -> float | None:
        """Seconds until the next timer is due; None when there is none."""
        while self._heap and self._heap[0][2].cancelled:
            heapq.heappop(self._heap)
        return max(0.0, self._heap[0][0] - now) if self._heap else None

    def run(self, now: float) -> None:
        """Run the timers that are due. One that is set meanwhile waits for the next call."""
        due = []
        while self._heap and self._heap[0][0] <= now:
            due.append(heapq.heappop(self._heap)[2])
        for appointment in due:
            if not appointment.cancelled:
                appointment.action()
