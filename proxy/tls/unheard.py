"""Challenges that other machines of the cluster answer, and this one may not have heard of yet.

A machine serves as soon as its workers run, and a CA may be led to it from then on. Its certifier
may take seconds more until it hears of what the other machines answer; at a reload, or after a
crash, another certifier begins anew; and one that is stopped, or gets no time, hears nothing. Who
asks for a challenge meanwhile is no stranger for certain, so the answer waits until the certifier
says that it has heard all, or until the challenge has come.

CAs wait for some ten seconds. Nobody waits here for as long, and few wait at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_WITHIN = 8.0
_MOST = 64


class UnheardChallenges:
    """``expected``: whether challenges may be in force that no certifier has told of yet."""

    def __init__(self, *, expected: bool = False) -> None:
        self.expected = expected
        self._waiting: set[asyncio.Future[None]] = set()

    def expect(self, *, on: bool) -> None:
        self.expected = on
        self.come()

    def come(self) -> None:
        """Have those who wait look again: something has changed."""
        for one in self._waiting:
            if not one.done():
                one.set_result(None)

    async def wait_for(self, find: Callable[[], T | None], within: float | None = None) -> T | None:
        """Return what ``find`` finds, as soon as it finds something; None once nothing is expected
        any more, when it takes longer than ``within`` seconds or too long, and at once where too
        many wait already."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + (_WITHIN if within is None else within)
        while (found := find()) is None and self.expected:
            if loop.time() >= deadline or len(self._waiting) >= _MOST:
                break
            future = loop.create_future()
            timer = loop.call_at(deadline, _wake, future)
            self._waiting.add(future)
            try:
                await future
            finally:
                timer.cancel()
                self._waiting.discard(future)
        return found


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
