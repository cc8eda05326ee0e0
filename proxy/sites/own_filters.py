"""Runs filters that users have written in Python: `use`. A request filter and a response filter.

`proxy.filters` is what such a filter sees, `filters.code` how it is loaded, `own_messages` how a
request of ours becomes one of theirs, and what they have changed becomes ours again.

What a filter does wrong costs its request and a line in the log: what it raises, what it returns
that is no answer, what it waits for too long, what it reads beyond its bound. A call that holds the
event loop for more than fifty milliseconds is named, because everybody else has waited meanwhile.
A filter that never returns is ended with its worker, by the supervisor.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Generator
from functools import partial
from typing import Any

from acme_client.late_dataclass import dataclass

from ..config.schema.own_filters import FilterUse
from ..errors import Fault
from ..filters import BodyTooLarge, Request
from ..filters import Response as Answer
from ..filters.code import CannotLoad, FilterCode, told
from ..log import Seldom
from ..protocol import message
from ..protocol.exchange import Exchange
from .own_messages import LiveRequest, LiveResponse, live, plain

log = logging.getLogger("treehouse.filters")

# Seconds for which one call may hold the loop before the log tells of it.
_TOO_LONG = 0.05
# Seconds after which a call that does not end is told of, and between two looks.
_STUCK_AFTER = 3.0
_LOOK_EVERY = 1.0
# What code of users may raise: it costs the request, and never the worker.
_RAISED = (Exception, SystemExit, KeyboardInterrupt)


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
            time.sleep(_LOOK_EVERY)  # on a thread of its own: nothing can be awaited here
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
        except _RAISED as error:
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
        except _RAISED as error:
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
        """The same from ``place`` on, whose hook has returned ``found``."""
        while True:
            if inspect.isawaitable(found):
                found = await found
            if found is None:
                await request.finish()
            answer = self._answer(self._hooks[place][0], request, found)
            place += 1
            if answer is not None or place == len(self._hooks):
                return answer
            found = self._calls.call(*self._hooks[place], request)

    def _answer(
        self, one: OwnFilter, request: LiveRequest, found: object
    ) -> message.Response | None:
        if found is None:
            request.apply()
            return None
        if not isinstance(found, Answer) or isinstance(found, LiveResponse):
            raise self._calls.nonsense(one, found, (request,))
        try:
            return plain(found)
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
        """The same from ``place`` on, whose hook was given ``seen`` and has returned ``found``."""
        while True:
            if inspect.isawaitable(found):
                found = await found
            response = self._applied(self._hooks[place][0], request, seen, found)
            place += 1
            if place == len(self._hooks):
                return response
            seen = LiveResponse(response, request.method == "HEAD")
            found = self._calls.call(*self._hooks[place], request, seen)

    def _applied(
        self, one: OwnFilter, request: LiveRequest, seen: LiveResponse, found: object
    ) -> message.Response:
        """What is sent instead. Raises `Fault`; the response is then left to whoever gave it."""
        try:
            if found is seen:
                return seen.applied()
            if isinstance(found, Answer) and not isinstance(found, LiveResponse):
                made = plain(found)
                seen.end()
                return made
        except (ValueError, TypeError) as error:
            raise self._calls.failed(one, error, (request, seen)) from None
        raise self._calls.nonsense(one, found, (request, seen))


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
