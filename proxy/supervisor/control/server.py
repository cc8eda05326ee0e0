"""The control socket, the server's end: one JSON line in, one JSON line out, then the end.

Served by the supervisor's own loop on ``control.sock`` in the state directory, so it needs no
network and no password: the directory is 0700, and the kernel tells who is calling (SO_PEERCRED);
only root and the user that the server runs as are heard. The workers are of that user, and Landlock
keeps nobody from connecting to a socket by its path. So who is not root has to show what no worker
can get: the state directory, opened for reading. A caller that stalls, talks too long or leaves
early costs one slot of a few for a bounded time, and nothing else.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import selectors
import socket
import struct
import time
from dataclasses import field
from pathlib import Path
from typing import Protocol

from acme_client.late_dataclass import dataclass

from ..answers import Answer, Reply
from ..timers import Timers

log = logging.getLogger("treehouse.control")


_LINE = 64 * 1024  # bytes of a request; the longest command is a name and a reason
_CALLERS = 16
_ASK_WITHIN = 5.0  # seconds for the request's line
_CREDENTIALS = struct.Struct("3i")
_MOST_FDS = 4
_LOOKED_FOR_EVERY = 10.0  # seconds


@dataclass(slots=True)
class _Caller:
    """``may``: whether the caller has shown that it may ask."""

    may: bool
    said: bytearray = field(default_factory=bytearray)


class Handler(Protocol):
    def hear(self, request: Answer, reply: Reply) -> None:
        """Answer a request, at once or later, by calling ``reply`` once."""
        ...


class ControlSocket:
    """Listens at ``path`` once it is opened. ``handler`` is set before that."""

    handler: Handler

    def __init__(self, path: Path, selector: selectors.BaseSelector, timers: Timers) -> None:
        self.path = path
        self._selector = selector
        self._timers = timers
        self._callers: dict[socket.socket, _Caller] = {}
        self._sock: socket.socket | None = None
        self._missed = False  # whether it has been said that the state directory is gone

    def open(self) -> None:
        """Listen, if it does not yet. Raises `OSError`."""
        if self._sock is None:
            self._listen_on(self._bind(self.path))
            self._directory = _identity(os.stat(self.path.parent))
            self._look_again()

    def _listen_on(self, sock: socket.socket) -> None:
        self._sock, self._inode = sock, os.stat(self.path).st_ino
        self._selector.register(sock, selectors.EVENT_READ, self._on_caller)

    def _look_again(self) -> None:
        self._timers.at(time.monotonic() + _LOOKED_FOR_EVERY, self.look)

    def look(self) -> None:
        """Make the socket's file again if somebody has removed it, or say that it cannot be made:
        nobody could ask this server anything. One that a successor has put there is left alone."""
        if self._sock is None:
            return
        try:
            if os.stat(self.path).st_ino != self._inode:
                return
            self._missed = False
        except FileNotFoundError:
            self._make_again()
        except OSError:
            pass  # out of sight for a moment; what is open serves on
        self._look_again()

    def _make_again(self) -> None:
        assert self._sock is not None  # noqa: S101 - `look` has looked
        try:
            if _identity(os.stat(self.path.parent)) != self._directory:
                raise FileNotFoundError
            fresh = self._bind(self.path)
        except OSError:
            if not self._missed:
                log.error(
                    "the state directory %s is gone: no command reaches this server, and no "
                    "certificate can be kept. What is served goes on. Put it back, then restart "
                    "the server",
                    self.path.parent,
                )
            self._missed = True
            return
        log.warning("%s was removed, and has been made again", self.path)
        self._selector.unregister(self._sock)
        self._sock.close()
        self._listen_on(fresh)

    @staticmethod
    def _bind(path: Path) -> socket.socket:
        # Bound under another name and renamed: a caller finds the old server or the new one,
        # never neither. sun_path takes 108 bytes, so long paths go through the directory.
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
        try:
            temporary = f"{path.name}.{os.getpid()}"
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=directory)
            sock.bind(f"/proc/self/fd/{directory}/{temporary}")
            os.chmod(path.parent / temporary, 0o600)
            sock.listen(_CALLERS)
            os.rename(temporary, path.name, src_dir_fd=directory, dst_dir_fd=directory)
        except BaseException:
            sock.close()
            raise
        finally:
            os.close(directory)
        return sock

    def close_in_child(self, *_: object) -> None:
        """Close the socket in a child, and leave its file alone."""
        for caller in self._callers:
            caller.close()
        if self._sock is not None:
            self._sock.close()

    def close(self) -> None:
        if self._sock is None:
            return
        self.close_in_child()
        self._sock = None
        with contextlib.suppress(OSError):
            # An upgraded server may have put its own socket there.
            if os.stat(self.path).st_ino == self._inode:
                os.unlink(self.path)

    def _on_caller(self, _events: int) -> None:
        if self._sock is None:
            return
        try:
            caller, _address = self._sock.accept()
        except OSError:
            return
        _pid, uid, _gid = _CREDENTIALS.unpack(
            caller.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        )
        if uid not in (0, os.geteuid()) or len(self._callers) >= _CALLERS:
            log.warning("a caller with uid %d was turned away from the control socket", uid)
            caller.close()
            return
        caller.setblocking(False)
        self._callers[caller] = _Caller(uid == 0)
        self._selector.register(caller, selectors.EVENT_READ, lambda _events: self._hear(caller))
        self._timers.at(time.monotonic() + _ASK_WITHIN, lambda: self._expire(caller))

    def _hear(self, caller: socket.socket) -> None:
        known = self._callers[caller]
        fds: list[int] = []
        try:
            data, fds, _, _ = socket.recv_fds(caller, _LINE, _MOST_FDS, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        for fd in fds:
            known.may = known.may or self._is_our_directory(fd)
            os.close(fd)
        buffer = known.said
        buffer += data
        if b"\n" not in buffer:
            if not data or len(buffer) > _LINE:
                self._drop(caller)
            return
        self._selector.unregister(caller)
        if not known.may:
            log.warning("a caller that cannot read the state directory was turned away")
            self._reply(
                caller, {"ok": False, "error": "only who can read the state directory may ask"}
            )
            return
        try:
            # Given bytes, json would guess among encodings, whose codecs are out of sight here.
            request = json.loads(buffer.decode())
            if not isinstance(request, dict):
                raise TypeError("not an object")
        except (ValueError, TypeError, RecursionError):
            self._reply(caller, {"ok": False, "error": "the request is not one line of JSON"})
            return
        self.handler.hear(request, lambda answer: self._reply(caller, answer))

    def _is_our_directory(self, fd: int) -> bool:
        """Whether it is our state directory, opened for reading: O_PATH alone needs no right."""
        opened = not fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_PATH
        return opened and _identity(os.fstat(fd)) == self._directory

    def _reply(self, caller: socket.socket, answer: Answer) -> None:
        if caller not in self._callers:
            return
        with contextlib.suppress(OSError):
            # A status of thousands of certificates exceeds the socket buffer; our callers read at
            # once, and a hostile one (it has our uid) is cut after a moment.
            caller.settimeout(2.0)
            caller.sendall(json.dumps(answer).encode() + b"\n")
        self._drop(caller)

    def _expire(self, caller: socket.socket) -> None:
        if caller in self._callers and b"\n" not in self._callers[caller].said:
            self._drop(caller)

    def _drop(self, caller: socket.socket) -> None:
        self._callers.pop(caller, None)
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(caller)
        caller.close()


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino
