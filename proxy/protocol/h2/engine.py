"""The contract of an HTTP/2 engine: bytes and time in, events and bytes out.

Two engines keep it: `session`, which is what serves, and `authority`, which is python-hyper's h2
behind the same calls, for those who would rather trust the reference (``--no-fast-lane``), and as
the oracle of the tests. One suite runs on both.

An engine does no I/O, keeps no bodies and starts nothing: whoever drives it reads the socket, feeds
`receive`, answers, and sends what `take` gives. It never sends DATA beyond a window; whoever drives
it asks `window` first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

from acme_client.late_dataclass import dataclass

from .events import Event
from .hpack import Field


class StreamGone(Exception):
    """The stream was reset meanwhile, or has ended on our side."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What we grant a peer. ``header_size`` counts names and values, as a head of HTTP/1.1 would;
    ``streams`` are those whose work has not ended. ``scheme`` is that of the connection."""

    header_size: int = 32 * 1024
    header_count: int = 100
    target_size: int = 8 * 1024
    streams: int = 128
    scheme: bytes = b"https"
    extended_connect: bool = False


class Engine(Protocol):
    """One connection. ``unsent``: bytes that `take` would give. ``active``: streams for which
    `release` is still to be called. ``highest``: the highest stream of which a `Head` was told.
    ``block_since``: since when a header block has been incomplete, in monotonic seconds.
    ``failed``: we have ended the connection for what the peer did."""

    active: int
    failed: bool
    highest: int
    block_since: float | None

    @property
    def unsent(self) -> int: ...

    def receive(self, data: bytes, now: float) -> Iterator[Event]:
        """What ``data`` says, event by event; the caller may answer each before it asks for the
        next. Raises `ConnectionFailed`, with GOAWAY already queued."""
        ...

    def head(
        self,
        stream: int,
        status: int,
        fields: list[Field],
        end: bool,
        block: bytes | None = None,
    ) -> None:
        """Send a response's head, or an interim one below 200. ``block`` are the same fields, made
        by `hpack.encode` once for many. Raises `StreamGone`, `ValueError` for a field that must not
        be sent."""
        ...

    def data(self, stream: int, piece: bytes | memoryview, end: bool) -> None:
        """At most `window` bytes. Raises `StreamGone`."""
        ...

    def whole(self, stream: int, block: bytes, body: bytes) -> None:
        """`head` with a block that the engine can take, and all of the body, within the window."""
        ...

    def trailers(self, stream: int, fields: list[Field]) -> None:
        """The end of a body, with fields. Raises `StreamGone`."""
        ...

    def reset(self, stream: int, code: int) -> None:
        """End the stream at once; nothing if it has ended."""
        ...

    def consumed(self, stream: int, count: int) -> None:
        """``count`` bytes of `Data` were taken: the peer may send as many more."""
        ...

    def release(self, stream: int) -> None:
        """The work on a request has ended, whatever became of its stream. Once for each `Head`.
        What was not `consumed` of its body is credited."""
        ...

    def window(self, stream: int) -> int:
        """How many bytes of DATA may be sent on the stream now; 0 where it is gone."""
        ...

    def is_open(self, stream: int) -> bool:
        """Whether an answer can still be sent on it."""
        ...

    def goaway(self, last: int, code: int) -> None:
        """Tell the peer that streams above ``last`` will not be taken; from now on they are not."""
        ...

    def ping(self, opaque: bytes) -> None:
        """Eight bytes, which come back as `Pong`."""
        ...

    def take(self) -> bytes:
        """Everything that waits to be sent."""
        ...

    def close(self) -> None:
        """The connection has ended: give back what was borrowed."""
        ...


def check_outgoing(fields: Iterable[Field]) -> None:
    """Raise `ValueError` for what would break a message apart behind an HTTP/1.1 reader
    (RFC 9113 §8.2.1, §10.3): whoever made it, it is refused and not repaired."""
    for name, value in fields:
        if not name or name != name.lower() or _breaks(name) or _breaks(value):
            raise ValueError(f"a field to be sent is malformed: {name[:32]!r}")


def _breaks(text: bytes) -> bool:
    return b"\r" in text or b"\n" in text or b"\0" in text
