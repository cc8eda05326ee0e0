"""Simulated years: the real lifecycle, turns, attempts, records, ledger and store, against a CA and a
clock of ours.

What may never happen: a certificate that lapses, a limit of the CA that is hit, a question about an
expired certificate, a thousand orders in one minute. `make years` is a thousand certificates over
three years for each lifetime; its figures stand in docs/decisions/simulated-years.md.
"""

from __future__ import annotations

import logging
import os
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from acme_client import at_hand, proof
from acme_client.agent import Agent
from acme_client.desks import Desks
from acme_client.disk import Disk
from acme_client.lifecycle import State
from acme_client.limits import LETSENCRYPT
from acme_client.link import Authority, Command, Settings, Wanted
from acme_client.pace import BATCH
from acme_client.store import DirectoryStore, Store
from support.memory_store import Crash, MemoryStore
from support.simulated_ca import (
    DAY,
    DIRECTORY,
    DOMAIN,
    FAILURES,
    HOUR,
    NAMES,
    ORDERS,
    START,
    SimulatedCa,
    cheap_examine,
)
from support.simulated_life import Life, MakeStore, Visitors

SHORT = {90: 0.4, 45: 0.25, 6: 0.1}
CERTIFICATES = int(os.environ.get("YEARS_CERTIFICATES", "20"))
# By lifetime in days; in the suite, a few renewals of each.
YEARS = {days: float(os.environ.get("YEARS", years)) for days, years in SHORT.items()}


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """And quiet: nobody reads the log of a thousand years."""
    monkeypatch.setattr(proof, "examine", cheap_examine)
    monkeypatch.setattr(at_hand, "examine", cheap_examine)
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


def in_memory(now: Callable[[], float], crash: Callable[[], bool]) -> Store:
    return MemoryStore(now=now, crash=crash)


def on_disk(folder: Path) -> MakeStore:
    """The real store, which dies at the real steps."""

    def make(now: Callable[[], float], crash: Callable[[], bool]) -> Store:
        def before(_step: str, _path: Path) -> None:
            if crash():
                raise Crash

        return DirectoryStore(folder, Disk(before), now)

    return make


@pytest.fixture
def fast_disk() -> Iterator[Path]:
    """Memory that looks like a disk, where there is such a thing: a year has many fsyncs."""
    memory = Path("/dev/shm")
    folder = tempfile.mkdtemp(dir=memory if os.access(memory, os.W_OK) else None)
    yield Path(folder)
    shutil.rmtree(folder)


def lived(
    count: int,
    lifetime: float,
    years: float,
    seed: int,
    *,
    information: bool = True,
    kills: float = 0.02,
    wrong_clocks: bool = True,
    make_store: MakeStore = in_memory,
) -> Life:
    """A life with everything in it; the same seed, the same life."""
    dice = random.Random(seed)
    end = START + years * 365 * DAY
    runway = lifetime / 3
    outages, at = [], START + dice.uniform(0.1, 1) * lifetime
    while at < end:
        outages.append((at, at + dice.uniform(0.1, 0.8) * runway))
        at += dice.uniform(1.5, 4.0) * lifetime
    sets = [(f"www{n}.d{n % max(1, count // 15)}.org", f"{n}.d{n}.net") for n in range(count)]
    broken = {}
    for names in dice.sample(sets, -(-count // 10)):
        start = START + dice.uniform(0.3, 1.0) * years * 365 * DAY
        broken[names[0]] = (start, start + dice.uniform(0.05, 0.3) * runway)
    ca = SimulatedCa(
        lifetime,
        dice,
        outages,
        [START + dice.uniform(0.2, 1.0) * years * 365 * DAY for _ in range(2)],
        broken,
        information,
    )
    skews = []
    for _ in range(3 if wrong_clocks else 0):
        start = START + dice.uniform(0.2, 0.9) * years * 365 * DAY
        by = dice.choice((-1, 1)) * dice.choice((HOUR, 2 * DAY, 30 * DAY, 4000 * DAY))
        skews.append((start, start + dice.uniform(0.001, 0.03) * runway, by))
    restarts = [START + dice.uniform(0, 1) * years * 365 * DAY for _ in range(int(years * 20))]
    life = Life(
        ca, sets, make_store, dice, skews=skews, kills=kills, restarts=restarts if kills else []
    )
    return life.run(end)


def judge(life: Life) -> None:
    ca, visitors = life.ca, life.visitors
    assert visitors.lapses == []
    assert {name: until for name, until in visitors.served_until.items() if until < ca.now} == {}
    assert visitors.served_until.keys() == life.holdings.keys()
    assert ca.limits_hit == []
    assert ca.asked_when_expired == 0
    # Whatever happens, small batches; apart from the start, when there is nothing to serve yet.
    begun = int(START // 60) + 24 * 60
    crowd = [orders for minute, orders in ca.orders_by_minute.items() if minute > begun]
    assert max(crowd, default=0) <= 2 * BATCH


def quiet_hours(life: Life) -> list[int]:
    """Orders in each hour that had no reason to be a busy one."""
    ca = life.ca
    reasons = {START, *ca.incidents, *(end for _start, end in ca.outages)}
    reasons |= {end for _start, end, _by in life.skews}
    return [
        orders
        for hour, orders in ca.orders_by_hour.items()
        if not any(0 <= hour - int(reason // HOUR) <= 26 for reason in reasons)
    ]


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("information", [True, False], ids=["ARI", "alone"])
@pytest.mark.parametrize("days", SHORT)
def test_years_without_a_lapse(days: int, information: bool) -> None:
    begun = time.process_time()
    # A start reads everything that is kept; some hundred of them are enough.
    years = YEARS[days]
    attempts = CERTIFICATES * years * 365 / days * 2
    kills = min(0.05, 200 / attempts)
    life = lived(CERTIFICATES, days * DAY, years, days, information=information, kills=kills)
    judge(life)
    ca = life.ca
    assert life.deaths or attempts < 1000
    print(
        f"\n| {days} days | {'yes' if information else 'no'} | {CERTIFICATES} | {years:g} | "
        f"{sum(ca.orders_by_hour.values())} | {max(ca.orders_by_hour.values())} | "
        f"{max(quiet_hours(life), default=0)} | {ca.questions} | {len(ca.outages)} | "
        f"{life.deaths} | {len(life.visitors.lapses)} | {len(ca.limits_hit)} | "
        f"{time.process_time() - begun:.0f} s |"
    )


@pytest.mark.parametrize("information", [True, False], ids=["ARI", "alone"])
@pytest.mark.parametrize("days", [90, 6])
def test_what_was_made_together_is_not_renewed_together(days: int, information: bool) -> None:
    """Forty certificates of the same minutes, and nothing that disturbs them."""
    count, lifetime = 40, days * DAY
    ca = SimulatedCa(lifetime, random.Random(1), information=information)
    sets = [(f"www.d{n}.org",) for n in range(count)]
    life = Life(ca, sets, in_memory, random.Random(2)).run(START + 1.5 * lifetime)
    judge(life)
    hours = lifetime / 50 / HOUR if days < 50 else 24.0  # the spread
    assert sum(quiet_hours(life)) >= count
    assert max(quiet_hours(life)) <= count / hours * 1.5 + 8 < count


def quiet_life(
    sets: list[tuple[str, ...]], days: float, *, information: bool = True, takes: float = 20.0
) -> Life:
    """Nothing happens but what the test does."""
    ca = SimulatedCa(days * DAY, random.Random(1), information=information)
    return Life(ca, sets, in_memory, random.Random(2), order_takes=takes)


def test_a_mass_revocation_is_over_within_a_day_in_small_batches_and_at_no_cost() -> None:
    """At a CA that takes no time at all, so that only our own pace is left."""
    life = quiet_life([(f"www.d{n}.org",) for n in range(100)], 90, takes=0.01)
    life.ca.incidents.append(START + 5 * DAY)
    life.run(START + 5.6 * DAY)
    judge(life)
    assert all(
        life.ca.issued_at[one.record.serial or ""] > START + 5 * DAY
        for one in life.holdings.values()
    )
    assert life.ca.exempt == 100


def test_all_certificates_due_at_once_are_ordered_in_small_batches() -> None:
    """The machine was away for the whole of the day over which they are spread."""
    life = quiet_life([(f"www.d{n}.org",) for n in range(100)], 90, information=False, takes=0.01)
    life.run(START + 50 * DAY)
    life.ca.now = START + 62 * DAY
    life.run(START + 63 * DAY)
    judge(life)
    assert sum(life.ca.orders_by_hour.values()) == 200
    assert max(orders for minute, orders in life.ca.orders_by_minute.items()
               if minute * 60 > START + DAY) >= BATCH  # fmt: skip


@pytest.mark.parametrize("count", [90, 330], ids=["of one domain", "of many"])
def test_more_new_names_than_the_ca_allows_get_theirs_one_by_one(count: int) -> None:
    """And those that have theirs are renewed meanwhile, every three days."""
    of_one = [(f"{n}.example.org",) for n in range(count)]
    of_many = [(f"www.d{n}.org",) for n in range(count)]
    life = quiet_life(of_one if count < 100 else of_many, 6, information=False)
    life.run(START + (10 if count < 100 else 4) * DAY)
    judge(life)


def test_somebody_who_asks_again_and_again_does_not_spend_the_last_one() -> None:
    life = quiet_life([("www.example.org",)], 90, information=False)
    for turn in range(1, 20):
        life.run(START + turn * HOUR)
        life.ask("www.example.org")
    life.run(START + DAY)
    assert life.ca.limits_hit == []
    assert sum(life.ca.orders_by_hour.values()) == 4
    held = life.holdings["www.example.org"].record
    assert held.state is State.WAITING
    assert "5 in 7 days are allowed" in (held.last_error or "")


def test_a_life_on_a_real_disk(fast_disk: Path) -> None:
    life = lived(4, 6 * DAY, 0.25, 11, kills=0.2, make_store=on_disk(fast_disk))
    judge(life)
    assert life.deaths > 5


@hypothesis_settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    seed=st.integers(0, 10**6),
    days=st.sampled_from([90, 47, 45, 10, 6]),
    count=st.integers(1, 8),
    information=st.booleans(),
    kills=st.sampled_from([0.0, 0.05, 0.3]),
)
def test_no_schedule_breaks_it(
    seed: int, days: int, count: int, information: bool, kills: float
) -> None:
    judge(lived(count, days * DAY, 0.3, seed, information=information, kills=kills))


def test_the_simulated_ca_has_the_limits_that_we_count_with() -> None:
    known = (LETSENCRYPT.orders, LETSENCRYPT.names, LETSENCRYPT.domain, LETSENCRYPT.failures)
    assert [(one.count, one.window) for one in known if one] == [ORDERS, NAMES, DOMAIN, FAILURES]


# The agent itself


class AtOnce(Desks):
    """No threads: what is given out is done."""

    def has_room(self, directory: str) -> bool:
        return True

    def is_asking(self, directory: str) -> bool:
        return False

    def attempt(self, directory: str, work: Callable[[], None]) -> None:
        work()

    def ask(self, directory: str, work: Callable[[], None]) -> None:
        work()


class Leaping(Visitors):
    """A mailbox in which nothing comes; waiting for it makes the time pass."""

    def __init__(self, ca: SimulatedCa, until: float) -> None:
        super().__init__(ca)
        self.until = until
        self.states: dict[str, str] = {}

    def report(self, name: str, status: dict[str, str] | None = None, *_: object) -> None:
        if status is not None:
            self.states[name] = status["state"]

    def answer(self, *_: object) -> None:
        pass

    def receive(self, timeout: float) -> list[Command]:
        self.ca.now += max(timeout, 0.05)
        return [Command("stop")] if self.ca.now >= self.until else []


@pytest.mark.parametrize("information", [True, False], ids=["ARI", "alone"])
def test_the_agent_lives_as_the_simulation_does(
    information: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three weeks of six-day certificates, with an outage: the same number of orders, and of
    questions, as `Life` makes."""
    lifetime, until = 6 * DAY, START + 21 * DAY
    outages = [(START + 8 * DAY, START + 9 * DAY)]
    sets = [("a.org", "www.a.org"), ("b.org",)]

    simulated = SimulatedCa(lifetime, random.Random(1), outages, information=information)
    judge(Life(simulated, sets, in_memory, random.Random(2)).run(until))

    ca = SimulatedCa(lifetime, random.Random(1), outages, information=information)
    ca.clock = lambda: ca.now
    link = Leaping(ca, until)
    by = Authority(DIRECTORY)
    agent = Agent(
        Settings(Path("/"), tuple(Wanted(names, by) for names in sets)),
        link,  # type: ignore[arg-type] # as much of it as is used
        MemoryStore(now=ca.clock),
        ca.clock,
        random.Random(2),
        AtOnce(),
    )
    monkeypatch.setattr(agent, "_issuer", lambda _authority: ca)
    monkeypatch.setattr(agent._bench, "_issuer", lambda _authority: ca)
    agent.load()
    agent.serve()
    assert link.lapses == []
    assert set(link.states.values()) <= {State.FRESH.value, State.DUE.value}
    assert ca.limits_hit == []
    orders, questions = sum(ca.orders_by_hour.values()), ca.questions
    assert orders == sum(simulated.orders_by_hour.values())
    assert questions == pytest.approx(simulated.questions, rel=0.05)


def test_a_batch_is_what_the_simulation_may_see() -> None:
    """More in one minute than the judge allows would be seen: it is not blind."""
    ca = SimulatedCa(90 * DAY, random.Random(1))
    life = Life(ca, [("a.org",)], in_memory, random.Random(2)).run(START + 90 * DAY)
    ca.orders_by_minute[int(START // 60) + 2000] = 2 * BATCH + 1
    with pytest.raises(AssertionError):
        judge(life)
