"""Names on demand, decided: who is asked, what is remembered, what is ordered, renewed, forgotten. The
clock and the answers are the test's; the store is one in memory."""

from __future__ import annotations

import queue
import random
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from acme_client.certificates import transitions
from acme_client.certificates.lifecycle import READY, State
from acme_client.certificates.managed import ManagedCertificate, Task
from acme_client.certificates.repository import CertificateRepository
from acme_client.drill.memory_store import MemoryStore
from acme_client.errors import IssuanceError
from acme_client.link import Authority, CertificateSpec, Command, OnDemandRule, Settings
from acme_client.on_demand import checks
from acme_client.on_demand import manager as policy
from acme_client.on_demand.ask_url import CannotTell
from acme_client.on_demand.checks import CheckThreads, Finding
from acme_client.on_demand.known_names import NamesFile
from acme_client.on_demand.manager import OnDemand
from acme_client.x509.verify import CertificateAndKey, CertificateInfo

DAY = 86400.0
WANTED = CertificateSpec((), Authority("https://ca.example/dir"), challenges=("http-01",))
RULE = OnDemandRule("shops.example", WANTED, ask="http://app/")


class World:
    """The agent's part, played by the test. ``says``: per name why not, None for yes, or an
    exception; a name that is not in it is allowed."""

    def __init__(self, *rules: OnDemandRule, store: MemoryStore | None = None) -> None:
        self.now = 1_000_000.0
        self.says: dict[str, str | Exception | None] = {}
        self.asked: list[tuple[str, str]] = []
        self.replies: dict[int, dict[str, Any]] = {}
        self.store = store or MemoryStore()
        self.repository = CertificateRepository(self.store)
        self.certificates: dict[str, ManagedCertificate] = {}
        self.reported: list[ManagedCertificate] = []
        self.rules = rules or (RULE,)
        self.settings = Settings(
            Path("/"), (), on_demand=self.rules, taken=("shops.example", "*.taken.example")
        )
        self._tickets = 0
        self.start()

    def start(self) -> None:
        """Another life of the certifier with the same disk."""
        self.certificates.clear()
        self.findings: queue.SimpleQueue[Finding] = queue.SimpleQueue()
        self.names = NamesFile(self.store)
        self.on_demand = OnDemand(
            self.settings,
            self.certificates,
            self._take_on,
            lambda managed: self.certificates.__delitem__(managed.name),
            self.reported.append,
            self._reply,
            lambda: self.now,
            CheckThreads(self.findings.put, self._objection).begin,
            self.names.write,
            self.repository.discard,
        )
        for wanted in self.on_demand.recall(self.names.read()):
            self._take_on(wanted)

    def end(self) -> None:
        """Of this life: what is known is written down."""
        changes = self.on_demand.unwritten()
        assert changes is not None
        self.names.write(changes)

    def _take_on(self, wanted: CertificateSpec) -> ManagedCertificate:
        record, pair = self.repository.load(wanted.names[0])
        managed = self.certificates[wanted.names[0]] = ManagedCertificate(wanted, record)
        if pair is not None:
            managed.pair, managed.facts = pair, _facts(managed, record.not_after or 0.0)
        return managed

    def _reply(self, command: Command, value: dict[str, object]) -> None:
        if command.ticket is not None:
            assert command.ticket not in self.replies, "a command is answered once"
            self.replies[command.ticket] = value

    def _objection(self, rule: OnDemandRule, name: str) -> str | None:
        self.asked.append((rule.site, name))
        said = self.says.get(name)
        if isinstance(said, Exception):
            raise said
        return said

    def want(self, name: str, verb: str = "want") -> int:
        self._tickets += 1
        self.on_demand.obey(Command(verb, name, self._tickets))
        return self._tickets

    def turn(self) -> None:
        """Turns of the agent's loop, until nobody is being asked."""
        deadline = time.monotonic() + 60
        while True:
            for managed in self.certificates.values():
                managed.record = transitions.after_time(managed.record, self.now)
            busy = self.on_demand.busy
            while not self.findings.empty():
                self.on_demand.checked(self.findings.get())
            self.on_demand.stir()
            self.on_demand.turn()
            if not busy and not self.on_demand.busy:
                return
            assert time.monotonic() < deadline

    def outcome(self, name: str) -> dict[str, Any]:
        """Somebody comes, and is answered at once or after somebody was asked."""
        ticket = self.want(name)
        self.turn()
        return self.replies.get(ticket, {"ok": None})

    def may_begin(self) -> set[str]:
        return {
            name
            for name, one in self.certificates.items()
            if one.record.state in READY and not one.dormant and not one.busy
        }

    def issue(self, name: str, lifetime: float = 90 * DAY) -> None:
        """An attempt that succeeds."""
        managed = self.certificates[name]
        managed.record = transitions.on_started(managed.record, (name,))
        facts = managed.facts = replace(
            _facts(managed, 0.0), not_before=self.now, not_after=self.now + lifetime
        )
        managed.pair = CertificateAndKey(b"chain", b"key")
        managed.record = transitions.on_obtained(
            managed.record,
            facts,
            "acme",
            "https://ca.example/dir",
            "http-01",
            self.now,
            random.Random(1),
        )
        self._keep(managed)
        self._answer(managed)

    def fail(self, name: str) -> None:
        managed = self.certificates[name]
        managed.record = transitions.on_started(managed.record, (name,))
        managed.record = transitions.on_failed(
            managed.record,
            IssuanceError("unreachable", "the CA cannot be reached"),
            "d",
            None,
            self.now,
        )
        self._keep(managed)
        self._answer(managed)

    def _keep(self, managed: ManagedCertificate) -> None:
        self.repository.keep_record(managed.name, managed.record)
        if managed.pair is not None:
            self.repository.keep_pair(managed.name, managed.pair)

    def _answer(self, managed: ManagedCertificate) -> None:
        for ticket in managed.tickets:
            self.replies[ticket] = {"ok": managed.record.state is State.FRESH}
        managed.tickets = []
        self.turn()


def _facts(managed: ManagedCertificate, not_after: float) -> CertificateInfo:
    return CertificateInfo(names=(managed.name,), serial="1", not_before=0.0, not_after=not_after)


def had(name: str = "a.example", **rule: Any) -> World:
    """A world in which the name has its certificate."""
    world = World(replace(RULE, **rule))
    world.want(name)
    world.turn()
    world.issue(name)
    return world


def test_a_name_that_is_allowed_is_taken_on_and_everybody_waits_for_one_attempt() -> None:
    world = World()
    tickets = [world.want("a.example") for _ in range(3)]
    world.turn()
    tickets += [world.want("A.example.") for _ in range(2)]
    assert world.asked == [("shops.example", "a.example")]
    assert world.certificates["a.example"].wanted.on_demand_for == "shops.example"
    assert world.may_begin() == {"a.example"}
    assert not world.replies
    world.issue("a.example")
    assert [world.replies[one]["ok"] for one in tickets] == [True] * 5
    assert world.outcome("a.example") == {"ok": True}
    assert len(world.asked) == 1


def test_a_name_that_is_refused_is_not_asked_about_again_for_a_while() -> None:
    world = World()
    world.says["a.example"] = "the ask URL says 404"
    answer = world.outcome("a.example")
    assert answer == {"ok": False, "seconds": policy.REFUSED_FOR, "error": "the ask URL says 404"}
    world.now += 100
    assert world.outcome("a.example")["seconds"] == policy.REFUSED_FOR - 100
    assert len(world.asked) == 1
    world.now += policy.REFUSED_FOR
    world.says.clear()
    world.want("a.example")
    world.turn()
    assert world.may_begin() == {"a.example"}


def test_who_cannot_be_asked_is_asked_again_soon() -> None:
    world = World()
    for fault in (CannotTell("no answer in time"), RuntimeError("a slip")):
        world.says["a.example"] = fault
        assert world.outcome("a.example")["seconds"] == policy.UNTOLD_FOR
        world.now += policy.UNTOLD_FOR
    assert len(world.asked) == 2


@pytest.mark.parametrize(
    "name",
    [
        "shops.example",
        "x.taken.example",
        "192.0.2.1",
        "localhost",
        "a_b.example",
        "",
        "*.a.example",
    ],
)
def test_what_is_configured_or_no_name_is_nobodys_question(name: str) -> None:
    world = World()
    assert world.outcome(name)["ok"] is False
    assert not world.asked
    assert not world.certificates


def test_sites_are_asked_in_their_order_and_the_first_that_allows_has_it() -> None:
    world = World(
        replace(RULE, site="one.example", patterns=("*.one.example",)),
        replace(RULE, site="two.example"),
    )
    world.want("a.one.example")
    world.want("a.two.example")
    world.turn()
    found = {name: one.wanted.on_demand_for for name, one in world.certificates.items()}
    assert found == {"a.one.example": "one.example", "a.two.example": "two.example"}


def test_a_failed_attempt_is_made_again_only_when_somebody_comes_after_the_pause() -> None:
    world = World()
    ticket = world.want("a.example")
    world.turn()
    world.fail("a.example")
    assert world.replies[ticket]["ok"] is False
    # During the pause nobody is asked anything.
    world.now += 10
    answer = world.outcome("a.example")
    assert answer["ok"] is False
    assert answer["seconds"] == pytest.approx(50.0)
    assert answer["error"] == "the CA cannot be reached"
    # After it, nothing happens by itself.
    world.now += 3600
    world.turn()
    assert world.certificates["a.example"].record.state in READY
    assert world.may_begin() == set()
    assert len(world.asked) == 1
    world.want("a.example")
    world.turn()
    assert len(world.asked) == 2
    assert world.may_begin() == {"a.example"}


def test_new_names_are_counted_by_the_hour() -> None:
    world = World(replace(RULE, per_hour=3))
    outcomes = [world.outcome(f"{number}.example") for number in range(5)]
    assert [one["ok"] for one in outcomes] == [None, None, None, False, False]
    assert "3 new names in an hour" in outcomes[3]["error"]
    assert len(world.asked) == 3
    # A failed name that is tried again counts as well.
    for number in range(3):
        world.fail(f"{number}.example")
    world.now += 3700
    assert [world.outcome(f"{number}.example")["ok"] for number in range(3)] == [None] * 3
    assert world.outcome("9.example")["ok"] is False


def test_the_count_outlasts_a_restart() -> None:
    world = World(replace(RULE, per_hour=2))
    for number in range(2):
        world.outcome(f"{number}.example")
    world.start()
    assert world.outcome("9.example")["ok"] is False


def test_many_at_once_are_told_to_come_again() -> None:
    world = World(replace(RULE, per_hour=1000))
    gate = CannotTell("later")
    tickets = []
    for number in range(checks.MOST + 10):
        world.says[f"{number}.example"] = gate
        tickets.append(world.want(f"{number}.example"))
    crowded = [world.replies[one] for one in tickets if one in world.replies]
    assert len(crowded) == 10
    assert {one["seconds"] for one in crowded} == {policy.CROWDED_FOR}
    world.turn()
    assert not world.certificates


def test_so_many_first_attempts_at_once_that_configured_names_have_room() -> None:
    world = World()
    for number in range(6):
        world.want(f"{number}.example")
    world.turn()
    assert len(world.may_begin()) == policy.ATTEMPTS_MOST
    for name in world.may_begin():
        world.certificates[name].task = Task.ATTEMPT
    world.turn()
    assert not world.may_begin()
    for one in world.certificates.values():
        one.task = None
    world.issue("0.example")
    assert len(world.may_begin()) == policy.ATTEMPTS_MOST


def test_a_name_that_failed_makes_room_for_one_that_may_not() -> None:
    world = World(replace(RULE, most=2))
    for name in ("a.example", "b.example"):
        world.want(name)
        world.turn()
        world.now += 1
    world.issue("a.example")
    assert world.outcome("c.example")["ok"] is False, "b is under way"
    world.fail("b.example")
    world.now += policy.ALLOWANCE_FOR
    world.want("c.example")
    world.turn()
    assert set(world.certificates) == {"a.example", "c.example"}
    assert "b.example" not in world.repository.names()
    world.issue("c.example")
    assert "2 names already" in world.outcome("d.example")["error"]


def test_a_name_is_remembered_over_a_restart_and_served_from_the_disk() -> None:
    world = had()
    world.end()
    world.start()
    assert set(world.certificates) == {"a.example"}
    assert world.outcome("a.example") == {"ok": True}
    assert len(world.asked) == 1


def test_a_name_that_no_rule_takes_any_more_stays_on_the_disk_only() -> None:
    world = had()
    world.settings = replace(
        world.settings, on_demand=(replace(RULE, patterns=("*.other.example",)),)
    )
    world.start()
    assert not world.certificates
    world.settings = replace(world.settings, on_demand=(RULE,))
    world.start()
    assert set(world.certificates) == {"a.example"}
    # One that is configured by now is not ours; its files are not either.
    world.settings = replace(world.settings, taken=("a.example",))
    world.start()
    assert not world.certificates
    for _ in range(2):
        world.now += 400 * DAY
        world.turn()
    assert world.repository.names() == ["a.example"]


def test_a_name_moves_to_the_site_that_takes_it_when_its_own_is_called_otherwise() -> None:
    world = World()
    world.want("a.shop.com")
    world.turn()
    world.issue("a.shop.com")
    renamed = World(replace(RULE, site="store.example"), store=world.store)
    assert renamed.certificates == {}
    renamed.says["a.shop.com"] = "the ask URL says 404"
    assert renamed.outcome("a.shop.com")["ok"] is False
    renamed.says.clear()
    renamed.now += policy.REFUSED_FOR + 1
    # Its certificate is on the disk: nothing is ordered, and nobody is refused.
    assert renamed.outcome("a.shop.com") == {"ok": True}
    assert renamed.certificates["a.shop.com"].wanted.on_demand_for == "store.example"
    renamed.start()
    assert set(renamed.certificates) == {"a.shop.com"}


def test_before_each_renewal_it_is_asked_for_again() -> None:
    world = had()
    world.want("a.example", "used")
    world.now += 80 * DAY
    world.want("a.example", "used")
    assert len(world.asked) == 1
    world.turn()
    assert len(world.asked) == 2
    assert world.may_begin() == {"a.example"}
    world.issue("a.example")
    assert world.certificates["a.example"].record.state is State.FRESH
    world.now += 80 * DAY
    world.want("a.example", "used")
    world.turn()
    assert len(world.asked) == 3


def test_one_that_is_not_allowed_any_more_is_served_while_it_lasts_and_then_forgotten() -> None:
    world = had()
    world.now += 80 * DAY
    world.want("a.example", "used")
    world.says["a.example"] = "gone"
    world.turn()
    assert not world.may_begin()
    # It may have been a slip of the app's: it is asked again within the day.
    world.now += policy.LOOK_AGAIN_REFUSED + 1
    world.turn()
    assert len(world.asked) == 3
    assert world.outcome("a.example") == {"ok": True}
    world.now += 20 * DAY
    world.turn()
    assert "a.example" in world.certificates, "not before the clock has been looked at twice"
    world.now += policy.FORGET_AFTER
    world.turn()
    assert not world.certificates
    assert world.repository.names() == []


def test_one_that_nobody_comes_for_is_not_renewed() -> None:
    world = had(forget=30 * DAY)
    world.now += 80 * DAY
    world.turn()
    assert len(world.asked) == 1
    assert not world.may_begin()
    assert world.reported[-1].given_up
    # Somebody comes in its last days.
    world.want("a.example", "used")
    world.turn()
    assert world.may_begin() == {"a.example"}
    assert not world.reported[-1].given_up
    assert len(world.reported) == 2


def test_one_that_is_in_use_is_tried_again_by_itself_even_when_it_has_expired() -> None:
    world = had()
    world.now += 80 * DAY
    world.want("a.example", "used")
    world.turn()
    world.fail("a.example")
    world.now += 11 * DAY
    world.turn()
    assert world.may_begin() == {"a.example"}


def test_a_clock_that_runs_ahead_for_a_while_forgets_nothing() -> None:
    world = had()
    world.now += 4000 * DAY
    world.turn()
    world.now += 60
    world.turn()
    world.now -= 4000 * DAY
    world.turn()
    assert "a.example" in world.certificates
    assert world.repository.names() == ["a.example"]
    world.now += 4000 * DAY
    world.turn()
    assert "a.example" in world.certificates


def test_a_name_that_never_had_a_certificate_is_forgotten_within_days() -> None:
    world = World()
    world.want("a.example")
    world.turn()
    world.fail("a.example")
    for _ in range(2):
        world.now += policy.FAILED_KEPT + policy.FORGET_AFTER
        world.turn()
    assert not world.certificates
    assert world.repository.names() == []
    world.end()
    world.start()
    assert not world.certificates


def test_by_hand_a_refusal_counts_no_longer() -> None:
    world = World()
    world.says["a.example"] = "not yet"
    world.outcome("a.example")
    world.says.clear()
    ticket = world.want("a.example", "renew")
    world.turn()
    world.issue("a.example")
    assert world.replies[ticket] == {"ok": True}
    assert world.on_demand.takes("b.example")
    assert not world.on_demand.takes("b_.example")


def test_why_a_name_was_refused_can_be_asked() -> None:
    world = World()
    world.says["a.example"] = "the ask URL says 404"
    world.outcome("a.example")
    ticket = world.want("a.example", "refusal")
    assert world.replies[ticket]["refusal"]["why"] == "the ask URL says 404"
    ticket = world.want("b.example", "refusal")
    assert world.replies[ticket] == {"ok": True, "refusal": None}


@pytest.mark.parametrize(
    "torn",
    [
        b"",
        b"{",
        b"[]",
        b'{"names": 5}',
        b'{"names": {"a.example": []}}',
        b'{"names": {"a": {"site": "s", "asked_at": 1}}}',
        b'{"allowances": {"shops.example": NaN}}',
        b'{"names": {"a.example": {"site": 1, "asked_at": "x"}}}',
    ],
)
def test_a_torn_file_costs_nothing_but_what_it_held(torn: bytes) -> None:
    store = MemoryStore()
    store.store("on-demand", {"names.json": torn})
    world = World(store=store)
    assert not world.certificates
    world.want("a.example")
    world.turn()
    assert world.may_begin() == {"a.example"}


def test_a_newer_programs_file_is_set_aside() -> None:
    store = MemoryStore()
    newer = b'{"version": 2, "names": {}}'
    store.store("on-demand", {"names.json": newer})
    world = World(store=store)
    world.want("a.example")
    world.turn()
    files = store.load("on-demand")
    assert files["names.version-2.json"] == newer
    assert b"a.example" in files["names.json"]


def test_the_form_that_every_later_version_reads() -> None:
    store = MemoryStore()
    store.store(
        "on-demand",
        {
            "names.json": b'{"version": 1, "names": {"a.example": {"site": "shops.example", "asked_at": 999999.5}}, "allowances": {"shops.example": 1003600.0}}'
        },
    )
    world = World(replace(RULE, per_hour=1), store=store)
    assert set(world.certificates) == {"a.example"}
    assert world.outcome("b.example")["ok"] is False
