"""What every worker must take in: done when all have, and sent again where one could not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from proxy.ipc.messages import DropCertificate, ToWorker
from proxy.supervisor.deliveries import _PAUSES, Deliveries
from proxy.supervisor.process_table import Child, Processes


@dataclass
class Worker:
    pid: int
    title: str = "worker"


class World:
    """Processes and timers, as far as they are needed. ``sent``: to whom, with which ticket."""

    def __init__(self, *pids: int) -> None:
        self.living = [Worker(pid) for pid in pids]
        self.sent: list[tuple[int, int]] = []
        self.later: list[Callable[[], None]] = []
        self.done: list[str] = []
        self.current: str | None = "a.test"
        self.deliveries = Deliveries(cast(Processes, self), self)  # type: ignore[arg-type]

    def workers(self) -> list[Worker]:
        return self.living

    def tell_worker(self, child: Worker, message: ToWorker, fds: tuple[int, ...] = ()) -> None:
        assert isinstance(message, DropCertificate)
        self.sent.append((child.pid, message.ticket))

    def at(self, _moment: float, action: Callable[[], None]) -> None:
        self.later.append(action)

    def compose(self, ticket: int) -> tuple[ToWorker, tuple[int, ...]] | None:
        if self.current is None:
            return None
        return DropCertificate(self.current, self.current, ticket), ()

    def send(self) -> int:
        self.deliveries.to_all(self.compose, lambda refusal: self.done.append(refusal or "done"))
        return self.sent[-1][1] if self.sent else 0

    def child(self, pid: int) -> Child:
        return cast(Child, next(one for one in self.living if one.pid == pid))

    def time_passes(self) -> None:
        later, self.later = self.later, []
        for action in later:
            action()


def test_it_is_done_when_all_have_acknowledged_it() -> None:
    world = World(1, 2)
    ticket = world.send()
    assert [pid for pid, _ in world.sent] == [1, 2]
    world.deliveries.acknowledged(world.child(1), ticket)
    world.deliveries.acknowledged(world.child(1), ticket)
    assert world.done == []
    world.deliveries.acknowledged(world.child(2), ticket)
    assert world.done == ["done"]


def test_without_a_worker_it_is_done_at_once() -> None:
    world = World()
    world.send()
    assert world.done == ["done"]


def test_who_has_ended_keeps_nobody_waiting() -> None:
    world = World(1, 2)
    ticket = world.send()
    world.deliveries.acknowledged(world.child(1), ticket)
    world.deliveries.ended(world.child(2))
    assert world.done == ["done"]


def test_who_could_not_take_it_in_is_sent_it_again() -> None:
    world = World(1, 2)
    ticket = world.send()
    world.deliveries.acknowledged(world.child(1), ticket)
    for times in range(2, 2 * len(_PAUSES)):
        world.deliveries.not_taken(world.child(2), ticket)
        world.time_passes()
        assert world.sent == [(1, ticket)] + [(2, ticket)] * times
    assert world.done == []
    world.deliveries.acknowledged(world.child(2), ticket)
    assert world.done == ["done"]


def test_what_is_out_of_date_is_not_sent_again_and_not_waited_for() -> None:
    world = World(1)
    ticket = world.send()
    world.deliveries.not_taken(world.child(1), ticket)
    world.current = None
    world.time_passes()
    assert len(world.sent) == 1
    assert world.done == ["done"]


def test_who_ends_before_it_is_sent_again_is_left_alone() -> None:
    world = World(1)
    ticket = world.send()
    world.deliveries.not_taken(world.child(1), ticket)
    world.deliveries.ended(world.child(1))
    world.time_passes()
    world.deliveries.not_taken(world.child(1), ticket)  # a last word that comes late
    assert len(world.sent) == 1
    assert world.later == []
