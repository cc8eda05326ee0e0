"""A desk for each CA: only so many attempts at a time, and nobody waits for another CA's."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from acme_client.desks import ATTEMPTS_AT_ONCE, Desks


class Work:
    """Begins, and ends when the test says so."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.over = threading.Event()

    def __call__(self) -> None:
        self.begun.set()
        assert self.over.wait(10)


@pytest.fixture
def works() -> Iterator[Callable[[], Work]]:
    made: list[Work] = []

    def work() -> Work:
        made.append(Work())
        return made[-1]

    yield work
    for one in made:
        one.over.set()


def ended(desks: Desks) -> bool:
    return desks.ended(10, lambda: None)


def test_a_desk_that_is_full_leaves_the_others_free(works: Callable[[], Work]) -> None:
    desks = Desks()
    attempts = [works() for _ in range(ATTEMPTS_AT_ONCE)]
    for one in attempts:
        assert desks.has_room("slow")
        desks.attempt("slow", one)
    assert all(one.begun.wait(10) for one in attempts)
    assert not desks.has_room("slow")
    assert desks.has_room("quick")
    quick = works()
    desks.attempt("quick", quick)
    assert quick.begun.wait(10)
    for one in (quick, *attempts):
        one.over.set()
    assert ended(desks)
    assert desks.has_room("slow")


def test_questions_come_one_after_the_other_and_beside_attempts(works: Callable[[], Work]) -> None:
    desks = Desks()
    attempts = [works() for _ in range(ATTEMPTS_AT_ONCE)]
    for one in attempts:
        desks.attempt("ca", one)
    first, second, elsewhere = works(), works(), works()
    desks.ask("ca", first)
    desks.ask("ca", second)
    desks.ask("other", elsewhere)
    assert first.begun.wait(10)
    assert elsewhere.begun.wait(10)
    assert desks.is_asking("ca")
    assert not second.begun.is_set()
    first.over.set()
    assert second.begun.wait(10)
    for one in (second, elsewhere, *attempts):
        one.over.set()
    assert ended(desks)
    assert not desks.is_asking("ca")


def test_at_the_end_nothing_new_begins(works: Callable[[], Work]) -> None:
    desks = Desks()
    first, never = works(), works()
    desks.ask("ca", first)
    desks.ask("ca", never)
    assert first.begun.wait(10)
    desks.close()
    assert not desks.ended(0.0, lambda: None)
    meanwhile = []
    assert desks.ended(10, lambda: (meanwhile.append(1), first.over.set())[0])
    assert meanwhile
    assert not never.begun.is_set()
