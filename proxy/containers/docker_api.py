"""The API of Docker, as Podman speaks it too: GET, JSON, and the stream of events.

https://docs.docker.com/reference/api/engine/version/v1.47/ (ContainerList, ContainerInspect,
ImageInspect, SystemEvents). Paths are without a version, which means the engine's own.

h11 reads and writes HTTP; what is asked is bounded in time and size. A connection comes from
whoever opens one (`Opener`): this module opens none.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from urllib.parse import quote

import h11

from ..version import VERSION

Opener = Callable[[], socket.socket]

_WITHIN = 15.0  # seconds, for one answer
_LARGEST = 32 * 1024 * 1024
_LONGEST_EVENT = 1024 * 1024
_READ = 64 * 1024
_FIELDS = [("Host", "docker"), ("User-Agent", f"treehouse-proxy/{VERSION}")]


class ApiFailed(Exception):
    """The engine cannot be asked, or answers something else than was asked; the text says what."""


class NotThere(ApiFailed):
    """404: what was asked for has gone meanwhile."""


class Api:
    """Asks questions over one connection. Whoever catches `ApiFailed` makes another."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=_READ)

    def close(self) -> None:
        self._sock.close()

    def get(self, path: str) -> object:
        """Return what the engine has at this path, decoded from JSON. Raises `ApiFailed`."""
        deadline = time.monotonic() + _WITHIN
        try:
            self._send(path)
            status, body = self._answer(deadline)
        except (OSError, h11.ProtocolError) as error:
            raise ApiFailed(_words(error)) from None
        if status == 404:
            raise NotThere(f"{path}: 404")
        if status != 200:
            said = body[:200].decode("utf-8", "replace").strip()
            raise ApiFailed(f"it answers {status} to {path}: {said}")
        try:
            return json.loads(body)
        except ValueError:
            raise ApiFailed(f"its answer to {path} is no JSON") from None

    def _send(self, path: str) -> None:
        if self._http.our_state is h11.DONE:
            self._http.start_next_cycle()
        request = h11.Request(method="GET", target=path, headers=_FIELDS)
        self._sock.settimeout(_WITHIN)
        self._sock.sendall(self._http.send(request) or b"")
        self._http.send(h11.EndOfMessage())

    def _answer(self, deadline: float) -> tuple[int, bytes]:
        status, body = 0, bytearray()
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise TimeoutError
                self._sock.settimeout(left)
                self._http.receive_data(self._sock.recv(_READ))
            elif isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                body += event.data
                if len(body) > _LARGEST:
                    raise ApiFailed(f"it answers with more than {_LARGEST >> 20} MiB")
            elif isinstance(event, h11.EndOfMessage):
                return status, bytes(body)
            elif isinstance(event, h11.ConnectionClosed):
                raise ConnectionError("it has hung up")


class Events:
    """The stream of events; `fileno` is readable when there are some."""

    def __init__(self, sock: socket.socket, since: float) -> None:
        """``since``: Unix seconds; what happened after it is told first. Raises `ApiFailed`."""
        self._sock = sock
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=_READ)
        self._line = b""
        kinds = quote('{"type": ["container", "network"]}')
        target = f"/events?since={int(since)}&filters={kinds}"
        request = h11.Request(method="GET", target=target, headers=_FIELDS)
        try:
            sock.settimeout(_WITHIN)
            sock.sendall(self._http.send(request) or b"")
            self._http.send(h11.EndOfMessage())
        except (OSError, h11.ProtocolError) as error:
            raise ApiFailed(_words(error)) from None

    def fileno(self) -> int:
        return self._sock.fileno()

    def close(self) -> None:
        self._sock.close()

    def read(self) -> Iterator[dict[str, object]]:
        """Yield the events that have come. Raises `ApiFailed` at the end of the stream."""
        try:
            self._http.receive_data(self._sock.recv(_READ))
            while True:
                event = self._http.next_event()
                if event is h11.NEED_DATA:
                    return
                if isinstance(event, h11.Response) and event.status_code != 200:
                    raise ApiFailed(f"it answers {event.status_code} to /events")
                if isinstance(event, h11.Data):
                    yield from self._lines(bytes(event.data))
                elif isinstance(event, h11.EndOfMessage | h11.ConnectionClosed):
                    raise ApiFailed("it has hung up")
        except (OSError, h11.ProtocolError) as error:
            raise ApiFailed(_words(error)) from None

    def _lines(self, data: bytes) -> Iterator[dict[str, object]]:
        *whole, self._line = (self._line + data).split(b"\n")
        if len(self._line) > _LONGEST_EVENT:
            raise ApiFailed("an event of it does not end")
        for line in whole:
            try:
                event = json.loads(line)
            except ValueError:
                continue  # the listing after it tells what has changed
            if isinstance(event, dict):
                yield event


def _words(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "it does not answer"
    if isinstance(error, h11.ProtocolError):
        return f"it does not speak HTTP: {error}"
    return (getattr(error, "strerror", None) or str(error) or "it has hung up").lower()
