"""A backend that reads requests to the letter and keeps, byte for byte, whatever is not one.

It is the witness of the conformance tables: what a proxy lets through that it should not have shows
up here, as a message that nobody meant to send (`strays`), or as one that was begun and not ended.
Every message of a case has the case's tag in its target, so that no order of events matters. One
without a tag is a stray, and answered like any other; what is no well-formed request is `ill_formed`.

What the proxy adds of itself (Forwarded and its kin, CDN-Loop, X-Request-Id) is checked and left out, so
that a table can say what a client's bytes become and nothing else.
"""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Self

from ..program.ports import free_ports

HEAD_END = b"\r\n\r\n"
_OURS = {
    b"x-forwarded-for": re.compile(rb"127\.0\.0\.1"),
    b"x-forwarded-proto": re.compile(rb"https"),
    b"x-forwarded-host": re.compile(rb"[a-zA-Z.:0-9]+"),
    b"forwarded": re.compile(rb'for=127\.0\.0\.1;host="[a-zA-Z.:0-9]+";proto=https'),
    b"x-real-ip": re.compile(rb"127\.0\.0\.1"),
    b"cdn-loop": re.compile(rb"treehouse-[0-9a-f]{8}"),
    b"x-request-id": re.compile(rb"[A-Za-z0-9._=+/-]{1,128}"),
}
TAG = re.compile(rb"/@([0-9]+)@")


@dataclass(frozen=True)
class Says:
    """What a backend answers: pieces, each written by itself, and what it does then: it goes on to
    the next request (``keep``), ends (``close``), or breaks off (``reset``). ``early``: before it
    has read the body."""

    pieces: Iterable[bytes]
    then: str = "keep"
    early: bool = False


Script = Callable[[bytes, bytes], Says | None]  # of method and target; None: an echo


class Witness:
    """What strict backends of every version have in common: a thread for each connection, and the
    messages that were heard, by their tags. A subclass reads a connection to its end (`_converse`)."""

    def __init__(self, port: int = 0) -> None:
        # Not any port of the kernel's: a backend that dies must be able to come back.
        self.port = port or free_ports(1)[0]
        self._listener = socket.create_server(("127.0.0.1", self.port), backlog=256)
        self.whole: dict[int, list[bytes]] = defaultdict(list)
        self.begun: dict[int, list[bytes]] = defaultdict(list)
        self.strays: list[bytes] = []
        self.ill_formed: list[bytes] = []
        self._open: set[socket.socket] = set()
        self._saying: set[socket.socket] = set()  # a script has more to say there, or to do
        self._has_said = threading.Condition()
        self._over = False
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the listener and all its connections."""
        self._over = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for sock in list(self._open):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        self._thread.join()

    def await_said(self, within: float = 60.0) -> None:
        """Wait until scripts have said all they had to, and the connections are closed that were to
        be closed then. A client may have its answer before; what comes behind that, be it the end,
        would meet the next request on that connection, which no proxy can help."""
        with self._has_said:
            assert self._has_said.wait_for(lambda: not self._saying, within), "it speaks still"

    def _begins(self, sock: socket.socket) -> None:
        with self._has_said:
            self._saying.add(sock)

    def _has_done(self, sock: socket.socket) -> None:
        with self._has_said:
            self._saying.discard(sock)
            self._has_said.notify_all()

    def _accept(self) -> None:
        threads = []
        while not self._over:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                break
            self._open.add(sock)
            if self._over:  # `close` may have gone through those that are open before
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
            thread = threading.Thread(target=self._serve, args=(sock,))
            thread.start()
            threads.append(thread)
        for thread in threads:
            thread.join()

    def _serve(self, sock: socket.socket) -> None:
        try:
            self._converse(sock)
        except (OSError, EOFError):
            pass
        finally:
            self._open.discard(sock)
            sock.close()
            self._has_done(sock)

    def _converse(self, sock: socket.socket) -> None:
        raise NotImplementedError


class StrictBackend(Witness):
    def __init__(self, script: Script | None = None, port: int = 0) -> None:
        self._script = script or (lambda _method, _target: None)
        super().__init__(port)

    def _converse(self, sock: socket.socket) -> None:
        reader = _Reader(sock)
        while self._exchange(sock, reader):
            pass

    def _exchange(self, sock: socket.socket, reader: _Reader) -> bool:
        try:
            head = reader.until(HEAD_END, 1 << 20)
        except EOFError:
            if reader.held:
                self.ill_formed.append(reader.held)
            return False
        try:
            start, fields = _parsed(head)
        except ValueError:
            self.ill_formed.append(head)
            return False
        tagged = TAG.search(start)
        tag = int(tagged[1]) if tagged is not None else 0
        if tagged is None:
            self.strays.append(head)
        method, target, _ = start.split(b" ")
        kept = without_ours(start, fields)
        self.begun[tag].append(kept)
        says = self._script(method, target)
        if says is not None:
            self._begins(sock)
        if says is not None and says.early:
            self._say(sock, says)
        try:
            body, wire = _body(fields, reader)
        except ValueError as error:
            self.ill_formed.append(head + b" and a body with " + str(error).encode())
            return False
        self.whole[tag].append(kept + wire)
        if says is None:
            says = Says((echo(method, target, body),))
        if not says.early:
            self._say(sock, says)
        if says.then == "reset":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        if says.then == "keep":
            self._has_done(sock)
        return says.then == "keep"

    @staticmethod
    def _say(sock: socket.socket, says: Says) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in says.pieces:
            sock.sendall(piece)


def echo(method: bytes, target: bytes, body: bytes) -> bytes:
    """The answer that shows what was understood."""
    said = b"%b %b [%b]\n" % (method, target, body)
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(said)
    return head if method == b"HEAD" else head + said


class _Reader:
    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.held = b""

    def _more(self) -> None:
        piece = self._sock.recv(65536)
        if not piece:
            raise EOFError
        self.held += piece

    def until(self, mark: bytes, most: int) -> bytes:
        while mark not in self.held:
            if len(self.held) > most:
                raise ValueError("no end")
            self._more()
        end = self.held.index(mark) + len(mark)
        found, self.held = self.held[:end], self.held[end:]
        return found

    def exactly(self, count: int) -> bytes:
        while len(self.held) < count:
            self._more()
        found, self.held = self.held[:count], self.held[count:]
        return found


_START = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+ [\x21-\x7e]+ HTTP/1\.1")
_LINE = re.compile(rb"([a-z0-9!#$%&'*+.^_`|~-]+): ([\t\x20-\x7e\x80-\xff]*)")


def _parsed(head: bytes) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    """Start line and fields of a head in the one form in which the proxy writes them."""
    start, *lines = head[: -len(HEAD_END)].split(b"\r\n")
    if not _START.fullmatch(start):
        raise ValueError(start)
    fields = []
    for line in lines:
        match = _LINE.fullmatch(line)
        if match is None or match[2] != match[2].strip():
            raise ValueError(line)
        fields.append((match[1], match[2]))
    return start, fields


def without_ours(start: bytes, fields: list[tuple[bytes, bytes]]) -> bytes:
    """The head without what the proxy says of itself, each of it present once and as it should be;
    anything else stays, and makes a case fail."""
    left = dict(_OURS)
    kept = [start]
    for name, value in fields:
        wanted = left.get(name)
        if wanted is not None and wanted.fullmatch(value):
            del left[name]
        else:
            kept.append(b"%b: %b" % (name, value))
    kept += [b"(no %b)" % name for name in left]
    return b"\r\n".join(kept) + HEAD_END


def _body(fields: list[tuple[bytes, bytes]], reader: _Reader) -> tuple[bytes, bytes]:
    """The body, and its form on the wire with all chunks made one."""
    lengths = [value for name, value in fields if name == b"content-length"]
    codings = [value for name, value in fields if name == b"transfer-encoding"]
    if len(lengths) + len(codings) > 1:
        raise ValueError("two framings")
    if lengths:
        body = reader.exactly(int(lengths[0]))
        return body, body
    if not codings:
        return b"", b""
    if codings != [b"chunked"]:
        raise ValueError("another coding")
    body = b""
    while True:
        line = reader.until(b"\r\n", 20)[:-2]
        if not re.fullmatch(rb"[0-9a-f]{1,16}", line):
            raise ValueError(f"the chunk size {line!r}")
        size = int(line, 16)
        if not size:
            break
        body += reader.exactly(size)
        if reader.exactly(2) != b"\r\n":
            raise ValueError("a chunk that does not end")
    trailers = b""
    while (line := reader.until(b"\r\n", 8192)) != b"\r\n":
        trailers += line
    chunk = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
    return body, chunk + b"0\r\n" + trailers + b"\r\n"
