"""Counts who needs an answer to a challenge shown, so that the last of them takes it back.

A token belongs to an authorization, not to an attempt. So the same answer may be needed twice: by
the attempt that takes up the order of one that was killed, while what that one has left is cleared
away; by two certificates whose orders share an authorization that is pending; by another machine,
which goes on with an order of ours. Whoever takes an answer back without asking the others makes a
validation fail that was on its way.

It is hard because taking back takes its time (a name server is asked), and whoever needs the answer
meanwhile must show it afterwards, not before.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Hashable, Iterator

from ..link import Challenge


class Holders:
    """May be used by several threads. A key names an answer; a holder is an attempt, or another
    part of the program, that needs this answer shown."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._held: dict[Hashable, set[Hashable]] = {}
        self._going: set[Hashable] = set()

    def take(self, key: Hashable, holder: Hashable) -> None:
        """Need an answer from now on. Waits while it is being taken back."""
        with self._changed:
            self._changed.wait_for(lambda: key not in self._going)
            self._held.setdefault(key, set()).add(holder)

    @contextlib.contextmanager
    def leave(self, key: Hashable, holder: Hashable) -> Iterator[bool]:
        """End a holder's need of an answer. The value is whether no other holder needs it: then the
        caller takes the answer back inside the block, and `take` waits for the block's end. A
        caller that clears away what an earlier process has left passes a holder that took
        nothing."""
        with self._changed:
            held = self._held.get(key, set())
            held.discard(holder)
            is_last = not held and key not in self._going
            if not held:
                self._held.pop(key, None)
            if is_last:
                self._going.add(key)
        try:
            yield is_last
        finally:
            if is_last:
                with self._changed:
                    self._going.discard(key)
                    self._changed.notify_all()


def key_of(challenge: Challenge) -> tuple[str, str]:
    """Return the key of a challenge that workers answer: its token, and its kind, because some CAs
    offer all kinds for a name with one token."""
    return challenge.kind, challenge.token
