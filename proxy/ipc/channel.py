"""Messages between the supervisor and its children: JSON and descriptors over a socket pair.

One `SOCK_SEQPACKET` packet is one message, so nothing has to be framed and a torn message cannot
exist. What is larger than a packet should be travels in a sealed memfd; so do certificates with
their keys, which the supervisor passes on without ever reading them.

Sending never blocks: what the kernel does not take is queued and leaves through `flush`, when the
owner's loop says that the socket is writable. A peer that does not read at all is the supervisor's
business (`supervisor.liveness`), not this module's; the queue is bounded, and a peer whose queue
overflows counts as dead.
"""

from __future__ import annotations

import array
import fcntl
import json
import os
import socket
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from .codec import JsonObject

# The default socket buffer takes 208 KiB; JSON past this goes into a memfd instead.
_PACKET = 32 * 1024
# A worker that has not read this many messages is not coming back.
_QUEUE = 10_000
# Bytes of a message in a memfd: an overview of ten thousand certificates takes some thirty million.
_LARGEST = 256 * 1024 * 1024
_MAX_FDS = 8
# Descriptors that are handed out at once; the rest waits for the next `receive`. A `Reserve` has
# room for them.
_FDS_AT_ONCE = 6
# Messages likewise: whoever reads has others to serve.
_AT_ONCE = 256
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


class ChannelClosed(Exception):
    """The other side is gone."""


@contextmanager
def sealing(name: str) -> Iterator[int]:
    """Make a memfd that is written to in here and that nobody can change afterwards; the caller
    closes it, unless something is raised."""
    fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.fchmod(fd, 0o600)
        yield fd
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
    except BaseException:
        os.close(fd)
        raise


def sealed(name: str, content: bytes) -> int:
    """A read-only memfd with this content; the caller closes it."""
    with sealing(name) as fd:
        view = memoryview(content)
        while view:
            view = view[os.write(fd, view) :]
    return fd


def content(fd: int) -> bytes:
    """All of a memfd, wherever its offset stands (it is shared with every other holder)."""
    return os.pread(fd, os.fstat(fd).st_size, 0)


class Channel:
    """One end. Make both with `pair`; messages are JSON objects with up to eight descriptors."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._queue: deque[tuple[bytes, list[int]]] = deque()

    @staticmethod
    def pair() -> tuple[Channel, Channel]:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        return Channel(ours), Channel(theirs)

    def fileno(self) -> int:
        return self._sock.fileno()

    @property
    def waiting(self) -> bool:
        """Whether something is queued: then the owner waits for writability and calls `flush`."""
        return bool(self._queue)

    def send(self, message: JsonObject, fds: tuple[int, ...] = ()) -> None:
        """Send or queue. ``fds`` are duplicated; the caller keeps and closes its own. Raises
        `ChannelClosed`, or `OSError` where there are no descriptors left for that."""
        if len(self._queue) >= _QUEUE:
            raise ChannelClosed("peer does not read")
        data = json.dumps(message, separators=(",", ":")).encode()
        copies: list[int] = []
        try:
            copies += map(os.dup, fds)
            if len(data) > _PACKET:
                copies.append(sealed("message", data))
                frame = {"type": "large", "ticket": message.get("ticket")}
                data = json.dumps(frame, separators=(",", ":")).encode()
        except OSError:
            _close_all(copies)
            raise
        self._queue.append((data, copies))
        self.flush()

    def flush(self) -> None:
        while self._queue:
            data, fds = self._queue[0]
            try:
                socket.send_fds(self._sock, [data], fds)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                raise ChannelClosed(error.strerror) from None
            self._queue.popleft()
            _close_all(fds)

    def receive(self) -> list[tuple[JsonObject, list[int]]]:
        """What has arrived, of many descriptors the first few; the caller owns them.

        A message whose descriptors the kernel could not hand over, because this process is at its
        limit, becomes a `messages.Truncated` with its ticket. Raises `ChannelClosed` at the end,
        but only when nothing is left to be handed out.
        """
        received: list[tuple[JsonObject, list[int]]] = []
        taken = 0
        while taken < _FDS_AT_ONCE and len(received) < _AT_ONCE:
            try:
                data, fds, truncated = self._packet()
            except (BlockingIOError, InterruptedError):
                return received
            except OSError as error:
                if received:
                    return received
                raise ChannelClosed(error.strerror) from None
            if not data:
                _close_all(fds)
                if received:
                    return received
                raise ChannelClosed("end")
            try:
                message = _frame(data)
                if truncated:
                    _close_all(fds)
                    received.append(({"type": "truncated", "ticket": message.get("ticket")}, []))
                else:
                    received.append((_whole(message, fds), fds))
                    taken += len(fds)
            except Exception:
                # Of a peer that talks nonsense nothing is kept, and no descriptor either.
                for _message, came in received:
                    _close_all(came)
                _close_all(fds)
                raise
        return received

    def _packet(self) -> tuple[bytes, list[int], bool]:
        fds = array.array("i")
        data, ancillary, flags, _address = self._sock.recvmsg(
            2 * _PACKET, socket.CMSG_SPACE(_MAX_FDS * fds.itemsize), socket.MSG_CMSG_CLOEXEC
        )
        for level, kind, payload in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds.frombytes(payload[: len(payload) - len(payload) % fds.itemsize])
        return data, list(fds), bool(flags & socket.MSG_CTRUNC)

    def close(self) -> None:
        for _data, fds in self._queue:
            _close_all(fds)
        self._queue.clear()
        self._sock.close()


def _frame(data: bytes) -> JsonObject:
    message = json.loads(data.decode())
    if not isinstance(message, dict):
        raise TypeError("a message is no object")
    return message


def _whole(message: JsonObject, fds: list[int]) -> JsonObject:
    """The message itself. A descriptor that holds it is taken out of ``fds`` and closed."""
    if message.get("type") != "large":
        return message
    large = fds.pop()
    try:
        if os.fstat(large).st_size > _LARGEST:
            raise ValueError("a large message is too large")
        return _frame(content(large))
    finally:
        os.close(large)


def _close_all(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)
