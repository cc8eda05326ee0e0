"""What a peer may waste: one number per connection for all that costs us work and brings it
nothing.

Resets, pings, settings, empty frames and priorities are each allowed and each a known attack when
sent without end (CVE-2019-9512 to 9518, CVE-2023-44487, CVE-2025-8671). A limit for each would be a
dozen thresholds that nobody can choose. So each has a price, an answer that was taken earns some of
it back, time earns the rest, and whoever is below zero is a client that does nothing else.

Late frames on streams that were just reset are free: both sides may reset while frames are on their
way, and a browser that leaves a page resets a hundred streams at once.

Pure: time is told by whoever calls.
"""

from __future__ import annotations

from .frames import ENHANCE_YOUR_CALM, ConnectionFailed

MOST = 400.0
PER_SECOND = 20.0
PER_ANSWER = 1.0

# Prices
RESET_BY_CLIENT = 1  # before its answer was complete
ERROR_PROVOKED = 4  # a stream that we had to reset for what the peer did
REFUSED = 2  # a stream beyond the limit
SETTINGS = 8
EMPTY_FRAME = 1  # DATA or CONTINUATION that carries nothing and ends nothing
OTHER = 1  # PING, PRIORITY, PRIORITY_UPDATE, unknown types, WINDOW_UPDATE that nothing calls for

# A backend is no attacker: pings and updates of another temperament must not cost its streams. What
# it wastes without end still ends.
BACKEND = 100.0

# A window update or a ping is called for when there was something to take: clients credit what they
# got and measure round trips while data flows (gRPC's BDP estimator). So many of both go with
# each DATA frame that was sent and each stream that was opened.
FREE_PER_FRAME = 2
MOST_FREE = 1000


class Budget:
    """``now`` is the moment of the read that is being dealt with, in monotonic seconds; ``times``
    is how many times as much the peer may waste as a client may."""

    __slots__ = ("_at", "_free", "_left", "_most", "_per_second", "now")

    def __init__(self, now: float, times: float = 1.0) -> None:
        self.now = self._at = now
        self._left = self._most = MOST * times
        self._per_second = PER_SECOND * times
        self._free = 2 * FREE_PER_FRAME

    def spend(self, price: int, what: str) -> None:
        """Raises `ConnectionFailed` (ENHANCE_YOUR_CALM) when nothing is left."""
        self._left -= price
        if self._left < 0:
            self._refill()
            if self._left < 0:
                raise ConnectionFailed(ENHANCE_YOUR_CALM, f"too much waste, the last was {what}")

    def spend_unless_free(self, what: str) -> None:
        """For what is called for now and then: pings and window updates."""
        if self._free > 0:
            self._free -= 1
        else:
            self.spend(OTHER, what)

    def answered(self) -> None:
        """An answer was sent whole."""
        if self._left < self._most:
            self._left += PER_ANSWER

    def answered_with_data(self) -> None:
        """An answer was sent whole, in one frame of DATA."""
        if self._left < MOST:
            self._left += PER_ANSWER
        if self._free < MOST_FREE:
            self._free += FREE_PER_FRAME

    def carried(self, frames: int) -> None:
        """DATA was sent, or a stream was opened."""
        if self._free < MOST_FREE:
            self._free += FREE_PER_FRAME * frames

    def _refill(self) -> None:
        self._left = min(self._most, self._left + (self.now - self._at) * self._per_second)
        self._at = self.now
