"""Filters: what a site or a route adds around its handler, without the handler's knowledge.

A *request filter* looks at a request before the handler does. It lets it pass (None), answers in
the handler's place, or raises `Fault`. A *response filter* is given every response of its route,
whoever made it: the handler, a request filter, or a fault of ours. It returns the same response, a
changed one, or another. Either may return an awaitable instead, when it has to wait for something.

A `Chain` holds the filters of a route in the order in which they act. It is made once per
generation. A route without filters has no chain and pays nothing; a chain whose filters all answer
at once costs no task switch, because nothing in it is awaited then.

Often it is certain what a route's response filters make of a response that answers many requests
(a cached file), whoever asks: a file that is too small to be compressed, say, gets the same fields
each time. Filters that can tell so have `SettlingFilter.settle`. When all of a chain do, they are
asked once, and the outcome is kept with the response.

A *field filter* is the simplest kind of response filter: what it does depends on the route alone,
never on the request. `Fixed` is a row of such filters.

Why it is hard: a response holds things that must be ended exactly once (a file, a backend
connection). Whoever returns another response in place of the one that was given must take over or
`Response.discard` its body; a filter that raises leaves that to the chain. And a `shared` response
belongs to many requests: a filter changes a copy of it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Sequence
from typing import Any, Protocol, runtime_checkable

from ..protocol.early_answer import Done, EarlyAnswer
from ..protocol.exchange import Exchange
from ..protocol.message import CachedHead, Handler, Response

Answer = Response | Awaitable[Response]
Ask = Callable[[Exchange, Handler], Answer]
Failed = Callable[[Exchange, Exception], Response]


# Stands for the outcome that no filter has been asked for yet.
_UNASKED = Response(500, [])


class RequestFilter(Protocol):
    def request(self, exchange: Exchange) -> Response | Awaitable[Response | None] | None:
        """None to go on, or the answer. Raises `Fault` to refuse."""
        ...


@runtime_checkable
class TakingFilter(RequestFilter, Protocol):
    """``takes``: the names of request fields that are for this filter alone (the password that it
    verifies), or that it writes for the handler. They are nobody else's."""

    takes: frozenset[bytes]


class ResponseFilter(Protocol):
    def response(self, exchange: Exchange, response: Response) -> Answer:
        """The response to go on with; the same object where nothing is to be changed."""
        ...


@runtime_checkable
class SettlingFilter(ResponseFilter, Protocol):
    def settle(self, response: Response) -> Response | None:
        """What `response` would return for a ``shared`` response, whoever asks: a ``shared`` one.
        None where that depends on the request."""
        ...


class FieldFilter(Protocol):
    def change(self, response: Response) -> None:
        """Change the status or the fields of a response that belongs to one request or is kept
        for all of them; never its body."""
        ...


class Fixed:
    """Field filters in a row, as one response filter."""

    def __init__(self, filters: Sequence[FieldFilter]) -> None:
        self._filters = tuple(filters)

    def response(self, _exchange: Exchange, response: Response) -> Response:
        if response.shared:
            return self.settle(response)
        if response.cached is None:
            return self._changed(response)
        return self._changed_once(response, response.cached)

    def settle(self, response: Response) -> Response:
        return response.changed_once(self, self._changed)

    def _changed_once(self, response: Response, head: CachedHead) -> Response:
        """Change a response whose head other responses have as well."""
        kept = head.kept
        if kept is None:
            kept = head.kept = {}
        made = kept.get(self)
        if made is None:
            self._changed(response)
            if response.cached is None:
                response.cached = head.remade(response.status, response.fields)
            kept[self] = response.status, response.fields, response.cached
        else:
            response.status, response.fields, response.cached = made
        return response

    def _changed(self, response: Response) -> Response:
        for one in self._filters:
            one.change(response)
        return response


async def first_answer(
    exchange: Exchange, waiting: Awaitable[Response | None], rest: Sequence[RequestFilter]
) -> Response | None:
    """The answer of the request filter that is awaited, or else of the first of the ``rest`` that
    has one; None where all let the request pass. Raises `Fault`."""
    found = await waiting
    for one in rest:
        if found is not None:
            break
        given = one.request(exchange)
        found = given if given is None or isinstance(given, Response) else await given
    return found


class Chain:
    """The filters of a route: ``before`` its handler (``guards``), and ``after``, each in order."""

    def __init__(
        self, before: Sequence[RequestFilter] = (), after: Sequence[ResponseFilter] = ()
    ) -> None:
        self.guards = tuple(before)
        self._after = tuple(after)
        settling = [one for one in after if isinstance(one, SettlingFilter)]
        self._settling = settling if len(settling) == len(after) else None

    def handle(self, exchange: Exchange, handler: Handler, ask: Ask, failed: Failed) -> Answer:
        """The filtered response. ``ask`` asks the handler; ``failed`` makes a response of what was
        raised."""
        try:
            answer = self._answer(exchange, handler, ask)
        except Exception as error:
            answer = failed(exchange, error)
        return self.changed(exchange, answer, failed)

    def changed(self, exchange: Exchange, answer: Answer, failed: Failed) -> Answer:
        """What the response filters make of an answer."""
        if not isinstance(answer, Response):
            if isinstance(answer, EarlyAnswer):
                return _Filtered(self, exchange, answer, failed)
            return self.changed_later(exchange, answer, failed)
        if answer.shared and self._settling is not None:
            kept = answer.kept
            settled = _UNASKED if kept is None else kept.get(self, _UNASKED)
            if settled is _UNASKED:
                settled = self._settled(answer)
            if settled is not None:
                return settled
        return self.filtered(exchange, answer, failed)

    async def changed_later(
        self, exchange: Exchange, waiting: Awaitable[Response], failed: Failed
    ) -> Response:
        """`changed`, for an answer that has to be awaited."""
        try:
            response = await waiting
        except Exception as error:
            response = failed(exchange, error)
        filtered = self.filtered(exchange, response, failed)
        return filtered if isinstance(filtered, Response) else await filtered

    # Before the handler

    def _answer(self, exchange: Exchange, handler: Handler, ask: Ask) -> Answer:
        for place, one in enumerate(self.guards):
            found = one.request(exchange)
            if found is not None:
                if isinstance(found, Response):
                    return found
                return self._answer_later(exchange, handler, ask, found, place + 1)
        return ask(exchange, handler)

    async def _answer_later(
        self,
        exchange: Exchange,
        handler: Handler,
        ask: Ask,
        waiting: Awaitable[Response | None],
        place: int,
    ) -> Response:
        found = await first_answer(exchange, waiting, self.guards[place:])
        if found is not None:
            return found
        answer = ask(exchange, handler)
        return answer if isinstance(answer, Response) else await answer

    # Behind it

    def _settled(self, response: Response) -> Response | None:
        """Ask the filters once what they make of a shared response, and keep the outcome."""
        settled = response
        for one in self._settling or ():
            made = one.settle(settled)
            if made is None:
                break
            settled = made
        else:
            response.keep(self, settled)
            return settled
        response.keep(self, None)
        return None

    def filtered(self, exchange: Exchange, response: Response, failed: Failed) -> Answer:
        """What the response filters make of ``response``."""
        for place, one in enumerate(self._after):
            try:
                given = one.response(exchange, response)
            except Exception as error:
                response.discard()
                response = failed(exchange, error)
                continue
            if not isinstance(given, Response):
                return self._filtered_later(exchange, response, given, place + 1, failed)
            response = given
        return response

    async def _filtered_later(
        self,
        exchange: Exchange,
        response: Response,
        waiting: Awaitable[Response],
        place: int,
        failed: Failed,
    ) -> Response:
        try:
            response = await waiting
        except Exception as error:
            response.discard()
            response = failed(exchange, error)
        except BaseException:  # the client has left
            response.discard()
            raise
        rest = Chain((), self._after[place:]).filtered(exchange, response, failed)
        return rest if isinstance(rest, Response) else await rest


class _Filtered(EarlyAnswer):
    """What a chain makes of an answer that can be begun early."""

    __slots__ = ("_answer", "_chain", "_done", "_exchange", "_failed", "_filtering")

    def __init__(
        self, chain: Chain, exchange: Exchange, answer: EarlyAnswer, failed: Failed
    ) -> None:
        self._chain = chain
        self._exchange = exchange
        self._answer = answer
        self._failed = failed
        self._done: Done | None = None
        self._filtering: Awaitable[Response] | None = None  # a filter has to wait for something

    def begin(self, done: Done) -> bool:
        self._done = done
        return self._answer.begin(self._answered)

    def _answered(self, response: Response | None) -> None:
        done, self._done = self._done, None
        assert done is not None  # noqa: S101 - it has begun
        if response is not None:
            filtered = self._chain.filtered(self._exchange, response, self._failed)
            if isinstance(filtered, Response):
                response = filtered
            else:
                response, self._filtering = None, filtered
        done(response)

    def __await__(self) -> Generator[Any, None, Response]:
        if self._filtering is not None:
            return self._filtering.__await__()
        chain = self._chain
        return chain.changed_later(self._exchange, self._answer, self._failed).__await__()
