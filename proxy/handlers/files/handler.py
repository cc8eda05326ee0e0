"""Static files: GET and HEAD of what lies in a document root.

The way of a request: the path as the router understands it, below the root (`document_root`); the
file in the encoding that the client takes (`representations`); the client's conditions
(`conditional`) and ranges (`ranges`). What has been sent once is kept for the next request: then
the whole of this is two look-ups and no system call.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable
from pathlib import Path

from ...bounded_cache import remember
from ...errors import Fault
from ...protocol.message import Fields, FileBody, Request, Response
from ...protocol.paths import one_slash, sendable, understood
from ...transport.clock import Clock
from . import ranges
from .conditional import FIELDS as CONDITIONS
from .conditional import evaluate, range_applies
from .document_root import Directory, DocumentRoot, Elsewhere, Unreadable
from .file_cache import Representation, Representations

_INDEX = b"index.html"
_ALLOW = [(b"allow", b"GET, HEAD")]
# The fields that make a difference to which bytes are sent.
_MATTER = CONDITIONS | {b"range"}
_PIECE = 64 * 1024
_MOST_PATHS = 8192


class Static:
    def __init__(self, root: Path, clock: Clock) -> None:
        self._representations = Representations(DocumentRoot(root))
        self._clock = clock
        # Raw path and route prefix to what they mean; the work of decoding is done once.
        self._paths: dict[tuple[bytes, bytes], bytes] = {}

    def handle(self, request: Request) -> Response:
        """The answer; `Fault` not_found, method_not_allowed or bad_path."""
        method = request.method
        if method not in (b"GET", b"HEAD"):
            raise Fault("method_not_allowed", fields=_ALLOW)
        cached = request.cached_fields
        accept_encoding = cached.accept_encoding if cached is not None else None
        asked: dict[bytes, bytes] | None = None
        for name, value in request.uncached_fields:  # none that matters is cached
            if name == b"accept-encoding":
                accept_encoding = value
            elif name in _MATTER:
                if asked is None:
                    asked = {}
                # Lists may come in several lines (RFC 9110 §5.3).
                asked[name] = asked[name] + b", " + value if name in asked else value
        named = self._paths.get((request.path, request.matched))
        if named is None:
            named = self._name(request)
        try:
            found = self._representations.get(named, accept_encoding, self._clock.now)
        except OSError as error:
            detail = f"a file could not be opened: {error.strerror}"
            raise Fault("no_capacity", detail) from None
        if not isinstance(found, Representation):
            return self._not_a_file(request, found, named)
        found.used = True
        if asked is not None:
            return self._conditional(request, found, asked)
        return found.answer or _whole(found)

    def close(self) -> None:
        self._representations.close()

    def _name(self, request: Request) -> bytes:
        """The file's path below the root; a directory's is that of its index."""
        key = (request.path, request.matched)
        path = understood(request.path).removeprefix(request.matched)
        if not path or path.endswith(b"/"):
            path += _INDEX
        remember(self._paths, key, path, _MOST_PATHS)
        return path

    def _not_a_file(
        self,
        request: Request,
        found: Directory | Elsewhere | Unreadable | None,
        named: bytes,
    ) -> Response:
        slash = understood(request.path).endswith(b"/")
        if found is None and slash:
            # No index; and what would be its directory may be a link to the web.
            folder = named.removesuffix(_INDEX)
            there = self._representations.get(folder, None, self._clock.now)
            if isinstance(there, Directory):
                name = self._representations.root.name(folder)
                raise Fault("no_index", f"{name} has no {_INDEX.decode()}")
            found = None if isinstance(there, Representation) else there
        if isinstance(found, Unreadable):
            raise Fault("unreadable", found.why)
        if isinstance(found, Elsewhere):
            # 302: the link may lead elsewhere tomorrow, and nobody should remember this one.
            return _redirect(302, found.target)
        if isinstance(found, Directory) and not slash:
            query = b"?" + request.query if b"?" in request.target else b""
            return _redirect(308, one_slash(sendable(request.path) + b"/" + query))
        raise Fault("not_found")

    def _conditional(
        self, request: Request, found: Representation, asked: dict[bytes, bytes]
    ) -> Response:
        outcome = evaluate(asked, found.etag, found.modified)
        if outcome == 304:
            return Response(304, _only(found.fields, _OF_304), handler="static")
        if outcome == 412:
            return Response(412, [], handler="static")
        if (
            b"range" in asked
            and request.method == b"GET"  # §14.2: defined for nothing else
            and range_applies(asked, found.etag, found.modified, self._clock.unix)
        ):
            try:
                wanted = ranges.parse(asked[b"range"], found.size)
            except ranges.Unsatisfiable:
                fields = [(b"content-range", b"bytes */%d" % found.size)]
                return Response(416, fields, handler="static")
            if wanted is not None:
                return _partial(found, wanted)
        return found.answer or _whole(found)


# RFC 9110 §15.4.5: what a 304 must repeat of the 200.
_OF_304 = frozenset({b"etag", b"vary", b"last-modified"})


def _only(fields: Fields, names: Iterable[bytes]) -> Fields:
    return [(name, value) for name, value in fields if name in names]


def _redirect(status: int, location: bytes) -> Response:
    return Response(status, [(b"location", location)], handler="static")


def _whole(found: Representation) -> Response:
    """All of a large file."""
    found.users += 1
    body = FileBody(found.fd, 0, found.size, found.release)
    return Response(200, found.fields, body, handler="static", cached=found.head)


def _partial(found: Representation, wanted: list[ranges.Range]) -> Response:
    if len(wanted) > 1:
        return _parts(found, wanted)
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


def _parts(found: Representation, wanted: list[ranges.Range]) -> Response:
    """multipart/byteranges (RFC 9110 §14.6)."""
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
