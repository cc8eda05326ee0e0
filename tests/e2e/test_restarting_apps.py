"""Real applications that close idle connections and restart: Node and uvicorn. No request may fail
because of either.

A connection that an application closes at its keep-alive limit is lost to a request that leaves at
that very moment. So the clients of the first test send at exactly that moment, and only POST, which
nobody may send twice. A POST that an application had received, and had not read when it ended, may
not be sent again either: those of the second test are idempotent."""

from __future__ import annotations

import asyncio
import contextlib
import random
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.program.ports import free_ports
from support.program.server import Server

LIMIT = 1  # seconds for which the applications keep an idle connection
CLIENTS = 40
ROUNDS = 5
RESTARTS = 4

NODE = """
const server = require("http").createServer((request, response) => {
  request.resume().on("end", () => response.end("node\\n")); });
server.keepAliveTimeout = LIMIT * 1000;
server.listen(PORT, "127.0.0.1");
process.on("SIGTERM", () => server.close(() => process.exit(0)));
"""
ASGI = """
async def app(scope, receive, send):
    while (await receive()).get("more_body"):
        pass
    fields = [(b"content-length", b"8")]
    await send({"type": "http.response.start", "status": 200, "headers": fields})
    await send({"type": "http.response.body", "body": b"uvicorn\\n"})
"""


@dataclass
class App:
    """A program that listens on ``port`` and can be started again."""

    command: list[str]
    port: int
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = subprocess.Popen(
            self.command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def await_readiness(self) -> None:
        end = time.monotonic() + 60
        while True:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port)).close()
                return
            assert time.monotonic() < end, "the application does not start"
            time.sleep(0.02)

    def stop(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)


def command(kind: str, folder: Path, port: int) -> list[str]:
    if kind == "node":
        if shutil.which("node") is None:
            pytest.skip("needs node")
        (folder / "app.js").write_text(NODE.replace("LIMIT", str(LIMIT)).replace("PORT", str(port)))
        return ["node", str(folder / "app.js")]
    (folder / "app.py").write_text(ASGI)
    options = f"--port {port} --timeout-keep-alive {LIMIT} --log-level critical --app-dir {folder}"
    return [sys.executable, "-m", "uvicorn", "app:app", *options.split()]


@dataclass
class Proxied:
    app: App
    server: Server
    port: int
    context: ssl.SSLContext

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(
            "127.0.0.1", self.port, ssl=self.context, server_hostname="a.test"
        )


@pytest.fixture(params=["node", "uvicorn"])
def proxied(
    request: pytest.FixtureRequest, folder: Path, ports: tuple[int, int]
) -> Iterator[Proxied]:
    (port,) = free_ports(1)
    app = App(command(request.param, folder, port), port)
    app.start()
    config = folder / "config.yaml"
    config.write_text(
        f"""
listen: {{http: ["127.0.0.1:{ports[0]}"], https: ["127.0.0.1:{ports[1]}"]}}
workers: 1
state: {folder / "state"}
sites:
  - {{names: [a.test], backend: "http://127.0.0.1:{port}", wait_for_backend: 2m}}
"""
    )
    try:
        app.await_readiness()
        with Server(["--config", str(config)], folder) as server:
            server.await_log("certificate obtained")
            context = ssl.create_default_context(cafile=folder / "state/internal-ca/root.pem")
            yield Proxied(app, server, ports[1], context)
            assert server.stop() == 0
            assert "Traceback" not in server.text()
    finally:
        app.stop()


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, method: bytes) -> int:
    body = b"Content-Length: 2\r\n\r\nhi" if method != b"GET" else b"\r\n"
    writer.write(b"%b / HTTP/1.1\r\nHost: a.test\r\n%b" % (method, body))
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(line for line in head.split(b"\r\n") if line.startswith(b"content-length"))
    await reader.readexactly(int(length.partition(b":")[2]))
    return int(head.split(b" ")[1])


async def test_no_post_fails_at_exactly_the_keep_alive_limit(
    proxied: Proxied, folder: Path
) -> None:
    statuses: Counter[int] = Counter()

    async def client() -> None:
        reader, writer = await proxied.connect()
        for _ in range(ROUNDS):
            statuses[await ask(reader, writer, b"POST")] += 1
            await asyncio.sleep(LIMIT + random.uniform(-0.01, 0.01))
        statuses[await ask(reader, writer, b"POST")] += 1
        writer.close()
        await writer.wait_closed()

    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    assert statuses == {200: CLIENTS * (ROUNDS + 1)}
    assert proxied.server.status(folder / "state")["upstreams"][0]["failures"] == 0


async def test_no_request_fails_while_the_app_restarts(proxied: Proxied) -> None:
    statuses: Counter[int] = Counter()
    over = False

    async def client(number: int) -> None:
        reader, writer = await proxied.connect()
        while not over:
            statuses[await ask(reader, writer, b"PUT" if number % 2 else b"GET")] += 1
            await asyncio.sleep(0.005)
        writer.close()
        await writer.wait_closed()

    clients = [asyncio.ensure_future(client(number)) for number in range(10)]
    for _ in range(RESTARTS):
        before = statuses[200]
        await asyncio.to_thread(proxied.app.stop)
        proxied.app.start()
        await asyncio.to_thread(proxied.app.await_readiness)
        while statuses[200] < before + 50:
            await asyncio.sleep(0.01)
    over = True
    await asyncio.gather(*clients)
    assert set(statuses) == {200}
