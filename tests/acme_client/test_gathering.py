"""Threads that share work: one alone waits for nobody, and of many each gets its own outcome."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from acme_client.gathering import Gathering

WITHIN = 10.0


class Slow:
    """Work that waits until it is let go on, and remembers the groups."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.begun = threading.Semaphore(0)
        self.going_on = threading.Semaphore(0)

    def __call__(self, items: list[int]) -> None:
        self.groups.append(items)
        self.begun.release()
        assert self.going_on.acquire(timeout=WITHIN)
        if -1 in items:
            raise ValueError("minus one")


def started(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def waits(gathering: Gathering[int], count: int) -> None:
    """Wait until so many threads have come that must wait."""
    for _ in range(2000):
        with gathering._lock:
            if len(gathering._waiting) == count:
                return
        threading.Event().wait(0.005)
    raise AssertionError(f"{len(gathering._waiting)} wait, not {count}")


def test_who_comes_alone_is_alone() -> None:
    seen: list[list[int]] = []
    gathering = Gathering(seen.append)
    gathering.do(1)
    gathering.do(2)
    assert seen == [[1], [2]]


def test_who_comes_meanwhile_is_in_the_next_group_as_many_as_fit() -> None:
    work = Slow()
    gathering = Gathering(work, most=3)
    threads = [started(lambda: gathering.do(0))]
    assert work.begun.acquire(timeout=WITHIN)
    for number in range(1, 6):
        threads.append(started(lambda number=number: gathering.do(number)))  # type: ignore[misc]
        waits(gathering, number)
    for _ in range(3):
        work.going_on.release()
    for one in threads:
        one.join(WITHIN)
        assert not one.is_alive()
    assert work.groups == [[0], [1, 2, 3], [4, 5]]
    work.going_on.release()
    gathering.do(6)
    assert work.groups[-1] == [6], "and there is room again"


def test_a_failure_reaches_everybody_of_the_group_and_nobody_else() -> None:
    work = Slow()
    gathering = Gathering(work, most=2)
    failed: list[int] = []

    def do(number: int) -> None:
        try:
            gathering.do(number)
        except ValueError:
            failed.append(number)

    threads = [started(lambda: do(0))]
    assert work.begun.acquire(timeout=WITHIN)
    for waiting, number in enumerate((1, -1, 2), 1):
        threads.append(started(lambda number=number: do(number)))  # type: ignore[misc]
        waits(gathering, waiting)
    for _ in range(3):
        work.going_on.release()
    for one in threads:
        one.join(WITHIN)
        assert not one.is_alive()
    assert sorted(failed) == [-1, 1]


@pytest.mark.parametrize("at_once", [1, 2, 3])
def test_nobody_returns_before_its_item_is_done_however_many_come(at_once: int) -> None:
    lock = threading.Lock()
    under_way, most_under_way = 0, 0
    done: set[int] = set()

    def work(items: list[int]) -> None:
        nonlocal under_way, most_under_way
        assert items
        with lock:
            under_way += 1
            most_under_way = max(most_under_way, under_way)
        threading.Event().wait(0.0005)
        with lock:
            under_way -= 1
            done.update(items)

    gathering = Gathering(work, most=4, at_once=at_once)
    early: list[int] = []

    def many(first: int) -> None:
        for number in range(first, first + 40):
            gathering.do(number)
            if number not in done:
                early.append(number)

    threads = [started(lambda first=first: many(first)) for first in range(0, 480, 40)]  # type: ignore[misc]
    for one in threads:
        one.join(60)
        assert not one.is_alive()
    assert early == []
    assert len(done) == 480
    assert most_under_way <= at_once
