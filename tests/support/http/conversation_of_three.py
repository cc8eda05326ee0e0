"""A client, the proxy, and a backend that is a script: `h1.serve` and `Upstream` over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from proxy.config.model import Backend, Limits, ProxyAction
from proxy.handlers.upstream.context import UpstreamContext
from proxy.handlers.upstream.handler import Upstream
from proxy.protocol.h1.fast_parser import FastParser
from proxy.transport.clock import Clock
from proxy.transport.deadlines import Deadlines

from .conversation import Client, Told, conversation
from .raw_backend import RawBackend, Script, raw_backend


@dataclass
class Three:
    client: Client
    backend: RawBackend
    upstream: Upstream
    service: Told
    deadlines: Deadlines


def http_backend(port: int) -> Backend:
    return Backend(f"http://127.0.0.1:{port}", "http", "127.0.0.1", port)


@contextlib.asynccontextmanager
async def three(
    script: Script, lanes: bool, limits: Limits | None = None, **options: object
) -> AsyncIterator[Three]:
    async with raw_backend(script) as backend:
        action = ProxyAction((http_backend(backend.port),), **options)  # type: ignore[arg-type]
        deadlines = Deadlines()
        context = UpstreamContext(asyncio.get_running_loop(), deadlines, Clock(), (), lanes)
        upstream = Upstream(action, context)
        limits = limits or Limits()
        service = Told(FastParser(limits) if lanes else None, upstream.handle, limits)
        try:
            async with conversation(service) as client:
                yield Three(client, backend, upstream, service, deadlines)
        finally:
            upstream.close()
