"""A stream over a plain TCP or unix connection, and what TLS streams have in common with it.

It is a non-blocking socket that the event loop only tells about readiness. What makes it cheap:

- Wait for readiness, then read. A read that fails with "want read" costs an exception (and an
  OpenSSL error queue), more than the read itself.
- The reader is armed once and disarmed lazily, only when it fires while nobody waits. A kept-alive
  connection therefore costs no epoll_ctl per request.
- The read happens inside the readiness callback, so that a level-triggered selector does not fire
  twice for the same bytes.
- Deadlines are a float on the stream, looked at by one sweep per tick over all streams
  (`deadlines`), instead of a timer per wait.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import select
import socket
import ssl
import struct
from collections.abc import Awaitable

from .deadlines import NEVER, Deadlines
from .stream import READ_SIZE, SMALL_READ, Hears, OnData, StreamBroken, StreamTimeout, reason


class SocketStream:
    """A plain TCP or unix connection on a non-blocking socket."""

    __slots__ = (
        "_abrupt",
        "_closed",
        "_corked",
        "_deadlines",
        "_failed",
        "_fd",
        "_hears",
        "_limit",
        "_loop",
        "_on_data",
        "_reader_armed",
        "_reading",
        "_ready",
        "_room",
        "_sock",
        "_watching",
        "_writing",
        "became_readable",
        "deadline",
    )

    def __init__(
        self,
        sock: socket.socket,
        loop: asyncio.AbstractEventLoop,
        deadlines: Deadlines,
        client: bool = False,
    ) -> None:
        """``client``: the peer is a client, and `Deadlines` is to tell when it leaves."""
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
        self._on_data: OnData | None = None
        self._hears: Hears | None = None
        self._closed = False
        self._failed = False
        self._abrupt = False
        self._watching = False
        self._corked = False
        self.deadline = NEVER
        self.became_readable = False
        deadlines.add(self, self._fd, loop, client)

    # Reading

    def read(self, limit: int = READ_SIZE, on_data: OnData | None = None) -> Awaitable[bytes]:
        # Not a coroutine: making and entering one for each request, only to wait for the future,
        # would cost more than the rest.
        waiter = self._loop.create_future()
        if self._closed:
            waiter.set_exception(StreamBroken("closed"))
            return waiter
        self._limit = limit
        self._on_data = on_data
        self._watching = False
        self._hears = None
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

    def hear(self, hears: Hears) -> bool:
        """Have ``hears`` called with what comes next, or with what has broken the stream: once, in
        the readiness callback. A `read` takes its place. False where somebody must `read`."""
        if self._closed or self._failed:
            return False
        self._limit = READ_SIZE
        self._watching = False
        self._hears = hears
        if not self._reader_armed:
            self._reader_armed = True
            self._loop.add_reader(self._fd, self._on_readable)
        return True

    def _tell(self, hears: Hears) -> None:
        """Tell who hears what has come."""
        said: bytes | StreamBroken | None
        try:
            said = self._receive()
        except (OSError, ssl.SSLError) as error:
            said = StreamBroken(reason(error))
        if said is not None:
            self._hears = None
            hears(said)

    @property
    def reading(self) -> bool:
        """Whether a `read` is waiting."""
        return self._reading is not None and not self._reading.done()

    def interrupt(self, error: Exception | None = None) -> None:
        """End the `read` that is waiting, as if the peer had ended its side, or with an error."""
        waiter, self._reading = self._reading, None
        if waiter is not None and not waiter.done():
            if error is None:
                waiter.set_result(b"")
            else:
                waiter.set_exception(error)

    def read_now(self, limit: int) -> bytes | None:
        """Return what has come already; None when nothing has, b"" at the end."""
        if self._closed:
            raise StreamBroken("closed")
        self._limit = limit
        self._watching = False
        return self._receive_now()

    def _on_readable(self) -> None:
        waiter = self._reading
        if waiter is None or waiter.done():
            if self._hears is not None:
                self._tell(self._hears)
                return
            ready = self._ready
            if ready is not None and not ready.done():
                ready.set_result(None)
                return
            if not (self._watching and self._nothing_came()):
                self._reader_armed = False
                self._loop.remove_reader(self._fd)
            return
        on_data = self._on_data
        while True:
            try:
                data = self._receive()
                if data is None:
                    return
                if on_data is None or not data or not on_data(data):
                    break
            except (OSError, ssl.SSLError) as error:
                self._reading = None
                waiter.set_exception(StreamBroken(reason(error)))
                return
            except Exception as error:  # the on_data's, for whoever reads and would wait for ever
                self._reading = None
                waiter.set_exception(error)
                return
            if self._closed or not self._failed:
                return  # the descriptor tells of more, unless it is in error
        self._reading = None  # it would keep what was read
        if not waiter.done():
            waiter.set_result(data)

    def _receive(self) -> bytes | None:
        """Return what is there now; None when it turns out that nothing is."""
        try:
            return self._sock.recv(self._limit)
        except (BlockingIOError, InterruptedError):
            return None

    def _receive_now(self) -> bytes | None:
        try:
            return self._receive()
        except (OSError, ssl.SSLError) as error:
            raise StreamBroken(reason(error)) from None

    def fail(self) -> None:
        """Wake whoever waits: the descriptor is in error, or both sides have ended."""
        self._failed = True
        if self._watching:
            self.became_readable = True
        for waiter in (self._reading, self._ready):
            if waiter is not None and not waiter.done():
                self._on_readable()
        if self._hears is not None:
            self._on_readable()
        self._on_writable()

    def watch_idle(self) -> None:
        """Set ``became_readable`` when anything comes, or the end, while nobody reads. For
        connections that are kept for later and must be silent meanwhile. The next `read` ends it.
        """
        self._watching = True
        self.became_readable = self._failed
        if not self._reader_armed:
            self._reader_armed = True
            self._loop.add_reader(self._fd, self._on_readable)

    def _nothing_came(self) -> bool:
        """Whether the descriptor was readable for nothing: TLS has messages of its own."""
        try:
            self.became_readable = self._receive() is not None
        except (OSError, ssl.SSLError):
            self.became_readable = True
        return not self.became_readable

    # Before the first read

    async def peek(self, count: int, least: int = 1) -> bytes:
        """Return the connection's first bytes, which stay where they are: ``least`` of them at
        least, or all there will be."""
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
                    raise StreamBroken(reason(error)) from None
                await self._wait_readable()
                waited = True
        finally:
            if least > 1 and not self._closed:
                self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)

    def take_socket(self) -> socket.socket:
        """Give up the plain socket, which the caller now owns: before TLS began, or when it is
        over."""
        self._closed = True
        self._deadlines.remove(self, self._fd)
        if self._reader_armed:
            self._reader_armed = False
            self._loop.remove_reader(self._fd)
        taken = socket.socket(fileno=self._sock.detach())
        # The new object takes its descriptor for a blocking one, and `ssl` would make it so: then
        # one client that stops in its handshake stops the worker.
        taken.setblocking(False)
        return taken

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
        """Send without waiting; returns what the kernel does not take, for `write`."""
        if self._closed:
            raise StreamBroken("closed")
        try:
            sent = self._send(data)
        except (OSError, ssl.SSLError) as error:
            raise StreamBroken(reason(error)) from None
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
            raise StreamBroken(reason(error)) from None

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

    def never_read(self, count: int) -> bool:
        """Whether the last ``count`` bytes that were sent surely reached nobody. For a connection
        over TCP that has ended.

        Who closes a socket sends FIN; what comes afterwards is answered with a reset, and a reset
        behind a FIN is told as EPIPE (any other as ECONNRESET). So the peer had closed before a
        segment arrived; that it was the first one is only known when all went into one.
        """
        sock = self._sock
        try:
            return (
                not self._closed
                and sock.family != socket.AF_UNIX
                and count <= sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG)
                and sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.EPIPE
            )
        except OSError:
            return False

    @property
    def awaits(self) -> int:
        """See `deadlines.Watched`."""
        events = 0
        for waiter in (self._reading, self._ready):
            if waiter is not None and not waiter.done():
                events |= select.POLLIN
        if self._hears is not None:
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
        hears, self._hears = self._hears, None
        if hears is not None:
            hears(error)

    async def send_eof(self) -> None:
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        # It knows this stream: until the garbage collector came to the circle, an ended connection
        # would keep its TLS object, some 20 KiB.
        self._on_data = None
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
        """Say the last word of the protocol, before the descriptor closes."""

    def abort(self) -> None:
        if self._closed:
            return
        with contextlib.suppress(OSError):
            # Linger of zero: the kernel drops what is queued and sends RST.
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._abrupt = True
        self.close()
