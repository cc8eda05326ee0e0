"""Threads for talking to CAs: a desk for each, so that one that hangs keeps nobody waiting who is
certified by another.

At a desk only so many attempts are under way at a time, and beside them one question (when to
renew, a revocation); what comes beyond waits. Attempts do not queue here: whoever decides looks for
room first, and again a moment later, so that the most urgent is always the next.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

# Of one CA, that is: of one account. A CA is asked politely by few at a time (Let's Encrypt's
# clients are advised to be), and a hundred new sites still have their certificates within minutes.
ATTEMPTS_AT_ONCE = 4


def _attempts() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(ATTEMPTS_AT_ONCE, "attempt")


def _questions() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, "ask")


@dataclass(slots=True, eq=False)
class _Desk:
    attempts: ThreadPoolExecutor = field(default_factory=_attempts)
    questions: ThreadPoolExecutor = field(default_factory=_questions)
    attempting: set[Future[None]] = field(default_factory=set)
    asking: set[Future[None]] = field(default_factory=set)

    def under_way(self) -> set[Future[None]]:
        return self.attempting | self.asking


class Desks:
    """For one thread, which gives out the work. CAs go by their directory. ``now`` is monotonic."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._desks: dict[str, _Desk] = {}
        self._now = now
        self._begun: dict[object, float] = {}  # of what is being worked at

    def _desk(self, directory: str) -> _Desk:
        desk = self._desks.setdefault(directory, _Desk())
        for futures in (desk.attempting, desk.asking):
            futures -= {one for one in futures if one.done()}
        return desk

    def has_room(self, directory: str) -> bool:
        """Whether another attempt may begin."""
        return len(self._desk(directory).attempting) < ATTEMPTS_AT_ONCE

    def is_asking(self, directory: str) -> bool:
        return bool(self._desk(directory).asking)

    def attempt(self, directory: str, work: Callable[[], None]) -> None:
        desk = self._desk(directory)
        desk.attempting.add(desk.attempts.submit(self._timed, work))

    def ask(self, directory: str, work: Callable[[], None]) -> None:
        """After what was asked before."""
        desk = self._desk(directory)
        desk.asking.add(desk.questions.submit(self._timed, work))

    def _timed(self, work: Callable[[], None]) -> None:
        self._begun[work] = self._now()
        try:
            work()
        finally:
            del self._begun[work]

    def longest(self) -> float:
        """For how many seconds what has been under way longest has been."""
        now = self._now()
        return max((now - begun for begun in list(self._begun.values())), default=0.0)

    def close(self) -> None:
        """Nothing new begins."""
        for desk in self._desks.values():
            for pool in (desk.attempts, desk.questions):
                pool.shutdown(wait=False, cancel_futures=True)

    def ended(self, within: float, meanwhile: Callable[[], object]) -> bool:
        """Whether all work has come to its end in that many seconds; ``meanwhile`` is done again
        and again."""
        deadline = time.monotonic() + within
        while time.monotonic() < deadline:
            # `concurrent.futures.wait` would wait for cancelled ones as well.
            if all(one.done() for desk in self._desks.values() for one in desk.under_way()):
                return True
            meanwhile()
        return False
