"""How much a peer may send before we have taken it: memory that we promise (RFC 9113 §5.2, §6.9).

A window that is too small makes uploads slow on long ways, one that is too large is memory that any
client can fill. So it begins small and doubles while what comes is taken at once, out of a pool
that all connections of a worker share. Credit is given in steps of a quarter, not for each frame.

Pure: time is a parameter.
"""

from __future__ import annotations

FIRST_OF_CONNECTION = 128 * 1024
LARGEST_OF_CONNECTION = 1024 * 1024
POOL = 64 * 1024 * 1024
# Taken within that time, half a window is a stream that the window holds up.
_SOON = 0.5


class Pool:
    """What windows of a worker's connections may grow by, together."""

    def __init__(self, most: int = POOL) -> None:
        self._left = most

    def borrow(self, count: int) -> bool:
        """Whether there was so much."""
        if count > self._left:
            return False
        self._left -= count
        return True

    def give_back(self, count: int) -> None:
        self._left += count


class Window:
    """What the peer may send, on a stream or on the connection. ``left`` of it has not come yet."""

    __slots__ = ("_credit", "_largest", "_since", "_taken", "left", "size")

    def __init__(self, size: int, largest: int, now: float) -> None:
        self.size = self.left = size
        self._largest = largest
        self._credit = 0
        self._taken = 0
        self._since = now

    def consumed(self, count: int, now: float, pool: Pool | None) -> int:
        """The window update that is due, 0 if none is."""
        self._credit += count
        self._taken += count
        if self._taken * 2 >= self.size:
            if now - self._since <= _SOON and self._grow(pool):
                self._credit += self.size // 2
            self._taken = 0
            self._since = now
        if self._credit * 4 < self.size:
            return 0
        update, self._credit = self._credit, 0
        self.left += update
        return update

    def _grow(self, pool: Pool | None) -> bool:
        if self.size * 2 > self._largest or (pool is not None and not pool.borrow(self.size)):
            return False
        self.size *= 2
        return True
