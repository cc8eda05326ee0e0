"""Simulated life on several machines with one set of certificates: the real lifecycle of each on one
shared store, with one CA (`support.simulation.cluster`).

What may never happen: a lapse, a limit of the CA that is hit, more orders or questions than one
machine would make, and two machines that order against each other. `make cluster-years` is a
thousand certificates over three years; its figures stand in docs/decisions/several-machines.md.
"""

from __future__ import annotations

import functools
import itertools
import os
import random
import resource
import time
from collections import Counter
from dataclasses import replace

import pytest

from acme_client.agent.pace import BATCH
from acme_client.certificates import ranks
from acme_client.drill.life import ORDER_TAKES, Life
from acme_client.drill.memory_store import MemoryStore
from acme_client.drill.simulated_ca import (
    ASK_AGAIN,
    DAY,
    DIRECTORY,
    HOUR,
    START,
    left_at_renewal,
)
from acme_client.link import Authority, CertificateSpec
from support.simulation.cheap_ca import CheapCa
from support.simulation.cheap_ca import cheap as cheap  # in force for each test
from support.simulation.cluster import Cluster, ClusterLife
from support.simulation.crowd import Crowd
from support.simulation.schedules import most

Names = list[tuple[str, ...]]


def sites(count: int) -> Names:
    return [(f"www.d{number}.org",) for number in range(count)]


def cluster_of(nodes: int, names: Names, lifetime: float, *, information: bool = True) -> Cluster:
    ca = CheapCa(lifetime, random.Random(1), information=information)
    cluster = Cluster(ca, random.Random(2))
    for number in range(nodes):
        cluster.add(f"web-{number}", names)
    return cluster


def one_machine(
    names: Names, lifetime: float, days: float, *, information: bool = True
) -> tuple[int, int]:
    """Orders and questions."""
    ca = CheapCa(lifetime, random.Random(1), information=information)
    Life(ca, names, lambda _now, _crash: MemoryStore(), random.Random(2)).run(START + days * DAY)
    return sum(ca.orders_by_hour.values()), ca.questions


@functools.cache
def one_machine_in_peace(count: int, lifetime: float, days: float) -> tuple[int, int]:
    return one_machine(sites(count), lifetime, days)


def makers(cluster: Cluster) -> Counter[str]:
    """How many of the certificates in use each machine has made."""
    return Counter(
        one.record.made.node
        for one in next(life for life in cluster.lives if life.running).certificates.values()
        if one.record.made is not None
    )


def demand_peace(cluster: Cluster) -> None:
    assert cluster.lapses == []
    assert cluster.ca.limits_hit == []


@pytest.mark.parametrize(
    ("nodes", "information"),
    [(1, True), (3, True), (10, True), (10, False)],
    ids=["1-ARI", "3-ARI", "10-ARI", "10-alone"],
)
def test_several_machines_order_and_ask_as_often_as_one(nodes: int, information: bool) -> None:
    names, lifetime, days = sites(12), 45 * DAY, 40.0
    cluster = cluster_of(nodes, names, lifetime, information=information)
    cluster.run(START + days * DAY)
    demand_peace(cluster)
    orders, questions = one_machine(names, lifetime, days, information=information)
    assert cluster.orders <= orders * 1.02
    assert cluster.ca.questions <= questions * 1.02
    for life in cluster.lives:
        assert len(life.visitors.served_until) == len(names)
        held = {one.record.serial for one in life.certificates.values()}
        assert held == {one.record.serial for one in cluster.lives[0].certificates.values()}
    assert len(makers(cluster)) >= min(nodes, 3)


# Limits


def test_more_names_of_one_domain_than_the_ca_allows_get_theirs_one_by_one() -> None:
    cluster = cluster_of(3, [(f"{n}.example.org",) for n in range(60)], 90 * DAY)
    cluster.run(START + DAY)
    demand_peace(cluster)
    # 50 in a week, less the one that is left, and those that have come back.
    assert cluster.orders == pytest.approx(49 + 50 / 7, abs=2)


def test_many_certificates_at_once_are_ordered_by_few_at_a_time() -> None:
    """Ten machines at one address and one account: eight attempts at a time, in small batches."""
    cluster = cluster_of(10, sites(30), 90 * DAY)
    cluster.run(START + 600.0)
    demand_peace(cluster)
    assert cluster.orders == 30
    assert max(cluster.ca.orders_by_minute.values()) <= 8 * 60 / ORDER_TAKES
    cluster.ca.incidents.append(START + 5 * DAY)
    cluster.run(START + 6 * DAY)
    demand_peace(cluster)
    assert cluster.orders == 60
    later = [orders for minute, orders in cluster.ca.orders_by_minute.items()
             if minute * 60 > START + DAY]  # fmt: skip
    assert max(later) <= 2 * BATCH


# Configurations that differ

BY = Authority(DIRECTORY)
OTHER_CA = Authority("https://other.example/directory")
USUAL = CertificateSpec(("a.example", "www.a.example"), BY)
KINDS = {
    "usual": USUAL,
    "alias more": replace(USUAL, names=(*USUAL.names, "cdn.a.example")),
    "alias fewer": replace(USUAL, names=("a.example",)),
    "other alias": replace(USUAL, names=("a.example", "other.a.example")),
    "other key": replace(USUAL, key_type="rsa-2048"),
    "other profile": replace(USUAL, authority=replace(BY, profile="shortlived")),
    "other CA": replace(USUAL, authority=OTHER_CA),
    "fallback": replace(USUAL, fallback=(OTHER_CA,)),
    "nothing in common": CertificateSpec(("a.example", "b.example"), OTHER_CA, "rsa-4096"),
}
PAIRS = [*itertools.combinations(KINDS, 2)]


class Rollout:
    """Machines with one site, and two CAs."""

    def __init__(self, *kinds: str, lifetime: float = 45 * DAY) -> None:
        self.other = CheapCa(lifetime, random.Random(3))
        self.other.serial = 1 << 40
        self.cluster = Cluster(CheapCa(lifetime, random.Random(1)), random.Random(2))
        self.lives = [
            self.cluster.add(
                f"web-{number}", [KINDS[kind]], others={OTHER_CA.directory: self.other}
            )
            for number, kind in enumerate(kinds)
        ]

    def run(self, days: float) -> Rollout:
        self.cluster.run(self.cluster.ca.now + days * DAY)
        return self

    @property
    def orders(self) -> int:
        return self.cluster.orders + sum(self.other.orders_by_hour.values())

    @property
    def told(self) -> list[str]:
        return [life.certificates["a.example"].contested for life in self.lives]


@pytest.mark.parametrize("pair", PAIRS, ids=[" and ".join(pair) for pair in PAIRS])
def test_two_configurations_that_differ_are_told_and_not_fought_out(pair: tuple[str, str]) -> None:
    both = Rollout(*pair).run(3)
    assert both.orders <= 2  # the first, and one more at most
    first = both.orders
    both.run(20)
    assert both.orders == first
    satisfied = [life.certificates["a.example"].satisfies for life in both.lives]
    assert any(satisfied)
    assert [not told for told in both.told] == satisfied
    both.run(20)  # it is renewed meanwhile
    assert both.orders <= first + 1
    assert both.cluster.lapses == []
    assert both.cluster.ca.limits_hit == []
    # The change is rolled out to its end.
    before = both.orders
    both.cluster.restart(both.lives[0], [KINDS[pair[1]]])
    both.run(3)
    assert both.orders <= before + 1
    assert both.told == ["", ""]
    assert all(life.certificates["a.example"].satisfies for life in both.lives)


def test_a_change_that_is_rolled_out_over_days_costs_one_order() -> None:
    rollout = Rollout("usual", "usual", "usual", lifetime=90 * DAY).run(2)
    assert rollout.orders == 1
    for number, life in enumerate(rollout.lives):
        rollout.cluster.restart(life, [KINDS["other alias"]])
        rollout.run(2)
        assert rollout.orders == (1 if number < 2 else 2)
        assert [bool(told) for told in rollout.told] == [one <= number < 2 for one in range(3)]
    assert rollout.cluster.lapses == []


def test_a_person_decides_between_two_configurations() -> None:
    rollout = Rollout("usual", "usual", "other alias", lifetime=90 * DAY).run(1)
    first = rollout.orders
    assert rollout.told[:2] == ["", ""]
    assert "web-0, web-1 and this node (web-2)" in rollout.told[2]
    rollout.lives[2].ask("a.example")
    rollout.run(5)
    assert rollout.orders == first + 1
    assert rollout.told[2] == ""
    assert all("web-2" in told for told in rollout.told[:2])


def test_three_certificates_a_day_are_the_most_unless_by_hand() -> None:
    """Whatever leads to it: here somebody turns the configuration of both back and forth."""
    rollout = turned_back_and_forth()
    assert rollout.orders == 3
    assert all("3 certificates were made within a day" in told for told in rollout.told)
    rollout.lives[0].ask("a.example")
    rollout.run(1 / 24)
    assert rollout.orders == 4
    rollout.run(3)
    assert rollout.orders <= 5
    assert rollout.cluster.ca.limits_hit == []


def test_the_fourth_certificate_is_made_when_the_day_is_over() -> None:
    rollout = turned_back_and_forth().run(10 / 24 - 1 / 288)  # five minutes before
    assert rollout.orders == 3
    rollout.run(1 / 48)
    assert (rollout.orders, rollout.told) == (4, ["", ""])
    assert all(life.certificates["a.example"].satisfies for life in rollout.lives)


def turned_back_and_forth() -> Rollout:
    """Two machines whose files are both changed every hour, half a day long."""
    rollout = Rollout("usual", "usual", lifetime=90 * DAY)
    for turn in range(13):
        rollout.run(1 / 24)
        for life in rollout.lives:
            rollout.cluster.restart(life, [KINDS[("other alias", "other key")[turn % 2]]])
    return rollout.run(1 / 24)


# Machines and clocks


def test_machines_that_die_and_join_and_restart_take_each_others_turn() -> None:
    names, lifetime, days = sites(12), 6 * DAY, 18.0
    cluster = cluster_of(3, names, lifetime)
    rng = random.Random(4)
    for hour in range(6, int(days * 24), 9):
        life = cluster.lives[hour % 3]
        kill = functools.partial(cluster.kill, life, rng.choice((1.0, 30.0, 7200.0)))
        cluster.at(START + hour * HOUR, kill)
    gone = cluster.lives[0]
    cluster.at(START + 8 * DAY, lambda: cluster.remove(gone))
    cluster.at(START + 12 * DAY, lambda: cluster.add("web-new", names))
    cluster.run(START + days * DAY)
    demand_peace(cluster)
    orders, questions = one_machine(names, lifetime, days)
    assert cluster.orders <= orders * 1.02 + len(cluster.deaths)  # an order cut off is repeated
    # A machine that starts asks once about what is its own to ask.
    assert cluster.ca.questions <= questions * 1.02 + len(cluster.deaths) * len(names)
    assert makers(cluster).keys() <= {"web-1", "web-2", "web-new"}


@pytest.mark.parametrize("step", range(1, 15))
def test_a_machine_that_is_killed_in_an_attempt_is_followed_by_another(step: int) -> None:
    cluster = cluster_of(3, sites(2), 45 * DAY)
    cluster.run(START + DAY)
    killed: list[float] = []

    def fate(now: float) -> int:
        if now < START + DAY or killed:
            return 0
        killed.append(now)
        return step

    for life in cluster.lives:
        life.fates = fate
    cluster.run(START + 40 * DAY)
    demand_peace(cluster)
    assert cluster.orders <= 2 + 2 + 1


@pytest.mark.parametrize("after", [ORDER_TAKES / 2 + 1, ORDER_TAKES - 1], ids=["just", "long"])
@pytest.mark.parametrize("nodes", [1, 3], ids=["alone", "among others"])
def test_the_order_of_a_machine_that_is_killed_is_taken_up(nodes: int, after: float) -> None:
    """When the CA has issued: by itself when it is back, or by another one, because it is away for
    an hour."""
    cluster = cluster_of(nodes, sites(1), 90 * DAY)
    cluster.run(START + after)
    (slow,) = (one for one in cluster.lives if one._working)
    assert isinstance(cluster.ca, CheapCa)
    assert cluster.ca.serial == 1
    cluster.kill(slow, 30.0 if nodes == 1 else HOUR)
    cluster.run(START + 0.1 * DAY)
    demand_peace(cluster)
    assert (cluster.ca.serial, cluster.orders, cluster.ca.taken_up) == (1, 1, 1)
    for life in cluster.lives:
        (one,) = life.certificates.values()
        assert one.facts is not None
    assert cluster.shared.load("orders/www.d0.org") == {}


@pytest.mark.parametrize(
    ("after", "taken_up"), [(1.0, 0), (ORDER_TAKES / 2 + 1, 1)], ids=["before its order", "in it"]
)
def test_a_paused_machine_that_wakes_up_writes_over_nothing(after: float, taken_up: int) -> None:
    """It is cut off in the middle of an attempt for longer than its session lasts."""
    cluster = cluster_of(2, sites(1), 90 * DAY)
    cluster.run(START + after)
    slow = next(one for one in cluster.lives if one._working)
    other = next(one for one in cluster.lives if one is not slow)
    slow.order_takes = 400.0  # of its second half
    cluster.cut_off(slow, 300.0)
    cluster.run(START + 0.1 * DAY)
    demand_peace(cluster)
    (here,), (there,) = (one.certificates.values() for one in (slow, other))
    assert here.record.serial == there.record.serial
    assert here.record.made == there.record.made
    assert (cluster.orders, cluster.ca.taken_up) == (1, taken_up)


def test_a_clock_that_is_minutes_wrong_orders_nothing_and_costs_nothing() -> None:
    names = sites(12)
    cluster = cluster_of(3, names, 6 * DAY)
    wrong = cluster.lives[1]
    cluster.at(START + DAY, lambda: cluster.set_clock(wrong, 300.0))
    cluster.run(START + 5 * DAY)
    assert "5 minutes ahead of" in wrong.peers.clock_fault()
    assert not any(one.peers.clock_fault() for one in cluster.lives if one is not wrong)
    demand_peace(cluster)
    made = [life.certificates[names[0][0]] for life in cluster.lives]
    assert len({one.record.serial for one in made}) == 1
    late = {
        one.record.made.node
        for one in wrong.certificates.values()
        if one.record.made and one.record.made.lately[-1] > START + 2 * DAY
    }
    assert late == {"web-0", "web-2"}


def test_clocks_within_a_minute_hit_no_limit() -> None:
    cluster = cluster_of(3, sites(320), 90 * DAY, information=False)
    for life, skew in zip(cluster.lives, (0.0, 50.0, -50.0), strict=True):
        cluster.set_clock(life, skew)
    cluster.run(START + 2 * HOUR)
    demand_peace(cluster)
    assert cluster.orders > 300


# The engine is away


@pytest.mark.parametrize(("days", "part"), [(45, 1 / 3), (45, 0.1), (6, 1 / 2)])
def test_without_the_engine_few_order_and_nothing_lapses(days: int, part: float) -> None:
    """Away for all that is left when certificates become due, from just before they do."""
    names, lifetime = sites(12), days * DAY
    cluster = cluster_of(5, names, lifetime, information=False)
    cluster.run(START + 1.0 * HOUR)
    due = min(one.record.renew_at or 0.0 for one in cluster.lives[0].certificates.values())
    last = max(one.record.renew_at or 0.0 for one in cluster.lives[0].certificates.values())
    away = lifetime * part
    cluster.at(due - 60.0, lambda: cluster.lose_engine(away))
    before = cluster.orders
    cluster.run(due - 60.0 + away - 60.0)
    assert cluster.lapses == []
    alone = cluster.orders - before
    if part <= 0.1:
        assert alone == 0  # plenty of time is left
    else:
        assert len(names) <= alone <= ranks.ALONE_MOST * len(names)
        own = [one for life in cluster.lives for one in life.certificates.values()
               if one.record.unshared]  # fmt: skip
        assert len(own) == alone
    cluster.run(max(due + away, last) + 0.2 * DAY)
    demand_peace(cluster)
    assert cluster.orders <= before + max(alone, len(names))
    for name in (one[0] for one in names):
        held = [life.certificates[name].record for life in cluster.lives]
        assert len({one.serial for one in held}) == 1
        assert not any(one.unshared for one in held)


def test_a_machine_that_is_cut_off_alone_serves_and_takes_what_others_have_made() -> None:
    names = sites(6)
    cluster = cluster_of(3, names, 6 * DAY)
    cluster.at(START + 2 * DAY, lambda: cluster.cut_off(cluster.lives[0], 2 * DAY))
    cluster.run(START + 3.9 * DAY)
    cut = {one.record.serial for one in cluster.lives[0].certificates.values()}
    there = {one.record.serial for one in cluster.lives[1].certificates.values()}
    assert not cut & there
    cluster.run(START + 4.1 * DAY)
    demand_peace(cluster)
    assert {one.record.serial for one in cluster.lives[0].certificates.values()} == there
    assert cluster.orders == 12


def test_a_machine_that_has_never_reached_the_engine_orders_nothing() -> None:
    cluster = cluster_of(0, [], 90 * DAY)
    cluster.is_away = True
    cluster.add("web-0", sites(2))
    cluster.run(START + DAY)
    assert cluster.orders == 0
    cluster._found_engine()
    cluster.run(START + 2 * DAY)
    assert cluster.orders == 2


# Years


CERTIFICATES = int(os.environ.get("YEARS_CERTIFICATES", "8"))
YEARS = float(os.environ.get("YEARS", "0.2"))
# By which every clock is wrong all the time, either way; within a minute of the others all is well.
APART = 25.0
# Questions and orders more than one machine's: a part, and what few certificates need by chance.
MORE = 0.02


class Troubles:
    """What goes wrong until ``end``: one thing after the other, each as long as it is borne, and each
    on a machine that runs at that moment."""

    def __init__(self, cluster: Cluster, names: Names, end: float, rng: random.Random) -> None:
        self.cluster, self.names, self.rng = cluster, names, rng
        self.kinds: Counter[str] = Counter()
        self.other_files = 0  # certificates that one machine alone wants to be others for a while
        kinds = ["kill", "kill", "leave", "cut off", "clock", "away", "files", "files"]
        lifetime = cluster.ca.lifetime
        longest = most(lifetime, len(names), information=cluster.ca.information)
        at = START + 5 * DAY
        while at < end - longest - 3 * DAY:
            length = longest * rng.choice((1.0, rng.uniform(0.01, 0.5)))
            kind = rng.choice(kinds)
            self.kinds[kind] += 1
            cluster.at(at, functools.partial(self._begin, kind, length))
            at += max(length, DAY) + 2 * DAY + rng.uniform(0.0, 0.3) * lifetime

    def _begin(self, kind: str, length: float) -> None:
        cluster, rng, names = self.cluster, self.rng, self.names
        life = rng.choice([one for one in cluster.lives if one.running])
        match kind:
            case "kill":
                cluster.kill(life, rng.choice((1.0, 30.0, 2 * HOUR)))
            case "leave":
                cluster.remove_and_add(life, names, DAY)
            case "cut off":
                cluster.cut_off(life, length)
            case "clock":
                usual, skew = life.skew, rng.choice((-1, 1)) * rng.choice((20.0, 300.0, 20 * HOUR))
                cluster.set_clock(life, usual + skew)
                cluster.after(length, functools.partial(cluster.set_clock, life, usual))
            case "away":
                cluster.lose_engine(length)
            case "files":
                other = [(*one, f"more{cluster.ca.now:.0f}.{one[0]}") for one in names]
                few = -(-len(names) // 10)
                self.other_files += few
                cluster.restart(life, [*other[:few], *names[few:]])
                cluster.after(
                    rng.uniform(1.0, 5.0) * DAY, functools.partial(cluster.restart, life, names)
                )


@pytest.mark.timeout(8 * 3600)
@pytest.mark.parametrize("peace", [True, False], ids=["peace", "trouble"])
@pytest.mark.parametrize("nodes", [1, 3, 10])
def test_years_of_several_machines(nodes: int, peace: bool) -> None:
    begun = time.process_time()
    names, lifetime, days = sites(CERTIFICATES), 45 * DAY, YEARS * 365
    cluster = cluster_of(nodes, names, lifetime)
    rng = random.Random(nodes)
    other_files = 0
    for life in cluster.lives if nodes > 1 else ():
        cluster.set_clock(life, rng.uniform(-APART, APART))
    if not peace:
        troubles = Troubles(cluster, names, START + days * DAY, rng)
    cluster.run(START + days * DAY)
    took = time.process_time() - begun
    alone = sum(life.made_alone for life in cluster.lives)
    orders, questions = one_machine_in_peace(len(names), lifetime, days)
    kinds = "" if peace else ", ".join(f"{one} {many}" for one, many in troubles.kinds.items())
    print(
        f"\n| {nodes} | {'no' if peace else 'yes'} | {len(names)} | {YEARS:g} | {cluster.orders} | "
        f"{orders} | {alone} | {cluster.cut_short} | {cluster.ca.questions} | {questions} | "
        f"{len(cluster.lapses)} | {len(cluster.ca.limits_hit)} | {len(cluster.started)} | "
        f"{took:.0f} s | {kinds}"
    )
    demand_peace(cluster)
    if not peace and nodes == 1:  # what it wants is what there is: each change of files is an order
        other_files = 2 * troubles.other_files
    few = 0 if len(names) >= 100 else cluster.cut_short + alone
    assert cluster.orders <= orders * (1 + MORE) + few + other_files
    few = 0 if len(names) >= 100 else len(cluster.started) * len(names)
    assert cluster.ca.questions <= questions * (1 + MORE) + few
    if peace and nodes == 1:
        assert cluster.orders >= orders * (1 - MORE)
        assert cluster.ca.questions >= questions * (1 - MORE)


# More machines than can be lived through whole

CROWD_MACHINES = int(os.environ.get("CROWD_MACHINES", "20"))
CROWD_CERTIFICATES = int(os.environ.get("CROWD_CERTIFICATES", "40"))
CROWD_DAYS = float(os.environ.get("CROWD_DAYS", "40"))
CROWD_ASKS = bool(int(os.environ.get("CROWD_ASKS", "1")))


@pytest.mark.timeout(8 * 3600)
def test_a_crowd_of_machines_of_which_most_observe() -> None:
    begun = time.process_time()
    rng = random.Random(5)
    names, lifetime = [one[0] for one in sites(CROWD_CERTIFICATES)], 45 * DAY
    crowd = Crowd(
        CheapCa(lifetime, random.Random(1), information=CROWD_ASKS), rng, names, CROWD_MACHINES
    )
    for life in crowd.lives:
        life.skew = rng.choice((-APART, 0.0, APART))
    end = START + CROWD_DAYS * DAY

    def anybody() -> ClusterLife:
        return rng.choice([one for one in crowd.lives if one.running])

    for number in range(int(CROWD_DAYS)):  # each day something, and once the engine is away
        at = START + (number + 1) * DAY + rng.uniform(0.0, HOUR)
        match number % 4:
            case 0 | 1:
                crowd.at(at, lambda: crowd.kill(anybody(), rng.choice((1.0, 30.0, 2 * HOUR))))
            case 2:
                crowd.at(at, lambda: crowd.cut_off(anybody(), rng.uniform(0.1, 2.0) * DAY))
            case _:
                crowd.at(at, lambda: crowd.remove(anybody()))
                joins = functools.partial(crowd.join, f"web-new-{number}")
                crowd.at(at + HOUR, joins)
    away = most(lifetime, len(names), information=CROWD_ASKS)
    crowd.at(START + CROWD_DAYS / 2 * DAY, lambda: crowd.lose_engine(away))
    crowd.run(end)
    took = time.process_time() - begun
    held = sum(len(life.certificates) for life in crowd.lives)
    alone = sum(life.made_alone for life in crowd.lives)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    print(
        f"\n{CROWD_MACHINES} machines, {len(names)} certificates ({held} held), {CROWD_DAYS:g} days: "
        f"{crowd.orders} orders, {alone} alone, {crowd.ca.questions} questions, "
        f"{len(crowd.lapses)} lapses, {len(crowd.observers_lapses)} at observers, "
        f"{len(crowd.ca.limits_hit)} limits hit, {len(crowd.deaths)} deaths, "
        f"{len(crowd.makers)} makers; {took:.0f} s of CPU, {memory} MiB\n{crowd.figures}"
    )
    demand_peace(crowd)
    assert crowd.observers_lapses == []
    assert all(until > end for until in crowd.expires.values())
    between = lifetime - left_at_renewal(lifetime)
    usual = len(names) * CROWD_DAYS * DAY / between
    assert crowd.orders <= usual * (1 + MORE) + alone
    if CROWD_ASKS:
        asked = len(names) * CROWD_DAYS * DAY / ASK_AGAIN
        assert crowd.ca.questions <= asked * (1 + MORE) + len(crowd.deaths) * len(names)
