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
from pathlib import Path
from typing import Any, cast

from .documents import Status

_PIECE = 64 * 1024  # bytes read at a time


class NotRunning(Exception):
    """No server answers on the control socket."""


def ask(state: Path, request: dict[str, Any], timeout: float = 60.0) -> dict[str, Any]:
    """Ask the server that runs on this state directory. Raises `NotRunning`."""
    path = state / "control.sock"
    with contextlib.ExitStack() as stack:
        try:
            directory = os.open(state, os.O_RDONLY | os.O_DIRECTORY)
            stack.callback(os.close, directory)
            sock = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            sock.settimeout(timeout)
            sock.connect(f"/proc/self/fd/{directory}/{path.name}")
            line = json.dumps(request).encode() + b"\n"
            sent = socket.send_fds(sock, [line], [directory])
            if sent < len(
                line
            ):  # sending nothing to a server that has answered and left is an error
                sock.sendall(line[sent:])
            answer = bytearray()
            while data := sock.recv(_PIECE):
                answer += data
        except PermissionError:
            advice = "permission denied; ask as root or as the server's user"
            raise NotRunning(f"{path}: {advice}") from None
        except OSError as error:
            raise NotRunning(f"no server answers on {path} ({error.strerror or error})") from None
    if not answer:
        raise NotRunning(f"the server on {path} hung up without an answer")
    result: dict[str, Any] = json.loads(answer)
    return result


def status(state: Path, timeout: float = 60.0) -> Status:
    """How the server that runs on this state directory is. Raises `NotRunning`."""
    return cast(Status, ask(state, {"command": "status"}, timeout))
