"""The body of a message, decoded from what arrives: one reader for requests and responses.

Sans I/O: the caller reads from the connection and feeds the reader, which says what of it is
content, when the body has ended, and what came behind it. The framing is a parameter, because it is
decided with the head (RFC 9112 §6.3): a length, chunks, or, for responses alone, the connection's
end.

With an h11 connection (the one that read the head) h11 must agree about every byte of content and
about the end; a difference is a breach of the framing. Chunks reach h11 in canonical form, so that
its cost does not depend on the sender (`chunked`). Without h11 the reader counts and decodes alone.

What it never does: wait, bound the body's size, or say whose fault a breach is. It raises `Fault`
"bad_chunk" or "tiny_chunks", as for a client; who reads a backend's response translates them.
"""

from __future__ import annotations

import h11

from ...errors import Fault
from ..message import Fields
from .chunked import LAST_CHUNK, ChunkedDecoder, reframe

# Framings beside a length in bytes.
CHUNKED = -1
UNTIL_CLOSE = -2

_PIECE = 64 * 1024  # bytes to read at a time where the framing does not tell


class BodyReader:
    """One body. ``framing`` is its length in bytes, `CHUNKED` or `UNTIL_CLOSE`; ``now`` is the
    monotonic time in seconds; ``of_backend``: chunks are read as those of a backend.

    ``length`` is the length in bytes, None where the framing does not tell. Once ``ended`` is true,
    ``trailers`` holds the trailer fields, and ``rest`` the bytes that came behind the body.
    """

    __slots__ = ("_decoder", "_h11", "_remaining", "ended", "length", "rest", "trailers")

    def __init__(
        self,
        framing: int,
        now: float,
        h11_connection: h11.Connection | None = None,
        of_backend: bool = False,
    ) -> None:
        self.length = framing if framing >= 0 else None
        self._remaining = max(framing, 0)
        self._decoder = ChunkedDecoder(now, of_backend) if framing == CHUNKED else None
        self._h11 = h11_connection
        self.ended = framing == 0
        self.rest = b""
        self.trailers: Fields = []

    @property
    def remaining(self) -> int | None:
        """Bytes of content still to come, where the framing tells."""
        return None if self.length is None else self._remaining

    @property
    def wanted(self) -> int:
        """How many bytes to read next at most: none that belong to the next message, where the
        framing tells."""
        return _PIECE if self.length is None else self._remaining

    def feed(self, data: bytes, now: float) -> bytes:
        """The content in ``data``, which is at least one byte; b"" where there is none yet.

        Raises `Fault` ("bad_chunk", "tiny_chunks").
        """
        if self.length is not None:
            if len(data) > self._remaining:
                data, self.rest = data[: self._remaining], data[self._remaining :]
            self._remaining -= len(data)
            self.ended = not self._remaining
        elif self._decoder is not None:
            decoder = self._decoder
            data = decoder.feed(data, now)
            if decoder.ended:
                self.ended = True
                self.rest, self.trailers = decoder.rest, decoder.trailers
        return data if self._h11 is None else self._checked(data, self._h11)

    def feed_end(self) -> bool:
        """The connection has ended: whether that ends the body; if not, a part is missing."""
        if self.length is None and self._decoder is None:
            self.ended = True
            if self._h11 is not None:
                self._checked(b"", self._h11)
        return self.ended

    def _checked(self, data: bytes, h11_connection: h11.Connection) -> bytes:
        """``data``, if h11 agrees about it."""
        framed = data
        if self._decoder is not None:
            framed = reframe(data) if data else b""
            framed += LAST_CHUNK if self.ended else b""
        content = b""
        event: object = h11.NEED_DATA
        try:
            if framed or self.ended:
                h11_connection.receive_data(framed)  # b"" tells it of the connection's end
            while isinstance(event := h11_connection.next_event(), h11.Data):
                content += bytes(event.data)
        except h11.RemoteProtocolError as error:
            raise Fault("bad_chunk", f"h11: {error}") from None
        if self.ended != isinstance(event, h11.EndOfMessage):
            raise Fault("bad_chunk", "h11 sees the body's end elsewhere")
        if content != data:
            raise Fault("bad_chunk", "h11 reads another body")
        return data
