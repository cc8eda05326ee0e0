"""WebSockets over HTTP/2 (RFC 8441), to a real WebSocket server behind the real program."""

from __future__ import annotations

import contextlib
import shutil
import socketserver
import struct
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from websockets.sync.server import ServerConnection, serve

from support.h2_peer import CANCEL, data, headers, rst
from support.http.h2_talk import H2Talk, h2_context, request
from support.program.ports import free_ports
from support.program.server import Server

LARGE = 300_000


@dataclass
class Running:
    server: Server
    port: int
    ca: Path
    closed: threading.Event

    def talk(self) -> H2Talk:
        return H2Talk(self.port, "ws.test", h2_context(self.ca))


class AnswersAnotherKey(socketserver.StreamRequestHandler):
    """Says 101 to whatever comes, as an application does that takes the key for granted."""

    def handle(self) -> None:
        while self.rfile.readline().strip():
            pass
        self.wfile.write(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
        )
        self.rfile.read()


@contextlib.contextmanager
def started(offered: str) -> Iterator[Running]:
    closed = threading.Event()

    def echo(socket: ServerConnection) -> None:
        closed.clear()
        try:
            for message in socket:
                socket.send(b"x" * LARGE if message == "much" else message)
        finally:
            closed.set()

    folder = Path(tempfile.mkdtemp(prefix="th-", dir="/var/tmp"))
    folder.chmod(0o755)
    one, other, port = free_ports(3)
    with (
        serve(echo, "127.0.0.1", port) as backend,
        socketserver.ThreadingTCPServer(("127.0.0.1", 0), AnswersAnotherKey) as wrong,
    ):
        answering = threading.Thread(target=wrong.serve_forever)
        answering.start()
        thread = threading.Thread(target=backend.serve_forever)
        thread.start()
        config = folder / "config.yaml"
        config.write_text(
            f"""
listen: {{http: ["127.0.0.1:{one}"], https: ["127.0.0.1:{other}"]}}
workers: 1
state: {folder / "state"}
websocket_over_http2: {offered}
sites:
  - names: [ws.test]
    routes:
      - {{path: /*, backend: "http://127.0.0.1:{port}"}}
      - {{path: /wrong/*, backend: "http://127.0.0.1:{wrong.server_address[1]}"}}
"""
        )
        try:
            with Server(["--config", str(config)], folder) as server:
                server.await_log("ws.test: certificate obtained")
                yield Running(server, other, folder / "state/internal-ca/root.pem", closed)
                assert "Traceback" not in server.text()
        finally:
            backend.shutdown()
            wrong.shutdown()
            thread.join()
            answering.join()
            shutil.rmtree(folder)


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    with started("true") as made:
        yield made


def connect(protocol: bytes = b"websocket", path: str = "/chat") -> list[tuple[bytes, bytes]]:
    asked = request(path, "ws.test", method=b"CONNECT")
    return [asked[0], (b":protocol", protocol), *asked[1:], (b"sec-websocket-version", b"13")]


def says(text: bytes) -> bytes:
    """A message of a client: masked, with a mask of zeros."""
    length = (
        bytes([0x80 | len(text)]) if len(text) < 126 else b"\xfe" + struct.pack(">H", len(text))
    )
    return b"\x81" + length + bytes(4) + text


def test_messages_both_ways_and_a_proper_end(running: Running) -> None:
    with running.talk() as talk:
        number = talk.next()
        talk.says(headers(number, connect(), end=False))
        talk.hears(lambda one: type(one).__name__ == "HeadersFrame")
        assert talk.status(number) == 200
        assert not {b"upgrade", b"connection", b"sec-websocket-accept"} & talk.fields(number).keys()
        for text in (b"hello", b"x" * 1000):
            most = len(talk.body(number)) + len(text)
            talk.says(data(number, says(text)))
            talk.hears(lambda one, most=most: len(talk.body(number)) > most)
            assert talk.body(number).endswith(text)
        talk.says(data(number, says(b"much")))
        talk.hears(lambda one: len(talk.body(number)) > LARGE)
        talk.says(data(number, b"\x88\x80" + bytes(4)))  # close
        talk.hears(lambda one: talk.body(number).endswith(b"\x88\x00"))
        talk.says(data(number, b"", end=True))
        talk.hears_end_of(number)
        assert talk.status(talk.asks(request("/", "ws.test"))) != 0  # the connection lives on
    line = running.server.await_access(target="/chat", handler="tunnel")
    assert line["bytes"] > LARGE


def test_a_client_that_goes_ends_it(running: Running) -> None:
    with running.talk() as talk:
        number = talk.next()
        talk.says(headers(number, connect(), end=False))
        talk.hears(lambda one: type(one).__name__ == "HeadersFrame")
        talk.says(rst(number, CANCEL))
        assert running.closed.wait(60)


def test_another_protocol_is_not_spoken(running: Running) -> None:
    with running.talk() as talk:
        number = talk.next()
        talk.says(headers(number, connect(b"connect-udp"), end=False))
        talk.hears(lambda one: type(one).__name__ == "HeadersFrame")
        assert talk.status(number) == 501


def test_a_101_that_answers_another_key_is_a_502(running: Running) -> None:
    with running.talk() as talk:
        number = talk.next()
        talk.says(headers(number, connect(path="/wrong/a"), end=False))
        talk.hears(lambda one: type(one).__name__ == "HeadersFrame")
        assert talk.status(number) == 502
    line = running.server.await_access(target="/wrong/a")
    assert (line["status"], line["error"]) == (502, "backend_protocol")
    told = running.server.await_log("does not answer the key")
    assert (told["site"], told["backend"]) == ("ws.test", line["backend"])


def test_it_is_off_unless_asked_for() -> None:
    with started("false") as running, running.talk() as talk:
        number = talk.next()
        talk.says(headers(number, connect(), end=False))
        talk.hears_end_of(number)
        assert talk.reset_with(number) == 1
        assert all(8 not in one.settings for one in talk.of("SettingsFrame"))
