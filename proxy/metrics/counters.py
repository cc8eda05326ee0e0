"""What a worker counts for `/metrics`, and how the counts of several are added up.

Counting costs a dictionary entry and a comparison or two per request; everything else (names,
labels, text) happens when somebody asks. The number of label sets is bounded: hosts are the
configured ones, or what they share (``metrics_label``), methods the common ones, everything else is
"other".
"""

from __future__ import annotations

import time
from bisect import bisect_left
from typing import Any, cast

from ..ipc import documents
from ..protocol.exchange import Exchange
from ..protocol.message import Connection, Tunnel

# Upper bounds in seconds; Prometheus' usual ones, from a cached file to a slow report.
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_METHODS = frozenset({b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS"})
_SEPARATOR = "\x1f"  # between labels, where JSON wants one string
_SUM, _IN, _OUT = -3, -2, -1  # behind the buckets of a host


class Counters:
    """What one worker has counted since it began."""

    def __init__(self) -> None:
        self._requests: dict[tuple[bytes, bytes, int, str], int] = {}
        self._handshakes: dict[tuple[str, bool, str], int] = {}
        self._upstreams: dict[tuple[str, str], int] = {}
        self._limited: dict[str, int] = {}
        self._http2: dict[str, int] = {}
        self._exemplars: dict[str, list[str]] = {}  # by host and bucket: trace, seconds, moment
        # By host: how many took at most each of BUCKETS, how many took longer; their sum; and the
        # bytes of bodies that came in, and that went out.
        self._seconds: dict[bytes, list[float]] = {}
        # By backend, the same without bytes: until the head of the answer.
        self._upstream_seconds: dict[str, list[float]] = {}

    def request(self, exchange: Exchange) -> None:
        """Count a finished exchange."""
        request, response = exchange.request, exchange.response
        assert response is not None  # noqa: S101 - it is finished
        host = exchange.match.counted if exchange.match is not None else b""
        method = b"other"
        received = 0
        if request is not None:
            if request.method in _METHODS:
                method = request.method
            if request.body is not None:
                received = request.body.received
            if exchange.tunnel and isinstance(response.body, Tunnel):
                received += response.body.received
        key = (host, method, response.status, response.handler)
        self._requests[key] = self._requests.get(key, 0) + 1
        seconds = self._seconds.get(host)
        if seconds is None:
            seconds = self._seconds[host] = [*[0] * (len(BUCKETS) + 1), 0.0, 0, 0]
        duration = exchange.duration
        seconds[bisect_left(BUCKETS, duration)] += 1
        seconds[_SUM] += duration
        seconds[_IN] += received
        seconds[_OUT] += exchange.sent

    def upstream(self, backend: str, outcome: str, duration: float | None = None) -> None:
        """One request to a backend: "ok", "error" for an answer of 500 and more, or what kept it
        from answering. A client's request may become several of them. ``duration``: seconds until
        the head of its answer."""
        label = (backend, outcome)
        self._upstreams[label] = self._upstreams.get(label, 0) + 1
        if duration is None:
            return
        seconds = self._upstream_seconds.get(backend)
        if seconds is None:
            seconds = self._upstream_seconds[backend] = [*[0] * (len(BUCKETS) + 1), 0.0]
        seconds[bisect_left(BUCKETS, duration)] += 1
        seconds[-1] += duration

    def handshake(self, connection: Connection, resumed: bool, result: str) -> None:
        key = (connection.tls_version or "", resumed, result)
        self._handshakes[key] = self._handshakes.get(key, 0) + 1

    def limited(self, limit: str, times: int = 1) -> None:
        self._limited[limit] = self._limited.get(limit, 0) + times

    def exemplar(self, host: str, duration: float, trace_id: str) -> None:
        """Keep a recorded trace as the example of its bucket."""
        key = _SEPARATOR.join((host, str(bisect_left(BUCKETS, duration))))
        self._exemplars[key] = [trace_id, f"{duration:.6f}", f"{time.time():.3f}"]

    def http2(self, event: str) -> None:
        """Something that befell an HTTP/2 connection: "connection", "reset by client",
        "reset by us", or "goaway" with its reason."""
        self._http2[event] = self._http2.get(event, 0) + 1

    def message(self) -> documents.Figures:
        """For the supervisor: plain JSON."""
        return {
            "requests": {
                _SEPARATOR.join((host.decode(), method.decode(), str(status), handler)): count
                for (host, method, status, handler), count in self._requests.items()
            },
            "handshakes": {
                _SEPARATOR.join((version, str(resumed).lower(), result)): count
                for (version, resumed, result), count in self._handshakes.items()
            },
            "upstreams": {_SEPARATOR.join(key): count for key, count in self._upstreams.items()},
            "limited": dict(self._limited),
            "http2": dict(self._http2),
            "exemplars": dict(self._exemplars),
            "seconds": {
                host.decode(): [int(count) for count in counts[:_SUM]]
                for host, counts in self._seconds.items()
            },
            "seconds_sum": {host.decode(): counts[_SUM] for host, counts in self._seconds.items()},
            "bytes": {
                host.decode(): [int(count) for count in counts[_IN:]]
                for host, counts in self._seconds.items()
            },
            "upstream_seconds": {
                backend: [int(count) for count in counts[:-1]]
                for backend, counts in self._upstream_seconds.items()
            },
            "upstream_seconds_sum": {
                backend: counts[-1] for backend, counts in self._upstream_seconds.items()
            },
        }


def labels(key: str) -> list[str]:
    return key.split(_SEPARATOR)


def empty() -> documents.Figures:
    return Counters().message()


def require_buckets(figures: documents.Figures) -> None:
    """Raise `ValueError` if a histogram has other buckets than ours, and could not be added."""
    for histograms in (figures["seconds"], figures["upstream_seconds"]):
        for name, counts in histograms.items():
            if len(counts) != len(BUCKETS) + 1:
                raise ValueError(f"the histogram of {name!r:.100} has {len(counts)} buckets")
    for name, moved in figures["bytes"].items():
        if len(moved) != 2:
            raise ValueError(f"the bytes of {name!r:.100} have {len(moved)} directions")


def added(one: documents.Figures, other: documents.Figures) -> documents.Figures:
    """The sum of two. Raises `ValueError` where the histograms have different buckets."""
    more = cast(dict[str, Any], other)
    total: dict[str, Any] = {}
    for name, value in cast(dict[str, Any], one).items():
        if name == "exemplars":
            total[name] = {**value, **more[name]}  # any of them will do
        elif isinstance(value, dict):
            counts = dict(value)
            for key, count in more[name].items():
                before = counts.get(key)
                if before is None:
                    counts[key] = count
                elif isinstance(count, list):
                    counts[key] = [a + b for a, b in zip(before, count, strict=True)]
                else:
                    counts[key] = before + count
            total[name] = counts
        else:
            total[name] = value + more[name]
    return cast(documents.Figures, total)
