"""An hour in bounded memory: what each slot has, who gets a series, what a quantile says."""

from __future__ import annotations

import pytest

from proxy.metrics.history import MOST_SERIES, OTHERS, SLOT, SLOTS, History, quantile
from support.figures import figures, process


def test_a_slot_is_what_was_added_since_the_last() -> None:
    history = History()
    history.observe(100.0, figures({"a.test": (1000, 0)}), {"l": 7}, [process("worker 1", 1.0)])
    assert history.document("site", "a.test")["rows"] == []
    history.observe(
        105.0,
        figures({"a.test": (1050, 10)}, {"http://b": 20}),
        {"l": 9},
        [process("worker 1", 3.5), process("worker 1 of generation 2", 1.0)],
    )
    told = history.document("site", "a.test")
    (row,) = told["rows"]
    found = dict(zip(told["columns"], row, strict=True))
    assert (found["2xx"], found["5xx"], found["out"]) == (10.0, 2.0, 1200.0)
    assert 0.0025 <= found["p50"] <= found["p99"] <= 0.005
    assert history.document("all", "")["rows"] == [row]
    assert history.document("backend", "http://b")["rows"][0][:3] == [4.0, 0.0, pytest.approx(0.2)]
    assert history.document("connections", "l")["rows"] == [[9.0]]
    # Half a core; a worker that is new has used nothing that anybody saw.
    assert history.document("process", "worker 1")["rows"] == [[0.5, 2048.0]]


def test_a_worker_that_counts_from_the_start_again_is_no_negative_rate() -> None:
    history = History()
    history.observe(0.0, figures({"a.test": (10, 0)}), {}, [process("worker 1", 9.0)])
    history.observe(5.0, figures({"a.test": (3, 0)}), {}, [process("worker 1", 1.0)])
    assert all(value >= 0 for row in history.document("all", "")["rows"] for value in row)


def test_a_clock_that_is_set_back_makes_no_slot() -> None:
    history = History()
    history.observe(100.0, figures({}), {}, [])
    history.observe(50.0, figures({"a.test": (5, 0)}), {}, [])
    assert history.document("all", "")["rows"] == []
    history.observe(55.0, figures({"a.test": (10, 0)}), {}, [])
    assert history.document("all", "")["rows"][0][1] == 1.0


def test_an_hour_and_no_more() -> None:
    history = History()
    for number in range(SLOTS + 20):
        history.observe(number * SLOT, figures({"a.test": (number * number, 0)}), {}, [])
    rows = history.document("site", "a.test")["rows"]
    assert len(rows) == SLOTS
    number = SLOTS + 19
    assert rows[-1][1] == pytest.approx((number**2 - (number - 1) ** 2) / SLOT, rel=1e-5)
    assert rows[0][1] < rows[-1][1]
    assert len(history.document("site", "a.test", 12)["rows"]) == 12


def test_the_busiest_have_a_series_and_all_others_share_one() -> None:
    history = History()
    sites = {f"s{number}.test": (0, 0) for number in range(2000)}
    history.observe(0.0, figures(sites), {}, [])
    busy = {f"s{number}.test": (number, 0) for number in range(2000)}
    history.observe(5.0, figures(busy), {}, [])
    shown = {one["name"] for one in history.lately("site")}
    assert shown == {f"s{number}.test" for number in range(2000 - MOST_SERIES, 2000)}
    (others,) = history.lately("others")
    assert others["name"] == OTHERS
    assert others["rate"] == pytest.approx(sum(range(2000 - MOST_SERIES)) / SLOT)
    (whole,) = history.lately("all")
    assert whole["rate"] == pytest.approx(sum(range(2000)) / SLOT)


def test_a_newcomer_takes_the_place_of_who_was_quiet() -> None:
    history = History()
    sites = {f"s{number}.test": (10, 0) for number in range(MOST_SERIES)}
    history.observe(0.0, figures(dict.fromkeys(sites, (0, 0))), {}, [])
    history.observe(5.0, figures(sites), {}, [])
    for number in range(60):  # five minutes of silence
        history.observe(10.0 + 5 * number, figures(sites), {}, [])
    history.observe(310.0, figures({**sites, "new.test": (3, 0)}), {}, [])
    assert "new.test" in {one["name"] for one in history.lately("site")}
    assert len(history.lately("site")) == MOST_SERIES


@pytest.mark.parametrize(
    ("counts", "part", "least", "most"),
    [
        ([0] * 14, 0.5, 0.0, 0.0),
        ([100] + [0] * 13, 0.5, 0.0004, 0.0006),
        ([0] * 13 + [5], 0.99, 10.0, 10.0),  # slower than all bounds: at least the last one
        ([50] + [0] * 12 + [50], 0.5, 0.001, 0.001),
        ([98, 0, 0, 0, 0, 0, 0, 0, 0, 2] + [0] * 4, 0.99, 0.5, 1.0),
    ],
)
def test_quantiles(counts: list[int], part: float, least: float, most: float) -> None:
    assert least <= quantile(counts, part) <= most


def test_limits_that_were_reached() -> None:
    history = History()
    one, two = figures({}), figures({})
    two["limited"]["rate_limit"] = 7
    history.observe(0.0, one, {}, [])
    history.observe(5.0, two, {}, [])
    assert history.reached() == {"rate_limit": pytest.approx(7, rel=1e-3)}
    for number in range(130):  # eleven minutes later
        history.observe(10.0 + 5 * number, two, {}, [])
    assert history.reached() == {}
