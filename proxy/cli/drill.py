"""``treehouse-proxy drill``: plays what may go wrong, with this configuration and a copy of this
state.

What is played is the certifier's own code (`acme_client.drill`), against CAs, a disk and a clock
that are not real: weeks pass within seconds. Nothing real is touched: the state directory is read
once, its certificates are copied into memory, and no network is asked. What would happen to a
backend's routes needs no time, and follows from the configuration alone.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Literal

from acme_client.certificates.repository import CertificateRepository
from acme_client.drill.life import Life
from acme_client.drill.memory_store import MemoryStore
from acme_client.drill.simulated_ca import DAY, HOUR, SimulatedCa, Span
from acme_client.errors import IssuanceError
from acme_client.issuers.interface import Issuer
from acme_client.issuers.internal import InternalCa, InternalIssuer
from acme_client.late_dataclass import dataclass
from acme_client.link import INTERNAL, CertificateSpec, Served
from acme_client.storage.directory import open_store
from acme_client.x509.verify import CertificateInfo, examine

from ..alerts import incidents
from ..alerts.incidents import Incidents, Notice
from ..certifier.settings import settings
from ..config.model import Alerts, Config, ProxyAction

Kind = Literal["outage", "clock", "disk", "revocation"]
# Where the CA has said nothing yet: what most of its certificates are valid for.
_LIFETIME = 90 * DAY
_LIFETIME_INTERNAL = 7 * DAY
# Where some certificate is not there yet: the trouble begins when it had time to come.
_BEFORE = 2 * DAY
# How often the certificates are looked at, of many seldomer; and how long after the trouble.
_LOOK_EVERY, _LOOK_SELDOM, _MANY = HOUR, 6 * HOUR, 100
_AFTER = 10 * DAY
_CLOCK_WRONG = 7 * DAY
# A certifier asks the CA when it starts, and then every few hours: an incident comes in between.
_ASKED_BEFORE = HOUR
# CAs have to revoke within so long (the Baseline Requirements, §4.9.1.1).
_REVOKED_WITHIN = DAY
_FOLDERS = ("certificates", "ledgers")


class CannotDrill(Exception):
    """Raised where there is nothing to play; the text says why, and what to do."""


class CannotRead(CannotDrill):
    """Raised where this user may not read the state directory."""


@dataclass(slots=True)
class Certificate:
    """What became of a certificate. Moments are Unix seconds. ``least``: the shortest runway, in
    seconds, that it had. ``lapsed``: when it ended without another in its place, and ``back`` when
    one came; ``late``: it was still the old one when the CA revoked it."""

    name: str
    source: str
    least: float = float("inf")
    lapsed: float | None = None
    back: float | None = None
    late: bool = False
    renewed: int = 0


@dataclass(slots=True)
class Outcome:
    """``began`` and ``ended``: of the trouble. ``notices``: alerts that would have gone out, with
    the moment; ``ways``: by which channels, none where nobody would have been told; ``due``: when
    the next certificate becomes due; ``skew``: by how many seconds a clock was ahead; ``missing``:
    how many certificates were not there yet, and were ordered before the trouble."""

    kind: str
    began: float
    ended: float
    certificates: dict[str, Certificate]
    notices: list[tuple[float, Notice]] = field(default_factory=list)
    ways: tuple[str, ...] = ()
    fallback: bool = False
    lifetimes: set[float] = field(default_factory=set)
    due: float | None = None
    skew: float = 0.0
    missing: int = 0

    @property
    def lapsed(self) -> list[Certificate]:
        found = [one for one in self.certificates.values() if one.lapsed is not None or one.late]
        return sorted(found, key=lambda one: (one.lapsed or self.began, one.name))


# Playing


def play(
    config: Config,
    kind: Kind,
    days: float,
    *,
    after: float = 0.0,
    now: float | None = None,
    passed: Callable[[int, int], None] = lambda _day, _days: None,
) -> Outcome:
    """Play a trouble that lasts ``days`` and begins ``after`` so many. A clock is wrong by
    ``days``, for a week. ``passed`` is told of each day that has been played, and of how many there
    are. Raises `CannotDrill`."""
    now = time.time() if now is None else now
    wanted = settings(config).wanted
    if not wanted:
        raise CannotDrill("no site here has a certificate from a CA; there is nothing to lapse")
    store = MemoryStore()
    kept = _copied(config.state, store, wanted)
    began = now + after * DAY
    if len(kept) < len(wanted):
        began = max(began, now + _BEFORE)
    if kind == "revocation":
        began = max(began, now + _ASKED_BEFORE)
    length = days * DAY if kind != "clock" else _CLOCK_WRONG
    trouble = (began, began + length)
    of_cas = {one.name for one in wanted if one.authority.directory != INTERNAL}
    certified = {name: facts for name, facts in kept.items() if name in of_cas}
    ca, others = _cas(config, kind, trouble, certified, now, lambda: life.clock())
    skews = [(*trouble, days * DAY)] if kind == "clock" else []

    def make_store(_clock: object, _crash: object) -> MemoryStore:
        store.full = lambda: kind == "disk" and trouble[0] <= ca.now < trouble[1]
        return store

    logging.disable()  # of weeks of troubles nobody reads the log
    try:
        rng = random.Random(1)  # noqa: S311 - the same story each time it is told
        life = Life(ca, list(wanted), make_store, rng, skews=skews, others=others)
        outcome = Outcome(
            kind,
            *trouble,
            {one.name: Certificate(one.name, _source(one)) for one in wanted},
            ways=config.alerts.ways if config.alerts is not None else (),
            fallback=any(one.fallback for one in wanted),
            lifetimes={facts.not_after - facts.not_before for facts in kept.values()},
            due=_due(store, kept, began),
            skew=days * DAY if kind == "clock" else 0.0,
            missing=len(wanted) - len(kept),
        )
        _watch(life, outcome, config, kept, passed)
    finally:
        logging.disable(logging.NOTSET)
    return outcome


def _source(spec: CertificateSpec) -> str:
    return "internal" if spec.authority.directory == INTERNAL else spec.authority.directory


def _copied(
    state: Path, store: MemoryStore, wanted: Sequence[CertificateSpec]
) -> dict[str, CertificateInfo]:
    """Copy what is kept of the wanted certificates, and the counts of the CAs' limits. Returns what
    the certificates say, by name. Raises `CannotDrill`."""
    real = open_store(state)
    facts: dict[str, CertificateInfo] = {}
    names = {one.name for one in wanted}
    try:
        for top in _FOLDERS:
            for folder in real.list(top):
                files = real.load(f"{top}/{folder}")
                if files and not folder.startswith("."):
                    store.store(f"{top}/{folder}", files)
        repository = CertificateRepository(store)
        for name in repository.names():
            _record, pair = repository.load(name)
            if name not in names or pair is None:
                continue
            try:
                facts[name] = examine(pair)
            except IssuanceError:
                continue  # it would not be served
    except FileNotFoundError:
        return {}  # nothing yet: then the drill begins with the first orders
    except OSError as error:
        raise CannotRead(
            f"{error.filename or state}: {error.strerror}; ask as root or as the server's user"
        ) from None
    return facts


def _due(store: MemoryStore, kept: dict[str, CertificateInfo], began: float) -> float | None:
    """Return when the next certificate becomes due, of those that are not when the trouble
    begins."""
    repository = CertificateRepository(store)
    moments = [repository.load(name)[0].renew_at for name in kept]
    return min((one for one in moments if one is not None and one > began), default=None)


def _cas(
    config: Config,
    kind: Kind,
    trouble: Span,
    kept: dict[str, CertificateInfo],
    now: float,
    clock: Callable[[], float],
) -> tuple[SimulatedCa, dict[str, Issuer]]:
    """Make the CA that all sites are certified by, and the others by their directories. Only the
    first one is ever away: a fallback is there for that. The built-in CA has our own ``clock``, and
    none of its certificates is among the ``kept``, by which the CA's own lifetimes are known."""
    rng = random.Random(1)  # noqa: S311 - the same story each time it is told
    lifetimes = {
        frozenset(facts.names): facts.not_after - facts.not_before for facts in kept.values()
    }
    usual = sorted(lifetimes.values())[len(lifetimes) // 2] if lifetimes else _LIFETIME
    outages = [trouble] if kind == "outage" else []
    if kind == "revocation" and trouble[1] > trouble[0]:
        # A CA with an incident is a busy one.
        outages = [(trouble[0] + HOUR, trouble[1] + HOUR)]
    ca = SimulatedCa(
        usual,
        rng,
        outages=outages,
        incidents=[trouble[0]] if kind == "revocation" else [],
        now=now,
        known=set(lifetimes),
        lifetimes=lifetimes,
    )
    others: dict[str, Issuer] = {
        one.directory: SimulatedCa(_LIFETIME, rng, now=now)
        for one in config.acme.fallback
        if one.directory != config.acme.directory
    }
    others[INTERNAL] = InternalIssuer(InternalCa(MemoryStore(), _LIFETIME_INTERNAL, clock))
    return ca, others


def _watch(
    life: Life,
    outcome: Outcome,
    config: Config,
    kept: Mapping[str, CertificateInfo],
    passed: Callable[[int, int], None],
) -> None:
    """Let time pass, and look every hour."""
    ca, visitors = life.ca, life.visitors
    rules, remembered = config.alerts or Alerts(), Incidents()
    names = [site.names[0] for site in config.sites if not site.certificates]
    begun, end = ca.now, outcome.ended + _AFTER
    days = round((end - begun) / DAY)
    every = _LOOK_EVERY if len(outcome.certificates) <= _MANY else _LOOK_SELDOM
    serials = {name: facts.serial for name, facts in kept.items()}
    at_incident = dict(serials)
    while ca.now < end:
        life.run(min(ca.now + every, end))
        now = ca.now
        for name, managed in life.certificates.items():
            one = outcome.certificates.get(name)
            if one is None:
                continue
            _note(one, visitors.latest.get(name), now, outcome)
            serial = managed.serial
            if serial and serials.get(name, serial) != serial:
                one.renewed += 1
            serials[name] = serial
            if outcome.kind == "revocation" and one.source != "internal":
                if now <= outcome.began:
                    at_incident[name] = serial
                elif now >= outcome.began + _REVOKED_WITHIN and serial == at_incident.get(name):
                    one.late = True
        statuses = [one.status() for one in life.certificates.values()]
        view = incidents.look(statuses, names, 0.0, rules, life.clock())
        outcome.notices += [
            (now, notice) for notice in remembered.follow(view, rules.repeat, life.clock())
        ]
        passed(int((now - begun) / DAY) if now < end else days, days)


def _note(one: Certificate, served: Served | None, now: float, outcome: Outcome) -> None:
    if served is None:
        return  # it never had one, and so loses none
    until = served.not_after
    if served.not_before > now + DAY:  # made by a clock that runs ahead: nobody takes it
        until = now
    left = until - now
    if now >= outcome.began:
        one.least = min(one.least, max(left, 0.0))
    if left <= 0 and one.lapsed is None:
        one.lapsed = until
    elif left > 0 and one.lapsed is not None and one.back is None:
        one.back = now


# Backends


@dataclass(frozen=True, slots=True)
class Route:
    """What a route does without one of its backends. ``others``: those that are left."""

    site: str
    path: str
    others: int
    waits: float
    checked: bool


def without_backend(config: Config, url: str) -> list[Route]:
    """Return the routes that lead to a backend. A scheme that is left out, and a slash at the end,
    make no difference. Raises `CannotDrill` where none does."""
    found = []
    meant = {url, url.rstrip("/"), f"http://{url.rstrip('/')}"}
    known = set()
    for site in config.sites:
        for route in site.routes:
            action = route.action
            if not isinstance(action, ProxyAction):
                continue
            urls = [one.url for one in action.backends if not one.drain]
            known |= set(urls)
            if not meant.isdisjoint(urls):
                others = len(urls) - 1
                checked = action.health is not None
                found.append(
                    Route(site.names[0], route.path, others, action.wait_for_backend, checked)
                )
    if not found:
        there = ", ".join(sorted(known)[:10]) or "none"
        raise CannotDrill(f"no route leads to {url}; there are: {there}")
    return found
