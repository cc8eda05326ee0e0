"""Simulated years: the real lifecycle, turns, attempts, records, ledger and store, against a CA and a
clock of ours.

What may never happen: a certificate that lapses, a limit of the CA that is hit, a question about an
expired certificate, a thousand orders in one minute. `make years` is a thousand certificates over
three years for each lifetime; its figures stand in docs/decisions/simulated-years.md.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings

from acme_client.agent.agent import Agent
from acme_client.agent.executors import Executors
from acme_client.agent.pace import BATCH
from acme_client.certificates.lifecycle import State
from acme_client.certificates.repository import CertificateRepository
from acme_client.drill.life import STEPS, Life, MakeStore, Visitors
from acme_client.drill.memory_store import Crash, MemoryStore
from acme_client.drill.simulated_ca import (
    DAY,
    DIRECTORY,
    DOMAIN,
    FAILURES,
    HOUR,
    NAMES,
    ORDERS,
    START,
)
from acme_client.link import Authority, CertificateSpec, Command, Served, Settings, Taken
from acme_client.rate_limits.published import LETSENCRYPT
from acme_client.storage.atomic import Disk
from acme_client.storage.directory import DirectoryStore
from acme_client.storage.store import Store
from acme_client.x509.verify import CertificateAndKey
from support.simulation import found_schedules as found
from support.simulation.cheap_ca import CheapCa
from support.simulation.cheap_ca import cheap as cheap  # in force for each test
from support.simulation.schedules import Drawn, Loaded, Schedule, drawn, random_schedule, sites
from support.simulation.simulation_checks import busiest, judge, quiet_hours

SHORT = {90: 0.4, 45: 0.25, 6: 0.1}
CERTIFICATES = int(os.environ.get("YEARS_CERTIFICATES", "20"))
# By lifetime in days; in the suite, a few renewals of each.
YEARS = {days: float(os.environ.get("YEARS", years)) for days, years in SHORT.items()}


def in_memory(now: Callable[[], float], crash: Callable[[], bool]) -> Store:
    return MemoryStore(crash=crash)


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
    kills: int = 20,
    wrong_clocks: bool = True,
    make_store: MakeStore = in_memory,
) -> Life:
    """A life with everything in it; the same seed, the same life. ``kills``: part of attempts in
    which the process is killed."""
    rng = random.Random(seed)
    end = START + years * 365 * DAY
    sets = sites(count)
    plan = random_schedule(
        rng, lifetime, end, sets, information=information, wrong_clocks=wrong_clocks
    )
    plan.restarts = [START + rng.uniform(0, 1) * (end - START) for _ in range(int(years * 20))]

    killed = sorted(START + rng.uniform(0, 1) * (end - START) for _ in range(kills))

    def fate(now: float) -> int:
        if not killed or killed[0] > now:
            return 0
        while killed and killed[0] <= now:
            killed.pop(0)
        return rng.randint(1, STEPS)

    return live(plan, lifetime, sets, end, rng, fate, information, make_store)


def live(
    plan: Schedule,
    lifetime: float,
    sets: Sequence[tuple[str, ...] | CertificateSpec],
    end: float,
    rng: random.Random,
    fates: Callable[[float], int],
    information: bool,
    make_store: MakeStore = in_memory,
) -> Life:
    ca = CheapCa(lifetime, rng, plan.outages, plan.incidents, plan.broken, information)
    life = Life(ca, sets, make_store, rng, skews=plan.skews, fates=fates, restarts=plan.restarts)
    return life.run(end)


@pytest.mark.timeout(4 * 3600)
@pytest.mark.parametrize("information", [True, False], ids=["ARI", "alone"])
@pytest.mark.parametrize("days", SHORT)
def test_years_without_a_lapse(days: int, information: bool) -> None:
    begun = time.process_time()
    # A start reads everything that is kept; some hundred of them are enough.
    years = YEARS[days]
    attempts = CERTIFICATES * years * 365 / days * 2
    kills = min(200, int(attempts / 8))
    life = lived(CERTIFICATES, days * DAY, years, days, information=information, kills=kills)
    judge(life)
    ca = life.ca
    assert life.deaths
    print(
        f"\n| {days} days | {'yes' if information else 'no'} | {CERTIFICATES} | {years:g} | "
        f"{sum(ca.orders_by_hour.values())} | "
        f"{sum(ca.orders_by_hour.values()) / (years * 365 * 24):.1f} | "
        f"{max(ca.orders_by_hour.values())} | "
        f"{max(quiet_hours(life), default=0)} | {ca.questions} | {len(ca.outages)} | "
        f"{len(life.deaths)} | {len(life.visitors.lapses)} | {len(ca.limits_hit)} | "
        f"{time.process_time() - begun:.0f} s |"
    )


@pytest.mark.parametrize("information", [True, False], ids=["ARI", "alone"])
@pytest.mark.parametrize("days", [90, 6])
def test_what_was_made_together_is_not_renewed_together(days: int, information: bool) -> None:
    """Forty certificates of the same minutes, and nothing that disturbs them."""
    count, lifetime = 40, days * DAY
    ca = CheapCa(lifetime, random.Random(1), information=information)
    sets = [(f"www.d{n}.org",) for n in range(count)]
    life = Life(ca, sets, in_memory, random.Random(2)).run(START + 1.5 * lifetime)
    judge(life)
    assert sum(quiet_hours(life)) >= count
    assert max(quiet_hours(life)) <= busiest(life) < count


def quiet_life(
    sets: list[tuple[str, ...]], days: float, *, information: bool = True, takes: float = 20.0
) -> Life:
    """Nothing happens but what the test does."""
    ca = CheapCa(days * DAY, random.Random(1), information=information)
    return Life(ca, sets, in_memory, random.Random(2), order_takes=takes)


def test_a_mass_revocation_is_over_within_a_day_in_small_batches_and_at_no_cost() -> None:
    """At a CA that takes no time at all, so that only our own pace is left."""
    life = quiet_life([(f"www.d{n}.org",) for n in range(100)], 90, takes=0.25)
    life.ca.incidents.append(START + 5 * DAY)
    life.run(START + 5.6 * DAY)
    judge(life)
    assert all(
        life.ca.issued_at[one.record.serial or ""] > START + 5 * DAY
        for one in life.certificates.values()
    )
    assert life.ca.exempt == 100


def test_all_certificates_due_at_once_are_ordered_in_small_batches() -> None:
    """The machine was away for the whole of the day over which they are spread."""
    life = quiet_life([(f"www.d{n}.org",) for n in range(100)], 90, information=False, takes=0.25)
    life.run(START + 50 * DAY)
    life.ca.now = START + 62 * DAY
    life.run(START + 63 * DAY)
    judge(life, START + 62 * DAY)
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
    held = life.certificates["www.example.org"].record
    assert held.state is State.WAITING
    assert "5 in 7 days are allowed" in (held.last_error or "")


def test_a_life_on_a_real_disk(fast_disk: Path) -> None:
    life = lived(4, 6 * DAY, 0.25, 11, kills=40, make_store=on_disk(fast_disk))
    judge(life)
    assert len(life.deaths) > 5


@hypothesis_settings(
    max_examples=int(os.environ.get("YEARS_EXAMPLES", "100")),
    derandomize="YEARS_EXAMPLES" not in os.environ,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(drawn)
@example(found.RESTARTED_BEHIND)
@example(found.KILLED_AT_FAILURES)
@example(found.YEARS_AHEAD)
@example(found.AWAY_WHEN_DUE)
@example(found.AWAY_FOR_THE_THIRD)
@example(found.AWAY_FOR_THE_HALF)
@example(found.BEHIND_AT_AN_INCIDENT)
@example(found.KILLED_WITHOUT_ROOM)
@example(found.KILLED_FOUR_TIMES_AND_AWAY)
def test_no_schedule_breaks_it(plan: Drawn) -> None:
    """Whatever comes when, as long as it leaves the time that the promise is about."""
    judge(
        live(
            plan.schedule(),
            plan.lifetime,
            plan.wanted,
            plan.end,
            Loaded(plan.rng),
            plan.fate(),
            plan.information,
        )
    )


@pytest.mark.parametrize("information", [True, False], ids=["ARI", "alone"])
def test_four_kills_at_any_step_and_then_a_ca_that_is_away(information: bool) -> None:
    for step in range(1, STEPS + 1):
        plan = replace(
            found.KILLED_FOUR_TIMES_AND_AWAY,
            information=information,
            fates=[0, 10, 0, *[step] * 4],
        )
        judge(
            live(
                plan.schedule(), plan.lifetime, plan.wanted, plan.end, Loaded(plan.rng),
                plan.fate(), plan.information,
            )
        )  # fmt: skip


def test_the_simulated_ca_has_the_limits_that_we_count_with() -> None:
    known = (LETSENCRYPT.orders, LETSENCRYPT.names, LETSENCRYPT.domain, LETSENCRYPT.failures)
    assert [(one.count, one.window) for one in known if one] == [ORDERS, NAMES, DOMAIN, FAILURES]


# The agent itself


class AtOnce(Executors):
    """No threads: what is given out is done."""

    def _submit(self, name: str, threads: int, work: Callable[[], None]) -> None:
        work()


class Leaping(Visitors):
    """A mailbox in which nothing comes; waiting for it makes the time pass."""

    def __init__(self, ca: CheapCa, until: float) -> None:
        super().__init__(ca)
        self.until = until
        self.states: dict[str, str] = {}
        self.served: list[float] = []

    def publish(self, several: Sequence[Served], *, new: bool) -> Taken:
        self.served += [one.not_after for one in several]
        return super().publish(several, new=new)

    def report(self, name: str, status: dict[str, str] | None = None, *_: object) -> None:
        if status is not None:
            self.states[name] = status["state"]

    def answer(self, *_: object) -> None:
        pass

    def loaded(self) -> None:
        pass

    def idle(self) -> None:
        pass

    def wake(self) -> None:
        pass

    def receive(self, timeout: float) -> list[Command]:
        self.ca.now += max(timeout, 0.05)
        return [Command("stop")] if self.ca.now >= self.until else []


def lead_an_agent(link: Leaping, sets: list[tuple[str, ...]], store: Store) -> None:
    by = Authority(DIRECTORY)
    agent = Agent(
        Settings(Path("/"), tuple(CertificateSpec(names, by) for names in sets)),
        link,  # type: ignore[arg-type] # as much of it as is used
        store,
        link.ca.clock,
        random.Random(2),
        AtOnce(),
        issuer=lambda _authority: link.ca,
    )
    agent.serve()


@pytest.mark.parametrize("information", [True, False], ids=["ARI", "alone"])
def test_the_agent_lives_as_the_simulation_does(information: bool) -> None:
    """Three weeks of six-day certificates, with an outage: the same number of orders, and of
    questions, as `Life` makes."""
    lifetime, until = 6 * DAY, START + 21 * DAY
    outages = [(START + 8 * DAY, START + 9 * DAY)]
    sets = [("a.org", "www.a.org"), ("b.org",)]

    simulated = CheapCa(lifetime, random.Random(1), outages, information=information)
    judge(Life(simulated, sets, in_memory, random.Random(2)).run(until))

    ca = CheapCa(lifetime, random.Random(1), outages, information=information)
    ca.clock = lambda: ca.now
    link = Leaping(ca, until)
    lead_an_agent(link, sets, MemoryStore())
    assert link.lapses == []
    assert set(link.states.values()) <= {State.FRESH.value, State.DUE.value}
    assert ca.limits_hit == []
    orders, questions = sum(ca.orders_by_hour.values()), ca.questions
    assert orders == sum(simulated.orders_by_hour.values())
    assert questions == pytest.approx(simulated.questions, rel=0.05)


def test_what_stood_in_while_the_clock_was_wrong_makes_way_when_it_is_right() -> None:
    """A start with a clock that is behind, and nothing that tells of the certificate on disk."""
    ca = CheapCa(90 * DAY, random.Random(1), information=False)
    ca.clock = lambda: ca.now - (30 * DAY if ca.now < START + HOUR else 0)
    store = MemoryStore()
    for begun in (START - 70 * DAY, START - 10 * DAY):
        said = {"names": ["a.org"], "serial": f"{int(begun):x}"}
        said |= {"not_before": begun, "not_after": begun + 90 * DAY}
        CertificateRepository(store).keep_pair(
            "a.org", CertificateAndKey(json.dumps(said).encode(), b"key")
        )
    link = Leaping(ca, START + HOUR + 120)
    lead_an_agent(link, [("a.org",)], store)
    assert link.served == [START + 20 * DAY, START + 80 * DAY]
    assert not ca.orders_by_hour


def test_a_batch_is_what_the_simulation_may_see() -> None:
    """More in one minute than the judge allows would be seen: it is not blind."""
    ca = CheapCa(90 * DAY, random.Random(1))
    life = Life(ca, [("a.org",)], in_memory, random.Random(2)).run(START + 90 * DAY)
    ca.orders_by_minute[int(START // 60) + 2000] = 2 * BATCH + 1
    with pytest.raises(AssertionError):
        judge(life)
