"""The process table: a child that says nonsense takes nobody along."""

from __future__ import annotations

import selectors
import signal
import time

import pytest

from proxy.channel import Channel, Message
from proxy.supervisor.processes import Child, Processes

NONSENSE = [
    b"not json",
    b"\xfe\xff\x00{",
    b"\xff" * 100,
    b'"a string"',
    b"[]",
    b'{"no": "type"}',
    b'{"type": "large"}',
    b"[" * 20_000,
]


@pytest.mark.parametrize("said", NONSENSE)
def test_a_child_that_says_nonsense_is_ended(said: bytes, caplog: pytest.LogCaptureFixture) -> None:
    heard: list[str] = []

    def hear(_child: Child, message: Message, _fds: list[int]) -> None:
        heard.append(message["type"])

    def run(channel: Channel) -> int:
        channel.send({"type": "first"})
        channel._sock.send(said)
        signal.pause()
        return 0

    with selectors.DefaultSelector() as selector:
        processes = Processes(selector, hear)
        child = processes.fork("worker", 1, 1, run)
        ended: list[tuple[Child, int]] = []
        deadline = time.monotonic() + 20
        while not ended and time.monotonic() < deadline:
            for key, events in selector.select(0.05):
                key.data(events)
            ended = processes.reap()
        assert [(one.pid, how) for one, how in ended] == [(child.pid, signal.SIGKILL)]
    assert "is ended: what it says is not understood" in caplog.text
    assert heard in ([], ["first"])
