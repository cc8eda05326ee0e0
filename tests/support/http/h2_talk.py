"""A client of HTTP/2 that sees frames, over a real TLS connection to the real program."""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections.abc import Callable
from pathlib import Path

from hyperframe.frame import DataFrame, Frame, GoAwayFrame, RstStreamFrame

from support.h2_peer import HELLO, Fields, Sent, headers, window_update
from support.http.client import context


def h2_context(ca: Path | None) -> ssl.SSLContext:
    made = context(ca)
    made.set_alpn_protocols(["h2"])
    return made


def _connected(
    address: tuple[str, int],
    name: str,
    using: ssl.SSLContext,
    before: bytes,
    hello: bytes,
    within: float,
) -> ssl.SSLSocket:
    """A connection on which ``hello`` has been said. One that comes to nothing is closed: left to the
    garbage collector, it would be a warning in whichever test that comes by."""
    with contextlib.ExitStack() as stack:
        raw = stack.enter_context(socket.create_connection(address, timeout=within))
        raw.sendall(before)
        made = stack.enter_context(using.wrap_socket(raw, server_hostname=name))
        assert made.selected_alpn_protocol() == "h2"
        made.sendall(hello)
        stack.pop_all()
    return made


def request(path: str, host: str, *more: tuple[bytes, bytes], method: bytes = b"GET") -> Fields:
    return [
        (b":method", method),
        (b":scheme", b"https"),
        (b":authority", host.encode()),
        (b":path", path.encode()),
        *more,
    ]


class NotTaken(Exception):
    """The server's GOAWAY has named a stream before this one as the last that it took: the request may
    be sent again on another connection (RFC 9113 §6.8)."""


class H2Talk:
    """One connection. ``frames`` are all that have been heard; what is heard is credited."""

    def __init__(
        self,
        port: int,
        name: str,
        using: ssl.SSLContext,
        *,
        hello: bytes = HELLO,
        address: str = "127.0.0.1",
        before: bytes = b"",
        within: float = 60.0,
    ) -> None:
        """``before``: sent ahead of TLS (a PROXY header)."""
        self.sock = _connected((address, port), name, using, before, hello, within)
        self.frames: list[Frame] = []
        self.ended = False
        self.credits = True
        self._sent = Sent()
        self._sent.decoder.max_allowed_table_size = 1 << 32  # a test may have said so
        self._heads: dict[int, list[Fields]] = {}
        self._bodies: dict[int, list[bytes]] = {}
        self._within = within
        self._number = -1

    def __enter__(self) -> H2Talk:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def close(self) -> None:
        self.sock.close()

    def says(self, *pieces: bytes) -> None:
        self.sock.sendall(b"".join(pieces))

    def next(self) -> int:
        """The number of a new stream."""
        self._number += 2
        return self._number

    def hears(self, fits: Callable[[Frame], bool]) -> Frame:
        seen = 0
        deadline = time.monotonic() + self._within
        while True:
            for one in self.frames[seen:]:
                if fits(one):
                    return one
            seen = len(self.frames)
            assert time.monotonic() < deadline, f"only {self.frames} came"
            assert not self.ended, f"it ended after {self.frames}"
            self.more()

    def more(self) -> None:
        """What comes next."""
        try:
            data = self.sock.recv(65536)
        except (ConnectionResetError, ssl.SSLEOFError, BrokenPipeError):
            data = b""
        if not data:
            self.ended = True
            return
        for one in self._sent.read(data):
            self.frames.append(one)
            kind = type(one).__name__
            if kind == "HeadersFrame":
                self._heads.setdefault(one.stream_id, []).append(self._sent.fields(one))
            elif kind == "DataFrame":
                self._bodies.setdefault(one.stream_id, []).append(one.data)
                if self.credits and one.data and not self.ended:
                    self._credit(one)

    def _credit(self, one: DataFrame) -> None:
        """Whoever has ended does not need it, and what he has said before is still to be read."""
        pieces = [window_update(0, len(one.data))]
        if "END_STREAM" not in one.flags:
            pieces.append(window_update(one.stream_id, len(one.data)))
        with contextlib.suppress(OSError):
            self.says(*pieces)

    def hears_end_of(self, stream: int) -> None:
        """Raises `NotTaken`."""

        def fits(one: Frame) -> bool:
            if isinstance(one, GoAwayFrame) and one.last_stream_id < stream:
                raise NotTaken(f"stream {stream} is behind {one}")
            return one.stream_id == stream and (
                "END_STREAM" in one.flags or isinstance(one, RstStreamFrame)
            )

        self.hears(fits)

    def hears_the_end(self) -> None:
        while not self.ended:
            self.more()

    def asks(self, fields: Fields, *more: bytes, stream: int | None = None) -> int:
        """Ask, wait for the answer's end; the stream's number. Raises `NotTaken`."""
        number = self.next() if stream is None else stream
        self.says(headers(number, fields, end=not more), *more)
        self.hears_end_of(number)
        return number

    def heads(self, stream: int) -> list[Fields]:
        return self._heads.get(stream, [])

    def status(self, stream: int) -> int:
        """Of the last head, which trailers are not; 0 without one."""
        told = [fields[0][1] for fields in self.heads(stream) if fields[0][0] == b":status"]
        return int(told[-1]) if told else 0

    def fields(self, stream: int) -> dict[bytes, bytes]:
        return dict(self.heads(stream)[-1])

    def body(self, stream: int) -> bytes:
        return b"".join(self._bodies.get(stream, []))

    def forget(self, stream: int) -> None:
        """What was heard on it is not needed any more."""
        self._heads.pop(stream, None)
        self._bodies.pop(stream, None)

    def forget_all(self) -> None:
        """Nothing that was heard is needed any more, but that the connection ends."""
        self.frames = self.of("GoAwayFrame")
        self._heads.clear()
        self._bodies.clear()

    def of(self, name: str, stream: int | None = None) -> list[Frame]:
        return [
            one
            for one in self.frames
            if type(one).__name__ == name and stream in (None, one.stream_id)
        ]

    def reset_with(self, stream: int) -> int | None:
        found = self.of("RstStreamFrame", stream)
        return found[-1].error_code if found else None

    @property
    def goaways(self) -> list[int]:
        return [one.error_code for one in self.of("GoAwayFrame")]
