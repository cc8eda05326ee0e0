"""Bodies that are compressed while they are sent (`compression` decides which).

Compressing is work, and whoever sends a body does it on the event loop. So a body does a part of it
at a time and then lets other connections have their turn, however much its source has at hand. And
an encoder gathers what it is fed: where the source has nothing more at the moment, what is in the
encoder is flushed, because the client may be waiting for just that.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

from ..errors import Fault
from ..protocol.message import Fields, FileBody, Response, StreamBody
from .encoders import Encoder

READ = 64 * 1024
# Bytes that are compressed before other connections get their turn: some milliseconds.
TURN = 256 * 1024


class CompressedBody:
    """A `StreamBody` that compresses another, and flushes when that has nothing more at hand."""

    length: int | None = None

    def __init__(self, source: StreamBody, made: Encoder) -> None:
        self._source = source
        self._encoder: Encoder | None = made  # until the end, for it holds memory
        self._unflushed = False
        self._ended = False
        self._work = 0
        self._collected: list[bytes] | None = None
        self._take: Callable[[bytes | None], None] | None = None

    def collect(self, take: Callable[[bytes | None], None]) -> None:
        """Call ``take`` once: with all bytes when they have been made, with None if they never
        are."""
        self._collected = []
        self._take = take

    @property
    def trailers(self) -> Fields:
        return self._source.trailers

    @property
    def at_end(self) -> bool:
        return self._ended

    def read_now(self, most: int = READ) -> bytes | None:
        while not self._ended:
            if self._work >= TURN:
                return None  # others come first; `read` goes on
            piece = self._source.read_now(most)
            if piece is None:
                return self._flushed()
            if made := self._fed(piece):
                return made
        return b""

    async def read(self, most: int = READ) -> bytes:
        if self._work >= TURN:
            self._work = 0
            await asyncio.sleep(0)
        while (made := self.read_now(most)) is None:
            if self._work >= TURN:
                self._work = 0
                await asyncio.sleep(0)
                continue
            piece = await self._source.read(most)
            if made := self._fed(piece):
                break
            if self._ended:
                return b""
        return made

    def close(self, complete: bool) -> None:
        self._encoder = None
        if self._collected is not None and self._take is not None:
            self._take(None)
        self._collected = None
        self._source.close(complete)

    def _fed(self, piece: bytes) -> bytes:
        assert self._encoder is not None  # noqa: S101 - nothing is read behind the end
        if not piece:
            self._ended = True
            rest = self._encoder.finish()
            self._encoder = None
            return self._gathered(rest)
        self._work += len(piece)
        self._unflushed = True
        return self._gathered(self._encoder.feed(piece))

    def _flushed(self) -> bytes | None:
        """What the receiver must have before we wait; None where that is nothing."""
        if not self._unflushed or self._encoder is None:
            return None
        self._unflushed = False
        return self._gathered(self._encoder.flush()) or None

    def _gathered(self, made: bytes) -> bytes:
        if self._collected is not None:
            self._collected.append(made)
            if self._ended and self._take is not None:
                self._take(b"".join(self._collected))
                self._collected = None
        return made


class Unsent:
    """In place of the body of an answer to HEAD, of which nothing is sent (a `StreamBody`)."""

    length: int | None = None
    trailers: Fields = []  # noqa: RUF012 # nothing has none
    at_end = True

    def __init__(self, response: Response) -> None:
        self._body = response.body

    def read_now(self, most: int = READ) -> bytes | None:
        return b""

    async def read(self, most: int = READ) -> bytes:
        return b""

    def close(self, complete: bool) -> None:
        if isinstance(self._body, FileBody):
            self._body.release()
        elif not isinstance(self._body, bytes):
            self._body.close(complete)


class FileStream:
    """An open file as a `StreamBody`. The page cache answers nearly always."""

    trailers: Fields = []  # noqa: RUF012 # a file has none

    def __init__(self, body: FileBody) -> None:
        self._body = body
        self._at = body.offset
        self._end = body.offset + body.length
        self.length: int | None = body.length

    @property
    def at_end(self) -> bool:
        return self._at >= self._end

    def read_now(self, most: int = READ) -> bytes | None:
        wanted = min(max(most, READ), self._end - self._at)
        piece = os.pread(self._body.fd, wanted, self._at) if wanted else b""
        if wanted and not piece:
            raise Fault("file_shrank")
        self._at += len(piece)
        return piece

    async def read(self, most: int = READ) -> bytes:
        return self.read_now(most) or b""

    def close(self, complete: bool) -> None:
        self._body.release()
