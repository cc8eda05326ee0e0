"""What a protocol needs of the worker around it.

The contract between a protocol (HTTP/1.1, HTTP/2) and a service (port 80, port 443, the admin
listener):

1. The protocol makes an `Exchange` for each request, with the request complete but for its body.
2. It calls ``handle(exchange)`` once, from anywhere: a callback of the event loop or a task. The
   call itself never blocks and never raises. It returns the response, or an awaitable of it when
   something must be waited for (a backend, an authentication service, a certificate). The protocol
   awaits that exactly once, in a task of its choice, even if the client has left before; cancelling
   the task, once it awaits, ends the work. An exception that the awaitable raises is given to
   ``failed``, which makes a response of it.
3. The response is as `message.Response` says. The protocol sends it or ends it: a `FileBody` is
   released, a `StreamBody` or `Tunnel` closed exactly once, sent or not (`Response.discard` does
   this for one that was not begun).
4. Whatever happened, ``finished(exchange)`` is called once, with ``response``, ``sent`` and
   ``error`` filled in. That is the line in the access log and the end of the request's account.

A fault that the protocol meets before there is a request (a malformed head, a head that is too
slow) becomes an exchange without a request: ``refuse`` makes the answer, ``finished`` the line.

Nothing here assumes that a connection has one request at a time: exchanges of one connection may
overlap in any order, and a service keeps nothing about a request but in its exchange.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from ..config.model import Limits
from ..errors import Fault
from ..transport.clock import Clock
from ..transport.deadlines import Deadlines
from ..transport.stream import ClientStream
from .exchange import Exchange
from .message import Connection, Response

# The whole life of a connection in one protocol: answers requests until the client or we have had
# enough. The caller closes the transport. A table of these, by the names of ALPN (RFC 7301), is
# what the acceptor chooses from.
Serve = Callable[[ClientStream, Connection, "Service", Deadlines], Awaitable[None]]


class Host(Protocol):
    """Who has the connection on which a protocol is spoken without a task. One of the two is
    called, once."""

    def end(self) -> None:
        """Close the connection: both sides have had enough."""
        ...

    def go_on(self, rest: Awaitable[None]) -> asyncio.Task[None]:
        """Await the rest in a task, and close the connection then."""
        ...


# The same life, which begins at once and without a task: what is known at once is answered where it
# arrives.
Listen = Callable[[ClientStream, Connection, "Service", Deadlines, Host], None]


class Service(Protocol):
    limits: Limits
    clock: Clock

    @property
    def draining(self) -> bool:
        """Whether every answer is the last of its connection."""
        ...

    def handle(self, exchange: Exchange) -> Response | Awaitable[Response]:
        """The response to ``exchange.request``, or an awaitable of it. The call never raises. A
        response that is marked ``shared`` is given to many requests, and nobody may change it."""
        ...

    def failed(self, exchange: Exchange, error: Exception) -> Response:
        """Make the response to what an awaitable of `handle` has raised."""
        ...

    def refuse(self, exchange: Exchange, fault: Fault) -> Response:
        """The answer to a fault that the protocol met itself."""
        ...

    def limited(self, limit: str, connection: Connection) -> None:
        """Count and report that the connection has reached a limit of its own."""
        ...

    def finished(self, exchange: Exchange) -> None:
        """Close the account of an exchange: log line, counters, limits."""
        ...
