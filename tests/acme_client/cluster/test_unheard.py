"""What a machine answers to a CA for challenges that it has not heard of, by what it knows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast

import pytest

from acme_client.certificates.peers import Member, Peers
from acme_client.cluster import recollection
from acme_client.cluster.faults import Faults
from acme_client.cluster.settings import ClusterSettings
from acme_client.cluster.unheard import Unheard
from acme_client.drill.memory_store import MemoryStore
from acme_client.link import ANY, HEARD, SPARE, Challenge, Link
from acme_client.storage.store import Unreachable

BOTH = {"web-1": Member(True, {}), "web-2": Member(False, {})}
HTTP = "http://127.0.0.1:2379"
SPARED = {SPARE: "thumb"}


class Workers:
    """``answers``: the answer for each token that they have one for."""

    def __init__(self) -> None:
        self.answers: dict[str, str] = {}

    def present(self, challenge: Challenge) -> bool:
        self.answers[challenge.token] = challenge.key_authorization
        return True

    def retract(self, challenge: Challenge) -> None:
        self.answers.pop(challenge.token, None)


class Machine:
    """web-2, which has been told a thumbprint once."""

    def __init__(
        self, *, order: bool = False, allowed: bool = True, members: Mapping[str, Member] = BOTH
    ) -> None:
        self.settings = ClusterSettings(
            "shop", "web-2", (HTTP,), "", order=order, thumbprint=allowed
        )
        self.store = MemoryStore()
        if members:
            recollection.remember(self.store, self.settings, members, {}, "thumb")
        self.workers, self.faults = Workers(), Faults("shop")
        peers = Peers("web-2", orders=order)
        if members:
            peers.told(members, away=True)
        workers = cast(Link, self.workers)  # of which that is used
        self.unheard = Unheard(self.settings, self.store, workers, peers, self.faults, "")

    @property
    def answers(self) -> dict[str, str]:
        return self.workers.answers

    def fails(self) -> None:
        self.faults.begun("challenges and members", Unreachable("gives no answer"))
        self.unheard.see(hears=False)

    def hears(self) -> None:
        self.faults.ended("challenges and members")
        self.unheard.see(hears=True)


def test_nothing_is_answered_at_once_and_who_asks_waits() -> None:
    machine = Machine()
    machine.unheard.see(hears=False)
    assert machine.answers == SPARED
    machine.hears()
    assert machine.answers == {HEARD: "", **SPARED}


def test_where_that_takes_long_the_thumbprint_answers_until_this_machine_hears() -> None:
    machine = Machine()
    machine.unheard._late()
    assert machine.answers == {ANY: "thumb", **SPARED}
    machine.hears()
    assert machine.answers == {HEARD: "", **SPARED}


def test_without_the_engine_the_thumbprint_answers_and_nobody_waits() -> None:
    machine = Machine()
    machine.fails()
    assert machine.answers == {ANY: "thumb", HEARD: "", **SPARED}
    machine.hears()
    assert machine.answers == {HEARD: "", **SPARED}
    machine.fails()
    assert machine.answers == {ANY: "thumb", HEARD: "", **SPARED}


@pytest.mark.parametrize(
    "make",
    [
        lambda: Machine(allowed=False),
        lambda: Machine(members={}),
    ],
    ids=["not allowed", "never told"],
)
def test_who_must_not_or_cannot_answer_gives_up_when_the_engine_is_away(
    make: Callable[[], Machine],
) -> None:
    machine = make()
    machine.unheard._late()
    assert machine.answers == {}
    machine.fails()
    assert machine.answers == {HEARD: ""}


@pytest.mark.parametrize("order", [False, True])
def test_who_noted_that_nobody_else_orders_answers_too(order: bool) -> None:
    """Another machine that orders may have come since."""
    machine = Machine(order=order, members={"web-2": Member(order, {})})
    machine.unheard._late()
    assert machine.answers == {ANY: "thumb", **SPARED}


def test_what_was_kept_for_a_silent_process_is_taken_back_where_it_is_not_allowed() -> None:
    machine = Machine(allowed=False)
    machine.workers.answers.update(SPARED)  # by the process before
    machine.unheard.begin()
    machine.hears()
    assert machine.answers == {HEARD: ""}
    machine.unheard.close()


def test_at_its_end_who_asks_waits_for_the_next_process() -> None:
    machine = Machine()
    machine.hears()
    machine.unheard.close()
    assert machine.answers == SPARED
    machine.unheard._late()
    machine.fails()
    assert machine.answers == SPARED


def test_a_machine_with_another_name_knows_the_thumbprint_still_but_not_its_place() -> None:
    machine = Machine()
    renamed = ClusterSettings("shop", "web-3", (HTTP,), "")
    assert recollection.thumbprint(machine.store, renamed) == "thumb"
    assert recollection.recall(machine.store, renamed, {}) == {}
    other = ClusterSettings("other", "web-2", (HTTP,), "")
    assert recollection.thumbprint(machine.store, other) == ""
