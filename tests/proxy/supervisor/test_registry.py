"""What is in force: a certificate that a worker cannot serve takes no good one's place."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

from proxy.ipc.messages import CertificateFacts, Done, Publish, PutCertificate, ToWorker
from proxy.supervisor.deliveries import Deliveries
from proxy.supervisor.process_table import Child, Processes
from proxy.supervisor.registry import Registry

WHY = "its key is too short"


@dataclass
class Process:
    pid: int
    title: str = "worker"


@dataclass
class World:
    """Two workers and a certifier. ``told``: which serial each worker was told of, with the ticket;
    ``done``: what the certifier heard."""

    told: list[tuple[int, str, int]] = field(default_factory=list)
    done: list[tuple[int, str | None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.living = [Process(1), Process(2)]
        processes = cast(Processes, self)
        self.deliveries = Deliveries(processes, self)  # type: ignore[arg-type] # as much as is used
        self.registry = Registry(processes, self.deliveries)

    def workers(self) -> list[Process]:
        return self.living

    def at(self, _moment: float, _action: Callable[[], None]) -> None:
        raise AssertionError("nothing is sent again")

    def tell_worker(self, child: Process, message: ToWorker, fds: tuple[int, ...]) -> None:
        assert isinstance(message, PutCertificate)
        os.fstat(fds[0])  # it is open
        self.told.append((child.pid, message.facts.serial, message.ticket))

    def tell_certifier(self, _child: Child, message: Done) -> None:
        self.done.append((message.ticket, message.refusal))

    def publish(self, serial: str, number: int) -> int:
        """Returns the ticket of the delivery."""
        facts = CertificateFacts("a.test", "a.test", ("a.test",), 1e9, serial, "ecdsa", None)
        bundle = os.memfd_create(serial)
        certifier = cast(Child, Process(9, "certifier"))
        self.registry.publish(certifier, Publish(facts, number), bundle)
        return self.told[-1][2]

    def acknowledge(self, pid: int, ticket: int, why: str | None = None) -> None:
        self.deliveries.acknowledged(cast(Child, Process(pid)), ticket, why)

    @property
    def in_force(self) -> list[str]:
        return [one.facts.serial for one in self.registry.certificates()]


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_the_one_before_it_is_put_in_force_again_everywhere() -> None:
    world, before = World(), descriptors()
    ticket = world.publish("good", 1)
    world.acknowledge(1, ticket)
    world.acknowledge(2, ticket)
    assert world.done == [(1, None)]
    world.told.clear()
    ticket = world.publish("bad", 2)
    world.acknowledge(1, ticket)
    assert world.done == [(1, None)]
    world.acknowledge(2, ticket, WHY)
    assert world.done == [(1, None), (2, WHY)]
    assert world.in_force == ["good"]
    assert [(pid, serial) for pid, serial, _ in world.told] == [
        (1, "bad"), (2, "bad"), (1, "good"), (2, "good"),
    ]  # fmt: skip
    assert descriptors() == before + 1, "what was replaced for good is closed"


def test_without_one_before_it_nothing_is_in_force() -> None:
    world, before = World(), descriptors()
    ticket = world.publish("bad", 1)
    world.acknowledge(1, ticket, WHY)
    world.acknowledge(2, ticket)
    assert world.done == [(1, WHY)]
    assert world.in_force == []
    assert descriptors() == before


def test_a_newer_one_that_came_meanwhile_stays() -> None:
    world, before = World(), descriptors()
    first = world.publish("good", 1)
    bad = world.publish("bad", 2)
    newer = world.publish("newer", 3)
    for ticket, why in ((first, None), (bad, WHY), (newer, None)):
        world.acknowledge(1, ticket, why)
        world.acknowledge(2, ticket, why)
    assert world.in_force == ["newer"]
    assert sorted(world.done) == [(1, None), (2, WHY), (3, None)]
    assert descriptors() == before + 1


def test_a_worker_that_ends_has_nothing_against_it() -> None:
    world = World()
    ticket = world.publish("good", 1)
    world.acknowledge(1, ticket)
    world.deliveries.ended(cast(Child, Process(2)))
    assert world.done == [(1, None)]
    assert world.in_force == ["good"]
