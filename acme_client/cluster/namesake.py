"""Whether another machine of the cluster has this one's name. Pure.

Each machine writes one document about itself, which lies under its name. Two machines of one name
write over each other, again and again; for the others they are one machine, whose challenges and
whose clock are now this one's and now that one's. So a machine tells, when the document under its
name was written in another session than its own, and later than its own, more than once. The
process before this one may have done so once: at an upgrade it goes when the next one is there.
"""

from __future__ import annotations

# Another document of the same session after so many seconds is no process that was about to end.
# Each machine writes twice a minute, or where there are many, more seldom (`members`).
_AGAIN_AFTER = 25.0
# After so many times as long as its writer promised to write again within, it is over.
_OVER_AFTER = 5


class Namesake:
    """Watches for a second machine called ``node``, which is this machine's name. Moments are
    seconds of a clock that nobody sets."""

    def __init__(self, node: str) -> None:
        self._node = node
        self._session = ""
        self._revision = 0
        self._first = self._over_at = 0.0
        self._is_there = False

    @property
    def text(self) -> str:
        """The sentence that tells of the other machine, and what to do; "" where there is none."""
        if not self._is_there:
            return ""
        return (
            f"another machine of the cluster is called {self._node}, too (give each machine a name "
            "of its own: cluster.node)"
        )

    def hear(
        self, session: str, revision: int, every: float, own: str, written: int, now: float
    ) -> bool:
        """Hear the document under this machine's name: in which ``session`` it was written, at
        which ``revision`` of the engine, and within how many seconds its writer writes again
        (``every``). We wrote it last in the session ``own``, at the revision
        ``written``. Returns whether there is something to tell that there was not before."""
        if session == own or revision <= written:
            if now >= self._over_at:
                self._session, self._is_there = "", False
            return False
        if revision == self._revision:
            return False
        self._revision, self._over_at = revision, now + _OVER_AFTER * every
        if session != self._session:
            self._session, self._first = session, now
            return False
        is_new = not self._is_there and now - self._first >= _AGAIN_AFTER
        self._is_there |= is_new
        return is_new
