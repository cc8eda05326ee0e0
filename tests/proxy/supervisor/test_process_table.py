"""The process table: a child that says nonsense takes nobody along."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from proxy.ipc.channel import Channel
from proxy.ipc.codec import JsonObject
from proxy.ipc.messages import ReplaceAccessLog
from proxy.supervisor.process_table import Child, Processes, describe_exit
from proxy.supervisor.roles import CERTIFIER, WORKER, AnyRole, Role
from support.program.descriptors import no_descriptor_left

Hear = Callable[[Child, JsonObject, list[int]], None]


@dataclass
class Ears:
    """What a supervisor is to its process table. ``others``: children of tests before this one in
    the same process, which may end now."""

    hear: Hear = lambda _child, _said, _fds: None
    others: set[int] = field(default_factory=lambda: set(_children()))

    def exited_elsewhere(self, pid: int, status: int) -> None:
        assert pid in self.others, f"{pid} is no child of the test"


def _children() -> Iterator[int]:
    for of_thread in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):  # a thread that has ended
            yield from map(int, of_thread.read_text().split())


def table(selector: selectors.BaseSelector, hear: Hear | None = None) -> Processes:
    processes = Processes(selector)
    processes.listener = Ears(hear) if hear else Ears()
    return processes


def doing(run: Callable[[Channel], int], role: AnyRole = WORKER) -> Role[None]:
    """The same role with other work."""
    return replace(role, entry=lambda _init, channel: run(channel))


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

    def hear(_child: Child, message: JsonObject, _fds: list[int]) -> None:
        heard.append(str(message["type"]))

    def run(channel: Channel) -> int:
        channel.send({"type": "first"})
        channel._sock.send(said)
        signal.pause()
        return 0

    with selectors.DefaultSelector() as selector:
        processes = table(selector, hear)
        child = processes.fork(doing(run), None, 1, 1)
        ended: list[tuple[Child, int]] = []
        deadline = time.monotonic() + 60
        while not ended and time.monotonic() < deadline:
            for key, events in selector.select(0.05):
                key.data(events)
            ended = processes.reap()
        assert [(one.pid, how) for one, how in ended] == [(child.pid, signal.SIGKILL)]
    assert "is ended: what it says is not understood" in caplog.text
    assert heard in ([], ["first"])


@pytest.fixture
def selector() -> Iterator[selectors.BaseSelector]:
    with selectors.DefaultSelector() as made:
        yield made


def until_it_ends(processes: Processes, selector: selectors.BaseSelector) -> int:
    """The wait status of the only child."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for key, events in selector.select(0.05):
            key.data(events)
        for _child, how in processes.reap():
            return how
    raise AssertionError("it did not end")


def test_descriptors_that_nobody_asked_for_are_closed(selector: selectors.BaseSelector) -> None:
    kept: list[int] = []

    def hear(_child: Child, message: JsonObject, fds: list[int]) -> None:
        if message["type"] == "wanted":
            kept.append(fds.pop(0))

    def run(channel: Channel) -> int:
        for _ in range(20):
            channel.send({"type": "stats"}, (0, 0, 0))
        channel.send({"type": "wanted"}, (0, 0))
        return 0

    processes = table(selector, hear)
    before = len(os.listdir("/proc/self/fd"))
    processes.fork(doing(run), None, 1, 1)
    assert until_it_ends(processes, selector) == 0
    assert len(os.listdir("/proc/self/fd")) == before + 1
    os.close(kept[0])


def test_a_child_closes_what_is_not_for_its_kind(selector: selectors.BaseSelector) -> None:
    left, right = os.pipe()

    class Owner:
        def close_in_child(self, role: AnyRole, generation: int) -> None:
            if (role.name, generation) == ("certifier", 3):
                os.close(left)

    def run(_channel: Channel) -> int:
        return int(os.path.exists(f"/proc/self/fd/{left}"))

    processes = table(selector)
    processes.owners.append(Owner())
    for role, generation, has in ((CERTIFIER, 3, 0), (CERTIFIER, 4, 1), (WORKER, 3, 1)):
        processes.fork(doing(run, role), None, generation, 1)
        assert os.waitstatus_to_exitcode(until_it_ends(processes, selector)) == has
    os.close(left)
    os.close(right)


def test_where_no_process_can_be_made_nothing_is_left_behind(
    selector: selectors.BaseSelector, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full() -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    processes = table(selector)
    before = len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(os, "fork", full)
    with pytest.raises(BlockingIOError):
        processes.fork(doing(lambda _channel: 0), None, 1, 1)
    assert len(os.listdir("/proc/self/fd")) == before
    assert not len(processes)
    assert signal.SIGTERM not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (0, "ended with status 0"),
        (3 << 8, "ended with status 3"),
        (signal.SIGKILL, "was ended by SIGKILL"),
        (signal.SIGSEGV | 0x80, "was ended by SIGSEGV"),  # with a core file
        (40, "was ended by signal 40"),
    ],
)
def test_an_end_in_words(status: int, words: str) -> None:
    assert describe_exit(status) == words


def test_a_supervisor_without_a_descriptor_left_still_sends_one(
    selector: selectors.BaseSelector,
) -> None:
    """Nobody is taken for dead because of what we lack ourselves."""

    def run(channel: Channel) -> int:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            for message, fds in channel.receive():
                return len(fds) if message["type"] == "replace_access_log" else 9
        return 8

    processes = table(selector)
    child = processes.fork(doing(run), None, 1, 1)
    log = os.open(os.devnull, os.O_WRONLY)
    with no_descriptor_left():
        processes.tell_worker(child, ReplaceAccessLog(1), (log,))
    os.close(log)
    assert os.waitstatus_to_exitcode(until_it_ends(processes, selector)) == 1
