"""A connection as the protocols see it: read, write, a deadline, and three ways to end.

The contract alone; `tcp` and `tls_stream` keep it. What a stream never does: retry, buffer what it
read, interpret a byte, or know of a request. Every foreign exception (`OSError`, `ssl.SSLError`)
becomes `StreamBroken`; callers know whose fault that is.
"""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from typing import Protocol

READ_SIZE = 64 * 1024  # four TLS records; larger reads do not pay (measured on loopback)
# Bytes to read at once where the receiver is slower than the sender.
SMALL_READ = 16 * 1024


class StreamBroken(Exception):
    """The connection ended or failed in the middle; what it carried is not complete."""


class StreamTimeout(StreamBroken):
    """``deadline`` passed while waiting."""


class HandshakeRefused(StreamBroken):
    """We refused a TLS handshake, and the peer was told why by an alert (RFC 8446 §6.2)."""


# Is called with what has come (never b""), in the readiness callback; returns whether it has dealt
# with it.
OnData = Callable[[bytes], bool]
# Is called with what an `OnData` has not dealt with, b"" at the end, or an error.
Otherwise = Callable[["bytes | BaseException"], None]
# Is called with None when there is something to be read, or with what has ended the waiting.
OnReady = Callable[["StreamBroken | None"], None]
# Is called with what has come (b"" at the end), or with what has broken the stream.
Hears = Callable[[bytes | StreamBroken], None]


class Stream(Protocol):
    """One connection. At most one reader and one writer wait at a time.

    ``deadline`` (the worker's monotonic clock, seconds) bounds every wait; set it before waiting.
    ``awaits``, ``expire`` and ``fail`` are for `Deadlines`.
    """

    deadline: float

    @property
    def awaits(self) -> int: ...

    def expire(self) -> None: ...

    def fail(self) -> None: ...

    def read(self, limit: int = READ_SIZE, on_data: OnData | None = None) -> Awaitable[bytes]:
        """Read at least one byte, or b"" when the peer has ended its side properly. ``on_data`` is
        called first with what comes; only what it does not deal with is returned."""
        ...

    async def write(self, data: bytes | memoryview) -> None:
        """Send all of it; returns when the kernel has taken it (back-pressure)."""
        ...

    def write_now(self, data: bytes | memoryview) -> bytes | memoryview:
        """Send without waiting; returns what is left for `write`."""
        ...

    async def room(self) -> int:
        """Wait until the kernel would take more; returns how many bytes are worth fetching. So
        nothing is held in memory for a peer that has stopped reading."""
        ...

    def cork(self, on: bool) -> None:
        """Let only full segments leave, while more is sure to follow at once (TCP_CORK); when taken
        out, the rest leaves. Take it out before waiting for anybody."""
        ...

    async def send_eof(self) -> None:
        """End our side; the other may go on."""
        ...

    def close(self) -> None:
        """End both sides. Never blocks, may be called twice."""
        ...

    def abort(self) -> None:
        """End at once with a reset, so that the peer cannot take what it has for the whole."""
        ...


class ClientStream(Stream, Protocol):
    """A connection of a client's own, on which protocols are spoken."""

    def listen(self, on_data: OnData, otherwise: Otherwise) -> None:
        """Have ``on_data`` called with all that comes, each time in the readiness callback. What it
        does not deal with or raises, b"" at the end, or what has broken the stream is given to
        ``otherwise``, once, and nobody listens any more."""
        ...

    @property
    def reading(self) -> bool:
        """Whether a `read` is waiting, or somebody listens."""
        ...

    def unacknowledged(self) -> int:
        """Return how many bytes the kernel has taken that the peer's has not, our end of the
        connection among them as one; 0 where that cannot be known."""
        ...

    def interrupt(self, error: BaseException | None = None) -> None:
        """End the `read` that is waiting, as if the peer had ended its side, or with an error."""
        ...


def reason(error: Exception) -> str:
    """What an `OSError` or `ssl.SSLError` says, in a few words for a log."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate verify failed: {error.verify_message.rstrip('.')}"
    if isinstance(error, ssl.SSLWantWriteError):
        return "it does not read what it asks TLS for"
    if isinstance(error, ssl.SSLError):
        return (error.reason or "TLS failure").lower().replace("_", " ")
    return (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
