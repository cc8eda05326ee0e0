"""A collector of traces: takes OTLP over HTTP, and reads it with OpenTelemetry's own protobuf classes.

with Collector() as collector:
    collector.url
    collector.await_trace(lambda spans: len(spans) == 3)

`rotel` puts a collector of other people in front of it: Rotel, which PyPI has as a program, reads OTLP
by code of its own (Rust) and sends on what it has understood. OpenTelemetry's own collector, Jaeger and
their like are in none of PyPI, npm and Debian (only clients of them, and on PyPI a collector that was
built without a receiver of OTLP).
"""

from __future__ import annotations

import contextlib
import gzip
import importlib.util
import shutil
import socket
import subprocess
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from ..program.ports import free_ports
from .backend_app import Served


@dataclass
class Span:
    trace: str
    id: str
    parent: str
    name: str
    kind: int
    start: int
    end: int
    error: str | None
    attributes: dict[str, Any]
    service: str
    state: str
    resource: dict[str, str]


class Collector(Served):
    """``refuses``: answers 503 while it is set."""

    def __init__(self) -> None:
        self.traces: dict[str, list[Span]] = defaultdict(list)
        self.refuses = threading.Event()
        self.asked = 0
        self._changed = threading.Condition()
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:  # the base class's name for it
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                owner.asked += 1
                if owner.refuses.is_set() or self.path != "/v1/traces":
                    self.send_response(400)
                    self.end_headers()
                    return
                owner._take(body)
                self.send_response(200)
                self.send_header("Content-Type", "application/x-protobuf")
                self.end_headers()
                self.wfile.write(ExportTraceServiceResponse().SerializeToString())

            def log_message(self, *_: object) -> None:
                pass

        super().__init__(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        self.url = f"http://127.0.0.1:{self.port}"

    def _take(self, body: bytes) -> None:
        request = ExportTraceServiceRequest.FromString(body)
        with self._changed:
            for resource in request.resource_spans:
                service = {one.key: one.value.string_value for one in resource.resource.attributes}
                for scope in resource.scope_spans:
                    for one in scope.spans:
                        values = {
                            each.key: getattr(each.value, str(each.value.WhichOneof("value")))
                            for each in one.attributes
                        }
                        self.traces[one.trace_id.hex()].append(
                            Span(
                                one.trace_id.hex(), one.span_id.hex(), one.parent_span_id.hex(),
                                one.name, one.kind, one.start_time_unix_nano,
                                one.end_time_unix_nano,
                                one.status.message if one.status.code == 2 else None,
                                values, service["service.name"], one.trace_state, service,
                            )
                        )  # fmt: skip
            self._changed.notify_all()

    def await_trace(self, fits: Callable[[list[Span]], bool], within: float = 60.0) -> list[Span]:
        """The first trace that fits."""
        end = time.monotonic() + within
        with self._changed:
            while True:
                for spans in self.traces.values():
                    if fits(spans):
                        return spans
                left = end - time.monotonic()
                assert left > 0, dict(self.traces)
                self._changed.wait(left)


# What Rotel adds to every resource: it came this way.
BY_ROTEL = ("through", "rotel")


def has_rotel() -> bool:
    """Whether it is there; it has no build for the newest Pythons."""
    return importlib.util.find_spec("rotel") is not None


@contextlib.contextmanager
def rotel(to: Collector, folder: Path) -> Iterator[str]:
    """Run Rotel as a user without any privilege, in a folder where its program may lie; its URL."""
    found = importlib.util.find_spec("rotel")
    assert found is not None
    assert found.origin is not None
    program = folder / "rotel-agent"
    shutil.copyfile(Path(found.origin).with_name("rotel-agent"), program)
    program.chmod(0o755)
    (port,) = free_ports(1)
    process = subprocess.Popen(
        [program, "start",
         "--otlp-grpc-endpoint", "127.0.0.1:0", "--otlp-http-endpoint", f"127.0.0.1:{port}",
         "--exporter", "otlp", "--otlp-exporter-endpoint", to.url, "--otlp-exporter-protocol", "http",
         "--batch-timeout", "100ms", "--otel-resource-attributes", "=".join(BY_ROTEL)],
        cwd="/", env={}, user=65534, group=65534, extra_groups=[],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        end = time.monotonic() + 30
        while True:
            with contextlib.suppress(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", port)).close()
                break
            assert process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.05)  # another program's state
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()
