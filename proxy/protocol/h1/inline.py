"""Requests that are answered where they arrive, without waking the connection's coroutine.

Many requests on a kept-alive connection are one plain head whose answer is at hand: a small file
that was asked for a moment ago. Waking a task for such a one (a future, a turn of the loop, frames
that are entered again) costs as much as answering it. So while the coroutine waits for a request,
the desk is shown what comes. It deals with it completely, or it hands over: what the lane has read
of the request so far, or nothing at all.

It never waits, and it does nothing that `h1.serve` would not do in the same order: read, answer,
send, tell the service that it is finished. Whatever ends the connection (drains, limits, a client
that is gone) is handed over or left to the stream.
"""

from __future__ import annotations

import time

from ..message import Connection, Request, Response
from ..service import Service
from .fast_parser import Lane
from .reader import Inlet, RequestBody
from .strict_parser import HEAD_END
from .writer import Outlet


class FrontDesk:
    """``request`` is the one that was begun. ``response``: its answer, if that was at hand.
    ``unsent``: the kernel has not taken the whole of it. ``answered`` counts all requests of the
    connection, and ``most`` may be."""

    __slots__ = (
        "_connection",
        "_inlet",
        "_lane",
        "_outlet",
        "_patience",
        "_service",
        "answered",
        "begun",
        "most",
        "request",
        "response",
        "unsent",
    )

    def __init__(
        self, inlet: Inlet, outlet: Outlet, connection: Connection, service: Service, lane: Lane
    ) -> None:
        self._inlet = inlet
        self._outlet = outlet
        self._connection = connection
        self._service = service
        self._lane = lane
        self._patience = service.limits.keepalive_timeout
        self.answered = 0
        self.most = service.limits.requests_per_connection - 1
        self.begun = self.unsent = False
        self.request: Request | None = None
        self.response: Response | None = None

    def __call__(self, data: bytes) -> bool:
        """Whether ``data`` has been dealt with."""
        end = data.find(HEAD_END) + 4
        if end < 4:
            return False
        whole = end == len(data)
        parsed = self._lane.parse(data if whole else data[:end], self._connection)
        if parsed is None:
            return False
        request, length, _close, _judge = parsed
        request.started = time.monotonic()
        service = self._service
        if whole and not length and not service.draining and self.answered < self.most:
            response = service.at_hand(request)
            if response is not None:
                outlet = self._outlet
                wire = outlet.prepared(request, response)
                sent = None if wire is None else outlet.send_now(wire, len(response.body))  # type: ignore[arg-type] # bytes
                if sent is not None:
                    service.finished(self._connection, request, response, outlet.sent, outlet.error)
                    self.answered += 1
                    self._inlet.stream.deadline = service.clock.now + self._patience
                    return True
                self.unsent = wire is not None
                self.response = response
        if not whole:
            self._inlet.put_back(data[end:])
        if length:
            request.body = RequestBody(self._inlet, request, length)
        self.request = request
        self.begun = True
        return False

    def hand_over(self) -> tuple[Request | None, Response | None, bool]:
        """What was begun, which is somebody else's from now on: the request, its answer, and
        whether a part of that has been sent."""
        handed = self.request, self.response, self.unsent
        self.request = self.response = None
        self.begun = self.unsent = False
        return handed
