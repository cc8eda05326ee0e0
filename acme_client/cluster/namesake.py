"""Whether another machine of the cluster has this one's name. Pure.

Each machine writes one document about itself, which lies under its name. Two machines of one name
write over each other, again and again; for the others they are one machine, whose challenges and
whose clock are now this one's and now that one's. So a machine tells, when the document under its
name was written in another session than its own, and later than its own, more than once. The
process before this one may have done so once: at an upgrade it goes when the next one is there.

A machine that comes when the other one is there knows it at once, by the machine's identity, which
is in the document too. It then stays out, and orders nothing, until the other one is gone: so a
machine that was set up anew waits for the end of its own last session, and one that is started
again, whose identity has stayed the same, for nothing. While it waits it leaves a notice, so that
the machine that was there first tells of the two as well: a person may look at that one only.
"""

from __future__ import annotations

from collections.abc import Mapping

# Another document of the same session after so many seconds is no process that was about to end.
# Each machine writes twice a minute, or where there are many, more seldom (`members`).
_AGAIN_AFTER = 25.0
# After so many times as long as its writer promised to write again within, it is over.
_OVER_AFTER = 5


class Namesake:
    """Watches for a second machine called ``node``, which is this machine's name. ``machine`` is
    this one's identity, "" where it has none. Moments are seconds of a clock that nobody sets."""

    def __init__(self, node: str, machine: str = "") -> None:
        self._node = node
        self._machine = machine
        self._session = ""
        self._revision = 0
        self._first = self._over_at = 0.0
        self._is_there = False
        self._waiting: dict[str, str] = {}  # machines that wait for the name, and since when
        self.was_first = False
        """Whether the other machine was there before this one."""

    @property
    def text(self) -> str:
        """The sentence that tells of the other machine, and what to do; "" where there is none."""
        more = ""
        if self.was_first:
            more = ", and was there first, so this one orders nothing until that one is gone"
        elif self._waiting:
            since = min(self._waiting.values()) or "an unknown moment"
            more = (
                f", and has come later, so that one orders nothing until this one is gone; it "
                f"runs since {since}"
            )
        elif not self._is_there:
            return ""
        return (
            f"another machine of the cluster is called {self._node}, too{more} (give each machine "
            "a name of its own: cluster.node)"
        )

    def look(self, machine: str, session: str, own: str) -> bool:
        """See whether the name is another machine's, before this machine takes it: there is a
        document under it, by a ``machine`` and of a ``session``, or "" and "" where there is none.
        ``own`` is our session. Returns whether there is something to tell that there was not
        before."""
        was_first = bool(session) and session != own and self._is_other(machine)
        is_new = was_first and not self.was_first
        self.was_first = was_first
        return is_new

    def hear(
        self,
        session: str,
        revision: int,
        every: float,
        own: str,
        written: int,
        now: float,
        machine: str = "",
    ) -> bool:
        """Hear the document under this machine's name: in which ``session`` it was written, at
        which ``revision`` of the engine, within how many seconds its writer writes again
        (``every``), and by which ``machine``. We wrote it last in the session ``own``, at the
        revision ``written``. Returns whether there is something to tell that there was not
        before."""
        if session == own or revision <= written:
            if now >= self._over_at:
                self._session, self._is_there = "", False
            return False
        if revision == self._revision:
            return False
        self._revision, self._over_at = revision, now + _OVER_AFTER * every
        if session != self._session:
            self._session, self._first = session, now
            if not self._is_other(machine):
                return False
        elif now - self._first < _AGAIN_AFTER and not self._is_other(machine):
            return False
        is_new = not self._is_there
        self._is_there = True
        return is_new

    def is_awaited(self, waiting: Mapping[str, str]) -> bool:
        """See which machines wait for this one's name, by what they are, and since when they run.
        Returns whether there is something to tell that there was not before."""
        before = self._waiting
        self._waiting = {one: since for one, since in waiting.items() if self._is_other(one)}
        return bool(self._waiting) and not before

    def _is_other(self, machine: str) -> bool:
        """Whether this is for certain another machine than this one."""
        return bool(machine and self._machine) and machine != self._machine
