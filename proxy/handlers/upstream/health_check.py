"""One health check of a backend: a GET on a connection of its own, or a call of gRPC's health
protocol.

It waits behind no request and gets a connection whatever the bound on their number, so that a busy
backend is not taken for a dead one.
"""

from __future__ import annotations

import asyncio

from ...config import model
from ...errors import Blame, Fault
from ...protocol.fastcgi.client import FastCgiConnection
from ...protocol.fastcgi.parameters import ping
from ...protocol.h1.client import NoResponse
from ...protocol.h1.response_parser import ResponseHead
from ...protocol.message import Fields
from ...transport.stream import StreamBroken
from .pool import Connection, Pool
from .request_head import authority

# The health protocol (grpc.health.v1): a message is not compressed, has a length, and is protobuf.
# An empty request asks about the server as a whole; the answer's one field is SERVING, which is 1.
_GRPC_CHECK = "/grpc.health.v1.Health/Check"
_ANY_SERVICE = b"\0\0\0\0\0"
_SERVING = b"\0\0\0\0\x02\x08\x01"
_ENOUGH = 64


class Unasked(Exception):
    """We could not ask, for a want of our own; that says nothing about the backend."""


async def check(pool: Pool, health: model.Health) -> str | None:
    """Why the backend is not well, None when it is. Raises `Unasked`."""
    try:
        async with asyncio.timeout(health.timeout):
            connection = await pool.open_another()
            try:
                if health.grpc:
                    return await _ask_grpc(connection, pool.backend, health)
                request = _request(pool.backend, health, connection)
                head, _body, _trailers = await _ask(connection, request, b"GET", health.timeout)
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
    return None if 200 <= head.status < 400 else f"status {head.status}"


def _host(backend: model.Backend, health: model.Health) -> str:
    return health.host or authority(backend)


async def _ask_grpc(
    connection: Connection, backend: model.Backend, health: model.Health
) -> str | None:
    """What is wrong, by the health protocol of gRPC; None where the server says SERVING."""
    request = (
        f"POST {_GRPC_CHECK} HTTP/1.1\r\nhost: {_host(backend, health)}\r\n"
        "user-agent: treehouse-proxy\r\ncontent-type: application/grpc\r\n"
        f"te: trailers\r\ncontent-length: {len(_ANY_SERVICE)}\r\n\r\n"
    ).encode("ascii")
    head, body, trailers = await _ask(connection, request + _ANY_SERVICE, b"POST", health.timeout)
    if head.status != 200:
        return f"status {head.status}"
    told = dict([*head.fields, *trailers])  # a failure may be said in the head
    status = told.get(b"grpc-status", b"none").decode("latin-1")
    if status != "0":
        return f"grpc-status {status} {told.get(b'grpc-message', b'').decode('latin-1')}".rstrip()
    return None if body == _SERVING else "it says that it is not serving"


def _request(backend: model.Backend, health: model.Health, connection: Connection) -> bytes:
    if isinstance(connection, FastCgiConnection):
        return ping(health.path or "", connection.keep)
    return (
        f"GET {backend.prefix}{health.path} HTTP/1.1\r\nhost: {_host(backend, health)}\r\n"
        "user-agent: treehouse-proxy\r\nconnection: close\r\n\r\n"
    ).encode("ascii")


async def _ask(
    connection: Connection, request: bytes, method: bytes, patience: float
) -> tuple[ResponseHead, bytes, Fields]:
    """The response's head, the beginning of its body and its trailers, once all of it has come."""
    rest = connection.send_now(request, patience)
    if rest:
        await connection.send(rest, patience)
    while True:
        head = await connection.head(method, patience)
        if head.status >= 200:
            break
    body = connection.body(head, patience)
    begins = b""
    while piece := await body.read():
        begins = (begins + piece)[:_ENOUGH]
    return head, begins, body.trailers
