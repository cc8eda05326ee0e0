"""What an operator should look at now, in words, with the next step: for the admin page and `top`.

Alerts tell of what is wrong with certificates, to people who are elsewhere (`incidents`); this is
for the person who is looking, and so it has everything: certificates by the same rules, backends
that fail, limits that were reached, a reload that was refused, alerts that nobody took, clocks that
differ, processes that crash, a collector of traces that takes none. Pure; the time is a parameter,
in Unix seconds.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field

from acme_client.late_dataclass import dataclass
from acme_client.status import CertificateStatus, ClusterStatus, cluster_fault

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
    alerts from being delivered, and how many wait; ``crashed``: the processes that crashed in the
    last minutes, each with how it ended; ``spans_lost``: how many spans of traces were lost in the
    last minutes; ``cluster``: how this machine stands in its cluster."""

    certificates: Sequence[CertificateStatus] = ()
    wanted: Sequence[str] = ()
    certifier_silent: float = 0.0
    rules: Alerts | None = None
    upstreams: Sequence[UpstreamStatus] = ()
    rates: Sequence[Rates] = ()  # of backends
    reached: Mapping[str, float] = field(default_factory=dict)
    refused: tuple[float, str] | None = None
    undelivered: Sequence[tuple[str, str, int]] = ()
    crashed: Sequence[tuple[str, str]] = ()
    spans_lost: int = 0
    cluster: ClusterStatus | None = None


def look(situation: Situation, now: float) -> tuple[list[Attention], int]:
    """Return the most urgent `MOST` things to look at, and how many there are more."""
    found = [
        *_reload(situation.refused),
        *_certificates(situation, now),
        *_clock(situation.certificates),
        *_crashes(situation.crashed),
        *_backends(situation.upstreams),
        *_failing(situation.rates, {one["url"]: one for one in situation.upstreams}),
        *_alerts(situation.undelivered),
        *_limits(situation.reached),
        *_traces(situation.spans_lost),
        *_cluster(situation.cluster),
    ]
    ranked = heapq.nsmallest(
        MOST, range(len(found)), key=lambda number: (found[number]["level"] != "wrong", number)
    )
    return [found[number] for number in ranked], max(0, len(found) - MOST)


def _cluster(status: ClusterStatus | None) -> Iterable[Attention]:
    if status is None:
        return
    step = "treehouse-proxy cluster check"
    if fault := cluster_fault(status):
        yield {
            "level": "look",
            "about": f"cluster {status['name']}",
            "text": fault,
            "step": step,
            "page": "",
        }
    elif not status["ordering"] and not status["orders"]:
        yield {
            "level": "look",
            "about": f"cluster {status['name']}",
            "text": "no machine orders certificates",
            "step": "start a machine that has cluster without order: false",
            "page": "",
        }
    if status["revision_behind"]:
        yield {
            "level": "look",
            "about": f"cluster {status['name']}",
            "text": f"etcd's last {status['revision_behind']} changes have not been heard of",
            "step": step,
            "page": "",
        }
    for name, why in sorted(status["refused"].items())[:MOST]:
        yield {
            "level": "look",
            "about": name,
            "text": f"what the cluster has is not taken, what is here stays: {why}",
            "step": step,
            "page": f"certificate/{name}",
        }


def _reload(refused: tuple[float, str] | None) -> Iterable[Attention]:
    if refused is not None:
        _at, why = refused
        of_the_file = "see the log" not in why
        mend = (
            "mend the file (treehouse-proxy check tells all that is wrong with it)"
            if of_the_file
            else "see in the log what kept them from it"
        )
        yield {
            "level": "wrong",
            "about": "configuration",
            "text": f"the last reload was refused: {why}",
            "step": f"{mend}, then"
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
    served = {one["name"] for one in situation.certificates if one["served"]}
    told = set()
    for (kind, name), finding in wrong:
        if kind != "contested":
            told.add(name)
        only_fails = kind == "contested" or (kind == "renewal_failing" and name in served)
        without = kind == "renewal_failing" and not only_fails
        yield {
            "level": "look" if only_fails else "wrong",
            "about": name or "certifier",
            "text": f"{finding.text}{_UNSERVED if without else ''}",
            "step": finding.step,
            "page": f"certificate/{name}" if name else "",
        }
    for one in situation.certificates:
        if one["contested"] and ("contested", one["name"]) not in view.wrong:
            yield {
                "level": "look",
                "about": one["name"],
                "text": one["contested"],
                "step": f"treehouse-proxy why {one['name']}; treehouse-proxy status --cluster",
                "page": f"certificate/{one['name']}",
            }
    # No alert goes out for a first failure; the page tells at once that a site is not served.
    for one in situation.certificates:
        name = one["name"]
        if one["last_error"] and not (one["served"] or one["on_demand_for"] or name in told):
            yield {
                "level": "wrong",
                "about": name,
                "text": f"{name}: {one['last_error']}{_UNSERVED}",
                "step": incidents.advice(one),
                "page": f"certificate/{name}",
            }


_UNSERVED = "; visitors cannot connect, for there is no certificate"


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


def _failing(rates: Iterable[Rates], known: Mapping[str, UpstreamStatus]) -> Iterable[Attention]:
    """Yield the backends that answer badly, without those that fail altogether: `_backends` tells
    of these."""
    for one in rates:
        backend = known.get(one["name"])
        if backend is None or backend["healthy"] == "no":
            continue
        rate, classes = one["rate"], one["classes"]
        answered, silent = classes.get("error", 0.0), classes.get("failed", 0.0)
        if rate >= _FEW and answered + silent >= rate * _MANY:
            ways = [(answered, "an answer of 500 or more"), (silent, "no answer")]
            shares = [f"{round(100 * bad / rate)} % with {way}" for bad, way in ways if bad]
            last = backend["last_error"] if silent else None
            yield {
                "level": "look",
                "about": one["name"],
                "text": f"requests to {one['name']} failed in the last minute: "
                f"{' and '.join(shares)}{f' ({last})' if last else ''}",
                "step": "see what it logs; the access log has each request with its reason",
                "page": f"backend/{one['name']}",
            }


def _crashes(crashed: Sequence[tuple[str, str]]) -> Iterable[Attention]:
    for title in dict.fromkeys(title for title, _how in crashed):
        ways = [how for one, how in crashed if one == title]
        times = "once" if len(ways) == 1 else f"{len(ways)} times"
        yield {
            "level": "wrong" if len(ways) > 1 else "look",
            "about": title,
            "text": f"{title} {ways[0]}; that happened {times} in the last ten minutes",
            "step": "another was started; the log has what it said before, and dmesg whether the"
            " kernel ended it for want of memory",
            "page": "",
        }


def _traces(lost: int) -> Iterable[Attention]:
    if lost:
        yield {
            "level": "look",
            "about": "tracing",
            "text": f"{lost} spans of traces reached no collector in the last ten minutes",
            "step": "see that it runs where tracing.otlp says; the log has its answers",
            "page": "",
        }


def _alerts(undelivered: Iterable[tuple[str, str, int]]) -> Iterable[Attention]:
    for way, why, waiting in undelivered:
        alerts = "1 alert" if waiting == 1 else f"{waiting} alerts"
        yield {
            "level": "wrong",
            "about": f"alerts by {way}",
            "text": f"{alerts} could not be delivered by {way}: {why}",
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
