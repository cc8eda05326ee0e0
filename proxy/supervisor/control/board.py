"""What the operator looks at: the history of an hour, what needs attention, the last warnings.

The documents of `top` and of the admin page are made here, of what the other parts know. Each is
bounded, however many sites, backends and certificates there are, and made only when somebody asks.
The history is kept while figures are counted: with an admin listener always, else from the first
`top` on. At an upgrade the successor goes on with it, where there is an admin listener.
"""

from __future__ import annotations

import heapq
import os
import time
from collections import Counter
from itertools import islice

from acme_client.status import CertificateStatus
from acme_client.text import timestamp

from ...alerts import attention
from ...certifier.needs import has_any
from ...config.model import Config, FilesAction, ProxyAction, RedirectAction, Route
from ...ipc.documents import (
    Attention,
    Figures,
    HistoryDocument,
    ProcessFigures,
    Status,
    TopDocument,
    TopRow,
    UpstreamStatus,
    Warned,
)
from ...ipc.messages import OverviewAnswer
from ...metrics.counters import BUCKETS, labels
from ...metrics.history import SLOT, History
from ...version import VERSION
from ..alerts import Alerting
from ..process_table import Child, Processes
from ..registry import Registry
from ..reload.generations import Generation, Generations
from .last_warnings import LastWarnings
from .overview import Overview

# Rows of a table, and lines of the log that are kept.
_MOST_ROWS = 100
_MOST_BACKENDS = 200
_TOP_ROWS = 200
_FOUND = 30


class Board:
    def __init__(
        self,
        processes: Processes,
        registry: Registry,
        generations: Generations,
        overview: Overview,
        alerting: Alerting,
        history: History | None = None,
    ) -> None:
        self._processes = processes
        self._registry = registry
        self._generations = generations
        self._overview = overview
        self._alerting = alerting
        self._warnings = LastWarnings()
        self._observed = float("-inf")
        self.history = history or History()

    # What happens

    def beat(self, now: float) -> None:
        """Note a slot of the history when one is over. Call it every second; ``now`` is
        monotonic."""
        overview = self._overview
        if self._generations.serving.config.admin is not None:
            overview.counting = True
        if not overview.counting or now - self._observed < SLOT - 0.05:
            return
        self._observed = now
        self.history.observe(
            time.time(), overview.figures(), overview.connections(), overview.kernel_figures()
        )

    def warned(self, warned: Warned) -> None:
        self._warnings.add(warned)

    def written(self, at: float, level: str, process: str, text: str) -> None:
        """Take a line of this process's own log."""
        self.warned({"at": at, "level": level, "process": process, "text": text})

    # What is asked

    def send(self, child: Child, number: int) -> None:
        """Send a worker the overview of all processes, for `/metrics` and `/status`."""
        self._overview.ask(lambda status: self._send(child, number, status))

    def _send(self, child: Child, number: int, status: Status) -> None:
        urgent, more = self._attention(self._overview.upstreams())
        levels = Counter(one["level"] for one in urgent)
        overview = self._overview.document(
            status,
            attention={"wrong": levels["wrong"], "look": levels["look"], "more": more},
            undelivered={way: waiting for way, _why, waiting in self._alerting.undelivered()},
            warnings=dict(self._warnings.counts),
        )
        self._processes.tell_worker(child, OverviewAnswer(number, overview))

    def top(self) -> TopDocument:
        overview, serving = self._overview, self._generations.serving
        figures, upstreams = overview.figures(), overview.upstreams()
        urgent, more = self._attention(upstreams)
        return {
            "at": time.time(),
            "version": VERSION,
            "pid": os.getpid(),
            "started_at": timestamp(overview.started_at),
            "generation": serving.number,
            "workers": dict(Counter(one.state for one in self._processes.workers())),
            "connections": overview.connections(),
            "all": _all(figures),
            "sites": self._top_sites(figures),
            "sites_known": len(serving.config.sites),
            "backends": _top_backends(figures),
            "upstreams": upstreams[:_TOP_ROWS],
            "handshakes": figures["handshakes"],
            "processes": overview.kernel_figures(),
            "attention": urgent,
            "attention_more": more,
        }

    def _top_sites(self, figures: Figures) -> dict[str, TopRow]:
        """Return the busiest sites: those that lately were, and those that were since the start."""
        seconds = figures["seconds"]
        wanted = [one["name"] for one in self.history.lately("site")]
        wanted += heapq.nlargest(_TOP_ROWS, seconds, key=lambda host: sum(seconds[host]))
        rows: dict[str, TopRow] = {
            host: {"counts": {}, "seconds": seconds[host], "bytes": figures["bytes"][host]}
            for host in dict.fromkeys(wanted[:_TOP_ROWS])
            if host in seconds
        }
        for key, count in figures["requests"].items():
            host, _method, status, _handler = labels(key)
            if host in rows:
                _add(rows[host], status, count)
        return rows

    def summary(self) -> dict[str, object]:
        """Return what the admin page shows first."""
        overview, serving = self._overview, self._generations.serving
        upstreams = overview.upstreams()
        urgent, more = self._attention(upstreams)
        history = self.history
        return {
            "at": time.time(),
            "version": VERSION,
            "pid": os.getpid(),
            "uid": os.getuid(),
            "started_at": timestamp(overview.started_at),
            "generation": serving.number,
            "config": None if serving.config.source is None else str(serving.config.source),
            "attention": urgent,
            "attention_more": more,
            "sites_known": len(serving.config.sites),
            "sites": history.lately("site"),
            "others": history.lately("others"),
            "all": history.lately("all"),
            "backends": self._backends(upstreams),
            "connections": overview.connections(),
            "handshakes": history.latest("handshakes"),
            "generations": [self._generation(one) for one in self._generations],
            "processes": _processes(overview.kernel_figures(), history),
            "certificates": self._certificates(),
            "warnings": list(self._warnings),
        }

    def points(self, kind: str, name: str, most: int) -> dict[str, HistoryDocument]:
        """Return the last ``most`` slots: of a site or a backend (``main``), or of all."""
        history = self.history
        if kind in ("site", "backend"):
            return {"main": history.document(kind, name, most)}
        return {
            "main": history.document("all", "", most),
            "connections": history.pivot("connections", "open", most),
            "handshakes": history.pivot("handshakes", "number", most),
            "cpu": history.pivot("process", "cpu", most),
            "memory": history.pivot("process", "memory", most),
        }

    def find(self, text: str) -> dict[str, list[str]]:
        """Return names of sites, backends and certificates that have ``text`` in them."""
        config = self._generations.serving.config
        names = (name for site in config.sites for name in site.names)
        urls = (one["url"] for one in self._overview.upstreams())
        certificates = (one["name"] for one in self._registry.statuses())
        groups = {"site": names, "backend": urls, "certificate": certificates}
        return {
            kind: list(islice((one for one in each if text in one), _FOUND))
            for kind, each in groups.items()
        }

    def site(self, name: str) -> dict[str, object]:
        config = self._generations.serving.config
        site = next((one for one in config.sites if name in one.names), None)
        if site is None:
            return {"missing": name}
        first = site.names[0]
        return {
            "names": list(site.names),
            "routes": [_route(one) for one in site.routes[:_MOST_ROWS]],
            "routes_known": len(site.routes),
            "place": site.origins.get("names", ""),
            "certificates": [
                _compact(one)
                for one in self._registry.statuses()
                if first in one["names"] or one["name"].partition("/")[0] == first
            ][:_FOUND],
        }

    def backend(self, url: str) -> dict[str, object]:
        config = self._generations.serving.config
        status = next((one for one in self._overview.upstreams() if one["url"] == url), None)
        if status is None:
            return {"missing": url}
        return {**status, "routes": _users(config, url)[:_MOST_ROWS]}

    def certificate(self, name: str) -> list[CertificateStatus]:
        """Return the certificates of a name; with "/rsa" behind it, that one alone."""
        return [
            one for one in self._registry.statuses() if name == one["name"] or name in one["names"]
        ][:_FOUND]

    def knows_backend(self, url: str) -> bool:
        return bool(_users(self._generations.serving.config, url))

    # Parts

    def _attention(self, upstreams: list[UpstreamStatus]) -> tuple[list[Attention], int]:
        config, overview = self._generations.serving.config, self._overview
        situation = attention.Situation(
            certificates=self._registry.statuses(),
            wanted=[site.names[0] for site in config.sites],
            certifier_silent=overview.certifier_silent() if has_any(config) else 0.0,
            rules=config.alerts,
            upstreams=upstreams,
            rates=self.history.lately("backend"),
            reached=self.history.reached(),
            refused=overview.refused,
            undelivered=self._alerting.undelivered(),
            crashed=overview.crashed_lately(),
            spans_lost=overview.spans_lost_lately(),
            cluster=None if config.cluster is None else self._registry.cluster,
        )
        return attention.look(situation, time.time())

    def _backends(self, upstreams: list[UpstreamStatus]) -> list[dict[str, object]]:
        rates = {one["name"]: one for one in self.history.lately("backend")}
        found = [{**one, "rates": rates.get(one["url"])} for one in upstreams]
        order = {"no": 0, "untried": 2, "yes": 1}
        found.sort(key=lambda one: (order[str(one["healthy"])], str(one["url"])))
        return [dict(one) for one in found[:_MOST_BACKENDS]]

    def _generation(self, generation: Generation) -> dict[str, object]:
        return {
            "number": generation.number,
            "state": generation.state,
            "since": self._unix(generation.drains_since or generation.born),
            "workers": [
                {
                    "pid": child.pid,
                    "state": child.state,
                    "connections": child.stats["connections"] if child.stats else 0,
                    "streams": child.stats["streams"] if child.stats else 0,
                    "requests": child.stats["requests"] if child.stats else 0,
                }
                for child in self._processes.workers(generation.number)
            ],
        }

    @staticmethod
    def _unix(monotonic: float) -> float:
        return time.time() - (time.monotonic() - monotonic)

    def _certificates(self) -> dict[str, object]:
        """Count the certificates in each state, and list those that end first or fail."""
        statuses = self._registry.statuses()
        first = heapq.nsmallest(
            _MOST_ROWS, statuses, key=lambda one: (not one["attempts"], one["not_after"] or "")
        )
        return {
            "known": len(statuses),
            "states": dict(Counter(one["state"] for one in statuses)),
            "first": [_compact(one) for one in first],
        }


def _compact(one: CertificateStatus) -> dict[str, object]:
    """Return what the time line shows of a certificate."""
    keys = (
        "name", "source", "state", "not_before", "not_after", "renew_at", "next_attempt",
        "attempts", "last_error", "served", "ari_window",
    )  # fmt: skip
    return {
        **{key: one[key] for key in keys},  # type: ignore[literal-required] # the keys above
        "names": one["names"][:3],
        "tried": [{"at": past["at"], "outcome": past["outcome"]} for past in one["history"][-10:]],
    }


def _route(route: Route) -> dict[str, object]:
    place = next(iter(route.origins.values()), "")
    backends: list[str] = []
    match route.action:
        case FilesAction(root):
            does = f"files of {root}"
        case ProxyAction(backends=members):
            backends = [one.url for one in members]
            does = "backends"
        case RedirectAction(target, status):
            does = f"redirect {status} to {target}"
        case other:
            does = type(other).__name__.removesuffix("Action").lower()
    return {"path": route.path, "does": does, "backends": backends[:_FOUND], "place": place}


def _users(config: Config, url: str) -> list[dict[str, str]]:
    """Return the routes that lead to a backend."""
    return [
        {"site": site.names[0], "path": route.path}
        for site in config.sites
        for route in site.routes
        if isinstance(route.action, ProxyAction)
        and any(one.url == url for one in route.action.backends)
    ]


def _processes(figures: list[ProcessFigures], history: History) -> list[dict[str, object]]:
    cpu = history.latest("process")
    return [
        {**one, "cpu": cpu.get(one["process"].partition(" of generation")[0], 0.0)}
        for one in figures[:_MOST_ROWS]
    ]


def _row() -> TopRow:
    return {"counts": {}, "seconds": [0] * (len(BUCKETS) + 1), "bytes": [0, 0]}


def _add(row: TopRow, status: str, count: int) -> None:
    kind = f"{status[:1]}xx"
    row["counts"][kind] = row["counts"].get(kind, 0) + count


def _all(figures: Figures) -> TopRow:
    whole = _row()
    for key, count in figures["requests"].items():
        _add(whole, labels(key)[2], count)
    if figures["seconds"]:
        whole["seconds"] = [
            sum(counts) for counts in zip(*figures["seconds"].values(), strict=True)
        ]
        whole["bytes"] = [sum(counts) for counts in zip(*figures["bytes"].values(), strict=True)]
    return whole


def _top_backends(figures: Figures) -> dict[str, TopRow]:
    rows: dict[str, TopRow] = {}
    for key, count in figures["upstreams"].items():
        url, outcome = labels(key)
        row = rows.get(url)
        if row is None:
            if len(rows) >= _TOP_ROWS:
                continue
            row = rows[url] = _row()
            row["seconds"] = figures["upstream_seconds"].get(url, row["seconds"])
        row["counts"][outcome] = row["counts"].get(outcome, 0) + count
    return rows
