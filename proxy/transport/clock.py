"""One coarse clock per worker, so that no request pays for asking the time or formatting it.

``tick`` is called by the worker a few times a second. ``now`` is for deadlines (monotonic seconds),
``unix`` for log lines, ``date`` for the Date field (RFC 9110 §5.6.7: one-second resolution). They
lag by at most one tick, which is finer than anything they are used for; durations of requests are
taken from `time.monotonic` itself.
"""

from __future__ import annotations

import time
from email.utils import formatdate

TICK = 0.25  # seconds; a quarter of Date's resolution, so that Date is never a whole second late


class Clock:
    __slots__ = ("_second", "date", "date_field", "now", "unix")

    def __init__(self) -> None:
        self._second = -1
        self.tick()

    def look(self) -> float:
        """``now``, made exact: where a deadline of seconds begins, after a turn of the loop that
        may have been long."""
        self.now = time.monotonic()
        return self.now

    def tick(self) -> None:
        self.now = time.monotonic()
        self.unix = time.time()
        second = int(self.unix)
        if second != self._second:
            self._second = second
            self.date = formatdate(second, usegmt=True).encode()
            self.date_field = b"date: " + self.date + b"\r\n"
