"""Clients that see bytes: a socket, plain or over TLS, and one answer read from it."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass, field
from pathlib import Path

from proxy.transport import openssl


@dataclass
class Answer:
    status: int
    fields: list[tuple[str, str]]
    body: bytes
    head: bytes = b""
    interim: list[bytes] = field(default_factory=list)

    def __getitem__(self, name: str) -> str:
        """The only value of a field."""
        (value,) = [value for key, value in self.fields if key == name.lower()]
        return value

    def get(self, name: str) -> str | None:
        found = [value for key, value in self.fields if key == name.lower()]
        return found[0] if found else None


class Talk:
    """One connection. ``method`` matters for where an answer ends."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._held = b""

    def __enter__(self) -> Talk:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def __del__(self) -> None:
        self.sock.close()  # for a talk of one line

    def says(self, data: bytes) -> None:
        try:
            self.sock.sendall(data)
        except OSError:
            openssl.forget_error()  # or other talks of this thread would end by it
            raise

    def hears(self, method: str = "GET") -> Answer:
        """One whole final answer."""
        interim = []
        while True:
            head = self._until(b"\r\n\r\n")
            status = int(head.split(b" ", 2)[1])
            if status >= 200 or status == 101:
                break
            interim.append(head)
        fields = []
        for line in head.split(b"\r\n")[1:-2]:
            name, _, value = line.partition(b": ")
            fields.append((name.decode().lower(), value.decode("latin-1")))
        answer = Answer(status, fields, b"", head, interim)
        if method == "HEAD" or status in (101, 204, 304):
            return answer
        length = answer.get("content-length")
        if length is not None:
            answer.body = self._exactly(int(length))
        elif answer.get("transfer-encoding") == "chunked":
            while size := int(self._until(b"\r\n").split(b";")[0], 16):
                answer.body += self._exactly(size)
                self._exactly(2)
            while self._until(b"\r\n") != b"\r\n":
                pass
        else:
            answer.body = self.rest()
        return answer

    def rest(self) -> bytes:
        """Everything until the connection ends; a reset is an exception."""
        held, self._held = self._held, b""
        while piece := self.sock.recv(65536):
            held += piece
        return held

    def asks(
        self, target: str, host: str, method: str = "GET", fields: str = "", body: bytes = b""
    ) -> Answer:
        if body:
            fields += f"Content-Length: {len(body)}\r\n"
        self.says(
            f"{method} {target} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n".encode("latin-1") + body
        )
        return self.hears(method)

    def _until(self, mark: bytes) -> bytes:
        while mark not in self._held:
            self._more()
        end = self._held.index(mark) + len(mark)
        found, self._held = self._held[:end], self._held[end:]
        return found

    def _exactly(self, count: int) -> bytes:
        while len(self._held) < count:
            self._more()
        found, self._held = self._held[:count], self._held[count:]
        return found

    def _more(self) -> None:
        piece = self.sock.recv(65536)
        if not piece:
            raise ConnectionError(f"the connection ended after {self._held!r}")
        self._held += piece


def http(port: int, address: str = "127.0.0.1", timeout: float = 60.0) -> Talk:
    return Talk(socket.create_connection((address, port), timeout=timeout))


def context(ca: Path | bytes | None) -> ssl.SSLContext:
    """Trusting that CA only; None: whatever is shown."""
    if ca is None:
        made = ssl.create_default_context()
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
        return made
    return ssl.create_default_context(
        cadata=ca.decode() if isinstance(ca, bytes) else None,
        cafile=str(ca) if isinstance(ca, Path) else None,
    )


def https(
    port: int,
    name: str | None,
    ca: Path | bytes | None,
    address: str = "127.0.0.1",
    timeout: float = 60.0,
    session: ssl.SSLSession | None = None,
    using: ssl.SSLContext | None = None,
) -> Talk:
    made = using or context(ca)
    raw = socket.create_connection((address, port), timeout=timeout)
    try:
        return Talk(made.wrap_socket(raw, server_hostname=name, session=session))
    except BaseException:
        raw.close()
        raise
