"""Limits how fast renewals begin: in small batches.

A thousand certificates that fall due at once (the machine was away, a CA revokes) are no reason to
send a thousand orders in the minute that follows. What cannot wait is not slowed: names with
nothing to serve, certificates near their end, what somebody asked for by hand.

Pure: the time is a parameter (Unix seconds).
"""

from __future__ import annotations

from ..gcra import gcra

# At one CA. Let's Encrypt takes 300 orders in three hours that are no renewals, and asks big
# customers to renew in small batches; a thousand are done within the hour.
BATCH = 20
BATCH_WITHIN = 60.0
# A renewal is in a hurry when less than this part of the lifetime is left.
HURRY_BELOW = 1 / 6


class Pace:
    """The pace of renewals at one CA; ``among``: how many machines share it."""

    def __init__(self) -> None:
        self._due = 0.0
        self.among = 1

    def wait(self, now: float) -> float:
        """Seconds until one more may begin; 0.0: now."""
        return self._ask(now)[0]

    def begin(self, now: float) -> None:
        self._due = self._ask(now)[1]

    def _ask(self, now: float) -> tuple[float, float]:
        # A moment further ahead than possible was set by a clock that ran ahead.
        due = now if self._due > now + 2 * BATCH_WITHIN * self.among else self._due
        return gcra(due, now, BATCH_WITHIN / BATCH * self.among, max(BATCH // self.among, 1))


def in_hurry(not_before: float, not_after: float, now: float) -> bool:
    """Whether a certificate should be renewed whatever else is due."""
    return not_after - now < (not_after - not_before) * HURRY_BELOW
