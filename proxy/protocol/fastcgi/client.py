"""One connection to a FastCGI server, one request at a time: the shell around `records`.

It is used like a connection to a backend over HTTP/1.1 (`h1.client`), so that choosing, trying
again, waiting and giving back are the same for both. What differs: a request's body is sent in
records; the end of a response is a record, whatever length its head has named; and beside the
response comes text for the log.

A script may go on working when its response is complete for the client (a length that it named, a
HEAD, a 304). Then the rest is read and thrown away, for a while, because PHP ends a script whose
connection closes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import ClassVar

from ...errors import Fault
from ...transport.clock import Clock
from ...transport.stream import READ_SIZE, SMALL_READ, StreamBroken, StreamTimeout
from ...transport.tcp import SocketStream
from ..h1.client import BackendConnection, NoResponse
from ..h1.response_parser import FastResponseParser, ResponseHead, has_no_body
from ..message import Fields
from . import head as heads
from . import records

# Text for the log, of one request: the beginning of a flood says as much as all of it.
MOST_COMPLAINTS = 8192

Complain = Callable[[bytes], None]


class FastCgiConnection(BackendConnection):
    """``keep``: the server is asked to leave the connection open. ``complain`` is set by whoever
    sends a request; it is given what the script writes for the log, once, at the end."""

    __slots__ = ("_complaints", "_decoder", "_end", "_kept", "_method", "_output", "complain")

    def __init__(
        self,
        stream: SocketStream,
        clock: Clock,
        parser: FastResponseParser | None,
        keep: bool,
    ) -> None:
        super().__init__(stream, clock, parser)
        self._kept = keep
        self._decoder = records.Decoder()
        self._output = b""
        self._complaints = b""
        self._end: records.End | None = None
        self._method = b""
        self.complain: Complain | None = None

    @property
    def keep(self) -> bool:
        return self._kept

    @property
    def reusable(self) -> bool:
        return (
            self._kept
            and self.request_sent
            and self.response_read
            and self._decoder.between_records
        )

    def send_now(self, data: bytes, patience: float) -> bytes | memoryview:
        self._output = self._complaints = b""
        self._end = None
        return super().send_now(data, patience)

    async def send_piece(self, piece: bytes, patience: float) -> None:
        """Send a piece of the request's body. Raises `StreamBroken`."""
        await self.send(records.stream(records.STDIN, piece), patience)

    async def end_body(self, _trailers: Fields, patience: float) -> None:
        """Say that the request's body has ended; CGI knows no trailers."""
        await self.send(records.record(records.STDIN), patience)

    def give_up(self) -> None:
        """Tell the server that nobody waits for the response any more, where it can be told."""
        if not self.response_read:
            try:
                self.stream.write_now(records.record(records.ABORT_REQUEST))
            except StreamBroken:
                return  # it has gone itself

    # The response

    async def head(
        self, method: bytes, patience: float, upgrade: bytes | None = None
    ) -> ResponseHead:
        """Return the response's head. Raises `NoResponse` when nothing came at all, `Fault` for
        anything else that is wrong."""
        self._method = method
        self.stream.deadline = self._clock.now + patience
        heard = False
        while (found := heads.END.search(self._output)) is None:
            if self._end is not None:
                self._check_end()
                raise Fault("backend_protocol", "the script ended without the head of an answer")
            if heads.too_long(self._output):
                raise Fault("backend_protocol", "the script's head is too long")
            try:
                data = await self.stream.read()
            except StreamTimeout:
                self._tell_complaints()
                raise Fault("backend_timeout", f"no answer within {patience:g} s") from None
            except StreamBroken as error:
                if heard:
                    self._tell_complaints()
                    raise Fault("backend_broke_off", f"within a head: {error}") from None
                raise NoResponse(str(error)) from None
            if not data:
                if heard:
                    self._tell_complaints()
                    raise Fault("backend_broke_off", "within a head")
                raise NoResponse("the connection was closed")
            heard = True
            self.take(data)
        head, self._output = self._output[: found.start()], self._output[found.end() :]
        parsed = heads.parse(head, method, self._parser)
        if self._end is not None:
            self._check_end()
            if parsed.length < 0:  # it is all here
                parsed = replace(parsed, length=len(self._output), passed_on=None)
        self.fresh = False
        return parsed

    def take(self, data: bytes) -> None:
        """Read what has come. Raises `Fault` ("backend_protocol")."""
        if self._end is not None:
            raise Fault("backend_protocol", "more records behind the end of the request")
        output = []
        try:
            for event in self._decoder.feed(data):
                match event:
                    case records.Output(piece) if self._end is None:
                        output.append(piece)
                    case records.Complaint(piece) if self._end is None:
                        self._complaints += piece[: MOST_COMPLAINTS - len(self._complaints)]
                    case records.End() if self._end is None:
                        self._end = event
                    case _:
                        raise Fault(
                            "backend_protocol", "more records behind the end of the request"
                        )
        except records.Malformed as wrong:
            raise Fault("backend_protocol", f"{wrong} (FastCGI 1.0)") from None
        if output:
            self._output += b"".join(output)
        if self._end is not None:
            self.response_read = True
            self._tell_complaints()

    def _check_end(self) -> None:
        """Raise what the server says of the request, if it did not run the script."""
        match self._end:
            case records.End(records.OVERLOADED):
                raise NoResponse("the FastCGI server is overloaded", unseen=True)
            case records.End(records.CANT_MULTIPLEX):
                raise NoResponse("the FastCGI server takes one request at a time", unseen=True)
            case records.End(records.UNKNOWN_ROLE):
                raise Fault("backend_protocol", "the FastCGI server is no responder")

    def _tell_complaints(self) -> None:
        if self._complaints and self.complain is not None:
            complaints, self._complaints = self._complaints, b""
            self.complain(complaints)

    def arrived(self, data: bytes) -> None:
        """Read a part of the body; b"": the server has closed. Raises `Fault`."""
        if data:
            self.take(data)
        elif not self.ended:
            self._tell_complaints()
            raise Fault("backend_broke_off", "within a body, without the end of the request")

    @property
    def drained(self) -> bool:
        """Whether the request has ended and nothing of its body is left here."""
        return self._end is not None and not self._output

    @property
    def ended(self) -> bool:
        """Whether the request has ended, as far as has been read."""
        return self._end is not None

    def taken(self) -> bytes:
        """What has been read of the body, which is then no longer held here."""
        output, self._output = self._output, b""
        return output

    def whole(self, found: ResponseHead) -> bytes | None:
        """The body, if the request has ended."""
        if not self.ended or 0 <= found.length > len(self._output):
            return None  # `FastCgiBody` tells what is missing
        body = self.taken()
        if found.length >= 0 or has_no_body(found.status, self._method):
            return body[: max(found.length, 0)]
        return body

    def put_back(self, data: bytes) -> None:
        self._output = data + self._output

    def leftover(self) -> bytes:
        return b""

    def body(
        self,
        head: ResponseHead,
        patience: float,
        translate: Callable[[Fault], Fault] = lambda fault: fault,
        on_close: Callable[[bool], None] = lambda whole: None,
    ) -> FastCgiBody:
        return FastCgiBody(self, head.length, patience, translate, on_close)


class FastCgiBody:
    """The body of a script's response; see `message.StreamBody`. ``length`` negative: the end of
    the request is its end."""

    __slots__ = ("_connection", "_left", "_on_close", "_patience", "_translate", "length")

    def __init__(
        self,
        connection: FastCgiConnection,
        length: int,
        patience: float,
        translate: Callable[[Fault], Fault],
        on_close: Callable[[bool], None],
    ) -> None:
        self._connection = connection
        self._patience = patience
        self._translate = translate
        self._on_close = on_close
        self.length = None if length < 0 else length
        self._left = self.length

    @property
    def trailers(self) -> Fields:
        return []

    @property
    def at_end(self) -> bool:
        return self._left == 0 or (self._left is None and self._connection.drained)

    def read_now(self, most: int = READ_SIZE) -> bytes | None:
        """The next piece, b"" at the end, None where it must be waited for. Raises `Fault`."""
        try:
            while (piece := self._piece()) is None:
                data = self._connection.more_now(most)
                if data is None:
                    return None
                self._connection.arrived(data)
        except Fault as fault:
            raise self._translate(fault) from None
        return piece

    async def read(self, most: int = READ_SIZE) -> bytes:
        try:
            while (piece := self._piece()) is None:
                self._connection.arrived(await self._connection.more(self._patience, most))
        except Fault as fault:
            raise self._translate(fault) from None
        return piece

    def _piece(self) -> bytes | None:
        connection = self._connection
        if self._left == 0:
            return b""
        piece = connection.taken()
        if self._left is not None:
            if not piece and connection.ended:
                raise Fault("backend_broke_off", f"{self._left} bytes of the body are missing")
            piece = piece[: self._left]  # what is more than the head has said is no part of it
            self._left -= len(piece)
        if piece:
            return piece
        return b"" if connection.ended else None

    def close(self, complete: bool) -> None:
        connection = self._connection
        if not complete or connection.ended:
            self._on_close(complete and connection.ended)
            return
        Remainder(connection, self._patience, self._on_close)


class Remainder:
    """Waits for the end of a request whose response has been sent, and throws away what comes."""

    _all: ClassVar[set[asyncio.Task[None]]] = set()

    def __init__(
        self, connection: FastCgiConnection, patience: float, on_close: Callable[[bool], None]
    ) -> None:
        self._connection = connection
        self._patience = patience
        task = asyncio.ensure_future(self._read())
        self._all.add(task)  # the loop itself keeps no task alive
        task.add_done_callback(self._all.discard)
        task.add_done_callback(lambda _task: on_close(connection.ended))

    async def _read(self) -> None:
        connection = self._connection
        try:
            async with asyncio.timeout(self._patience):
                while not connection.ended:
                    connection.arrived(await connection.more(self._patience, SMALL_READ))
                    connection.taken()
        except (Fault, TimeoutError):
            return  # the script did not get that far; its client has had everything
