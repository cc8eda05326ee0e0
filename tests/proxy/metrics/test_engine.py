"""What certifiers have counted of an engine, added up over those that have ended."""

from __future__ import annotations

import pytest

from acme_client.storage.etcd.figures import EngineFigures, Figures
from proxy.metrics.engine import EngineCounts, nothing


def counted(*seconds: float, fenced: int = 0, compacted: int = 0) -> EngineFigures:
    figures = Figures()
    for one in seconds:
        figures.called(one)
    for _ in range(fenced):
        figures.fenced()
        figures.conflict()
    for _ in range(compacted):
        figures.reload("compacted")
    return figures.document()


def test_a_counter_does_not_go_back_when_the_certifier_ends() -> None:
    counts = EngineCounts()
    assert counts.total() == nothing()
    counts.reported(counted(0.0005, fenced=1))
    counts.reported(counted(0.0005, 0.002, 99.0, fenced=2, compacted=1))
    first = counts.total()
    assert (first["fenced"], first["conflicts"]) == (2, 2)
    assert first["reloads"] == {"compacted": 1, "restored": 0}
    assert first["seconds"][:2] == [1, 1]
    assert first["seconds"][-1] == 1
    assert first["seconds_sum"] == pytest.approx(99.0025)
    counts.certifier_ended()
    assert counts.total() == first
    counts.certifier_ended()  # one that has said nothing
    counts.reported(counted(0.002, fenced=1))
    assert counts.total()["fenced"] == 3
    assert sum(counts.total()["seconds"]) == 4


def test_a_histogram_with_other_buckets_is_refused() -> None:
    counts = EngineCounts()
    with pytest.raises(ValueError, match="3 buckets"):
        counts.reported({**nothing(), "seconds": [0, 0, 0]})
    assert counts.total() == nothing()
