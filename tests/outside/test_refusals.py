"""What an operator finds of a refused request: an access line and, at debug, the rule."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.http.client import Talk, http, https
from support.program.ports import free_ports
from support.program.server import Server

pytestmark = pytest.mark.program


class Debugged:
    """A server that logs at debug."""

    def __init__(self, server: Server, plain: int, secure: int, ca: Path) -> None:
        self.server, self.plain, self.secure, self.ca = server, plain, secure, ca

    def talk(self) -> Talk:
        return https(self.secure, "a.test", self.ca)


@pytest.fixture(scope="module")
def debugged() -> Iterator[Debugged]:
    folder = Path(tempfile.mkdtemp(prefix="th-", dir="/var/tmp"))
    folder.chmod(0o755)
    (folder / "www").mkdir()
    (folder / "www" / "index.html").write_text("index\n")
    plain, secure = free_ports(2)
    config = folder / "config.yaml"
    config.write_text(
        f"""
listen: {{http: ["127.0.0.1:{plain}"], https: ["127.0.0.1:{secure}"]}}
workers: 1
state: {folder / "state"}
log: {{level: debug}}
limits: {{header_timeout: 1s}}
sites: [{{names: [a.test], root: {folder / "www"}}}]
"""
    )
    try:
        with Server(["--config", str(config)], folder) as server:
            server.await_log("a.test: certificate obtained")
            yield Debugged(server, plain, secure, folder / "state/internal-ca/root.pem")
    finally:
        shutil.rmtree(folder)


HOST = b"\r\nHost: a.test\r\n\r\n"


@pytest.mark.parametrize(
    ("says", "status", "read", "rule"),
    [
        (b"GET /1\xc3\xbc HTTP/1.1" + HOST, 400, ("GET", "/1\u00c3\u00bc", "a.test"), "bytes that a URL"),
        (b"get /2 HTTP/1.1" + HOST, 400, ("get", "/2", "a.test"), "lower-case letters"),
        (b"GET /3 HTTP/1.1\r\nHost : a.test\r\n\r\n", 400, ("GET", "/3", "a.test"), "before its colon"),
        (b"GET /4 HTTP/1.1\nHost: a.test\n\n", 400, ("GET", "/4", "a.test"), "CR or LF alone"),
        (b"GET /5 HTTP/1.1\r\nHost: a.test\r\nHost: b.test\r\n\r\n", 400, ("GET", "/5", "a.test"), "2 Host fields"),
        (b"POST /6 HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501,
         ("POST", "/6", "a.test"), "gzip, chunked"),
        (b"POST /7 HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1, 1\r\n\r\n", 400,
         ("POST", "/7", "a.test"), "Content-Length"),
        (b"GET /8 HTTP/1.1\r\nHost: a.test\r\n" + b"X: " + b"x" * 40_000, 431, ("GET", "/8", "a.test"), "limits.header_size"),
        (b"GET /9 HTTP/1.1\r\nHost: a.test\r\nX: y", 408, ("GET", "/9", "a.test"), "did not arrive in time"),
        (b"GET /10 HTTP/3.0" + HOST, 505, ("GET", "/10", "a.test"), "HTTP/3.0"),
        (b"GET /11 HTTP/1.1\r\nHost: b.test\r\n\r\n", 421, ("GET", "/11", "b.test"), "whose certificate is for a.test"),
        (b"TRACE /12 HTTP/1.1" + HOST, 405, ("TRACE", "/12", "a.test"), "TRACE is never served"),
        (b"GET /13 HTTP/1.1\r\nHost: a.test\r\nExpect: 200-ok\r\n\r\n", 417, ("GET", "/13", "a.test"), "200-ok"),
        (b"GET /14%00 HTTP/1.1" + HOST, 400, ("GET", "/14%00", "a.test"), "%00|NUL"),
        (b"GET /" + b"15" * 5000 + b" HTTP/1.1" + HOST, 414, ("GET", ("/" + "15" * 2048)[:4096], "a.test"), "limits.target_size"),
    ],
)  # fmt: skip
def test_a_refused_request_can_be_traced(
    debugged: Debugged, says: bytes, status: int, read: tuple[str, str, str], rule: str
) -> None:
    with debugged.talk() as talk:
        talk.says(says)
        assert talk.hears().status == status
    line = debugged.server.await_access(target=read[1])
    assert (line["method"], line["target"], line["host"]) == read
    assert line["status"] == status
    debugged.server.await_log(rf"127\.0\.0\.1: refused \({line['error']}\): .*{rule}")


def test_plain_http_on_the_port_of_https_can_be_traced(debugged: Debugged) -> None:
    with http(debugged.secure) as talk:
        talk.says(b"GET /plain HTTP/1.1" + HOST)
        assert talk.hears().status == 400
    line = debugged.server.await_access(target="/plain")
    assert (line["host"], line["error"]) == ("a.test", "plain_on_tls")
