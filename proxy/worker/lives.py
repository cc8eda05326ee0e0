"""The connections that are open: how many, at which listener, and what happens at the end of each.

A connection is served by callbacks, by a task, or first by the one and then by the other. What it
counts for is given back once, when its `Life` ends.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

from ..accelerated import Lane, copies, lane
from ..ipc.connection_counters import CONNECTIONS, ConnectionCounters
from ..protocol.message import Connection
from ..system.listeners import Listener

log = logging.getLogger("treehouse.worker")


class Lives:
    """``on_end`` is called whenever none is left."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        counts: ConnectionCounters,
        on_end: Callable[[], None],
    ) -> None:
        self.loop = loop
        self._counts = counts
        self._on_end = on_end
        self._open = 0
        self.by_listener: Counter[str] = Counter()  # open ones, by the listener's address
        self.tasks: set[asyncio.Task[None]] = set()  # the loop keeps none
        self.at_ends = contextvars.copy_context()

    def __len__(self) -> int:
        return self._open

    def begin(self, connection: Connection, listener: Listener | None) -> Life:
        """Count a connection. ``listener``: where it came in, and has been counted; None for our
        own probe."""
        self._open += 1
        if listener is not None:
            self.by_listener[listener.address] += 1
        return new_life(self, connection, listener)

    def end(self, connection: Connection, listener: Listener | None) -> None:
        if connection.counted_as:
            self._counts.release_for(connection.counted_as)
        if listener is not None:
            self._counts.release(CONNECTIONS)
            self.by_listener[listener.address] -= 1
        self._open -= 1
        if not self._open:
            self._on_end()


class Life:
    """An accepted connection, which `Lives.begin` makes. `end` must follow, or `go_on`, with whose
    task it ends."""

    __slots__ = ("_ended_already", "_listener", "_lives", "connection")

    def __init__(self, lives: Lives, connection: Connection, listener: Listener | None) -> None:
        self._lives = lives
        self._listener = listener
        self.connection = connection
        self._ended_already = False

    def end(self) -> None:
        if not self._ended_already:
            self._ended_already = True
            self._lives.end(self.connection, self._listener)

    def go_on(self, rest: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Have the rest of it lived by a task."""
        return self._started(rest, self._ended)

    def prepare(self, beginning: Coroutine[Any, Any, None]) -> None:
        """Have a task do what comes first. It calls `end` where nothing follows."""
        self._started(beginning, self._prepared)

    def _started(
        self,
        coroutine: Coroutine[Any, Any, None],
        when_done: Callable[[asyncio.Task[None]], None],
    ) -> asyncio.Task[None]:
        lives = self._lives
        task = lives.loop.create_task(coroutine)
        lives.tasks.add(task)
        # A connection lives long and there are many: one context for all that is called at their
        # ends.
        task.add_done_callback(when_done, context=lives.at_ends)
        return task

    def _prepared(self, task: asyncio.Task[None]) -> None:
        self._lives.tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("a connection failed inside the server", exc_info=task.exception())

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._prepared(task)
        self.end()


def in_c(lane: Lane) -> Callable[[Lives, Connection, Listener | None], Life]:
    """Return what a lane has in place of `Life`."""
    nothing: Any = None
    return copies(lane, Life(nothing, nothing, nothing), "_lives", "connection", "_listener")


new_life = Life if lane is None else in_c(lane)
