"""When the engine had not come to a revision yet: so what was written at that revision is younger.

An engine tells with each answer at which revision it is, and never when something was written. But
an answer that we asked for at noon and that tells of revision 7 says that revision 8 was written
after noon. Machines ask all the time, if only to keep their sessions, so that of what has just been
written it is known within seconds when, also where we hear of it late. Does no I/O.
"""

from __future__ import annotations

import threading
import time
from collections import deque

# How many moments are kept, and how far they are apart at least: what is heard of later than that
# is of unknown age.
_MOST = 64
_APART = 1.0


def steady_time() -> float:
    """Return seconds by a clock that nobody sets, and that goes on while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Passage:
    """Any thread may note and ask. Moments are those of `steady_time`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: deque[tuple[float, int]] = deque(maxlen=_MOST)

    def note(self, asked_at: float, revision: int) -> None:
        """Note at which revision the engine was when it answered what was asked then."""
        with self._lock:
            if revision and (not self._seen or asked_at >= self._seen[-1][0] + _APART):
                self._seen.append((asked_at, revision))

    def written_after(self, revision: int) -> float | None:
        """Return a moment after which a revision was written; None: it is not known. An engine
        that was restored from a backup is at a revision for a second time, and counts anew."""
        with self._lock:
            return max((asked_at for asked_at, at in self._seen if at < revision), default=None)
