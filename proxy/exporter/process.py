"""The life of the exporter: packets of spans in, batches to the collector out (OTLP over HTTP).

OpenTelemetry's own exporter writes the protobuf and speaks with the collector; what it is given
are `ReadableSpan` values, made of what workers have sent. While a batch is on its way nothing is
read: then the socket fills up, and workers lose what they cannot write, and count it. So there is
no queue without a bound, and no thread.
"""

from __future__ import annotations

import contextlib
import json
import logging
import select
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from .. import log as logs
from .. import sandbox
from ..config.model import Config, Tracing
from ..ipc.channel import Channel, ChannelClosed
from ..ipc.codec import encode
from ..ipc.messages import Exported
from ..system.privileges import confine_process
from ..version import VERSION

log = logging.getLogger("treehouse.exporter")

_PACKET = 64 * 1024
# A batch is sent when it has so many spans, or when its first one has waited so long.
_BATCH = 512
_WAIT = 1.0
# Batches while the collector does not answer: older spans go first.
_MOST = 4 * _BATCH
# Seconds for one batch; longer than that the collector is not waited for.
_TIMEOUT = 5
# And until it is tried again, after a failure.
_PAUSE = 5.0
_SAY_EVERY = 1.0

Export = Callable[[Sequence[Any]], bool]


def run(init: tuple[Config, socket.socket], channel: Channel) -> int:
    """Send spans until the end of the process; returns its exit status."""
    config, sock = init
    logs.set_up("exporter", config.log.format, config.log.level)
    confine_process()
    rules = config.tracing
    if rules is None:
        return 1
    try:
        export = _exporter(rules)
    except ImportError as error:
        log.error("traces cannot be sent: %s (pip install 'treehouse-proxy[tracing]')", error)
        return 1
    sandbox.apply(sandbox.policies(config)["exporter"], config.sandbox)
    try:
        Exporter(sock, channel, export).live()
    except ChannelClosed:
        return 1
    return 0


class Exporter:
    """``export`` sends a batch, and says whether it was taken."""

    def __init__(self, sock: socket.socket, channel: Channel, export: Export) -> None:
        self._sock = sock
        self._channel = channel
        self._export = export
        self._waiting: list[Any] = []
        self._since = 0.0  # monotonic, of the first that waits
        self._not_before = 0.0
        self._failing = False
        self._counts = {"exported": 0, "failed": 0}
        self._said_at = float("-inf")
        sock.setblocking(False)

    def live(self) -> None:
        """Read spans and send them until the supervisor says stop, or is gone."""
        while not self._told_to_stop():
            self._read()
            now = time.monotonic()
            full = len(self._waiting) >= _BATCH or now - self._since >= _WAIT
            if self._waiting and full and now >= self._not_before:
                self._send()
            self._say(now)
        self._read()
        if self._waiting:
            self._send()

    def _told_to_stop(self) -> bool:
        """Wait for a packet or a message for a moment. Whether an order to end has come."""
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        poll.register(self._channel.fileno(), select.POLLIN)
        ready = dict(poll.poll(_WAIT * 1000 / 2))
        return self._channel.fileno() in ready and bool(self._channel.receive())

    def _read(self) -> None:
        """Take in what workers have sent, as much as there is room for."""
        while len(self._waiting) < _MOST:
            try:
                packet = self._sock.recv(_PACKET)
            except (BlockingIOError, InterruptedError):
                return
            if not packet:
                return
            if not self._waiting:
                self._since = time.monotonic()
            with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):
                self._waiting += spans_of(json.loads(packet))

    def _send(self) -> None:
        batch, self._waiting = self._waiting[:_BATCH], self._waiting[_BATCH:]
        self._since = time.monotonic()
        if self._export(batch):
            self._counts["exported"] += len(batch)
            if self._failing:
                log.info("the collector takes traces again")
            self._failing = False
            return
        self._counts["failed"] += len(batch)
        self._not_before = time.monotonic() + _PAUSE
        if not self._failing:
            log.warning("the collector does not take traces; they are lost, and counted")
        self._failing = True

    def _say(self, now: float) -> None:
        """Tell the supervisor that the loop runs, and how many spans were sent."""
        if now - self._said_at >= _SAY_EVERY:
            self._said_at = now
            self._channel.send(encode(Exported(**self._counts)))
            self._channel.flush()


def _exporter(rules: Tracing) -> Export:
    """Make OpenTelemetry's exporter. Raises `ImportError`."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import SpanExportResult

    _resource(rules.service)
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)  # we say it once, and count
    exporter = OTLPSpanExporter(endpoint=rules.endpoint, timeout=_TIMEOUT)

    def export(batch: Sequence[Any]) -> bool:
        try:
            return exporter.export(batch) is SpanExportResult.SUCCESS
        except Exception as error:  # whatever a collector answers
            log.debug("a batch of spans was not taken: %r", error)
            return False

    return export


_kept: dict[str, Any] = {}


def _resource(service: str) -> None:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope

    _kept["resource"] = Resource.create({"service.name": service, "service.version": VERSION})
    _kept["scope"] = InstrumentationScope("treehouse-proxy", VERSION)


def spans_of(document: dict[str, Any]) -> Iterator[Any]:
    """Return OpenTelemetry's values for the spans of a packet. Raises `ValueError`, `KeyError` and
    the like for what is no packet."""
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags
    from opentelemetry.trace.span import TraceState

    kinds = {"server": SpanKind.SERVER, "client": SpanKind.CLIENT}
    trace_id = int(document["trace"], 16)
    state = TraceState.from_header([document["state"]]) if document["state"] else TraceState()
    flags = TraceFlags(TraceFlags.SAMPLED)
    found = []
    for one in document["spans"]:
        context = SpanContext(trace_id, int(one["id"], 16), False, flags, state)
        parent = None
        if one["parent"]:
            parent = SpanContext(trace_id, int(one["parent"], 16), True, flags, state)
        error = one["error"]
        found.append(
            ReadableSpan(
                name=one["name"],
                context=context,
                parent=parent,
                resource=_kept.get("resource"),
                attributes=one["attributes"],
                kind=kinds.get(one["kind"], SpanKind.INTERNAL),
                status=Status(StatusCode.ERROR, error) if error else Status(StatusCode.UNSET),
                start_time=int(one["start"] * 1e9),
                end_time=int(one["end"] * 1e9),
                instrumentation_scope=_kept.get("scope"),
            )
        )
    return iter(found)
