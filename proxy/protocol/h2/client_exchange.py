"""One request to a backend over HTTP/2, and its response: a stream of a `client.BackendSession`.

It has the methods that a connection of HTTP/1.1 has (`h1.client.BackendConnection`), so that an
attempt does not know which of them it uses. From the response's head on it is also the response's
body. What has come and was not read lies here; the stream's window bounds it.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable

from ...errors import Fault
from ...transport.stream import READ_SIZE, StreamBroken
from ..h1.client import NoResponse
from ..h1.grammar import HOP_BY_HOP
from ..h1.response_parser import ResponseHead, has_no_body
from ..message import Fields
from . import frames
from .client import BackendSession
from .engine import StreamGone
from .events import Answer, Data, Reset, Room, Trailers

_PIECE = 64 * 1024
# RFC 9113 §8.2.2
_OF_ONE_CONNECTION = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"}
)
_HEAD_END = b"\r\n\r\n"


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
