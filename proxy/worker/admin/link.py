"""The admin listener's questions to the supervisor, each answered once.

Only the supervisor knows all processes; a worker knows itself, and a supervisor that hangs must not
make whoever looks at the page wait for ever. What it has not answered in time is `Unanswered`, and
so is at once whatever is asked in the seconds after that. What is asked for the page is a word
of `supervisor.control.admin_questions`; `/status` and `/metrics` are made of the whole overview.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import TypeVar

from ...ipc.documents import Overview
from ...ipc.messages import AskAdmin, AskOverview, FromWorker

Document = dict[str, object]
T = TypeVar("T")

# Seconds for an answer; the supervisor's loop waits for nothing, so it takes milliseconds.
WITHIN = 10.0
# After an answer that did not come nobody is asked for so many seconds.
_PAUSE = 5.0


class Unanswered(Exception):
    """The supervisor hangs, or is stopped."""

    def __init__(self) -> None:
        super().__init__(
            f"The supervisor has not answered within {WITHIN:.0f} s: it hangs, or is stopped. What "
            "is served goes on; the log and `systemctl status treehouse-proxy` may say more."
        )


class AdminLink:
    """``say`` sends a message to the supervisor."""

    def __init__(self, loop: asyncio.AbstractEventLoop, say: Callable[[FromWorker], None]) -> None:
        self._loop = loop
        self._say = say
        self._numbers = itertools.count(1)
        self._overviews: dict[int, asyncio.Future[Overview]] = {}
        self._documents: dict[int, asyncio.Future[Document]] = {}
        self._silent_until = 0.0

    async def overview(self) -> Overview:
        """Ask what the supervisor knows of all processes. It waits for no worker that hangs.
        Raises `Unanswered`."""
        return await self._asked(self._overviews, AskOverview)

    async def ask(self, what: str, within: float = WITHIN, **value: object) -> Document:
        """Ask for the supervisor's document about something. Raises `Unanswered`."""
        return await self._asked(
            self._documents, lambda number: AskAdmin(number, what, value), within
        )

    async def _asked(
        self,
        waiting: dict[int, asyncio.Future[T]],
        question: Callable[[int], FromWorker],
        within: float = WITHIN,
    ) -> T:
        if self._loop.time() < self._silent_until:
            raise Unanswered
        number = next(self._numbers)
        asked: asyncio.Future[T] = self._loop.create_future()
        waiting[number] = asked
        self._say(question(number))
        try:
            async with asyncio.timeout(within):
                return await asked
        except TimeoutError:
            self._silent_until = self._loop.time() + _PAUSE
            raise Unanswered from None
        finally:
            waiting.pop(number, None)

    def hear_overview(self, number: int, overview: Overview) -> None:
        self._silent_until = 0.0
        _settle(self._overviews, number, overview)

    def hear(self, number: int, document: Document) -> None:
        self._silent_until = 0.0
        _settle(self._documents, number, document)


def _settle(waiting: dict[int, asyncio.Future[T]], number: int, answer: T) -> None:
    asked = waiting.get(number)
    if asked is not None and not asked.done():
        asked.set_result(answer)
