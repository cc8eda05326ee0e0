"""Partial content: the response with one range of a file, or with several (RFC 9110 §15.3.7)."""

from __future__ import annotations

import os
import secrets

from ...errors import Fault
from ...protocol.message import Fields, FileBody, Response
from . import ranges
from .file_cache import Representation

_PIECE = 64 * 1024


def partial(found: Representation, wanted: list[ranges.Range]) -> Response:
    """The 206 with these ranges of a representation, of which there is at least one."""
    if len(wanted) > 1:
        return _several(found, wanted)
    first, count = wanted[0]
    fields = [
        (name, b"%d" % count if name == b"content-length" else value)
        for name, value in found.fields
    ]
    fields.append((b"content-range", ranges.content_range(wanted[0], found.size)))
    body: bytes | FileBody
    if found.body is not None:
        body = found.body[first : first + count]
    else:
        found.users += 1
        body = FileBody(found.fd, first, count, found.release)
    return Response(206, fields, body, handler="static")


def _several(found: Representation, wanted: list[ranges.Range]) -> Response:
    """The 206 of several ranges: multipart/byteranges (§14.6)."""
    boundary = secrets.token_hex(12).encode("ascii")
    kind = next(value for name, value in found.fields if name == b"content-type")
    heads = [
        b"\r\n--%b\r\ncontent-type: %b\r\ncontent-range: %b\r\n\r\n"
        % (boundary, kind, ranges.content_range(one, found.size))
        for one in wanted
    ]
    found.users += 1
    body = _Parts(found, heads, wanted, b"\r\n--%b--\r\n" % boundary)
    fields = [
        (name, value)
        for name, value in found.fields
        if name not in (b"content-type", b"content-length")
    ]
    fields.append((b"content-type", b"multipart/byteranges; boundary=" + boundary))
    return Response(206, fields, body, handler="static")


class _Parts:
    """Several ranges of one file, one piece at a time; a `StreamBody`."""

    def __init__(
        self, found: Representation, heads: list[bytes], wanted: list[ranges.Range], end: bytes
    ) -> None:
        self._found = found
        self._ahead: list[bytes | ranges.Range] = []
        for head, one in zip(heads, wanted, strict=True):
            self._ahead += [head, one]
        self._ahead.append(end)
        self.length: int | None = (
            sum(map(len, heads)) + sum(count for _, count in wanted) + len(end)
        )
        self.trailers: Fields = []

    @property
    def at_end(self) -> bool:
        return not self._ahead

    async def read(self, most: int = _PIECE) -> bytes:
        return self.read_now(most)

    def read_now(self, most: int = _PIECE) -> bytes:
        if not self._ahead:
            return b""
        piece = self._ahead.pop(0)
        if isinstance(piece, bytes):
            return piece
        first, count = piece
        found = self._found
        now = min(count, most)
        data = (
            os.pread(found.fd, now, first)
            if found.body is None
            else found.body[first : first + now]
        )
        if not data:
            raise Fault("file_shrank")
        if count > len(data):
            self._ahead.insert(0, (first + len(data), count - len(data)))
        return data

    def close(self, complete: bool) -> None:
        self._found.release()
