"""What is in force: a certificate that a worker cannot serve takes no good one's place."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

import pytest

from proxy.ipc.codec import Malformed
from proxy.ipc.messages import (
    CertificateFacts,
    Done,
    PackedCertificate,
    Publish,
    PutCertificates,
    ToWorker,
)
from proxy.ipc.packs import packed
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
        assert isinstance(message, PutCertificates)
        for one in message.certificates:
            serial = os.pread(fds[0], one.length, one.offset).decode()
            assert serial == one.facts.serial
            self.told.append((child.pid, serial, message.ticket))

    def tell_certifier(self, _child: Child, message: Done) -> None:
        self.done.append((message.ticket, next(iter(message.refusals.values()), None)))

    def publish(self, serial: str, number: int) -> int:
        """Returns the ticket of the delivery."""
        self.publish_all({"a.test": serial}, number)
        return self.told[-1][2]

    def publish_all(self, serials: dict[str, str], number: int) -> None:
        fd, places = packed(one.encode() for one in serials.values())
        certificates = tuple(
            PackedCertificate(
                CertificateFacts(name, name, (name,), 1e9, serial, "ecdsa", digest=serial), *place
            )
            for (name, serial), place in zip(serials.items(), places, strict=True)
        )
        certifier = cast(Child, Process(9, "certifier"))
        self.registry.publish(certifier, Publish(certificates, number), fd)

    def acknowledge_all(self) -> None:
        for pid, _serial, ticket in list(self.told):
            self.acknowledge(pid, ticket)

    def acknowledge(self, pid: int, ticket: int, why: str | None = None) -> None:
        refusals = {} if why is None else {"a.test": why}
        self.deliveries.acknowledged(cast(Child, Process(pid)), ticket, refusals)

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


def test_a_certifier_that_comes_back_costs_nothing_that_has_not_changed() -> None:
    world, before = World(), descriptors()
    some = {f"s{number}.test": f"serial {number}" for number in range(100)}
    world.publish_all(some, 1)
    world.acknowledge_all()
    assert len(world.told) == 2 * 100
    world.told.clear()
    world.publish_all(some, 2)
    assert world.told == []
    assert world.done == [(1, None), (2, None)]
    world.publish_all({**some, "s7.test": "another"}, 3)
    assert [(pid, serial) for pid, serial, _ in world.told] == [(1, "another"), (2, "another")]
    assert descriptors() == before + 2


def test_what_not_all_have_acknowledged_is_told_again() -> None:
    world = World()
    ticket = world.publish("good", 1)
    world.acknowledge(1, ticket)
    world.publish("good", 2)
    assert [pid for pid, _, _ in world.told] == [1, 2, 1, 2]


def test_renewals_do_not_take_a_descriptor_each() -> None:
    world, before = World(), descriptors()
    names = [f"s{number}.test" for number in range(300)]
    world.publish_all({name: f"first of {name}" for name in names}, 1)
    world.acknowledge_all()
    for name in names:
        world.told.clear()
        world.publish_all({name: f"second of {name}"}, 2)
        world.acknowledge_all()
    assert descriptors() < before + 40
    assert sorted(world.in_force) == sorted(f"second of {name}" for name in names)
    contents = [one.bundle.content().decode() for one in world.registry.certificates()]
    assert contents == world.in_force


def test_a_place_outside_the_descriptor_is_refused_and_puts_nothing_in_force() -> None:
    world, before = World(), descriptors()
    facts = CertificateFacts("a.test", "a.test", ("a.test",), 1e9, "ff", "ecdsa")
    fd, _places = packed([b"chain and key"])
    message = Publish((PackedCertificate(facts, 10, 4),), 1)
    with pytest.raises(Malformed):
        world.registry.publish(cast(Child, Process(9, "certifier")), message, fd)
    assert world.in_force == []
    assert descriptors() == before
