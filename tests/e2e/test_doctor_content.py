"""The doctor at backends and document roots: each fault has its sentence, and the exit status says
that something is wrong."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from support.program.ports import free_ports
from support.program.server import treehouse

Conversation = Callable[[socket.socket], None]


@contextlib.contextmanager
def backend(talk: Conversation, listener: socket.socket) -> Iterator[None]:
    """Serve ``talk`` to every connection of the listener, until the end."""

    def serve() -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            with sock, contextlib.suppress(OSError):
                talk(sock)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(60)


def answering(text: bytes) -> Conversation:
    def talk(sock: socket.socket) -> None:
        sock.recv(65536)
        sock.sendall(text)

    return talk


def fastcgi(sock: socket.socket) -> None:
    """As php-fpm: what is no FastCGI is closed, and FCGI_GET_VALUES is answered."""
    asked = sock.recv(65536)
    if asked[:2] == b"\x01\x09":
        sock.sendall(b"\x01\x0a" + bytes(6))


def h2c(sock: socket.socket) -> None:
    """As a gRPC server: SETTINGS at once, whatever is asked."""
    sock.sendall(bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
    sock.recv(65536)


def tls(context: ssl.SSLContext) -> Conversation:
    def talk(sock: socket.socket) -> None:
        with context.wrap_socket(sock, server_side=True) as secured:
            secured.recv(65536)
            secured.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    return talk


@pytest.fixture
def examined(folder: Path) -> Callable[..., tuple[int, list[dict[str, Any]]]]:
    """Give the exit status and the findings for a configuration of one site."""

    def examine(site: str) -> tuple[int, list[dict[str, Any]]]:
        one, two = free_ports(2)
        config = folder / "config.yaml"
        config.write_text(
            f"listen: {{http: ['127.0.0.1:{one}'], https: ['127.0.0.1:{two}']}}\n"
            f"state: {folder / 'state'}\nsites:\n  - names: [localhost]\n    {site}\n"
        )
        done = treehouse("doctor", "--json", "--config", str(config))
        return done.returncode, json.loads(done.stdout)["findings"]

    return examine


def about(findings: list[dict[str, Any]], what: str) -> dict[str, Any]:
    (found,) = [one for one in findings if one["about"].startswith(what)]
    return found


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
ON_A_TLS_PORT = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Length: 60\r\n\r\n"
    b"<title>The plain HTTP request was sent to HTTPS port</title>"
)


@pytest.mark.parametrize(
    ("talk", "sign", "said"),
    [
        (answering(OK), "ok", "answers GET / with 200"),
        (answering(OK.replace(b"200 OK", b"500 Oops")), "wrong", "with 500"),
        (answering(OK.replace(b"200 OK", b"400 Bad")), "attention", "may not know the name"),
        (answering(b"220 mail.test ESMTP\r\n"), "wrong", "not HTTP/1.1"),
        (fastcgi, "wrong", "speaks FastCGI"),
        (h2c, "wrong", "speaks HTTP/2 only"),
    ],
    ids=["good", "500", "host", "smtp", "fastcgi", "h2c"],
)  # fmt: skip
def test_a_backend_over_tcp(
    examined: Callable[..., tuple[int, list[dict[str, Any]]]],
    talk: Conversation,
    sign: str,
    said: str,
) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    with backend(talk, listener):
        status, findings = examined(f"backend: http://127.0.0.1:{port}")
    found = about(findings, "backend")
    assert (found["sign"], said in found["text"]) == (sign, True), found
    assert status == (1 if sign == "wrong" else 0)


def test_tls_on_a_plain_port_and_a_certificate_that_is_not_believed(
    examined: Callable[..., tuple[int, list[dict[str, Any]]]],
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    with backend(tls(context), listener):
        status, findings = examined(f"backend: http://127.0.0.1:{port}")
        found = about(findings, "backend")
        assert (status, found["step"]) == (1, f"write https://127.0.0.1:{port}")
        status, findings = examined(f"backend: https://127.0.0.1:{port}")
        found = about(findings, "backend")
        assert status == 1
        assert "not believed" in found["text"]
        assert "backend_tls" in found["step"]


def test_nobody_listens(examined: Callable[..., tuple[int, list[dict[str, Any]]]]) -> None:
    (port,) = free_ports(1)
    status, findings = examined(f"backend: http://127.0.0.1:{port}")
    found = about(findings, "backend")
    assert (status, found["sign"]) == (1, "wrong")
    assert "connection refused" in found["text"]
    assert "needed by localhost" in found["text"]


def test_sockets_that_are_missing_or_closed_to_the_servers_user(
    examined: Callable[..., tuple[int, list[dict[str, Any]]]], folder: Path
) -> None:
    path = folder / "app.sock"
    _, findings = examined(f"backend: unix:{path}")
    assert "there is no socket" in about(findings, "backend")["text"]
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    os.chmod(path, 0o770)
    with backend(answering(OK), listener):
        status, findings = examined(f"backend: unix:{path}")
        found = about(findings, "configuration")  # the start would find it out as well
        assert (status, found["sign"]) == (1, "wrong")
        assert "uid 65534" in found["text"]
        os.chmod(path, 0o777)
        status, findings = examined(f"backend: unix:{path}")
        assert (status, about(findings, "backend")["sign"]) == (0, "ok")


def test_files_that_the_servers_user_may_not_read(
    examined: Callable[..., tuple[int, list[dict[str, Any]]]], folder: Path
) -> None:
    root = folder / "www"
    root.mkdir(mode=0o755)
    (root / "page.html").write_text("x")
    os.chmod(root / "page.html", 0o600)
    status, findings = examined(f"root: {root}")
    said = [one["text"] for one in findings if one["about"] == f"files {root}"]
    assert status == 0
    assert any("may not read 1 of its files" in one and "page.html" in one for one in said)
    assert any("no index.html" in one for one in said)
    os.chmod(root / "page.html", 0o644)
    (root / "index.html").write_text("x")
    os.chmod(root / "index.html", 0o644)
    _, findings = examined(f"root: {root}")
    assert about(findings, "files")["sign"] == "ok"
