"""HTTP/1.1 towards a backend, one exchange at a time on one connection.

It sends what it is given (a serialised head, body pieces), reads the answer's head and body, and
knows at each moment whether the connection can be used again: only when both messages have ended
where their framing says, nothing came behind, and neither side wants to close.
"""

from __future__ import annotations

from collections.abc import Awaitable

import h11

from ...errors import Fault
from ...transport.clock import Clock
from ...transport.stream import READ_SIZE, SMALL_READ, StreamBroken, StreamTimeout
from ...transport.tcp import SocketStream
from ..message import Fields
from . import response_parser
from .chunked import LAST_CHUNK, ChunkedDecoder, reframe
from .response_parser import CHUNKED, HEAD_END, UNTIL_CLOSE, Answer, AnswerLane

# A backend that never comes to its final answer (RFC 9110 §15.2 sets no bound).
_MOST_INTERIM = 8


class NothingCame(Exception):
    """The connection ended before a byte of an answer: the request may not have been seen."""


class BackendConnection:
    """``fresh`` until the first request has been answered on it."""

    __slots__ = (
        "_answered",
        "_clock",
        "_flows",
        "_held",
        "_interim",
        "_lane",
        "fresh",
        "stream",
        "usable",
    )

    def __init__(self, stream: SocketStream, clock: Clock, lane: AnswerLane | None) -> None:
        self.stream = stream
        self._clock = clock
        self._lane = lane
        self._held = b""
        self._interim = 0
        self._answered = False
        self._flows = False  # so much came at once that there may be more by now
        self.fresh = True
        self.usable = True

    def send_now(self, data: bytes, patience: float) -> bytes | memoryview:
        """What could not be sent at once. Raises `StreamBroken`."""
        self.stream.deadline = self._clock.now + patience
        return self.stream.write_now(data)

    def send(self, data: bytes | memoryview, patience: float) -> Awaitable[None]:
        """Raises `StreamBroken`."""
        self.stream.deadline = self._clock.now + patience
        return self.stream.write(data)

    async def head(self, method: bytes, patience: float, upgrade: bytes | None = None) -> Answer:
        """The next answer's head, interim ones among them.

        Raises `NothingCame` when there was none at all, `Fault` for anything else that is wrong.
        """
        stream = self.stream
        stream.deadline = self._clock.now + patience
        data = self._held
        try:
            if not data:
                data = await stream.read()
            while (end := data.find(HEAD_END)) < 0:
                if not data:
                    break
                if response_parser.beginning_is_bad(data):
                    raise Fault("backend_protocol", f"an answer begins with {data[:32]!r}")
                if len(data) > response_parser.LARGEST_HEAD:
                    raise Fault("backend_protocol", "the head is too large")
                more = await stream.read()
                if not more:
                    raise Fault("backend_broke_off", "within a head")
                data += more
        except StreamTimeout:
            self.usable = False
            raise Fault("backend_timeout", f"no answer within {patience:g} s") from None
        except StreamBroken as error:
            self.usable = False
            if data or self._interim:
                raise Fault("backend_broke_off", f"within a head: {error}") from None
            raise NothingCame(str(error)) from None
        if not data:
            self.usable = False
            if self._interim:
                raise Fault("backend_broke_off", "between an interim and the final answer")
            raise NothingCame("the connection was closed")
        end += len(HEAD_END)
        head, self._held = data[:end], data[end:]
        found = self._lane.parse(head, method) if self._lane is not None else None
        if found is None:
            found = response_parser.parse(head, method, upgrade)
        if found.status < 200 and found.status != 101:
            self._interim += 1
            if self._interim > _MOST_INTERIM:
                raise Fault("backend_protocol", f"more than {_MOST_INTERIM} interim answers")
        else:
            self._interim = 0
            self.fresh = False
            if found.close:
                self.usable = False
        return found

    def whole(self, found: Answer) -> bytes | None:
        """The body, if all of it has come with the head; the connection is then done with it."""
        if found.length < 0 or len(self._held) < found.length:
            return None
        body = self._held[: found.length]
        self._held = self._held[found.length :]
        if self._held:
            self.usable = False  # something came behind, and nobody can say what it answers
        return body

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
            self.usable = False
            raise Fault("backend_timeout", f"silent for {patience:g} s within a body") from None
        except StreamBroken as error:
            raise self._broke_off(error) from None
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
            raise self._broke_off(error) from None
        self._flows = data is not None and len(data) >= SMALL_READ
        return data

    def _broke_off(self, error: StreamBroken) -> Fault:
        self.usable = False
        return Fault("backend_broke_off", f"within a body: {error}")

    def put_back(self, data: bytes) -> None:
        self._held = data

    @property
    def silent(self) -> bool:
        """Nothing has come that was not asked for."""
        return not self._held

    @property
    def now(self) -> float:
        return self._clock.now


class AnswerBody:
    """The body that follows a head on a backend's connection; see `message.StreamBody`.

    ``length`` is the Content-Length or None. ``ended`` once all of it has been read.
    """

    __slots__ = (
        "_connection",
        "_decoder",
        "_judge",
        "_patience",
        "_remaining",
        "_until_close",
        "ended",
        "length",
        "trailers",
    )

    def __init__(self, connection: BackendConnection, found: Answer, patience: float) -> None:
        self._connection = connection
        self._patience = patience
        self._judge: h11.Connection | None = found.judge
        self._until_close = found.length == UNTIL_CLOSE
        self._decoder = ChunkedDecoder(connection.now) if found.length == CHUNKED else None
        self._remaining = max(found.length, 0)
        self.length = None if found.length < 0 else found.length
        self.trailers: Fields = []
        self.ended = found.length == 0

    async def read(self, most: int = READ_SIZE) -> bytes:
        """The next piece, b"" at the end. Raises `Fault`."""
        while not self.ended:
            piece = self._piece(await self._connection.more(self._patience, most))
            if piece:
                return piece
        return b""

    def read_now(self, most: int = READ_SIZE) -> bytes | None:
        """The same without waiting; None where that cannot be."""
        while not self.ended:
            data = self._connection.more_now(most)
            if data is None:
                return None
            piece = self._piece(data)
            if piece:
                return piece
        return b""

    def _piece(self, data: bytes) -> bytes:
        piece = self._counted(data) if self._decoder is None else self._decoded(data)
        return piece if self._judge is None else self._judged(self._judge, piece)

    def _counted(self, data: bytes) -> bytes:
        if self._until_close:
            self.ended = not data
            return data
        if not data:
            self._connection.usable = False
            raise Fault("backend_broke_off", f"{self._remaining} bytes of the body are missing")
        if len(data) > self._remaining:
            self._connection.put_back(data[self._remaining :])
            self._connection.usable = False
            data = data[: self._remaining]
        self._remaining -= len(data)
        self.ended = not self._remaining
        return data

    def _decoded(self, data: bytes) -> bytes:
        connection, decoder = self._connection, self._decoder
        assert decoder is not None  # noqa: S101 - `read` asks only then
        if not data:
            connection.usable = False
            raise Fault("backend_broke_off", "within a chunked body")
        try:
            piece = decoder.feed(data, connection.now)
        except Fault as fault:
            connection.usable = False
            raise Fault("backend_protocol", fault.detail or fault.kind) from None
        if decoder.ended:
            self.ended = True
            self.trailers = decoder.trailers
            if decoder.rest:
                connection.put_back(decoder.rest)
                connection.usable = False
        return piece

    def _judged(self, judge: h11.Connection, piece: bytes) -> bytes:
        """What h11 makes of the piece; where it and we differ, there is no answer to trust."""
        if self._decoder is not None:
            framed = reframe(piece) if piece else b""
            framed += LAST_CHUNK if self.ended else b""
        else:
            framed = piece
        data = b""
        try:
            if framed or self.ended:
                judge.receive_data(framed)
            while True:
                event = judge.next_event()
                if isinstance(event, h11.Data):
                    data += bytes(event.data)
                else:
                    break
        except h11.RemoteProtocolError as error:
            self._connection.usable = False
            raise Fault("backend_protocol", f"h11: {error}") from None
        if self.ended != isinstance(event, h11.EndOfMessage):
            self._connection.usable = False
            raise Fault("backend_protocol", "h11 sees the body's end elsewhere")
        return data
