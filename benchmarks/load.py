"""The load: wrk and h2load for requests, and clients of our own for what those cannot do (resumed
handshakes, connections that idle, a browser's habits over HTTP/2)."""

from __future__ import annotations

import json
import os
import re
import socket
import ssl
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .peers import REPOSITORY, Peer

_UNITS = {"us": 1.0, "ms": 1e3, "s": 1e6}
_HEAD = b"GET %b HTTP/1.1\r\nHost: localhost\r\nUser-Agent: bench\r\nConnection: %b\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Load:
    """What one run of load did. ``errors`` are answers that were not 2xx or 3xx, and broken
    connections; p50 and p99 are microseconds."""

    requests: int
    seconds: float
    mib: float
    errors: int
    p50: float = 0.0
    p99: float = 0.0


def wrk(
    url: str,
    script: Path,
    core: str,
    seconds: float,
    connections: int,
    threads: int = 1,
) -> Load:
    done = subprocess.run(
        ["taskset", "-c", core, "wrk", f"-t{threads}", f"-c{connections}", f"-d{seconds}s",
         "--latency", "-s", str(script), url],
        capture_output=True, text=True, check=True, timeout=seconds + 60,
    )  # fmt: skip
    return _parse(done.stdout)


def h2load(
    url: str,
    fields: tuple[str, ...],
    core: str,
    seconds: float,
    connections: int,
    streams: int,
    body: Path | None = None,
) -> Load:
    """Over HTTP/2 (nghttp2's h2load); each connection asks again as soon as a stream has ended.
    ``body``: a file that is sent with each request."""
    given = [word for field in fields for word in ("-H", field)]
    given += ["-d", str(body)] if body is not None else []
    done = subprocess.run(
        ["taskset", "-c", core, "h2load", f"-D{seconds:g}", f"-c{connections}", f"-m{streams}",
         "-w24", "-W26", *given, url],
        capture_output=True, text=True, check=True, timeout=seconds + 60,
    )  # fmt: skip
    text = done.stdout
    counts = re.search(r"(\d+) succeeded, (\d+) failed, (\d+) errored", text)
    read = re.search(r"traffic: [\d.]+\w+ \((\d+)\) total", text)
    taken = re.search(r"time for request:\s+\S+\s+\S+\s+([\d.]+)(us|ms|s)", text)
    if counts is None or read is None:
        raise ValueError(f"h2load said: {text}")
    mean = float(taken[1]) * _UNITS[taken[2]] if taken else 0.0
    errors = int(counts[2]) + int(counts[3])
    return Load(int(counts[1]), seconds, int(read[1]) / 2**20, errors, mean, 0.0)


def browser_http2(
    peer: Peer,
    ca: Path,
    path: str,
    core: str,
    seconds: float,
    connections: int,
    streams: int,
    new_cookie_every: int,
    before: Callable[[], None],
) -> Load:
    """See `h2_client`; ``before`` is called when its preparations are over."""
    words = [peer.port, ca, path, seconds, connections, streams, new_cookie_every]
    with subprocess.Popen(
        ["taskset", "-c", core, sys.executable, "-m", "benchmarks.h2_client", *map(str, words)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY,
    ) as client:  # fmt: skip
        assert client.stdout is not None
        client.stdout.readline()
        before()
        told, _ = client.communicate("go\n", timeout=seconds + 60)
    done = json.loads(told)
    return Load(done["requests"], seconds, done["bytes"] / 2**20, done["errors"])


def offer_one_cipher(work: Path) -> None:
    """All clients offer one cipher only, so that every server uses the same.

    `ssl` cannot say so for TLS 1.3, and OpenSSL reads its configuration when it is loaded: so this
    program is executed anew, once. The servers are started without it (`processes.start`).
    """
    path = work / "openssl.cnf"
    if os.environ.get("OPENSSL_CONF") == str(path):
        return
    path.write_text(
        "openssl_conf = a\n[a]\nssl_conf = b\n[b]\nsystem_default = c\n[c]\n"
        "Ciphersuites = TLS_AES_128_GCM_SHA256\n"
    )
    environment = dict(os.environ, OPENSSL_CONF=str(path))
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


def _parse(text: str) -> Load:
    def found(pattern: str, default: str = "0") -> str:
        match = re.search(pattern, text)
        return match[1] if match else default

    def micros(percent: str) -> float:
        match = re.search(rf"{percent}%\s+([\d.]+)(us|ms|s)", text)
        return float(match[1]) * _UNITS[match[2]] if match else 0.0

    read = re.search(r"requests in ([\d.]+)(ms|s|m), ([\d.]+)(B|KB|MB|GB) read", text)
    if read is None:
        raise ValueError(f"wrk said: {text}")
    seconds = float(read[1]) * {"ms": 1e-3, "s": 1.0, "m": 60.0}[read[2]]
    mib = float(read[3]) * {"B": 2**-20, "KB": 2**-10, "MB": 1.0, "GB": 1024.0}[read[4]]
    broken = re.search(
        r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text
    )
    errors = int(found(r"Non-2xx or 3xx responses: (\d+)"))
    errors += sum(map(int, broken.groups())) if broken else 0
    return Load(int(found(r"(\d+) requests in")), seconds, mib, errors, micros("50"), micros("99"))


def client_context(ca: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(ca))
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols(["http/1.1"])
    return context


def connect(
    context: ssl.SSLContext,
    port: int,
    name: str = "localhost",
    session: ssl.SSLSession | None = None,
) -> ssl.SSLSocket:
    """A connection to a server on this machine, on which nothing has been asked."""
    raw = socket.create_connection(("127.0.0.1", port), timeout=10)
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return context.wrap_socket(raw, server_hostname=name, session=session)


def _hear(sock: ssl.SSLSocket) -> None:
    """Read until the 100 bytes of a peer's ``probe`` have come."""
    heard = b""
    while not heard.endswith(b"x" * 100):
        piece = sock.recv(65536)
        if not piece:
            raise ConnectionError("the server ended before its answer")
        heard += piece


def ask(
    context: ssl.SSLContext, peer: Peer, session: ssl.SSLSession | None = None
) -> ssl.SSLSocket:
    """A connection on which one request has been answered; it stays open."""
    sock = connect(context, peer.port, session=session)
    sock.sendall(_HEAD % (peer.probe, b"keep-alive"))
    _hear(sock)
    return sock


def handshakes(ca: Path, peer: Peer, seconds: float, resume: bool) -> Load:
    """One connection, one request, and again; with the ticket of the connection before, or none."""
    context = client_context(ca)
    session = None
    errors = 0
    taken: list[float] = []  # microseconds to the answer of each
    begun = now = time.monotonic()
    while now < begun + seconds:
        with ask(context, peer, session) as sock:
            before, now = now, time.monotonic()
            taken.append((now - before) * 1e6)
            if resume:
                errors += int(session is not None and not sock.session_reused)
                session = sock.session
    taken.sort()
    count = len(taken)
    p50, p99 = taken[count // 2], taken[count * 99 // 100]
    return Load(count, now - begun, 0.0, errors, p50, p99)


def idle_connections(ca: Path, peer: Peer, count: int, http2: bool = False) -> list[ssl.SSLSocket]:
    """Each has had one answer. ``http2``: they speak it."""
    context = client_context(ca)
    if http2:
        context.set_alpn_protocols(["h2"])
    return [(ask_http2 if http2 else ask)(context, peer) for _ in range(count)]


def ask_http2(context: ssl.SSLContext, peer: Peer) -> ssl.SSLSocket:
    """`ask` over HTTP/2: a connection on which one request has been answered; it stays open."""
    sock = connect(context, peer.port)
    sock.sendall(
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
        + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
        + get_frame(1, peer.probe)
        + bytes([0, 0, 0, 4, 1, 0, 0, 0, 0])  # the acknowledgement of the server's
    )
    _hear(sock)
    return sock


def get_frame(stream: int, path: bytes) -> bytes:
    """HEADERS of a GET over HTTP/2, without a table (RFC 7541 §6.1, §6.2.2)."""
    block = b"\x82\x87\x01\x09localhost\x04" + bytes([len(path)]) + path
    return struct.pack(">HBBBL", 0, len(block), 1, 5, stream) + block
