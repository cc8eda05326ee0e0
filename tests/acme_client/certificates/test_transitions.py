"""What each event does to a record: the figures that go with the table of states."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from acme_client.certificates import transitions
from acme_client.certificates.lifecycle import PAUSED, READY, State
from acme_client.certificates.record import HISTORY, Record, from_json, to_json
from acme_client.certificates.renewal import ASK_MOST, Suggestion, Window
from acme_client.certificates.retry import RETRY_AFTER_MOST
from acme_client.errors import KINDS, IssuanceError
from acme_client.x509.verify import CertificateInfo

NOW = 1_800_000_000.0
DAY = 86400.0
CA = "https://ca.example/dir"
NAMES = ("example.org",)
DICE = random.Random(7)
REFUSED = IssuanceError("refused", "the CA says: no")


def facts(serial: str, now: float, days: float = 90) -> CertificateInfo:
    return CertificateInfo(NAMES, serial, now, now + days * DAY)


def fresh(now: float = NOW, days: float = 90) -> Record:
    return transitions.on_found(Record(names=NAMES), facts("1", now, days), "acme", CA, now, DICE)


def failed(times: int, record: Record | None = None, problem: IssuanceError = REFUSED) -> Record:
    """After as many failures in a row, each as soon as its pause was over; the last one at NOW."""
    record = record or Record()
    for _ in range(times):
        record = replace(record, state=State.DUE)
        record = transitions.on_failed(
            transitions.on_started(record, NAMES), problem, CA, "http-01", NOW
        )
    return record


def test_the_whole_story_of_a_certificate() -> None:
    record = Record()
    assert record.state in READY
    record = transitions.on_started(record, NAMES)
    assert record.state is State.ISSUING
    record = transitions.on_obtained(record, facts("a", NOW), "acme", CA, "http-01", NOW, DICE)
    assert record.state is State.FRESH
    assert record.renew_at is not None
    assert NOW + 58 * DAY < record.renew_at <= NOW + 60 * DAY
    assert transitions.after_time(record, record.renew_at - 1) == record
    record = transitions.after_time(record, record.renew_at)
    assert record.state is State.DUE
    record = transitions.on_failed(
        transitions.on_started(record, NAMES), REFUSED, CA, "http-01", NOW + 60 * DAY
    )
    assert (record.state, record.attempts) == (State.FAILED, 1)
    assert record.next_attempt == NOW + 60 * DAY + 60
    record = transitions.after_time(record, NOW + 60 * DAY + 60)
    assert record.state is State.DUE
    record = transitions.on_started(record, NAMES)
    record = transitions.on_obtained(
        record, facts("b", NOW + 61 * DAY), "acme", CA, None, NOW + 61 * DAY, DICE
    )
    assert (record.state, record.attempts, record.last_error) == (State.FRESH, 0, None)
    assert record.challenge == "http-01"
    assert [one.outcome for one in record.history] == ["obtained", "refused", "obtained"]


@pytest.mark.parametrize(("failures", "pause"), [(1, 60), (2, 600), (3, 6000), (4, DAY), (9, DAY)])
def test_pauses_grow_with_failures_in_a_row(failures: int, pause: float) -> None:
    record = failed(failures)
    assert (record.paused_at, record.next_attempt) == (NOW, NOW + pause)


@pytest.mark.parametrize("kind", KINDS)
def test_who_set_the_pause_is_in_the_state(kind: str) -> None:
    told = failed(1, problem=IssuanceError(kind, "…", not_before=NOW + 500))
    assert (told.state, told.next_attempt) == (State.WAITING, NOW + 500)
    own = failed(1, problem=IssuanceError(kind, "…"))
    assert own.state is (State.WAITING if KINDS[kind].wait else State.FAILED)


def test_a_pause_outlives_the_certificate_and_a_restart() -> None:
    record = failed(4, fresh(NOW - 100 * DAY))
    assert transitions.on_expired(record) == record
    assert transitions.on_start(record, NOW) == record
    assert transitions.after_time(record, NOW + 1) == record


def test_a_person_ends_a_pause() -> None:
    record = transitions.on_requested(failed(4, fresh()))
    assert (record.state, record.attempts, record.next_attempt) == (State.DUE, 0, None)


def test_another_certificate_on_disk_ends_a_pause_and_the_same_does_not() -> None:
    record = failed(4, fresh())
    assert transitions.on_found(record, facts("1", NOW), "acme", CA, NOW, DICE) == record
    other = transitions.on_found(record, facts("2", NOW), "acme", CA, NOW, DICE)
    assert (other.state, other.attempts, other.serial) == (State.FRESH, 0, "2")


def test_the_moment_of_renewal_is_drawn_once() -> None:
    record = fresh()
    for seed in range(5):
        again = transitions.on_found(record, facts("1", NOW), "acme", CA, NOW, random.Random(seed))
        assert again.renew_at == record.renew_at


def test_an_interrupted_attempt_is_made_again_once_and_then_after_a_pause() -> None:
    record = transitions.on_started(fresh_due(), NAMES)
    again = transitions.on_start(record, NOW)
    assert again.state is State.DUE
    record = transitions.on_start(transitions.on_started(again, NAMES), NOW)
    assert (record.state, record.attempts) == (State.FAILED, 1)
    assert record.last_error is not None
    assert "more than once" in record.last_error


def fresh_due() -> Record:
    return replace(fresh(), state=State.DUE)


def test_a_stop_in_the_middle_counts_for_nothing() -> None:
    before = fresh_due()
    assert transitions.on_stopped(transitions.on_started(before, NAMES)) == before


def test_asking_during_an_attempt_changes_nothing() -> None:
    record = transitions.on_started(fresh_due(), NAMES)
    assert transitions.on_requested(record) == record


def test_history_is_bounded() -> None:
    record = failed(3 * HISTORY)
    assert len(record.history) == HISTORY
    assert record.attempts == 3 * HISTORY


# The CA's window


def test_a_moment_drawn_from_a_window_stays_until_the_window_changes() -> None:
    window = Window(NOW + DAY, NOW + 3 * DAY)
    record = transitions.on_ari(fresh(), Suggestion(window, NOW + 3600), NOW, DICE)
    assert record.renew_at is not None
    assert window.start <= record.renew_at <= window.end
    assert record.ask_at == NOW + 3600
    again = transitions.on_ari(record, Suggestion(window, NOW + 7200), NOW, DICE)
    assert (again.renew_at, again.ask_at) == (record.renew_at, NOW + 7200)
    reasoned = replace(window, explanation="https://ca.example/why")
    explained = transitions.on_ari(record, Suggestion(reasoned, None), NOW, DICE)
    assert (explained.renew_at, explained.window) == (record.renew_at, reasoned)
    never = transitions.on_no_ari(record, NOW)
    assert never == replace(record, ask_at=NOW + DAY)
    silent = transitions.on_ari_failed(record, NOW)
    assert (silent.renew_at, silent.window) == (record.renew_at, window)
    past = Window(NOW - 2 * DAY, NOW - DAY)
    moved = transitions.on_ari(record, Suggestion(past, None), NOW, DICE)
    assert transitions.after_time(moved, NOW).state is State.DUE


# Clocks


def test_an_expired_certificate_is_missing() -> None:
    record = fresh()
    assert transitions.after_time(record, NOW + 90 * DAY).state is State.MISSING
    assert (
        transitions.after_time(replace(record, state=State.DUE), NOW + 90 * DAY).state
        is State.MISSING
    )


def test_a_clock_that_ran_ahead_is_forgiven() -> None:
    """Taken for expired in the wrong year; in the right one it is as fresh as ever."""
    record = transitions.after_time(fresh(), NOW + 3650 * DAY)
    assert record.state is State.MISSING
    back = transitions.on_found(record, facts("1", NOW), "acme", CA, NOW + 60, DICE)
    assert (back.state, back.renew_at) == (State.FRESH, record.renew_at)


def test_a_pause_set_in_the_wrong_year_lasts_no_longer_than_it_is_long() -> None:
    far = NOW + 3650 * DAY
    record = transitions.on_failed(transitions.on_started(Record(), NAMES), REFUSED, CA, None, far)
    anew = transitions.after_time(record, NOW)
    assert (anew.paused_at, anew.next_attempt) == (NOW, NOW + 60)
    assert transitions.after_time(anew, NOW + 60).state in READY


def test_a_pause_from_before_the_epoch_is_over() -> None:
    record = transitions.on_failed(transitions.on_started(Record(), NAMES), REFUSED, CA, None, 0.0)
    assert transitions.after_time(record, NOW).state in READY


YEAR = 365 * DAY


def taken_for_expired() -> Record:
    """By a clock that is a year ahead; an order failed as well."""
    record = transitions.after_time(fresh(), NOW + YEAR)
    assert record.state is State.MISSING
    record = transitions.on_failed(
        transitions.on_started(record, NAMES),
        IssuanceError("clock", "far apart"),
        CA,
        None,
        NOW + YEAR,
    )
    assert record.state is State.FAILED
    return record


def test_a_certificate_that_was_taken_for_expired_is_a_good_one_when_the_clock_is_right() -> None:
    for record in (transitions.after_time(fresh(), NOW + YEAR), taken_for_expired()):
        right = transitions.after_time(record, NOW + DAY)
        assert right.state is State.FRESH
        assert (right.attempts, right.last_error, right.next_attempt) == (0, None, None)
        assert right.renew_at == record.renew_at


def test_but_not_if_it_is_due_by_now() -> None:
    right = transitions.after_time(taken_for_expired(), NOW + 80 * DAY)
    assert right.state is State.FAILED
    assert right.next_attempt == NOW + 80 * DAY + 60


def test_a_pause_is_no_longer_than_the_runway_allows_by_the_right_clock() -> None:
    """Years ahead, a day was nothing to wait; it is more than is left."""
    record = transitions.after_time(fresh(), NOW + YEAR)
    for _ in range(4):
        record = transitions.on_started(replace(record, state=State.MISSING), NAMES)
        record = transitions.on_failed(
            record, IssuanceError("clock", "far apart"), CA, None, NOW + 10 * YEAR
        )
    assert record.next_attempt == NOW + 10 * YEAR + DAY
    end = record.not_after
    assert end is not None
    right = transitions.after_time(record, end - 8 * 3600)
    assert (right.state, right.next_attempt) == (State.FAILED, end - 7 * 3600)
    told = replace(record, state=State.WAITING)  # by the CA: that is obeyed
    assert transitions.after_time(told, end - 8 * 3600).next_attempt == end - 8 * 3600 + DAY


@pytest.mark.parametrize("how", ["by hand", "not for all names"])
def test_nor_if_another_one_was_called_for_all_the_same(how: str) -> None:
    record = (
        transitions.on_requested(fresh())
        if how == "by hand"
        else transitions.on_names_missing(fresh())
    )
    record = transitions.on_failed(transitions.on_started(record, NAMES), REFUSED, CA, None, NOW)
    assert transitions.after_time(record, NOW + 60).state in READY
    record = transitions.after_time(from_json(to_json(record)), NOW + 60)
    assert record.state in READY
    record = transitions.on_started(record, NAMES)
    record = transitions.on_obtained(record, facts("2", NOW), "acme", CA, None, NOW, DICE)
    assert not record.wanted_anew


def test_nor_if_it_is_gone() -> None:
    record = transitions.on_lost(taken_for_expired())
    assert transitions.after_time(record, NOW).state is State.FAILED
    assert transitions.after_time(transitions.on_lost(fresh()), NOW).state is State.MISSING


def test_a_ca_is_not_forgotten_because_a_clock_ran_ahead() -> None:
    record = transitions.on_no_ari(fresh(), NOW + 3650 * DAY)
    assert transitions.after_time(record, NOW).ask_at == NOW
    usual = transitions.on_ari_failed(fresh(), NOW)
    assert transitions.after_time(usual, NOW) == usual
    assert usual.ask_at is not None
    assert usual.ask_at <= NOW + ASK_MOST


def test_a_ca_of_our_own_is_not_asked() -> None:
    record = transitions.on_found(Record(), facts("1", NOW), "internal", "internal", NOW, DICE)
    assert record.ask_at is None
    assert transitions.next_moment(record) == record.renew_at


@given(paused_at=st.floats(0, 4e9), length=st.floats(0, 4e9), now=st.floats(0, 4e9))
def test_no_pause_lasts_beyond_its_most_from_now(
    paused_at: float, length: float, now: float
) -> None:
    record = Record(state=State.FAILED, paused_at=paused_at, next_attempt=paused_at + length)
    record = transitions.after_time(record, now)
    if record.state in PAUSED:
        assert record.next_attempt is not None
        assert record.next_attempt - now <= RETRY_AFTER_MOST + 1e-3


@pytest.mark.parametrize("broken", [{"paused_at": None}, {"next_attempt": None}])
def test_a_pause_without_an_end_is_over(broken: dict[str, None]) -> None:
    assert transitions.after_time(replace(failed(1), **broken), NOW).state in READY


class Life(RuleBasedStateMachine):
    """Whatever happens in whatever order: never two certificates at once, never stuck."""

    @initialize()
    def begin(self) -> None:
        self.now, self.serial = NOW, 0
        self.record = Record()
        self.rng = random.Random(1)

    @rule(seconds=st.sampled_from([0.0, 59.0, 600.0, DAY, 30 * DAY, 91 * DAY, -400 * DAY]))
    def time_passes(self, seconds: float) -> None:
        self.now = max(self.now + seconds, 0.0)
        self.record = transitions.after_time(self.record, self.now)

    @rule()
    @precondition(lambda self: self.record.state in READY)
    def an_attempt_begins(self) -> None:
        self.record = transitions.on_started(self.record, NAMES)

    @rule(days=st.sampled_from([1 / 24, 6.0, 45.0, 90.0]))
    @precondition(lambda self: self.record.state is State.ISSUING)
    def it_succeeds(self, days: float) -> None:
        self.serial += 1
        got = facts(str(self.serial), self.now, days)
        self.record = transitions.on_obtained(
            self.record, got, "acme", CA, None, self.now, self.rng
        )
        assert self.record.state is State.FRESH

    @rule(kind=st.sampled_from(sorted(KINDS)), wait=st.none() | st.floats(-DAY, 1000 * DAY))
    @precondition(lambda self: self.record.state is State.ISSUING)
    def it_fails(self, kind: str, wait: float | None) -> None:
        problem = IssuanceError(kind, "no", not_before=None if wait is None else self.now + wait)
        self.record = transitions.on_failed(self.record, problem, CA, None, self.now)
        assert self.record.state in PAUSED

    @rule()
    def a_restart(self) -> None:
        self.record = transitions.on_start(self.record, self.now)
        assert self.record.state is not State.ISSUING

    @rule()
    def a_person_asks(self) -> None:
        self.record = transitions.on_requested(self.record)

    @rule(start=st.floats(-DAY, 60 * DAY), length=st.floats(0, DAY))
    @precondition(lambda self: self.record.state is State.FRESH)
    def the_ca_suggests(self, start: float, length: float) -> None:
        window = Window(self.now + start, self.now + start + length)
        suggestion = Suggestion(window, None)
        self.record = transitions.on_ari(self.record, suggestion, self.now, self.rng)

    @invariant()
    def it_goes_on(self) -> None:
        """There is always a moment at which something happens, unless it is happening."""
        moment = transitions.next_moment(self.record)
        if self.record.state is State.ISSUING:
            assert moment is None
            return
        assert moment is not None
        if self.record.state is State.FRESH and moment == self.record.ask_at:
            return  # the CA is to be asked
        later = transitions.after_time(self.record, max(moment, self.now))
        assert self.record.state in READY or later != self.record


TestLife = Life.TestCase


def test_whoever_corrects_the_configuration_need_not_sit_out_the_pause() -> None:
    tried = transitions.on_started(Record(), ("a.example",), None, "before")
    record = transitions.on_failed(tried, IssuanceError("binding", "no such kid"), CA, None, NOW)
    assert transitions.on_reconfigured(record, "before") == record
    again = transitions.on_reconfigured(record, "after")
    assert (again.state, again.attempts, again.next_attempt) == (State.DUE, 0, None)
    # Not known with what, as by an earlier version; and no attempt that waits.
    unknown = replace(record, tried_with=None)
    assert transitions.on_reconfigured(unknown, "after") == unknown
    assert transitions.on_reconfigured(tried, "after") == tried


@pytest.mark.parametrize(
    ("turn", "seconds"),
    [
        (transitions.Turn.SAME, 3600.0),  # what the CA has said
        (transitions.Turn.OTHER, 6000.0),  # that is the other one's business; both have failed
        (transitions.Turn.FIRST, 5.0),
    ],
)
def test_a_pause_is_for_the_ca_that_comes_next(turn: transitions.Turn, seconds: float) -> None:
    tried = transitions.on_started(replace(Record(), attempts=2), ("a.example",))
    problem = IssuanceError("rate_limited", "too many", not_before=NOW + 3600)
    record = transitions.on_failed(tried, problem, CA, None, NOW, turn=turn)
    assert record.next_attempt == NOW + seconds


@pytest.mark.parametrize(
    ("kind", "not_before", "seconds"),
    [
        ("unreachable", None, 3600.0),
        ("unavailable", None, 3600.0),
        ("unavailable", NOW + 7200, 7200.0),  # what it says
        ("refused", None, 86400.0),
        ("validation", None, 86400.0),
    ],
)
def test_with_nothing_to_serve_a_ca_that_does_not_answer_is_asked_by_the_hour(
    kind: str, not_before: float | None, seconds: float
) -> None:
    problem = IssuanceError(kind, "no", not_before=not_before)
    tried = transitions.on_started(Record(attempts=5), ("a.example",))
    record = transitions.on_failed(tried, problem, CA, None, NOW)
    assert record.next_attempt == NOW + seconds
