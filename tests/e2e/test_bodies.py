"""A gigabyte in both directions, with a slow peer: whatever the size, a worker's memory stays."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.http.client import Talk, https
from support.program.server import Server

GIB = 1024**3
PIECE = b"x" * 65536
ALLOWED = 8 * 1024  # KiB


class Backend:
    """Takes a body of any length and counts it; sends one of a gigabyte; stalls when told to."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.proceed = threading.Event()
        self.proceed.set()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with sock:
            head = b""
            while b"\r\n\r\n" not in head:
                head += sock.recv(65536)
            head, _, rest = head.partition(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", head)
            if head.startswith(b"POST") and length:
                left = int(length[1]) - len(rest)
                while left:
                    self.proceed.wait()
                    left -= len(sock.recv(min(left, 1 << 20)))
                sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                return
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % GIB)
            try:
                for _ in range(GIB // len(PIECE)):
                    sock.sendall(PIECE)
            except OSError:
                return


@pytest.fixture
def backend() -> Iterator[Backend]:
    made = Backend()
    yield made
    made.proceed.set()
    made.listener.close()


def resident(pid: int) -> int:
    """KiB."""
    match = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    assert match
    return int(match[1])


def take(talk: Talk, target: str, watch: Callable[[], None]) -> int:
    talk.says(f"GET {target} HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n".encode())
    view = memoryview(bytearray(1 << 20))
    got = 0
    while count := talk.sock.recv_into(view):
        if not got:
            watch()  # slow at first: what cannot be sent must not pile up
        got += count
    return got


def fill(talk: Talk) -> int:
    """Send until nobody takes any more; the number of bytes taken."""
    sent = 0
    while True:
        try:
            sent += talk.sock.send(PIECE)
        except TimeoutError:
            return sent


def test_a_gigabyte_either_way(
    folder: Path, root: Path, ports: tuple[int, int], backend: Backend
) -> None:
    with (root / "large.bin").open("wb") as file:
        file.truncate(GIB)
    path = folder / "config.yaml"
    path.write_text(
        f"""
listen: {{http: ["127.0.0.1:{ports[0]}"], https: ["127.0.0.1:{ports[1]}"]}}
workers: 1
state: {folder / "state"}
sites:
  - names: [a.test]
    routes:
      - {{path: /app/*, backend: "http://127.0.0.1:{backend.port}"}}
      - {{path: /*, root: {root}}}
"""
    )
    ca = folder / "state/internal-ca/root.pem"
    with Server(["--config", str(path)], folder) as server:
        server.await_log("certificate obtained")
        (worker,) = [one["pid"] for one in server.status(folder / "state")["workers"]]
        assert https(ports[1], "a.test", ca).asks("/", "a.test").status == 200
        before = resident(worker)
        most = before

        def watch() -> None:
            nonlocal most
            for _ in range(5):  # each a whole turn of the worker, by way of the supervisor
                server.status(folder / "state")
                most = max(most, resident(worker))

        assert take(https(ports[1], "a.test", ca), "/large.bin", watch) > GIB
        watch()
        assert take(https(ports[1], "a.test", ca), "/app/large", watch) > GIB
        watch()
        backend.proceed.clear()
        with https(ports[1], "a.test", ca) as talk:
            talk.says(
                f"POST /app/ HTTP/1.1\r\nHost: a.test\r\nContent-Length: {GIB}\r\n\r\n".encode()
            )
            talk.sock.settimeout(1)
            sent = fill(talk)
            watch()
            backend.proceed.set()
            talk.sock.settimeout(60)
            left = GIB - sent
            while left:
                left -= talk.sock.send(PIECE[: min(left, len(PIECE))])
            assert talk.hears().body == b"ok"
        watch()
        assert most - before < ALLOWED, f"{before} KiB before, {most} KiB at most"
