"""Writes traces, where the configuration has ``tracing``: a worker's part.

A span is a few values in memory until its request is over; then those of a recorded request go, as
one packet of JSON, into a socket that the exporter reads (`proxy.exporter`). Sending never waits:
what finds no room there is lost, and counted. Where there is no ``tracing`` nothing of this exists,
and requests are served by `HttpsService` itself.
"""

from __future__ import annotations

import json
import random
import socket
import time
from collections.abc import Awaitable

from ..config.model import Tracing
from ..errors import Fault
from ..metrics.counters import Counters
from ..protocol.exchange import Exchange
from ..protocol.message import Connection, Request, Response
from ..protocol.trace_context import Attribute, Span, Trace, parent_of
from .context import WorkerContext
from .services import HttpsService

# Bytes of a packet; a socket pair takes 208 KiB by default.
_PACKET = 48 * 1024
_LONGEST_VALUE = 256


class Tracer:
    """``sock`` leads to the exporter. Moments are monotonic seconds."""

    def __init__(self, rules: Tracing, sock: socket.socket) -> None:
        self._share = rules.sample
        self._sock = sock
        sock.setblocking(False)
        self.counters: Counters | None = None

    def _chosen(self) -> bool:
        return random.random() < self._share  # noqa: S311 - a sample, no secret

    def service(self, context: WorkerContext) -> HttpsService:
        """Make the service of port 443 whose requests are traced here."""
        return TracedHttpsService(context, self)

    # Requests

    def begin(self, exchange: Exchange, request: Request) -> Trace:
        """Begin the trace of a request that has just come."""
        connection = request.connection
        parent = parent_of(request.fields)
        if parent is not None and connection.proxies is not None:  # a trusted proxy says it
            sampled = parent.sampled
        else:
            sampled = self._chosen()
        trace = request.trace = Trace(parent, exchange.started, sampled=sampled)
        if sampled and connection.handshake is not None:
            began, ended, resumed = connection.handshake
            connection.handshake = None
            span = trace.begin("TLS handshake", "internal", began)
            span.attributes = _handshake(connection, resumed)
            trace.end(ended)
        return trace

    def end(self, exchange: Exchange, request: Request, trace: Trace) -> None:
        """Send what is recorded of a request that is over."""
        if not trace.sampled:
            return
        response, now = exchange.response, exchange.started + exchange.duration
        root, error = trace.root, exchange.error
        trace.end(now, error=error or "client_gone")
        root.ended = now
        site = exchange.match.label.decode() if exchange.match is not None else ""
        method = request.method.decode("latin-1")
        root.name = f"{method} {site}".strip()
        root.attributes |= {
            "http.request.method": method,
            "url.scheme": request.connection.scheme.decode(),
            "url.path": request.path.decode("latin-1"),
            "server.address": request.host.decode("latin-1"),
            "client.address": request.client,
            "network.protocol.version": request.version.decode(),
        }
        if response is not None:
            root.attributes["http.response.status_code"] = response.status
            root.attributes["treehouse.handler"] = response.handler
            error = error or response.error
            if response.status >= 500:
                error = error or str(response.status)
        # OpenTelemetry's rule for servers: what the client did wrong is no error of this span.
        if error is not None:
            root.attributes["error.type"] = error
        if response is None or response.status >= 500 or exchange.error is not None:
            root.error = error
        self._send(trace.trace_id, trace.state, trace.spans)
        if self.counters is not None:
            counted = exchange.match.counted.decode() if exchange.match is not None else ""
            self.counters.exemplar(counted, exchange.duration, trace.trace_id)

    # Attempts at backends: `handlers.upstream.context.AttemptTracer`

    def attempt(self, request: Request, name: str, url: str) -> None:
        trace = getattr(request, "trace", None)
        if trace is None:
            return
        span = trace.begin(name, "client", time.monotonic())
        span.attributes = {
            "http.request.method": request.method.decode("latin-1"),
            "url.path": request.path.decode("latin-1"),
            "treehouse.backend": url,
        }

    def answered(self, request: Request, status: int) -> None:
        trace = getattr(request, "trace", None)
        if trace is None:
            return
        if trace.open is not None:
            trace.open.attributes["http.response.status_code"] = status
        trace.end(time.monotonic(), error=str(status) if status >= 500 else None)

    def failed(self, request: Request, kind: str) -> None:
        if hasattr(request, "trace"):
            request.trace.end(time.monotonic(), error=kind)

    def lines(self, request: Request) -> bytes:
        trace: Trace | None = getattr(request, "trace", None)
        return b"" if trace is None else trace.lines()

    # Handshakes that no request follows

    def handshake_failed(self, connection: Connection, began: float, why: str) -> None:
        if not self._chosen():
            return
        trace = Trace(None, began, sampled=True)
        root = trace.root
        root.name, root.ended, root.error = "TLS handshake", time.monotonic(), why
        root.attributes = {**_handshake(connection, False), "error.type": why}
        self._send(trace.trace_id, b"", trace.spans)

    # To the exporter

    def _send(self, trace_id: str, state: bytes, spans: list[Span]) -> None:
        """Send the spans of a trace, or count them as lost."""
        offset = time.time() - time.monotonic()
        document = {
            "trace": trace_id,
            "state": state.decode("latin-1"),
            "spans": [
                {
                    "name": span.name[:_LONGEST_VALUE],
                    "kind": span.kind,
                    "id": span.span_id,
                    "parent": span.parent_id,
                    "start": span.started + offset,
                    "end": max(span.ended, span.started) + offset,
                    "attributes": {key: _short(one) for key, one in span.attributes.items()},
                    "error": span.error,
                }
                for span in spans
            ],
        }
        packet = json.dumps(document).encode()
        try:
            if len(packet) > _PACKET:
                raise BlockingIOError
            self._sock.send(packet)
        except OSError:
            if self.counters is not None:
                self.counters.limited("trace_spans", len(spans))


def _short(value: Attribute) -> Attribute:
    return value[:_LONGEST_VALUE] if isinstance(value, str) else value


def _handshake(connection: Connection, resumed: bool) -> dict[str, Attribute]:
    return {
        "tls.protocol.version": (connection.tls_version or "").removeprefix("TLSv"),
        "tls.resumed": resumed,
        "tls.server.name": connection.server_name or "",
        "client.address": connection.peer,
    }


class TracedHttpsService(HttpsService):
    """`HttpsService`, where each request belongs to a trace."""

    def __init__(self, context: WorkerContext, tracer: Tracer) -> None:
        super().__init__(context)
        self._tracer = tracer

    def handle(self, exchange: Exchange) -> Response | Awaitable[Response]:
        if exchange.request is not None:
            self._tracer.begin(exchange, exchange.request)
        return super().handle(exchange)

    def refuse(self, exchange: Exchange, fault: Fault) -> Response:
        # What the protocol refuses has not come to `handle`.
        if exchange.request is not None and not hasattr(exchange.request, "trace"):
            self._tracer.begin(exchange, exchange.request)
        return super().refuse(exchange, fault)

    def finished(self, exchange: Exchange) -> None:
        super().finished(exchange)
        request = exchange.request
        if request is not None and hasattr(request, "trace"):
            self._tracer.end(exchange, request, request.trace)
