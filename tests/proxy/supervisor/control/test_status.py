"""The status document: what several workers say, as one."""

from __future__ import annotations

from typing import cast

import pytest

from proxy.ipc.documents import Health, UpstreamStatus, WorkerStats
from proxy.metrics import counters
from proxy.supervisor.control.overview import Overview
from proxy.supervisor.control.status import document
from proxy.supervisor.process_table import Child
from proxy.supervisor.timers import Timers


def backend(healthy: Health, error: str | None = None, number: int = 0) -> UpstreamStatus:
    return {
        "url": "http://a:1",
        "healthy": healthy,
        "draining": False,
        "last_error": error,
        "in_flight": number,
        "failures": number,
    }


def stats(*upstreams: UpstreamStatus, open_fds: int | None = None) -> WorkerStats:
    return {
        "figures": counters.empty(),
        "connections": 1,
        "listeners": {},
        "open_fds": open_fds,
        "streams": 0,
        "requests": 2,
        "upstreams": list(upstreams),
    }


class Worker:
    def __init__(self, said: WorkerStats | None) -> None:
        self.pid, self.generation, self.state, self.stats = 7, 1, "serving", said


def upstreams(*said: WorkerStats | None) -> list[UpstreamStatus]:
    return document(
        started_at=0.0,
        generation=1,
        config=None,
        workers=[cast(Child, Worker(one)) for one in said],
        listeners=(),
        certificates=[],
        unwanted=[],
        providers=[],
        cluster=None,
        sites=(),
    )["upstreams"]


@pytest.mark.parametrize(
    ("votes", "healthy"),
    [
        (("untried", "untried"), "untried"),
        (("untried", "yes"), "yes"),
        (("untried", "no", "untried"), "no"),
        (("yes", "no", "untried"), "yes"),
        (("yes", "no", "no"), "no"),
    ],
)
def test_workers_that_have_tried_a_backend_vote_on_it(
    votes: tuple[Health, ...], healthy: Health
) -> None:
    (one,) = upstreams(*(stats(backend(vote)) for vote in votes))
    assert one["healthy"] == healthy


def test_figures_are_added_and_an_error_is_kept() -> None:
    said = stats(backend("yes", number=2)), stats(backend("no", "refused", 3)), None
    (one,) = upstreams(*said)
    assert (one["in_flight"], one["failures"], one["last_error"]) == (5, 5, "refused")
    # What the workers have said stays as they have said it.
    assert said[0] is not None
    assert said[0]["upstreams"][0]["failures"] == 2


class Nobody:
    def workers(self) -> list[Child]:
        return []


def overview() -> Overview:
    nobody = cast("object", Nobody())
    return Overview(nobody, nobody, nobody, nobody, Timers(), nobody)  # type: ignore[arg-type]


def test_what_was_counted_thoroughly_stays_until_it_is_counted_again() -> None:
    known = overview()
    worker = cast(Child, Worker(None))
    known.heard_worker(worker, stats(open_fds=12))
    known.heard_worker(worker, stats())
    assert worker.stats is not None
    assert worker.stats["open_fds"] == 12


def test_figures_that_would_not_add_up_are_refused_when_they_come() -> None:
    """Whoever sums them later is another child's turn, or a timer's: nothing may fail there."""
    known = overview()
    worker = cast(Child, Worker(stats()))
    before = worker.stats
    odd = stats()
    assert odd["figures"] is not None
    odd["figures"]["seconds"] = {"a.test": [1, 2, 3]}
    with pytest.raises(ValueError, match="3 buckets"):
        known.heard_worker(worker, odd)
    assert worker.stats is before
