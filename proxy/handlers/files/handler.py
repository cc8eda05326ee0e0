"""Static files: GET and HEAD of what lies in a document root.

A request's path is read as the router reads it and looked for below the root (`document_root`).
The file is taken in the encoding that the client accepts (`file_cache`), then come the client's
conditions (`conditional`) and ranges (`ranges`, `partial`). A file that was sent a moment ago is in
the cache: then a request costs two look-ups and no system call.

Nothing here ever waits: the response is returned at once, and a large body is read while it is
sent.
"""

from __future__ import annotations

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
from .file_cache import FileCache, Representation
from .partial import partial

_INDEX = b"index.html"
_ALLOW = [(b"allow", b"GET, HEAD")]
# The fields that make a difference to which bytes are sent.
_MATTER = CONDITIONS | {b"range"}
_MOST_PATHS = 8192


class FileHandler:
    """Answers from one document root."""

    def __init__(self, root: Path, clock: Clock) -> None:
        self._files = FileCache(DocumentRoot(root))
        self._clock = clock
        # By path as it was sent and prefix of the route: the name of the file below the root.
        self._paths: dict[tuple[bytes, bytes], bytes] = {}

    def handle(self, request: Request) -> Response:
        """The response. Raises `Fault`: not_found, unreadable, no_index, method_not_allowed,
        bad_path, or no_capacity where a file cannot be opened for want of descriptors."""
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
            found = self._files.get(named, accept_encoding, self._clock.now)
        except OSError as error:
            detail = f"a file could not be opened: {error.strerror}"
            raise Fault("no_capacity", detail) from None
        if not isinstance(found, Representation):
            return self._not_a_file(request, found, named)
        found.used = True
        if asked is not None:
            return self._conditional(request, found, asked)
        return found.response or _whole(found)

    def close(self) -> None:
        self._files.close()

    def _name(self, request: Request) -> bytes:
        """The path of the file below the root; for a directory, that of its index."""
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
        """The redirect where there is no file but something that leads on. Raises `Fault`."""
        slash = understood(request.path).endswith(b"/")
        if found is None and slash:
            # No index; and what would be its directory may be a link to the web.
            folder = named.removesuffix(_INDEX)
            there = self._files.get(folder, None, self._clock.now)
            if isinstance(there, Directory):
                name = self._files.root.name(folder)
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
                return partial(found, wanted)
        return found.response or _whole(found)


# RFC 9110 §15.4.5: what a 304 must repeat of the 200.
_OF_304 = frozenset({b"etag", b"vary", b"last-modified"})


def _only(fields: Fields, names: Iterable[bytes]) -> Fields:
    return [(name, value) for name, value in fields if name in names]


def _redirect(status: int, location: bytes) -> Response:
    return Response(status, [(b"location", location)], handler="static")


def _whole(found: Representation) -> Response:
    """The response that sends all of a large file."""
    found.users += 1
    body = FileBody(found.fd, 0, found.size, found.release)
    return Response(200, found.fields, body, handler="static", cached=found.head)
