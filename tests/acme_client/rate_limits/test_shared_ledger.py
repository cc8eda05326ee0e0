"""The limits of CAs, counted by several machines together."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from acme_client.certificates.peers import Member, Peers
from acme_client.drill.memory_store import MemoryStore
from acme_client.errors import IssuanceError
from acme_client.rate_limits.published import Limit, Limits
from acme_client.rate_limits.shared_ledger import SharedLedger
from acme_client.storage.store import Conflict, Edit, Lock, Unreachable

CA = "https://ca.example/directory"
HOUR, DAY = 3600.0, 86400.0
LIMITS = Limits(
    Limit("orders", 300, 3 * HOUR),
    Limit("certificates for {}", 50, 7 * DAY),
    Limit("exactly these names", 5, 7 * DAY),
    Limit("failed validations of {}", 5, HOUR),
    Limit("accounts", 10, 3 * HOUR),
)


class Machines:
    """Some with one shared store, whose clocks are ahead by so many seconds."""

    def __init__(self, *skews: float) -> None:
        self.now = 1e9
        self.shared = MemoryStore()
        self.stores = [self.shared.peer() for _ in skews]
        self.ledgers = []
        for number, skew in enumerate(skews):
            peers = Peers(f"web-{number}")
            clocks = {f"web-{n}": Member(clock=other - skew) for n, other in enumerate(skews)}
            peers.told(clocks, away=False)
            self.ledgers.append(
                SharedLedger(
                    MemoryStore(), self.stores[number], peers, self._clock(skew), lambda _: LIMITS
                )
            )

    def _clock(self, skew: float) -> Callable[[], float]:
        return lambda: self.now + skew

    def order(self, machine: int, *names: str) -> bool:
        reservation = self.ledgers[machine].reservation(CA, names)
        try:
            reservation.reserve(exempt=False)
        except IssuanceError as problem:
            reservation.commit(problem)
            return False
        reservation.finalizing()
        reservation.commit(None)
        return True


def placed(machines: Machines) -> int:
    """How many of four hundred orders in five minutes, placed in turns."""
    passed = 0
    for number in range(400):
        passed += machines.order(number % len(machines.ledgers), f"www.d{number}.org")
        machines.now += 0.75
    return passed


@pytest.mark.parametrize("skew", [0.0, 5.0, 55.0, -55.0])
def test_machines_in_turns_place_as_many_orders_as_one(skew: float) -> None:
    assert 300 < placed(Machines(0.0)) == placed(Machines(0.0, skew)) < 308


def test_a_domain_is_counted_once_for_all() -> None:
    machines = Machines(0.0, 0.0, 0.0)
    assert [machines.order(n % 3, f"{n}.example.org") for n in range(52)] == [True] * 49 + [
        False
    ] * 3
    assert machines.ledgers[0].must_wait(CA, ("new.example.org",), renewal=False)
    assert not machines.ledgers[0].must_wait(CA, ("new.example.net",), renewal=False)


def test_what_another_machine_has_written_meanwhile_is_counted_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machines = Machines(0.0, 0.0)
    store, change = machines.stores[0], machines.stores[0].change
    conflicts = 0

    def late(edits: Sequence[Edit], by: Lock | None = None) -> None:
        monkeypatch.setattr(store, "change", counted)
        assert machines.order(1, "a.example.org")  # faster
        counted(edits, by)

    def counted(edits: Sequence[Edit], by: Lock | None = None) -> None:
        nonlocal conflicts
        try:
            change(edits, by)
        except Conflict:
            conflicts += 1
            raise

    monkeypatch.setattr(store, "change", late)
    assert machines.order(0, "b.example.org")
    assert conflicts == 1
    assert "48 of 50 left" in str(machines.ledgers[1].costs(CA, [("x.example.org",)])) or (
        "1 of 48 left" in str(machines.ledgers[1].costs(CA, [("x.example.org",)]))
    )


def test_an_order_of_a_hundred_domains_is_counted_at_each() -> None:
    machines = Machines(0.0, 0.0)
    names = tuple(f"www.d{number}.org" for number in range(100))
    assert machines.order(0, *names)
    left = [machines.ledgers[1].costs(CA, [(f"x.d{n}.org",)])[1] for n in (0, 50, 99)]
    assert all("49 left" in one for one in left)


def test_without_the_shared_store_what_was_counted_here_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machines = Machines(0.0, 0.0)
    assert all(machines.order(0, f"{n}.example.org") for n in range(49))

    def away(*_: object) -> None:
        raise Unreachable("no answer")

    monkeypatch.setattr(machines.stores[0], "mark", away)
    assert not machines.order(0, "more.example.org")
    assert machines.order(0, "other.example.net")


def test_a_refusal_of_the_ca_is_known_to_all() -> None:
    machines = Machines(0.0, 0.0)
    reservation = machines.ledgers[0].reservation(CA, ("a.example.org",))
    reservation.reserve(exempt=False)
    text = "too many certificates for example.org: see https://ca/#new-certificates-per-registered-domain"
    reservation.commit(IssuanceError("rate_limited", text, not_before=machines.now + HOUR))
    assert not machines.order(1, "b.example.org")
    machines.now += HOUR + 1
    assert machines.order(1, "b.example.org")


def test_a_moment_that_a_wrong_clock_has_written_is_bounded() -> None:
    machines = Machines(0.0)
    machines.now += 1000 * DAY
    assert all(machines.order(0, f"{n}.example.org") for n in range(49))
    machines.now -= 1000 * DAY
    assert not machines.order(0, "more.example.org")
    machines.now += 7 * DAY + 1
    assert machines.order(0, "more.example.org")
