"""A backend's answer that is begun in the callback in which its request has arrived.

It is begun where a kept connection is at hand and nothing but a head, or a head and its whole body,
is to be sent. It ends there when the backend's head comes in one piece. Everything else is left to
`Upstream.ask`, which goes on with the same attempt: what came of a head, an error or a deadline
that has passed lies with the connection, where `BackendConnection.head` finds it.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from typing import Any, Protocol

from ...accelerated import Lane, copies, lane
from ...protocol.early_answer import Done, EarlyAnswer
from ...protocol.message import Request, Response
from ...transport.stream import StreamBroken
from .attempt import Attempt
from .backend import Backend
from .request_body import Payload


class Asking(Protocol):
    """Who asks backends; see `handler.Upstream`."""

    def choose(self, request: Request) -> Backend | None: ...

    def attempt(self, request: Request, payload: Payload, backend: Backend) -> Attempt | None: ...

    def answered(self, request: Request, response: Response, attempt: Attempt) -> None: ...

    def ask(
        self,
        request: Request,
        payload: Payload,
        backend: Backend | None = None,
        attempt: Attempt | None = None,
    ) -> Coroutine[Any, Any, Response]: ...


class BackendAnswer(EarlyAnswer):
    __slots__ = ("_asking", "_attempt", "_backend", "_done", "_failure", "_payload", "_request")

    def __init__(self, asking: Asking, request: Request, payload: Payload) -> None:
        self._asking = asking
        self._request = request
        self._payload = payload
        self._backend: Backend | None = None
        self._attempt: Attempt | None = None
        self._done: Done | None = None
        self._failure: Exception | None = None

    def begin(self, done: Done) -> bool:
        request, payload = self._request, self._payload
        if payload.follows is not None or request.upgrade is not None:
            return False
        # Where it comes no further, `ask` goes on with the same backend, whose turn it is.
        backend = self._backend = self._asking.choose(request)
        if backend is None:
            return False
        attempt = self._attempt = self._asking.attempt(request, payload, backend)
        if attempt is None or not attempt.hear(self._hears):
            return False
        self._done = done
        return True

    def _hears(self, said: bytes | StreamBroken) -> None:
        done, attempt = self._done, self._attempt
        assert done is not None and attempt is not None  # noqa: S101, PT018 - it has begun
        self._done = None  # which knows the client's connection
        try:
            response = attempt.answer(said)
            if response is not None:
                self._asking.answered(self._request, response, attempt)
        except Exception as error:
            self._failure, response = error, None
        done(response)

    def __await__(self) -> Generator[Any, None, Response]:
        if self._failure is not None:
            raise self._failure
        asked = self._asking.ask(self._request, self._payload, self._backend, self._attempt)
        return asked.__await__()


def in_c(lane: Lane) -> Callable[[Asking, Request, Payload], BackendAnswer]:
    """Return what a lane has in place of `BackendAnswer`."""
    nothing: Any = None
    pattern = BackendAnswer(nothing, nothing, nothing)
    return copies(lane, pattern, "_asking", "_request", "_payload")


# Makes an answer that is not begun yet.
new_backend_answer = BackendAnswer if lane is None else in_c(lane)
