"""Whether a machine hears what it and the others write of themselves. Pure.

A watch that is stuck says nothing, and nothing is what a quiet engine says as well. But each
machine knows when it has written itself, and asks twice a minute when anybody has; what was written
comes by the same way as everybody's changes.
"""

from __future__ import annotations

# Within so many seconds a machine has heard what it has written itself.
_WITHIN = 5.0


class Echo:
    def __init__(self) -> None:
        self.written = 0
        """The engine's revision at which a machine has written last, as far as it is known."""
        self._awaited: tuple[int, float] | None = None  # a revision, and since when

    def behind(self, heard: int, now: float) -> int:
        """Return by how many revisions what was ``heard`` is behind what this machine has written,
        once that takes longer than it should. ``now`` is of a clock that nobody sets."""
        is_over = self._awaited is not None and self.written < self._awaited[0]  # from a backup
        if self._awaited is None or is_over or heard >= self._awaited[0]:
            self._awaited = (self.written, now) if heard < self.written else None
        if self._awaited is None or now < self._awaited[1] + _WITHIN:
            return 0
        return self.written - heard
