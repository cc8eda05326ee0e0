"""The admin listener's questions to the supervisor, each answered once.

Only the supervisor knows all processes; a worker knows itself. What is asked for the page is a word
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


class AdminLink:
    """``say`` sends a message to the supervisor."""

    def __init__(self, loop: asyncio.AbstractEventLoop, say: Callable[[FromWorker], None]) -> None:
        self._loop = loop
        self._say = say
        self._numbers = itertools.count(1)
        self._overviews: dict[int, asyncio.Future[Overview]] = {}
        self._documents: dict[int, asyncio.Future[Document]] = {}

    async def overview(self) -> Overview:
        """Ask what the supervisor knows of all processes. It waits for no worker that hangs."""
        return await self._asked(self._overviews, AskOverview)

    async def ask(self, what: str, **value: object) -> Document:
        """Ask for the supervisor's document about something."""
        return await self._asked(self._documents, lambda number: AskAdmin(number, what, value))

    async def _asked(
        self, waiting: dict[int, asyncio.Future[T]], question: Callable[[int], FromWorker]
    ) -> T:
        number = next(self._numbers)
        asked: asyncio.Future[T] = self._loop.create_future()
        waiting[number] = asked
        self._say(question(number))
        try:
            return await asked
        finally:
            waiting.pop(number, None)

    def hear_overview(self, number: int, overview: Overview) -> None:
        _settle(self._overviews, number, overview)

    def hear(self, number: int, document: Document) -> None:
        _settle(self._documents, number, document)


def _settle(waiting: dict[int, asyncio.Future[T]], number: int, answer: T) -> None:
    asked = waiting.get(number)
    if asked is not None and not asked.done():
        asked.set_result(answer)
