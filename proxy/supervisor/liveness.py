"""Which child hangs: it has said nothing for longer than its work can explain. Pure; moments are
seconds of the monotonic clock.

A worker is asked every second and answers in the turn of its loop. The certifier says by itself
every few seconds that its main loop runs, however long the orders in its other threads take. How
long a child of each role may be silent stands in `roles`.

It is hard because a silence may be our own. A program that is stopped as a whole (Ctrl-Z, a
container that is paused, a machine that is moved) finds everybody's last word old when it goes on,
and whoever believed that would end all workers of a server that is well. So only the time counts in
which we have listened.
"""

from __future__ import annotations

# Between two beats of the supervisor's.
EVERY = 1.0
# Between two beats of ours; after a longer pause we were stopped ourselves.
_OWN_PAUSE = 5.0


class Liveness:
    def __init__(self, now: float) -> None:
        self._beaten = self._listening_since = now

    def beat(self, now: float) -> None:
        """Call once for each heartbeat of the supervisor, before children are checked."""
        if now - self._beaten > _OWN_PAUSE:
            self._listening_since = now
        self._beaten = now

    def is_hung(self, heard: float, allowed: float, now: float) -> bool:
        """Whether a child has been silent for more than ``allowed`` seconds. ``heard``: when it was
        started or last gave a sign of life."""
        return now - max(heard, self._listening_since) > allowed


class Silence:
    """Whether the certifier can be taken to hear what the other machines of a cluster tell. They
    wait for one that does not, until its session with etcd ends, ten seconds after it was stopped
    at the earliest; and one that goes on needs a moment until it has caught up. So a silence begins
    before the first and ends after the second."""

    BEGINS_AFTER = 8.0
    ENDS_AFTER = 10.0

    def __init__(self) -> None:
        self._beaten: float | None = None
        self._until = float("-inf")

    def beat(self, heard: float, now: float) -> bool:
        """Call once for each heartbeat of the supervisor, with when the certifier was heard last;
        returns whether it is silent. A supervisor that was stopped itself takes it for silent, as
        all were stopped."""
        stopped = self._beaten is not None and now - self._beaten > _OWN_PAUSE
        self._beaten = now
        if stopped or now - heard > self.BEGINS_AFTER:
            self._until = now + self.ENDS_AFTER
        return now < self._until
