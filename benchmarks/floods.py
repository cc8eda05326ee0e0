"""`python -m benchmarks.floods`: how long ordinary requests take while others flood or download.

One worker on core 0; a client that asks for a small file every two milliseconds, and others on
core 1 (`nice`, because it is the server that is measured, and not who gets that core): attackers
that send bodies of one-byte chunks as fast as they are taken, and come again when their connection
is ended; and clients that download over HTTP/2 as fast as they can (h2load), on connections of
their own or on the very connection that the small file is asked for on.
It prints p50, p99 and the longest, in milliseconds.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import shutil
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from . import load, processes
from .peers import REPOSITORY

_HTTP, _HTTPS, _BACKEND = 18496, 18497, 18498
_HEAD = b"POST /up HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
_CHUNKS = b"1\r\nx\r\n" * 2700  # a TLS record full
_SECONDS = 6.0
_PAUSE = 0.002
# Preface, SETTINGS with the largest window for streams, and the same for the connection.
_HELLO = (
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    + struct.pack(">HBBBLHL", 0, 6, 4, 0, 0, 4, (1 << 31) - 1)
    + struct.pack(">HBBBLL", 0, 4, 8, 0, 0, (1 << 31) - 65536)
)


def main() -> int:
    work = Path(tempfile.mkdtemp(prefix="th-floods-", dir="/var/tmp"))
    work.chmod(0o755)
    (work / "www").mkdir()
    (work / "www/small.txt").write_text("small\n")
    with (work / "www/large.bin").open("wb") as large:
        large.truncate(8 << 30)
    (work / "config.yaml").write_text(
        f"""
listen: {{http: ["127.0.0.1:{_HTTP}"], https: ["127.0.0.1:{_HTTPS}"]}}
workers: 1
state: {work / "state"}
log: {{access: {work / "access.log"}}}
sites:
  - names: [localhost]
    routes:
      - {{path: /up, backend: "http://127.0.0.1:{_BACKEND}"}}
      - {{path: /*, root: {work / "www"}}}
"""
    )
    command = [sys.executable, "-m", "proxy", "--config", str(work / "config.yaml")]
    server = processes.start(command, "0", work / "server.log", REPOSITORY)
    os.sched_setaffinity(0, {1})
    backend = multiprocessing.Process(target=_swallow, daemon=True)
    backend.start()
    try:
        context = _await_server(work / "state/internal-ca/root.pem")
        _measure(context, "nobody else")
        _measure_http2(context, "nobody else, over HTTP/2", 0)
        for count in (1, 4):
            flooders = [
                multiprocessing.Process(target=_flood, args=(context,), daemon=True)
                for _ in range(count)
            ]
            for one in flooders:
                one.start()
            _measure(context, f"tiny chunks, {count} at it")
            for one in flooders:
                one.kill()
                one.join()
        with _downloads():
            _measure(context, "16 downloads over HTTP/2 on 4 connections, asked over HTTP/1.1")
            _measure_http2(context, "the same, asked over HTTP/2", 0)
        for count in (1, 8):
            _measure_http2(context, f"{count} downloads on its own connection", count)
    finally:
        backend.kill()
        processes.stop(server)
        shutil.rmtree(work)
    return 0


def _await_server(ca: Path) -> ssl.SSLContext:
    deadline = time.monotonic() + 30
    while True:
        with contextlib.suppress(OSError):
            context = ssl.create_default_context(cafile=str(ca))
            load.connect(context, _HTTPS).close()
            return context
        if time.monotonic() > deadline:
            raise TimeoutError("the server does not answer")
        time.sleep(0.1)


def _measure(context: ssl.SSLContext, title: str) -> None:
    taken: list[float] = []
    end = time.monotonic() + _SECONDS
    with load.connect(context, _HTTPS) as sock:
        while time.monotonic() < end:
            begun = time.perf_counter()
            sock.sendall(b"GET /small.txt HTTP/1.1\r\nHost: localhost\r\n\r\n")
            if not sock.recv(4096).endswith(b"small\n"):
                raise ConnectionError("not the answer that was expected")
            taken.append((time.perf_counter() - begun) * 1e3)
            time.sleep(_PAUSE)
    _say(title, taken)


def _say(title: str, taken: list[float], mib: float = 0.0) -> None:
    taken.sort()
    p50, p99 = taken[len(taken) // 2], taken[len(taken) * 99 // 100]
    beside = f", {mib / _SECONDS:.0f} MiB/s beside" if mib else ""
    print(
        f"{title}: {len(taken)} requests, p50 {p50:.1f}, p99 {p99:.1f}, longest {taken[-1]:.1f} ms{beside}"
    )


def _measure_http2(context: ssl.SSLContext, title: str, downloads: int) -> None:
    """``downloads`` are under way on the same connection; what comes of them is read at once."""
    using = ssl.create_default_context()
    using.load_verify_locations(cadata=b"".join(context.get_ca_certs(binary_form=True)))
    using.set_alpn_protocols(["h2"])
    taken: list[float] = []
    passed = 0
    with load.connect(using, _HTTPS) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
        sock.sendall(_HELLO)
        for stream in range(1, 2 * downloads, 2):
            sock.sendall(load.get_frame(stream, b"/large.bin"))
        held = bytearray()
        stream, asked, next_at = 2 * downloads - 1, 0.0, time.perf_counter()
        end = next_at + _SECONDS
        while (now := time.perf_counter()) < end or asked:
            if not asked and now >= next_at:
                stream += 2
                sock.sendall(load.get_frame(stream, b"/small.txt"))
                asked = time.perf_counter()
            sock.settimeout(10 if asked or downloads else max(next_at - now, 1e-4))
            try:
                held += sock.recv(65536)
            except TimeoutError:
                continue
            at = 0
            while len(held) - at >= 9:
                length = int.from_bytes(held[at : at + 3])
                if len(held) - at < 9 + length:
                    break
                kind, flags = held[at + 3], held[at + 4]
                if kind == 0 and flags & 1 and int.from_bytes(held[at + 5 : at + 9]) == stream:
                    moment = time.perf_counter()
                    taken.append((moment - asked) * 1e3)
                    asked, next_at = 0.0, moment + _PAUSE
                passed += length
                at += 9 + length
            del held[:at]
    _say(title, taken, passed / 2**20 if downloads else 0.0)


@contextlib.contextmanager
def _downloads() -> Iterator[None]:
    """Four connections with four streams each, until the end."""
    url = f"https://localhost:{_HTTPS}/large.bin"
    command = ["nice", "h2load", "-n1000000", "-c4", "-m4", "-w24", "-W26", url]
    loading = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        time.sleep(1)  # they are under way
        yield
    finally:
        loading.kill()
        loading.wait()


def _flood(context: ssl.SSLContext) -> None:
    os.nice(10)
    while True:
        with contextlib.suppress(OSError), load.connect(context, _HTTPS) as sock:
            sock.sendall(_HEAD)
            while True:
                sock.sendall(_CHUNKS)


def _swallow() -> None:
    """A backend that reads whatever comes, one connection after the other, and answers nothing."""
    with socket.create_server(("127.0.0.1", _BACKEND)) as listening:
        while True:
            sock, _ = listening.accept()
            with sock, contextlib.suppress(OSError):
                sock.settimeout(1)
                while sock.recv(65536):
                    pass


if __name__ == "__main__":
    sys.exit(main())
