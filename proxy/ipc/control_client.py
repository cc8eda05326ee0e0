"""Asks the running server: one JSON line out, one JSON line back, then the end.

The state directory, opened for reading, goes with the line: whoever can open it may ask.

This is the caller's end, for the command line and the doctor; the server's end is
`supervisor.control.server`. The commands stand in `supervisor.control.commands`.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
import time
from pathlib import Path
from typing import Any, cast

from .documents import Status

_PIECE = 64 * 1024  # bytes read at a time
# A server that is silent for so many seconds is asked whether it lives, and has so many to say so:
# together what systemd's watchdog gives it (WatchdogSec=30s).
_ASK_AFTER = 5.0
_ALIVE_WITHIN = 25.0


class NotRunning(Exception):
    """No server answers on the control socket."""


class DoesNotAnswer(NotRunning):
    """There is a server, and it says nothing: it hangs, or is stopped."""


def ask(state: Path, request: dict[str, Any], timeout: float = 60.0) -> dict[str, Any]:
    """Ask the server that runs on this state directory, and wait for so many seconds: what is asked
    for may take its time. Whether there is anybody who works at it is found out meanwhile, so a
    server that hangs is waited for half a minute at most. Raises `NotRunning`."""
    path = state / "control.sock"
    until = time.monotonic() + timeout
    with contextlib.ExitStack() as stack:
        try:
            directory = os.open(state, os.O_RDONLY | os.O_DIRECTORY)
            stack.callback(os.close, directory)
            sock = stack.enter_context(_sent(directory, path.name, request, until))
            answer = bytearray()
            while data := _received(sock, directory, path.name, until):
                answer += data
        except PermissionError:
            advice = "permission denied; ask as root or as the server's user"
            raise NotRunning(f"{path}: {advice}") from None
        except TimeoutError:
            raise DoesNotAnswer(
                f"the server on {path} is there and does not answer: it hangs, or is stopped"
                " (SIGSTOP, a debugger). What it serves may go on, and what it was asked it may do"
                " later. A restart ends it: systemctl restart treehouse-proxy"
            ) from None
        except OSError as error:
            raise NotRunning(f"no server answers on {path} ({error.strerror or error})") from None
    if not answer:
        raise NotRunning(f"the server on {path} hung up without an answer")
    result: dict[str, Any] = json.loads(answer)
    return result


def _sent(directory: int, name: str, request: dict[str, Any], until: float) -> socket.socket:
    """A connection on which the request has been sent. Raises OSError, TimeoutError."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        left = _left(min(until, time.monotonic() + _ALIVE_WITHIN))
        # A socket of Python's that has a time limit does not wait where the server's queue is full:
        # the kernel's limit does (socket(7)).
        seconds, rest = divmod(left, 1)
        limit = struct.pack("@ll", int(seconds), int(rest * 1e6))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        try:
            sock.connect(f"/proc/self/fd/{directory}/{name}")
        except BlockingIOError:
            raise TimeoutError from None
        sock.settimeout(left)
        line = json.dumps(request).encode() + b"\n"
        sent = socket.send_fds(sock, [line], [directory])
        if sent < len(line):  # sending nothing to a server that has answered and left is an error
            sock.sendall(line[sent:])
    except BaseException:
        sock.close()
        raise
    return sock


def _received(sock: socket.socket, directory: int, name: str, until: float) -> bytes:
    """The next piece of the answer, b"" at its end. Raises OSError, and TimeoutError where it is
    too late or the server does not live."""
    while True:
        sock.settimeout(min(_left(until), _ASK_AFTER))
        try:
            return sock.recv(_PIECE)
        except TimeoutError:
            if time.monotonic() >= until:
                raise
        if not _lives(directory, name, until):
            sock.settimeout(0.0)  # it may have answered by now
            try:
                return sock.recv(_PIECE)
            except BlockingIOError:
                raise TimeoutError from None


def _lives(directory: int, name: str, until: float) -> bool:
    """Whether the server answers a question that costs nothing, or is gone: then it is not awaited
    either."""
    until = min(until, time.monotonic() + _ALIVE_WITHIN)
    try:
        with _sent(directory, name, {"command": "alive"}, until) as sock:
            sock.settimeout(_left(until))
            sock.recv(_PIECE)
    except TimeoutError:
        return False
    except OSError:
        return True
    return True


def _left(until: float) -> float:
    return max(until - time.monotonic(), 0.001)


def status(state: Path, timeout: float = 60.0) -> Status:
    """How the server that runs on this state directory is. Raises `NotRunning`."""
    return cast(Status, ask(state, {"command": "status"}, timeout))
