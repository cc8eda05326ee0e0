"""An answer over HTTP/2: its head as a header block, its body as pieces that are fetched when asked
for.

A head that answers many requests (`Response.shared`) is encoded once; what differs each time, the
date, follows as a block of its own second.
"""

from __future__ import annotations

import os

from ...errors import Fault
from ...transport.clock import Clock
from ..message import Fields, FileBody, Response, StreamBody, Tunnel
from .engine import check_outgoing
from .hpack import Field, encode

# RFC 9110 §6.4.1: these never have content.
BARE = frozenset({204, 304})
# RFC 9113 §8.2.2
_OF_HTTP_1 = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"}
)
_date: tuple[bytes, bytes] = b"", b""  # the line of HTTP/1.1, and the block that says the same


def fields_of(fields: Fields) -> list[Field]:
    """Without what belongs to HTTP/1.1 alone."""
    return [field for field in fields if field[0] not in _OF_HTTP_1]


def head_of(response: Response, clock: Clock) -> list[Field]:
    """All fields of the head, but `:status`."""
    fields = fields_of(response.fields)
    names = {name for name, _ in fields}
    if b"date" not in names:
        fields.append((b"date", clock.date_field[len(b"date: ") : -2]))
    if b"content-length" not in names and (length := _length(response)) is not None:
        fields.append((b"content-length", b"%d" % length))
    return fields


def shared_block(response: Response, clock: Clock) -> bytes:
    """The block of a shared response. Raises `ValueError` for fields that must not be sent."""
    block = response.block
    if block is None:
        fields = fields_of(response.fields)
        names = {name for name, _ in fields}
        if b"content-length" not in names and (length := _length(response)) is not None:
            fields.append((b"content-length", b"%d" % length))
        check_outgoing(fields)
        made = encode([(b":status", b"%d" % response.status), *fields], compact=True)
        block = response.block = made, b"date" in names
    head, dated = block
    return head if dated else head + _date_block(clock)


def _date_block(clock: Clock) -> bytes:
    global _date
    line = clock.date_field
    if _date[0] is not line:
        _date = line, encode([(b"date", line[len(b"date: ") : -2])], compact=True)
    return _date[1]


def _length(response: Response) -> int | None:
    """The Content-Length that the body tells."""
    body = response.body
    if response.status in BARE or isinstance(body, Tunnel):
        return None
    return len(body) if isinstance(body, bytes) else body.length


class Pieces:
    """The body of an answer. ``is_waiting``: the next piece has to be waited for (`fetch`)."""

    __slots__ = ("_at", "_body", "_ended", "_hand", "_left", "is_stream", "is_waiting")

    def __init__(self, body: bytes | FileBody | StreamBody) -> None:
        self._body = body
        self._at = 0
        self._hand: bytes | memoryview = b""
        self._ended = self.is_waiting = False
        self.is_stream = False
        self._left = 0
        if isinstance(body, bytes):
            self._hand = memoryview(body)
        elif isinstance(body, FileBody):
            self._at, self._left = body.offset, body.length
        else:
            self.is_stream = True

    def is_done(self) -> bool:
        """Whether nothing is left, as far as is known."""
        if self._hand or self._left:
            return False
        return not self.is_stream or self._ended or self._body.at_end  # type: ignore[union-attr] # a stream

    @property
    def trailers(self) -> Fields:
        """Complete once the body is done."""
        body = self._body
        return [] if isinstance(body, bytes | FileBody) else body.trailers

    def next(self, most: int) -> bytes | memoryview | None:
        """At most ``most`` bytes; b"" at the end, None where the piece has to be waited for. Raises
        `Fault` where the body breaks off."""
        hand = self._hand
        if hand:
            self._hand = hand[most:]
            return hand[:most]
        body = self._body
        if isinstance(body, bytes):
            return b""
        if isinstance(body, FileBody):
            return self._read_file(body, most)
        if self._ended or self.is_done():
            return b""
        piece = body.read_now(most)
        if piece is None:
            self.is_waiting = True
            return None
        if not piece:
            self._ended = True
        elif len(piece) > most:
            view = memoryview(piece)
            self._hand = view[most:]
            return view[:most]
        return piece

    def _read_file(self, body: FileBody, most: int) -> bytes:
        count = min(self._left, most)
        try:
            piece = os.pread(body.fd, count, self._at)
        except OSError as error:
            raise Fault("internal", f"a file cannot be read: {error.strerror}") from None
        if count and not piece:
            raise Fault("file_shrank")
        self._at += len(piece)
        self._left -= len(piece)
        return piece

    async def fetch(self, most: int) -> None:
        """Wait for the next piece, which `next` then gives. Raises `Fault`."""
        piece = await self._body.read(most)  # type: ignore[union-attr] # a stream
        self.is_waiting = False
        if piece:
            self._hand = memoryview(piece)
        else:
            self._ended = True

    def close(self, complete: bool) -> None:
        """Exactly once, whatever happened."""
        body = self._body
        self._hand = b""
        if isinstance(body, FileBody):
            body.release()
        elif not isinstance(body, bytes):
            body.close(complete)
