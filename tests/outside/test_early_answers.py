"""Responses that come before an upload is over: the client gets them, whatever it does first."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.http.client import Talk, http, https
from support.program.ports import free_ports
from support.program.server import Server

pytestmark = pytest.mark.program

MIB = 1024 * 1024


def refuse(sock: socket.socket) -> None:
    """Answer as soon as the head is there, and close, as many apps do with what is too large."""
    with sock:
        head = b""
        while b"\r\n\r\n" not in head:
            head += sock.recv(65536)
        sock.sendall(
            b"HTTP/1.1 413 Too Large\r\nContent-Length: 9\r\nConnection: close\r\n\r\ntoo large"
        )


@pytest.fixture(scope="module")
def backend() -> Iterator[int]:
    listener = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=refuse, args=(sock,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


class Running:
    def __init__(self, server: Server, plain: int, secure: int, ca: Path) -> None:
        self.server, self.plain, self.secure, self.ca = server, plain, secure, ca

    def talk(self, over: str, host: str) -> Talk:
        return http(self.plain) if over == "plain" else https(self.secure, host, self.ca)


@pytest.fixture(scope="module")
def running(backend: int) -> Iterator[Running]:
    folder = Path(tempfile.mkdtemp(prefix="th-", dir="/var/tmp"))
    folder.chmod(0o755)
    plain, secure = free_ports(2)
    (folder / "www").mkdir()
    config = folder / "config.yaml"
    config.write_text(
        f"""
listen: {{http: ["127.0.0.1:{plain}"], https: ["127.0.0.1:{secure}"]}}
workers: 1
state: {folder / "state"}
limits: {{body_size: 64MiB}}
sites:
  - {{names: [files.test], root: {folder / "www"}}}
  - {{names: [app.test], backend: "http://127.0.0.1:{backend}"}}
"""
    )
    try:
        with Server(["--config", str(config)], folder) as server:
            for name in ("files.test", "app.test"):
                server.await_log(f"{name}: certificate obtained")
            yield Running(server, plain, secure, folder / "state/internal-ca/root.pem")
    finally:
        shutil.rmtree(folder)


CASES = {
    "a redirect": ("plain", "files.test", "/", 32 * MIB, 308),
    "a method that files do not take": ("secure", "files.test", "/", 32 * MIB, 405),
    "a body beyond the limit": ("secure", "files.test", "/", 65 * MIB, 413),
    "a backend that refuses": ("secure", "app.test", "/", 32 * MIB, 413),
}


# That chunks are too many is known only when they have come.
FRAMED = [(case, "length") for case in CASES] + [
    (case, "chunks") for case in CASES if case != "a body beyond the limit"
]


@pytest.mark.parametrize(("case", "framing"), FRAMED)
def test_whoever_sends_all_first_hears_it_as_well(
    running: Running, case: str, framing: str
) -> None:
    over, host, target, size, status = CASES[case]
    line = f"Content-Length: {size}" if framing == "length" else "Transfer-Encoding: chunked"
    piece = b"x" * MIB
    if framing == "chunks":
        piece = b"%x\r\n%b\r\n" % (MIB, piece)
    with running.talk(over, host) as talk:
        talk.says(f"POST {target} HTTP/1.1\r\nHost: {host}\r\n{line}\r\n\r\n".encode())
        for _ in range(size // MIB):
            talk.says(piece)
        if framing == "chunks":
            talk.says(b"0\r\n\r\n")
        answer = talk.hears()
        assert answer.status == status
        assert len(answer.body) == int(answer["content-length"])


@pytest.mark.parametrize("case", CASES)
def test_curl_hears_it(running: Running, case: str, tmp_path: Path) -> None:
    over, host, target, size, status = CASES[case]
    upload = tmp_path / "upload"
    with upload.open("wb") as file:
        file.truncate(size)
    scheme, port = ("http", running.plain) if over == "plain" else ("https", running.secure)
    done = subprocess.run(
        ["curl", "-sS", "--http1.1", "-o", "/dev/null", "-w", "%{http_code}", "-H", "Expect:",
         "--cacert", str(running.ca), "--connect-to", f"::127.0.0.1:{port}", "-X", "POST",
         "--data-binary", f"@{upload}", f"{scheme}://{host}:{port}{target}"],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert re.fullmatch(str(status), done.stdout), done.stderr
