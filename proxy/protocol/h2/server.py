"""HTTP/2 on one connection: requests in, answers out, many at a time (RFC 9113).

`serve` is the whole life of a connection and the one place to read it. The parts stand beside it:
`session` (frames, or `authority`), `body` (requests' bodies), `schedule` (whose turn it is to
send), `answer` (heads and pieces of answers).

Everything that can be done at once is done within the readiness callback: frames are read, requests
handed to the service, answers that are known sent, all in one write. What takes time has a task of
its own for each request (`Work`), which goes as soon as its stream does.

Two things bound what a connection can cost. Nothing is read while what the client has to take lies
unsent: pings, settings and window updates make output, and a client that does not read it is not
read from. And bodies are pulled, never pushed: a piece is fetched from a file or a backend only
when its stream's turn has come and both windows and the socket have room for it.

A connection ends in two steps (RFC 9113 §6.8): first the client is told to open no more streams
here and a ping is sent; what is on its way until the ping comes back is still taken; then the last
stream that was taken is named. So no request is lost, and none is repeated that was processed."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Coroutine

from ...errors import Fault
from ...transport.deadlines import NEVER, Deadlines, Timeouts
from ...transport.stream import READ_SIZE, SMALL_READ, Stream, StreamBroken, StreamTimeout
from ..exchange import Exchange
from ..h1.tunnel import relay
from ..message import Connection, Fields, FileBody, Request, Response, Tunnel
from ..service import Service
from . import frames, websocket
from .answer import BARE, Pieces, fields_of, head_of, shared_block
from .body import RequestBody
from .engine import Engine, StreamGone, Terms
from .events import Data, Ended, Event, Head, Pong, Prioritised, Reset, Room, Trailers
from .frames import ConnectionFailed
from .schedule import Schedule
from .session import Session
from .shared import Shared
from .websocket import StreamEnd
from .work import Given, Informer, Work

log = logging.getLogger("treehouse.worker")

# So much is gathered for one write. The kernel keeps some 128 KiB that it has not sent
# (NOTSENT_LOWAT), so at most 192 KiB stand before an answer that is more urgent.
_GATHER = 64 * 1024
# With so much unsent, nothing more is read.
_MOST_UNSENT = 128 * 1024
# Bytes sent without a pause before other connections have a turn.
_TURN = 512 * 1024
_FRAME = 16 * 1024
# Bytes per second at which an answer must be taken on average, after `limits.write_timeout`; as for
# requests' bodies.
_LEAST_RATE = 500.0
# What is left of a body that nobody wants is read if it is this short.
_WORTH_READING = 64 * 1024
# How long a client has to answer the ping before the last stream is named.
_PING_WITHIN = 5.0
# How long, at the end, it is listened to so that what was sent reaches it before a reset would take
# it away: while it reads it sends window updates. As in HTTP/1.1 (`h1.lingering`).
_LINGER = 30.0
_LINGER_SILENT = 5.0
# And whom we have ended, for what it did.
_LINGER_FAILED = 2.0
_LINGER_BYTES = 1024 * 1024
_PING = b"draining"
_ALLOWED = [(b"allow", b"GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH")]


async def serve(
    stream: Stream,
    connection: Connection,
    service: Service,
    deadlines: Deadlines,
    shared: Shared,
) -> None:
    """Answer requests until the client or we have had enough. The caller closes the stream."""
    server = _Server(stream, connection, service, deadlines, shared)
    shared.add(server)
    shared.count("connection")
    try:
        await server.run()
    finally:
        shared.remove(server)
        await server.end()


def _engine(service: Service, connection: Connection, shared: Shared) -> Engine:
    limits = service.limits
    terms = Terms(
        header_size=limits.header_size,
        header_count=limits.header_count,
        target_size=limits.target_size,
        streams=limits.streams,
        scheme=connection.scheme,
        extended_connect=shared.websocket,
    )
    now = service.clock.now
    if shared.own_engine:
        return Session(terms, now, pool=shared.pool)
    from .authority import Authority  # it costs memory, and few choose it

    return Authority(terms, now)


class _Server:
    """One connection."""

    def __init__(
        self,
        stream: Stream,
        connection: Connection,
        service: Service,
        deadlines: Deadlines,
        shared: Shared,
    ) -> None:
        self._stream = stream
        self._connection = connection
        self._service = service
        self._deadlines = deadlines
        self._shared = shared
        self._loop = asyncio.get_running_loop()
        self._engine = _engine(service, connection, shared)
        self._makes_blocks = isinstance(self._engine, Session)
        self._works: dict[int, Work] = {}
        self._schedule = Schedule()
        self._shut: set[int] = set()  # streams that wait for a window
        # Streams that were answered before their request had ended, and how much of it is read
        # over.
        self._unread: dict[int, int] = {}
        self._rest: bytes | memoryview = b""  # what the kernel has not taken
        self._stalled_since = NEVER
        self._writer: asyncio.Task[None] | None = None
        self._released: asyncio.Future[None] | None = None
        self._scheduled = False
        self._taken = False
        self._over = False  # nothing more is read
        self._heard = False
        self._idle_since = service.clock.now
        self._served = 0
        self._draining = 0  # the step that was taken
        self._timeouts = Timeouts(stream, _nothing)
        deadlines.register(self._timeouts)

    # Reading

    async def run(self) -> None:
        stream = self._stream
        self._flush()
        self._set_deadline()
        while not self._over:
            self._taken = False
            try:
                data = await stream.read(READ_SIZE, self)
            except StreamTimeout:
                if not self._over:
                    self._on_silence()
                return
            except StreamBroken:
                return
            if not self._taken:
                if not data:
                    return  # nothing can be asked for or allowed any more
                self(data)
            await self._brake()

    def __call__(self, data: bytes) -> bool:
        """Deal with what came; whether more may come."""
        self._heard = True
        try:
            for event in self._engine.receive(data, self._service.clock.now):
                self._on_event(event)
        except ConnectionFailed as failure:
            self._failed(failure)
        self._flush()
        self._set_deadline()
        self._close_if_done()
        if self._over or self._is_choked():
            self._taken = True
            return False
        return True

    def _is_choked(self) -> bool:
        return len(self._rest) + self._engine.unsent > _MOST_UNSENT

    async def _brake(self) -> None:
        """Return when the client has taken enough of what it caused."""
        while self._is_choked() and not self._over:
            self._released = self._loop.create_future()
            await self._released

    def _release(self) -> None:
        released = self._released
        if released is not None and not released.done():
            released.set_result(None)

    def _failed(self, failure: ConnectionFailed) -> None:
        self._over = True
        if failure.code == frames.ENHANCE_YOUR_CALM:
            self._service.limited("http2_waste", self._connection)
        self._shared.count(f"goaway {frames.code_name(failure.code)}")
        log.debug("%s: HTTP/2: %s", self._connection.peer, failure)

    def _set_deadline(self) -> None:
        """Of the reader and the writer together: what is next to end the connection."""
        limits = self._service.limits
        deadline = NEVER
        since = self._engine.block_since
        if since is not None:
            deadline = since + limits.header_timeout
        if self._rest:
            deadline = min(deadline, self._stalled_since + limits.write_timeout)
        idle = not self._works and not self._rest
        if idle:
            patience = limits.keepalive_timeout if self._heard else limits.header_timeout
            deadline = min(deadline, self._idle_since + patience)
        self._timeouts.idle = idle and since is None
        self._stream.deadline = deadline

    def _on_silence(self) -> None:
        """The transport's deadline has passed."""
        since = self._engine.block_since
        now, limits = self._service.clock.now, self._service.limits
        if since is not None and now >= since + limits.header_timeout:
            self._refuse(Fault("header_timeout"))
        elif self._rest:
            for work in list(self._works.values()):
                self.cancel(work, "client_stalled")
            self._stream.abort()
            return
        self._engine.goaway(self._engine.highest, frames.NO_ERROR)
        self._shared.count("goaway idle")
        self._flush()

    # Events

    def _on_event(self, event: Event) -> None:
        match event:
            case Head():
                self._on_head(event)
            case Data(number, data, end):
                work = self._works.get(number)
                if work is not None and work.body is not None:
                    work.body.feed(data, end)
                else:
                    self._read_over(number, len(data), end)
            case Trailers(number, fields):
                work = self._works.get(number)
                if work is not None and work.body is not None:
                    work.body.feed_trailers(fields)
                self._unread.pop(number, None)
            case Room(number):
                self._on_room(number)
            case Reset():
                self._on_reset(event)
            case Prioritised(number, priority):
                work = self._works.get(number)
                if work is not None:
                    work.priority = priority
                    self._schedule.change(number, priority)
            case Pong(opaque):
                if opaque == _PING and self._draining == 1:
                    self._name_last()
            case Ended():
                log.debug("%s: the client ends its HTTP/2 connection", self._connection.peer)

    def _on_head(self, head: Head) -> None:
        number = head.stream
        if head.fault is not None:
            detail = _ALLOWED if head.fault == "method_not_allowed" else None
            exchange = Exchange(self._connection)
            response = self._service.refuse(exchange, Fault(head.fault, fields=detail))
            self._respond(Work(self, number, exchange), response)
            return
        connection, service = self._connection, self._service
        request = Request(
            head.method,
            head.target,
            b"2",
            head.authority,
            head.host,
            head.fields,
            connection,
        )
        exchange = Exchange(connection, request, time.monotonic())
        if head.protocol is not None:
            self._on_extended_connect(head, exchange, request)
            return
        work: Work | None = None
        request.expects_continue = head.expects_continue
        if not head.end:
            work = Work(self, number, exchange)
            work.priority = head.priority
            work.body = RequestBody(work, request, head.length, service.limits, service.clock)
            request.body = work.body
        answer = service.handle(exchange)
        if work is None:
            if type(answer) is Response and self._answer_now(number, exchange, answer):
                return
            work = Work(self, number, exchange)
            work.priority = head.priority
        self._works[number] = work
        work.answer = answer
        if isinstance(answer, Response) and isinstance(answer.body, bytes | FileBody | Tunnel):
            self._respond(work, answer)
            return
        request.inform = Informer(self, number, request)  # nothing of the work has run yet
        if isinstance(answer, Response):
            answer = Given(answer)  # whose pieces may have to be waited for
        self._begin(work, answer)

    def _on_extended_connect(self, head: Head, exchange: Exchange, request: Request) -> None:
        """RFC 8441 §4. A backend is asked as HTTP/1.1 asks."""
        work = Work(self, head.stream, exchange)
        work.priority = head.priority
        self._works[head.stream] = work
        if head.protocol != b"websocket":
            fault = Fault("protocol_not_implemented", f":protocol {head.protocol!r}")
            exchange.request = None  # it was never handed on
            self._respond(work, self._service.refuse(exchange, fault))
            return
        limits, clock = self._service.limits, self._service.clock
        work.key = websocket.new_key()
        work.body = RequestBody(work, request, None, limits, clock, endless=True)
        request.method = b"GET"
        request.upgrade = b"websocket"
        request.fields = [
            *(one for one in request.fields if one[0] != b"sec-websocket-key"),
            (b"connection", b"Upgrade"),
            (b"upgrade", b"websocket"),
            (b"sec-websocket-key", work.key),
        ]
        request.uncached_fields = request.fields
        answer = self._service.handle(exchange)
        work.answer = answer
        if isinstance(answer, Response):
            answer = Given(answer)
        self._begin(work, answer)

    def _begin(self, work: Work, answer: Awaitable[Response]) -> None:
        """Have a task wait for the answer."""
        if not self._shared.begin(self._connection):
            self._service.limited("streams_per_address", self._connection)
            self._engine.reset(work.number, frames.REFUSED_STREAM)
            self._end(work, "no_capacity")
            return
        work.timeouts = Timeouts(self._stream, work.on_disconnect, work.on_timeout)
        work.timeouts.waiting_since = self._service.clock.now
        self._deadlines.register(work.timeouts)
        work.task = self._loop.create_task(self._run(work, answer))
        work.task.add_done_callback(lambda task: self._task_ended(work, task))

    def _on_room(self, number: int) -> None:
        self._wake_tunnels()
        if number == 0:
            for one in self._shut:
                self._ready(one)
            self._shut.clear()
        elif number in self._shut:
            self._shut.discard(number)
            self._ready(number)

    def _wake_tunnels(self) -> None:
        for work in self._works.values():
            if work.tunnel is not None:
                work.tunnel.has_room()

    def _ready(self, number: int) -> None:
        work = self._works.get(number)
        if work is not None and work.pieces is not None:
            if work.write_deadline != NEVER:
                work.stalled += self._service.clock.now - work.shut_since
                work.write_by(NEVER)
            self._schedule.add(number, work.priority)

    def _read_over(self, number: int, count: int, end: bool) -> None:
        """DATA that nobody wants: it is on its way already, so that some of it is let pass before
        the client is told (RFC 9113 §8.1). Clients may take that for a failure."""
        self._engine.consumed(number, count)
        left = self._unread.pop(number, 0) - count
        if left < 0:
            self._engine.reset(number, frames.NO_ERROR)
        elif not end:
            self._unread[number] = left

    def _on_reset(self, reset: Reset) -> None:
        self._unread.pop(reset.stream, None)
        self._shared.count("reset by us" if reset.by_us else "reset by client")
        work = self._works.get(reset.stream)
        if work is not None:
            self.cancel(work, "malformed_request" if reset.by_us else "client_gone")
        elif reset.by_us and reset.code == frames.REFUSED_STREAM:
            self._service.limited("streams", self._connection)
        elif reset.by_us and reset.stream > 0:
            self._refuse(Fault("malformed_request", reset.detail))

    def _refuse(self, fault: Fault) -> None:
        """A line in the log for what never became a request."""
        exchange = Exchange(self._connection)
        exchange.response = self._service.refuse(exchange, fault)
        self._service.finished(exchange)

    # Answers

    def _send_head(self, number: int, response: Response, end: bool) -> None:
        """Raises `StreamGone`, `ValueError` for fields that must not be sent."""
        clock = self._service.clock
        if response.shared and self._makes_blocks:
            block = shared_block(response, clock)
            self._engine.head(number, response.status, response.fields, end, block)
        else:
            self._engine.head(number, response.status, head_of(response, clock), end)

    def _answer_now(self, number: int, exchange: Exchange, response: Response) -> bool:
        """Send a small answer that is known, whole; False where that is not possible now."""
        body = response.body
        request = exchange.request
        assert request is not None  # noqa: S101 - it has been asked
        engine = self._engine
        if type(body) is not bytes or self._rest or engine.unsent > _GATHER:
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

    async def _run(self, work: Work, answer: Awaitable[Response]) -> None:
        try:
            response = await answer
            work.answer = response
            if work.timeouts is not None:
                work.timeouts.waiting_since = NEVER
            if work.key and isinstance(response.body, Tunnel):
                await self._relay(work, response, response.body)
                return
            self._respond(work, response)
            self._soon()
            pieces = work.pieces
            while pieces is not None and pieces.is_stream:
                await self._wanted(work)
                if work.has_ended():
                    return
                assert work.timeouts is not None  # noqa: S101 - made with the task
                work.timeouts.waiting_since = self._service.clock.now
                await pieces.fetch(SMALL_READ)
                work.timeouts.waiting_since = NEVER
                self._schedule.add(work.number, work.priority)
                self._soon()
        except Fault as fault:
            self._break_off(work, fault.kind)

    async def _relay(self, work: Work, response: Response, tunnel: Tunnel) -> None:
        """Be one end of a tunnel until both ends have ended."""
        engine, number, body = self._engine, work.number, work.body
        assert body is not None  # noqa: S101 - made with the key
        work.answer = None
        work.exchange.response = response
        fields = websocket.answer_fields(response.fields)
        try:
            if not websocket.accepts(response.fields, work.key):
                raise ValueError("the backend's 101 does not answer the key (RFC 6455 §4.1)")
            engine.head(number, 200, fields_of(fields), False)
        except (StreamGone, ValueError) as error:
            log.warning("a WebSocket over HTTP/2 cannot be opened: %s", error)
            tunnel.close(False)
            self._break_off(work, "backend_protocol")
            return
        self._soon()
        end = work.tunnel = StreamEnd(engine, number, body, self)
        work.exchange.sent = await relay(end, b"", tunnel, self._service.clock)
        self._end(work)

    def is_choked(self) -> bool:
        """Whether the client has much to take before it is given, or read from, again."""
        return self._is_choked()

    def soon(self) -> None:
        """See `_soon`."""
        self._soon()

    async def _wanted(self, work: Work) -> None:
        """Return when a piece has to be waited for, or the answer has ended."""
        if work.pieces is not None and work.pieces.is_waiting:
            return
        work.wanted = self._loop.create_future()
        try:
            await work.wanted
        finally:
            work.wanted = None

    def _task_ended(self, work: Work, task: asyncio.Task[None]) -> None:
        self._shared.end(self._connection)
        work.task = None
        if not task.cancelled() and task.exception() is not None:
            log.error("a request failed inside the server", exc_info=task.exception())
            self._break_off(work, "internal")
        if work.gone is not None or task.cancelled():
            self._end(work, work.gone or "client_gone")
        self._soon()

    def _respond(self, work: Work, response: Response) -> None:
        """Send the head, and have the body sent when its turn comes."""
        self._works.setdefault(work.number, work)
        work.answer = None
        exchange = work.exchange
        exchange.response = response
        engine, number = self._engine, work.number
        if not engine.is_open(number):
            response.discard()
            self._end(work, work.gone or "client_gone")
            return
        body = response.body
        if isinstance(body, Tunnel):
            body.close(False)
            engine.reset(number, frames.INTERNAL_ERROR)
            self._end(work, "internal")
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
            self._end(work, "internal")
            return
        if end:
            if isinstance(body, FileBody):
                body.release()
            elif not isinstance(body, bytes):
                body.close(True)
            self._end(work)
            return
        work.pieces = Pieces(body)
        self._schedule.add(number, work.priority)
        if work.timeouts is None:
            work.timeouts = Timeouts(self._stream, work.on_disconnect, work.on_timeout)
            self._deadlines.register(work.timeouts)

    def _end(self, work: Work, error: str | None = None) -> None:
        """Close the account of a request, however far it came."""
        if work.ended:
            return
        work.ended = True
        number, exchange = work.number, work.exchange
        self._works.pop(number, None)
        self._schedule.remove(number)
        self._shut.discard(number)
        if work.pieces is not None:
            work.pieces.close(error is None)
            work.pieces = None
        answer, work.answer = work.answer, None
        if isinstance(answer, Response):
            answer.discard()
        elif isinstance(answer, Coroutine):
            answer.close()
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
        if work.wanted is not None and not work.wanted.done():
            work.wanted.set_result(None)
        body = work.body
        if error is not None or work.key:
            self._engine.reset(number, frames.CANCEL)
        elif body is not None and not body.ended:
            if exchange.request is not None and exchange.request.expects_continue:
                self._engine.reset(number, frames.NO_ERROR)  # it waits to be asked for its body
            else:
                self._unread[number] = _WORTH_READING
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
            self.drain()
        if not self._works:
            self._idle_since = self._service.clock.now
            if self._draining:
                self._soon()

    def _close_if_done(self) -> None:
        """The last stream has been named, and nothing is under way any more."""
        if self._draining == 2 and not (self._works or self._rest or self._engine.unsent):
            self._over = True

    def _break_off(self, work: Work, kind: str) -> None:
        """The answer cannot be completed: the client must not take what it has for the whole."""
        if not work.ended:
            self._engine.reset(work.number, frames.INTERNAL_ERROR)
            self._end(work, kind)

    def cancel(self, work: Work, kind: str) -> None:
        """The stream is gone, and with it who waited for the answer."""
        if work.ended or work.gone is not None:
            return
        work.gone = kind
        self._schedule.remove(work.number)
        self._shut.discard(work.number)
        if work.body is not None:
            work.body.fail(Fault(kind))
        if work.task is not None:
            work.task.cancel()
        else:
            self._end(work, kind)

    def timed_out(self, work: Work) -> None:
        """The client has not sent, or not taken, the next piece in time."""
        now = self._service.clock.now
        if work.read_deadline <= now:
            work.read_deadline = NEVER
            if work.body is not None:
                work.body.fail(Fault("body_timeout"))
        else:
            self._engine.reset(work.number, frames.CANCEL)
            self.cancel(work, "client_stalled")
        self._soon()

    def consumed(self, number: int, count: int) -> None:
        self._engine.consumed(number, count)
        self._soon()

    def interim(self, number: int, status: int, fields: Fields) -> None:
        if self._engine.is_open(number):
            self._engine.head(number, status, fields_of(fields), False)
            self._soon()

    # Writing

    def _soon(self) -> None:
        """Write at the end of this turn of the loop, once for all who have something."""
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._scheduled = False
        self._flush()
        self._set_deadline()
        self._close_if_done()
        if self._over:
            self._release()
            self._stream.expire()  # the reader is to see it

    def _flush(self) -> bool:
        """Send what can be sent without waiting; whether there is more, which the writer sends."""
        if self._rest:
            return True
        sent = 0
        try:
            while True:
                self._gather()
                data = self._engine.take()
                if not data:
                    return False
                self._rest = self._send(data)
                sent += len(data)
                if self._rest or sent > _TURN:
                    break
        except StreamBroken:
            self._rest = b""
            self._stream.abort()
            return False
        self._stalled_since = self._service.clock.now
        if self._writer is None:
            self._writer = self._loop.create_task(self._write())
        return True

    def _send(self, data: bytes) -> bytes | memoryview:
        """Send records until the kernel refuses; what is left."""
        rest: bytes | memoryview = self._stream.write_now(data)
        left = len(data)
        while rest and len(rest) < left:
            left = len(rest)
            rest = self._stream.write_now(rest)
        return rest

    async def _write(self) -> None:
        """Go on where the kernel took no more, or where others had to have a turn."""
        try:
            more = True
            while more:
                if self._rest:
                    await self._stream.write(self._rest)
                    self._rest = b""
                else:
                    await asyncio.sleep(0)
                more = self._flush()
                self._set_deadline()
                if not self._is_choked():
                    self._release()
        except StreamBroken:
            self._rest = b""
            self._stream.abort()
        finally:
            self._writer = None
            self._release()
            self._wake_tunnels()
            if self._draining:
                self._soon()

    def _gather(self) -> None:
        """Fetch pieces of answers, in their order, until there is enough for one write."""
        schedule, engine = self._schedule, self._engine
        while schedule and engine.unsent < _GATHER:
            number = schedule.next()
            assert number is not None  # noqa: S101 - there is one
            self._advance(self._works[number])

    def _advance(self, work: Work) -> None:
        """Send the next piece of an answer."""
        number, pieces, engine = work.number, work.pieces, self._engine
        assert pieces is not None  # noqa: S101 - else it were not in the schedule
        if not engine.is_open(number):
            self._schedule.remove(number)  # its end, or the connection's, is under way
            return
        window = engine.window(number)
        if not window and not pieces.is_done():
            self._schedule.remove(number)
            self._shut.add(number)
            now, patience = self._service.clock.now, self._service.limits.write_timeout
            # On the whole no slower than a least rate, so that a client which opens its window byte
            # by byte does not hold a backend for ever. Only time with the window shut counts.
            left = patience + work.exchange.sent / _LEAST_RATE - work.stalled
            work.shut_since = now
            work.write_by(now + min(patience, max(left, 0.0)))
            return
        try:
            piece = pieces.next(min(window, _FRAME))
        except Fault as fault:
            self._break_off(work, fault.kind)
            return
        if piece is None:
            self._schedule.remove(number)
            if work.wanted is not None and not work.wanted.done():
                work.wanted.set_result(None)
            return
        end = pieces.is_done()
        trailers = pieces.trailers if end else []
        if piece or (end and not trailers):
            engine.data(number, piece, end and not trailers)
            work.exchange.sent += len(piece)
        if end:
            if trailers:
                self._send_trailers(work, trailers)
            self._end(work)

    def _send_trailers(self, work: Work, trailers: Fields) -> None:
        try:
            self._engine.trailers(work.number, fields_of(trailers))
        except ValueError as error:
            log.error("trailers cannot be sent: %s", error)
            self._break_off(work, "internal")

    # The end

    def drain(self) -> None:
        """Tell the client to open its next stream on another connection."""
        if self._draining or self._over:
            return
        self._draining = 1
        self._engine.goaway(frames.LAST_STREAM, frames.NO_ERROR)
        self._engine.ping(_PING)
        self._shared.count("goaway drain")
        self._loop.call_later(_PING_WITHIN, self._name_last)
        self._soon()

    def _name_last(self) -> None:
        """The second step: what came until now is taken, and nothing else."""
        if self._draining != 1 or self._over:
            return
        self._draining = 2
        self._engine.goaway(self._engine.highest, frames.NO_ERROR)
        self._soon()

    async def end(self) -> None:
        """Nothing more is read: end what is under way, say why, and see to it that it is heard."""
        self._over = True
        kind = "client_gone"
        tasks = [work.task for work in self._works.values() if work.task is not None]
        for work in list(self._works.values()):
            self.cancel(work, kind)
        if tasks:
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.sleep(0)  # their callbacks
        self._flush()
        if self._rest and self._writer is not None:
            self._stream.deadline = self._service.clock.now + _LINGER_FAILED
            await asyncio.gather(self._writer, return_exceptions=True)
        self._engine.close()
        try:
            await self._linger()
        finally:
            self._deadlines.release(self._timeouts)
            self._timeouts.idle = False

    async def _linger(self) -> None:
        """End our side, and listen until the client has ended its own, within bounds. Nothing of it
        is under way any more, so that it may be ended for others."""
        stream, clock = self._stream, self._service.clock
        failed = self._engine.failed
        end = clock.now + (_LINGER_FAILED if failed else _LINGER)
        heard = 0
        self._timeouts.idle = True
        try:
            await stream.send_eof()
            while clock.now < end and not (failed and heard >= _LINGER_BYTES):
                stream.deadline = min(end, clock.now + _LINGER_SILENT)
                data = await stream.read()
                if not data:
                    return
                heard += len(data)
        except StreamBroken:
            return


def _nothing() -> None:
    """A connection without streams loses nothing when it ends."""
