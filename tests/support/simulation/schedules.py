"""What may go wrong in the years of a simulation, and when: as much as the promise can bear.

The promise: a certificate does not lapse if the CA can be had again in the time that was left when
it became due. So what goes wrong comes in *troubles*, stretches in which nothing can be ordered for
one reason or several (the CA is away, our clock is wrong, a name does not validate), none longer
than `most`, and between two of them there is `calm`: a day, which is the longest pause, and the time
for all orders.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from hypothesis import strategies as st

from acme_client.certificates.retry import PAUSES, SHORTEST_BY_RUNWAY
from acme_client.drill.life import LOOK_EVERY, ORDER_TAKES, RESTART_TAKES, STEPS
from acme_client.drill.simulated_ca import (
    DAY,
    DIRECTORY,
    HOUR,
    START,
    WINDOW_PART,
    Span,
    left_at_renewal,
)
from acme_client.link import ATTEMPTS_AT_ONCE, Authority, CertificateSpec

# By which a clock may be wrong; within a day behind and three ahead orders are made all the same.
WRONG_BY = (HOUR, 20 * HOUR, 2 * DAY, 30 * DAY, 365 * DAY, 4000 * DAY)


def catching_up(count: int) -> float:
    """Until all of them are renewed once the CA is there again: the shortest pause, and the line."""
    return (
        SHORTEST_BY_RUNWAY
        + LOOK_EVERY
        + RESTART_TAKES
        + (count + 2 * ATTEMPTS_AT_ONCE) * ORDER_TAKES / ATTEMPTS_AT_ONCE
    )


def calm(count: int) -> float:
    return PAUSES[-1] + 2 * catching_up(count)


def most(lifetime: float, count: int, *, information: bool) -> float:
    """The longest trouble that no certificate may lapse in. By the lifetime alone: the whole of the
    third, or half, because what is renewed earlier than that is enough for catching up. By the CA's
    window: what is left when that ends, less the time for catching up."""
    if not information:
        return left_at_renewal(lifetime)
    return left_at_renewal(lifetime) - lifetime * WINDOW_PART - catching_up(count)


@dataclass
class Schedule:
    outages: list[Span] = field(default_factory=list)
    skews: list[tuple[float, float, float]] = field(default_factory=list)
    incidents: list[float] = field(default_factory=list)
    restarts: list[float] = field(default_factory=list)
    broken: dict[str, Span] = field(default_factory=dict)
    troubles: list[Span] = field(default_factory=list)

    def add(self, start: float, length: float, kind: str, by: float, split: float) -> None:
        """A trouble; ``split``: where the wrong clock comes into it."""
        end, middle = start + length, start + length * split
        self.troubles.append((start, end))
        if kind == "clock":
            self.skews.append((start, end, by))
            return
        if kind == "clock, then away":
            self.skews.append((start, middle, by))
            self.outages.append((middle, end))
            return
        self.outages.append((start, middle if kind == "away, then clock" else end))
        if kind == "away, then clock":
            self.skews.append((middle, end, by))
        elif kind == "both":
            self.skews.append((start + length * split / 2, middle, by))

    def disturb(self, name: str, start: float, length: float, most: float, calm: float) -> None:
        """Have a name's validation fail as well, but not for longer than is borne in all."""
        end = start + min(length, most)
        for begun, over in self.troubles:
            if begun - calm < start < over + calm:  # part of this one
                start, end = max(start, begun), min(end, begun + most)
        for begun, _over in self.troubles:
            if start < begun:
                end = min(end, begun - calm)
        if end > start:
            self.broken[name] = (start, end)


KINDS = ("away", "clock", "both", "away, then clock", "clock, then away")


def random_schedule(
    rng: random.Random,
    lifetime: float,
    end: float,
    sets: list[tuple[str, ...]],
    *,
    information: bool,
    wrong_clocks: bool = True,
) -> Schedule:
    schedule = Schedule()
    longest, pause = most(lifetime, len(sets), information=information), calm(len(sets))
    at = START + pause + rng.uniform(0.1, 1) * lifetime
    while at < end - longest - pause:
        kind = rng.choices(KINDS, (6, 1, 1, 1, 1))[0] if wrong_clocks else "away"
        length = longest * rng.choice((1.0, rng.uniform(0.1, 1)))
        by = rng.choice((-1, 1)) * rng.choice(WRONG_BY)
        schedule.add(at, length, kind, by, rng.uniform(0.05, 0.95))
        at += length + pause + rng.choice((0.0, 1.0, 1.0)) * rng.uniform(1.0, 5.0) * lifetime
    for names in rng.sample(sets, -(-len(sets) // 10)):
        start = START + rng.uniform(0.3, 1.0) * (end - START)
        length = rng.choice((1.0, rng.uniform(0.05, 1.0))) * longest
        schedule.disturb(names[0], start, length, longest, pause)
    schedule.incidents = sorted(START + rng.uniform(0.2, 1.0) * (end - START) for _ in range(2))
    return schedule


def sites(count: int) -> list[tuple[str, ...]]:
    """Names as people have them: some alone, some with their www, many of one domain (more than a
    CA certifies in a week), and names of two domains together."""
    return [*_sites(count)]


def _sites(count: int) -> Iterator[tuple[str, ...]]:
    for n in range(count):
        match n % 5:
            case 0:
                yield (f"d{n}.net", f"www.d{n}.net")
            case 1 | 2:
                yield (f"www{n}.d{n % max(1, count // 15)}.org", f"{n}.d{n}.net")
            case 3:
                yield (f"{n}.tenants.example",)
            case _:
                yield (f"{n}.d{n // 50}.com", f"api.{n}.d{n // 50}.com", f"cdn.{n}.d{n // 50}.com")


class Loaded(random.Random):
    """Dice that fall as they are told, again and again; at the ends of a range most of all."""

    def __new__(cls, *_: object) -> Loaded:
        return super().__new__(cls)

    def __init__(self, fractions: list[float]) -> None:
        super().__init__(0)
        self._fractions = itertools.cycle(fractions or [0.5])

    def uniform(self, a: float, b: float) -> float:
        return a + (b - a) * next(self._fractions)


BY = Authority(DIRECTORY)
# Few certificates, and what makes them more than the sum: names, domains and sites in common.
FEW: tuple[tuple[CertificateSpec, ...], ...] = (
    (CertificateSpec(("example.org", "www.example.org"), BY),),
    (CertificateSpec(("a.example.org",), BY), CertificateSpec(("b.example.org",), BY)),
    (
        CertificateSpec(("example.org",), BY),
        CertificateSpec(("example.org",), BY, "rsa-2048", mark="rsa"),
    ),
    (CertificateSpec(("example.org", "x.org"), BY), CertificateSpec(("x.org", "example.org"), BY)),
    tuple(CertificateSpec((f"www.d{n}.org",), BY) for n in range(5)),
)

_fraction = st.one_of(st.sampled_from([0.0, 0.5, 1.0]), st.floats(0, 1))


@dataclass(frozen=True)
class Drawn:
    """All of a short life, in figures that can be made smaller: parts of what is allowed."""

    days: float
    information: bool
    wanted: tuple[CertificateSpec, ...]
    # Of each trouble: how long after the one before, how long, of what kind, wrong by, split.
    troubles: list[tuple[float, float, str, float, float]]
    broken: list[tuple[int, float, float]]
    incidents: list[float]
    restarts: list[float]
    fates: list[int]
    rng: list[float]

    @property
    def lifetime(self) -> float:
        return self.days * DAY

    @property
    def end(self) -> float:
        return START + 3 * self.lifetime

    def fate(self) -> Callable[[float], int]:
        """Return what tells, at the beginning of each attempt, at which of its steps the process is
        killed."""
        fates = itertools.chain(self.fates, itertools.repeat(0))
        return lambda _now: next(fates)

    def schedule(self) -> Schedule:
        schedule = Schedule()
        count, lifetime = len(self.wanted), self.lifetime
        longest, pause = most(lifetime, count, information=self.information), calm(count)
        at = START + pause
        for gap, part, kind, by, split in self.troubles:
            at += gap * lifetime
            length = max(part * longest, HOUR)
            if at + length + pause > self.end:
                break
            schedule.add(at, length, kind, by, split)
            at += length + pause
        for number, start, part in self.broken:
            name = self.wanted[number % count].names[0]
            start = START + pause + start * (self.end - START - 2 * pause)
            schedule.disturb(name, start, part * longest, longest, pause)
        schedule.incidents = sorted(self._moments(self.incidents))
        schedule.restarts = self._moments(self.restarts)
        return schedule

    def _moments(self, parts: list[float]) -> list[float]:
        return [START + part * (self.end - START) for part in parts]


drawn = st.builds(
    Drawn,
    days=st.sampled_from([90, 47, 45, 10, 9, 160 / 24, 6]),
    information=st.booleans(),
    wanted=st.sampled_from(FEW),
    troubles=st.lists(
        st.tuples(
            _fraction,
            _fraction,
            st.sampled_from(KINDS),
            st.sampled_from([way * by for by in WRONG_BY for way in (-1, 1)]),
            st.floats(0.01, 0.99),
        ),
        max_size=4,
    ),
    broken=st.lists(st.tuples(st.integers(0, 4), _fraction, _fraction), max_size=2),
    incidents=st.lists(_fraction, max_size=2),
    restarts=st.lists(_fraction, max_size=3),
    fates=st.lists(st.integers(0, STEPS), max_size=12),
    rng=st.lists(_fraction, max_size=8),
)
