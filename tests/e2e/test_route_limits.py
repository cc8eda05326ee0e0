"""Limits of bodies that a route has for itself: larger or smaller than the server's, over both versions
of HTTP, for bodies that say their length and for those that do not."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import httpx
import pytest

from support.h2_peer import data, headers
from support.http.backend_app import Application, serving
from support.http.client import context, https
from support.http.h2_talk import H2Talk, h2_context, request
from support.program.ports import free_ports
from support.program.server import Server

CONFIG = """\
state: {state}
listen: {{http: ['127.0.0.1:{one}'], https: ['127.0.0.1:{two}']}}
limits: {{body_size: 10KiB}}
sites:
  - names: [a.test]
    body_size: 5KiB
    routes:
      - {{path: /small/*, backend: "http://127.0.0.1:{port}", body_size: 1KiB}}
      - {{path: /large/*, backend: "http://127.0.0.1:{port}", body_size: unlimited}}
      - {{path: /slow/*, backend: "http://127.0.0.1:{port}", body_timeout: 1s}}
      - {{path: /*, backend: "http://127.0.0.1:{port}"}}
  - {{names: [b.test], backend: "http://127.0.0.1:{port}"}}
"""


class App(Application):
    taken: ClassVar[list[int]] = []

    def do_POST(self) -> None:
        try:
            body = self.body()
        except ValueError:  # a chunk without a size: the body was cut off
            self.close_connection = True
            return
        self.taken.append(len(body))
        self.answers()


@dataclass
class Place:
    server: Server
    port: int
    ca: Path


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    folder = Path(tempfile.mkdtemp(dir="/var/tmp"))
    folder.chmod(0o755)
    one, two = free_ports(2)
    config = folder / "config.yaml"
    try:
        with serving(App) as port:
            config.write_text(CONFIG.format(state=folder / "state", one=one, two=two, port=port))
            with Server(["--config", str(config)], folder) as server:
                for name in ("a.test", "b.test"):
                    server.await_log(f"{name}: certificate obtained")
                yield Place(server, two, folder / "state/internal-ca/root.pem")
    finally:
        shutil.rmtree(folder)


@pytest.mark.parametrize("http2", [False, True], ids=["HTTP/1.1", "HTTP/2"])
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunks"])
@pytest.mark.parametrize(
    ("host", "path", "size", "status"),
    [
        ("a.test", "/small/x", 1024, 200),
        ("a.test", "/small/x", 1025, 413),
        ("a.test", "/x", 5 * 1024, 200),
        ("a.test", "/x", 5 * 1024 + 1, 413),
        ("a.test", "/large/x", 300_000, 200),
        ("b.test", "/x", 10 * 1024, 200),
        ("b.test", "/x", 10 * 1024 + 1, 413),
    ],
)
def test_a_route_takes_bodies_of_its_own_size(
    place: Place, http2: bool, chunked: bool, host: str, path: str, size: int, status: int
) -> None:
    def pieces() -> Iterator[bytes]:
        for at in range(0, size, 1000):
            yield b"x" * min(1000, size - at)

    taken = len(App.taken)
    with httpx.Client(verify=context(place.ca), http1=not http2, http2=http2, timeout=60) as client:
        response = client.post(
            f"https://127.0.0.1:{place.port}{path}", headers={"Host": host},
            content=pieces() if chunked else b"x" * size, extensions={"sni_hostname": host},
        )  # fmt: skip
    assert response.status_code == status
    assert App.taken[taken:] == ([size] if status == 200 else [])


def test_a_route_waits_for_bodies_as_long_as_it_says(place: Place) -> None:
    begun = time.monotonic()
    with https(place.port, "a.test", place.ca) as talk:
        talk.says(b"POST /slow/x HTTP/1.1\r\nHost: a.test\r\nContent-Length: 10\r\n\r\nhalf")
        assert talk.hears("POST").status == 408
    with H2Talk(place.port, "a.test", h2_context(place.ca)) as h2:
        number = h2.next()
        h2.says(headers(number, request("/slow/y", "a.test", method=b"POST"), end=False))
        h2.says(data(number, b"half"))
        h2.hears_end_of(number)
        assert h2.status(number) == 408
    for path in ("/slow/x", "/slow/y"):
        assert place.server.await_access(target=path)["error"] == "body_timeout"
    assert 2 <= time.monotonic() - begun < 55  # limits.body_timeout is 30 s, twice
