"""Counts that hold for all workers together, in shared memory."""

from __future__ import annotations

import os
import signal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from proxy.ipc.connection_counters import CONNECTIONS, TUNNELS, Census, Counts

SECRET = b"a secret"


def two(connections: int = 100) -> tuple[Census, Counts, Counts]:
    census, fd = Census.made(2, connections)
    os.close(fd)
    return census, Counts(census, 1, (), SECRET), Counts(census, 2, (), SECRET)


@pytest.mark.parametrize("kind", [CONNECTIONS, TUNNELS])
def test_a_total_is_that_of_all_workers(kind: int) -> None:
    _, one, other = two()
    assert [one.come(kind, 3), other.come(kind, 3), other.come(kind, 3)] == [True] * 3
    assert not one.come(kind, 3)
    assert not other.come(kind, 3)
    assert one.total(kind) == other.total(kind) == 3
    other.go(kind)
    assert one.come(kind, 3)
    assert one.total(1 - kind) == 0


def test_an_address_is_counted_wherever_it_comes_in() -> None:
    _, one, other = two()
    for counts in (one, other):
        counts.come(CONNECTIONS, 100)  # each has some
    assert one.come_from("192.0.2.1", 3)
    assert other.come_from("192.0.2.1", 3)
    assert other.come_from("192.0.2.1", 3)
    assert not one.come_from("192.0.2.1", 3)
    assert not other.come_from("192.0.2.1", 3)
    assert one.come_from("192.0.2.2", 1), "somebody else's"
    one.go_from("192.0.2.1")
    assert other.come_from("192.0.2.1", 3)


def test_a_worker_that_was_killed_leaves_nothing_behind() -> None:
    census, one, _ = two()
    pid = os.fork()
    if pid == 0:
        other = Counts(census, 2, (), SECRET)
        for kind in (CONNECTIONS, TUNNELS):
            other.come(kind, 100)
        other.come_from("192.0.2.1", 100)
        os.kill(os.getpid(), signal.SIGKILL)
    assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGKILL
    one.come(CONNECTIONS, 100)
    assert one.total(CONNECTIONS) == 2
    assert one.total(TUNNELS) == 1
    assert not one.come_from("192.0.2.1", 1)
    census.clear(2)
    assert one.total(CONNECTIONS) == 1
    assert one.total(TUNNELS) == 0
    assert one.come_from("192.0.2.1", 1)


def test_generations_of_any_size_count_together_also_those_that_come_later() -> None:
    older, fd = Census.made(1, 10)
    os.close(fd)
    before = Counts(older, 1, (), SECRET)
    newer, fd = Census.made(3, 5000)
    before.also(Census(fd, newer.workers, newer.buckets))  # it came as a descriptor
    os.close(fd)
    after = Counts(newer, 3, (older,), SECRET)
    for counts in (before, after):
        assert counts.come(CONNECTIONS, 2)
        assert counts.come_from("2001:db8::/64", 2)
    for counts in (before, after):
        assert not counts.come(CONNECTIONS, 2)
        assert not counts.come_from("2001:db8::/64", 2)


def test_there_is_a_place_for_each_of_as_many_addresses_as_there_may_be() -> None:
    counts = Counts.alone(3000)
    counts.come(CONNECTIONS, 3000)
    addresses = [f"10.0.{number >> 8}.{number & 255}" for number in range(3000)]
    assert all(counts.come_from(one, 1) for one in addresses)
    assert not any(counts.come_from(one, 1) for one in addresses)
    for one in addresses:
        counts.go_from(one)
    assert all(counts.come_from(one, 1) for one in addresses)


def test_an_address_without_a_place_is_refused_rather_than_not_counted() -> None:
    counts = Counts.alone(1)
    counts.come(CONNECTIONS, 1000)
    came = [counts.come_from(f"10.0.0.{number}", 1) for number in range(200)]
    assert came.count(True) <= 128
    assert came.count(False) >= 72


def test_a_region_cannot_be_shortened_under_the_others() -> None:
    _, fd = Census.made(2, 100)
    with pytest.raises(PermissionError):
        os.ftruncate(fd, 0)
    os.close(fd)


class Workers(RuleBasedStateMachine):
    """Three workers, some addresses: no count is ever lost, and none is above the limit."""

    MOST = 3

    def __init__(self) -> None:
        super().__init__()
        self.census, fd = Census.made(3, 40)
        os.close(fd)
        self.counts = [Counts(self.census, number, (), SECRET) for number in (1, 2, 3)]
        self.open: list[tuple[int, str]] = []

    @rule(worker=st.integers(0, 2), address=st.sampled_from(["a", "b", "c"]))
    def come(self, worker: int, address: str) -> None:
        counts = self.counts[worker]
        counts.come(CONNECTIONS, 1000)
        expected = sum(one[1] == address for one in self.open) < self.MOST
        assert counts.come_from(address, self.MOST) == expected
        if expected:
            self.open.append((worker, address))
        else:
            counts.go(CONNECTIONS)

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def go(self, data: st.DataObject) -> None:
        worker, address = self.open.pop(data.draw(st.integers(0, len(self.open) - 1)))
        self.counts[worker].go_from(address)
        self.counts[worker].go(CONNECTIONS)

    @rule(worker=st.integers(0, 2))
    def die(self, worker: int) -> None:
        self.census.clear(worker + 1)
        self.counts[worker] = Counts(self.census, worker + 1, (), SECRET)
        self.open = [one for one in self.open if one[0] != worker]

    @invariant()
    def all_are_counted(self) -> None:
        assert all(one.total(CONNECTIONS) == len(self.open) for one in self.counts)


TestWorkers = Workers.TestCase
TestWorkers.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)


@settings(deadline=None)
@given(st.lists(st.text(max_size=20), unique=True, max_size=30))
def test_two_addresses_are_never_taken_for_one(addresses: list[str]) -> None:
    counts = Counts.alone(100)
    counts.come(CONNECTIONS, 100)
    assert all(counts.come_from(one, 1) for one in addresses)
