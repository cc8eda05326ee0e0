"""The stream of server-sent events that the page lives on: every few seconds what has changed.

One event has all that the page shows, which is bounded, and the last rows of its charts; the first
one has the whole hour. Where the supervisor does not answer, an event says so, and the stream goes
on. All streams of a worker share the answers of the supervisor. When the worker
drains, its streams end, and each browser connects again by itself: to the generation that serves.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable

from ...metrics.history import SLOT, SLOTS
from ...protocol.message import Fields
from ...transport.stream import READ_SIZE
from .link import Unanswered

EVERY = SLOT  # seconds between two events
# A browser that could not be reached for a moment misses no slot.
_RECENT = 12
# Milliseconds until a browser connects again.
_RETRY = b"retry: 1000\n\n"

Document = dict[str, object]


class Events:
    """One stream: a `StreamBody`. ``ask`` gives the document of an event, with so many slots of
    history; ``draining`` is set when streams are to end; ``ended`` is called at the end."""

    def __init__(
        self,
        ask: Callable[[int], Awaitable[Document]],
        draining: asyncio.Event,
        ended: Callable[[], None],
    ) -> None:
        self._ask = ask
        self._draining = draining
        self._ended = ended
        self._begun = False
        self._whole = False  # the whole hour has been sent
        self.length: int | None = None
        self.trailers: Fields = []
        self.at_end = False

    def read_now(self, most: int = READ_SIZE) -> bytes | None:
        return b"" if self.at_end else None

    async def read(self, most: int = READ_SIZE) -> bytes:
        if self.at_end:
            return b""
        if self._begun:
            try:
                async with asyncio.timeout(EVERY):
                    await self._draining.wait()
            except TimeoutError:
                pass
        if self._draining.is_set():
            self.at_end = True
            return b""
        begun, self._begun = self._begun, True
        try:
            document = await self._ask(_RECENT if self._whole else SLOTS)
        except Unanswered as error:
            self._whole = False  # what is missed meanwhile may be more than the recent slots
            event = b"event: silence\ndata: " + json.dumps(str(error)).encode() + b"\n\n"
        else:
            self._whole = True
            event = b"event: board\ndata: " + json.dumps(document).encode() + b"\n\n"
        return event if begun else _RETRY + event

    def close(self, complete: bool) -> None:
        self.at_end = True
        self._ended()
