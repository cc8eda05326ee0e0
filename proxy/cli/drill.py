"""``treehouse-proxy drill``: plays what may go wrong, with this configuration and a copy of this
state.

What is played is the certifier's own code (`acme_client.drill`), against CAs, a disk and a clock
that are not real: weeks pass within seconds. Nothing real is touched: the state directory is read
once, its certificates are copied into memory, and no network is asked. What would happen to a
backend's routes needs no time, and follows from the configuration alone.
"""

from __future__ import annotations

import logging
import math
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from acme_client.certificates.repository import CertificateRepository
from acme_client.drill.life import Life
from acme_client.drill.memory_store import MemoryStore
from acme_client.drill.simulated_ca import DAY, HOUR, SimulatedCa, Span
from acme_client.errors import IssuanceError
from acme_client.issuers.interface import Issuer
from acme_client.issuers.internal import InternalCa, InternalIssuer
from acme_client.link import INTERNAL, CertificateSpec, Served
from acme_client.storage.directory import open_store
from acme_client.x509.verify import CertificateInfo, examine

from ..alerts import incidents
from ..alerts.incidents import Incidents, Notice
from ..certifier.settings import settings
from ..config.model import Alerts, Config, ProxyAction
from ..config.syntax.units import spell_duration

Kind = Literal["outage", "clock", "disk", "revocation"]
# Where the CA has said nothing yet: what most of its certificates are valid for.
_LIFETIME = 90 * DAY
_LIFETIME_INTERNAL = 7 * DAY
# Where some certificate is not there yet: the trouble begins when it had time to come.
_BEFORE = 2 * DAY
# How often the certificates are looked at, of many seldomer; and how long after the trouble.
_LOOK_EVERY, _LOOK_SELDOM, _MANY = HOUR, 6 * HOUR, 100
_AFTER = 10 * DAY
# CAs have to revoke within so long (the Baseline Requirements, §4.9.1.1).
_REVOKED_WITHIN = DAY
_FOLDERS = ("certificates", "ledgers")


class CannotDrill(Exception):
    """Why there is nothing to play; the text says what to do."""


@dataclass(slots=True)
class Certificate:
    """What became of one. Moments are Unix seconds. ``least``: the shortest runway, in seconds,
    that it had. ``lapsed``: when it ended without another in its place, and ``back`` when one came;
    ``late``: it was still the old one when the CA revoked it."""

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
    the next certificate becomes due."""

    kind: str
    began: float
    ended: float
    certificates: dict[str, Certificate]
    notices: list[tuple[float, Notice]] = field(default_factory=list)
    ways: tuple[str, ...] = ()
    fallback: bool = False
    lifetimes: set[float] = field(default_factory=set)
    due: float | None = None

    @property
    def lapsed(self) -> list[Certificate]:
        found = [one for one in self.certificates.values() if one.lapsed is not None or one.late]
        return sorted(found, key=lambda one: (one.lapsed or self.began, one.name))


# Playing


def play(
    config: Config, kind: Kind, days: float, *, after: float = 0.0, now: float | None = None
) -> Outcome:
    """Play a trouble that lasts ``days``; of a clock, by so many days it is wrong. It begins
    ``after`` so many days. Raises `CannotDrill`."""
    now = time.time() if now is None else now
    wanted = settings(config).wanted
    if not wanted:
        raise CannotDrill("no site here has a certificate from a CA; there is nothing to lapse")
    store = MemoryStore()
    kept = _copied(config.state, store, wanted)
    began = now + after * DAY
    if len(kept) < len(wanted):
        began = max(began, now + _BEFORE)
    length = abs(days) * DAY if kind != "clock" else 7 * DAY
    trouble = (began, began + length)
    ca, others = _cas(config, kind, trouble, kept, now, lambda: life.clock())
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
        )
        _watch(life, outcome, config, kept)
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
        raise CannotDrill(
            f"{error.filename or state}: {error.strerror}; ask as root or as the server's user"
        ) from None
    return facts


def _due(store: MemoryStore, kept: dict[str, CertificateInfo], began: float) -> float | None:
    """When the next certificate becomes due that is not yet when the trouble begins."""
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
    """The CA that all sites are certified by, and the others by their directories. Only the first
    one is ever away: a fallback is there for that. The built-in CA has our own ``clock``."""
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
    life: Life, outcome: Outcome, config: Config, kept: Mapping[str, CertificateInfo]
) -> None:
    """Let time pass, and look every hour."""
    ca, visitors = life.ca, life.visitors
    rules, remembered = config.alerts or Alerts(), Incidents()
    names = [site.names[0] for site in config.sites if not site.certificates]
    end = outcome.ended + _AFTER
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
            serial = managed.facts.serial if managed.facts else ""
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


# Telling


def lines(outcome: Outcome) -> Iterator[str]:
    """The outcome for people."""
    length = _length(outcome.ended - outcome.began)
    yield f"played: {_TOLD[outcome.kind].format(length=length)}, from {_day(outcome, 0)} on"
    yield f"certificates: {len(outcome.certificates)}"
    if outcome.due is not None:
        days = math.floor((outcome.due - outcome.began) / DAY)
        yield f"the next one becomes due {days} days later: --after {days} plays that moment"
    yield ""
    lapsed = outcome.lapsed
    for one in lapsed:
        if one.late:
            yield f"{one.name}: revoked before another one was there"
        if one.lapsed is not None:
            back = (
                f", back after {_length(one.back - one.lapsed)}"
                if one.back is not None
                else ", and none had come by the end"
            )
            yield f"{one.name}: lapses {_day(outcome, one.lapsed - outcome.began)}{back}"
    if not lapsed:
        yield "no certificate lapses"
        least = min(outcome.certificates.values(), key=lambda one: one.least)
        if least.least < float("inf"):
            yield f"the least that was left: {_length(least.least)} ({least.name})"
    yield ""
    yield from _alerts(outcome)
    yield ""
    for number, advice in enumerate(_advice(outcome)):
        yield f"{'to change' if not number else '         '}  {advice}"


_TOLD = {
    "outage": "the CA does not answer for {length}",
    "clock": "this machine's clock is wrong for {length}",
    "disk": "the disk takes no writes for {length}",
    "revocation": "the CA has to revoke all certificates, and hardly answers for {length}",
}


def _day(outcome: Outcome, after: float) -> str:
    moment = time.strftime("%Y-%m-%d %H:%M", time.gmtime(outcome.began + after))
    return moment if not after else f"{moment} UTC ({_length(after)} after it began)"


def _length(seconds: float) -> str:
    for unit, name in ((DAY, "days"), (HOUR, "hours"), (60.0, "minutes")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds:.0f} seconds"


def _alerts(outcome: Outcome) -> Iterator[str]:
    alerts = [(at, one) for at, one in outcome.notices if one.event == "alert"]
    if not alerts:
        yield "alerts: none would have gone out"
        return
    sent = f"by {' and '.join(outcome.ways)}" if outcome.ways else "to nobody: none are configured"
    yield f"alerts: {len(alerts)} would have gone out, {sent}"
    for at, one in alerts[:10]:
        yield f"  {_day(outcome, max(at - outcome.began, 1.0))}: {one.text}"
    if len(alerts) > 10:
        yield f"  and {len(alerts) - 10} more"
    if outcome.lapsed and outcome.lapsed[0].lapsed is not None:
        ahead = outcome.lapsed[0].lapsed - alerts[0][0]
        if ahead > 0:
            yield f"the first of them comes {_length(ahead)} before the first lapse"


def _advice(outcome: Outcome) -> Iterator[str]:
    lapsed = outcome.lapsed
    if not outcome.ways:
        yield "alerts: {webhook: …} or {email: …}, so that somebody is told"
    if not lapsed:
        yield "nothing else: what there is bears this"
        return
    if outcome.kind in ("outage", "revocation") and not outcome.fallback:
        yield "acme.fallback: [{directory: …}], another CA that is asked when this one fails"
    elif outcome.kind in ("outage", "revocation"):
        yield "acme.fallback: a further CA, or one whose limits have more room"
    if outcome.kind == "outage" and any(one < 20 * DAY for one in outcome.lifetimes):
        yield "acme.profile: certificates that are valid for longer bear longer outages"
    if outcome.kind == "clock":
        yield "the clock: timedatectl set-ntp true, or chrony; treehouse-proxy doctor looks at it"
    if outcome.kind == "disk":
        yield "the disk: watch its free space, and do not restart a server whose disk is full"


def document(outcome: Outcome) -> dict[str, object]:
    """The outcome for programs."""
    return {
        "kind": outcome.kind,
        "began": _rfc3339(outcome.began),
        "ended": _rfc3339(outcome.ended),
        "certificates": [
            {
                "name": one.name,
                "lapsed": _rfc3339(one.lapsed),
                "back": _rfc3339(one.back),
                "revoked": one.late,
                "least_runway_seconds": None if one.least == float("inf") else round(one.least),
                "renewed": one.renewed,
            }
            for one in outcome.certificates.values()
        ],
        "alerts": [
            {"at": _rfc3339(at), "event": one.event, "kind": one.kind, "name": one.name,
             "text": one.text}
            for at, one in outcome.notices
        ],
        "alerts_by": list(outcome.ways),
        "advice": list(_advice(outcome)),
    }  # fmt: skip


def _rfc3339(unix: float | None) -> str | None:
    return None if unix is None else time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(unix))


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
    """The routes that lead to a backend. Raises `CannotDrill` where none does."""
    found = []
    known = set()
    for site in config.sites:
        for route in site.routes:
            action = route.action
            if not isinstance(action, ProxyAction):
                continue
            urls = [one.url for one in action.backends if not one.drain]
            known |= set(urls)
            if url in urls:
                others = len(urls) - 1
                checked = action.health is not None
                found.append(
                    Route(site.names[0], route.path, others, action.wait_for_backend, checked)
                )
    if not found:
        there = ", ".join(sorted(known)[:10]) or "none"
        raise CannotDrill(f"no route leads to {url}; there are: {there}")
    return found


def backend_lines(url: str, routes: Sequence[Route]) -> Iterator[str]:
    yield f"played: {url} takes no connections"
    yield ""
    for one in routes:
        where = f"{one.site}{one.path}"
        if one.others:
            how = f"goes on with {one.others} other{'s' if one.others > 1 else ''}"
            how += ", which a check finds out" if one.checked else ", after requests have failed"
        elif one.waits:
            how = f"holds requests for {spell_duration(one.waits)}, then answers 502"
        else:
            how = "answers 502"
        yield f"{where}: {how}"
    yield ""
    yield "alerts: none, they are about certificates; watch treehouse_upstream_healthy"
    advice = []
    if any(not one.others for one in routes):
        advice.append("backend: [URL, URL], a second one for those that have one only")
        if any(not one.others and not one.waits for one in routes):
            advice.append("wait_for_backend: 10s, for an app that restarts")
    if any(one.others and not one.checked for one in routes):
        advice.append("health: {path: /healthz}, so that no request has to find out")
    for number, line in enumerate(advice or ["nothing: what there is bears this"]):
        yield f"{'to change' if not number else '         '}  {line}"
