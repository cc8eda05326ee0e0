"""Fifty reloads under load: nobody notices, whatever he is in the middle of."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from proxy.ipc import control_client
from support.http.backend_app import Application, serving
from support.http.client import Talk, https
from support.http.load_clients import Visitors, page
from support.program.server import Server, ask

RELOADS = 50
LARGE = os.urandom(1 << 20) * 8


class Backend(Application):
    """Echoes in a tunnel, sends a large answer, takes a large body."""

    def do_GET(self) -> None:
        if not self.headers.get("Upgrade"):
            self.answers(LARGE if "/large" in self.path else self.path.encode())
            return
        self.send_response(101)
        self.send_header("Upgrade", "echo")
        self.send_header("Connection", "Upgrade")
        self.end_headers()
        self.close_connection = True
        while data := self.connection.recv(4096):
            self.connection.sendall(data)

    def do_POST(self) -> None:
        self.answers(hashlib.sha256(self.body()).hexdigest().encode())


@pytest.fixture
def backend() -> Iterator[int]:
    with serving(Backend) as port:
        yield port


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
        pages = [page("/app/page", "a.test", b"/app/page")] * 3
        with Visitors(connect, *pages, download, upload, pause=0.01) as visitors:
            for number in range(RELOADS):
                # Workers come and go as well.
                config.write_text(text.replace("workers: 2", f"workers: {1 + number % 3}"))
                ask(folder / "state", "reload")
                for talk in tunnels:
                    talk.says(b"%d" % number)
                    assert talk._exactly(len(b"%d" % number)) == b"%d" % number
        assert visitors.failures == []
        assert visitors.done["page"] > RELOADS
        assert visitors.done["download"] > 1
        assert visitors.done["upload"] > 1
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


def test_reloads_at_once_each_hear_of_the_files_as_they_were_when_they_asked(
    folder: Path, ports: tuple[int, int]
) -> None:
    """A reload that is under way may have read the file before it was changed, so whoever asks then
    waits for the next one; one serves all who wait."""
    config = folder / "config.yaml"

    def write(words: str) -> None:
        beside = folder / f"config.{threading.get_ident()}"
        beside.write_text(
            f'listen: {{http: ["127.0.0.1:{ports[0]}"], https: ["127.0.0.1:{ports[1]}"]}}\n'
            f"state: {folder}/state\nsites: [{{names: [a.test], respond: {{body: {words}}}}}]\n"
        )
        beside.replace(config)

    write("first")
    with Server(["--config", str(config)], folder) as server, ThreadPoolExecutor(8) as people:
        server.await_log("a.test: certificate obtained")
        ca = folder / "state/internal-ca/root.pem"

        def reload(number: int) -> bytes:
            write(f"of-{number}")
            ask(folder / "state", "reload")
            return https(ports[1], "a.test", ca).asks("/", "a.test").body

        assert all(body.startswith(b"of-") for body in people.map(reload, range(8)))
        last = config.read_text().partition("body: ")[2].partition("}")[0]
        assert https(ports[1], "a.test", ca).asks("/", "a.test").body == last.encode()
        assert server.status(folder / "state")["generation"] < 9

        write("{")  # a fault, which everybody hears of
        statuses = people.map(
            lambda _: control_client.ask(folder / "state", {"command": "reload"}), range(4)
        )
        assert [(one["ok"], one["status"]) for one in statuses] == [(False, 2)] * 4
