"""A stream over a plain TCP or unix connection, and what TLS streams have in common with it.

It is a non-blocking socket that the event loop only tells about readiness. What makes it cheap:

- Wait for readiness, then read. A read that fails with "want read" costs an exception (and an
  OpenSSL error queue), more than the read itself.
- The reader is armed once and disarmed lazily, only when it fires while nobody waits. A kept-alive
  connection therefore costs no epoll_ctl per request.
- The read happens inside the readiness callback, so that a level-triggered selector does not fire
  twice for the same bytes.
- A client's first bytes are told by the epoll of `Deadlines`, in which its descriptor is anyway: a
  reader of the event loop's costs six system calls and two objects, and many clients ask once.
- Deadlines are a float on the stream, looked at by one sweep per tick over all streams
  (`deadlines`), instead of a timer per wait.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import select
import socket
import ssl
import struct
import sys
import termios
from collections.abc import Awaitable

from .deadlines import NEVER, Deadlines
from .stream import (
    READ_SIZE,
    SMALL_READ,
    Hears,
    OnData,
    OnReady,
    Otherwise,
    StreamBroken,
    StreamTimeout,
    reason,
)

# So often a client's bytes are told by `Deadlines`: a hello, the end of a handshake, a request, and
# the end. Who goes on is worth a reader of the event loop's, which costs less each time.
_EARLY = 4


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
        "_on_ready",
        "_otherwise",
        "_reader_armed",
        "_reading",
        "_ready",
        "_room",
        "_sock",
        "_watching",
        "_writing",
        "became_readable",
        "deadline",
        "early",
    )

    def __init__(
        self,
        sock: socket.socket,
        loop: asyncio.AbstractEventLoop,
        deadlines: Deadlines,
        client: bool = False,
    ) -> None:
        """``client``: the peer is a client, and `Deadlines` is to tell when it leaves. It tells of
        the first bytes as well."""
        self._sock = sock
        self._fd = sock.fileno()
        self._loop = loop
        self._deadlines = deadlines
        self.early = _EARLY if client else 0
        self._reader_armed = client
        self._reading: asyncio.Future[bytes] | None = None
        self._writing: asyncio.Future[None] | None = None
        self._ready: asyncio.Future[None] | None = None
        self._room: select.poll | None = None
        self._limit = READ_SIZE
        self._on_data: OnData | None = None
        self._hears: Hears | None = None
        self._otherwise: Otherwise | None = None
        self._on_ready: OnReady | None = None
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

    def listen(self, on_data: OnData, otherwise: Otherwise) -> None:
        """Have ``on_data`` called with all that comes, each time in the readiness callback. What it
        does not deal with or raises, b"" at the end, or what has broken the stream is given to
        ``otherwise``, once, and nobody listens any more. No `read` may be waiting."""
        self._limit = READ_SIZE
        self._watching = False
        self._hears = None
        self._on_data = on_data
        self._otherwise = otherwise
        if self._failed:
            self._on_readable()
        elif not self._reader_armed:
            self._reader_armed = True
            self._loop.add_reader(self._fd, self._on_readable)

    def _stop_listening(self) -> Otherwise | None:
        otherwise, self._otherwise = self._otherwise, None
        if otherwise is not None:
            self._on_data = None
        return otherwise

    @property
    def reading(self) -> bool:
        """Whether a `read` is waiting, or somebody listens."""
        waiter = self._reading
        return self._otherwise is not None or (waiter is not None and not waiter.done())

    def interrupt(self, error: BaseException | None = None) -> None:
        """End the `read` that is waiting, as if the peer had ended its side, or with an error."""
        otherwise = self._stop_listening()
        if otherwise is not None:
            otherwise(b"" if error is None else error)
            return
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

    def came_early(self) -> None:
        """Take in what has come; for `Deadlines`, which has been told of it."""
        left = self.early - 1
        if left:
            self.early = left
        else:
            self.end_early()
            if self._reader_armed:
                self._loop.add_reader(self._fd, self._on_readable)
        self._on_readable()

    def end_early(self) -> None:
        """Be told of bytes by the event loop from now on; or, when the descriptor is in error, by
        nobody: see `Deadlines.add`."""
        if self.early:
            self.early = 0
            self._deadlines.tell_no_bytes(self._fd)

    def _disarm(self) -> None:
        self._reader_armed = False
        if self.early:
            self.end_early()
        else:
            self._loop.remove_reader(self._fd)

    def _on_readable(self) -> None:
        listens = self._otherwise is not None
        waiter = self._reading
        if not listens and (waiter is None or waiter.done()):
            self._nobody_reads()
            return
        on_data = self._on_data
        said: bytes | Exception | None
        while True:
            try:
                said = self._receive()
                if said is None:
                    return
                if on_data is None or not said or not on_data(said):
                    break
            except (OSError, ssl.SSLError) as error:
                said = StreamBroken(reason(error))
                break
            except Exception as error:  # the on_data's: for whoever reads and would wait for ever
                said = error
                break
            if self._closed or not self._failed:
                return  # the descriptor tells of more, unless it is in error
        if listens:
            otherwise = self._stop_listening()
            if otherwise is not None:
                otherwise(said)
            return
        self._reading = None  # it would keep what was read
        if waiter is None or waiter.done():
            return
        if isinstance(said, Exception):
            waiter.set_exception(said)
        else:
            waiter.set_result(said)

    def _nobody_reads(self) -> None:
        """Tell whoever wants to know that something has come."""
        if self._on_ready is not None:
            self._on_ready(None)
            return
        if self._hears is not None:
            self._tell(self._hears)
            return
        ready = self._ready
        if ready is not None and not ready.done():
            ready.set_result(None)
            return
        if not (self._watching and self._nothing_came()):
            self._disarm()

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
        if self._hears or self._otherwise or self._on_ready:
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
        if self._reader_armed and not self.early:
            self._loop.remove_reader(self._fd)
        self._reader_armed = False
        self.early = 0
        taken = socket.socket(fileno=self._sock.detach())
        # The new object takes its descriptor for a blocking one, and `ssl` would make it so: then
        # one client that stops in its handshake stops the worker.
        taken.setblocking(False)
        return taken

    def peek_now(self, count: int) -> bytes | None:
        """What has come of the connection's first bytes, which stay where they are; None when
        nothing has, b"" at the end. Raises `StreamBroken`."""
        try:
            return socket.socket.recv(self._sock, count, socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            return None
        except OSError as error:
            raise StreamBroken(reason(error)) from None

    def tell_when_ready(self, on_ready: OnReady | None) -> None:
        """Have ``on_ready`` called with None whenever there is something to be read, and with what
        ends the waiting, once; None: no longer. For a client's connection that nobody else reads
        from meanwhile."""
        self._on_ready = on_ready
        if on_ready is not None and not self._reader_armed:
            self._reader_armed = True
            self._loop.add_reader(self._fd, self._on_readable)

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

    def unacknowledged(self) -> int:
        """Return how many bytes the peer's kernel has not taken yet; see `ClientStream`."""
        if self._closed:
            return 0
        try:
            told = fcntl.ioctl(self._fd, termios.TIOCOUTQ, bytes(4))  # tcp(7): SIOCOUTQ
        except OSError:
            return 0
        return int.from_bytes(told, sys.byteorder)

    @property
    def awaits(self) -> int:
        """See `deadlines.Watched`."""
        events = 0
        for waiter in (self._reading, self._ready):
            if waiter is not None and not waiter.done():
                events |= select.POLLIN
        if self._hears or self._otherwise or self._on_ready:
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
        on_ready, self._on_ready = self._on_ready, None
        if on_ready is not None:
            on_ready(error)
        hears, self._hears = self._hears, None
        if hears is not None:
            hears(error)
        otherwise = self._stop_listening()
        if otherwise is not None:
            otherwise(error)

    async def send_eof(self) -> None:
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        # It knows this stream: until the garbage collector came to the circle, an ended connection
        # would keep its TLS object, some 20 KiB.
        otherwise, self._otherwise = self._otherwise, None
        self._on_data = self._on_ready = None
        if self._reader_armed and not self.early:
            self._loop.remove_reader(self._fd)
        self.early = 0
        if self._writing is not None:
            self._loop.remove_writer(self._fd)
        self._deadlines.remove(self, self._fd, closes=True)
        if not self._abrupt:
            self._farewell()
        self._sock.close()
        if self._reading or self._writing or self._ready or self._hears:
            self._wake(StreamBroken("closed"))
        if otherwise is not None:
            otherwise(StreamBroken("closed"))

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
