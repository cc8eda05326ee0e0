"""The exchanges of a connection: from a request to the line in the log, many at a time.

An answer that is known at once, and small, is sent within the callback that brought the request
(`answer_now`); nothing of it outlives the call. Everything else is a `Work`, which has a task of
its own where its answer takes time, and goes as soon as its stream does. Requests come from
`incoming`.

Each exchange ends in `end`, exactly once, however far it came.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Coroutine
from typing import Protocol

from ...errors import Fault
from ...transport.deadlines import NEVER, Deadlines, Timeouts
from ...transport.stream import SMALL_READ, Stream
from ..exchange import Exchange
from ..h1.tunnel import relay
from ..message import Connection, Fields, FileBody, Response, Tunnel
from ..service import Service
from . import frames, websocket
from .answer import BARE, Pieces, fields_of, head_of, shared_block
from .body import Leftovers
from .engine import Engine, StreamGone
from .sender import GATHER, Sender
from .session import Session
from .shared import Shared
from .work import Work, discard

log = logging.getLogger("treehouse.worker")


class Link(Protocol):
    """What exchanges need of their connection."""

    def soon(self) -> None:
        """Have what was queued sent at the end of this turn of the loop."""
        ...

    def drain(self) -> None:
        """Tell the client to open its next stream on another connection."""
        ...

    def on_idle(self) -> None:
        """No request is under way any more."""
        ...


class _Ended:
    """The `Link` of a connection that has ended: nothing is sent any more."""

    def soon(self) -> None: ...

    def drain(self) -> None: ...

    def on_idle(self) -> None: ...


class Exchanges:
    """``works`` are those under way, by stream; ``leftovers`` what nobody reads of their bodies."""

    __slots__ = (
        "_connection",
        "_deadlines",
        "_engine",
        "_link",
        "_loop",
        "_makes_blocks",
        "_sender",
        "_served",
        "_service",
        "_shared",
        "_stream",
        "leftovers",
        "works",
    )

    def __init__(
        self,
        stream: Stream,
        connection: Connection,
        service: Service,
        deadlines: Deadlines,
        shared: Shared,
        engine: Engine,
        sender: Sender,
        works: dict[int, Work],
        link: Link,
    ) -> None:
        self._stream = stream
        self._connection = connection
        self._service = service
        self._deadlines = deadlines
        self._shared = shared
        self._engine = engine
        self._makes_blocks = isinstance(engine, Session)
        self._sender = sender
        self._link = link
        self._loop = asyncio.get_running_loop()
        self._served = 0
        self.works = works
        self.leftovers = Leftovers()

    # Answers that are known

    def answer_now(self, number: int, exchange: Exchange, response: Response) -> bool:
        """Send a small answer that is known, whole; False where that is not possible now."""
        body = response.body
        request = exchange.request
        assert request is not None  # noqa: S101 - it has been asked
        engine = self._engine
        if type(body) is not bytes or self._sender.rest or engine.unsent > GATHER:
            return False
        size = len(body)
        bare = response.status in BARE or request.method == b"HEAD"
        if not bare and size > engine.window(number):
            return False
        try:
            if response.shared and self._makes_blocks and not bare:
                engine.whole(number, shared_block(response, self._service.clock), body)
            else:
                self._send_head(number, response, bare or not size)
                if not bare and size:
                    engine.data(number, body, True)
        except ValueError:
            return False  # told where it is tried again
        exchange.response = response
        if not bare:
            exchange.sent = size
        engine.release(number)
        self._service.finished(exchange)
        self._after_one()
        return True

    def _send_head(self, number: int, response: Response, end: bool) -> None:
        """Raises `StreamGone`, `ValueError` for fields that must not be sent."""
        clock = self._service.clock
        if response.shared and self._makes_blocks:
            block = shared_block(response, clock)
            self._engine.head(number, response.status, response.fields, end, block)
        else:
            self._engine.head(number, response.status, head_of(response, clock), end)

    def respond(self, work: Work, response: Response) -> None:
        """Send the head, and have the body sent when its turn comes."""
        self.works.setdefault(work.number, work)
        work.answer = None
        exchange = work.exchange
        exchange.response = response
        engine, number = self._engine, work.number
        if not engine.is_open(number):
            response.discard()
            self.end(work, work.gone or "client_gone")
            return
        body = response.body
        if isinstance(body, Tunnel):
            body.close(False)
            engine.reset(number, frames.INTERNAL_ERROR)
            self.end(work, "internal")
            return
        request = exchange.request
        bare = response.status in BARE or (request is not None and request.method == b"HEAD")
        size = len(body) if isinstance(body, bytes) else body.length
        end = bare or size == 0
        if not isinstance(body, bytes | FileBody):
            # That nothing follows is known already: gRPC says a failure so ("trailers only").
            end = end or (body.at_end and not body.trailers)
        try:
            self._send_head(number, response, end)
        except (StreamGone, ValueError) as error:
            log.error("an answer cannot be sent: %s", error)
            response.discard()
            engine.reset(number, frames.INTERNAL_ERROR)
            self.end(work, "internal")
            return
        if end:
            if isinstance(body, FileBody):
                body.release()
            elif not isinstance(body, bytes):
                body.close(True)
            self.end(work)
            return
        work.pieces = Pieces(body)
        self._sender.add(work)
        if work.timeouts is None:
            self._watch(work)

    def _watch(self, work: Work) -> Timeouts:
        timeouts = work.timeouts = Timeouts(self._stream, work.on_disconnect, work.on_timeout)
        self._deadlines.register(timeouts)
        return timeouts

    # Answers that take time

    def begin(self, work: Work, answer: Awaitable[Response]) -> None:
        """Have a task wait for the answer."""
        if not self._shared.begin(self._connection):
            self._service.limited("streams_per_address", self._connection)
            self._engine.reset(work.number, frames.REFUSED_STREAM)
            self.end(work, "no_capacity")
            return
        self._watch(work).waiting_since = self._service.clock.now
        work.task = self._loop.create_task(self._run(work, answer))
        work.task.add_done_callback(lambda task: self._task_ended(work, task))

    async def _run(self, work: Work, answer: Awaitable[Response]) -> None:
        try:
            try:
                response = await answer
                if work.key and isinstance(response.body, Tunnel):
                    websocket.check(work, response, response.body)
            except Exception as error:
                response = self._service.failed(work.exchange, error)
            work.answer = response
            if work.timeouts is not None:
                work.timeouts.waiting_since = NEVER
            if work.key and isinstance(response.body, Tunnel):
                await self._relay(work, response, response.body)
                return
            self.respond(work, response)
            self._link.soon()
            pieces = work.pieces
            while pieces is not None and pieces.is_stream:
                if not pieces.is_waiting:
                    await work.asked()
                if work.ended:
                    return
                assert work.timeouts is not None  # noqa: S101 - made with the task
                work.timeouts.waiting_since = self._service.clock.now
                await pieces.fetch(SMALL_READ)
                work.timeouts.waiting_since = NEVER
                self._sender.add(work)
                self._link.soon()
        except Fault as fault:
            self.break_off(work, fault.kind)

    async def _relay(self, work: Work, response: Response, tunnel: Tunnel) -> None:
        """Be one end of a tunnel until both ends have ended."""
        work.answer = None
        exchange = work.exchange
        exchange.response = response
        clock, sender, soon = self._service.clock, self._sender, self._link.soon
        end = websocket.opened(work, response, self._engine, sender.is_choked, soon)
        if end is None:
            tunnel.close(False)
            self.break_off(work, "backend_protocol")
            return
        work.tunnel = end
        exchange.sent = await relay(end, b"", tunnel, clock)
        self.end(work)

    def _task_ended(self, work: Work, task: asyncio.Task[None]) -> None:
        self._shared.end(self._connection)
        work.task = None
        if not task.cancelled() and task.exception() is not None:
            log.error("a request failed inside the server", exc_info=task.exception())
            self.break_off(work, "internal")
        if work.gone is not None or task.cancelled():
            self.end(work, work.gone or "client_gone")
        self._link.soon()

    # What a work tells, see `work.Exchanges`

    def complete(self, work: Work, trailers: Fields) -> None:
        try:
            if trailers:
                self._engine.trailers(work.number, fields_of(trailers))
        except ValueError as error:
            log.error("trailers cannot be sent: %s", error)
            self.break_off(work, "internal")
        self.end(work)

    def break_off(self, work: Work, kind: str) -> None:
        if not work.ended:
            self._engine.reset(work.number, frames.INTERNAL_ERROR)
            self.end(work, kind)

    def cancel(self, work: Work, kind: str) -> None:
        if work.ended or work.gone is not None:
            return
        work.gone = kind
        self._sender.remove(work.number)
        if work.body is not None:
            work.body.fail(Fault(kind))
        if work.task is not None:
            work.task.cancel()
        else:
            self.end(work, kind)

    def timed_out(self, work: Work) -> None:
        now = self._service.clock.now
        if work.read_deadline <= now:
            work.read_deadline = NEVER
            if work.body is not None:
                work.body.fail(Fault("body_timeout"))
        else:
            self._engine.reset(work.number, frames.CANCEL)
            self.cancel(work, "client_stalled")
        self._link.soon()

    def consumed(self, number: int, count: int) -> None:
        self._engine.consumed(number, count)
        self._link.soon()

    def interim(self, number: int, status: int, fields: Fields) -> None:
        if self._engine.is_open(number):
            self._engine.head(number, status, fields_of(fields), False)
            self._link.soon()

    # The end

    def end(self, work: Work, error: str | None = None) -> None:
        """Close the account of a request, however far it came."""
        if work.ended:
            return
        work.ended = True
        number, exchange = work.number, work.exchange
        self.works.pop(number, None)
        self._sender.remove(number)
        if work.pieces is not None:
            work.pieces.close(error is None)
            work.pieces = None
        answer, work.answer = work.answer, None
        if isinstance(answer, Response):
            answer.discard()
        elif isinstance(answer, Coroutine):
            discard(answer)
        if error is not None:
            exchange.error = error
        if exchange.response is None:
            fault = Fault(error or "internal", "the stream ended before the answer")
            if exchange.request is not None:
                fault.backend = exchange.request.backend
            exchange.response = self._service.refuse(exchange, fault)
        if work.timeouts is not None:
            self._deadlines.release(work.timeouts)
            work.timeouts = None
        work.ask()  # it sees that it has ended
        body = work.body
        if error is not None or work.key:
            self._engine.reset(number, frames.CANCEL)
        elif body is not None and not body.ended:
            if exchange.request is not None and exchange.request.expects_continue:
                self._engine.reset(number, frames.NO_ERROR)  # it waits to be asked for its body
            else:
                self.leftovers.add(number)
        self._engine.release(number)
        self._service.finished(exchange)
        request = exchange.request
        if request is not None:
            request.inform = request.body = None
        work.body = None
        self._after_one()

    def _after_one(self) -> None:
        self._served += 1
        if self._served == self._service.limits.requests_per_connection:
            self._service.limited("requests_per_connection", self._connection)
            self._link.drain()
        if not self.works:
            self._link.on_idle()

    async def end_all(self, kind: str) -> None:
        """Cancel what is under way, and see its tasks end."""
        tasks = [work.task for work in self.works.values() if work.task is not None]
        for work in list(self.works.values()):
            self.cancel(work, kind)
        if tasks:
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.sleep(0)  # their callbacks

    def part(self) -> None:
        """Let go of the connection, which has ended; a handler may still read what it holds of a
        body."""
        self._link = _Ended()
