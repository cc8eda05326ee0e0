"""Coverage-guided fuzzing of the two places where processes talk to the supervisor: `make fuzz`.

The control socket: whatever a caller says, he gets one line of JSON or nothing, and his slot is free
again. The channel of a child: a message that is read as it was meant, or an exception that ends the child; and
no descriptor that came with it stays open.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import socket
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(
    include=["proxy.supervisor.control.server", "proxy.ipc.channel", "proxy.ipc.codec"]
):
    from proxy.ipc.channel import Channel, ChannelClosed
    from proxy.ipc.codec import Malformed, encode
    from proxy.ipc.messages import FROM_CERTIFIER, FROM_MESSENGER, FROM_WORKER
    from proxy.supervisor.answers import Reply
    from proxy.supervisor.control.server import ControlSocket
    from proxy.supervisor.timers import Timers

BEGINNINGS = (b"", b'{"command": "status"', b'{"type": "large"}', b'{"type": "stats", "stats": {')
selector = selectors.DefaultSelector()
folder = Path(tempfile.mkdtemp())
heard: list[dict[str, object]] = []


class Handler:
    def hear(self, request: dict[str, object], reply: Reply) -> None:
        heard.append(request)
        reply({"ok": True, "command": request.get("command")})


control = ControlSocket(folder / "control.sock", selector, Timers())
control.handler = Handler()
control.open()


def turn() -> None:
    for key, events in selector.select(0):
        key.data(events)


def call(data: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as caller:
        caller.connect(str(control.path))
        turn()
        half = len(data) // 2
        with contextlib.suppress(OSError):
            for piece in (data[:half], data[half:]):
                caller.sendall(piece)
                turn()
            caller.shutdown(socket.SHUT_WR)
        turn()
        turn()
        answer = b""
        with contextlib.suppress(ConnectionResetError):
            caller.settimeout(1)
            while more := caller.recv(65536):
                answer += more
        if answer:
            assert isinstance(json.loads(answer)["ok"], bool)
    assert not control._callers


def tell(data: bytes, with_descriptor: bool) -> None:
    before = len(os.listdir("/proc/self/fd"))
    ours, theirs = Channel.pair()
    fds = [os.open("/dev/null", os.O_RDONLY)] if with_descriptor else []
    try:
        socket.send_fds(theirs._sock, [data], fds)
        for message, came in ours.receive():
            for fd in came:
                os.close(fd)
            for vocabulary in (FROM_WORKER, FROM_CERTIFIER, FROM_MESSENGER):
                with contextlib.suppress(Malformed):
                    read = vocabulary.decode(message, len(came))
                    again = vocabulary.decode(json.loads(json.dumps(encode(read))), 1)
                    assert repr(again) == repr(read)
    except (
        ChannelClosed,
        ValueError,
        AttributeError,
        IndexError,
        TypeError,
        OSError,
        RecursionError,
    ):
        pass  # `Processes` ends a child for any of them
    finally:
        for fd in fds:
            os.close(fd)
        ours.close()
        theirs.close()
    assert len(os.listdir("/proc/self/fd")) == before, data


def look(data: bytes) -> None:
    if len(data) < 2:
        return
    said = BEGINNINGS[data[0] % len(BEGINNINGS)] + data[2:]
    if data[1] % 2:
        call(said)
    else:
        tell(said, with_descriptor=data[1] % 4 == 2)


if __name__ == "__main__":
    atheris.Setup(sys.argv, look)
    atheris.Fuzz()
