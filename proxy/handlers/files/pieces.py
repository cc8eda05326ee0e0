"""Bytes that are all there, handed out in pieces. Pure."""

from __future__ import annotations

from ...protocol.message import Fields

PIECE = 64 * 1024


class Pieces:
    """A `StreamBody` of bytes."""

    def __init__(self, body: bytes) -> None:
        self._body = memoryview(body)
        self._at = 0
        self.length: int | None = len(body)
        self.trailers: Fields = []

    @property
    def at_end(self) -> bool:
        return self._at >= len(self._body)

    def read_now(self, most: int = PIECE) -> bytes:
        piece = bytes(self._body[self._at : self._at + min(most, PIECE)])
        self._at += len(piece)
        return piece

    async def read(self, most: int = PIECE) -> bytes:
        return self.read_now(most)

    def close(self, complete: bool) -> None:
        """Nothing is held."""
