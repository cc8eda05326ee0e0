"""The access log: one line for each request, whatever happened to it.

Lines are gathered and written once per turn of the event loop, because a write per request would
cost as much as the request's own. A line is one f-string: `json.dumps` of a dict takes five times
as long. What came from the network is escaped by the C encoder behind `json`, which leaves only
printable ASCII; so a line cannot be split, and a terminal that shows it cannot be driven.
"""

from __future__ import annotations

import asyncio
import json.encoder
import logging
import random
import time
from itertools import count
from typing import Literal

from ..bounded_cache import remember
from ..log import LogFile
from ..protocol.exchange import Exchange, PartialHead

# The C function that json.dumps uses for strings: quotes, and escapes all but space to tilde.
_quote = json.encoder.encode_basestring_ascii
log = logging.getLogger("treehouse.worker")

# How often it is said that lines are being lost.
_TELL_EVERY = 10.0
# Lines that are written at once when they have gathered within one turn (a burst, not the usual
# case): some 64 KiB.
_GATHER = 320


class AccessLog:
    def __init__(
        self, file: LogFile, style: Literal["text", "json"], loop: asyncio.AbstractEventLoop
    ) -> None:
        self.file = file
        self._line = _json_line if style == "json" else _text_line
        self._loop = loop
        self._id_prefix = f"{random.getrandbits(48):x}-"
        self._serial = count()
        self._lines: list[str] = []
        self._millisecond = self._second = -1
        self._second_text = self._moment = ""
        self._tell_at = float("-inf")

    def add(self, exchange: Exchange) -> None:
        """Write the line of a finished exchange, at the end of this turn of the loop."""
        now = int(time.time() * 1000)
        if now != self._millisecond:
            self._millisecond = now
            self._moment = self._say(now)
        lines = self._lines
        if not lines:
            self._loop.call_soon(self.flush)
        own_id = f"{self._id_prefix}{next(self._serial):x}"
        lines.append(self._line(self._moment, exchange, own_id))
        if len(lines) > _GATHER:
            self.flush()

    def _say(self, millisecond: int) -> str:
        second, millisecond = divmod(millisecond, 1000)
        if second != self._second:
            self._second = second
            self._second_text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self._second_text}.{millisecond:03d}Z"

    def flush(self) -> None:
        if self._lines:
            lines = "".join(self._lines).encode("ascii")
            self._lines.clear()
            self.file.write(lines)

    def tell_losses(self, now: float) -> None:
        """In the operational log, and seldom. ``now`` is monotonic."""
        if now >= self._tell_at and (lost := self.file.lost()):
            self._tell_at = now + _TELL_EVERY
            log.warning("%d lines of the access log are lost: %s", lost, self.file.why)


def _json_line(moment: str, exchange: Exchange, own_id: str = "") -> str:
    connection, request, response = exchange.connection, exchange.request, exchange.response
    assert response is not None  # noqa: S101 - it is finished
    error = exchange.error or response.error
    if request is None:
        part = exchange.partial or PartialHead()
        asked = (
            f'"host":{_or_null(part.host)},"method":{_or_null(part.method)}'
            f',"target":{_or_null(part.target)}'
        )
        request_id = "null"
    else:
        asked = (
            f'"host":{_quote(request.host.decode("latin-1"))}'
            f',"method":{_quote(request.method.decode("latin-1"))}'
            f',"target":{_quote(request.target.decode("latin-1"))}'
        )
        request_id = _quote(request.id.decode("latin-1") or own_id)
    tls = f'"{connection.tls_version}"' if connection.tls_version else "null"
    backend = _quote(response.backend) if response.backend else "null"
    return (
        f'{{"time":"{moment}","peer":{_quote(exchange.client)},{asked},"status":{response.status}'
        f',"bytes":{exchange.sent},"duration_ms":{exchange.duration * 1000:.3f}'
        f',"handler":"{response.handler}","backend":{backend},"request_id":{request_id}'
        f',"tls":{tls},"error":{_quote(error) if error else "null"}}}\n'
    )


def _or_null(text: bytes | None) -> str:
    return "null" if text is None else _quote(text.decode("latin-1"))


# Durations are short, and a look-up is cheaper than the formatting of a float.
_TENTHS = [f"{tenths // 10}.{tenths % 10}ms" for tenths in range(1000)]
# Peers and hosts, as text and as bytes, that need no second look; bounded.
_quoted: dict[str | bytes, str] = {}
_MOST_QUOTED = 4096


def _within(text: str | bytes) -> str:
    """Escaped as within quotes, which are left out."""
    known = _quoted.get(text)
    if known is None:
        known = _quote(text if isinstance(text, str) else text.decode("latin-1"))[1:-1]
        remember(_quoted, text, known, _MOST_QUOTED)
    return known


def _text_line(moment: str, exchange: Exchange, own_id: str = "-") -> str:
    connection, request, response = exchange.connection, exchange.request, exchange.response
    assert response is not None  # noqa: S101 - it is finished
    if request is None:
        part = exchange.partial or PartialHead()
        words = b" ".join(one for one in (part.method, part.target) if one is not None)
        host = _within(part.host or b"-").replace(" ", "\\u0020")
        asked, request_id, taken = _quote((words or b"-").decode("latin-1")), "-", _TENTHS[0]
    else:
        host = _quoted.get(request.host) or _within(request.host) or "-"
        asked = _quote((request.method + b" " + request.target).decode("latin-1"))
        request_id = own_id
        if request.id:
            request_id = request.id.decode("latin-1")
            if not (request_id.isascii() and request_id.isprintable()):
                request_id = _quote(request_id)[1:-1]
        tenths = int(exchange.duration * 10000 + 0.5)
        taken = _TENTHS[tenths] if 0 <= tenths < 1000 else f"{tenths / 10:.1f}ms"
    client = connection.peer
    if connection.proxies is not None:
        client = exchange.client
    peer = _quoted.get(client) or _within(client)
    return (
        f"{moment} {peer} {host} {asked} {response.status} {exchange.sent}"
        f" {taken} {response.handler or '-'} {response.backend or '-'}"
        f" {request_id} {connection.tls_version or '-'}"
        f" {exchange.error or response.error or '-'}\n"
    )
