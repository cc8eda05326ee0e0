"""Who hangs: a child that has said nothing for longer than its work can explain. Pure; seconds of
the monotonic clock.

A worker is asked every second and answers in the turn of its loop; the certifier says by itself
every few seconds that its main loop runs, however long the orders in its other threads take. A
messenger is not listened to: its whole life has a bound (`alerting`).

It is hard because a silence may be our own. A program that is stopped as a whole (Ctrl-Z, a
container that is paused, a machine that is moved) finds everybody's last word old when it goes on,
and whoever believed that would end all workers of a server that is well. So only the time counts in
which we have listened.
"""

from __future__ import annotations

from collections.abc import Mapping

# Between two beats of the supervisor's.
EVERY = 1.0
# A worker's loop turns within milliseconds; a large file on a slow disk may hold one turn up for a
# second or two.
WORKER_LOST = 10.0
# Before it serves, it reads all certificates in one go: some thousands on a slow machine.
STARTING_LOST = 30.0
# The certifier's main loop writes to the disk: an fsync on a worn SD card takes ten seconds. Nobody
# waits for it within a minute.
CERTIFIER_LOST = 60.0
LOST: Mapping[tuple[str, bool], float] = {  # by role, and whether it is only starting
    ("worker", False): WORKER_LOST,
    ("worker", True): STARTING_LOST,
    ("certifier", False): CERTIFIER_LOST,
    ("certifier", True): CERTIFIER_LOST,
}
# Between two beats of ours; after a longer pause we were stopped ourselves.
_OWN_PAUSE = 5.0


class Heartbeats:
    def __init__(self, now: float) -> None:
        self._beaten = self._listening_since = now

    def beat(self, now: float) -> None:
        """At each of our own, before anybody is judged."""
        if now - self._beaten > _OWN_PAUSE:
            self._listening_since = now
        self._beaten = now

    def hangs(self, role: str, starting: bool, heard: float, now: float) -> bool:
        """``heard``: when the child was born or last gave a sign of life."""
        silent = now - max(heard, self._listening_since)
        return silent > LOST.get((role, starting), float("inf"))
