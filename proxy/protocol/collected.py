"""Collects whole bodies of requests, and bounds what all of them hold meanwhile.

A client that stops before the end of its body keeps what it has sent in memory, for as long as it
may be silent. So it is not enough to bound each body.
"""

from __future__ import annotations

from ..errors import Fault
from .message import Body


class Collector:
    """``most``: bytes of all bodies that are being collected at a time."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._held = 0

    async def whole(self, body: Body, limit: int, too_large: Exception) -> bytes:
        """All of a body. Raises ``too_large`` where it has more than ``limit`` bytes, and `Fault`:
        "no_capacity", or what the body raises."""
        if body.length is not None and body.length > limit:
            raise too_large
        pieces, size = [], 0
        try:
            while piece := await body.read():
                size += len(piece)
                self._held += len(piece)
                if size > limit:
                    raise too_large
                if self._held > self.most:
                    raise Fault("no_capacity", "too many bodies of requests are being collected")
                pieces.append(piece)
        finally:
            self._held -= size
        return b"".join(pieces)
