"""Waiting for name servers, with their answers given by the test and no time passing."""

from __future__ import annotations

import threading

import pytest

from acme_client.challenges.dns_propagation import DEAD_AFTER, await_shown
from acme_client.challenges.dns_resolver import NameServer, NoAnswer
from acme_client.errors import IssuanceError

ONE = NameServer("ns1.test", (("192.0.2.1", 53),))
TWO = NameServer("ns2.test", (("192.0.2.2", 53), ("2001:db8::2", 53)))


class Clock(threading.Event):
    """Passes when it is waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.time = 0.0

    def wait(self, timeout: float | None = None) -> bool:
        self.time += timeout or 0.0
        return self.is_set()


class Zone:
    """What each address answers, one after the other; the last one is for ever."""

    def __init__(self, **answers: list[object]) -> None:
        self.answers = answers
        self.asked: list[str] = []

    def __call__(self, address: str, port: int, name: str) -> frozenset[bytes]:
        assert (port, name) == (53, "_acme-challenge.test")
        self.asked.append(address)
        mine = self.answers["a" + address.replace(".", "").replace(":", "")]
        answer = mine.pop(0) if len(mine) > 1 else mine[0]
        if isinstance(answer, str):
            raise NoAnswer(answer)
        assert isinstance(answer, frozenset)
        return answer


SHOWN, OTHER, EMPTY = frozenset({b"other", b"value"}), frozenset({b"other"}), frozenset[bytes]()


def wait(zone: Zone, *servers: NameServer) -> float:
    clock = Clock()
    await_shown("_acme-challenge.test", "value", servers, 60.0, clock, zone, lambda: clock.time)
    return clock.time


def test_at_once_where_everybody_shows_it() -> None:
    zone = Zone(a192021=[SHOWN], a192022=[SHOWN], a2001db82=[SHOWN])
    assert wait(zone, ONE, TWO) == 0
    assert zone.asked == ["192.0.2.1", "192.0.2.2", "2001:db8::2"]


def test_the_slow_one_is_waited_for_and_only_that_one_asked_again() -> None:
    zone = Zone(a192021=[SHOWN], a192022=[EMPTY, OTHER, SHOWN], a2001db82=[SHOWN])
    assert wait(zone, ONE, TWO) > 0
    assert zone.asked[3:] == ["192.0.2.2", "192.0.2.2"]


def test_one_that_is_down_is_given_up_when_the_others_show_it() -> None:
    zone = Zone(
        a192021=["no answer"], a192022=[SHOWN], a2001db82=[OTHER, OTHER, OTHER, OTHER, SHOWN]
    )
    wait(zone, ONE, TWO)
    assert zone.asked.count("192.0.2.1") == 5


def test_a_lost_answer_is_no_death() -> None:
    zone = Zone(a192021=["no answer", "no answer", OTHER, "no answer", "no answer", SHOWN])
    assert wait(zone, ONE) > 0


@pytest.mark.parametrize(
    ("answer", "said"),
    [(OTHER, "does not show it"), ("answers SERVFAIL", "answers SERVFAIL")],
)
def test_patience_ends(answer: object, said: str) -> None:
    zone = Zone(a192021=[answer])
    with pytest.raises(IssuanceError, match=rf"ns1.test \(192.0.2.1\): {said}"):
        wait(zone, ONE)
    assert DEAD_AFTER < len(zone.asked) < 60


def test_nobody_to_ask() -> None:
    with pytest.raises(IssuanceError, match="has an address"):
        wait(Zone(), NameServer("ns1.test", ()))
