"""Simulated years: the real lifecycle, attempts, records and ledger, against a CA and a clock of ours.

What is ours: the CA (outages, limits as Let's Encrypt enforces them, renewal information, mass
revocation), the clock, and certificates of two lines instead of ASN.1. What may never happen: a
certificate that lapses, a limit of the CA that is hit. Sizes by YEARS_CERTIFICATES; `make years` is
a thousand certificates over three years.
"""

from __future__ import annotations

import collections
import heapq
import json
import os
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from acme_client import attempt, progress
from acme_client.attempt import Bench
from acme_client.errors import Problem
from acme_client.holding import Holding
from acme_client.ledgers import Ledgers
from acme_client.lifecycle import READY, State
from acme_client.limits import LETSENCRYPT, registered_domain
from acme_client.link import Authority, Settings, Wanted
from acme_client.order import Issued, Order
from acme_client.proof import Facts, Pair
from acme_client.record import Record
from acme_client.renewal import Suggestion, Window
from acme_client.shelf import Shelf
from support.memory_store import Crash, MemoryStore

DIRECTORY = "https://acme-v02.api.letsencrypt.org/directory"
ACCOUNT = "https://acme-v02.api.letsencrypt.org/acme/acct/1"
DAY, HOUR = 86400.0, 3600.0
START = 1.8e9
CERTIFICATES = int(os.environ.get("YEARS_CERTIFICATES", "20"))
YEARS = float(os.environ.get("YEARS", "1"))
# How long the CA takes, which is when somebody may die.
ORDER_TAKES = 20.0


def cheap_prove(pair: Pair, names: tuple[str, ...], now: float) -> Facts:
    said = json.loads(pair.chain_pem)
    if said["not_after"] <= now:
        raise Problem("unproven", "the certificate has expired")
    return Facts(tuple(said["names"]), said["serial"], said["not_before"], said["not_after"])


class Bucket:
    """The CA's own way to count: tokens that flow in, and none that is borrowed."""

    def __init__(self, count: int, window: float) -> None:
        self.count, self.rate = count, count / window
        self.tokens, self.at = float(count), START

    def take(self, now: float) -> bool:
        self.tokens = min(self.count, self.tokens + (now - self.at) * self.rate)
        self.at = now
        if self.tokens < 1 - 1e-9:
            return False
        self.tokens -= 1
        return True


@dataclass
class World:
    """The CA and the clock. ``outages`` are (start, end); ``revocations`` moments at which all
    certificates' windows become "now"."""

    lifetime: float
    outages: list[tuple[float, float]]
    revocations: list[float]
    dice: random.Random
    information: bool = True
    now: float = START
    serial: int = 0
    orders_by_hour: collections.Counter[int] = field(default_factory=collections.Counter)
    limits_hit: list[str] = field(default_factory=list)
    issued_at: dict[str, float] = field(default_factory=dict)
    current: dict[tuple[str, ...], str] = field(default_factory=dict)
    buckets: dict[str, Bucket] = field(default_factory=dict)

    def _down(self) -> bool:
        return any(start <= self.now < end for start, end in self.outages)

    def _take(self, key: str, count: int, window: float) -> None:
        bucket = self.buckets.setdefault(key, Bucket(count, window))
        if not bucket.take(self.now):
            self.limits_hit.append(f"{key} at {(self.now - START) / DAY:.2f} d")
            raise Problem("rate_limited", f"too many: {key}", not_before=self.now + 1 / bucket.rate)

    # order.Issuer

    def issue(self, order: Order) -> Issued:
        if self._down():
            raise Problem("unreachable", "no answer")
        self.orders_by_hour[int(self.now // HOUR)] += 1
        exempt = (
            order.replaces is not None
            and self.information
            and order.account == ACCOUNT
            and json.loads(order.replaces)["serial"] == self.current.get(order.names)
        )
        order.toll.admit(exempt=exempt)
        if not exempt:
            self._take("names " + ",".join(sorted(order.names)), 5, 7 * DAY)
            if order.names not in self.current:
                self._take("orders", 300, 3 * HOUR)
                for domain in {registered_domain(name) for name in order.names}:
                    self._take(f"domain {domain}", 50, 7 * DAY)
        order.toll.handed_in()
        self.serial += 1
        serial = f"{self.serial:x}"
        said = {"names": order.names, "serial": serial, "not_before": self.now - HOUR}
        said["not_after"] = self.now - HOUR + self.lifetime
        self.issued_at[serial] = self.now
        self.current[order.names] = serial
        return Issued(Pair(json.dumps(said).encode(), b"key"), "http-01", ACCOUNT)

    def suggestion(self, chain_pem: bytes) -> Suggestion | None:
        if self._down():
            raise Problem("unreachable", "no answer")
        if not self.information:
            return None
        said = json.loads(chain_pem)
        start = said["not_after"] - self.lifetime / 3
        window = Window(start, start + self.lifetime / 45)
        for moment in self.revocations:
            if self.issued_at[said["serial"]] < moment <= self.now:
                window = Window(moment - 2 * HOUR, moment - HOUR, "https://ca.example/incident")
        return Suggestion(window, self.now + 6 * HOUR)

    def revoke(self, *_: Any) -> None:
        raise NotImplementedError

    def roll_account_key(self) -> None:
        raise NotImplementedError


class Silent:
    """`link.Link`, for what a bench says."""

    def publish(self, _served: object) -> bool:
        return True

    def report(self, *_: object) -> None:
        pass


class Life:
    """What `Agent` does, without its threads: everything in order of time."""

    def __init__(self, world: World, sets: list[tuple[str, ...]], crashes: random.Random) -> None:
        self.world = world
        self.store = MemoryStore()
        self.crashes = crashes
        self.crash_part = 0.0
        self.store.crash = lambda: crashes.random() < self.crash_part
        self.wanted = [Wanted(names, Authority(DIRECTORY)) for names in sets]
        self.lapses: list[str] = []
        self.deaths = 0
        self.holdings: dict[str, Holding] = {}
        self.valid_until: dict[str, float] = {}

    def start(self) -> None:
        world = self.world
        settings = Settings(Path("/"), tuple(self.wanted))
        self.bench = Bench(
            Shelf(self.store),
            Silent(),  # type: ignore[arg-type] # as much of it as is used
            lambda _authority: world,
            lambda: world.now,
            world.dice,
            Ledgers(self.store, lambda: world.now),
        )
        self.holdings = {}
        for wanted in settings.wanted:
            holding = Holding(wanted, Record())
            self.holdings[holding.name] = holding
            self.bench.look(holding)
        self.queue = [(world.now, name) for name in self.holdings]
        heapq.heapify(self.queue)

    def run(self, until: float) -> None:
        self.start()
        while self.queue and self.queue[0][0] < until:
            moment, name = heapq.heappop(self.queue)
            self.world.now = max(self.world.now, moment)
            try:
                again = self.turn(self.holdings[name])
            except Crash:
                self.deaths += 1
                self.world.now += 30.0
                crash_part, self.crash_part = self.crash_part, 0.0
                self.start()
                self.crash_part = crash_part
                continue
            heapq.heappush(self.queue, (again, name))

    def turn(self, holding: Holding) -> float:
        """One look at one holding; when to look again."""
        world = self.world
        holding.record = progress.at(holding.record, world.now)
        if holding.record.state in READY:
            self.bench.attempt(holding)
            world.now += ORDER_TAKES / 4  # four at a time
        elif (
            holding.record.state is State.FRESH
            and holding.record.ask_at is not None
            and holding.record.ask_at <= world.now
        ):
            self.bench.ask(holding)
        self.note(holding)
        moment = progress.next_moment(holding.record)
        return max(world.now + 1.0, moment if moment is not None else world.now + HOUR)

    def note(self, holding: Holding) -> None:
        before = self.valid_until.get(holding.name)
        if before is not None and self.world.now > before:
            days = (self.world.now - before) / DAY
            self.lapses.append(f"{holding.name} for {days:.2f} days before {self.world.now}")
        if holding.facts is not None:
            self.valid_until[holding.name] = holding.facts.not_after


def lived(
    count: int,
    lifetime: float,
    years: float,
    seed: int,
    *,
    information: bool = True,
    crashes: float = 0.0005,
) -> Life:
    dice = random.Random(seed)
    end = START + years * 365 * DAY
    outages, at = [], START + dice.uniform(0, lifetime)
    while at < end:
        # Up to the runway that is left when a renewal is due.
        longest = lifetime / 3 * 0.8 if lifetime >= 10 * DAY else lifetime / 2 * 0.6
        outages.append((at, at + dice.uniform(0.1, 1.0) * longest))
        at += dice.uniform(1.5, 4.0) * lifetime
    revocations = [START + dice.uniform(0.1, 1.0) * years * 365 * DAY for _ in range(2)]
    world = World(lifetime, outages, revocations if information else [], dice, information)
    sets = [(f"www{n}.d{n % max(1, count // 15)}.org", f"{n}.d{n}.net") for n in range(count)]
    life = Life(world, sets, random.Random(seed + 1))
    life.crash_part = crashes
    life.run(end)
    return life


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempt, "prove", cheap_prove)


def judge(life: Life, count: int) -> None:
    assert life.lapses == []
    assert life.world.limits_hit == []
    assert all(one.facts is not None for one in life.holdings.values())
    # The load on the CA is spread: apart from the first hours, and from incidents, after which all
    # renew because the CA asks for it.
    begun = int(START // HOUR)
    incidents = {int(moment // HOUR) for moment in life.world.revocations}
    back = {int(end // HOUR) for _start, end in life.world.outages}
    quiet = [
        orders
        for hour, orders in life.world.orders_by_hour.items()
        if hour > begun + 48 and not any(0 <= hour - one <= 26 for one in incidents | back)
    ]
    if count >= 50 and life.world.lifetime > 10 * DAY:
        assert max(quiet, default=0) <= max(8, count // 10)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("information", [True, False], ids=["ARI", "no ARI"])
@pytest.mark.parametrize("days", [90, 45, 6])
def test_years_without_a_lapse(days: int, information: bool) -> None:
    count = CERTIFICATES if days > 6 else max(CERTIFICATES // 4, 1)
    life = lived(count, days * DAY, YEARS, seed=days, information=information)
    judge(life, count)
    orders = sum(life.world.orders_by_hour.values())
    print(
        f"\n{count} certificates of {days} days, {YEARS:g} years: {orders} orders, at most "
        f"{max(life.world.orders_by_hour.values())} in an hour, {len(life.world.outages)} outages, "
        f"{life.deaths} crashes"
    )
    assert life.deaths


@hypothesis_settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    seed=st.integers(0, 10**6),
    days=st.sampled_from([90, 47, 45, 10, 6]),
    count=st.integers(1, 8),
    information=st.booleans(),
    crashes=st.sampled_from([0.0, 0.001, 0.01]),
)
def test_no_schedule_breaks_it(
    seed: int, days: int, count: int, information: bool, crashes: float
) -> None:
    life = lived(count, days * DAY, 0.7, seed, information=information, crashes=crashes)
    assert life.lapses == []
    assert life.world.limits_hit == []


def test_the_simulated_ca_has_the_limits_that_we_count_with() -> None:
    assert [
        (one.count, one.window)
        for one in (LETSENCRYPT.orders, LETSENCRYPT.names, LETSENCRYPT.domain)
        if one
    ] == [(300, 3 * HOUR), (5, 7 * DAY), (50, 7 * DAY)]
