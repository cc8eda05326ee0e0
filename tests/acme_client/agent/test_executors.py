"""Threads for each CA: only so many attempts at a time, and nobody waits for another CA's."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from acme_client.agent.agent import HANGS_AFTER, Agent, Hangs
from acme_client.agent.executors import Executors
from acme_client.drill.memory_store import MemoryStore
from acme_client.link import ATTEMPTS_AT_ONCE, Settings
from support.acme.certifier import FakeServer


class Work:
    """Begins, and ends when the test says so."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.over = threading.Event()

    def __call__(self) -> None:
        self.begun.set()
        assert self.over.wait(60)


@pytest.fixture
def works() -> Iterator[Callable[[], Work]]:
    made: list[Work] = []

    def work() -> Work:
        made.append(Work())
        return made[-1]

    yield work
    for one in made:
        one.over.set()


def ended(executors: Executors) -> bool:
    return executors.ended(10, lambda: None)


def test_a_ca_that_is_slow_leaves_the_others_free(works: Callable[[], Work]) -> None:
    executors = Executors()
    attempts = [works() for _ in range(ATTEMPTS_AT_ONCE)]
    for one in attempts:
        executors.attempt("slow", one)
    assert all(one.begun.wait(60) for one in attempts)
    quick = works()
    executors.attempt("quick", quick)
    assert quick.begun.wait(60)
    for one in (quick, *attempts):
        one.over.set()
    assert ended(executors)


def test_questions_come_one_after_the_other_and_beside_attempts(works: Callable[[], Work]) -> None:
    executors = Executors()
    attempts = [works() for _ in range(ATTEMPTS_AT_ONCE)]
    for one in attempts:
        executors.attempt("ca", one)
    first, second, elsewhere = works(), works(), works()
    executors.ask("ca", first)
    executors.ask("ca", second)
    executors.ask("other", elsewhere)
    assert first.begun.wait(60)
    assert elsewhere.begun.wait(60)
    assert not second.begun.is_set()
    first.over.set()
    assert second.begun.wait(60)
    for one in (second, elsewhere, *attempts):
        one.over.set()
    assert ended(executors)


def test_at_the_end_nothing_new_begins(works: Callable[[], Work]) -> None:
    executors = Executors()
    first, never = works(), works()
    executors.ask("ca", first)
    executors.ask("ca", never)
    assert first.begun.wait(60)
    executors.close()
    assert not executors.ended(0.0, lambda: None)
    meanwhile = []
    assert executors.ended(10, lambda: (meanwhile.append(1), first.over.set())[0])
    assert meanwhile
    assert not never.begun.is_set()


def test_how_long_the_longest_has_been_under_way(works: Callable[[], Work]) -> None:
    moments = [100.0]
    executors = Executors(lambda: moments[0])
    assert executors.longest() == 0.0
    first, second, waits = works(), works(), works()
    executors.attempt("ca", first)
    assert first.begun.wait(60)
    moments[0] = 130.0
    executors.ask("other", second)
    executors.ask("other", waits)  # what has not begun does not hang
    assert second.begun.wait(60)
    moments[0] = 140.0
    assert executors.longest() == 40.0
    first.over.set()
    while executors.longest() == 40.0:
        first.over.wait()
    assert executors.longest() == 10.0


def test_a_thread_that_hangs_ends_the_certifier(works: Callable[[], Work], tmp_path: Path) -> None:
    """Another one starts with what is on disk; this one would keep the certificate for ever."""
    moments = [0.0]
    executors = Executors(lambda: moments[0])
    hangs = works()
    executors.attempt("ca", hangs)
    assert hangs.begun.wait(60)
    moments[0] = HANGS_AFTER + 1
    with FakeServer() as server:
        agent = Agent(Settings(tmp_path, ()), server, MemoryStore(), executors=executors)
        with pytest.raises(Hangs, match="under way for 60 minutes"):
            agent.serve()
