"""Real attackers: while they are at it, ordinary clients are served, and afterwards nothing is left."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import ssl
import struct
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.http.backend_app import Application, serving
from support.http.client import Talk, context
from support.http.load_clients import Visitors, page
from support.http.tls_records import ALERT, HANDSHAKE, Records
from support.program.server import Server

# Attackers come from here, ordinary clients from elsewhere on the loopback network.
ATTACKER, ORDINARY = "127.0.0.1", "127.0.0.77"
ATTACK_SECONDS = 6
LARGE = 16 << 20


class Backend(Application):
    """Takes bodies, and gives a large answer."""

    def do_POST(self) -> None:
        self.body()
        self.answers(b"taken\n")

    def do_GET(self) -> None:
        self.answers(b"x" * LARGE)


@pytest.fixture
def backend() -> Iterator[int]:
    with serving(Backend) as port:
        yield port


@pytest.fixture
def running(folder: Path, root: Path, ports: tuple[int, int], backend: int) -> Iterator[Server]:
    (root / "large.bin").write_bytes(os.urandom(1 << 20) * (LARGE >> 20))
    config = folder / "config.yaml"
    config.write_text(
        f"""
listen: {{http: ["0.0.0.0:{ports[0]}"], https: ["0.0.0.0:{ports[1]}"]}}
workers: 2
state: {folder / "state"}
limits: {{header_timeout: 2s, body_timeout: 2s, handshake_timeout: 3s, write_timeout: 4s,
          connections_per_address: 400}}
sites:
  - names: [a.test]
    default: true
    routes:
      - {{path: /app/*, backend: "http://127.0.0.1:{backend}"}}
      - {{path: /*, root: {root}}}
"""
    )
    with Server(["--config", str(config)], folder) as server:
        server.await_log("a.test: certificate obtained")
        yield server
        assert server.stop() == 0
        assert "Traceback" not in server.text(), server.text()
        assert not [one for one in server.log if one.get("level") == "error"]


@pytest.fixture
def using(running: Server, folder: Path) -> ssl.SSLContext:
    return context(folder / "state/internal-ca/root.pem")


def connect(port: int, source: str = ATTACKER) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=60, source_address=(source, 0))


def secure(port: int, using: ssl.SSLContext, source: str = ATTACKER) -> Talk:
    return Talk(using.wrap_socket(connect(port, source), server_hostname="a.test"))


def ordinary_people(port: int, using: ssl.SSLContext) -> Visitors:
    """Somebody who asks for pages all the while, on new connections and on kept ones."""
    step = page("/", "a.test", b"<p>hello\n")
    return Visitors(lambda: secure(port, using, ORDINARY), step, rounds=10)


def await_connections(server: Server, folder: Path, most: int) -> None:
    """Until the workers have no more than that."""
    server.await_status(
        folder / "state",
        lambda document: sum(one["connections"] for one in document["workers"]) <= most,
    )


MODES = {
    "slow heads": ["-H", "-i", "1"],
    "slow bodies": ["-B", "-i", "1", "-s", "8192"],
    "ranges": ["-R", "-a", "1", "-b", "2000"],
    "slow reading": ["-X", "-w", "1", "-y", "64", "-n", "1", "-z", "32", "-k", "3"],
}


@pytest.mark.parametrize("mode", MODES)
def test_slow_clients_keep_nobody_else_waiting(
    running: Server, folder: Path, ports: tuple[int, int], using: ssl.SSLContext, mode: str
) -> None:
    path = {"slow bodies": "/app/post", "slow reading": "/large.bin"}.get(mode, "/")
    with ordinary_people(ports[1], using) as ordinary:
        subprocess.run(
            ["slowhttptest", *MODES[mode], "-c", "300", "-r", "150", "-l", str(ATTACK_SECONDS),
             "-u", f"https://127.0.0.1:{ports[1]}{path}", "-p", "2"],
            capture_output=True, check=False, timeout=60, cwd=folder,
        )  # fmt: skip
    assert ordinary.failures == []
    assert ordinary.done.total() > 100
    await_connections(running, folder, 0)


def test_handshakes_that_never_end(
    running: Server, folder: Path, ports: tuple[int, int], using: ssl.SSLContext
) -> None:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = using.wrap_bio(incoming, outgoing, server_hostname="a.test")
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    hello = outgoing.read()
    with ordinary_people(ports[1], using) as ordinary, contextlib.ExitStack() as stack:
        for number in range(300):
            raw = stack.enter_context(connect(ports[1]))
            raw.sendall(hello[: random.randrange(len(hello)) if number % 3 else len(hello)])
        await_connections(running, folder, 10)
    assert ordinary.failures == []


def test_a_storm_of_resets(
    running: Server, folder: Path, ports: tuple[int, int], using: ssl.SSLContext
) -> None:
    before = {pid: len(os.listdir(f"/proc/{pid}/fd")) for pid in running.children()}
    with ordinary_people(ports[1], using) as ordinary:
        for number in range(2000):
            raw = connect(ports[number % 2])
            if number % 3:
                raw.sendall(b"\x16\x03\x01\x02\x00\x01" if number % 2 else b"GET / HT")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            raw.close()
    assert ordinary.failures == []
    await_connections(running, folder, 0)
    after = {pid: len(os.listdir(f"/proc/{pid}/fd")) for pid in running.children()}
    assert after.keys() == before.keys()
    assert all(after[pid] <= before[pid] + 16 for pid in before)


def test_a_thousand_connections_that_only_stand(
    running: Server, folder: Path, ports: tuple[int, int], using: ssl.SSLContext
) -> None:
    with contextlib.ExitStack() as stack:
        for number in range(1000):
            talk = secure(ports[1], using, f"127.0.1.{number % 200 + 1}")
            stack.enter_context(talk)
        running.await_status(
            folder / "state",
            lambda document: sum(one["connections"] for one in document["workers"]) == 1000,
        )
        with ordinary_people(ports[1], using) as ordinary:
            ordinary.await_rounds(200)
        assert ordinary.failures == []


@pytest.mark.parametrize("target", ["/large.bin", "/app/large"])
def test_a_reader_that_stalls_costs_little(
    running: Server,
    folder: Path,
    ports: tuple[int, int],
    using: ssl.SSLContext,
    target: str,
) -> None:
    """Less than 64 KiB of the worker's memory, whatever the size of the answer; and no disk."""
    for _ in range(8):  # what the first one costs a worker, it costs
        with secure(ports[1], using, ORDINARY) as talk:
            assert len(talk.asks(target, "a.test").body) == LARGE
    before = {pid: resident(pid) for pid in running.children()}
    with contextlib.ExitStack() as stack:
        talks = []
        for _ in range(100):
            talk = stack.enter_context(secure(ports[1], using))
            talk.says(f"GET {target} HTTP/1.1\r\nHost: a.test\r\n\r\n".encode())
            talks.append(talk)
        for talk in talks:
            assert talk.sock.recv(1)  # its answer has begun
        grown = sum(max(resident(pid) - before[pid], 0) for pid in before)
        assert grown < 100 * 64 * 1024
    await_connections(running, folder, 0)


def resident(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def test_a_flood_of_tiny_chunks_is_ended(
    running: Server, ports: tuple[int, int], using: ssl.SSLContext
) -> None:
    with ordinary_people(ports[1], using) as ordinary:
        for _ in range(3):
            with secure(ports[1], using) as talk:
                talk.says(b"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n")
                with contextlib.suppress(OSError):
                    for _ in range(200):
                        talk.says(b"1\r\nx\r\n" * 1000)
                with contextlib.suppress(OSError):
                    assert talk.hears().status in (400, 405)
    assert ordinary.failures == []


HELLO_AGAIN = b"\x01\0\0\x2b\x03\x03" + b"r" * 32 + b"\0\0\x04\xc0\x2c\0\xff\x01\0"
# By what is sent again and again: the version, and whether the flooder is ended for it. KeyUpdates are
# allowed, and to renegotiate is refused each time; they have their turn like everything else.
FLOODS: dict[str, tuple[str, bool, Callable[[Records], bytes]]] = {
    "key updates": ("TLSv1.3", False, lambda records: records.key_update()),
    "answered key updates": ("TLSv1.3", False, lambda records: records.key_update(True)),
    "empty records": ("TLSv1.3", True, lambda records: records.seal(b"")),
    "empty records of 1.2": ("TLSv1.2", True, lambda records: records.seal(b"")),
    "renegotiation": ("TLSv1.2", False, lambda records: records.seal(HELLO_AGAIN, HANDSHAKE)),
    "warnings": ("TLSv1.2", True, lambda records: records.seal(b"\1\x5a", ALERT)),
}
FLOOD = 3000


def test_floods_of_records_that_say_nothing(
    running: Server, folder: Path, ports: tuple[int, int], using: ssl.SSLContext
) -> None:
    """Whatever TLS says besides data: others are served meanwhile, and no turn is missed."""
    with ordinary_people(ports[1], using) as ordinary:
        for name, (version, is_ended, made) in FLOODS.items():
            with connect(ports[1]) as raw:
                records = Records(raw, "a.test", version)
                head = records.seal(b"GET /?flooded HTTP/1.1\r\nHost: a.test\r\n")
                flood = head + b"".join(made(records) for _ in range(FLOOD))
                since = len(running.access)
                with contextlib.suppress(ConnectionError):  # ended in the middle
                    raw.sendall(flood)
                    raw.sendall(records.seal(b"Connection: close\r\n\r\n"))
                with contextlib.suppress(ConnectionError):
                    while raw.recv(65536):
                        pass
                line = running.await_access(since=since, peer=ATTACKER)
                assert line["error"] == ("client_gone" if is_ended else None), (name, line)
                ordinary.await_rounds(10)
        with connect(ports[1]) as raw:
            records = Records(raw, "a.test")
            head = b"POST /app/post HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n"
            raw.sendall(records.seal(head + b"Content-Length: %d\r\n\r\n" % FLOOD))
            raw.sendall(b"".join(records.seal(b"x") for _ in range(FLOOD)))
            running.await_access(peer=ATTACKER, method="POST", status=200)
    assert ordinary.failures == []
    await_connections(running, folder, 0)
