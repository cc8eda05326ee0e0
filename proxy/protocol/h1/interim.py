"""Interim responses (1xx) to a client (RFC 9110 §15.2), sent while the final one is awaited."""

from __future__ import annotations

from ...errors import Fault
from ...transport.stream import StreamBroken
from ..message import Fields, Request
from .reader import RequestReader
from .serializer import serialise


class Informer:
    """Sends interim responses; what `Request.inform` is."""

    __slots__ = ("_reader", "_request")

    def __init__(self, reader: RequestReader) -> None:
        self._reader = reader
        self._request: Request | None = None

    def of(self, request: Request) -> Informer:
        """Return the same object for each request of the connection."""
        self._request = request
        return self

    async def __call__(self, status: int, fields: Fields) -> None:
        if status == 100:
            request = self._request
            if request is None or not request.expects_continue:
                return  # not asked for, or sent already
            request.expects_continue = False
        await send_interim(self._reader, serialise(status, fields) + b"\r\n")


async def send_interim(reader: RequestReader, wire: bytes) -> None:
    """Send a serialised head. Raises `Fault` ("client_gone")."""
    reader.stream.deadline = reader.service.clock.now + reader.limits.write_timeout
    try:
        await reader.stream.write(wire)
    except StreamBroken as error:
        raise Fault("client_gone", str(error)) from None
