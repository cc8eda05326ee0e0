"""One health check of a backend: a GET on a connection of its own.

It waits behind no request and gets a connection whatever the bound on their number, so that a busy
backend is not taken for a dead one.
"""

from __future__ import annotations

import asyncio

from ...config import model
from ...errors import Blame, Fault
from ...protocol.h1.client import NoResponse
from ...transport.stream import StreamBroken
from .pool import Connection, Pool
from .request_head import authority


class Unasked(Exception):
    """We could not ask, for a want of our own; that says nothing about the backend."""


async def check(pool: Pool, health: model.Health) -> str | None:
    """Why the backend is not well, None when it is. Raises `Unasked`."""
    try:
        async with asyncio.timeout(health.timeout):
            connection = await pool.open_another()
            try:
                status = await _ask(connection, _request(pool.backend, health), health.timeout)
            finally:
                pool.end(connection)
    except TimeoutError:
        return f"no answer within {health.timeout:g} s"
    except Fault as fault:
        if fault.what.blame is Blame.OURS:
            raise Unasked(fault.detail or fault.kind) from None
        return fault.detail or fault.kind
    except (NoResponse, StreamBroken) as error:
        return str(error)
    return None if 200 <= status < 400 else f"status {status}"


def _request(backend: model.Backend, health: model.Health) -> bytes:
    host = health.host or authority(backend)
    if health.host and ":" in host:
        host = f"[{host}]"
    return (
        f"GET {backend.prefix}{health.path} HTTP/1.1\r\nhost: {host}\r\n"
        "user-agent: treehouse-proxy\r\nconnection: close\r\n\r\n"
    ).encode("ascii")


async def _ask(connection: Connection, request: bytes, patience: float) -> int:
    """The status of the response, once all of it has come."""
    rest = connection.send_now(request, patience)
    if rest:
        await connection.send(rest, patience)
    while True:
        head = await connection.head(b"GET", patience)
        if head.status >= 200:
            break
    body = connection.body(head, patience)
    while await body.read():
        pass
    return head.status
