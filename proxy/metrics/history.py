"""The last hour in numbers: what was counted in each five seconds, for the admin page. Pure.

Fed with the sum of all counters again and again, it keeps what has been added between two times
(a *slot*): requests by class, how long they took, bytes; by site, by backend, and in all; and what
each process took of CPU and memory. An hour is a ring of fixed size for each *series*.

Bounded whatever is configured: the busiest sites and backends have a series of their own, and all
others share one (`OTHERS`). A series goes to a newcomer that was busier in one slot than its owner
has lately been; what the owner did before is in no series then, but in that of all.

A quantile comes from a histogram, so it is as exact as the bounds of `counters.BUCKETS`.
"""

from __future__ import annotations

import functools
import heapq
from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate

from ..ipc.documents import Figures, HistoryDocument, ProcessFigures, Rates
from .counters import BUCKETS, labels

SLOT = 5.0  # seconds
SLOTS = 720
# Each takes some 26 KiB.
MOST_SERIES = 50
OTHERS = "(all others)"
# How much of its past a series is judged by: what was a minute ago counts half.
_FADE = 0.5 ** (SLOT / 60)
# What "lately" means in tables: a minute.
_LATELY = 12

SITE = ("1xx", "2xx", "3xx", "4xx", "5xx", "p50", "p99", "in", "out")
BACKEND = ("ok", "error", "failed", "p50", "p99")
PROCESS = ("cpu", "memory")
CONNECTIONS = ("open",)


def quantile(counts: Iterable[int], part: float) -> float:
    """Return the seconds that ``part`` of the requests took at most, within their bucket by its
    width; 0.0 without requests. ``counts`` as `counters.Counters` has them."""
    sums = list(accumulate(counts))
    if not sums or not sums[-1]:
        return 0.0
    wanted = sums[-1] * part
    before, lower = 0, 0.0
    for upper, count in zip(BUCKETS, sums, strict=False):
        if count >= wanted and count > before:
            return lower + (upper - lower) * (wanted - before) / (count - before)
        before, lower = count, upper
    return BUCKETS[-1]


class Series:
    """A ring of rows, one for each slot since ``since``."""

    __slots__ = ("_ring", "_width", "since", "weight")

    def __init__(self, width: int, since: int) -> None:
        self._width = width
        self._ring = array("f", bytes(4 * width * SLOTS))
        self.since = since
        self.weight = 0.0

    def put(self, slot: int, row: Iterable[float]) -> None:
        at = slot % SLOTS * self._width
        self._ring[at : at + self._width] = array("f", row)

    def blank(self, slot: int) -> None:
        self.put(slot, [0.0] * self._width)

    def rows(self, slot: int, most: int = SLOTS) -> list[list[float]]:
        """Return the rows up to ``slot``, oldest first."""
        starts = self._starts(slot, most)
        return [[round(value, 5) for value in self._ring[at : at + self._width]] for at in starts]

    def values(self, slot: int) -> array[float]:
        """Return the same rows one after the other, as they are kept."""
        found = array("f")
        for at in self._starts(slot, SLOTS):
            found += self._ring[at : at + self._width]
        return found

    def _starts(self, slot: int, most: int) -> Iterator[int]:
        first = max(self.since, slot - min(most, SLOTS) + 1)
        return (one % SLOTS * self._width for one in range(first, slot + 1))


class Group:
    """The series of one kind: the busiest have their own."""

    def __init__(self, columns: tuple[str, ...], most: int = MOST_SERIES) -> None:
        self.columns = columns
        self.most = most
        self.series: dict[str, Series] = {}

    def add(self, slot: int, rows: Mapping[str, tuple[float, list[float]]]) -> set[str]:
        """Note a slot: by name a weight and a row. Returns the names that have no series."""
        for name, one in self.series.items():
            one.weight *= _FADE
            weight, row = rows.get(name, (0.0, None))
            one.weight += weight
            if row is None:
                one.blank(slot)
            else:
                one.put(slot, row)
        left = set()
        newcomers = [name for name in rows if name not in self.series]
        for name in sorted(newcomers, key=lambda one: -rows[one][0]):
            weight, row = rows[name]
            if len(self.series) >= self.most:
                least = min(self.series, key=lambda one: self.series[one].weight)
                if self.series[least].weight >= weight:
                    left.add(name)
                    continue
                del self.series[least]
            made = self.series[name] = Series(len(self.columns), slot)
            made.weight = weight
            made.put(slot, row)
        return left


def _groups() -> dict[str, Group]:
    return {
        "all": Group(SITE, 1),
        "site": Group(SITE, MOST_SERIES),
        "backend": Group(BACKEND, MOST_SERIES),
        "others": Group(SITE, 1),
        "process": Group(PROCESS, MOST_SERIES),
        "connections": Group(CONNECTIONS, MOST_SERIES),
        "handshakes": Group(("number",), 12),
        "limit": Group(("number",), MOST_SERIES),
    }


class History:
    """``now`` is Unix seconds. Nothing is noted before the second call of `observe`. One that a
    predecessor has handed over (`handed_history`) goes on behind slots that are empty, for the time
    between the two programs."""

    def __init__(self) -> None:
        self.slot = -1  # the last one that was noted
        self.at = 0.0  # its end
        self._last: Figures | None = None
        self._whole = _Counted()
        self._cpu: dict[str, float] = {}
        self.groups = _groups()

    def observe(
        self,
        now: float,
        figures: Figures,
        connections: Mapping[str, int],
        processes: Iterable[ProcessFigures],
    ) -> None:
        """Note a slot: what has been added to ``figures`` since the last call."""
        last, self._last = self._last, figures
        whole = _whole(figures)
        added, self._whole = whole.minus(self._whole), whole
        cpu, memory = self._processes(processes)
        if last is None or now <= self.at:  # the first call; a clock that was set back
            self._pass(now - self.at)
            self.at = now
            return
        seconds, self.at = now - self.at, now
        self.slot += 1
        slot, groups = self.slot, self.groups
        groups["all"].add(slot, {"": (1.0, added.row(seconds))})
        sites = self._sites(last, figures)
        rows = {name: (float(one.requests), one.row(seconds)) for name, one in sites.items()}
        groups["site"].add(slot, rows)
        for name, one in sites.items():
            if name in groups["site"].series:
                added = added.minus(one)
        groups["others"].add(slot, {OTHERS: (1.0, added.row(seconds))})
        groups["backend"].add(slot, _backend_rows(last, figures, seconds))
        groups["connections"].add(
            slot, {name: (1.0, [float(count)]) for name, count in connections.items()}
        )
        for kind, part in (("handshakes", "handshakes"), ("limit", "limited")):
            groups[kind].add(slot, _rates(last[part], figures[part], seconds))  # type: ignore[literal-required] # two of its keys
        groups["process"].add(
            slot, {name: (1.0, [cpu[name] / seconds, memory[name]]) for name in memory}
        )

    def _pass(self, seconds: float) -> None:
        """Leave the slots empty in which nothing was counted, behind those that there are."""
        missed = round(seconds / SLOT)
        if self.slot < 0 or missed <= 0:
            return
        if missed >= SLOTS:
            self.slot, self.groups = -1, _groups()
            return
        for _ in range(missed):
            self.slot += 1
            for group in self.groups.values():
                for one in group.series.values():
                    one.blank(self.slot)

    def _sites(self, last: Figures, now: Figures) -> dict[str, _Counted]:
        """Count what those sites did that have a series, or are busy enough for one. With ten
        thousand sites that are all busy this takes some hundredths of a second."""
        known = self.groups["site"].series
        before = last["seconds"]
        weights = {
            host: sum(counts) - sum(before.get(host, ()))
            for host, counts in now["seconds"].items()
            if counts != before.get(host)
        }
        wanted = {name for name in known if name in weights}
        wanted |= set(heapq.nlargest(MOST_SERIES, weights, key=weights.__getitem__))
        found = {}
        for host in wanted:
            one = found[host] = _Counted()
            one.histogram = minus(now["seconds"][host], before.get(host))
            one.moved = minus(now["bytes"][host], last["bytes"].get(host))
        for key, count in now["requests"].items():
            host, place = _host_and_class(key)
            if host in found:
                found[host].classes[place] += max(0, count - last["requests"].get(key, 0))
        return found

    def _processes(
        self, processes: Iterable[ProcessFigures]
    ) -> tuple[dict[str, float], dict[str, float]]:
        """Return CPU seconds since the last call, and bytes of memory, by what the process is:
        workers with the same number in all generations together."""
        known, self._cpu = self._cpu, {}
        cpu: dict[str, float] = defaultdict(float)
        memory: dict[str, float] = defaultdict(float)
        for one in processes:
            title = one["process"]
            self._cpu[title] = one["cpu_seconds"]
            plain = title.partition(" of generation")[0]
            cpu[plain] += max(0.0, one["cpu_seconds"] - known.get(title, one["cpu_seconds"]))
            memory[plain] += one["resident_memory_bytes"]
        return cpu, memory

    # What it tells

    def document(self, kind: str, name: str, most: int = SLOTS) -> HistoryDocument:
        """Return the rows of one series, oldest first; none where the name has no series."""
        group = self.groups[kind]
        series = group.series.get(name)
        return {
            "kind": kind,
            "name": name,
            "slot": SLOT,
            "at": self.at,
            "columns": list(group.columns),
            "rows": [] if series is None else series.rows(self.slot, most),
        }

    def pivot(self, kind: str, column: str, most: int = SLOTS) -> HistoryDocument:
        """Return the rows of one column of all series of a kind: a column for each series."""
        group = self.groups[kind]
        place = group.columns.index(column)
        length = min(most, SLOTS, self.slot + 1)
        each = {
            name: [row[place] for row in one.rows(self.slot, length)]
            for name, one in sorted(group.series.items())
        }
        padded = [[0.0] * (length - len(values)) + values for values in each.values()]
        return {
            "kind": kind,
            "name": column,
            "slot": SLOT,
            "at": self.at,
            "columns": list(each),
            "rows": [list(row) for row in zip(*padded, strict=True)],
        }

    def lately(self, kind: str) -> list[Rates]:
        """Return the last minute of every series of sites or backends, the busiest first."""
        group = self.groups[kind]
        found = [
            _lately(name, group.columns, one.rows(self.slot, _LATELY))
            for name, one in group.series.items()
        ]
        return sorted(found, key=lambda one: (-one["rate"], one["name"]))

    def latest(self, kind: str) -> dict[str, float]:
        """Return the mean of the last minute in the first column, by name."""
        return {
            name: sum(row[0] for row in rows) / len(rows)
            for name, one in self.groups[kind].series.items()
            if (rows := one.rows(self.slot, _LATELY))
        }

    def reached(self, most: int = 120) -> dict[str, float]:
        """Count how often each limit was reached in the last ``most`` slots."""
        found = {
            name: sum(row[0] for row in one.rows(self.slot, most)) * SLOT
            for name, one in self.groups["limit"].series.items()
        }
        return {name: count for name, count in found.items() if count >= 0.5}


def _lately(name: str, columns: tuple[str, ...], rows: list[list[float]]) -> Rates:
    names = columns[: columns.index("p50")]
    length = max(len(rows), 1)
    means = {column: sum(row[i] for row in rows) / length for i, column in enumerate(columns)}
    rate = sum(means[one] for one in names)
    busy = [(sum(row[: len(names)]), row) for row in rows]
    p50 = columns.index("p50")
    weight = sum(each for each, _row in busy)
    return {
        "name": name,
        "rate": round(rate, 3),
        "classes": {one: round(means[one], 3) for one in names},
        # Of each slot by its requests; of the slow ones the worst slot.
        "p50": round(sum(each * row[p50] for each, row in busy) / weight, 5) if weight else 0.0,
        "p99": max((row[p50 + 1] for _each, row in busy), default=0.0),
        "bytes_in": round(means.get("in", 0.0), 1),
        "bytes_out": round(means.get("out", 0.0), 1),
    }


class _Counted:
    """What one site did in a slot."""

    __slots__ = ("classes", "histogram", "moved")

    def __init__(self) -> None:
        self.classes = [0] * 5
        self.histogram = [0] * (len(BUCKETS) + 1)
        self.moved = [0, 0]

    @property
    def requests(self) -> int:
        return sum(self.classes)

    def minus(self, other: _Counted) -> _Counted:
        made = _Counted()
        made.classes = minus(self.classes, other.classes)
        made.histogram = minus(self.histogram, other.histogram)
        made.moved = minus(self.moved, other.moved)
        return made

    def row(self, seconds: float) -> list[float]:
        return [
            *(count / seconds for count in self.classes),
            quantile(self.histogram, 0.5),
            quantile(self.histogram, 0.99),
            *(count / seconds for count in self.moved),
        ]


def minus(now: Sequence[int], before: Sequence[int] | None) -> list[int]:
    """Subtract counts, never below zero: what counts less than before has begun anew."""
    if before is None:
        return list(now)
    return [max(0, a - b) for a, b in zip(now, before, strict=True)]


def _whole(figures: Figures) -> _Counted:
    """Add up what all sites have done since the start."""
    made = _Counted()
    if figures["seconds"]:
        columns = zip(*figures["seconds"].values(), strict=True)
        made.histogram = [sum(column) for column in columns]
        made.moved = [sum(column) for column in zip(*figures["bytes"].values(), strict=True)]
    for key, count in figures["requests"].items():
        made.classes[_host_and_class(key)[1]] += count
    return made


@functools.lru_cache(maxsize=65536)  # the same keys, every five seconds
def _host_and_class(key: str) -> tuple[str, int]:
    """Return the host of a key of ``requests``, and the place of its class of status."""
    host, _method, status, _handler = labels(key)
    return host, min(max(int(status) // 100, 1), 5) - 1


def _backend_rows(
    last: Figures, now: Figures, seconds: float
) -> dict[str, tuple[float, list[float]]]:
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for key, count in now["upstreams"].items():
        more = count - last["upstreams"].get(key, 0)
        if more > 0:
            backend, outcome = labels(key)
            counts[backend][{"ok": 0, "error": 1}.get(outcome, 2)] += more
    found = {}
    for backend, three in counts.items():
        after = now["upstream_seconds"].get(backend, [])
        before = last["upstream_seconds"].get(backend)
        histogram = minus(after, before)
        quantiles = [quantile(histogram, 0.5), quantile(histogram, 0.99)]
        found[backend] = (float(sum(three)), [*(one / seconds for one in three), *quantiles])
    return found


def _rates(
    last: Mapping[str, int], now: Mapping[str, int], seconds: float
) -> dict[str, tuple[float, list[float]]]:
    changed = {key: count - last.get(key, 0) for key, count in now.items()}
    return {key: (float(more), [more / seconds]) for key, more in changed.items() if more > 0}
