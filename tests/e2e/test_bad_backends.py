"""Backends that die, hang, trickle, flood and reset: each costs its own requests, and where there is
another one, not even those. Health checks take them out and in again."""

from __future__ import annotations

import contextlib
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from support.http.client import Talk, context, https
from support.http.strict_backend import Says, StrictBackend
from support.program.server import Server

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n"
ILL = Says((b"HTTP/1.1 500 Ill\r\nContent-Length: 0\r\n\r\n",))
MISBEHAVIOURS = ("hang", "trickle", "trickling-head", "flood", "reset", "head-without-end")


@dataclass
class Backends:
    """Two of them. What ``second`` does to requests can be changed."""

    first: StrictBackend
    second: StrictBackend
    manner: dict[str, Says | None] = field(default_factory=dict)


@dataclass
class Running:
    server: Server
    port: int
    using: ssl.SSLContext
    backends: Backends
    folder: Path

    def secure(self) -> Talk:
        return https(self.port, "a.test", None, using=self.using)

    def status_of(self, target: str, method: str = "GET") -> int:
        with self.secure() as talk:
            return talk.asks(target, "a.test", method, body=b"x" * (method == "POST")).status

    def healthy(self) -> list[bool]:
        return [
            one["healthy"] != "no" for one in self.server.status(self.folder / "state")["upstreams"]
        ]


@pytest.fixture
def running(folder: Path, ports: tuple[int, int]) -> Iterator[Running]:
    over = threading.Event()

    def drops(beginning: bytes, drop: bytes) -> Iterator[bytes]:
        yield beginning
        while not over.wait(0.05):
            yield drop

    def misbehave(_method: bytes, target: bytes) -> Says | None:
        match target.rpartition(b"/")[2].decode():
            case "hang":
                return Says(drops(b"", b""))
            case "trickle":
                return Says(drops(HEAD, b"x"))
            case "trickling-head":
                return Says(drops(b"HTTP/1.1 200 OK\r\nX: ", b"y"))
            case "flood":
                return Says(b"x" * 65536 if at else HEAD for at in range(1500))
            case "head-without-end":
                return Says(b"X: y\r\n" if at else b"HTTP/1.1 200 OK\r\n" for at in range(100_000))
            case "reset":
                return Says((HEAD + b"part",), "reset")
            case _:
                return None

    manner: dict[str, Says | None] = {}

    def second(_method: bytes, target: bytes) -> Says | None:
        kind = target.rpartition(b"/")[2].decode()
        return manner.get(kind if kind in ("health", "hung") else "request")

    config = folder / "config.yaml"
    with StrictBackend(misbehave) as bad, StrictBackend() as one, StrictBackend(second) as other:
        pair = f'backend: ["http://127.0.0.1:{one.port}", "http://127.0.0.1:{other.port}"]'
        config.write_text(
            f"""
listen: {{http: ["127.0.0.1:{ports[0]}"], https: ["127.0.0.1:{ports[1]}"]}}
workers: 1
state: {folder / "state"}
limits: {{shutdown_timeout: 1s}}
sites:
  - names: [a.test]
    routes:
      - {{path: /bad/*, backend: "http://127.0.0.1:{bad.port}"}}
      - path: /pair/*
        {pair}
      - path: /watched/*
        {pair}
        health: {{path: /@1@/health, interval: 100ms, timeout: 30s}}
      - path: /impatient/*
        {pair}
        health: {{path: /@1@/hung, interval: 100ms, timeout: 500ms}}
      - {{path: /*, backend: "http://127.0.0.1:{one.port}"}}
"""
        )
        with Server(["--config", str(config)], folder) as server:
            server.await_log("certificate obtained")
            using = context(folder / "state/internal-ca/root.pem")
            yield Running(server, ports[1], using, Backends(one, other, manner), folder)
            over.set()
            assert server.stop() == 0
            assert "Traceback" not in server.text()
            assert not [line for line in server.access if line.get("status") == 500]


def test_a_bad_backend_costs_only_its_own_requests(running: Running) -> None:
    with contextlib.ExitStack() as stack:
        stuck = []
        for manner in MISBEHAVIOURS:
            for _ in range(5):
                talk = stack.enter_context(running.secure())
                talk.says(f"GET /bad/@1@/{manner} HTTP/1.1\r\nHost: a.test\r\n\r\n".encode())
                stuck.append((manner, talk))
        with running.secure() as good:
            for number in range(100):
                answer = good.asks(f"/@2@{number}", "a.test")
                assert (answer.status, answer.body) == (200, b"GET /@2@%d []\n" % number)
        for manner, talk in stuck:
            if manner == "reset":
                with pytest.raises((ConnectionError, ssl.SSLError)):
                    talk.hears()
            elif manner == "head-without-end":
                assert talk.hears().status == 502
                running.server.await_log(
                    r"backend_protocol: http://127\.0\.0\.1:\d+: a head of more than 65536 bytes "
                    r"\(GET a\.test/bad/@1@/head-without-end\)"
                )


def test_one_that_ends_without_a_word_has_its_requests_repeated_elsewhere(running: Running) -> None:
    """Those that may be: a POST is never sent twice."""
    running.backends.manner["request"] = Says((b"",), "close")
    assert {running.status_of("/pair/@1@") for _ in range(20)} == {200}
    # It is out by then, so another route has to be asked for what becomes of a POST.
    statuses = [running.status_of("/watched/@2@", "POST") for _ in range(2)]
    assert sorted(statuses) == [200, 502]
    heard = running.backends.first.whole[2] + running.backends.second.whole[2]
    assert len(heard) == 2
    running.backends.manner["request"] = None
    running.server.await_log(r"is left out for .* s: .*closed")


def test_an_active_check_takes_it_out_and_in_again(running: Running) -> None:
    backends = running.backends
    backends.manner["health"] = ILL
    running.server.await_log(f"{backends.second.port} fails its check: status 500")
    assert {running.status_of("/watched/@2@") for _ in range(10)} == {200}
    assert len(backends.second.whole[2]) == 0
    since = len(running.server.log)
    backends.manner["health"] = None
    running.server.await_log(f"{backends.second.port} passes its check again", since=since)
    while not backends.second.whole[2]:
        assert running.status_of("/watched/@2@") == 200


def test_a_check_that_hangs_has_failed(running: Running) -> None:
    running.backends.manner["hung"] = Says(())
    running.server.await_log(
        f"{running.backends.second.port} fails its check: .*no answer within 0.5 s"
    )
    assert running.status_of("/impatient/@2@") == 200


def test_one_that_dies_is_passed_over_and_comes_back(running: Running) -> None:
    second = running.backends.second
    assert {running.status_of("/pair/@3@") for _ in range(4)} == {200}
    second.close()
    assert {running.status_of("/pair/@3@") for _ in range(10)} == {200}
    running.server.await_log(f"{second.port} is left out")
    with StrictBackend(port=second.port) as again:
        while not again.whole[3]:
            assert running.status_of("/pair/@3@") == 200
        running.server.await_log(f"{second.port} answers again")
