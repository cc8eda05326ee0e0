"""Requests and responses of ours, as filters of users see them; and what filters have changed, as
ours again.

`proxy.filters` is what a filter sees, and knows nothing of the server; here are the same with a
request and a response of the server behind them. Who calls filters is `own_filters`.

Why it is hard: fields of framing and of forwarding are never a filter's to write, a shared response
is changed in a copy, and a body that has been read must still go on as if it had not been.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

from ..config.model import Limits
from ..config.syntax import field_rules
from ..config.syntax.faults import Wrong
from ..errors import Fault
from ..filters import LARGEST_BODY, USUAL_BODY, BodyTooLarge, FieldRefused, Fields, Request
from ..filters import Response as Answer
from ..protocol import message
from ..protocol.collected import Collector
from ..protocol.exchange import Exchange
from ..protocol.message import FileBody, StreamBody, Tunnel
from ..transport.stream import READ_SIZE

_BARE = (204, 304)  # RFC 9110 §6.4.1: without content
# Of all bodies that are being read for filters, in a worker: a few of the largest fit.
_collector = Collector(4 * LARGEST_BODY)
# What is said of a body, and no longer true of another.
_OF_THE_BODY = frozenset(
    {
        b"accept-ranges",
        b"content-encoding",
        b"content-length",
        b"content-range",
        b"content-digest",
        b"content-md5",
        b"digest",
        b"etag",
        b"last-modified",
        b"repr-digest",
    }
)


def _refusing(rule: Callable[[str], str]) -> Callable[[str], str]:
    """The configuration's rule for names of fields, as `Fields` want it."""

    def checked(name: str) -> str:
        try:
            return rule(name)
        except Wrong as wrong:
            raise FieldRefused(wrong.what) from None

    return checked


_request_name = _refusing(field_rules.request_name)
_response_name = _refusing(field_rules.response_name)


def _fields(raw: message.Fields, rule: Callable[[str], str]) -> Fields:
    made = Fields((), rule)
    made._raw = raw
    return made


_NO_LIMITS = Limits()


class CollectedBody:
    """The body of a request that has been read, or replaced; see `message.Body`."""

    def __init__(self, data: bytes, trailers: message.Fields) -> None:
        self.limits = _NO_LIMITS  # the server's were in force when it was read
        self._data = data
        self.length: int | None = len(data)
        self.trailers = trailers
        self.received = 0

    async def read(self) -> bytes:
        piece = self._data[self.received : self.received + READ_SIZE]
        self.received += len(piece)
        return piece

    @property
    def remaining(self) -> int | None:
        return 0  # of what the client sends

    def buffered(self) -> bytes | None:
        if self.received:
            return None
        self.received = len(self._data)
        return self._data

    @property
    def at_end(self) -> bool:
        return True  # the client has sent all of it


class LiveRequest(Request):
    """A request of ours, as filters see it."""

    def __init__(self, exchange: Exchange, request: message.Request) -> None:
        fields = _fields(request.fields, _request_name)
        super().__init__(
            request.method.decode("latin-1"),
            request.target.decode("latin-1"),
            fields=fields,
            host=request.host.decode("latin-1"),
            client=request.client,
            site=exchange.match.site_name if exchange.match is not None else "",
            scheme=request.connection.scheme.decode("ascii"),
            user=exchange.user,
        )
        self.failed = False
        self._request = request
        self._read: bytes | None = None
        self._replaced = False

    async def body(self, limit: int = USUAL_BODY) -> bytes:
        if self._read is None:
            body = self._request.body
            if body is None:
                self._read = b""
            else:
                most = min(limit, LARGEST_BODY)
                too_large = BodyTooLarge(f"more than {most} bytes")
                self._read = await _collector.whole(body, most, too_large)
                self._request.body = CollectedBody(self._read, body.trailers)
        if len(self._read) > limit:
            raise BodyTooLarge(f"more than {limit} bytes")
        return self._read

    def set_body(self, body: bytes) -> None:
        super().set_body(body)
        self._read = self._body
        self._replaced = True

    async def finish(self) -> None:
        """Read what is left of a body that is replaced: the client sends it nevertheless."""
        if (left := self._left()) is not None:
            while await left.read():
                pass

    @property
    def waits(self) -> bool:
        """Whether `finish` has to be awaited."""
        return self._left() is not None

    def _left(self) -> message.RequestBody | None:
        """The body that is replaced, if the client has not sent all of it."""
        body = self._request.body
        return body if self._replaced and body is not None and not body.at_end else None

    def apply(self) -> None:
        """Make what the filter has changed the request's."""
        request, fields = self._request, self.fields
        if fields._changed:
            fields._changed = False
            request.set_fields(fields._raw)
        if self._replaced:
            self._replaced = False
            request.body = CollectedBody(self._body, [])


class Replayed:
    """A streaming body of which the beginning has been read; see `message.StreamBody`."""

    def __init__(self, pieces: list[bytes], rest: StreamBody) -> None:
        self._pieces = pieces
        self._rest = rest
        self.length = rest.length

    @property
    def trailers(self) -> message.Fields:
        return self._rest.trailers

    @property
    def at_end(self) -> bool:
        return not self._pieces and self._rest.at_end

    def read_now(self, most: int = READ_SIZE) -> bytes | None:
        return self._pieces.pop(0) if self._pieces else self._rest.read_now(most)

    async def read(self, most: int = READ_SIZE) -> bytes:
        return self._pieces.pop(0) if self._pieces else await self._rest.read(most)

    def close(self, complete: bool) -> None:
        self._rest.close(complete and not self._pieces)


class LiveResponse(Answer):
    """A response of ours, as filters see it. It is changed by `applied`, in a copy if it is
    shared."""

    def __init__(self, response: message.Response, head_only: bool) -> None:
        super().__init__(200)
        self.status = self._status_was = response.status
        self.fields = _fields(response.fields, _response_name)
        self._response = response
        self._head_only = head_only
        self._read: bytes | None = None
        self._replaced = False

    async def body(self, limit: int = USUAL_BODY) -> bytes:
        if self._read is None:
            self._read = await self._take(min(limit, LARGEST_BODY))
        if len(self._read) > limit:
            raise BodyTooLarge(f"more than {limit} bytes")
        return self._read

    async def _take(self, limit: int) -> bytes:
        body = self._response.body
        if self._head_only or isinstance(body, Tunnel):
            return b""
        if isinstance(body, bytes):
            return body
        if body.length is not None and body.length > limit:
            raise BodyTooLarge(f"more than {limit} bytes")
        if isinstance(body, FileBody):
            data = await asyncio.to_thread(os.pread, body.fd, body.length, body.offset)
            if len(data) < body.length:
                raise Fault("file_shrank")
            return data
        response = self._own()
        pieces, size = [], 0
        while piece := await body.read():
            pieces.append(piece)
            size += len(piece)
            if size > limit:
                response.body = Replayed(pieces, body)
                raise BodyTooLarge(f"more than {limit} bytes")
        data = b"".join(pieces)
        if body.trailers:
            response.body = Replayed([data], body)
        else:
            body.close(True)
            response.body = data
            response.cached = None
        return data

    def set_body(self, body: bytes | str) -> None:
        super().set_body(body)
        self._read = self._body
        self._replaced = True

    @property
    def present(self) -> message.Response:
        """The response as it is."""
        return self._response

    def _own(self) -> message.Response:
        """The response, which may be changed."""
        if self._response.shared:
            self._response = self._response.copy()
        return self._response

    def applied(self) -> message.Response:
        """The response with what the filter has changed."""
        if self.status != self._status_was:
            if isinstance(self._response.body, Tunnel):
                raise ValueError("a tunnel keeps its status")
            status = Answer(self.status).status
            if status in _BARE:
                self.set_body(b"")
            response = self._own()
            response.status = status
            response.cached = None
        if self.fields._changed:
            response = self._own()
            response.fields = self.fields._raw
            response.cached = None
        if self._replaced and not isinstance(self._response.body, Tunnel):
            response = self._own()
            response.discard()
            response.body = self._body
            response.handler = "filter"  # it is no file any more, and may hold a secret
            response.fields = [one for one in response.fields if one[0] not in _OF_THE_BODY]
            response.cached = None
            if response.status == 206:  # it is no part of anything now
                response.status = 200
        return self._response

    def end(self) -> None:
        """End the response, in whose place another is sent."""
        self._response.discard()
        if not self._response.shared:
            self._response.body = b""  # whoever gave it may want to end it as well


def plain(answer: Answer) -> message.Response:
    """A filter's own answer as one of ours. Raises `ValueError` and `TypeError` for what nobody can
    send."""
    status = Answer(answer.status).status
    for name, _ in answer.fields._raw:
        _response_name(name.decode("ascii"))
    body = b"" if status in _BARE else answer._body
    return message.Response(status, list(answer.fields._raw), body, handler="filter")


def live(exchange: Exchange) -> LiveRequest:
    """The request of an exchange as filters see it: the same for all of them."""
    found = exchange.for_filters
    if found is None:
        assert exchange.request is not None  # noqa: S101 - filters are asked about requests
        found = exchange.for_filters = LiveRequest(exchange, exchange.request)
    assert isinstance(found, LiveRequest)  # noqa: S101 - nobody else sets it
    return found
