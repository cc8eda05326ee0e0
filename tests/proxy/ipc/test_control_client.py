"""The caller's end of the control socket, against servers that are quick to leave."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from proxy.ipc import control_client
from proxy.ipc.control_client import DoesNotAnswer, NotRunning, ask


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


@contextmanager
def listening(state: Path) -> Iterator[socket.socket]:
    """A server that is there; nobody takes who comes."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(state / "control.sock"))
        sock.listen()
        yield sock


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control_client, "_ASK_AFTER", 0.05)
    monkeypatch.setattr(control_client, "_ALIVE_WITHIN", 0.2)


@pytest.mark.usefixtures("impatient")
def test_a_server_that_hangs_is_not_waited_for(tmp_path: Path) -> None:
    with listening(tmp_path), pytest.raises(DoesNotAnswer, match="is there and does not answer"):
        ask(tmp_path, {"command": "reload"}, 300.0)


@pytest.mark.usefixtures("impatient")
def test_so_is_one_that_cannot_even_be_reached(tmp_path: Path) -> None:
    with listening(tmp_path) as sock:
        sock.listen(0)
        with socket.socket(socket.AF_UNIX) as first:
            first.connect(str(tmp_path / "control.sock"))
            with pytest.raises(DoesNotAnswer):
                ask(tmp_path, {"command": "reload"}, 300.0)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("lives", [b'{"ok": true}\n', b""])
def test_what_takes_its_time_is_waited_for_as_long_as_the_server_lives(
    tmp_path: Path, lives: bytes
) -> None:
    """A server of before knows no such question, or has no place for one more caller."""
    asked = 0

    def serve() -> None:
        nonlocal asked
        first, _ = sock.accept()
        with first:
            assert b"reload" in first.recv(4096)
            while asked < 5:
                other, _ = sock.accept()
                with other:
                    assert b"alive" in other.recv(4096)
                    other.sendall(lives)
                asked += 1
            first.sendall(b'{"ok": true}\n')

    with listening(tmp_path) as sock:
        thread = threading.Thread(target=serve)
        thread.start()
        assert ask(tmp_path, {"command": "reload"}, 300.0) == {"ok": True}
        thread.join()
    assert asked == 5


def test_a_time_that_is_given_is_kept(tmp_path: Path) -> None:
    with listening(tmp_path), pytest.raises(DoesNotAnswer):
        ask(tmp_path, {"command": "status"}, 0.2)
