"""The page of `top`: its figures, and that it fits into any terminal."""

from __future__ import annotations

import pytest

from proxy.cli.top import Style, frame
from proxy.ipc.documents import TopDocument, TopRow
from proxy.metrics.counters import BUCKETS


def row(well: int = 0, ill: int = 0, out: int = 0, **others: int) -> TopRow:
    seconds = [0] * (len(BUCKETS) + 1)
    seconds[BUCKETS.index(0.005)] = well + ill
    return {"counts": {"2xx": well, "5xx": ill, **others}, "seconds": seconds, "bytes": [0, out]}


def document(at: float, sites: dict[str, TopRow], backends: dict[str, TopRow]) -> TopDocument:
    return {
        "at": at, "version": "1.2.3", "pid": 1, "started_at": "2033-05-18T03:00:00Z",
        "generation": 2, "workers": {"serving": 2, "draining": 1},
        "connections": {"0.0.0.0:443": 12}, "all": row(sum(one["counts"]["2xx"] for one in sites.values())),
        "sites": sites, "sites_known": 1000, "backends": backends,
        "upstreams": [
            {"url": url, "healthy": "no" if "down" in url else "yes", "draining": False,
             "last_error": None, "in_flight": 0, "failures": 0}
            for url in backends
        ],
        "handshakes": {"TLSv1.3\x1ffalse\x1fok": int(at) % 1000, "\x1ffalse\x1ffailed": 0},
        "processes": [{
            "process": "worker 1 of generation 2", "cpu_seconds": at % 100 / 2,
            "start_time_seconds": 0.0, "virtual_memory_bytes": 0,
            "resident_memory_bytes": 80 * 1024 * 1024, "max_fds": 1, "open_fds": 1,
        }],
        "attention": [{
            "level": "wrong", "about": "http://down", "text": "the backend fails: \x1b[2J refused",
            "step": "see that it runs", "page": "",
        }],
        "attention_more": 4,
    }  # fmt: skip


BEFORE = document(
    2_000_000_000.0,
    {"a.test": row(100), "b.test": row(5)},
    {"http://down": row(), "http://up": row(1)},
)
AFTER = document(
    2_000_000_002.0,
    {"a.test": row(300, 10, 2_000_000), "b.test": row(6), "new.test": row(50)},
    {"http://down": row(refused=4), "http://up": row(9)},
)


def test_the_figures() -> None:
    lines = frame(BEFORE, AFTER, 120, 0, Style(False))
    text = "\n".join(lines)
    assert lines[0].startswith("treehouse-proxy 1.2.3  up 33 minutes  generation 2")
    assert "1 draining, 2 serving" in lines[0]
    (a,) = [line for line in lines if line.startswith("a.test")]
    assert a.split() == ["a.test", "105", "0", "5", a.split()[4], a.split()[5], "977K"]
    assert a.split()[4].endswith("ms")
    (new,) = [line for line in lines if line.startswith("new.test")]
    assert new.split()[1] == "25"  # all of it is new
    (down,) = [line for line in lines if line.startswith("http://down")]
    assert down.split()[1:4] == ["2", "0", "2"]
    assert down.split()[-1] == "fails"
    assert text.index("http://down ") < text.index("http://up")
    assert "worker 1 50% 80M" in text
    assert "handshakes TLSv1.3 1/s" in text
    assert "and 997 more sites" in text
    # The busiest first; what needs attention before all; with its step where there is room for all.
    assert text.index("! the backend fails") < text.index("a.test") < text.index("b.test")
    assert "next: see that it runs" in text
    assert "and 4 more that need attention" in text


@pytest.mark.parametrize("width", [1, 7, 20, 39, 40, 80, 200])
@pytest.mark.parametrize("height", [1, 5, 10, 24, 60])
def test_it_fits(width: int, height: int) -> None:
    lines = frame(BEFORE, AFTER, width, height, Style(False))
    assert len(lines) <= height
    assert max(map(len, lines)) <= width


def test_nothing_from_outside_moves_the_cursor() -> None:
    text = "\n".join(frame(BEFORE, AFTER, 100, 0, Style(False)))
    assert "\x1b" not in text
    coloured = "\n".join(frame(BEFORE, AFTER, 100, 0, Style(True)))
    assert "\x1b[31m" in coloured
    assert "\x1b[2J" not in coloured


def test_a_server_that_has_done_nothing() -> None:
    empty = document(2_000_000_000.0, {}, {})
    assert frame(empty, empty, 80, 24, Style(False))
