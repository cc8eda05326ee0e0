"""`python -m benchmarks.floods`: how long ordinary requests take while others flood.

One worker on core 0; a client that asks for a small file every two milliseconds, and attackers that
send bodies of one-byte chunks as fast as they are taken, on core 1 (`nice`, because it is the server
that is measured, and not who gets that core). Attackers whose connection is ended come again.
It prints p50, p99 and the longest, in milliseconds, without attackers and with one and four.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import shutil
import socket
import ssl
import sys
import tempfile
import time
from pathlib import Path

from . import processes
from .peers import REPOSITORY

_HTTP, _HTTPS, _BACKEND = 18496, 18497, 18498
_HEAD = b"POST /up HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
_CHUNKS = b"1\r\nx\r\n" * 2700  # a TLS record full
_SECONDS = 6.0


def main() -> int:
    work = Path(tempfile.mkdtemp(prefix="th-floods-", dir="/var/tmp"))
    work.chmod(0o755)
    (work / "www").mkdir()
    (work / "www/small.txt").write_text("small\n")
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
            _connect(context).close()
            return context
        if time.monotonic() > deadline:
            raise TimeoutError("the server does not answer")
        time.sleep(0.1)


def _connect(context: ssl.SSLContext) -> ssl.SSLSocket:
    raw = socket.create_connection(("127.0.0.1", _HTTPS), timeout=10)
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return context.wrap_socket(raw, server_hostname="localhost")


def _measure(context: ssl.SSLContext, title: str) -> None:
    taken: list[float] = []
    end = time.monotonic() + _SECONDS
    with _connect(context) as sock:
        while time.monotonic() < end:
            begun = time.perf_counter()
            sock.sendall(b"GET /small.txt HTTP/1.1\r\nHost: localhost\r\n\r\n")
            if not sock.recv(4096).endswith(b"small\n"):
                raise ConnectionError("not the answer that was expected")
            taken.append((time.perf_counter() - begun) * 1e3)
            time.sleep(0.002)
    taken.sort()
    p50, p99 = taken[len(taken) // 2], taken[len(taken) * 99 // 100]
    print(
        f"{title}: {len(taken)} requests, p50 {p50:.1f}, p99 {p99:.1f}, longest {taken[-1]:.1f} ms"
    )


def _flood(context: ssl.SSLContext) -> None:
    os.nice(10)
    while True:
        with contextlib.suppress(OSError), _connect(context) as sock:
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
