"""What a protocol needs of the worker around it: five facts and three verbs.

The protocol asks ``answer`` for every request, ``refuse`` for every fault that it meets itself, and
reports the end of each through ``finished``, whatever happened: that call is the access log line.
"""

from __future__ import annotations

from typing import Protocol

from ..config.model import Limits
from ..errors import Fault
from ..transport.clock import Clock
from .h1.fast_parser import Lane
from .message import Connection, Request, Response


class Service(Protocol):
    limits: Limits
    clock: Clock
    lane: Lane | None  # None: every head goes through h11

    @property
    def draining(self) -> bool:
        """Whether every answer is the last of its connection."""
        ...

    def at_hand(self, request: Request) -> Response | None:
        """The answer, if it is there already; else None, and then `answer` has to be asked."""
        ...

    async def answer(self, request: Request) -> Response:
        """The handler's answer. Never raises `Fault`: those have become responses."""
        ...

    def refuse(self, fault: Fault, request: Request | None) -> Response:
        """The answer to a fault; ``request`` is None when there was no well-formed head."""
        ...

    def limited(self, limit: str, connection: Connection) -> None:
        """The connection has come to a limit of its own."""
        ...

    def finished(
        self,
        connection: Connection,
        request: Request | None,
        response: Response,
        sent: int,
        error: str | None,
    ) -> None:
        """``sent`` counts body bytes. ``error`` is what ended the sending early (a key of FAULTS),
        else None; then ``response.error`` still tells why the answer is what it is."""
        ...
