"""A request under way over HTTP/2, from its head until nothing more of it is read or sent.

What is done with it is in `exchanges`; here is what belongs to one request alone.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Coroutine, Generator
from typing import Protocol

from ...transport.deadlines import NEVER, Timeouts
from ..exchange import Exchange
from ..message import Fields, Request, Response
from .answer import Pieces
from .body import RequestBody
from .websocket import StreamEnd


class Exchanges(Protocol):
    """What a request needs of its connection."""

    def consumed(self, number: int, count: int) -> None:
        """So many bytes of the stream's DATA were read."""
        ...

    def interim(self, number: int, status: int, fields: Fields) -> None:
        """Send an interim response."""
        ...

    def timed_out(self, work: Work) -> None:
        """The client has not sent, or not taken, the next piece in time."""
        ...

    def cancel(self, work: Work, kind: str) -> None:
        """The stream is gone, and with it who waited for the answer."""
        ...

    def complete(self, work: Work, trailers: Fields) -> None:
        """All of the answer's body is queued; its trailers are not yet."""
        ...

    def break_off(self, work: Work, kind: str) -> None:
        """The answer cannot be completed: the client must not take what it has for the whole."""
        ...


class Work:
    """A request whose answer takes time: its task, its body, and what is to be sent of its answer.

    ``pieces`` is what gives the answer's body; ``wanted`` is set when a piece is asked for that has
    to be waited for. ``gone``: why the stream ended before the answer did.
    """

    __slots__ = (
        "_exchanges",
        "answer",
        "body",
        "ended",
        "exchange",
        "gone",
        "key",
        "number",
        "pieces",
        "priority",
        "read_deadline",
        "shut_since",
        "stalled",
        "task",
        "timeouts",
        "tunnel",
        "wanted",
        "write_deadline",
    )

    def __init__(self, exchanges: Exchanges, number: int, exchange: Exchange) -> None:
        self._exchanges = exchanges
        self.number = number
        self.exchange = exchange
        self.body: RequestBody | None = None
        self.answer: Response | Awaitable[Response] | None = None
        self.pieces: Pieces | None = None
        self.priority = (3, False)
        self.task: asyncio.Task[None] | None = None
        self.timeouts: Timeouts | None = None
        self.wanted: asyncio.Future[None] | None = None
        self.read_deadline = self.write_deadline = NEVER
        self.shut_since = self.stalled = 0.0  # of its window: since when, and how long before
        self.gone: str | None = None
        self.key = b""  # of a WebSocket
        self.tunnel: StreamEnd | None = None
        self.ended = False

    # What its answer needs, see `sender.Sender`

    def complete(self, trailers: Fields) -> None:
        self._exchanges.complete(self, trailers)

    def break_off(self, kind: str) -> None:
        self._exchanges.break_off(self, kind)

    def ask(self) -> None:
        """A piece is wanted that has to be waited for."""
        if self.wanted is not None and not self.wanted.done():
            self.wanted.set_result(None)

    async def asked(self) -> None:
        """Return when a piece is wanted, or all has ended."""
        self.wanted = asyncio.get_running_loop().create_future()
        try:
            await self.wanted
        finally:
            self.wanted = None

    # What its body needs, see `body.Source`

    def consumed(self, count: int) -> None:
        self._exchanges.consumed(self.number, count)

    def invite(self) -> None:
        self._exchanges.interim(self.number, 100, [])

    def read_by(self, deadline: float) -> None:
        self.read_deadline = deadline
        self._watch()

    def write_by(self, deadline: float) -> None:
        """When the client must have let us send more."""
        self.write_deadline = deadline
        self._watch()

    def _watch(self) -> None:
        if self.timeouts is not None:
            self.timeouts.deadline = min(self.read_deadline, self.write_deadline)

    def on_timeout(self) -> None:
        self._exchanges.timed_out(self)

    def on_disconnect(self) -> None:
        self._exchanges.cancel(self, "client_gone")


class Informer:
    """Sends interim answers (RFC 9110 §15.2); what `Request.inform` is."""

    __slots__ = ("_exchanges", "_number", "_request")

    def __init__(self, exchanges: Exchanges, number: int, request: Request) -> None:
        self._exchanges = exchanges
        self._number = number
        self._request = request

    async def __call__(self, status: int, fields: Fields) -> None:
        if status == 100:
            if not self._request.expects_continue:
                return  # not asked for, or sent already
            self._request.expects_continue = False
        self._exchanges.interim(self._number, status, fields)


def discard(answer: Coroutine[object, object, object]) -> None:
    """Close a coroutine that may never have begun, and those that it would have awaited: a filter
    waits for a handler, and Python complains of each of them that nobody did."""
    if inspect.getcoroutinestate(answer) == inspect.CORO_CREATED:
        for held in inspect.getcoroutinelocals(answer).values():
            if inspect.iscoroutine(held):
                discard(held)
    answer.close()


class Given:
    """A response that is here, as something to be awaited. No coroutine: one that is never begun,
    because its stream was reset, would have to be closed as well."""

    def __init__(self, response: Response) -> None:
        self._response = response

    def __await__(self) -> Generator[None, None, Response]:
        yield from ()
        return self._response
