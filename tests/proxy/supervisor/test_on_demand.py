"""One question to the certifier for all workers that wait, whoever dies in between."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import pytest

from proxy.ipc.messages import (
    CertificateUsed,
    CertifierCommand,
    OnDemandResult,
    ToCertifier,
    ToWorker,
    WantCertificate,
)
from proxy.supervisor import on_demand
from proxy.supervisor.certifier_requests import ENDED, CertifierRequests
from proxy.supervisor.on_demand import OnDemand
from proxy.supervisor.process_table import Child, Processes


@dataclass
class Someone:
    pid: int


class World:
    """Processes and requests, as far as they are needed. ``sent``: to whom, what."""

    def __init__(self) -> None:
        self.workers_now = [Someone(1), Someone(2), Someone(3)]
        self.certifier_now: Someone | None = Someone(9)
        self.sent: list[tuple[int, ToWorker | ToCertifier]] = []
        self.questions: list[tuple[str, Callable[[dict[str, Any]], None]]] = []
        self.on_demand = OnDemand(cast(Processes, self), cast(CertifierRequests, self))

    def workers(self) -> list[Someone]:
        return self.workers_now

    def certifier(self) -> Someone | None:
        return self.certifier_now

    def tell_worker(self, child: Someone, message: ToWorker) -> None:
        self.sent.append((child.pid, message))

    def tell_certifier(self, child: Someone, message: ToCertifier) -> None:
        self.sent.append((child.pid, message))

    def ask(self, verb: str, value: str, reply: Any) -> None:
        assert verb == "want"
        self.questions.append((value, reply))

    def want(self, pid: int, name: str) -> None:
        self.on_demand.wanted(cast(Child, Someone(pid)), WantCertificate(name))

    def certifier_dies(self) -> None:
        self.certifier_now = None
        questions, self.questions = self.questions, []
        for _name, reply in questions:
            reply(ENDED)

    def certifier_comes(self) -> None:
        self.certifier_now = Someone(10)
        self.on_demand.certifier_ready()


def test_all_workers_that_wait_are_one_question_and_hear_the_answer() -> None:
    world = World()
    for pid in (1, 2, 1):
        world.want(pid, "a.example")
    ((name, reply),) = world.questions
    assert name == "a.example"
    reply({"ok": True})
    told = OnDemandResult("a.example", ok=True)
    assert world.sent == [(1, told), (2, told)]
    assert world.on_demand.outcomes == {"obtained": 1, "refused": 0}
    # Whoever comes later is a question of its own.
    world.want(3, "a.example")
    world.questions[1][1]({"ok": False, "seconds": 12.0, "error": "no"})
    assert world.sent[2] == (3, OnDemandResult("a.example", ok=False, seconds=12.0))
    assert world.on_demand.outcomes == {"obtained": 1, "refused": 1}


def test_a_worker_that_has_ended_is_not_told() -> None:
    world = World()
    world.want(1, "a.example")
    world.want(2, "a.example")
    world.on_demand.ended(cast(Child, Someone(1)))
    world.questions[0][1]({"ok": True})
    assert [pid for pid, _ in world.sent] == [2]


def test_the_next_certifier_is_asked_what_the_last_one_did_not_answer() -> None:
    world = World()
    world.want(1, "a.example")
    world.certifier_dies()
    world.want(2, "b.example")
    assert world.questions == []
    world.certifier_comes()
    assert [name for name, _ in world.questions] == ["a.example", "b.example"]
    for _, reply in world.questions:
        reply({"ok": True})
    assert [pid for pid, _ in world.sent] == [1, 2]


def test_a_name_that_certifiers_die_of_is_left_alone() -> None:
    world = World()
    world.want(1, "a.example")
    for _ in range(on_demand._TRIES - 1):
        world.certifier_dies()
        assert world.sent == []
        world.certifier_comes()
    world.certifier_dies()
    ((pid, told),) = world.sent
    assert (pid, told) == (1, OnDemandResult("a.example", False, on_demand._ILL_FATED_FOR))
    world.certifier_comes()
    assert world.questions == []


def test_there_is_an_end_to_how_many_can_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_demand, "_MOST", 2)
    world = World()
    for name in ("a.example", "b.example", "c.example", "a.example"):
        world.want(1, name)
    assert len(world.questions) == 2
    ((_, told),) = world.sent
    assert told == OnDemandResult("c.example", ok=False, seconds=on_demand._CROWDED_FOR)


def test_that_a_name_is_used_is_passed_on() -> None:
    world = World()
    world.on_demand.used(CertificateUsed("a.example"))
    assert world.sent == [(9, CertifierCommand("used", "a.example"))]
    world.certifier_now = None
    world.on_demand.used(CertificateUsed("a.example"))
    assert len(world.sent) == 1
