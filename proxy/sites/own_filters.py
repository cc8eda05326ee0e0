"""Runs filters that users have written in Python: `use`. A request filter and a response filter.

`proxy.filters` is what such a filter sees, `filters.code` how it is loaded. Here the two worlds
meet: a request of ours becomes one of theirs, and what they have changed becomes ours again.

What a filter does wrong costs its request and a line in the log: what it raises, what it returns
that is no answer, what it waits for too long, what it reads beyond its bound. A call that holds the
event loop for more than fifty milliseconds is named, because everybody else has waited meanwhile.
A filter that never returns is ended with its worker, by the supervisor.

Why it is hard: fields of framing and of forwarding are never a filter's to write, a shared response
is changed in a copy, and a body that has been read must still go on as if it had not been.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Generator
from dataclasses import dataclass
from functools import partial
from typing import Any

from ..config.model import Limits
from ..config.schema.own_filters import FilterUse
from ..config.syntax import field_rules
from ..config.syntax.faults import Wrong
from ..errors import Fault
from ..filters import LARGEST_BODY, USUAL_BODY, BodyTooLarge, FieldRefused, Fields, Request
from ..filters import Response as Answer
from ..filters.code import CannotLoad, FilterCode, told
from ..log import Seldom
from ..protocol import message
from ..protocol.exchange import Exchange
from ..protocol.message import FileBody, StreamBody, Tunnel
from ..transport.stream import READ_SIZE

log = logging.getLogger("treehouse.filters")

# Seconds for which one call may hold the loop before the log tells of it.
_TOO_LONG = 0.05
_BARE = (204, 304)  # RFC 9110 §6.4.1: without content
# Seconds after which a call that does not end is told of, and between two looks.
_STUCK_AFTER = 3.0
_LOOK_EVERY = 1.0
# Of all bodies that are being read for filters, in a worker: clients that stop before the end of
# theirs would fill the memory. A few of the largest fit.
_MOST_COLLECTED_AT_ONCE = 4 * LARGEST_BODY
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


def _request_name(name: str) -> str:
    try:
        return field_rules.request_name(name)
    except Wrong as wrong:
        raise FieldRefused(wrong.what) from None


def _response_name(name: str) -> str:
    try:
        return field_rules.response_name(name)
    except Wrong as wrong:
        raise FieldRefused(wrong.what) from None


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
            trailers = [] if body is None else body.trailers
            self._read = b"" if body is None else await _collected(body, min(limit, LARGEST_BODY))
            if body is not None:
                self._request.body = CollectedBody(self._read, trailers)
        if len(self._read) > limit:
            raise BodyTooLarge(f"more than {limit} bytes")
        return self._read

    def set_body(self, body: bytes) -> None:
        super().set_body(body)
        self._read = self._body
        self._replaced = True

    async def finish(self) -> None:
        """Read what is left of a body that is replaced: the client sends it nevertheless."""
        body = self._request.body
        if self._replaced and body is not None and not body.at_end:
            while await body.read():
                pass

    @property
    def waits(self) -> bool:
        """Whether `finish` has to be awaited."""
        body = self._request.body
        return self._replaced and body is not None and not body.at_end

    def apply(self) -> None:
        """Make what the filter has changed the request's."""
        request, fields = self._request, self.fields
        if fields._changed:
            fields._changed = False
            request.fields = request.uncached_fields = fields._raw
            request.cached_fields = None
        if self._replaced:
            self._replaced = False
            request.body = CollectedBody(self._body, [])


class _Collecting:
    """How much of requests' bodies is in memory while their clients send the rest."""

    held = 0  # bytes


_collecting = _Collecting()


async def _collected(body: message.RequestBody, limit: int) -> bytes:
    if body.length is not None and body.length > limit:
        raise BodyTooLarge(f"more than {limit} bytes")
    pieces, size = [], 0
    try:
        while piece := await body.read():
            size += len(piece)
            _collecting.held += len(piece)
            if size > limit:
                raise BodyTooLarge(f"more than {limit} bytes")
            if _collecting.held > _MOST_COLLECTED_AT_ONCE:
                raise Fault("no_capacity", "too many bodies of requests are read by filters")
            pieces.append(piece)
    finally:
        _collecting.held -= size
    return b"".join(pieces)


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


def _plain(answer: Answer) -> message.Response:
    """A filter's own answer as one of ours."""
    status = Answer(answer.status).status
    fields = [one for one in answer.fields._raw if _may_say(one[0])]
    body = b"" if status in _BARE else answer._body
    return message.Response(status, fields, body, handler="filter")


def _may_say(name: bytes) -> bool:
    _response_name(name.decode("ascii"))
    return True


@dataclass(slots=True)
class OwnFilter:
    """One filter that is loaded. ``name`` as the configuration has it; ``timeout`` in seconds for
    one call."""

    name: str
    made: Any
    timeout: float

    @property
    def request(self) -> Callable[[Request], object] | None:
        return getattr(self.made, "request", None)

    @property
    def response(self) -> Callable[[Request, Answer], object] | None:
        return getattr(self.made, "response", None)


def own_filter(entry: FilterUse, code: FilterCode) -> OwnFilter:
    """A new filter, as the configuration says. Raises `CannotLoad`."""
    try:
        made = code.load(entry.use, entry.with_)
    except CannotLoad as error:
        raise CannotLoad(f"{entry.use}: {error}") from None
    return OwnFilter(str(entry.use), made, entry.timeout)


class Watch:
    """Tells of a call that holds the event loop and does not end, while it can still be told: after
    ten seconds the supervisor ends the worker. A thread of its own, for the loop stands still."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._running: tuple[str, float] | None = None
        self._thread: threading.Thread | None = None
        self._watched = 0

    def begin(self, name: str) -> float:
        """Note that a filter's call begins; returns the time."""
        if self._thread is None:
            self._watched = threading.get_ident()
            self._thread = threading.Thread(target=self._look, name="filters", daemon=True)
            self._thread.start()
        began = self._now()
        self._running = name, began
        return began

    def end(self) -> None:
        self._running = None

    def _look(self) -> None:
        told_of = None
        while True:
            time.sleep(_LOOK_EVERY)
            running = self._running
            if running is None or running is told_of or self._now() - running[1] < _STUCK_AFTER:
                continue
            told_of = running
            frame = sys._current_frames().get(self._watched)
            place = f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame is not None else "?"
            log.error(
                "the filter %s has held all requests of this worker up for %d s, at %s",
                running[0], _STUCK_AFTER, place,
            )  # fmt: skip


class _Calls:
    """Calls the hooks of filters, and tells of what goes wrong. ``now`` is monotonic seconds."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._seldom = Seldom(log)
        self._watch = Watch(now)

    def call(self, one: OwnFilter, hook: Callable[..., object], *given: object) -> object:
        """What the hook returns: a value, or an awaitable of it. Raises `Fault`."""
        began = self._watch.begin(one.name)
        try:
            found = hook(*given)
        except (Exception, SystemExit, KeyboardInterrupt) as error:
            raise self.failed(one, error, given) from None
        finally:
            self._measure(one, hook, began)
        return self._awaited(one, hook, found, given) if inspect.isawaitable(found) else found

    async def _awaited(
        self,
        one: OwnFilter,
        hook: Callable[..., object],
        waiting: Awaitable[object],
        given: tuple[object, ...],
    ) -> object:
        try:
            async with asyncio.timeout(one.timeout) as bound:
                if inspect.iscoroutine(waiting):
                    return await _Measured(
                        waiting,
                        partial(self._watch.begin, one.name),
                        partial(self._measure, one, hook),
                    )
                return await waiting
        except TimeoutError:
            if bound.expired():
                error = TimeoutError(f"no result within {one.timeout:g} s")
            raise self.failed(one, error, given) from None
        except Fault:
            raise  # of a body that broke off, which is not the filter's
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise  # the client has left
            raise self.failed(one, error, given) from None
        except (Exception, SystemExit, KeyboardInterrupt) as error:
            raise self.failed(one, error, given) from None

    def nonsense(self, one: OwnFilter, found: object, given: tuple[object, ...]) -> Fault:
        """The fault of a hook that has returned what is none of its answers."""
        kind = type(found).__name__
        return self.failed(one, TypeError(f"it returned {kind} instead of a Response"), given)

    def failed(self, one: OwnFilter, error: BaseException, given: tuple[object, ...]) -> Fault:
        """The fault that ends the request, which the log has been told of."""
        request = given[0]
        assert isinstance(request, LiveRequest)  # noqa: S101 - the first argument of every hook
        if isinstance(error, Fault):
            return error
        if isinstance(error, BodyTooLarge) and len(given) == 1:
            return Fault("body_too_large", f"for the filter {one.name}")
        request.failed = True
        extra = {"site": request.site, "peer": request.client}
        why = told(error)
        self._seldom.warning(
            self._now(), "the filter %s failed: %s", one.name, why, about=one.name, extra=extra
        )
        return Fault("filter_failed")

    def _measure(self, one: OwnFilter, hook: Callable[..., object], began: float) -> None:
        self._watch.end()
        took = self._now() - began
        if took > _TOO_LONG:
            self._seldom.warning(
                self._now(),
                "the filter %s held all other requests up for %d ms in %s; what takes long belongs"
                " into asyncio.to_thread",
                one.name,
                round(took * 1000),
                getattr(hook, "__name__", "a call"),
                about=one.name,
            )


class _Measured:
    """A coroutine, each step of which is measured."""

    def __init__(
        self,
        steps: Coroutine[Any, Any, object],
        begin: Callable[[], float],
        measure: Callable[[float], None],
    ) -> None:
        self._steps = steps
        self._begin = begin
        self._measure = measure

    def __await__(self) -> Generator[Any, Any, object]:
        value: object = None
        thrown: BaseException | None = None
        while True:
            began = self._begin()
            try:
                steps = self._steps
                waits_for = steps.send(value) if thrown is None else steps.throw(thrown)
            except StopIteration as stop:
                return stop.value
            finally:
                self._measure(began)
            thrown = None
            try:
                value = yield waits_for
            except BaseException as error:
                thrown = error


_NOT_CALLED = object()


class RequestHooks:
    """The `request` hooks of filters, in order."""

    def __init__(self, filters: tuple[OwnFilter, ...], calls: _Calls) -> None:
        self._hooks = [(one, hook) for one in filters if (hook := one.request) is not None]
        self._calls = calls

    def request(
        self, exchange: Exchange
    ) -> message.Response | Awaitable[message.Response | None] | None:
        """The answer of a filter, None to go on; or an awaitable. Raises `Fault`."""
        request = live(exchange)
        for place, (one, hook) in enumerate(self._hooks):
            found = self._calls.call(one, hook, request)
            if inspect.isawaitable(found) or (found is None and request.waits):
                return self._later(request, place, found)
            answer = self._answer(one, request, found)
            if answer is not None:
                return answer
        return None

    async def _later(
        self, request: LiveRequest, place: int, found: object
    ) -> message.Response | None:
        for one, hook in self._hooks[place:]:
            if found is _NOT_CALLED:
                found = self._calls.call(one, hook, request)
            if inspect.isawaitable(found):
                found = await found
            if found is None:
                await request.finish()
            answer = self._answer(one, request, found)
            if answer is not None:
                return answer
            found = _NOT_CALLED
        return None

    def _answer(
        self, one: OwnFilter, request: LiveRequest, found: object
    ) -> message.Response | None:
        if found is None:
            request.apply()
            return None
        if not isinstance(found, Answer) or isinstance(found, LiveResponse):
            raise self._calls.nonsense(one, found, (request,))
        try:
            return _plain(found)
        except (ValueError, TypeError) as error:
            raise self._calls.failed(one, error, (request,)) from None


class ResponseHooks:
    """The `response` hooks of filters, the last filter first: what is nearer to the handler on the
    way in is so on the way out."""

    def __init__(self, filters: tuple[OwnFilter, ...], calls: _Calls) -> None:
        self._hooks = [
            (one, hook) for one in reversed(filters) if (hook := one.response) is not None
        ]
        self._calls = calls

    def response(
        self, exchange: Exchange, response: message.Response
    ) -> message.Response | Awaitable[message.Response]:
        """The response that the filters make of this one, or an awaitable of it. Raises `Fault`."""
        request = live(exchange)
        if request.failed:
            return response  # which says so
        head_only = request.method == "HEAD"
        for place, (one, hook) in enumerate(self._hooks):
            seen = LiveResponse(response, head_only)
            found = self._calls.call(one, hook, request, seen)
            if inspect.isawaitable(found):
                return self._later(request, seen, place, found)
            response = self._applied(one, request, seen, found)
        return response

    async def _later(
        self, request: LiveRequest, seen: LiveResponse, place: int, found: object
    ) -> message.Response:
        response = seen.present
        for one, hook in self._hooks[place:]:
            if found is _NOT_CALLED:
                seen = LiveResponse(response, request.method == "HEAD")
                found = self._calls.call(one, hook, request, seen)
            if inspect.isawaitable(found):
                found = await found
            response = self._applied(one, request, seen, found)
            found = _NOT_CALLED
        return response

    def _applied(
        self, one: OwnFilter, request: LiveRequest, seen: LiveResponse, found: object
    ) -> message.Response:
        """What is sent instead. Raises `Fault`; the response is then left to whoever gave it."""
        try:
            if found is seen:
                return seen.applied()
            if isinstance(found, Answer) and not isinstance(found, LiveResponse):
                made = _plain(found)
                seen.end()
                return made
        except (ValueError, TypeError) as error:
            raise self._calls.failed(one, error, (request, seen)) from None
        raise self._calls.nonsense(one, found, (request, seen))


def live(exchange: Exchange) -> LiveRequest:
    """The request of an exchange as filters see it: the same for all of them."""
    found = exchange.for_filters
    if found is None:
        assert exchange.request is not None  # noqa: S101 - filters are asked about requests
        found = exchange.for_filters = LiveRequest(exchange, exchange.request)
    assert isinstance(found, LiveRequest)  # noqa: S101 - nobody else sets it
    return found


def hooks(
    filters: tuple[OwnFilter, ...], now: Callable[[], float] = time.monotonic
) -> tuple[RequestHooks | None, ResponseHooks | None]:
    """The filters of a route, before its handler and behind it; None where no filter has such a
    hook."""
    calls = _Calls(now)
    before = any(one.request is not None for one in filters)
    behind = any(one.response is not None for one in filters)
    return (
        RequestHooks(filters, calls) if before else None,
        ResponseHooks(filters, calls) if behind else None,
    )
