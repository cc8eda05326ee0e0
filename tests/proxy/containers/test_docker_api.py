"""Asking an engine: answers, refusals, silence, nonsense."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator

import pytest

from proxy.containers import docker_api
from proxy.containers.docker_api import Api, ApiFailed, Events, NotThere


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    yield ours, theirs
    ours.close()
    theirs.close()


def answers(theirs: socket.socket, *texts: bytes) -> threading.Thread:
    """Each question is answered with the next text; after the last, it hangs up."""

    def speak() -> None:
        for text in texts:
            theirs.recv(65536)
            theirs.sendall(text)
        theirs.shutdown(socket.SHUT_RDWR)

    thread = threading.Thread(target=speak, daemon=True)
    thread.start()
    return thread


def said(status: int, body: object) -> bytes:
    data = json.dumps(body).encode()
    return b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%s" % (status, len(data), data)


def test_one_connection_for_several_questions(ends: tuple[socket.socket, socket.socket]) -> None:
    thread = answers(ends[1], said(200, [1]), said(404, {}), said(200, {"a": 2}))
    api = Api(ends[0])
    assert api.get("/one") == [1]
    with pytest.raises(NotThere):
        api.get("/two")
    assert api.get("/three") == {"a": 2}
    thread.join()


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (said(500, {"message": "no"}), "answers 500 to /x"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{{{", "no JSON"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\n{}", "hung up|does not speak HTTP"),
        (b"SSH-2.0-OpenSSH_9\r\n\r\n", "does not speak HTTP"),
        (b"", "hung up|does not speak HTTP"),
    ],
)
def test_what_is_no_answer(
    ends: tuple[socket.socket, socket.socket], text: bytes, what: str
) -> None:
    thread = answers(ends[1], text)
    with pytest.raises(ApiFailed, match=what):
        Api(ends[0]).get("/x")
    thread.join()


def test_silence_and_flood_are_bounded(
    ends: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(docker_api, "_WITHIN", 0.1)
    with pytest.raises(ApiFailed, match="does not answer"):
        Api(ends[0]).get("/x")
    monkeypatch.setattr(docker_api, "_WITHIN", 10.0)
    monkeypatch.setattr(docker_api, "_LARGEST", 10)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        thread = answers(theirs, said(200, "x" * 100))
        with pytest.raises(ApiFailed, match="more than"):
            Api(ours).get("/x")
        thread.join()


def test_events_in_pieces(ends: tuple[socket.socket, socket.socket]) -> None:
    events = Events(ends[0], 5.9)
    asked = ends[1].recv(65536).decode()
    assert asked.startswith("GET /events?since=5&filters=%7B%22type%22")
    ends[1].sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    line = b'{"Action": "start", "Actor": {"ID": "1"}}\n{"Action": "die"}\nno json\n'
    heard = []
    for at in range(0, len(line), 7):
        piece = line[at : at + 7]
        ends[1].sendall(b"%x\r\n%s\r\n" % (len(piece), piece))
        heard += [event["Action"] for event in events.read()]
    assert heard == ["start", "die"]
    ends[1].sendall(b"0\r\n\r\n")
    with pytest.raises(ApiFailed, match="hung up"):
        list(events.read())


def test_an_engine_without_events_is_told(ends: tuple[socket.socket, socket.socket]) -> None:
    events = Events(ends[0], 0)
    ends[1].sendall(said(500, {}))
    with pytest.raises(ApiFailed, match="500"):
        list(events.read())
