"""Every limit: what its client sees, the figure that counts it, and a line that is no flood."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import ssl
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from support.http.client import Answer, Talk, context, http, https
from support.http.strict_backend import Says, StrictBackend
from support.program.ports import free_ports
from support.program.server import Server

H = b"Host: a.test\r\n"
UPGRADE = "Connection: upgrade\r\nUpgrade: websocket\r\n"


def script(_method: bytes, target: bytes) -> Says | None:
    if b"tunnel" in target:
        head = b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
        return Says((head,), then="keep")
    if b"never" in target:
        return Says((), then="keep")
    return None


@dataclass
class Running:
    server: Server
    folder: Path
    port: int
    plain: int
    admin: int
    using: ssl.SSLContext

    def secure(self) -> Talk:
        return https(self.port, "a.test", None, using=self.using)

    def asks(self, data: bytes) -> Answer:
        with self.secure() as talk:
            talk.says(data)
            return talk.hears()

    def limited(self) -> dict[str, float]:
        """``treehouse_limited_total`` by limit; the figures of workers reach it every so often."""
        answer = http(self.admin).asks("/metrics", f"127.0.0.1:{self.admin}")
        return {
            sample.labels["limit"]: sample.value
            for family in text_string_to_metric_families(answer.body.decode())
            for sample in family.samples
            if sample.name == "treehouse_limited_total"
        }

    @contextlib.contextmanager
    def counting(self, limit: str) -> Iterator[None]:
        """The limit is reached within: its figure grows, and the log says it once or twice."""
        before = self.limited().get(limit, 0)
        yield
        deadline = time.monotonic() + 60
        while self.limited().get(limit, 0) <= before:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        self.server.await_log(f"the limit {limit} was reached by 127.0.0.1")


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    folder = Path(tempfile.mkdtemp(prefix="th-", dir="/var/tmp"))
    folder.chmod(0o755)
    (folder / "www").mkdir()
    (folder / "www/large.bin").write_bytes(b"x" * (16 << 20))
    plain, port, admin = free_ports(3)
    config = folder / "config.yaml"
    try:
        with StrictBackend(script) as backend:
            config.write_text(
                f"""
listen: {{http: ["127.0.0.1:{plain}"], https: ["127.0.0.1:{port}"]}}
admin: {{listen: "127.0.0.1:{admin}"}}
workers: 1
state: {folder / "state"}
limits: {{header_timeout: 1s, body_timeout: 1s, write_timeout: 1s, handshake_timeout: 2s,
          shutdown_timeout: 1s,
          header_size: 2KiB, target_size: 1KiB, header_count: 20, body_size: 10KiB,
          connections: 40, connections_per_address: 30, handshakes: 10, tunnels: 2,
          requests_per_connection: 5}}
sites:
  - names: [a.test]
    routes:
      - {{path: /one/*, backend: "http://127.0.0.1:{backend.port}", connections: 1, queue: 1,
          connect_timeout: 1s}}
      - {{path: /app/*, backend: "http://127.0.0.1:{backend.port}"}}
      - {{path: /*, root: {folder / "www"}}}
    rate_limit: [{{rate: 10/s, burst: 300, by: site}}]
"""
            )
            with Server(["--config", str(config)], folder) as server:
                server.await_log("a.test: certificate obtained")
                using = context(folder / "state/internal-ca/root.pem")
                yield Running(server, folder, port, plain, admin, using)
                assert "Traceback" not in server.text()
    finally:
        shutil.rmtree(folder)


REQUESTS = {
    "header_timeout": (b"GET / HTTP/1.1\r\n" + H, 408),
    "header_size": (b"GET / HTTP/1.1\r\n" + H + b"X: " + b"a" * 4000 + b"\r\n\r\n", 431),
    "target_size": (b"GET /" + b"a" * 2000 + b" HTTP/1.1\r\n" + H + b"\r\n", 414),
    "body_size": (b"POST /app/@1@ HTTP/1.1\r\n" + H + b"Content-Length: 20000\r\n\r\n", 413),
    "body_timeout": (b"POST /app/@1@ HTTP/1.1\r\n" + H + b"Content-Length: 9\r\n\r\nabc", 408),
    "tiny_chunks": (
        b"POST /app/@1@ HTTP/1.1\r\n" + H + b"Transfer-Encoding: chunked\r\n\r\n"
        + b"1\r\nx\r\n" * 9000, 400),
}  # fmt: skip


@pytest.mark.parametrize("limit", REQUESTS)
def test_of_a_request(running: Running, limit: str) -> None:
    said, status = REQUESTS[limit]
    with running.counting(limit):
        answer = running.asks(said)
        assert answer.status == status
        assert answer["connection"] == "close"


def test_fields_are_counted(running: Running) -> None:
    with running.counting("header_size"):
        assert running.asks(b"GET / HTTP/1.1\r\n" + H + b"X: y\r\n" * 20 + b"\r\n").status == 431


def test_a_chunked_body_is_measured_as_it_comes(running: Running) -> None:
    with running.counting("body_size"):
        body = b"1000\r\n" + b"x" * 4096 + b"\r\n"
        head = b"POST /app/@1@ HTTP/1.1\r\n" + H + b"Transfer-Encoding: chunked\r\n\r\n"
        assert running.asks(head + body * 4 + b"0\r\n\r\n").status == 413


def test_of_a_reader(running: Running) -> None:
    with running.counting("write_timeout"), running.secure() as talk:
        talk.says(b"GET /large.bin HTTP/1.1\r\n" + H + b"\r\n")
        running.server.await_access(error="client_stalled")
        # One byte now and then would not have saved it: a piece has its time, not a byte.
        with pytest.raises((ConnectionError, ssl.SSLError)):
            talk.hears()


def test_requests_of_a_connection_and_its_end_is_announced(running: Running) -> None:
    with running.secure() as talk:
        for number in range(1, 6):
            answer = talk.asks("/app/@1@", "a.test")
            assert answer.status == 200
            assert answer.get("connection") == ("close" if number == 5 else None)
        assert talk.rest() == b""
    assert running.limited()["requests_per_connection"] == 1
    assert "requests_per_connection" not in running.server.text()


def test_connections_of_an_address(running: Running) -> None:
    with running.counting("connections_per_address"), contextlib.ExitStack() as stack:
        for _ in range(30):
            # Answered, so that none is ended meanwhile for a head that does not come.
            assert stack.enter_context(http(running.plain)).asks("/", "a.test").status == 308
        with pytest.raises(ConnectionError):
            http(running.plain).asks("/", "a.test")


def test_connections_in_total(running: Running) -> None:
    _await_room(running)
    with running.counting("connections"), contextlib.ExitStack() as stack:
        for number in range(40):
            source = (f"127.0.0.{2 + number % 2}", 0)
            address = ("127.0.0.1", running.plain)
            stack.enter_context(socket.create_connection(address, 60, source_address=source))
        with pytest.raises(ConnectionError):
            http(running.plain).asks("/", "a.test")


def _await_room(running: Running) -> None:
    """Until the connections of a test have been seen to end."""
    running.server.await_status(
        running.folder / "state",
        lambda document: all(one["connections"] == 0 for one in document["workers"]),
    )


def is_ended(sock: socket.socket) -> bool:
    """An end, or a reset where something had not been read."""
    try:
        return sock.recv(1) == b""
    except ConnectionResetError:
        return True


def test_one_handshake_too_many_ends_the_oldest(running: Running) -> None:
    _await_room(running)
    with running.counting("handshakes"), contextlib.ExitStack() as stack:
        halves = []
        for _ in range(11):
            raw = stack.enter_context(socket.create_connection(("127.0.0.1", running.port), 60))
            raw.sendall(b"\x16\x03\x01\x02\x00\x01")
            halves.append(raw)
        assert is_ended(halves[0])
        assert running.asks(b"GET /app/@1@ HTTP/1.1\r\n" + H + b"\r\n").status == 200
    with (
        running.counting("handshake_timeout"),
        socket.create_connection(("127.0.0.1", running.port), 60) as raw,
    ):
        raw.sendall(b"\x16\x03\x01\x02\x00\x01")
        assert is_ended(raw)


def test_tunnels(running: Running) -> None:
    _await_room(running)
    with running.counting("tunnels"), contextlib.ExitStack() as stack:
        for _ in range(2):
            talk = stack.enter_context(running.secure())
            assert talk.asks("/app/@1@tunnel", "a.test", fields=UPGRADE).status == 101
        with running.secure() as talk:
            answer = talk.asks("/app/@1@tunnel", "a.test", fields=UPGRADE)
            assert (answer.status, answer["retry-after"]) == (503, "5")
            assert talk.asks("/app/@1@", "a.test").status == 200
    _await_room(running)
    with running.secure() as talk:
        assert talk.asks("/app/@1@tunnel", "a.test", fields=UPGRADE).status == 101


def test_the_queue_for_a_backend(running: Running) -> None:
    with running.counting("backend_capacity"), contextlib.ExitStack() as stack:
        for _ in range(2):  # one has the connection, and one waits for it
            talk = stack.enter_context(running.secure())
            talk.says(b"GET /one/@1@never HTTP/1.1\r\n" + H + b"\r\n")
        late = stack.enter_context(running.secure()).asks("/one/@1@", "a.test")
        assert (late.status, late["retry-after"]) == (503, "1")
        waited = talk.hears()  # for as long as connect_timeout
        assert (waited.status, waited["retry-after"]) == (503, "1")


def test_a_client_that_leaves_makes_room_at_its_backend(running: Running) -> None:
    _await_room(running)
    target = "/one/@1@never?mine"  # the line of a test before may come late
    with running.secure() as talk:
        talk.says(b"GET %b HTTP/1.1\r\n" % target.encode() + H + b"\r\n")  # has the only connection
    gone = running.server.await_access(error="client_gone", target=target)
    assert (gone["status"], gone["bytes"]) == (499, 0)
    assert gone["backend"].startswith("http://127.0.0.1:")
    assert running.asks(b"GET /one/@1@ HTTP/1.1\r\n" + H + b"\r\n").status == 200


def test_a_worker_that_could_not_run_loses_nobody(running: Running) -> None:
    """What came in time is answered, whatever the clock says when the worker runs again."""
    _await_room(running)
    (worker,) = running.server.status(running.folder / "state")["workers"]
    begun, ended = b"GET /app/@1@ HTTP/1.1\r\n" + H, b"\r\n"
    with running.secure() as kept, running.secure() as half, running.secure() as body:
        assert kept.asks("/app/@1@", "a.test").status == 200
        half.says(begun)
        body.says(b"POST /app/@1@ HTTP/1.1\r\n" + H + b"Content-Length: 6\r\n\r\nabc")
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        hands = running.using.wrap_bio(incoming, outgoing, server_hostname="a.test")
        shaking = socket.create_connection(("127.0.0.1", running.port), 60)
        with contextlib.suppress(ssl.SSLWantReadError):
            hands.do_handshake()
        shaking.sendall(outgoing.read())
        while True:
            incoming.write(shaking.recv(65536))
            with contextlib.suppress(ssl.SSLWantReadError):
                hands.do_handshake()
                break
        os.kill(worker["pid"], signal.SIGSTOP)
        try:
            kept.says(begun + ended)
            half.says(ended)
            body.says(b"def")
            hands.write(begun + ended)
            shaking.sendall(outgoing.read())
            late = socket.create_connection(("127.0.0.1", running.plain), 60)
            late.sendall(begun)
            time.sleep(2.3)  # longer than any of the limits above: time itself is what is awaited
        finally:
            os.kill(worker["pid"], signal.SIGCONT)
        for talk in (kept, half, body):
            assert talk.hears().status == 200
        with shaking, Talk(late) as plain:
            plain.says(ended)
            assert plain.hears().status == 308
            heard = b""
            while b"\r\n\r\n" not in heard:
                incoming.write(shaking.recv(65536))
                with contextlib.suppress(ssl.SSLWantReadError):
                    heard += hands.read()
            assert heard.startswith(b"HTTP/1.1 200 ")


def test_the_rate(running: Running) -> None:
    with running.counting("rate_limit"):
        statuses = set()
        while 429 not in statuses:
            with running.secure() as talk:
                for _ in range(4):
                    statuses.add(talk.asks("/app/@1@", "a.test").status)
        assert statuses == {200, 429}


def test_addresses_and_totals_are_counted_by_all_workers_together(
    folder: Path, root: Path, ports: tuple[int, int]
) -> None:
    """Also by the next generation's, and not what a killed one has left behind."""
    config = folder / "config.yaml"
    config.write_text(
        f"""
listen: {{http: ["127.0.0.1:{ports[0]}"], https: ["127.0.0.1:{ports[1]}"]}}
workers: 2
state: {folder / "state"}
limits: {{connections: 11, connections_per_address: 6}}
sites: [{{names: [a.test], root: {root}}}]
"""
    )
    one, other = "127.0.0.5", "127.0.0.6"

    def stands(source: str) -> socket.socket | None:
        """A connection that has been accepted; None for one that was turned away."""
        sock = socket.create_connection(("127.0.0.1", ports[0]), 60, source_address=(source, 0))
        sock.sendall(b"OPTIONS * HTTP/1.1\r\nHost: a.test\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            if sock.recv(4096):
                return stack.enter_context(sock)
        sock.close()
        return None

    with Server(["--config", str(config)], folder) as server, contextlib.ExitStack() as stack:
        server.await_log("a.test: certificate obtained")
        server.await_log("serving on .* with 2 workers")
        first, second = [one["pid"] for one in server.status(folder / "state")["workers"]]
        for stopped in (first, second):
            os.kill(stopped, signal.SIGSTOP)
            assert all(stands(one) for _ in range(3))
            os.kill(stopped, signal.SIGCONT)
        assert not any(stands(one) for _ in range(4)), "three each make six"
        assert all(stands(other) for _ in range(5)), "somebody else has room"
        assert not stands(other), "but for eleven in all"
        since = len(server.log)
        server.signal(signal.SIGHUP)
        server.await_log("serving on .* with 2 workers", since=since)
        assert not stands(one), "what drains counts on"
        os.kill(second, signal.SIGKILL)
        server.await_log("worker 2 of generation 1 has finished")
        assert sum(stands(one) is not None for _ in range(5)) == 3
        assert "Traceback" not in server.text()


def test_the_log_was_no_flood(running: Running) -> None:
    said = [one["message"] for one in running.server.log if "the limit " in one["message"]]
    assert len(said) < 60
