"""Waiting for a CA: what may pass, and when it ends."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from acme_client.errors import IssuanceError
from acme_client.issuers import polling
from acme_client.issuers.messages import NOT_READY
from acme_client.issuers.polling import LONGEST_POLL, LOST_POLLS, Poller
from acme_client.issuers.transport import Transport, trust

NOW = 1_795_521_600.0


class Answers(Transport):
    """A transport of which only the last answer's Retry-After is asked."""

    def __init__(self, retry_after: float | None = None) -> None:
        super().__init__("test", trust(None), lambda: NOW)
        self.wait = retry_after

    def retry_after(self) -> float | None:
        return self.wait


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(polling, "POLLS", (0.0,))


def looking(*outcomes: str | IssuanceError | None) -> Callable[[], str | None]:
    """Each outcome once, the last one for ever."""
    left: Iterator[str | IssuanceError | None] = iter(outcomes)
    last = outcomes[-1]

    def look() -> str | None:
        outcome = next(left, last)
        if isinstance(outcome, IssuanceError):
            raise outcome
        return outcome

    return look


def poller(retry_after: float | None = None) -> Poller:
    return Poller(Answers(retry_after), threading.Event(), lambda: NOW)


def error(kind: str, **more: object) -> IssuanceError:
    return IssuanceError(kind, "no", **more)  # type: ignore[arg-type]


MAY_PASS = {
    "nobody answers": error("unreachable"),
    "the CA is not well": error("unavailable"),
    "it is not ready": error("refused", typ=NOT_READY),
    "it does not know yet what it has named": error("refused", status=404),
    "it wants to be asked more slowly": error("rate_limited", not_before=NOW + 1),
}


@pytest.mark.parametrize("case", MAY_PASS)
def test_what_may_pass_is_looked_at_again(case: str) -> None:
    few = [MAY_PASS[case]] * LOST_POLLS
    assert poller().until(looking(*few, None, *few, "there"), 60, "never") == "there"


@pytest.mark.parametrize("case", MAY_PASS)
def test_but_not_for_ever(case: str) -> None:
    with pytest.raises(IssuanceError) as ended:
        poller().until(looking(MAY_PASS[case]), 60, "never")
    assert ended.value is MAY_PASS[case]


@pytest.mark.parametrize(
    "problem",
    [
        error("refused"),
        error("refused", status=403),
        error("nonsense"),
        error("rate_limited"),
        error("rate_limited", not_before=NOW + LONGEST_POLL + 1),
        error("validation"),
    ],
)
def test_what_does_not_pass_ends_it_at_once(problem: IssuanceError) -> None:
    with pytest.raises(IssuanceError) as ended:
        poller().until(looking(problem, "there"), 60, "never")
    assert ended.value is problem


def test_what_never_comes_is_said() -> None:
    with pytest.raises(IssuanceError, match="the CA does not finish") as ended:
        poller().until(looking(None), 0.01, "the CA does not finish")
    assert ended.value.kind == "stuck"


def test_more_patience_than_that_is_a_pause_between_attempts() -> None:
    with pytest.raises(IssuanceError, match="not now") as ended:
        poller(NOW + LONGEST_POLL + 1).until(looking(None), 3600, "not now")
    assert ended.value.not_before == NOW + LONGEST_POLL + 1


def test_a_program_that_stops_waits_for_nothing() -> None:
    stopping = threading.Event()
    stopping.set()
    with pytest.raises(IssuanceError) as ended:
        Poller(Answers(NOW + 50), stopping, lambda: NOW).until(looking(None), 3600, "never")
    assert ended.value.kind == "stopped"
