"""What becomes of the rest of a request that nobody wants, once it has been answered.

A short rest is read over, so that the connection can be used again. Otherwise the connection ends,
and not at once: closing with unread bytes sends a reset, and a reset takes away what the client has
not read yet of the response (RFC 9112 §9.6).
"""

from __future__ import annotations

from ...errors import Fault
from ...transport.stream import StreamBroken
from ..message import Body, Request
from .reader import RequestReader
from .request_body import WORTH_READING

# Many clients read a response only when their upload is over.
# nginx: lingering_time 30s, lingering_timeout 5s.
_LINGER = 30.0
_LINGER_SILENT = 5.0


def ends_soon(body: Body, request: Request) -> bool:
    """Whether the body has been read, or its rest is so short that reading it is cheap."""
    if body.at_end:
        return True
    remaining = body.remaining
    return not request.expects_continue and remaining is not None and remaining <= WORTH_READING


async def read_over(body: Body) -> bool:
    """Read the rest of a body for nothing; whether its end was reached."""
    try:
        while await body.read():
            pass
    except Fault:
        return False
    return True


async def linger(reader: RequestReader) -> None:
    """End our side, and listen until the client has ended its own, within bounds of time. Its bytes
    cost no more than any upload; if it sends none, it may be ended for others."""
    stream, clock = reader.stream, reader.service.clock
    end = clock.now + _LINGER
    reader.timeouts.idle = True
    try:
        await stream.send_eof()
        while True:
            stream.deadline = min(end, clock.now + _LINGER_SILENT)
            if clock.now >= end or not await stream.read():
                return
    except StreamBroken:
        return
    finally:
        reader.timeouts.idle = False
