"""One try at a request: on one connection of one backend, until the response's head is there.

An attempt owns its connection. When it is over (`_settle`, exactly once) the connection goes back
to its pool or ends; that is when the body has been read, the tunnel has closed, or something went
wrong before a response existed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from ...accelerated import Lane, copies, lane
from ...config.model import ProxyAction
from ...errors import Fault
from ...protocol.h1.client import BackendConnection, NoResponse
from ...protocol.h1.response_parser import ResponseHead
from ...protocol.message import (
    CachedHead,
    Fields,
    Request,
    Response,
    ResponseBody,
    Tunnel,
)
from ...transport.stream import Hears, StreamBroken, StreamTimeout
from .backend import Backend
from .pool import Connection
from .request_body import Payload, Upload
from .request_head import end_to_end
from .response import announced_length, passed_on


class Route(Protocol):
    """Whose backends are asked. ``patience``: seconds for each write and for the head."""

    action: ProxyAction
    patience: float

    def message(
        self, request: Request, backend: Backend, connection: Connection, payload: Payload
    ) -> bytes:
        """What is sent first: the request's head, and its body if it is all here. Raises `Fault`
        ("loop")."""
        ...

    def tell(self, request: Request, backend: Backend, fault: Fault) -> None:
        """Write a fault into the log that ends a response in its body."""
        ...


class Attempt:
    """``kept``: its connection had answered a request before. ``began`` is for who measures it."""

    __slots__ = (
        "_begun",
        "_broken",
        "_connection",
        "_payload",
        "_request",
        "_rest",
        "_route",
        "_sent",
        "_upload",
        "backend",
        "began",
        "kept",
    )

    def __init__(
        self,
        route: Route,
        backend: Backend,
        connection: Connection,
        request: Request,
        payload: Payload,
        kept: bool,
        began: float,
    ) -> None:
        self._route = route
        self.backend = backend
        self._connection = connection
        self._request = request
        self._payload = payload
        self.kept = kept
        self._upload: Upload | None = None
        self._begun = False  # `send` has been called
        self._sent = 0  # bytes that it had to send
        self._rest: bytes | memoryview = b""  # of them
        self._broken: StreamBroken | None = None  # while they were sent
        self.began = began

    def send(self) -> None:
        """Send the head, and the body if it is all here, as far as that is possible at once. Raises
        `Fault` where nothing may be sent; the attempt is over then."""
        self._begun = True
        try:
            data = self._route.message(self._request, self.backend, self._connection, self._payload)
        except Fault:  # a loop
            self._settle(True)
            raise
        self._sent = len(data)
        try:
            self._rest = self._connection.send_now(data, self._route.patience)
        except StreamBroken as error:
            self._broken = error
        except BaseException:
            self._settle(False)
            raise

    def hear(self, hears: Hears) -> bool:
        """Have ``hears`` called with what the backend says, for `answer`; False where `run` has to
        be awaited. So it may be later, too."""
        connection = self._connection
        if (
            self._broken is not None
            or self._rest
            or not isinstance(connection, BackendConnection)
            or not connection.hear(hears)
        ):
            return False
        connection.request_sent = True
        return True

    def answer(self, said: bytes | StreamBroken) -> Response | None:
        """Return the response that the backend has begun to say; None where `run` has to be
        awaited."""
        connection = self._connection
        assert isinstance(connection, BackendConnection)  # noqa: S101 - `hear` has looked
        head = connection.head_now(said, self._request.method)
        if head is None:
            return None
        self.backend.succeeded()
        return self._response(head)

    async def run(self) -> Response:
        """Return the response; sends the request first, unless `send` has. Raises `Fault`, or
        `NoResponse` when the connection ended before the first byte of a response."""
        if not self._begun:
            self.send()
        connection, payload, patience = self._connection, self._payload, self._route.patience
        try:
            if self._broken is not None:
                raise self._broken
            rest, self._rest = self._rest, b""  # else it would be held while anybody is waited for
            if payload.follows is not None:
                if rest:
                    await connection.send(rest, patience)
                self._upload = Upload(self._request, payload.follows, connection, patience)
            else:
                connection.request_sent = not rest or await self._send_rest(rest)
            rest = b""
            head = await connection.head(self._request.method, patience, self._request.upgrade)
            if head.status < 200:
                head = await self._final_head(head)
            elif head.status == 408 and head.close and self.kept and payload.follows is None:
                # RFC 9110 §15.5.9: said to an idle connection, at which no request had come.
                raise NoResponse("408, to an idle connection", unseen=True)
        except BaseException as error:
            unseen = self._broken is not None or (
                payload.follows is None and connection.never_read(self._sent)
            )
            if self._upload is not None:
                await self._upload.stop()
            self._settle(False)
            if self._upload is not None and self._upload.fault is not None:
                raise self._upload.fault from None  # the client's doing, whatever came of it
            if isinstance(error, NoResponse | StreamBroken):
                unseen = unseen or (isinstance(error, NoResponse) and error.unseen)
                raise NoResponse(str(error), unseen) from None
            raise
        self.backend.succeeded()
        return self._response(head)

    async def _send_rest(self, rest: bytes | memoryview) -> bool:
        """Whether the backend took all of the request. A backend that stopped reading may have
        answered first (413, most of all); that answer is worth more than the reset behind it."""
        try:
            await self._connection.send(rest, self._route.patience)
        except StreamTimeout:
            raise
        except StreamBroken:
            return False
        return True

    async def _final_head(self, head: ResponseHead) -> ResponseHead:
        """Pass ``head`` and other interim ones on, and return the final one."""
        request = self._request
        while head.status < 200:
            if head.status == 101:
                _check_upgrade(request, head)
                return head
            if head.status == 100:
                if self._upload is not None:
                    self._upload.invited.set()
            elif request.inform is not None:
                await request.inform(head.status, end_to_end(head.fields))
            head = await self._connection.head(
                request.method, self._route.patience, request.upgrade
            )
        return head

    def _response(self, head: ResponseHead) -> Response:
        connection, upload = self._connection, self._upload
        if head.status == 101:
            return self._tunnel(head)
        whole = connection.whole(head)
        if head.passed_on is not None and whole is not None and upload is None:
            # Nearly always: a head that has come before, with all of its body.
            self._settle(True)
            onward, serialised = head.passed_on
            return new_response(head.status, onward, whole, "upstream", serialised)
        method = self._request.method
        if whole and (head.h11_connection is not None or upload is not None):
            # h11 has to see the body, or the request is still being sent: stream the body then.
            connection.put_back(whole + connection.leftover())
            whole = None
        if method == b"HEAD" and not announced_length(head):
            whole = None  # a length that nobody knows, which no bytes would say
        fields, cached = head.passed_on or passed_on(head, method)
        body: ResponseBody
        if whole is None or upload is not None:
            patience = self._route.action.idle_timeout
            body = connection.body(head, patience, self._translate, self._settle)
        else:
            self._settle(True)
            body = whole
        return new_response(head.status, fields, body, "upstream", cached)

    def _tunnel(self, head: ResponseHead) -> Response:
        connection = self._connection
        assert isinstance(connection, BackendConnection)  # noqa: S101 - HTTP/2 has no 101
        fields = end_to_end(head.fields)
        fields += [one for one in head.fields if one[0] == b"upgrade"]
        tunnel = Tunnel(
            connection.stream,
            connection.leftover(),
            lambda _complete: self._settle(False),
            self._route.action.idle_timeout,
        )
        return Response(101, fields, tunnel, handler="tunnel")

    def _settle(self, whole: bool) -> None:
        """The attempt is over: the connection goes back, or ends if its response was not read."""
        if self._upload is not None and not self._upload.complete:
            self._upload.abandon()
        self.backend.in_flight -= 1
        if whole:
            self.backend.pool.give_back(self._connection)
        else:
            self.backend.pool.end(self._connection)

    def _translate(self, fault: Fault) -> Fault:
        """Return the fault that really ended the body: the client's, if its request body broke off;
        else the backend's, which is logged here because the response is already under way."""
        if self._upload is not None and self._upload.fault is not None:
            return self._upload.fault
        self._route.tell(self._request, self.backend, fault)
        return fault


def in_c(
    lane: Lane,
) -> tuple[
    Callable[[Route, Backend, Connection, Request, Payload, bool, float], Attempt],
    Callable[[int, Fields, ResponseBody, str, CachedHead | None], Response],
]:
    """Return what a lane has in place of `Attempt` and `Response`."""
    nothing: Any = None
    attempt = Attempt(nothing, nothing, nothing, nothing, nothing, True, 0.0)
    given = "_route", "backend", "_connection", "_request", "_payload", "kept", "began"
    response = "status", "fields", "body", "handler", "cached"
    return copies(lane, attempt, *given), copies(lane, Response(200, []), *response)


new_attempt, new_response = (Attempt, Response) if lane is None else in_c(lane)


def _check_upgrade(request: Request, head: ResponseHead) -> None:
    """A 101 that nobody asked for, or to another protocol, is no tunnel."""
    asked = request.upgrade
    if asked is None:
        raise Fault("backend_protocol", "a 101 that nobody asked for (RFC 9110 §15.2.2)")
    given = [value.lower() for name, value in head.fields if name == b"upgrade"]
    if len(given) != 1 or given[0] not in [one.strip().lower() for one in asked.split(b",")]:
        detail = "a 101 to another protocol than was asked for (RFC 9110 §7.8)"
        raise Fault("backend_protocol", detail)
