"""HTTP/2 towards a backend: one connection that carries many exchanges (RFC 9113).

`BackendSession` owns the connection: one task reads it, and every exchange writes through the same
session. `BackendExchange` is one stream, with the same methods as a connection of HTTP/1.1 has
(`h1.client.BackendConnection`), so that an attempt does not know which of them it uses.

Back-pressure is the windows': a stream gets credit for what was read of it, so that a response that
its client does not take stops its backend, and costs no more memory than a window. The connection's
own window is large enough for all streams, so that one of them holds up no other.

What it never does: repeat. When a connection ends, an exchange whose stream the backend surely has
not processed says so (`NoResponse.unseen`: REFUSED_STREAM, or above the last stream of a GOAWAY).
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable

from ...errors import Fault
from ...transport.clock import Clock
from ...transport.stream import READ_SIZE, StreamBroken
from ...transport.tcp import SocketStream
from ..h1.client import NoResponse
from ..h1.grammar import HOP_BY_HOP
from ..h1.response_parser import ResponseHead, has_no_body
from ..message import Fields
from . import frames
from .engine import StreamGone, Terms
from .events import Answer, Data, Ended, Event, Pong, Reset, Room, Trailers
from .frames import ConnectionFailed
from .session import Session

# What a backend may send as a head; as over HTTP/1.1.
_TERMS = Terms(header_size=64 * 1024, header_count=200)
# More streams than that share one connection's fate, and its place in the kernel's buffers.
_MOST_STREAMS = 100
# Bytes that wait for the backend to read before whoever sends a body has to wait.
_MOST_UNSENT = 256 * 1024
# Seconds of silence, with streams open, after which the backend is asked whether it is there, and
# for which it may take to say so.
_SILENT_FOR = 10.0
_PONG_WITHIN = 5.0
_PIECE = 64 * 1024
# RFC 9113 §8.2.2
_OF_ONE_CONNECTION = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"}
)
_HEAD_END = b"\r\n\r\n"


class BackendSession:
    """One connection. ``ended``: it takes no further stream; ``used``: a request was sent on it."""

    def __init__(
        self, stream: SocketStream, clock: Clock, scheme: bytes, on_change: Callable[[], None]
    ) -> None:
        self.stream = stream
        self.clock = clock
        self.scheme = scheme
        self.ended = self.used = False
        self.idle_since = clock.now
        self._on_change = on_change
        self.session = Session(_TERMS, clock.now, client=True, window=_MOST_STREAMS * _PIECE)
        self._exchanges: dict[int, BackendExchange] = {}
        self._heard = clock.now
        self._asked: float | None = None  # since when a PING is out
        self._writer: asyncio.Task[None] | None = None
        self._drained = asyncio.Event()
        self._drained.set()
        self._reader = asyncio.ensure_future(self._read())
        self.flush()

    @property
    def active(self) -> int:
        return len(self._exchanges)

    @property
    def has_room(self) -> bool:
        return not self.ended and self.active < min(_MOST_STREAMS, self.session.peer_streams)

    def tick(self, now: float) -> None:
        """Ask a backend that is silent whether it is still there."""
        if not self._exchanges:
            return
        if self._asked is not None and now - self._asked > _PONG_WITHIN:
            self._end(Fault("backend_timeout", f"no answer to a PING within {_PONG_WITHIN:g} s"))
        elif self._asked is None and now - max(self._heard, self.idle_since) > _SILENT_FOR:
            self._asked = now
            self.session.ping(b"treehous")
            self.flush()

    def close(self) -> None:
        self._end(StreamBroken("closed"))

    def open(self, exchange: BackendExchange, fields: Fields, end: bool, bodiless: bool) -> int:
        """Raises `NoResponse` where the connection has ended meanwhile."""
        try:
            number = self.session.request(fields, end, bodiless=bodiless)
        except StreamGone:
            raise NoResponse("the connection has ended", unseen=True) from None
        self.used = True
        self._exchanges[number] = exchange
        return number

    def release(self, number: int) -> None:
        """An exchange is over; what is left of its stream is cancelled."""
        if self._exchanges.pop(number, None) is None:
            return
        self.session.reset(number, frames.CANCEL)
        self.session.release(number)
        self.flush()
        self.idle_since = self.clock.now
        if self.ended and not self._exchanges:
            self.close()
        self._on_change()

    # Bytes

    async def _read(self) -> None:
        why: Fault | StreamBroken
        try:
            while True:
                data = await self.stream.read(READ_SIZE)
                if not data:
                    why = StreamBroken("the connection was closed")
                    break
                self._heard, self._asked = self.clock.now, None
                for event in self.session.receive(data, self.clock.now):
                    self._tell(event)
                self.flush()
        except StreamBroken as error:
            why = error
        except ConnectionFailed as error:
            self.flush()
            why = Fault("backend_protocol", f"{error} (RFC 9113)")
        self._end(why)

    def _tell(self, event: Event) -> None:
        match event:
            case Ended(last=last):
                # No failure: it only takes no more (RFC 9113 §6.8).
                self.ended = True
                for number, exchange in list(self._exchanges.items()):
                    if number > last:
                        exchange.fail(NoResponse("GOAWAY", unseen=True))
                if not self._exchanges:
                    self.close()
                self._on_change()
            case Room(stream=0):
                for exchange in self._exchanges.values():
                    exchange.room.set()
            case Pong():
                pass
            case Answer() | Data() | Trailers() | Reset() | Room():
                taker = self._exchanges.get(event.stream)
                if taker is not None:
                    taker.take(event)
                elif isinstance(event, Data):
                    self.session.consumed(event.stream, len(event.data))

    def _end(self, why: Fault | StreamBroken) -> None:
        self.ended = True
        for exchange in list(self._exchanges.values()):
            exchange.fail(why)
        self.session.close()
        for task in (self._reader, self._writer):
            if task is not None and task is not asyncio.current_task():
                task.cancel()
        self.stream.close()
        self._drained.set()
        self._on_change()

    def flush(self) -> None:
        if self._writer is not None or self.session.unsent == 0:
            return
        try:
            rest = self.stream.write_now(self.session.take())
        except StreamBroken:
            return  # the reader tells
        if rest:
            self._drained.clear()
            self._writer = asyncio.ensure_future(self._write(rest))

    async def _write(self, rest: bytes | memoryview) -> None:
        try:
            while rest:
                await self.stream.write(rest)
                rest = self.session.take()
        except StreamBroken:
            return
        finally:
            self._writer = None
            self._drained.set()

    async def drained(self) -> None:
        """Return when the backend has read enough of what waits for it."""
        if self.session.unsent > _MOST_UNSENT or self._writer is not None:
            await self._drained.wait()


class BackendExchange:
    """One request and its response; also a `message.StreamBody` from the head on."""

    def __init__(self, connection: BackendSession) -> None:
        self._connection = connection
        self.fresh = not connection.used
        self.request_sent = self.response_read = False
        self.keep_alive = math.inf
        self.room = asyncio.Event()
        self.length: int | None = None
        self.trailers: Fields = []
        self._number = 0
        self._heads: deque[Answer] = deque()
        self._pieces: deque[bytes] = deque()
        self._ended = False  # all of the response has come
        self._answered = False
        self._failure: Fault | NoResponse | StreamBroken | None = None
        self._changed = asyncio.Event()
        self._patience = 0.0
        self._translate: Callable[[Fault], Fault] = lambda fault: fault
        self._on_close: Callable[[bool], None] = lambda whole: None

    # The request

    def send_now(self, data: bytes, patience: float) -> bytes:
        """Send a request: its head as HTTP/1.1 would have it, and a body if that is whole."""
        head, _, body = data.partition(_HEAD_END)
        fields, expects_body = _fields(head, self._connection.scheme)
        end = not body and not expects_body
        method = fields[0][1]
        self._number = self._connection.open(self, fields, end, method == b"HEAD")
        self._connection.flush()
        return body

    async def send(self, data: bytes | memoryview, patience: float) -> None:
        """Send the whole body that came with its head."""
        await self.send_piece(bytes(data), patience)
        await self.end_body([], patience)

    async def send_piece(self, piece: bytes, patience: float) -> None:
        """Raises `StreamBroken` where the backend does not want the body, or not for so long."""
        session = self._connection.session
        view = memoryview(piece)
        try:
            async with asyncio.timeout(patience):
                while view:
                    count = min(len(view), session.window(self._number), _PIECE)
                    if not count:
                        if not session.is_open(self._number):
                            raise StreamBroken("the backend does not want the body")
                        self.room.clear()
                        await self.room.wait()
                        continue
                    session.data(self._number, view[:count], False)
                    view = view[count:]
                    self._connection.flush()
                    await self._connection.drained()
        except StreamGone:
            raise StreamBroken("the backend does not want the body") from None
        except TimeoutError:
            raise StreamBroken("the backend does not read the body") from None

    async def end_body(self, trailers: Fields, patience: float) -> None:
        try:
            if trailers:
                self._connection.session.trailers(self._number, trailers)
            else:
                self._connection.session.data(self._number, b"", True)
        except StreamGone:
            raise StreamBroken("the backend does not want the body") from None
        self.request_sent = True
        self._connection.flush()

    def abort(self) -> None:
        """The request is not to be taken for a whole one."""
        self.fail(StreamBroken("cancelled"))

    def never_read(self, count: int) -> bool:
        """Known from the exceptions alone."""
        return False

    # The response

    def take(self, event: Answer | Data | Trailers | Reset | Room) -> None:
        match event:
            case Answer():
                self._heads.append(event)
                self._ended = self._ended or event.end
            case Data():
                if event.data:
                    self._pieces.append(event.data)
                self._ended = self._ended or event.end
            case Trailers():
                self.trailers = event.fields
                self._ended = True
            case Room():
                self.room.set()
                return
            case Reset(code=code, by_us=by_us, detail=detail):
                if by_us:
                    self.fail(Fault("backend_protocol", f"{detail} (RFC 9113)"))
                elif code == frames.REFUSED_STREAM:
                    self.fail(NoResponse("REFUSED_STREAM", unseen=True))
                elif code == frames.NO_ERROR and self._ended:
                    self.room.set()  # it needs no more of the request (RFC 9113 §8.1)
                else:
                    self.fail(StreamBroken(f"RST_STREAM with code {code}"))
                return
        self._changed.set()

    def fail(self, why: Fault | NoResponse | StreamBroken) -> None:
        if self._failure is None:
            self._failure = why
        self._changed.set()
        self.room.set()

    async def head(
        self, method: bytes, patience: float, upgrade: bytes | None = None
    ) -> ResponseHead:
        """Return the next head, interim ones among them. Raises `NoResponse`, `Fault`."""
        try:
            async with asyncio.timeout(patience):
                while not self._heads:
                    self._raise_failure()
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise Fault("backend_timeout", f"no answer within {patience:g} s") from None
        answer = self._heads.popleft()
        self._answered = True
        if answer.status >= 200:
            self.fresh = False
        fields = answer.fields
        for name, _ in fields:
            if name in _OF_ONE_CONNECTION:
                raise Fault("backend_protocol", f"the field {name!r} over HTTP/2 (RFC 9113 §8.2.2)")
        if answer.status in (204, 304):  # no content, whatever is said of it
            fields = [field for field in fields if field[0] != b"content-length"]
        length = -1 if answer.length is None else answer.length
        if answer.end or has_no_body(answer.status, method):
            length = max(length, 0) if answer.end and answer.length is None else 0
        return ResponseHead(answer.status, fields, length, False)

    def _raise_failure(self) -> None:
        match self._failure:
            case None:
                return
            case NoResponse() | Fault():
                raise self._failure
            case StreamBroken():
                if self._answered:
                    raise Fault("backend_broke_off", f"before the final head: {self._failure}")
                raise NoResponse(str(self._failure))

    def whole(self, head: ResponseHead) -> bytes | None:
        """The body, if all of it has come with the head."""
        if not self._ended or self.trailers:
            return None
        body = b"".join(self._pieces)
        self._pieces.clear()
        self._consumed(len(body))
        self.response_read = True
        return body

    def put_back(self, data: bytes) -> None:
        self._pieces.appendleft(data)
        self.response_read = False

    def leftover(self) -> bytes:
        return b""

    def body(
        self,
        head: ResponseHead,
        patience: float,
        translate: Callable[[Fault], Fault] = lambda fault: fault,
        on_close: Callable[[bool], None] = lambda whole: None,
    ) -> BackendExchange:
        self.length = None if head.length < 0 else head.length
        self._patience, self._translate, self._on_close = patience, translate, on_close
        return self

    @property
    def at_end(self) -> bool:
        return self._ended and not self._pieces

    def read_now(self, most: int = READ_SIZE) -> bytes | None:
        pieces = self._pieces
        if pieces:
            piece = pieces.popleft()
            if pieces:  # rows that came one by one go on together
                joined = [piece]
                count = len(piece)
                while pieces and count + len(pieces[0]) <= most:
                    joined.append(pieces.popleft())
                    count += len(joined[-1])
                piece = b"".join(joined)
            self._consumed(len(piece))
            return piece
        if self._ended:
            self.response_read = True
            return b""
        if self._failure is not None:
            raise self._translate(self._broken_off())
        return None

    async def read(self, most: int = READ_SIZE) -> bytes:
        try:
            async with asyncio.timeout(self._patience):
                while (piece := self.read_now(most)) is None:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            detail = f"silent for {self._patience:g} s within a body"
            raise self._translate(Fault("backend_timeout", detail)) from None
        return piece

    def close(self, complete: bool) -> None:
        self._on_close(complete and self.at_end)

    def release(self) -> None:
        """The exchange is over, whatever became of it."""
        if self._number:
            self._connection.release(self._number)

    def _consumed(self, count: int) -> None:
        self._connection.session.consumed(self._number, count)
        self._connection.flush()

    def _broken_off(self) -> Fault:
        if isinstance(self._failure, Fault):
            return self._failure
        return Fault("backend_broke_off", f"within a body: {self._failure}")


def _fields(head: bytes, scheme: bytes) -> tuple[Fields, bool]:
    """The fields of a request whose head was made for HTTP/1.1, and whether a body follows."""
    first, *lines = head.split(b"\r\n")
    method, target, _ = first.split(b" ")
    authority = b""
    body = False
    fields: Fields = []
    for line in lines:
        name, _, value = line.partition(b": ")
        if name == b"host":
            authority = value
        elif name == b"te":
            fields.append((b"te", b"trailers"))
        elif name == b"transfer-encoding":
            body = True
        elif name not in HOP_BY_HOP:
            fields.append((name, value))
            if name == b"content-length":
                body = value != b"0"
    pseudo = [
        (b":method", method),
        (b":scheme", scheme),
        (b":authority", authority),
        (b":path", target),
    ]
    return [*pseudo, *fields], body
