"""Real backends: an aiohttp application over TCP, TLS and a unix socket; real WebSocket clients."""

from __future__ import annotations

import asyncio
import json
import os
import re
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme
import websockets
from aiohttp import web

from support.http.client import https
from support.program.server import Server


async def mirror(request: web.Request) -> web.Response:
    """What the application sees."""
    body = await request.read()
    return web.json_response(
        {
            "method": request.method,
            "target": request.raw_path,
            "fields": [[name.lower(), value] for name, value in request.headers.items()],
            "body": body.decode(),
        }
    )


async def stream(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    for number in range(3):
        await response.write(f"piece {number}\n".encode())
    await response.write_eof()
    return response


async def echo(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    async for message in socket:
        if message.type is web.WSMsgType.TEXT:
            await socket.send_str(message.data[::-1])
        elif message.type is web.WSMsgType.BINARY:
            await socket.send_bytes(message.data)
    return socket


@dataclass
class Applications:
    port: int
    tls_port: int
    path: Path
    abstract: str
    ca: Path


@pytest.fixture
def applications(folder: Path) -> Iterator[Applications]:
    """The same application three times, on a loop in a thread of its own."""
    authority = trustme.CA()
    ca = folder / "backend-ca.pem"
    authority.cert_pem.write_to_path(str(ca))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("app.internal").configure_cert(context)
    path = folder / "app.sock"
    abstract = f"treehouse-test-{os.getpid()}-{folder.name}"
    ports: list[int] = []
    ready = threading.Event()
    loop = asyncio.new_event_loop()
    over = asyncio.Event()

    async def main() -> None:
        application = web.Application()
        application.router.add_get("/stream", stream)
        application.router.add_get("/ws", echo)
        application.router.add_route("*", "/{rest:.*}", mirror)
        runner = web.AppRunner(application)
        await runner.setup()
        for given in (None, context):
            site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=given)
            await site.start()
            assert site._server is not None
            ports.append(site._server.sockets[0].getsockname()[1])  # type: ignore[attr-defined]
        await web.UnixSite(runner, str(path)).start()
        await web.UnixSite(runner, "\0" + abstract).start()
        os.chmod(path, 0o666)
        ready.set()
        await over.wait()
        await runner.cleanup()

    thread = threading.Thread(target=loop.run_until_complete, args=(main(),))
    thread.start()
    assert ready.wait(60)
    yield Applications(ports[0], ports[1], path, abstract, ca)
    loop.call_soon_threadsafe(over.set)
    thread.join()
    loop.close()


@pytest.fixture
def running(folder: Path, ports: tuple[int, int], applications: Applications) -> Iterator[Server]:
    tls = f"https://127.0.0.1:{applications.tls_port}"
    config = folder / "config.yaml"
    config.write_text(
        f"""
listen: {{http: ["127.0.0.1:{ports[0]}"], https: ["127.0.0.1:{ports[1]}"]}}
workers: 2
state: {folder / "state"}
sites:
  - names: [a.test]
    routes:
      - {{path: /tls/*, backend: "{tls}", backend_tls: {{ca_file: {applications.ca}, server_name: app.internal}}}}
      - {{path: /http2/*, backend: "{tls}", backend_tls: {{insecure: true, http2: true}}}}
      - {{path: /insecure/*, backend: "{tls}", backend_tls: {{insecure: true}}}}
      - {{path: /untrusted/*, backend: "{tls}", backend_tls: {{server_name: app.internal}}}}
      - {{path: /misnamed/*, backend: "{tls}", backend_tls: {{ca_file: {applications.ca}}}}}
      - {{path: /unix/*, backend: "unix:{applications.path}"}}
      - {{path: /abstract/*, backend: "unix:@{applications.abstract}"}}
      - {{path: /*, backend: "http://127.0.0.1:{applications.port}"}}
"""
    )
    with Server(["--config", str(config)], folder) as server:
        server.await_log("certificate obtained")
        yield server


def test_an_application_sees_the_request_and_who_it_came_from(
    running: Server, folder: Path, ports: tuple[int, int]
) -> None:
    ca = folder / "state/internal-ca/root.pem"
    with https(ports[1], "a.test", ca) as talk:
        spoof = "X-Forwarded-For: 6.6.6.6\r\nX_Forwarded_For: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\nConnection: X-Hop\r\nX-Hop: 1\r\nProxy: x\r\n"
        for path in ("/", "/tls/", "/insecure/", "/unix/", "/abstract/"):
            answer = talk.asks(f"{path}a%20b?c=d", "a.test", "POST", spoof, b"hello")
            assert answer.status == 200, path
            seen = json.loads(answer.body)
            fields = dict(seen["fields"])
            assert (seen["method"], seen["target"], seen["body"]) == (
                "POST",
                f"{path}a%20b?c=d",
                "hello",
            )
            assert fields["host"] == "a.test"
            assert fields["x-forwarded-for"] == "127.0.0.1"
            assert fields["x-forwarded-proto"] == "https"
            assert fields["forwarded"] == 'for=127.0.0.1;host="a.test";proto=https'
            assert fields["x-request-id"]
            assert not {"x-hop", "proxy", "connection", "x_forwarded_for"} & set(fields)
            assert "6.6.6.6" not in answer.body.decode()
            line = running.await_access(target=f"{path}a%20b?c=d")
            assert line["request_id"] == fields["x-request-id"]
            assert line["backend"]
        assert talk.asks("/stream", "a.test").body == b"piece 0\npiece 1\npiece 2\n"


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/untrusted/", "unable to get local issuer certificate"),
        ("/misnamed/", "IP address mismatch, certificate is not valid for '127.0.0.1'"),
    ],
)
def test_a_backend_whose_certificate_does_not_hold_is_502(
    running: Server, folder: Path, ports: tuple[int, int], path: str, reason: str
) -> None:
    ca = folder / "state/internal-ca/root.pem"
    assert https(ports[1], "a.test", ca).asks(path, "a.test").status == 502
    running.await_access(target=path, error="backend_tls")
    told = f"certificate verify failed: {reason} (backend_tls: "
    running.await_log(re.escape(told))
    failed = [one for one in running.status(folder / "state")["upstreams"] if one["last_error"]]
    assert [told in one["last_error"] for one in failed] == [True]


def test_a_backend_that_offers_no_http2_is_told(
    running: Server, folder: Path, ports: tuple[int, int]
) -> None:
    ca = folder / "state/internal-ca/root.pem"
    assert https(ports[1], "a.test", ca).asks("/http2/", "a.test").status == 502
    running.await_log("it does not offer HTTP/2")


async def test_websockets(running: Server, folder: Path, ports: tuple[int, int]) -> None:
    context = ssl.create_default_context(cafile=str(folder / "state/internal-ca/root.pem"))

    async def talk(number: int) -> None:
        async with websockets.connect(
            f"wss://a.test:{ports[1]}/ws", ssl=context, host="127.0.0.1", proxy=None, max_size=None
        ) as socket:
            for turn in range(20):
                await socket.send(f"{number} {turn}")
                assert await socket.recv() == f"{number} {turn}"[::-1]
            large = os.urandom(2_000_000)
            await socket.send(large)
            assert await socket.recv() == large

    await asyncio.gather(*(talk(number) for number in range(8)))
    running.await_access(status=101, handler="tunnel")
