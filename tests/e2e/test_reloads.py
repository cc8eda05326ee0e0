"""Fifty reloads under load: nobody notices, whatever he is in the middle of."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from support.client import Talk, https
from support.server import Server, treehouse

RELOADS = 50
LARGE = os.urandom(1 << 20) * 8


class Application(BaseHTTPRequestHandler):
    """Echoes in a tunnel, sends a large answer, takes a large body."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.headers.get("Upgrade"):
            self.send_response(101)
            self.send_header("Upgrade", "echo")
            self.send_header("Connection", "Upgrade")
            self.end_headers()
            self.close_connection = True
            while data := self.connection.recv(4096):
                self.connection.sendall(data)
            return
        self._answer(LARGE if "/large" in self.path else self.path.encode())

    def do_POST(self) -> None:
        digest = hashlib.sha256(self.rfile.read(int(self.headers["Content-Length"])))
        self._answer(digest.hexdigest().encode())

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def backend() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Application)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    thread.join()
    server.server_close()


class Life:
    """What clients do all the while. ``step`` is one round on a connection of its own; it says
    whether the connection was announced to end."""

    def __init__(self, connect: Callable[[], Talk]) -> None:
        self.connect = connect
        self.over = threading.Event()
        self.failures: list[str] = []
        self.rounds = 0
        self.threads: list[threading.Thread] = []

    def start(self, step: Callable[[Talk], bool]) -> None:
        thread = threading.Thread(target=self._live, args=(step,))
        thread.start()
        self.threads.append(thread)

    def _live(self, step: Callable[[Talk], bool]) -> None:
        talk: Talk | None = None
        try:
            while not self.over.is_set():
                talk = talk or self.connect()
                ended = step(talk)
                self.rounds += 1
                if ended:
                    talk.sock.close()
                    talk = None
        except (OSError, AssertionError, ValueError) as error:
            self.failures.append(f"{step.__name__}: {error!r}")

    def end(self) -> None:
        self.over.set()
        for thread in self.threads:
            thread.join(60)


def page(talk: Talk) -> bool:
    answer = talk.asks("/app/page", "a.test")
    assert (answer.status, answer.body) == (200, b"/app/page")
    return answer.get("connection") == "close"


def download(talk: Talk) -> bool:
    """At a slow reader's pace, so that several reloads happen meanwhile."""
    talk.says(b"GET /app/large HTTP/1.1\r\nHost: a.test\r\n\r\n")
    talk.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
    answer = talk.hears()
    assert (answer.status, answer.body) == (200, LARGE)
    return answer.get("connection") == "close"


def upload(talk: Talk) -> bool:
    talk.says(
        f"POST /app/up HTTP/1.1\r\nHost: a.test\r\nContent-Length: {len(LARGE)}\r\n\r\n".encode()
    )
    for start in range(0, len(LARGE), 1 << 19):
        talk.says(LARGE[start : start + (1 << 19)])
        time.sleep(0.05)  # the pace of an uplink, not a wait for anything
    answer = talk.hears("POST")
    assert (answer.status, answer.body) == (200, hashlib.sha256(LARGE).hexdigest().encode())
    return answer.get("connection") == "close"


def test_fifty_reloads_close_nothing(
    folder: Path, root: Path, ports: tuple[int, int], backend: int
) -> None:
    config = folder / "config.yaml"
    text = f"""
listen: {{http: ["127.0.0.1:{ports[0]}"], https: ["127.0.0.1:{ports[1]}"]}}
workers: 2
state: {folder / "state"}
log: {{access: off}}
sites:
  - names: [a.test]
    routes:
      - {{path: /app/*, backend: "http://127.0.0.1:{backend}"}}
      - {{path: /*, root: {root}}}
"""
    config.write_text(text)
    with Server(["--config", str(config)], folder) as server:
        server.await_log("a.test: certificate obtained")
        ca = folder / "state/internal-ca/root.pem"

        def connect() -> Talk:
            return https(ports[1], "a.test", ca, timeout=60)

        tunnels = [connect() for _ in range(4)]
        for talk in tunnels:
            talk.says(
                b"GET /app/tunnel HTTP/1.1\r\nHost: a.test\r\n"
                b"Connection: Upgrade\r\nUpgrade: echo\r\n\r\n"
            )
            assert b" 101 " in talk._until(b"\r\n\r\n")
        life = Life(connect)
        for step in (page, page, page, download, upload):
            life.start(step)
        for number in range(RELOADS):
            # Workers come and go as well.
            config.write_text(text.replace("workers: 2", f"workers: {1 + number % 3}"))
            done = treehouse("reload", "--state", str(folder / "state"))
            assert done.returncode == 0, done.stderr
            for talk in tunnels:
                talk.says(b"%d" % number)
                assert talk._exactly(len(b"%d" % number)) == b"%d" % number
        life.end()
        assert life.failures == []
        assert life.rounds > RELOADS
        status = server.status(folder / "state")
        assert status["generation"] == RELOADS + 1
        draining = [one for one in status["workers"] if one["state"] == "draining"]
        assert {one["generation"] for one in draining} >= {1}, "where the tunnels are"
        for talk in tunnels:
            talk.says(b"still here")
            assert talk._exactly(10) == b"still here"
            talk.sock.close()
        server.await_log("of generation 1 has finished")
        assert not [one for one in server.log if one["level"] == "error"]
