"""What an operator should look at now, in words, with the next step: for the admin page and `top`.

Alerts tell of what is wrong with certificates, to people who are elsewhere (`incidents`); this is
for the person who is looking, and so it has everything: certificates by the same rules, backends
that fail, limits that were reached, a reload that was refused, alerts that nobody took, clocks that
differ. Pure; the time is a parameter, in Unix seconds.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field

from acme_client.late_dataclass import dataclass
from acme_client.status import CertificateStatus

from ..config.model import Alerts
from ..ipc.documents import Attention, Rates, UpstreamStatus
from . import incidents

# More than that nobody reads; how many there are more is told.
MOST = 50
# A backend is told of when that part of its requests fails, and when there are so many a second.
_MANY, _FEW = 0.1, 0.1

# What a limit means for whoever reads its name; the key is that of the configuration.
_LIMITS = {
    "descriptors": "raise the limit of open files (LimitNOFILE), or lower limits.connections",
    "rate_limit": "clients that were too fast got 429; see the access log for whose they are",
    "backend_capacity": "backends take too long, or max_connections and max_queued are too small",
    "tiny_chunks": "somebody sends bodies in needlessly small chunks; they got 400",
}


@dataclass(frozen=True, slots=True)
class Situation:
    """All that is looked at. ``reached``: how often each limit was reached in the last minutes;
    ``refused``: why the last reload was refused, and when; ``undelivered``: by channel what keeps
    alerts from being delivered, and how many wait."""

    certificates: Sequence[CertificateStatus] = ()
    wanted: Sequence[str] = ()
    certifier_silent: float = 0.0
    rules: Alerts | None = None
    upstreams: Sequence[UpstreamStatus] = ()
    rates: Sequence[Rates] = ()  # of backends
    reached: Mapping[str, float] = field(default_factory=dict)
    refused: tuple[float, str] | None = None
    undelivered: Sequence[tuple[str, str, int]] = ()


def look(situation: Situation, now: float) -> tuple[list[Attention], int]:
    """Return the most urgent `MOST` things to look at, and how many there are more."""
    found = [
        *_reload(situation.refused),
        *_certificates(situation, now),
        *_clock(situation.certificates),
        *_backends(situation.upstreams),
        *_failing(situation.rates, {one["url"] for one in situation.upstreams}),
        *_alerts(situation.undelivered),
        *_limits(situation.reached),
    ]
    ranked = heapq.nsmallest(
        MOST, range(len(found)), key=lambda number: (found[number]["level"] != "wrong", number)
    )
    return [found[number] for number in ranked], max(0, len(found) - MOST)


def _reload(refused: tuple[float, str] | None) -> Iterable[Attention]:
    if refused is not None:
        _at, why = refused
        yield {
            "level": "wrong",
            "about": "configuration",
            "text": f"the last reload was refused: {why}",
            "step": "mend the file (treehouse-proxy check tells all that is wrong with it), then"
            " treehouse-proxy reload; until then the configuration before it is in force",
            "page": "",
        }


def _certificates(situation: Situation, now: float) -> Iterable[Attention]:
    rules = situation.rules or Alerts()
    view = incidents.look(
        situation.certificates, situation.wanted, situation.certifier_silent, rules, now
    )
    runways = {one["name"]: one["not_after"] or "" for one in situation.certificates}
    # What ends first stands first, before what only fails.
    wrong = sorted(
        view.wrong.items(),
        key=lambda one: (one[0][0] != "runway_short", runways.get(one[0][1], "")),
    )
    for (kind, name), finding in wrong:
        yield {
            "level": "wrong" if kind != "renewal_failing" else "look",
            "about": name or "certifier",
            "text": finding.text,
            "step": finding.step,
            "page": f"certificate/{name}" if name else "",
        }


def _clock(certificates: Iterable[CertificateStatus]) -> Iterable[Attention]:
    """Yield one entry for all certificates: a clock that is wrong keeps every certificate from
    being ordered."""
    for one in certificates:
        last = one["history"][-1] if one["history"] else None
        if last is not None and last["outcome"] == "clock":
            yield {
                "level": "wrong",
                "about": "clock",
                "text": f"this machine's clock and the CA's differ: {last['error']}",
                "step": "see timedatectl; certificates are ordered again as soon as it is right",
                "page": f"certificate/{one['name']}",
            }
            return


def _backends(upstreams: Iterable[UpstreamStatus]) -> Iterable[Attention]:
    for one in upstreams:
        if one["healthy"] == "no":
            yield {
                "level": "wrong",
                "about": one["url"],
                "text": f"the backend {one['url']} fails: {one['last_error'] or 'no answer'}",
                "step": "see that it runs and listens there (treehouse-proxy doctor asks it);"
                " requests go to others, where there are any, and come back by themselves",
                "page": f"backend/{one['url']}",
            }


def _failing(rates: Iterable[Rates], known: set[str]) -> Iterable[Attention]:
    """Yield the backends that answer, and answer badly."""
    for one in rates:
        bad = one["rate"] - one["classes"].get("ok", 0.0)
        if one["name"] in known and one["rate"] >= _FEW and bad >= one["rate"] * _MANY:
            share = round(100 * bad / one["rate"])
            yield {
                "level": "look",
                "about": one["name"],
                "text": f"{share} % of the requests to {one['name']} failed in the last minute",
                "step": "see what it logs; the access log has each request with its reason",
                "page": f"backend/{one['name']}",
            }


def _alerts(undelivered: Iterable[tuple[str, str, int]]) -> Iterable[Attention]:
    for way, why, waiting in undelivered:
        yield {
            "level": "wrong",
            "about": f"alerts by {way}",
            "text": f"{waiting} alerts could not be delivered by {way}: {why}",
            "step": f"see alerts.{way} in the configuration; they are sent again by themselves",
            "page": "",
        }


def _limits(reached: Mapping[str, float]) -> Iterable[Attention]:
    for limit, count in sorted(reached.items(), key=lambda item: -item[1]):
        if limit == "requests_per_connection":  # the ordinary run of things
            continue
        times = "once" if round(count) == 1 else f"{count:.0f} times"
        yield {
            "level": "look",
            "about": limit,
            "text": f"the limit {limit} was reached {times} in the last ten minutes",
            "step": _LIMITS.get(
                limit, f"see the log for whose it was; limits.{limit} of the configuration sets it"
            ),
            "page": "",
        }
