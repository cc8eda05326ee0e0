"""The caller's end of the control socket, against servers that are quick to leave."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from proxy.ipc.control_client import NotRunning, ask


@contextmanager
def server(state: Path, answer: bytes) -> Iterator[threading.Thread]:
    """Takes one line, answers and is gone."""

    def serve() -> None:
        caller, _ = listening.accept()
        with caller:
            said = b""
            while not said.endswith(b"\n"):
                said += caller.recv(4096)
            caller.sendall(answer)

    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(state / "control.sock"))
        listening.listen()
        thread = threading.Thread(target=serve)
        thread.start()
        yield thread
        thread.join()


def test_an_answer_is_heard_from_a_server_that_is_gone_by_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    send_fds: Callable[..., int] = socket.send_fds
    with server(tmp_path, b'{"ok": true}\n') as gone:

        def sent_and_answered(*given: object) -> int:
            sent = send_fds(*given)
            gone.join()
            return sent

        monkeypatch.setattr(socket, "send_fds", sent_and_answered)
        assert ask(tmp_path, {"command": "status"}) == {"ok": True}


def test_no_answer_is_said_to_be_none(tmp_path: Path) -> None:
    with server(tmp_path, b""), pytest.raises(NotRunning, match="hung up without an answer"):
        ask(tmp_path, {"command": "status"})
