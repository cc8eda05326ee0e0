"""A connection as the protocols see it: read, write, a deadline, and three ways to end.

TLS runs directly on the descriptor: a non-blocking `ssl.SSLSocket` that the event loop only tells
about readiness. That is simpler than the loop's own TLS transports, as fast as the best of them,
and lets a ClientHello be looked at before anything is decided.

What makes it cheap:

- Wait for readiness, then read. A read that fails with "want read" costs an exception and an
  OpenSSL error queue, more than the read itself.
- The reader is armed once and disarmed lazily, only when it fires while nobody waits. A kept-alive
  connection therefore costs no epoll_ctl per request.
- The read happens inside the readiness callback, so that a level-triggered selector does not fire
  twice for the same bytes.
- Deadlines are a float on the stream, looked at by one sweep per tick over all streams
  (`deadlines`), instead of a timer per wait.

What it never does: retry, buffer what it read, or interpret a byte. Every foreign exception
(`OSError`, `ssl.SSLError`) becomes `StreamBroken` here; callers know whose fault that is.
"""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from typing import Protocol

from .deadlines import NEVER, Deadlines
from .openssl import take_turns

READ_SIZE = 64 * 1024  # four TLS records; larger reads do not pay (measured on loopback)
# What is read at once for somebody who takes it more slowly than it comes.
SMALL_READ = 16 * 1024
# One read of OpenSSL's gives one record at most (RFC 8446 §5.1); a larger buffer is only allocated.
_RECORD = 16 * 1024


class StreamBroken(Exception):
    """The connection ended or failed in the middle; what it carried is not complete."""


class StreamTimeout(StreamBroken):
    """``deadline`` passed while waiting."""


# Is shown what has come, never b"", and says whether it has dealt with it.
Taker = Callable[[bytes], bool]


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

    def read(self, limit: int = READ_SIZE, taker: Taker | None = None) -> Awaitable[bytes]:
        """At least one byte, or b"" when the peer has ended its side properly. What comes is shown
        to ``taker`` first, where it arrives; only what that does not take is read."""
        ...

    async def write(self, data: bytes | memoryview) -> None:
        """Return when the kernel has taken all of it (back-pressure)."""
        ...

    def write_now(self, data: bytes | memoryview) -> bytes | memoryview:
        """Send without waiting; what is left goes to `write`."""
        ...

    async def room(self) -> int:
        """Return when the kernel would take more, with how many bytes are worth fetching for it: so
        that nothing is held in memory for a peer that has stopped reading."""
        ...

    def cork(self, on: bool) -> None:
        """While more is sure to follow at once: only full segments leave. Taken out, the rest does;
        what waits for somebody must not be held back by it."""
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


class SocketStream:
    """A plain TCP or unix connection on a non-blocking socket."""

    __slots__ = (
        "_abrupt",
        "_closed",
        "_corked",
        "_deadlines",
        "_failed",
        "_fd",
        "_limit",
        "_loop",
        "_reader_armed",
        "_reading",
        "_ready",
        "_room",
        "_sock",
        "_taker",
        "_watching",
        "_writing",
        "deadline",
        "stirred",
    )

    def __init__(
        self,
        sock: socket.socket,
        loop: asyncio.AbstractEventLoop,
        deadlines: Deadlines,
        client: bool = False,
    ) -> None:
        """``client``: the peer is one, and its leaving is to be heard of."""
        self._sock = sock
        self._fd = sock.fileno()
        self._loop = loop
        self._deadlines = deadlines
        self._reader_armed = False
        self._reading: asyncio.Future[bytes] | None = None
        self._writing: asyncio.Future[None] | None = None
        self._ready: asyncio.Future[None] | None = None
        self._room: select.poll | None = None
        self._limit = READ_SIZE
        self._taker: Taker | None = None
        self._closed = False
        self._failed = False
        self._abrupt = False
        self._watching = False
        self._corked = False
        self.deadline = NEVER
        self.stirred = False
        deadlines.add(self, self._fd, loop, client)

    # Reading

    def read(self, limit: int = READ_SIZE, taker: Taker | None = None) -> Awaitable[bytes]:
        # No coroutine: one would be made and entered for each request, only to wait for the future.
        waiter = self._loop.create_future()
        if self._closed:
            waiter.set_exception(StreamBroken("closed"))
            return waiter
        self._limit = limit
        self._taker = taker
        self._watching = False
        if self._failed:
            at_once = self._receive_now()
            if at_once is not None:
                waiter.set_result(at_once)
                return waiter
        self._reading = waiter
        if not self._reader_armed:
            self._reader_armed = True
            self._loop.add_reader(self._fd, self._on_readable)
        return waiter

    def read_now(self, limit: int) -> bytes | None:
        """What has come already; None when that is nothing, b"" at the end."""
        if self._closed:
            raise StreamBroken("closed")
        self._limit = limit
        self._watching = False
        return self._receive_now()

    def _on_readable(self) -> None:
        waiter = self._reading
        if waiter is None or waiter.done():
            ready = self._ready
            if ready is not None and not ready.done():
                ready.set_result(None)
                return
            if not (self._watching and self._nothing_came()):
                self._reader_armed = False
                self._loop.remove_reader(self._fd)
            return
        taker = self._taker
        while True:
            try:
                data = self._receive()
                if data is None:
                    return
                if taker is None or not data or not taker(data):
                    break
            except (OSError, ssl.SSLError) as error:
                self._reading = None
                waiter.set_exception(StreamBroken(_reason(error)))
                return
            except Exception as error:  # the taker's, for whoever reads and would wait for ever
                self._reading = None
                waiter.set_exception(error)
                return
            if self._closed or not self._failed:
                return  # the descriptor tells of more, unless it is in error
        self._reading = None  # it would keep what was read
        if not waiter.done():
            waiter.set_result(data)

    def _receive(self) -> bytes | None:
        """What is there now; None when it turned out that nothing was."""
        try:
            return self._sock.recv(self._limit)
        except (BlockingIOError, InterruptedError):
            return None

    def _receive_now(self) -> bytes | None:
        try:
            return self._receive()
        except (OSError, ssl.SSLError) as error:
            raise StreamBroken(_reason(error)) from None

    def fail(self) -> None:
        """The descriptor is in error, or both sides have ended: nobody needs to wait for it."""
        self._failed = True
        if self._watching:
            self.stirred = True
        for waiter in (self._reading, self._ready):
            if waiter is not None and not waiter.done():
                self._on_readable()
        self._on_writable()

    def watch(self) -> None:
        """Set ``stirred`` when anything comes, or the end, while nobody reads: for connections that
        are kept for later and must be silent meanwhile. The next `read` ends it."""
        self._watching = True
        self.stirred = self._failed
        if not self._reader_armed:
            self._reader_armed = True
            self._loop.add_reader(self._fd, self._on_readable)

    def _nothing_came(self) -> bool:
        """TLS has messages of its own (a session ticket), which are no stir."""
        try:
            self.stirred = self._receive() is not None
        except (OSError, ssl.SSLError):
            self.stirred = True
        return not self.stirred

    # Before the first read

    async def peek(self, count: int, least: int = 1) -> bytes:
        """The connection's first bytes, which stay where they are: ``least`` of them at least, or
        all there will be."""
        if least > 1:
            # Else what is there already would make the descriptor readable again and again.
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, least)
        waited = False
        try:
            while True:
                try:
                    # The ssl module forbids flags; below it the bytes are still anybody's.
                    data = socket.socket.recv(self._sock, count, socket.MSG_PEEK)
                    if len(data) >= least or not data or waited:
                        return data  # after a wait, less than asked for is all there will be
                except (BlockingIOError, InterruptedError):
                    pass
                except OSError as error:
                    raise StreamBroken(_reason(error)) from None
                await self._wait_readable()
                waited = True
        finally:
            if least > 1 and not self._closed:
                self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)

    def take_socket(self) -> socket.socket:
        """Give the plain socket up, which the caller now owns; before TLS, or anything, began."""
        self._closed = True
        self._deadlines.remove(self, self._fd)
        if self._reader_armed:
            self._reader_armed = False
            self._loop.remove_reader(self._fd)
        return socket.socket(fileno=self._sock.detach())

    async def _wait_readable(self) -> None:
        waiter = self._ready = self._loop.create_future()
        if not self._reader_armed:
            self._reader_armed = True
            self._loop.add_reader(self._fd, self._on_readable)
        try:
            await waiter
        finally:
            self._ready = None

    # Writing

    def write_now(self, data: bytes | memoryview) -> bytes | memoryview:
        """What the kernel does not take at once; `write` sends it in its own time."""
        if self._closed:
            raise StreamBroken("closed")
        try:
            sent = self._send(data)
        except (OSError, ssl.SSLError) as error:
            raise StreamBroken(_reason(error)) from None
        return b"" if sent == len(data) else memoryview(data)[sent:]

    async def write(self, data: bytes | memoryview) -> None:
        if self._closed:
            raise StreamBroken("closed")
        try:
            sent = self._send(data)
            if sent == len(data):
                return
            rest = memoryview(data)[sent:]
            while rest:
                await self._writable()
                rest = rest[self._send(rest) :]
        except (OSError, ssl.SSLError) as error:
            raise StreamBroken(_reason(error)) from None

    async def room(self) -> int:
        # The kernel calls a socket writable while a third of its buffer is free. One look costs a
        # microsecond, and what it saves is a whole piece per peer that has stopped reading.
        poll = self._room
        if poll is None:
            if self._closed:
                raise StreamBroken("closed")
            poll = self._room = select.poll()
            poll.register(self._fd, select.POLLOUT)
        if poll.poll(0):
            return READ_SIZE
        corked = self._corked
        self.cork(False)  # a rest that is held back would count against the room
        await self._writable()
        self.cork(corked)
        return SMALL_READ

    def cork(self, on: bool) -> None:
        if on is not self._corked and not self._closed:
            self._corked = on
            with contextlib.suppress(OSError):  # a unix socket has no segments
                self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, on)

    def _send(self, data: bytes | memoryview) -> int:
        try:
            return self._sock.send(data)
        except (BlockingIOError, InterruptedError):
            return 0

    async def _writable(self) -> None:
        if self._closed:
            raise StreamBroken("closed")
        waiter = self._writing = self._loop.create_future()
        self._loop.add_writer(self._fd, self._on_writable)
        try:
            await waiter
        finally:
            if self._writing is waiter:
                self._writing = None
                if not self._closed:
                    self._loop.remove_writer(self._fd)

    def _on_writable(self) -> None:
        waiter = self._writing
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    # Ending

    @property
    def awaits(self) -> int:
        """What the waiters wait for, as `select.poll` spells it."""
        events = 0
        for waiter in (self._reading, self._ready):
            if waiter is not None and not waiter.done():
                events |= select.POLLIN
        if self._writing is not None and not self._writing.done():
            events |= select.POLLOUT
        return events

    def expire(self) -> None:
        """Fail whoever waits; the sweep calls this after the deadline."""
        self._wake(StreamTimeout("deadline"))

    def _wake(self, error: StreamBroken) -> None:
        for waiter in (self._reading, self._writing, self._ready):
            if waiter is not None and not waiter.done():
                waiter.set_exception(error)

    async def send_eof(self) -> None:
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        # It knows this stream: until the garbage collector came to the circle, an ended connection
        # would keep its TLS object, some 20 KiB.
        self._taker = None
        if self._reader_armed:
            self._loop.remove_reader(self._fd)
        if self._writing is not None:
            self._loop.remove_writer(self._fd)
        self._deadlines.remove(self, self._fd)
        if not self._abrupt:
            self._farewell()
        self._sock.close()
        self._wake(StreamBroken("closed"))

    def _farewell(self) -> None:
        """What is said before the descriptor closes."""

    def abort(self) -> None:
        if self._closed:
            return
        with contextlib.suppress(OSError):
            # Linger of zero: the kernel drops what is queued and sends RST.
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._abrupt = True
        self.close()


class TlsStream(SocketStream):
    """The same over TLS. Make it, then await `handshake` before anything else.

    A FIN without close_notify counts as an end on sockets made with ``suppress_ragged_eofs=True``
    (the ssl module's default; browsers do that, and a request's framing never relies on it). A
    client of backends must make its sockets with False, because there a body may be framed by the
    end of the connection alone (RFC 9112 §9.8).
    """

    __slots__ = ("_decrypt", "_encrypt", "_more_decrypted")
    _sock: ssl.SSLSocket

    async def handshake(self) -> None:
        # What SSLSocket's methods come down to, without their checks, which this class has made
        # already: two frames for each read or write, as dear as parsing a field line, and for each
        # step of the handshake a system call that makes the socket non-blocking once more.
        inner = self._sock._sslobj  # type: ignore[attr-defined] # see above
        if inner is None:
            raise StreamBroken("the peer has gone")
        take_turns(inner)
        try:
            while True:
                try:
                    inner.do_handshake()
                    self._more_decrypted = True  # early bytes may have come with the handshake
                    self._decrypt: Callable[[int], bytes] = inner.read
                    self._encrypt: Callable[[bytes | memoryview], int] = inner.write
                    return
                except ssl.SSLWantReadError:
                    await self._wait_readable()
                except ssl.SSLWantWriteError:
                    await self._writable()
        except (OSError, ssl.SSLError) as error:
            raise StreamBroken(_reason(error)) from None

    def read(self, limit: int = READ_SIZE, taker: Taker | None = None) -> Awaitable[bytes]:
        if self._more_decrypted and not self._closed:
            # Bytes that OpenSSL has decrypted already do not make the descriptor readable.
            self._limit = limit
            data = self._receive_now() if self._sock.pending() else None
            if data is not None:
                waiter = self._loop.create_future()
                waiter.set_result(data)
                return waiter
        return SocketStream.read(self, limit, taker)

    def _receive(self) -> bytes | None:
        limit = self._limit
        try:
            if limit >= _RECORD:
                self._more_decrypted = False  # a record fits into it, so nothing stays behind
                return self._decrypt(_RECORD)
            self._more_decrypted = True
            return self._decrypt(limit)
        except ssl.SSLWantReadError:
            # A part of a record, or one of TLS's own (see `one_record`). Want-write is an error:
            # what TLS has to answer (a KeyUpdate, a refusal) finds no room, and the loop would spin
            # for a peer that asks without end and does not read.
            return None
        except ssl.SSLZeroReturnError:
            return b""
        except ssl.SSLEOFError:
            # A FIN without close_notify.
            if self._sock.suppress_ragged_eofs:  # type: ignore[attr-defined] # not in typeshed
                return b""
            raise

    def _send(self, data: bytes | memoryview) -> int:
        try:
            return self._encrypt(data)
        except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
            return 0

    async def send_eof(self) -> None:
        self._farewell()
        await super().send_eof()

    def _farewell(self) -> None:
        # One attempt at close_notify: unwrap() sends ours and then wants the peer's, which is not
        # waited for (RFC 8446 §6.1 lets us close at once).
        with contextlib.suppress(OSError, ssl.SSLError, ValueError):
            self._sock.unwrap()


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLWantWriteError):
        return "it does not read what it asks TLS for"
    if isinstance(error, ssl.SSLError):
        return (error.reason or "TLS failure").lower().replace("_", " ")
    return (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
