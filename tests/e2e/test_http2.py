"""HTTP/2 at the real program, on both engines: curl, h2load, httpx, and what only frames can show:
coalesced names, sites without, drains, attacks. (`test_http2_clients` has more clients.)"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from support.h2_peer import (
    DATA,
    ENHANCE_YOUR_CALM,
    GET,
    HELLO,
    data,
    frame,
    headers,
    rst,
    settings,
    window_update,
)
from support.http.client import https
from support.http.h2_talk import H2Talk, h2_context, request
from support.http.strict_backend import Says, StrictBackend
from support.program.ports import free_ports
from support.program.server import Server, proc_status

PREFACE = HELLO[:24]
LARGEST = (1 << 31) - 1
MODES = {"session": "true", "authority": "false"}
H2LOAD = shutil.which("h2load")
BIG = os.urandom(3 << 20)
# What the slow answer of the backend waits for.
PROCEED = threading.Event()


def script(_method: bytes, target: bytes) -> Says | None:
    """What the backend says; None: an echo."""
    match target:
        case b"/slow":
            return Says(_slowly())
        case b"/trailers":
            head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: sum\r\n\r\n"
            return Says((head, b"3\r\nabc\r\n0\r\nsum: 6\r\n\r\n"))
        case b"/hints":
            hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n"
            return Says((hints, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"))
    return None


def _slowly() -> Iterator[bytes]:
    PROCEED.wait(60)
    yield b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nslow"


@dataclass
class Running:
    server: Server
    port: int
    ca: Path
    folder: Path
    config: Path
    backend: StrictBackend

    def talk(self, name: str = "a.test", hello: bytes = HELLO, before: bytes = b"") -> H2Talk:
        return H2Talk(self.port, name, h2_context(self.ca), hello=hello, before=before)

    def curl(
        self, url: str, *options: str, stdin: bytes | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        host = re.split("[/:]", url.removeprefix("https://"))[0]
        url = url.replace(f"https://{host}", f"https://{host}:{self.port}", 1)
        return subprocess.run(
            ["curl", "-sS", "--http2", "--cacert", str(self.ca), "--resolve", f"*:{self.port}:127.0.0.1", *options, url],
            capture_output=True, timeout=60, input=stdin, check=False,
        )  # fmt: skip

    def worker(self) -> int:
        """The memory of the worker in KiB."""
        return sum(
            int(proc_status(pid)["VmRSS"].split()[0])
            for pid in self.server.children()
            if b"worker" in Path(f"/proc/{pid}/cmdline").read_bytes()
        )


@pytest.fixture(scope="module", params=MODES)
def running(request: pytest.FixtureRequest) -> Iterator[Running]:
    with started(f"fast_lane: {MODES[request.param]}") as made:
        yield made


@pytest.fixture(autouse=True)
def slowly() -> Iterator[None]:
    PROCEED.clear()
    yield
    PROCEED.set()


@contextlib.contextmanager
def started(more: str = "", workers: int = 1, site: str = "") -> Iterator[Running]:
    folder = Path(tempfile.mkdtemp(prefix="th-", dir="/var/tmp"))
    folder.chmod(0o755)
    root = folder / "www"
    root.mkdir()
    (root / "index.html").write_text("<p>hello\n")
    (root / "big").write_bytes(BIG)
    with (root / "large").open("wb") as large:
        large.truncate(1 << 30)
    one, other = free_ports(2)
    config = folder / "config.yaml"
    with StrictBackend(script) as backend:
        config.write_text(
            f"""
listen: {{http: ["127.0.0.1:{one}"], https: ["127.0.0.1:{other}"]}}
workers: {workers}
state: {folder / "state"}
{more}
sites:
  - {{names: [a.test, www.a.test], root: {root}}}
  - {{names: [app.test], backend: "http://127.0.0.1:{backend.port}"}}
  - {{names: [old.test], root: {root}, http2: off}}
{f"  - {site}" if site else ""}
"""
        )
        try:
            with Server(["--config", str(config)], folder) as server:
                for name in ("a.test", "app.test", "old.test"):
                    server.await_log(f"{name}: certificate obtained")
                yield Running(
                    server, other, folder / "state/internal-ca/root.pem", folder, config, backend
                )
                assert "Traceback" not in server.text()
        finally:
            shutil.rmtree(folder)


# Clients


def test_curl(running: Running, tmp_path: Path) -> None:
    asked = running.curl("https://a.test/", "-w", " %{http_version}")
    assert asked.stdout == b"<p>hello\n 2", asked.stderr
    got = running.curl("https://a.test/big", "-o", str(tmp_path / "big"))
    assert got.returncode == 0, got.stderr
    assert (tmp_path / "big").read_bytes() == BIG
    assert running.curl("https://a.test/big", "-r", "5-9").stdout == BIG[5:10]
    assert b"HTTP/2 404" in running.curl("https://a.test/none", "-i").stdout
    head = running.curl("https://a.test/", "-I").stdout
    assert head.startswith(b"HTTP/2 200")
    assert b"content-length: 9" in head
    assert running.curl("https://app.test/x", "-d", "hello").stdout == b"POST /x [hello]\n"
    assert (
        running.curl("https://app.test/x", "-T", "-", "-X", "PUT", stdin=BIG).stdout
        == b"PUT /x [%b]\n" % BIG
    )
    assert b"sum: 6" in running.curl("https://app.test/trailers", "-i").stdout
    assert running.curl("https://old.test/", "-w", " %{http_version}").stdout == b"<p>hello\n 1.1"
    line = running.server.await_access(host="app.test", target="/trailers")
    assert (line["protocol"], line["status"], line["bytes"], line["error"]) == (
        "HTTP/2.0",
        200,
        3,
        None,
    )


def test_interim_answers_and_trailers(running: Running) -> None:
    with running.talk("app.test") as talk:
        hinted = talk.asks(request("/hints", "app.test"))
        assert [fields[0][1] for fields in talk.heads(hinted)] == [b"103", b"200"]
        trailed = talk.asks(request("/trailers", "app.test", (b"te", b"trailers")))
        assert talk.body(trailed) == b"abc"
        assert talk.heads(trailed)[-1] == [(b"sum", b"6")]


@pytest.mark.skipif(H2LOAD is None, reason="nghttp2-client is not installed")
def test_h2load(running: Running) -> None:
    for target, count in (("/", 2000), ("/big", 40)):
        said = h2load(running, target, "-n", str(count), "-c", "4", "-m", "20")
        assert f"{count} succeeded, 0 failed, 0 errored" in said, said


def h2load(running: Running, target: str, *options: str, host: str = "a.test") -> str:
    done = subprocess.run(
        [str(H2LOAD), *options, f"--connect-to=127.0.0.1:{running.port}", f"https://{host}:{running.port}{target}"],
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    return done.stdout + done.stderr


def test_httpx(running: Running) -> None:
    context = ssl.create_default_context(cafile=str(running.ca))
    transport = httpx.HTTPTransport(http2=True, verify=context, local_address="127.0.0.1")
    with httpx.Client(
        transport=transport, base_url=f"https://127.0.0.1:{running.port}", timeout=60
    ) as client:
        more = {"sni_hostname": "app.test"}
        for number in range(10):
            answered = client.post(
                f"/{number}", content=b"x" * 50_000, headers={"host": "app.test"}, extensions=more
            )
            assert (answered.http_version, answered.status_code) == ("HTTP/2", 200)
            assert answered.text == f"POST /{number} [{'x' * 50_000}]\n"


# Names and connections


def test_names_of_the_certificate_share_a_connection_and_others_do_not(running: Running) -> None:
    with running.talk("a.test") as talk:
        for host, status in (
            ("a.test", 200),
            ("www.a.test", 200),
            ("app.test", 421),
            ("nobody.test", 421),
            ("a.test", 200),
        ):
            assert talk.status(talk.asks(request("/", host))) == status


def test_a_site_without(running: Running) -> None:
    context = ssl.create_default_context(cafile=str(running.ca))
    context.set_alpn_protocols(["h2", "http/1.1"])
    with https(running.port, "old.test", None, using=context) as talk:
        assert isinstance(talk.sock, ssl.SSLSocket)
        assert talk.sock.selected_alpn_protocol() == "http/1.1"
    context.set_alpn_protocols(["h2"])
    with pytest.raises(ssl.SSLError, match=r"(?i)no.application.protocol"):
        https(running.port, "old.test", None, using=context)


def test_many_at_a_time_and_a_slow_one_holds_nobody_up(running: Running) -> None:
    with running.talk("app.test") as talk:
        slow = talk.next()
        talk.says(headers(slow, request("/slow", "app.test")))
        for _ in range(20):
            assert talk.status(talk.asks(request("/quick", "app.test"))) == 200
        assert talk.heads(slow) == []
        PROCEED.set()
        talk.hears_end_of(slow)
        assert talk.status(slow) == 200


def test_a_stream_that_is_reset_lets_its_backend_go(running: Running) -> None:
    with running.talk("app.test") as talk:
        number = talk.next()
        talk.says(headers(number, request("/slow", "app.test")), rst(number))
        line = running.server.await_access(host="app.test", target="/slow", error="client_gone")
        assert line["status"] == 499
        assert talk.status(talk.asks(request("/after", "app.test"))) == 200


# Fairness


class Bytes:
    """A client that counts DATA and says when a head came; no library is fast enough for large files."""

    def __init__(self, running: Running, name: str = "a.test") -> None:
        using = h2_context(running.ca)
        raw = socket.socket()
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
        raw.settimeout(60)
        raw.connect(("127.0.0.1", running.port))
        self.sock = using.wrap_socket(raw, server_hostname=name)
        self.sock.sendall(PREFACE + settings((4, LARGEST)) + window_update(0, LARGEST - 65535))
        self._held = b""

    def __enter__(self) -> Bytes:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def frames(self) -> Iterator[tuple[int, int, int]]:
        """Type, stream and length of what comes."""
        while True:
            while len(self._held) < 9 or len(self._held) < 9 + int.from_bytes(self._held[:3]):
                piece = self.sock.recv(65536)
                assert piece, "the connection ended"
                self._held += piece
            length, kind = int.from_bytes(self._held[:3]), self._held[3]
            yield kind, int.from_bytes(self._held[5:9]), length
            self._held = self._held[9 + length :]


def test_a_small_answer_does_not_wait_for_large_ones(running: Running) -> None:
    """On their own connection, of the same urgency and of a lower one: what stands before it are the
    buffers of the kernel and a turn of each, and not what is left of gigabytes."""
    with Bytes(running) as client:
        large = [1, 3, 5, 7]
        for number in large:
            client.sock.sendall(headers(number, request("/large", "a.test")))
        frames = client.frames()
        passed = 0
        for kind, _, length in frames:
            passed += length if kind == DATA else 0
            if passed > 2_000_000:
                break
        for number, priority in ((9, b"u=3"), (11, b"u=7"), (13, b"u=0")):
            fields = request("/", "a.test", (b"priority", priority))
            client.sock.sendall(headers(number, fields))
            passed = 0
            for kind, stream, length in frames:
                if stream == number:
                    break
                passed += length if kind == DATA else 0
            assert passed < 1_000_000, (priority, passed)


def test_all_downloads_of_a_connection_go_on(running: Running) -> None:
    """Those that can be shown in part in rounds, the others as they were asked for; none starves."""
    with Bytes(running) as client:
        for number in (1, 3, 5, 7):
            fields = request("/large", "a.test", (b"priority", b"u=3, i"))
            client.sock.sendall(headers(number, fields))
        late = request("/large", "a.test", (b"priority", b"u=7"))
        client.sock.sendall(headers(9, late))
        counts: Counter[int] = Counter()
        for kind, stream, length in client.frames():
            if kind == DATA:
                counts[stream] += length
            if counts.total() > 20_000_000:
                break
        shares = [counts[number] / counts.total() for number in (1, 3, 5, 7, 9)]
        assert min(shares[:4]) > 0.15, shares
        assert max(shares[:4]) < 0.30, shares
        assert 0.01 < shares[4] < 0.15, shares


# Attacks: each ends, or costs little


def assert_bounded(running: Running, talk: H2Talk, before: int) -> None:
    assert running.worker() - before < 4096
    with running.talk() as another:
        assert another.status(another.asks(request("/", "a.test"))) == 200


FLOODS = {
    "PING": frame(6, 0, 0, bytes(8)),
    "SETTINGS": settings(),
    "PRIORITY": frame(2, 0, 3, bytes(5)),
    "unknown": frame(99, 0, 0),
    "WINDOW_UPDATE": window_update(0, 1),
}


@pytest.mark.parametrize("name", FLOODS)
def test_a_flood_is_ended(running: Running, name: str) -> None:
    before = running.worker()
    with running.talk() as talk:
        try:
            for _ in range(200):
                talk.says(FLOODS[name] * 100)
        except OSError:
            pass
        talk.hears_the_end()
        assert talk.goaways[:1] in ([ENHANCE_YOUR_CALM], [])
        assert_bounded(running, talk, before)


def test_rapid_reset_is_ended(running: Running) -> None:
    before = running.worker()
    with running.talk("app.test") as talk:
        try:
            for number in itertools.islice(itertools.count(1, 2), 20_000):
                talk.says(headers(number, request("/x", "app.test")), rst(number))
        except OSError:
            pass
        talk.hears_the_end()
        assert_bounded(running, talk, before)


def test_windows_of_zero_and_much_asked_for(running: Running) -> None:
    before = running.worker()
    with running.talk(hello=PREFACE + settings((4, 0))) as talk:
        talk.says(*(headers(number, request("/big", "a.test")) for number in range(1, 201, 2)))
        talk.says(frame(6, 0, 0, bytes(8)))
        talk.hears(lambda one: type(one).__name__ == "PingFrame")
        assert_bounded(running, talk, before)


def test_huge_windows_and_nobody_reads(running: Running) -> None:
    before = running.worker()
    with running.talk(
        hello=PREFACE + settings((4, LARGEST)) + window_update(0, LARGEST - 65535)
    ) as talk:
        talk.says(*(headers(number, request("/big", "a.test")) for number in range(1, 201, 2)))
        for _ in range(5):
            with running.talk() as another:
                assert another.status(another.asks(request("/", "a.test"))) == 200
        assert_bounded(running, talk, before)


def test_an_upload_that_nobody_takes_is_not_taken_in(running: Running) -> None:
    before = running.worker()
    with running.talk("app.test") as talk:
        talk.credits = False
        for number in range(1, 41, 2):
            talk.says(
                headers(
                    number,
                    request("/x", "app.test", (b"content-length", b"9000000"), method=b"POST"),
                    end=False,
                )
            )
        sent = 0
        try:
            for number in itertools.cycle(range(1, 41, 2)):
                if sent + 1000 > 65535:
                    break
                talk.says(data(number, bytes(1000)))
                sent += 1000
        except OSError:
            pass
        assert_bounded(running, talk, before)


# The end of a connection


# Answers to each of three clients that post.
_OFTEN = 7


class Posting:
    """A client that posts again and again. It opens a new connection when it is told to, and repeats
    only what was not taken. ``busy`` is set when it has been answered often enough."""

    def __init__(self, running: Running) -> None:
        self._running = running
        self._over = False
        self.failures: list[str] = []
        self.answered = 0
        self.busy = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> None:
        self._over = True
        self._thread.join()

    def _run(self) -> None:
        talk = self._running.talk("app.test")
        while not self._over:
            if talk.goaways:
                talk.close()
                talk = self._running.talk("app.test")
            try:
                self._post(talk, talk.next())
            except (OSError, AssertionError) as error:
                self.failures.append(f"{error!r}: {talk.frames[-4:]}")
                break
        talk.close()

    def _post(self, talk: H2Talk, number: int) -> None:
        fields = request("/p", "app.test", method=b"POST")
        talk.says(headers(number, fields, end=False), data(number, b"x", end=True))
        talk.hears(
            lambda one: (
                one.last_stream_id < number
                if type(one).__name__ == "GoAwayFrame"
                else one.stream_id == number
                and ("END_STREAM" in one.flags or type(one).__name__ == "RstStreamFrame")
            )
        )
        if talk.status(number) == 200:
            self.answered += 1
            if self.answered > _OFTEN:
                self.busy.set()
        elif not any(one.last_stream_id < number for one in talk.of("GoAwayFrame")):
            self.failures.append(f"stream {number}: {talk.frames[-4:]}")


def test_a_reload_under_load_loses_nothing() -> None:
    with started(workers=2) as running:
        posting = [Posting(running) for _ in range(3)]
        with running.talk("a.test") as idle, running.talk("app.test") as slow:
            idle.asks(request("/", "a.test"))
            slow_number = slow.next()
            slow.says(headers(slow_number, request("/slow", "app.test")))
            for number in range(3):
                since = len(running.server.log)
                running.server.signal(signal.SIGHUP)
                running.server.await_log("serving on", since=since)
                if number:
                    continue
                # At once: whoever does not answer a PING in seconds is not waited for.
                ping = idle.hears(lambda one: type(one).__name__ == "PingFrame")
                assert [one.last_stream_id for one in idle.of("GoAwayFrame")] == [LARGEST]
                idle.says(frame(6, 1, 0, ping.opaque_data))
                idle.hears_the_end()
                assert [one.last_stream_id for one in idle.of("GoAwayFrame")] == [LARGEST, 1]
            PROCEED.set()
            slow.hears_end_of(slow_number)
            assert (slow.status(slow_number), slow.body(slow_number)) == (200, b"slow")
        for one in posting:
            one.busy.wait(60)
            one.stop()
        assert [one.failures for one in posting] == [[], [], []]
        assert sum(one.answered for one in posting) > 20


def test_http2_switched_off() -> None:
    with started("http2: off") as running:
        asked = running.curl("https://a.test/", "-w", " %{http_version}")
        assert asked.stdout == b"<p>hello\n 1.1"


def test_what_is_counted() -> None:
    (admin,) = free_ports(1)
    with started(f"admin: {{listen: 127.0.0.1:{admin}}}") as running:
        with running.talk() as talk:
            talk.asks(request("/", "a.test"))
            number = talk.next()
            talk.says(headers(number, request("/big", "a.test")), rst(number))
            talk.says(headers(99, GET))
            talk.hears_end_of(99)
            talk.says(data(0, b"x"))
            talk.hears_the_end()
        deadline = time.monotonic() + 60
        while True:
            asking = http.client.HTTPConnection("127.0.0.1", admin)
            asking.request("GET", "/metrics")
            text = asking.getresponse().read().decode()
            asking.close()
            if 'treehouse_http2_total{event="goaway PROTOCOL_ERROR"} 1.0' in text:
                break
            assert time.monotonic() < deadline, text
        assert 'treehouse_http2_total{event="connection"}' in text
        assert 'treehouse_http2_total{event="reset by client"}' in text
