"""Names in a ClientHello (SNI) as clients and scanners write them: each fails alone, and readably."""

from __future__ import annotations

import shutil
import socket
import ssl
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.http.client import https
from support.program.ports import free_ports
from support.program.server import Server

pytestmark = pytest.mark.program


def hello(name: bytes) -> bytes:
    """A ClientHello that asks for ``name``, which need not be one."""
    placeholder = b"x" * (len(name) - 5) + b".test"
    context = ssl.create_default_context()
    outgoing = ssl.MemoryBIO()
    tls = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=placeholder.decode())
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read().replace(placeholder, name)


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[Server, int, Path]]:
    folder = Path(tempfile.mkdtemp(prefix="th-", dir="/var/tmp"))
    folder.chmod(0o755)
    (folder / "www").mkdir()
    plain, secure = free_ports(2)
    config = folder / "config.yaml"
    config.write_text(
        f"""
listen: {{http: ["127.0.0.1:{plain}"], https: ["127.0.0.1:{secure}"]}}
workers: 1
state: {folder / "state"}
sites: [{{names: [a.test], root: {folder / "www"}}}]
"""
    )
    try:
        with Server(["--config", str(config)], folder) as server:
            server.await_log("a.test: certificate obtained")
            yield server, secure, folder / "state/internal-ca/root.pem"
    finally:
        shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        (b"typo-1.test", "no site is called typo-1.test,"),
        (b"A-2.TEST.", "no site is called A-2.TEST.,"),
        (b"\x1b[2J-3.test", r"no site is called \\x1b\[2J-3.test,"),
        (b"a b-4.test", r"no site is called a\\x20b-4.test,"),
        (b"b\xc3\xbccher.test", "the name that the client asks for is not ASCII"),
        (b"a\0b-5.test", "a TLS handshake of 127.0.0.1 failed: bad extension"),
    ],
)
def test_a_name_that_nobody_has(running: tuple[Server, int, Path], name: bytes, told: str) -> None:
    server, port, ca = running
    with socket.create_connection(("127.0.0.1", port), timeout=60) as raw:
        raw.sendall(hello(name))
        alert = raw.recv(7)
        assert alert[:1] == b"\x15", "an alert, and no reset"
        assert raw.recv(1) == b""
    server.await_log(told)
    assert not any("Traceback" in str(line) or "Exception" in str(line) for line in server.log)
    with https(port, "a.test", ca) as talk:
        assert talk.asks("/", "a.test").status == 404
