"""Questions for a certifier that rests, ends, or is not there."""

from __future__ import annotations

import selectors
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from proxy.ipc.messages import CertifierAnswer, CertifierCommand, ToCertifier
from proxy.supervisor.answers import Answer
from proxy.supervisor.certifier_requests import ENDED, RESTARTING, CertifierRequests
from proxy.supervisor.process_table import Child, Processes


@dataclass
class World:
    """A certifier that may be there, and what is said to it; `Starter` and `Processes` at once."""

    there: bool = True
    certifier_rests: bool = False
    startable: bool = True
    told: list[ToCertifier] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)

    def certifier(self) -> object | None:
        return self if self.there else None

    def tell_certifier(self, _child: Child, message: ToCertifier) -> None:
        self.told.append(message)

    def wake_certifier(self) -> None:
        if self.startable:
            self.there, self.certifier_rests = True, False


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    world = World()
    monkeypatch.setattr(Processes, "certifier", lambda _self: world.certifier())
    monkeypatch.setattr(
        Processes, "tell_certifier", lambda _self, child, said: world.tell_certifier(child, said)
    )
    return world


@pytest.fixture
def requests(world: World) -> Iterator[CertifierRequests]:
    with selectors.DefaultSelector() as selector:
        requests = CertifierRequests(Processes(selector))
        requests.starter = world
        yield requests


def test_an_answer_goes_to_who_has_asked(world: World, requests: CertifierRequests) -> None:
    requests.ask("renew", "a.test", world.answers.append)
    assert world.told == [CertifierCommand("renew", "a.test", 1)]
    assert requests.waiting
    requests.answered(CertifierAnswer(1, {"ok": True}))
    assert world.answers == [{"ok": True}]
    assert not requests.waiting


def test_one_that_rests_is_started_by_a_question(world: World, requests: CertifierRequests) -> None:
    world.there, world.certifier_rests = False, True
    requests.ask("renew", "a.test", world.answers.append)
    assert world.told == [CertifierCommand("renew", "a.test", 1)]


def test_a_question_while_it_goes_to_rest_is_the_next_one_s(
    world: World, requests: CertifierRequests
) -> None:
    world.certifier_rests = True  # and its process has not ended yet
    requests.ask("renew", "a.test", world.answers.append)
    assert world.told == []
    assert requests.waiting
    world.there = False
    requests.certifier_ended()
    assert world.told == [CertifierCommand("renew", "a.test", 1)]
    assert world.answers == []


def test_where_none_can_be_started_it_is_said(world: World, requests: CertifierRequests) -> None:
    world.there, world.certifier_rests, world.startable = False, True, False
    requests.ask("renew", "a.test", world.answers.append)
    assert world.answers == [RESTARTING]


def test_one_that_ends_leaves_nobody_waiting(world: World, requests: CertifierRequests) -> None:
    requests.ask("renew", "a.test", world.answers.append)
    requests.certifier_ended()
    assert world.answers == [ENDED]
    assert not requests.waiting
