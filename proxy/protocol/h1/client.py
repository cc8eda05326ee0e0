"""HTTP/1.1 towards a backend, one exchange at a time on one connection.

It sends what it is given (a serialised head, body pieces) and reads the response's head and body.
Whether the connection can be used again is one decision, `BackendConnection.reusable`, made of what
happened: only when both messages have ended where their framing says, nothing came behind, and the
backend does not want to close. Whatever goes wrong leaves a message without its end, so that no
failure has to be remembered.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable

from ...errors import Fault
from ...transport.clock import Clock
from ...transport.stream import READ_SIZE, SMALL_READ, Hears, StreamBroken, StreamTimeout
from ...transport.tcp import SocketStream
from ..message import Fields, StreamBody
from . import response_parser
from .body import BodyReader
from .response_parser import HEAD_END, FastResponseParser, ResponseHead

# A backend that never comes to its final response (RFC 9110 §15.2 sets no bound). A page's early
# hints and the progress of a long task are some; thirty are more than either needs.
_MOST_INTERIM = 30
# Chunks so small that this many times their content arrived have cost much more than others' bytes.
_MOSTLY_FRAMING = 3


class NoResponse(Exception):
    """The connection ended before a byte of a response: the request may not have been seen.
    ``unseen``: it surely was not."""

    def __init__(self, why: str, unseen: bool = False) -> None:
        super().__init__(why)
        self.unseen = unseen


class BackendConnection:
    """One connection to a backend, on which requests follow each other.

    ``fresh`` until the first request has been answered on it. ``request_sent``: all of the request
    has left; ``response_read``: all of the response has been read. ``keep_alive`` is for how many
    seconds the backend says that it keeps the connection idle, infinity where it does not.
    ``idle_since`` is the monotonic time at which it became idle, ``good_until`` that from which on
    it is not used."""

    __slots__ = (
        "_clock",
        "_closes",
        "_flows",
        "_held",
        "_interim",
        "_met",
        "_parser",
        "_waited_for",
        "fresh",
        "good_until",
        "idle_since",
        "keep_alive",
        "request_sent",
        "response_read",
        "stream",
    )

    def __init__(
        self, stream: SocketStream, clock: Clock, parser: FastResponseParser | None
    ) -> None:
        self.stream = stream
        self._clock = clock
        self._parser = parser
        self._held = b""
        self._interim = 0
        self._met: StreamBroken | None = None  # what has broken the stream before `head` was called
        self._waited_for = False  # a head, and its deadline stands
        self._flows = False  # so much came at once that there may be more by now
        self._closes = False  # the backend has said so
        self.fresh = True
        self.request_sent = True
        self.response_read = True  # all of the response has been read
        self.keep_alive = math.inf
        self.idle_since = self.good_until = 0.0

    @property
    def reusable(self) -> bool:
        """Whether the next request can be sent here (RFC 9112 §9.3): both messages have ended, the
        backend goes on, and nothing has come that was not asked for."""
        return self.request_sent and self.response_read and not self._closes and not self._held

    def send_now(self, data: bytes, patience: float) -> bytes | memoryview:
        """Begin an exchange. Returns what could not be sent at once. Raises `StreamBroken`."""
        self.request_sent = self.response_read = False
        self.stream.deadline = self._clock.now + patience
        return self.stream.write_now(data)

    def send(self, data: bytes | memoryview, patience: float) -> Awaitable[None]:
        """Raises `StreamBroken`."""
        self.stream.deadline = self._clock.now + patience
        return self.stream.write(data)

    def hear(self, hears: Hears) -> bool:
        """Have ``hears`` called with what comes next, which is for `head_now`; the deadline is that
        of `send_now`. False where `head` must be awaited; so it may be later, too."""
        self._waited_for = not self._held and self.stream.hear(hears)
        return self._waited_for

    def head_now(self, said: bytes | StreamBroken, method: bytes) -> ResponseHead | None:
        """Return the final head that ``said`` begins with. None where it does not, or not plainly:
        then `head` must be awaited, which goes on with what was said."""
        if not isinstance(said, bytes):
            self._met = said
            return None
        end = said.find(HEAD_END) + 4
        found = None
        if end >= 4 and self._parser is not None:
            found = self._parser.parse(said[:end], method)
        if found is None or found.status == 408:  # which may be the end of an idle connection
            self._held = said
            return None
        self._held = said[end:]
        self._waited_for = self.fresh = False
        self.keep_alive = found.keep_alive
        self._closes = found.close
        return found

    async def head(
        self, method: bytes, patience: float, upgrade: bytes | None = None
    ) -> ResponseHead:
        """Return the next response's head, interim ones among them.

        Raises `NoResponse` when there was none at all, `Fault` for anything else that is wrong.
        """
        stream = self.stream
        if self._waited_for:
            self._waited_for = False
        else:
            stream.deadline = self._clock.now + patience
        data = self._held
        try:
            if self._met is not None:
                raise self._met
            if not data:
                data = await stream.read()
            while (end := data.find(HEAD_END)) < 0:
                if not data:
                    break
                if response_parser.beginning_is_bad(data):
                    detail = f"an answer that begins with {data[:32]!r} (RFC 9112 §2.1)"
                    raise Fault("backend_protocol", detail)
                if len(data) > response_parser.LARGEST_HEAD:
                    detail = f"a head of more than {response_parser.LARGEST_HEAD} bytes"
                    raise Fault("backend_protocol", detail)
                more = await stream.read()
                if not more:
                    raise Fault("backend_broke_off", "within a head")
                data += more
        except StreamTimeout:
            raise Fault("backend_timeout", f"no answer within {patience:g} s") from None
        except StreamBroken as error:
            if data or self._interim:
                raise Fault("backend_broke_off", f"within a head: {error}") from None
            raise NoResponse(str(error)) from None
        if not data:
            if self._interim:
                raise Fault("backend_broke_off", "between an interim and the final answer")
            raise NoResponse("the connection was closed")
        end += len(HEAD_END)
        head, self._held = data[:end], data[end:]
        found = self._parser.parse(head, method) if self._parser is not None else None
        if found is None:
            found = response_parser.parse(head, method, upgrade)
        if found.status < 200 and found.status != 101:
            self._interim += 1
            if self._interim > _MOST_INTERIM:
                raise Fault("backend_protocol", f"more than {_MOST_INTERIM} interim answers")
        else:
            self._interim = 0
            self.fresh = False
            self.keep_alive = found.keep_alive
            self._closes = found.close
        return found

    def whole(self, found: ResponseHead) -> bytes | None:
        """The body, if all of it has come with the head; the exchange is then over."""
        length, held = found.length, self._held
        if length < 0 or len(held) < length:
            return None
        self._held = held[length:]
        self.response_read = True
        return held[:length]

    def leftover(self) -> bytes:
        """What came behind a 101 and belongs to the tunnel."""
        held, self._held = self._held, b""
        return held

    async def more(self, patience: float, most: int) -> bytes:
        """The next bytes of a body, ``most`` of them at most unless they are here already; b"" when
        the backend has ended its side."""
        held = self._held
        if held:
            self._held = b""
            return held
        self.stream.deadline = self._clock.now + patience
        try:
            data = await self.stream.read(most)
        except StreamTimeout:
            raise Fault("backend_timeout", f"silent for {patience:g} s within a body") from None
        except StreamBroken as error:
            raise Fault("backend_broke_off", f"within a body: {error}") from None
        self._flows = len(data) >= SMALL_READ
        return data

    def more_now(self, most: int) -> bytes | None:
        """The same without waiting; None where nothing is there, or likely to be.

        A wait is a turn of the loop, and where the client is slower than the backend also the
        system calls that arm a reader anew: as dear as a quarter of a piece.
        """
        held = self._held
        if held:
            self._held = b""
            return held
        if not self._flows:
            return None
        try:
            data = self.stream.read_now(most)
        except StreamBroken as error:
            raise Fault("backend_broke_off", f"within a body: {error}") from None
        self._flows = data is not None and len(data) >= SMALL_READ
        return data

    def others_first(self) -> None:
        """Wait for the next bytes in any case, so that other connections have their turn."""
        self._flows = False

    def body(
        self,
        head: ResponseHead,
        patience: float,
        translate: Callable[[Fault], Fault] = lambda fault: fault,
        on_close: Callable[[bool], None] = lambda whole: None,
    ) -> StreamBody:
        """The body behind ``head``, piece by piece; see `BackendBody`."""
        return BackendBody(self, head, patience, translate, on_close)

    def abort(self) -> None:
        """The request is not to be taken for a whole one."""
        self.stream.abort()

    def never_read(self, count: int) -> bool:
        """Whether the last ``count`` bytes surely reached nobody."""
        return self.stream.never_read(count)

    def put_back(self, data: bytes) -> None:
        self._held = data

    @property
    def now(self) -> float:
        return self._clock.now


class BackendBody:
    """The body that follows a head on a backend's connection; see `message.StreamBody`.

    ``length`` is the Content-Length or None. ``translate`` may replace a fault by the one that
    caused it; ``on_close`` is told whether all of the body was read and sent.
    """

    __slots__ = ("_connection", "_on_close", "_patience", "_reader", "_translate", "length")

    def __init__(
        self,
        connection: BackendConnection,
        head: ResponseHead,
        patience: float,
        translate: Callable[[Fault], Fault] = lambda fault: fault,
        on_close: Callable[[bool], None] = lambda whole: None,
    ) -> None:
        self._connection = connection
        self._patience = patience
        self._translate = translate
        self._on_close = on_close
        self._reader = BodyReader(head.length, connection.now, head.h11_connection, of_backend=True)
        self.length = self._reader.length
        connection.response_read = self._reader.ended

    @property
    def trailers(self) -> Fields:
        return self._reader.trailers

    @property
    def at_end(self) -> bool:
        return self._reader.ended

    async def read(self, most: int = READ_SIZE) -> bytes:
        """The next piece, b"" at the end. Raises `Fault`."""
        try:
            while not self._reader.ended:
                piece = self._piece(await self._connection.more(self._patience, most))
                if piece:
                    return piece
        except Fault as fault:
            raise self._translate(fault) from None
        return b""

    def read_now(self, most: int = READ_SIZE) -> bytes | None:
        """The same without waiting; None where that cannot be."""
        try:
            while not self._reader.ended:
                data = self._connection.more_now(most)
                if data is None:
                    return None
                piece = self._piece(data)
                if piece:
                    return piece
        except Fault as fault:
            raise self._translate(fault) from None
        return b""

    def close(self, complete: bool) -> None:
        self._on_close(complete and self._reader.ended)

    def _piece(self, data: bytes) -> bytes:
        connection, reader = self._connection, self._reader
        try:
            if not data:
                if not reader.feed_end():
                    raise Fault("backend_broke_off", _missing(reader))
                return b""
            piece = reader.feed(data, connection.now)
        except Fault as fault:
            if fault.kind.startswith("backend_"):
                raise
            raise Fault("backend_protocol", fault.detail or fault.kind) from None
        if len(piece) * _MOSTLY_FRAMING < len(data):
            connection.others_first()
        if reader.ended:
            connection.response_read = True
            if reader.rest:
                connection.put_back(reader.rest)
        return piece


def _missing(reader: BodyReader) -> str:
    if reader.remaining is None:
        return "within a chunked body"
    return f"{reader.remaining} bytes of the body are missing"
