"""What the scheduler decides, told events and the time: no clock, no thread, no store."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from acme_client.agent.keeper import source_of
from acme_client.agent.pace import BATCH, BATCH_WITHIN
from acme_client.agent.scheduler import Scheduler
from acme_client.agent.tasks import (
    Action,
    AllLoaded,
    Answer,
    Came,
    Changed,
    Event,
    Finished,
    LookAround,
    NamesRemembered,
    Report,
    Run,
    Scan,
)
from acme_client.certificates import transitions
from acme_client.certificates.lifecycle import READY, State
from acme_client.certificates.managed import TELL_AGAIN, ManagedCertificate, Task
from acme_client.errors import IssuanceError
from acme_client.link import (
    ATTEMPTS_AT_ONCE,
    INTERNAL,
    Authority,
    CertificateSpec,
    Command,
    OnDemandRule,
    Settings,
)
from acme_client.on_demand.known_names import Name, Remembered
from acme_client.x509.verify import CertificateAndKey, CertificateInfo

DAY = 86400.0
NOW = 1_800_000_000.0
CA, OTHER = Authority("https://ca.example/dir"), Authority("https://other.example/dir")
Of = TypeVar("Of")


class World:
    """The process, played by the test: what is run stays under way until the test ends it."""

    def __init__(self, *wanted: CertificateSpec, on_demand: tuple[OnDemandRule, ...] = ()) -> None:
        self.now = NOW
        self.rng = random.Random(1)
        self.under_way: list[Run] = []
        self.seen: list[Action] = []
        self.scheduler = Scheduler(Settings(Path("/"), wanted, on_demand=on_demand))
        self._take(self.scheduler.start(self.now))

    def _take(self, actions: list[Action]) -> None:
        self.seen += actions
        self.under_way += [one for one in actions if isinstance(one, Run)]

    def step(self, *events: Event) -> list[Action]:
        before = len(self.seen)
        self._take(self.scheduler.step(self.now, events))
        return self.seen[before:]

    def all(self, kind: type[Of]) -> list[Of]:
        return [one for one in self.seen if isinstance(one, kind)]

    def running(self, task: Task) -> list[str]:
        return [one.managed.name for one in self.under_way if one.task is task]

    def end(self, task: Task, name: str | None = None) -> None:
        """The first that is under way has come to its end."""
        run = next(
            one for one in self.under_way if one.task is task and name in (None, one.managed.name)
        )
        self.under_way.remove(run)
        self.step(Finished(run))

    def load(self, ages: dict[str, float] | None = None, lifetime: float = 90 * DAY) -> None:
        """Everything is loaded and served: a certificate of this age in days, or none."""
        while self.running(Task.LOAD):
            name = self.running(Task.LOAD)[0]
            if ages and name in ages:
                has(self.managed(name), self.now - ages[name] * DAY, lifetime, self.rng)
            self.end(Task.LOAD, name)
        while self.running(Task.SERVE):
            self.serve(self.running(Task.SERVE)[0])

    def serve(self, name: str, *, taken: bool = True) -> None:
        managed = self.managed(name)
        managed.served = taken
        if not taken:
            managed.republish_at = self.now + TELL_AGAIN
        self.end(Task.SERVE, name)

    def managed(self, name: str) -> ManagedCertificate:
        return self.scheduler.certificates[name]

    def succeed(self, name: str, lifetime: float = 90 * DAY) -> None:
        managed = self.managed(name)
        managed.record = transitions.on_started(managed.record, managed.wanted.names)
        has(managed, self.now, lifetime, self.rng)
        managed.served = True
        self.end(Task.ATTEMPT, name)

    def fail(self, name: str) -> None:
        managed = self.managed(name)
        started = transitions.on_started(managed.record, managed.wanted.names)
        directory = managed.wanted.authority.directory
        problem = IssuanceError("refused", "no")
        managed.record = transitions.on_failed(started, problem, directory, None, self.now)
        self.end(Task.ATTEMPT, name)

    def pass_time(self, until: float) -> None:
        """Step whenever something is due."""
        while (due := self.scheduler.next_moment()) is not None and due <= until:
            self.now = max(due, self.now)
            self.step()
        self.now = until


def has(
    managed: ManagedCertificate, not_before: float, lifetime: float, rng: random.Random
) -> None:
    directory = managed.wanted.authority.directory
    facts = CertificateInfo(
        names=managed.wanted.names,
        serial=f"{int(not_before):x}",
        not_before=not_before,
        not_after=not_before + lifetime,
        key_type="ecdsa-p256",
    )
    managed.pair, managed.facts = CertificateAndKey(b"chain", b"key"), facts
    record, source = managed.record, source_of(directory)
    if record.state is State.ISSUING:
        managed.record = transitions.on_obtained(
            record, facts, source, directory, "http-01", not_before, rng
        )
    else:
        managed.record = transitions.on_found(record, facts, source, directory, not_before, rng)


def sites(count: int, by: Authority = CA) -> list[CertificateSpec]:
    return [CertificateSpec((f"{number}.example",), by) for number in range(count)]


def test_everything_is_served_before_anything_is_ordered() -> None:
    world = World(*sites(3))
    assert world.running(Task.LOAD) == ["0.example", "1.example", "2.example"]
    has(world.managed("0.example"), NOW - DAY, 90 * DAY, world.rng)
    for name in ("0.example", "1.example", "2.example"):
        assert not world.all(AllLoaded)
        world.end(Task.LOAD, name)
    assert world.running(Task.SERVE) == ["0.example"]
    assert not world.running(Task.ATTEMPT)
    world.serve("0.example")
    assert world.all(AllLoaded) == [AllLoaded()]
    assert world.running(Task.ATTEMPT) == ["1.example", "2.example"]


def test_a_command_waits_until_it_is_known_what_there_is() -> None:
    world = World(*sites(1))
    world.step(Came(Command("renew", "0.example", 4)))
    has(world.managed("0.example"), NOW - DAY, 90 * DAY, world.rng)
    world.end(Task.LOAD)
    world.serve("0.example")
    assert world.running(Task.ATTEMPT) == ["0.example"]
    assert world.managed("0.example").tickets == [4]


def test_a_certificate_out_of_its_dates_is_served_for_want_of_a_better_one() -> None:
    world = World(*sites(1))
    has(world.managed("0.example"), NOW - 91 * DAY, 90 * DAY, world.rng)
    world.end(Task.LOAD)
    assert world.running(Task.SERVE) == ["0.example"]


def test_only_so_many_attempts_at_a_time_and_another_ca_has_its_own() -> None:
    elsewhere = CertificateSpec(("z.example",), OTHER)
    world = World(*sites(9), elsewhere)
    world.load()
    assert len(world.running(Task.ATTEMPT)) == ATTEMPTS_AT_ONCE + 1
    assert "z.example" in world.running(Task.ATTEMPT)
    world.succeed("0.example")
    assert len(world.running(Task.ATTEMPT)) == ATTEMPTS_AT_ONCE + 1
    assert "4.example" in world.running(Task.ATTEMPT)


def test_the_most_urgent_is_next() -> None:
    """What somebody waits for, then what has nothing to serve, then what ends soonest."""
    blocking = [CertificateSpec((f"b{number}.example",), CA) for number in range(ATTEMPTS_AT_ONCE)]
    world = World(*blocking, *(CertificateSpec((f"{name}.example",), CA) for name in "cdefg"))
    ages = {"d.example": 85.0, "c.example": 84.0, "e.example": 86.0, "f.example": 30.0}
    world.load(ages)
    managed = world.managed("f.example")
    managed.record = transitions.on_no_ari(managed.record, world.now)
    world.end(Task.ASK)
    world.step(Came(Command("renew", "f.example", 7)))
    order = []
    for name in world.running(Task.ATTEMPT):
        world.succeed(name)
    while world.running(Task.ATTEMPT):
        order += world.running(Task.ATTEMPT)
        for name in world.running(Task.ATTEMPT):
            world.succeed(name)
    assert order == ["f.example", "g.example", "e.example", "d.example", "c.example"]


def test_of_a_site_s_two_certificates_one_after_the_other() -> None:
    names = ("a.example",)
    world = World(CertificateSpec(names, CA), CertificateSpec(names, CA, "rsa-2048", mark="rsa"))
    world.load()
    assert world.running(Task.ATTEMPT) == ["a.example"]
    world.succeed("a.example")
    assert world.running(Task.ATTEMPT) == ["a.example/rsa"]


def test_renewals_that_have_time_begin_in_batches_and_the_next_moment_is_the_next_batch() -> None:
    world = World(*sites(BATCH + 5))
    world.load({f"{number}.example": 65.0 for number in range(BATCH + 5)})
    begun = 0
    while world.running(Task.ATTEMPT):
        begun += 1
        world.succeed(world.running(Task.ATTEMPT)[0])
    assert begun == BATCH
    due = world.scheduler.next_moment()
    assert due == pytest.approx(NOW + BATCH_WITHIN / BATCH)
    world.now = due
    world.step()
    assert len(world.running(Task.ATTEMPT)) == 1


def test_a_failure_is_tried_again_when_its_pause_is_over_and_not_before() -> None:
    world = World(*sites(1))
    world.load()
    world.fail("0.example")
    assert not world.running(Task.ATTEMPT)
    due = world.scheduler.next_moment()
    assert due == NOW + 60
    world.now = due - 1
    world.step(LookAround())
    assert not world.running(Task.ATTEMPT)
    world.now = due
    world.step()
    assert world.running(Task.ATTEMPT) == ["0.example"]


def test_a_clock_that_goes_back_is_noticed_at_the_next_step() -> None:
    """A pause that was chosen by a clock that ran a year ahead lasts its length, not the year."""
    world = World(*sites(1))
    world.now = NOW + 365 * DAY
    world.load()
    world.fail("0.example")
    world.now = NOW
    world.step(LookAround())
    assert world.running(Task.KEEP_RECORD) == ["0.example"]
    world.end(Task.KEEP_RECORD)
    assert world.scheduler.next_moment() == NOW + 60


def test_a_renewal_is_due_at_its_moment_and_asked_about_before() -> None:
    world = World(*sites(1))
    world.load({"0.example": 0.0})
    renew_at = world.managed("0.example").record.renew_at
    assert renew_at is not None
    assert world.running(Task.ASK) == ["0.example"]
    world.managed("0.example").record = transitions.on_no_ari(
        world.managed("0.example").record, world.now
    )
    world.end(Task.ASK)
    asked = 0
    while not world.running(Task.ATTEMPT):
        due = world.scheduler.next_moment()
        assert due is not None
        assert due <= renew_at
        world.now = due
        world.step()
        if world.running(Task.ASK):
            asked += 1
            managed = world.managed("0.example")
            managed.record = transitions.on_no_ari(managed.record, world.now)
            world.end(Task.ASK)
    assert world.now == renew_at
    assert asked >= 55


def test_questions_are_asked_one_after_the_other_of_each_ca() -> None:
    world = World(*sites(3), CertificateSpec(("z.example",), OTHER))
    world.load(dict.fromkeys(world.scheduler.certificates, 1.0))
    assert world.running(Task.ASK) == ["0.example", "z.example"]
    managed = world.managed("0.example")
    managed.record = transitions.on_no_ari(managed.record, world.now)
    world.end(Task.ASK, "0.example")
    assert world.running(Task.ASK) == ["z.example", "1.example"]


def test_what_workers_did_not_take_they_are_given_again() -> None:
    world = World(*sites(1))
    has(world.managed("0.example"), NOW, 90 * DAY, world.rng)
    world.managed("0.example").record = transitions.on_no_ari(
        world.managed("0.example").record, NOW
    )
    world.end(Task.LOAD)
    world.serve("0.example", taken=False)
    assert not world.running(Task.SERVE)
    assert world.scheduler.next_moment() == NOW + TELL_AGAIN
    world.now = NOW + TELL_AGAIN
    world.step()
    assert world.running(Task.SERVE) == ["0.example"]


def test_who_asks_to_look_is_answered_when_everything_has_been_looked_at() -> None:
    world = World(*sites(2))
    world.load({"0.example": 1.0, "1.example": 1.0})
    world.step(Changed(frozenset()))  # of the start
    world.step(Came(Command("look", None, 5)))
    assert isinstance(world.seen[-1], Scan)
    world.step(Changed(frozenset({"0.example", "elsewhere.example"})))
    assert not world.running(Task.REREAD), "it is being asked about"
    assert not world.all(Answer)
    managed = world.managed("0.example")
    managed.record = transitions.on_no_ari(managed.record, world.now)
    world.end(Task.ASK, "0.example")
    assert world.running(Task.REREAD) == ["0.example"]
    has(managed, NOW, 90 * DAY, world.rng)
    managed.served = False
    world.end(Task.REREAD)
    assert world.running(Task.SERVE) == ["0.example"]
    assert not world.all(Answer)
    world.serve("0.example")
    assert world.all(Answer) == [Answer(5, {"ok": True, "error": None})]


def test_who_asks_for_a_renewal_while_something_else_is_done_with_it_is_not_forgotten() -> None:
    world = World(*sites(1))
    world.load({"0.example": 1.0})
    assert world.running(Task.ASK) == ["0.example"]
    world.step(Came(Command("renew", "0.example", 3)))
    assert not world.running(Task.ATTEMPT)
    world.end(Task.ASK)
    assert world.running(Task.ATTEMPT) == ["0.example"]
    world.succeed("0.example")
    (answer,) = world.all(Answer)
    assert answer.ticket == 3
    assert answer.value["ok"]


def test_what_the_disk_did_not_take_is_kept_when_it_does() -> None:
    world = World(*sites(1, Authority(INTERNAL)))
    world.load()
    world.managed("0.example").saved = False
    world.succeed("0.example")
    world.step(LookAround())
    assert world.running(Task.KEEP_PAIR) == ["0.example"]
    world.managed("0.example").saved = True
    world.end(Task.KEEP_PAIR)
    world.step(LookAround())
    assert not world.running(Task.KEEP_PAIR)


def test_a_step_costs_as_much_as_it_has_to_do() -> None:
    """A step in which one thing happens does not look at ten thousand certificates."""
    few, many = (cost_of_steps(count) for count in (100, 10_000))
    assert many < 5 * few


def cost_of_steps(count: int) -> float:
    """Of a thousand steps, in seconds of the processor."""
    world = World(*sites(count, Authority(INTERNAL)))
    world.under_way.clear()
    for managed in world.scheduler.certificates.values():
        has(managed, NOW - DAY * world.rng.uniform(0, 1), 90 * DAY, world.rng)
        managed.served = True
    world.step(*(Finished(one) for one in world.all(Run)))
    assert world.running(Task.SERVE) == []
    world.seen.clear()
    world.step()
    begun = time.process_time()
    for _ in range(1000):
        world.step(Changed(frozenset({"77.example"})))
        world.end(Task.REREAD)
    took = time.process_time() - begun
    assert {one.name for one in world.all(Report)} <= {"77.example"}
    assert not [one for one in world.scheduler.certificates.values() if one.record.state in READY]
    return took


def test_an_end_before_the_names_on_demand_were_read_does_not_overwrite_them() -> None:
    rule = OnDemandRule("a.example", CertificateSpec((), CA), ask="http://app/")
    scheduler = Scheduler(Settings(Path("/"), (), on_demand=(rule,)))
    scheduler.start(NOW)
    assert scheduler.last_names() is None
    known = Remembered({"b.example": Name("a.example", NOW)}, {})
    scheduler.step(NOW, [NamesRemembered(known)])
    last = scheduler.last_names()
    assert last is not None
    assert last.names == {}, "nothing has changed"


def test_a_name_on_demand_that_nobody_comes_for_is_renewed_by_hand_at_once() -> None:
    """Not at the next look around, up to a minute later."""
    rule = OnDemandRule("a.example", CertificateSpec((), CA), ask="http://app/")
    world = World(on_demand=(rule,))
    world.step(NamesRemembered(Remembered({"b.example": Name("a.example", NOW)}, {})))
    world.load()
    world.step()
    assert not world.running(Task.ATTEMPT), "it is dormant"
    world.step(Came(Command("renew", "b.example", 4)))
    assert world.running(Task.ATTEMPT) == ["b.example"]
    world.fail("b.example")
    assert [one.ticket for one in world.all(Answer)] == [4]
    world.step(Came(Command("renew", "b.example", 5)))
    assert world.running(Task.ATTEMPT) == ["b.example"]


def test_scans_do_not_pile_up_behind_a_store_that_hangs() -> None:
    world = World(*sites(1))
    world.load()
    for _ in range(10):
        world.now += 60
        world.step(LookAround())
    assert len(world.all(Scan)) == 2
    world.step(Changed(frozenset()), LookAround())
    assert len(world.all(Scan)) == 3


OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(
            [
                "end",
                "end",
                "end",
                "fail",
                "fail",
                "later",
                "later",
                "back",
                "changed",
                "look",
                "renew",
                "around",
            ]
        ),
        st.integers(0, 9),
    ),
    max_size=60,
)


@hypothesis_settings(max_examples=150, deadline=None)
@given(OPERATIONS, st.booleans())
def test_whatever_happens_no_certificate_is_forgotten(
    operations: list[tuple[str, int]], loaded: bool
) -> None:
    """When everything goes well again, each has a fresh certificate that is served, and everybody
    who asked has been answered once."""
    second = CertificateSpec(("0.example",), OTHER, "rsa-2048", mark="rsa")
    world = World(*sites(6), second)
    if loaded:
        world.load()
    asked: list[int] = []
    for operation, number in operations:
        names = list(world.scheduler.certificates)
        name = names[number % len(names)]
        if operation in ("end", "fail") and world.under_way:
            end(world, world.under_way[number % len(world.under_way)], well=operation == "end")
        elif operation == "later":
            world.now += 10.0**number / 100
            world.step()
        elif operation == "back":
            world.now -= 10.0 ** (number % 7)
            world.step()
        elif operation == "changed":
            if is_scanning(world):
                world.step(Changed(frozenset({name})))
        elif operation in ("look", "renew"):
            asked.append(len(asked) + 1)
            world.step(Came(Command(operation, name, asked[-1])))
        else:
            world.step(LookAround())
    for _ in range(2000):
        if world.under_way:
            end(world, world.under_way[0], well=True)
        elif is_scanning(world):
            world.step(Changed(frozenset()))
        elif all(one.record.state is State.FRESH for one in world.scheduler.certificates.values()):
            break
        else:
            due = world.scheduler.next_moment()
            assert due is not None, "somebody is forgotten"
            world.now = max(world.now, due)
            world.step()
    assert all(one.usable(world.now) for one in world.scheduler.certificates.values())
    assert all(one.served for one in world.scheduler.certificates.values())
    assert sorted(one.ticket for one in world.all(Answer)) == asked


def is_scanning(world: World) -> bool:
    return world.scheduler._scans > 0


def end(world: World, run: Run, *, well: bool) -> None:
    managed = run.managed
    match run.task:
        case Task.SERVE:
            managed.served = well
            managed.republish_at = 0.0 if well else world.now + TELL_AGAIN
        case Task.ASK:
            managed.record = transitions.on_no_ari(managed.record, world.now)
        case Task.ATTEMPT:
            managed.record = transitions.on_started(managed.record, managed.wanted.names)
            if well:
                has(managed, world.now, 90 * DAY, world.rng)
                managed.served = True
            else:
                directory = managed.wanted.authority.directory
                problem = IssuanceError("refused", "no")
                managed.record = transitions.on_failed(
                    managed.record, problem, directory, None, world.now
                )
    world.under_way.remove(run)
    world.step(Finished(run))
