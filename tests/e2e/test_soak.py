"""Everything at once: traffic of several kinds, reloads, upgrades, killed workers, a backend that
breaks off, one that dies and comes back, certificates renewed from pebble.

    make soak                        ten minutes
    SOAK_SECONDS=60 make soak

It ends with a table: requests, failures by cause, memory and descriptors at start and end. A failure
is expected when its connection lived on a worker that was killed a moment ago, or when the backend
was told to fail; nothing else is.
"""

from __future__ import annotations

import collections
import contextlib
import http.client
import os
import random
import signal
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from support.client import Talk, context, https
from support.pebble import Pebble
from support.server import REPOSITORY, Server, packages, treehouse
from support.strict_backend import StrictBackend

SECONDS = float(os.environ.get("SOAK_SECONDS", "25"))
VALIDITY = 20  # seconds of a certificate
# After a kill, how long a failure may still come from a connection of that worker.
AFTERMATH = 2.0
SERIALS: set[str] = set()


class Application(BaseHTTPRequestHandler):
    """Answers; or breaks off, when the path asks for it."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if "/broken" in self.path:
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"part")
            self.close_connection = True
            return
        body = self.path.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class Quiet(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, *_: object) -> None:
        """A connection that the proxy has ended is no news."""


@pytest.fixture
def backend() -> Iterator[int]:
    server = Quiet(("127.0.0.1", 0), Application)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    thread.join()
    server.server_close()


@dataclass
class Ledger:
    """What happened, from many threads."""

    over: threading.Event = field(default_factory=threading.Event)
    done: collections.Counter[str] = field(default_factory=collections.Counter)
    expected: collections.Counter[str] = field(default_factory=collections.Counter)
    unexpected: list[str] = field(default_factory=list)
    killed_at: float = float("-inf")
    lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, kind: str) -> None:
        with self.lock:
            self.done[kind] += 1

    def fail(self, kind: str, why: str, since: float) -> None:
        """``since``: when the connection was last known to be well."""
        with self.lock:
            if (
                self.killed_at > since - AFTERMATH
                and time.monotonic() - self.killed_at < AFTERMATH + 5
            ):
                self.expected[f"{kind}: its worker was killed"] += 1
            else:
                self.unexpected.append(f"{kind}: {why}")


Connect = Callable[[], Talk]


def keep_asking(ledger: Ledger, connect: Connect, kind: str, ask: Callable[[Talk], bool]) -> None:
    """One client with one kept-alive connection after the other. ``ask`` says whether the answer
    announced the connection's end; an end without that is a failure."""
    talk: Talk | None = None
    well = time.monotonic()
    while not ledger.over.is_set():
        try:
            if talk is None:
                well = time.monotonic()
                talk = connect()
            last = ask(talk)
            well = time.monotonic()
            ledger.count(kind)
            if last:
                talk.sock.close()
                talk = None
        except (OSError, AssertionError, ValueError, http.client.HTTPException) as error:
            ledger.fail(kind, repr(error), well)
            if talk is not None:
                talk.sock.close()
            talk = None
    if talk is not None:
        talk.sock.close()


def static(talk: Talk) -> bool:
    answer = talk.asks("/", "a.example")
    assert (answer.status, answer.body) == (200, b"<p>hello\n"), answer.head
    return answer.get("connection") == "close"


def proxied(talk: Talk) -> bool:
    mark = f"/app/{random.random()}"
    answer = talk.asks(mark, "a.example")
    assert (answer.status, answer.body) == (200, mark.encode()), answer.head
    return answer.get("connection") == "close"


def posted(talk: Talk) -> bool:
    body = os.urandom(random.randrange(1, 100_000))
    answer = talk.asks("/app/post", "a.example", "POST", body=body)
    assert (answer.status, answer.body) == (200, body), answer.head
    return answer.get("connection") == "close"


def large(talk: Talk) -> bool:
    answer = talk.asks("/large.bin", "a.example")
    assert (answer.status, len(answer.body)) == (200, 8 << 20), answer.head
    return answer.get("connection") == "close"


def handshake(talk: Talk) -> bool:
    """Each is verified, and its certificate's number remembered."""
    assert isinstance(talk.sock, ssl.SSLSocket)
    SERIALS.add(str((talk.sock.getpeercert() or {})["serialNumber"]))
    static(talk)
    return True


def mended(talk: Talk) -> bool:
    """One of its two backends dies now and then; a GET is none the worse."""
    mark = f"/pair/@1@{random.random()}"
    answer = talk.asks(mark, "a.example")
    assert (answer.status, answer.body) == (200, b"GET %b []\n" % mark.encode()), answer.head
    return answer.get("connection") == "close"


def broken(talk: Talk) -> bool:
    """A backend that breaks off: the client must see a break, and never a whole answer."""
    try:
        answer = talk.asks("/app/broken", "a.example")
    except OSError:
        return True
    assert answer.status == 502, "a part was taken for the whole"
    return True


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def resident(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1])
    raise AssertionError(pid)


@pytest.mark.timeout(SECONDS + 120)
def test_soak(
    folder: Path, root: Path, ports: tuple[int, int], backend: int, shared_python: str
) -> None:
    with Pebble(ports[0], ports[1], validity=VALIDITY) as ca, StrictBackend() as steady:
        soak(folder, root, ports, backend, shared_python, ca, steady)


def soak(
    folder: Path,
    root: Path,
    ports: tuple[int, int],
    backend: int,
    shared_python: str,
    ca: Pebble,
    steady: StrictBackend,
) -> None:
    mortal = StrictBackend()
    (root / "large.bin").write_bytes(b"x" * (8 << 20))
    config = folder / "config.yaml"
    config.write_text(
        f"""
listen: {{http: ["127.0.0.1:{ports[0]}"], https: ["127.0.0.1:{ports[1]}"]}}
workers: 2
state: {folder / "state"}
log: {{access: {folder / "access.log"}}}
acme: {{directory: "{ca.directory}", ca_file: {ca.ca_file}}}
sites:
  - names: [a.example]
    routes:
      - path: /pair/*
        backend: ["http://127.0.0.1:{steady.port}", "http://127.0.0.1:{mortal.port}"]
      - {{path: /app/*, backend: "http://127.0.0.1:{backend}"}}
      - {{path: /*, root: {root}}}
"""
    )
    ledger = Ledger()
    # Without a service manager the first process stays, through all upgrades.
    environment = packages(REPOSITORY) | {"NOTIFY_SOCKET": ""}
    options = ["--config", str(config)]
    server = Server(options, folder, python=shared_python, environment=environment)
    with contextlib.closing(server):
        server.await_log("certificate obtained", within=60)
        using = context(ca.root())

        def connect() -> Talk:
            return https(ports[1], "a.example", None, using=using, timeout=30)

        kinds = [static] * 3 + [proxied] * 3 + [posted] * 2 + [mended] * 2
        kinds += [large, handshake, broken]
        threads = [
            threading.Thread(target=keep_asking, args=(ledger, connect, kind.__name__, kind))
            for kind in kinds
        ]
        begun = time.monotonic()
        started = (resident(server.pid), descriptors(server.pid))
        for thread in threads:
            thread.start()
        reloads = kills = upgrades = deaths = 0
        SERIALS.clear()
        turn = 0
        try:
            while time.monotonic() < begun + SECONDS:
                turn += 1
                done = treehouse("reload", "--state", str(folder / "state"))
                assert done.returncode == 0, done.stderr
                reloads += 1
                if turn % 6 == 0:
                    done = treehouse("upgrade", "--state", str(folder / "state"))
                    assert done.returncode == 0, done.stderr
                    upgrades += 1
                if turn % 3 == 0:
                    mortal.close()
                    deaths += 1
                    mortal = StrictBackend(port=mortal.port)
                if turn % 4 == 0:
                    status = server.status(folder / "state")
                    serving = [one["pid"] for one in status["workers"] if one["state"] == "serving"]
                    ledger.killed_at = time.monotonic()
                    os.kill(random.choice(serving), signal.SIGKILL)
                    kills += 1
                    server.await_log("another starts", since=len(server.log) - 2)
        finally:
            ledger.over.set()
            for thread in threads:
                thread.join()
            mortal.close()
        pid = server.status(folder / "state")["pid"]
        ended = (resident(pid), descriptors(pid))
        for sock in (socket.create_connection(("127.0.0.1", ports[1])),):
            sock.close()
        turns = (reloads, upgrades, kills, deaths, len(SERIALS) - 1)
        print(_table(ledger, started, ended, turns, time.monotonic() - begun))
        assert server.stop() == 0
        assert "Traceback" not in server.text()
        assert not ledger.unexpected
        assert ended[1] <= started[1] + 16
        assert ended[0] <= started[0] + 8 * 1024 + 20 * reloads
        assert all(ledger.done[kind.__name__] for kind in kinds)
        assert len(SERIALS) > SECONDS // (2 * VALIDITY)


def _table(
    ledger: Ledger,
    started: tuple[int, int],
    ended: tuple[int, int],
    turns: tuple[int, ...],
    seconds: float,
) -> str:
    said = "{} reloads, {} upgrades, {} workers and {} backends killed, {} certificates renewed"
    lines = [f"\n{seconds:.0f} seconds: {said.format(*turns)}"]
    lines += [f"  {kind:<10} {count:>9} done" for kind, count in sorted(ledger.done.items())]
    lines += [f"  {count:>9} expected: {what}" for what, count in ledger.expected.items()]
    lines += [
        f"  {count:>9} UNEXPECTED: {what}"
        for what, count in collections.Counter(ledger.unexpected).most_common(10)
    ]
    lines.append(f"  supervisor: {started[0]} KiB, {started[1]} descriptors at the start")
    lines.append(f"              {ended[0]} KiB, {ended[1]} descriptors at the end")
    return "\n".join(lines)
