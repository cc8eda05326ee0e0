"""ConnectionCounters that hold for all workers together, in shared memory."""

from __future__ import annotations

import os
import signal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from proxy.ipc.connection_counters import CONNECTIONS, TUNNELS, ConnectionCounters, CounterMemory

SECRET = b"a secret"


def two(connections: int = 100) -> tuple[CounterMemory, ConnectionCounters, ConnectionCounters]:
    counters, fd = CounterMemory.create(2, connections)
    os.close(fd)
    return (
        counters,
        ConnectionCounters(counters, 1, (), SECRET),
        ConnectionCounters(counters, 2, (), SECRET),
    )


def comes(counts: ConnectionCounters, address: str, most: int) -> bool:
    """A connection of this address, as a worker counts it; whether it is let in. One that is not
    stays in the total, for these tests."""
    counts.acquire(CONNECTIONS, 10_000)
    return counts.acquire_for(address, most)


@pytest.mark.parametrize("kind", [CONNECTIONS, TUNNELS])
def test_a_total_is_that_of_all_workers(kind: int) -> None:
    _, one, other = two()
    assert [one.acquire(kind, 3), other.acquire(kind, 3), other.acquire(kind, 3)] == [True] * 3
    assert not one.acquire(kind, 3)
    assert not other.acquire(kind, 3)
    assert one.total(kind) == other.total(kind) == 3
    other.release(kind)
    assert one.acquire(kind, 3)
    assert one.total(1 - kind) == 0


def test_an_address_is_counted_wherever_it_comes_in() -> None:
    _, one, other = two()
    assert comes(one, "192.0.2.1", 3)
    assert comes(other, "192.0.2.1", 3)
    assert comes(other, "192.0.2.1", 3)
    assert not comes(one, "192.0.2.1", 3)
    assert not comes(other, "192.0.2.1", 3)
    assert comes(one, "192.0.2.2", 1), "somebody else's"
    one.release_for("192.0.2.1")
    assert comes(other, "192.0.2.1", 3)


def test_an_address_that_comes_again_at_once_is_counted_where_it_was() -> None:
    """Its place may be another's by then."""
    memory, one, other = two()
    for address in ("192.0.2.1", "192.0.2.1", "192.0.2.2", "192.0.2.1"):
        assert comes(one, address, 1)
        assert not comes(other, address, 1)
        one.release_for(address)
    assert comes(one, "192.0.2.1", 1)
    one.release_for("192.0.2.1")
    place = one._latest[1]
    memory.words[place] = 5  # somebody took it
    assert comes(one, "192.0.2.1", 1)
    assert memory.words[place] == 5
    assert not comes(other, "192.0.2.1", 1)


def test_a_worker_is_ahead_with_many_more_connections_than_the_mean() -> None:
    _, one, other = two()
    for _ in range(10):
        one.acquire(CONNECTIONS, 100)
    assert not one.ahead()
    one.acquire(CONNECTIONS, 100)
    assert one.ahead()
    for _ in range(6):
        other.acquire(CONNECTIONS, 100)
    assert not other.ahead()
    one.acquire(CONNECTIONS, 100)
    assert not one.ahead()
    alone = ConnectionCounters.for_one_worker(1000)
    for _ in range(500):
        alone.acquire(CONNECTIONS, 1000)
        assert not alone.ahead()


def test_a_worker_that_was_killed_leaves_nothing_behind() -> None:
    counters, one, _ = two()
    pid = os.fork()
    if pid == 0:
        other = ConnectionCounters(counters, 2, (), SECRET)
        for kind in (CONNECTIONS, TUNNELS):
            other.acquire(kind, 100)
        other.acquire_for("192.0.2.1", 100)
        os.kill(os.getpid(), signal.SIGKILL)
    assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGKILL
    one.acquire(CONNECTIONS, 100)
    assert one.total(CONNECTIONS) == 2
    assert one.total(TUNNELS) == 1
    assert not one.acquire_for("192.0.2.1", 1)
    counters.clear(2)
    assert one.total(CONNECTIONS) == 1
    assert one.total(TUNNELS) == 0
    assert one.acquire_for("192.0.2.1", 1)


def test_generations_of_any_size_count_together_also_those_that_come_later() -> None:
    older, fd = CounterMemory.create(1, 10)
    os.close(fd)
    before = ConnectionCounters(older, 1, (), SECRET)
    newer, fd = CounterMemory.create(3, 5000)
    before.add_generation(
        CounterMemory(fd, newer.workers, newer.buckets)
    )  # it came as a descriptor
    os.close(fd)
    after = ConnectionCounters(newer, 3, (older,), SECRET)
    for counts in (before, after):
        assert counts.acquire(CONNECTIONS, 2)
        assert counts.acquire_for("2001:db8::/64", 2)
    for counts in (before, after):
        assert not counts.acquire(CONNECTIONS, 2)
        assert not comes(counts, "2001:db8::/64", 2)


def test_there_is_a_place_for_each_of_as_many_addresses_as_there_may_be() -> None:
    counts = ConnectionCounters.for_one_worker(3000)
    addresses = [f"10.0.{number >> 8}.{number & 255}" for number in range(3000)]
    assert all(comes(counts, one, 1) for one in addresses)
    assert not any(comes(counts, one, 1) for one in addresses)
    for one in addresses:
        counts.release_for(one)
    assert all(counts.acquire_for(one, 1) for one in addresses)


def test_an_address_without_a_place_is_refused_rather_than_not_counted() -> None:
    counts = ConnectionCounters.for_one_worker(1)
    came = [comes(counts, f"10.0.0.{number}", 1) for number in range(200)]
    assert came.count(True) <= 128
    assert came.count(False) >= 72


def test_a_region_cannot_be_shortened_under_the_others() -> None:
    _, fd = CounterMemory.create(2, 100)
    with pytest.raises(PermissionError):
        os.ftruncate(fd, 0)
    os.close(fd)


class Workers(RuleBasedStateMachine):
    """Three workers, some addresses: no count is ever lost, and none is above the limit."""

    MOST = 3

    def __init__(self) -> None:
        super().__init__()
        self.counters, fd = CounterMemory.create(3, 40)
        os.close(fd)
        self.counts = [
            ConnectionCounters(self.counters, number, (), SECRET) for number in (1, 2, 3)
        ]
        self.open: list[tuple[int, str]] = []

    @rule(worker=st.integers(0, 2), address=st.sampled_from(["a", "b", "c"]))
    def come(self, worker: int, address: str) -> None:
        counts = self.counts[worker]
        counts.acquire(CONNECTIONS, 1000)
        expected = sum(one[1] == address for one in self.open) < self.MOST
        assert counts.acquire_for(address, self.MOST) == expected
        if expected:
            self.open.append((worker, address))
        else:
            counts.release(CONNECTIONS)

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def go(self, data: st.DataObject) -> None:
        worker, address = self.open.pop(data.draw(st.integers(0, len(self.open) - 1)))
        self.counts[worker].release_for(address)
        self.counts[worker].release(CONNECTIONS)

    @rule(worker=st.integers(0, 2))
    def die(self, worker: int) -> None:
        self.counters.clear(worker + 1)
        self.counts[worker] = ConnectionCounters(self.counters, worker + 1, (), SECRET)
        self.open = [one for one in self.open if one[0] != worker]

    @invariant()
    def all_are_counted(self) -> None:
        assert all(one.total(CONNECTIONS) == len(self.open) for one in self.counts)


TestWorkers = Workers.TestCase
TestWorkers.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)


@settings(deadline=None)
@given(st.lists(st.text(max_size=20), unique=True, max_size=30))
def test_two_addresses_are_never_taken_for_one(addresses: list[str]) -> None:
    counts = ConnectionCounters.for_one_worker(100)
    counts.acquire(CONNECTIONS, 100)
    assert all(counts.acquire_for(one, 1) for one in addresses)
