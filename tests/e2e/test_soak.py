"""Everything at once: traffic of several kinds over HTTP/1.1, HTTP/2 and gRPC, reloads, upgrades, killed workers and certifiers, a
backend that breaks off, one that dies and comes back, certificates renewed from pebble.

    make soak                        ten minutes
    SOAK_SECONDS=60 make soak

It ends with a table: requests, failures by cause, memory and descriptors of every process. A failure
is expected when its connection lived on a worker that was killed a moment ago, or when the backend
was told to fail; nothing else is.

Reloads make new workers every few seconds, in which nothing can pile up. So the last quarter of the
time is quiet: the same traffic, and neither reload nor kill. What a worker gathers shows then.

In the suite it takes 25 seconds, as the whole suite has 15 minutes; `make soak` is the real one.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import os
import random
import signal
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from support.acme.pebble import Pebble
from support.h2_peer import data, headers, rst
from support.http.backend_app import Application, serving
from support.http.client import Talk, context, https
from support.http.grpc_load import GrpcLoad, channel, counting
from support.http.h2_talk import H2Talk, NotTaken
from support.http.h2_talk import request as h2_request
from support.http.load_clients import Visitors
from support.http.strict_backend import StrictBackend
from support.program.process_stats import Weight, table, weigh
from support.program.server import REPOSITORY, Server, packages, treehouse

SECONDS = float(os.environ.get("SOAK_SECONDS", "25"))
# Between two rounds of a visitor: in the suite other tests want a processor as well.
PAUSE = 0.0 if "SOAK_SECONDS" in os.environ else 0.02
# Seconds of a certificate. All this traffic leaves little of two cores to a certifier that was killed a
# moment ago; on a machine with other work thirty were too few.
VALIDITY = 45
# The part of the time in which everything happens at once.
TURMOIL = 0.75
# What a process may take more at the end than at the start of that, or of the quiet time after it. The
# heap of a new worker grows by 10 MiB in its first 30,000 requests of all these kinds, until its pieces
# have found their places, and by nothing in the next 80,000 (480 seconds of quiet, weighed every 20). A
# leak of a hundred bytes a request would be four times this bound in ten minutes.
GROWTH = 12 * 1024  # KiB
# Clients come and go, and a pool of connections may be at its low or its high.
MORE_DESCRIPTORS = 24
# After a kill, how long a failure may still come from a connection of that worker.
AFTERMATH = 2.0
SERIALS: set[str] = set()


class Backend(Application):
    """Answers; or breaks off, or echoes, when the request asks for it."""

    def do_GET(self) -> None:
        if self.headers.get("Upgrade"):
            self._echo()
        elif "/broken" in self.path:
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"part")
            self.close_connection = True
        else:
            self.answers(self.path.encode())

    def _echo(self) -> None:
        self.send_response(101)
        self.send_header("Upgrade", "echo")
        self.send_header("Connection", "Upgrade")
        self.end_headers()
        self.close_connection = True
        while data := self.connection.recv(4096):
            self.connection.sendall(data)

    def do_POST(self) -> None:
        self.answers(self.body())


@pytest.fixture
def backend() -> Iterator[int]:
    with serving(Backend) as port:
        yield port


@dataclass
class Ledger:
    """Failures, from many threads: those that a killed worker excuses, and the others."""

    expected: collections.Counter[str] = field(default_factory=collections.Counter)
    unexpected: list[str] = field(default_factory=list)
    killed_at: float = float("-inf")
    lock: threading.Lock = field(default_factory=threading.Lock)

    def judge(self, kind: str, error: Exception, since: float) -> None:
        with self.lock:
            if (
                self.killed_at > since - AFTERMATH
                and time.monotonic() - self.killed_at < AFTERMATH + 5
            ):
                self.expected[f"{kind}: its worker was killed"] += 1
            else:
                self.unexpected.append(f"{kind}: {error!r}")


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


def tunnel(talk: Talk) -> bool:
    """Open over a reload or two."""
    talk.says(
        b"GET /app/tunnel HTTP/1.1\r\nHost: a.example\r\n"
        b"Connection: Upgrade\r\nUpgrade: echo\r\n\r\n"
    )
    assert b" 101 " in talk._until(b"\r\n\r\n")
    for number in range(100):
        talk.says(b"%08d" % number)
        assert talk._exactly(8) == b"%08d" % number
        time.sleep(0.02)  # the pace of people who write to each other
    return True


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


def asked_again(step: Callable[[H2Talk], bool]) -> Callable[[H2Talk], bool]:
    """The round, which ends its connection where the server has said that it did not take a request:
    every client may ask again on another connection."""

    @functools.wraps(step)
    def round_of(talk: H2Talk) -> bool:
        try:
            return step(talk)
        except NotTaken:
            return True

    return round_of


@asked_again
def many(talk: H2Talk) -> bool:
    """Ten requests at a time on one connection, GETs and POSTs."""
    asked = {}
    for number in range(10):
        mark = f"/app/h2/{random.random()}"
        body = os.urandom(random.randrange(1, 3000)) if number % 2 else None
        stream = talk.next()
        asked[stream] = mark.encode() if body is None else body
        method = b"GET" if body is None else b"POST"
        length = [] if body is None else [(b"content-length", b"%d" % len(body))]
        fields = h2_request(mark, "a.example", *length, method=method)
        talk.says(headers(stream, fields, end=body is None))
        if body is not None:
            talk.says(data(stream, body, end=True))
    for stream, right in asked.items():
        talk.hears_end_of(stream)
        assert (talk.status(stream), talk.body(stream)) == (200, right), talk.heads(stream)
    return done_with(talk)


@asked_again
def large_over_h2(talk: H2Talk) -> bool:
    """A large file, and small answers meanwhile."""
    file = talk.next()
    part = (b"range", b"bytes=0-1999999")
    talk.says(headers(file, h2_request("/large.bin", "a.example", part)))
    for _ in range(20):
        stream = talk.asks(h2_request("/", "a.example"))
        assert (talk.status(stream), talk.body(stream)) == (200, b"<p>hello\n")
    talk.hears_end_of(file)
    assert (talk.status(file), len(talk.body(file))) == (206, 2_000_000)
    return done_with(talk)


@asked_again
def given_up(talk: H2Talk) -> bool:
    """Requests that are reset in the middle, as a browser does that leaves a page; the connection
    goes on. Fewer than are answered, else it would be ended for it."""
    for target in ("/large.bin", "/app/h2/x", "/pair/@1@x"):
        stream = talk.next()
        talk.says(headers(stream, h2_request(target, "a.example")))
        talk.says(rst(stream))
        for _ in range(2):
            stream = talk.asks(h2_request("/", "a.example"))
            assert (talk.status(stream), talk.body(stream)) == (200, b"<p>hello\n")
    return done_with(talk)


def done_with(talk: H2Talk) -> bool:
    """Whether the server wants the next round on another connection."""
    over = bool(talk.goaways)
    talk.forget_all()
    return over


@pytest.mark.timeout(SECONDS + 120)
def test_soak(
    folder: Path, root: Path, ports: tuple[int, int], backend: int, shared_python: str
) -> None:
    with (
        Pebble(ports[0], ports[1], validity=VALIDITY) as ca,
        StrictBackend() as steady,
        counting() as (calls, called),
    ):
        soak(folder, root, ports, backend, shared_python, ca, steady, calls)
        assert [name for name, count in called.items() if count > 1] == []


def soak(
    folder: Path,
    root: Path,
    ports: tuple[int, int],
    backend: int,
    shared_python: str,
    ca: Pebble,
    steady: StrictBackend,
    calls: int,
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
      - {{path: /t.Load/*, backend: "h2c://127.0.0.1:{calls}"}}
      - {{path: /*, root: {root}}}
"""
    )
    ledger = Ledger()
    # Without a service manager the first process stays, through all upgrades.
    environment = packages(REPOSITORY) | {"NOTIFY_SOCKET": ""}
    options = ["--config", str(config)]
    server = Server(options, folder, python=shared_python, environment=environment)
    with contextlib.closing(server), contextlib.ExitStack() as stack:
        # Whichever it is by then: its thread would keep a run that has failed from ending.
        stack.callback(lambda: mortal.close())
        server.await_log("certificate obtained", within=60)
        using, over_h2 = context(ca.root()), context(ca.root())
        over_h2.set_alpn_protocols(["h2"])

        def connect() -> Talk:
            return https(ports[1], "a.example", None, using=using, timeout=30)

        def connect_h2() -> H2Talk:
            return H2Talk(ports[1], "a.example", over_h2, within=60)

        kinds = [static] * 3 + [proxied] * 3 + [posted] * 2 + [mended] * 2
        kinds += [large, handshake, broken, tunnel]
        h2_kinds = [many, large_over_h2, given_up]
        state = folder / "state"
        begun = time.monotonic()
        reloads = kills = upgrades = deaths = certifiers = 0
        turn = 0
        with (
            Visitors(connect, *kinds, judge=ledger.judge, pause=PAUSE) as visitors,
            Visitors(connect_h2, *h2_kinds, judge=ledger.judge, pause=PAUSE) as h2_visitors,
            channel(ports[1], ca.root(), "a.example") as using_grpc,
            GrpcLoad(using_grpc, judge=ledger.judge, pause=0.1) as grpc,
        ):
            visitors.await_each()
            h2_visitors.await_each()
            SERIALS.clear()
            started = weigh(server, state)
            while time.monotonic() < begun + SECONDS * TURMOIL or not upgrades:
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
                if turn % 5 == 0:
                    since = len(server.log)
                    (victim,) = (one for one in weigh(server, state) if one.title == "certifier")
                    os.kill(victim.pid, signal.SIGKILL)
                    certifiers += 1
                    server.await_log(rf"pid {victim.pid}\).*another starts", since=since)
                if turn % 4 == 0:
                    workers = server.status(state)["workers"]
                    able = [one["pid"] for one in workers if one["state"] == "serving"]
                    since = len(server.log)
                    ledger.killed_at = time.monotonic()
                    os.kill(random.choice(able), signal.SIGKILL)
                    kills += 1
                    server.await_log("another starts", since=since)
            until_nothing_drains(server, state)
            visitors.await_each()
            h2_visitors.await_each()
            calm = weigh(server, state)
            while time.monotonic() < begun + SECONDS:
                time.sleep(0.5)  # clients do what is to be done now
            ended = weigh(server, state)
        turns = (reloads, upgrades, kills, certifiers, deaths, len(SERIALS) - 1)
        moments = [("at the start", started), ("after the turmoil", calm), ("at the end", ended)]
        print(
            _table(
                ledger,
                visitors.done + h2_visitors.done + grpc.done,
                turns,
                time.monotonic() - begun,
            ),
            *table(moments),
            sep="\n",
        )
        assert server.stop() == 0
        assert "Traceback" not in server.text()
        assert not ledger.unexpected
        assert [one.pid for one in calm] == [one.pid for one in ended], "nobody died in the quiet"
        assert grown(started, calm) == []
        # A certifier that was killed a moment before has not yet loaded what it works with.
        assert grown(started + calm, ended) == []
        assert all(visitors.done[kind.__name__] for kind in kinds)
        assert all(h2_visitors.done[kind.__name__] for kind in h2_kinds)
        assert len(grpc.done) == 4
        assert len(SERIALS) > SECONDS // (2 * VALIDITY)


def until_nothing_drains(server: Server, state: Path) -> None:
    server.await_status(
        state,
        lambda document: all(one["state"] == "serving" for one in document["workers"]),
        within=60,
    )


def grown(before: list[Weight], after: list[Weight]) -> list[str]:
    """Who takes more than may be, in words; who was not there before is measured by its likes."""
    memory: dict[str, int] = {}
    descriptors: dict[str, int] = {}
    for one in before:
        role = one.title.partition(" ")[0]
        memory[role] = max(one.anonymous, memory.get(role, 0))
        descriptors[role] = max(one.descriptors, descriptors.get(role, 0))
    found = []
    for one in after:
        role = one.title.partition(" ")[0]
        if role not in memory:
            continue
        if one.anonymous > memory[role] + GROWTH:
            found.append(f"{one.title}: {memory[role]} KiB became {one.anonymous} KiB")
        if one.descriptors > descriptors[role] + MORE_DESCRIPTORS:
            was = descriptors[role]
            found.append(f"{one.title}: {was} became {one.descriptors} descriptors")
    return found


def _table(
    ledger: Ledger, done: collections.Counter[str], turns: tuple[int, ...], seconds: float
) -> str:
    said = "{} reloads, {} upgrades, {} workers, {} certifiers and {} backends killed, {} renewals"
    lines = [f"\n{seconds:.0f} seconds: {said.format(*turns)}"]
    lines += [f"  {kind:<10} {count:>9} done" for kind, count in sorted(done.items())]
    lines += [f"  {count:>9} expected: {what}" for what, count in ledger.expected.items()]
    lines += [
        f"  {count:>9} UNEXPECTED: {what}"
        for what, count in collections.Counter(ledger.unexpected).most_common(10)
    ]
    return "\n".join(lines)
