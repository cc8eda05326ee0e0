"""Compresses responses: zstd, br or gzip, as the client prefers. A response filter.

A small cached file is compressed once for each coding, and kept with its response. A larger one is
compressed as it is sent for the first time, and so is a large body that is there as a whole (that
of a filter, a page for errors); both are kept within a bound where others get them as well. A
backend's answer is compressed as it streams, and flushed whenever the backend has nothing more to
say at the moment: so a server-sent event is never held back.

What is never compressed: parts (206), what is encoded already, ``no-transform``, types that gain
nothing, and bodies that are too small. Under ``auto`` also nothing whose length may tell a secret
that stands beside what an attacker reflects (BREACH, CVE-2013-3587): see `_tells_a_secret`.

Why it is hard: the compressed bytes are another representation (RFC 9110 §8.8.3). Its entity tag is
weak, caches must be told that Accept-Encoding decides (Vary), lengths and ranges of the plain bytes
are gone, and a HEAD must say what a GET would.
"""

from __future__ import annotations

import os
from collections import OrderedDict

from ..config.schema.rules import Compression
from ..handlers.files.pieces import Pieces
from ..handlers.files.precompressed import acceptable
from ..protocol.exchange import Exchange
from ..protocol.message import FileBody, Request, Response, StreamBody, Tunnel
from .compressed_bodies import TURN, CompressedBody, FileStream, Unsent
from .encoders import Encoder, Level, affordable, encoder

# A file of at most this size is kept compressed; all of them together.
_KEPT_FILE = 4 * 1024 * 1024
_KEPT_ALL = 32 * 1024 * 1024
# RFC 9110 §15: the statuses whose content is a representation that may be compressed.
_STATUSES = frozenset({200, 201, 202, 400, 401, 403, 404, 405, 409, 410, 422, 500, 502, 503})
# Of the plain representation, and untrue of the compressed one.
_GONE = frozenset(
    {b"content-length", b"accept-ranges", b"content-md5", b"content-digest", b"repr-digest"}
)
_VARY = b"accept-encoding"
# Sec-Fetch-Site of requests that no other site has provoked; none: a person typed the address.
_OWN_SITE = frozenset({b"same-origin", b"same-site", b"none"})


class Compress:
    """``rules`` decide what is compressed; one for all routes with the same rules."""

    def __init__(self, rules: Compression) -> None:
        self._level: Level = rules.level
        self._least = rules.min_size
        # Keys of what is kept with a shared response: itself, if it is never compressed; itself, if
        # it may be; and what a client gets that takes no coding.
        self._never, self._always, self._identity = (self, b""), (self, b"*"), (self, b"identity")
        self._careful = rules.mode == "auto"
        self._codings = frozenset(one.encode() for one in rules.algorithms)
        self._types = tuple(one.encode() for one in rules.types)
        self._files: OrderedDict[tuple[object, ...], bytes] = OrderedDict()
        self._kept_bytes = 0
        self._collecting: set[tuple[object, ...]] = set()  # each file once, however many read it

    def response(self, exchange: Exchange, response: Response) -> Response:
        request = exchange.request
        if request is None or (response.status not in _STATUSES and response.status != 304):
            return response
        if response.status == 304:
            return _not_modified(request, response)
        body = response.body
        if type(body) is bytes and 0 < len(body) < self._least:
            return response
        kept = response.kept
        if kept is not None:
            if kept.get(self._never) is response:
                return response
            if kept.get(self._always) is response:
                coding = self._coding(request)
                if not coding or (self._careful and _authorized(request)):
                    return self._plain(response)
                return self._compressed(request, response, coding)
        fields = dict(response.fields)
        if not self._compressible(response, fields, request.method == b"HEAD"):
            if response.shared:
                response.keep(self._never, response)
            return response
        if response.shared and b"set-cookie" not in fields:
            response.keep(self._always, response)
        coding = self._coding(request)
        if not coding or (self._careful and _tells_a_secret(request, response, fields)):
            return self._plain(response)
        return self._compressed(request, response, coding)

    def settle(self, response: Response) -> Response | None:
        """The response itself, if nobody gets it compressed."""
        if response.status in _STATUSES:
            body = response.body
            small = type(body) is bytes and 0 < len(body) < self._least
            if not small and self._compressible(response, dict(response.fields)):
                return None
        return response

    def _compressible(
        self, response: Response, fields: dict[bytes, bytes], head: bool = False
    ) -> bool:
        """Whether a response gains by it, whoever asks."""
        if b"content-encoding" in fields or b"content-range" in fields:
            return False
        said = [value for name, value in response.fields if name == b"cache-control"]
        if b"no-transform" in b",".join(said).lower():  # RFC 9111 §5.2: in any case
            return False
        kind = fields.get(b"content-type", b"").partition(b";")[0].strip().lower()
        if not kind.startswith(self._types) and not kind.endswith((b"+json", b"+xml")):
            return False
        length = _length(response, fields, head)
        return length is None or length >= self._least

    def _coding(self, request: Request) -> bytes:
        cached = request.cached_fields
        accepted = cached.accept_encoding if cached is not None else None
        for name, value in request.uncached_fields:
            if name == b"accept-encoding":
                accepted = value
        return next((one for one in acceptable(accepted) if one in self._codings), b"")

    def _plain(self, response: Response) -> Response:
        """The response as it is, with the word that others may get another."""
        return response.changed_once(self._identity, _vary) if response.shared else _vary(response)

    def _compressed(self, request: Request, response: Response, coding: bytes) -> Response:
        kept = response.kept
        if kept is not None and (found := kept.get((self, coding))) is not None:
            return found
        made = response.copy() if response.shared else response
        body = response.body
        at_once = isinstance(body, bytes) and len(body) <= TURN
        if request.method == b"HEAD" and not (at_once and body):
            # Nothing of it is sent, and how long it would be nobody knows.
            made.body = Unsent(response)
            _describe(made, coding)
            return made
        if isinstance(body, bytes) and at_once:
            if not body:
                return self._plain(response)
            made.body = _whole(encoder(coding, self._level), body)
            _describe(made, coding)
            if response.shared:
                made.shared = True
                response.keep((self, coding), made)
            return made
        if isinstance(body, Tunnel):
            return response
        compressed = (
            self._in_pieces(response, body, coding)
            if isinstance(body, bytes)
            else self._streamed(body, coding)
        )
        if compressed is None:
            return self._plain(response)
        made.body = compressed
        _describe(made, coding)
        return made

    def _in_pieces(self, response: Response, body: bytes, coding: bytes) -> StreamBody | None:
        """The compressed body of a response that holds more bytes than one turn compresses; None
        where too many are under way."""
        level = affordable(coding, self._level)
        if level is None:
            return None
        stream = CompressedBody(Pieces(body), encoder(coding, level))
        if response.shared and len(body) <= _KEPT_FILE and level == self._level:
            stream.collect(lambda whole: self._keep_with(response, coding, whole))
        return stream

    def _keep_with(self, response: Response, coding: bytes, whole: bytes | None) -> None:
        """Keep what was made of a response that others get as well with it."""
        if whole is not None:
            made = response.copy()
            made.body = whole
            _describe(made, coding)
            made.shared = True
            response.keep((self, coding), made)

    def _streamed(self, body: FileBody | StreamBody, coding: bytes) -> bytes | StreamBody | None:
        """The compressed body; None where too many are under way."""
        file = None
        if isinstance(body, FileBody):
            file = _file_key(body, coding)
            found = self._files.get(file)
            if found is not None:
                self._files.move_to_end(file)
                body.release()
                return found
        level = affordable(coding, self._level)
        if level is None:
            return None
        if not isinstance(body, FileBody):
            return CompressedBody(body, encoder(coding, level))
        stream = CompressedBody(FileStream(body), encoder(coding, level))
        if (
            file is not None
            and file not in self._collecting
            and body.length <= _KEPT_FILE
            and level == self._level
        ):
            self._collecting.add(file)
            stream.collect(lambda whole: self._keep_file(file, whole))
        return stream

    # Files

    def _keep_file(self, key: tuple[object, ...], whole: bytes | None) -> None:
        self._collecting.discard(key)
        if key in self._files or whole is None:
            return
        self._files[key] = whole
        self._kept_bytes += len(whole)
        while self._kept_bytes > _KEPT_ALL:
            _, oldest = self._files.popitem(last=False)
            self._kept_bytes -= len(oldest)


def _file_key(body: FileBody, coding: bytes) -> tuple[object, ...]:
    status = os.fstat(body.fd)
    return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size, coding


def _whole(made: Encoder, body: bytes) -> bytes:
    return made.feed(body) + made.finish()


def _length(response: Response, fields: dict[bytes, bytes], head: bool) -> int | None:
    """How long the content is that a GET would get; None where nobody knows."""
    body = response.body
    if isinstance(body, bytes) and body:
        return len(body)
    length = getattr(body, "length", None)
    if head and not isinstance(body, FileBody):
        length = None  # of a body that does not come
    if length is None and b"content-length" in fields:
        length = int(fields[b"content-length"])
    return length


def _tells_a_secret(request: Request, response: Response, fields: dict[bytes, bytes]) -> bool:
    """Whether the compressed length could tell whoever provoked the request a secret.

    The attack needs a browser that sends its credentials along with requests which a page of the
    attacker makes it send, thousands of them, each with a guess that the answer repeats. So what
    sets a cookie or answers Authorization is left alone, and what answers a session (a cookie, a
    client certificate, a login service) unless the browser says that no other site is behind the
    request. Files repeat nothing of a request.
    """
    if b"set-cookie" in fields or _authorized(request):
        return True
    if response.handler == "static":
        return False
    session = (
        request.login is not None
        or bool(request.connection.client_certificate)
        or request.field(b"cookie") is not None
    )
    return session and _may_be_provoked(request)


def _may_be_provoked(request: Request) -> bool:
    """Whether a page of another site may be behind the request. No page can write either of the
    fields (Fetch Metadata §2.3; the Fetch standard, §2.2.2); a sibling host is the same site, as it
    is for the cookie."""
    site = request.field(b"sec-fetch-site")
    if site is not None:
        return site not in _OWN_SITE
    referrer = request.field(b"referer")  # a browser of before 2023
    return referrer is None or not referrer.startswith(b"https://%b/" % request.authority)


def _authorized(request: Request) -> bool:
    login = request.login
    return (login is not None and login.password) or request.field(b"authorization") is not None


def _describe(response: Response, coding: bytes) -> None:
    """Make the fields those of the compressed representation."""
    fields = [field for field in response.fields if field[0] not in _GONE]
    response.fields = [
        (name, b"W/" + value if name == b"etag" and value.startswith(b'"') else value)
        for name, value in fields
    ]
    response.fields.append((b"content-encoding", coding))
    response.cached = None
    _vary(response)


def _vary(response: Response) -> Response:
    for name, value in response.fields:
        if name == b"vary" and (value.strip() == b"*" or _VARY in value.lower()):
            return response
    response.add_field(b"vary", _VARY)
    return response


def _not_modified(request: Request, response: Response) -> Response:
    """A 304 has the entity tag that a 200 would have (RFC 9110 §15.4.5): the client's."""
    asked = request.field(b"if-none-match") or b""
    changed = [
        (name, b"W/" + value)
        if name == b"etag" and value.startswith(b'"') and b"W/" + value in asked
        else (name, value)
        for name, value in response.fields
    ]
    if changed != response.fields:
        response = response.copy() if response.shared else response
        response.fields = changed
        response.cached = None
        _vary(response)
    return response
