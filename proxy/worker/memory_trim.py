"""Gives memory back to the system after a peak of connections (malloc_trim(3)).

An idle TLS connection holds some 20 KiB, most of it OpenSSL's and in small parts. When thousands
have ended, glibc keeps what they had: it gives memory back only from the end of its heap, where
something else always lies. `malloc_trim` makes it give back every page in between that is not
used. That takes a millisecond or two for two thousand connections, and so is done after a
peak only, and not often.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable

# A peak is worth it from so many connections on: some 5 MiB.
_WORTH_IT = 256
# Seconds from the moment when half of a peak has gone: the other half follows, as a rule, and a
# load that swings costs nothing to speak of.
_SETTLED_AFTER = 5.0


def trim() -> None:
    """Give back unused pages, where libc can (glibc)."""
    give_back = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if give_back is not None:
        give_back(0)


class MemoryTrim:
    """Calls ``give_back`` a while after half of the connections of the last peak have ended."""

    def __init__(self, give_back: Callable[[], None] = trim) -> None:
        self._give_back = give_back
        self._highest = 0
        self._over: float | None = None  # since when the last peak is

    def observe(self, connections: int, now: float) -> None:
        self._highest = max(self._highest, connections)
        gone = self._highest - connections
        if gone < max(_WORTH_IT, self._highest // 2):
            self._over = None
        elif self._over is None:
            self._over = now
        elif now - self._over >= _SETTLED_AFTER:
            self._over = None
            self._highest = connections
            self._give_back()
