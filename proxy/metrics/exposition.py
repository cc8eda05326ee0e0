"""`/metrics`: the supervisor's overview in Prometheus' text format, by its official client library.

The figures of all workers are added up by the supervisor, those of workers that have ended among
them, so that a counter never goes back while the program runs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import accumulate
from types import MappingProxyType
from typing import Literal, get_args

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar, Timestamp

from acme_client.status import StateName
from acme_client.storage.etcd.figures import ENGINE_BUCKETS

from ..ipc.documents import Overview
from .counters import BUCKETS, labels

_OPENMETRICS = "application/openmetrics-text"
CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"

_ProcessFigure = Literal[
    "cpu_seconds",
    "open_fds",
    "max_fds",
    "virtual_memory_bytes",
    "resident_memory_bytes",
    "start_time_seconds",
]
_PROCESS: dict[_ProcessFigure, str] = {
    "cpu_seconds": "User and system CPU time spent.",
    "open_fds": "Open file descriptors.",
    "max_fds": "Open file descriptors, at most.",
    "virtual_memory_bytes": "Virtual memory size.",
    "resident_memory_bytes": "Resident memory size; pages that processes share count for each.",
    "start_time_seconds": "When it began, Unix time.",
}


class _Overview(Collector):
    def __init__(self, overview: Overview, shared: Mapping[str, str]) -> None:
        self._shared = shared
        self._status = overview["status"]
        self._counters = overview["figures"]
        self._overview = overview

    def collect(self) -> Iterator[Metric]:
        figures = self._counters
        yield _counter(
            "treehouse_requests", "Requests answered.", figures["requests"],
            "site", "method", "status", "handler",
        )  # fmt: skip
        yield _counter(
            "treehouse_handshakes", "TLS handshakes.", figures["handshakes"],
            "version", "resumed", "result",
        )  # fmt: skip
        yield _counter(
            "treehouse_upstream_requests", "Requests to backends.", figures["upstreams"],
            "upstream", "outcome",
        )  # fmt: skip
        yield _counter(
            "treehouse_limited", "Times that a limit was reached.", figures["limited"], "limit"
        )
        yield _counter(
            "treehouse_http2",
            "HTTP/2 connections, and streams and connections that ended early.",
            figures["http2"],
            "event",
        )
        yield _histogram(
            "treehouse_request_seconds", "From head to last byte.", "site",
            figures["seconds"], figures["seconds_sum"], figures["exemplars"],
        )  # fmt: skip
        yield _histogram(
            "treehouse_upstream_seconds", "Until the head of a backend's answer.", "upstream",
            figures["upstream_seconds"], figures["upstream_seconds_sum"],
        )  # fmt: skip
        moved = CounterMetricFamily(
            "treehouse_bytes", "Bytes of bodies and tunnels.", labels=["direction"]
        )
        of_sites = CounterMetricFamily(
            "treehouse_site_bytes", "The same, by site.", labels=["site", "direction"]
        )
        for number, direction in enumerate(("in", "out")):
            moved.add_metric([direction], sum(one[number] for one in figures["bytes"].values()))
            for site, counts in figures["bytes"].items():
                of_sites.add_metric([site, direction], counts[number])
        yield moved
        yield of_sites
        yield from self._gauges()

    def _gauges(self) -> Iterator[Metric]:
        connections = GaugeMetricFamily(
            "treehouse_connections", "Open connections of clients.", labels=["listener"]
        )
        for address, count in self._overview["connections"].items():
            connections.add_metric([address], count)
        yield connections
        healthy = GaugeMetricFamily(
            "treehouse_upstream_healthy",
            "1 where the last request or check succeeded, 0 where it failed; none before.",
            labels=["upstream"],
        )
        for one in self._status["upstreams"]:
            if one["healthy"] != "untried":
                healthy.add_metric([one["url"]], float(one["healthy"] == "yes"))
        yield healthy
        under_way = GaugeMetricFamily(
            "treehouse_upstream_in_flight", "Requests under way.", labels=["upstream"]
        )
        draining = GaugeMetricFamily(
            "treehouse_upstream_draining", "1 while it gets no new clients.", labels=["upstream"]
        )
        for one in self._status["upstreams"]:
            under_way.add_metric([one["url"]], one["in_flight"])
            draining.add_metric([one["url"]], float(one["draining"]))
        yield under_way
        yield draining
        workers = GaugeMetricFamily("treehouse_workers", "Workers.", labels=["state"])
        states = Counter(one["state"] for one in self._status["workers"])
        for state in ("starting", "serving", "draining"):
            workers.add_metric([state], states[state])
        yield workers
        streams = GaugeMetricFamily(
            "treehouse_streams", "Requests and tunnels under way.", labels=["state"]
        )
        for state in ("serving", "draining"):
            workers_so = [one for one in self._status["workers"] if one["state"] == state]
            streams.add_metric([state], sum(one["streams"] for one in workers_so))
        yield streams
        generation = GaugeMetricFamily("treehouse_generation", "The one that serves.")
        generation.add_metric([], self._status["generation"] or 0)
        yield generation
        yield from self._certificates()
        attention, undelivered = self._overview["attention"], self._overview["undelivered"]
        for name, said, label, counts in (
            ("reloads", "Reloads.", "outcome", self._overview["reloads"]),
            ("on_demand", "Names that were waited for.", "outcome", self._overview["on_demand"]),
            ("trace_spans", "Spans for the collector.", "outcome", self._overview["spans"]),
            ("crashes", "Processes that ended by themselves.", "role", self._overview["crashes"]),
            ("warnings", "Warnings and errors in the log.", "level", self._overview["warnings"]),
        ):
            yield _counter(f"treehouse_{name}", said, counts, label)
        for name, said, label, counts in (
            ("attention", "What the admin page says needs it.", "level", attention),
            ("alerts_undelivered", "That wait for a channel that fails.", "channel", undelivered),
        ):
            family = GaugeMetricFamily(f"treehouse_{name}", said, labels=[label])
            for value, count in counts.items():
                family.add_metric([value], count)
            yield family
        last = GaugeMetricFamily(
            "treehouse_certifier_last_pass_seconds", "When its main loop last said that it runs."
        )
        last.add_metric([], self._overview["certifier_heard"])
        yield last
        build = GaugeMetricFamily("treehouse_build_info", "Always 1.", labels=["version"])
        build.add_metric([self._status["version"]], 1)
        yield build
        yield from self._cluster()
        yield from self._processes()

    def _cluster(self) -> Iterator[Metric]:
        status = self._status["cluster"]
        if status is None:
            return
        for name, said, figure in (
            ("members", "Machines that are there.", len(status["members"])),
            ("engine_up", "1 while etcd does all that it is asked for.", status["connected"]),
            ("orders", "1 where this machine orders certificates.", status["orders"]),
            ("certificates_behind", "Of which the disk has not what etcd has.", status["behind"]),
            ("certificates_refused", "Not taken, because unusable.", len(status["refused"])),
            ("revision_behind", "Of etcd's, not heard of yet.", status["revision_behind"]),
            ("alone", "1 while this machine orders without the others.", status["alone"]),
        ):
            family = GaugeMetricFamily(f"treehouse_cluster_{name}", said)
            family.add_metric([], float(figure))
            yield family
        yield from self._engine()

    def _engine(self) -> Iterator[Metric]:
        engine = self._overview["engine"]
        calls = HistogramMetricFamily(
            "treehouse_cluster_engine_seconds", "Until etcd has answered, or is known not to."
        )
        calls.add_metric([], _buckets(ENGINE_BUCKETS, engine["seconds"]), engine["seconds_sum"])
        yield calls
        for name, said, count in (
            ("fenced_writes", "Refused: their lock had been lost meanwhile.", engine["fenced"]),
            ("conflicts", "Steps for which another machine was faster.", engine["conflicts"]),
        ):
            counter = CounterMetricFamily(f"treehouse_cluster_{name}", said)
            counter.add_metric([], count)
            yield counter
        yield _counter(
            "treehouse_cluster_reloads",
            "Changes had escaped, and what is there was compared.",
            engine["reloads"],
            "why",
        )

    def _certificates(self) -> Iterator[Metric]:
        """Of certificates that share a label, the one that ends first, the one that is renewed
        first, the most failures in a row, and the sum of attempts."""
        certificates = self._status["certificates"]
        states = GaugeMetricFamily("treehouse_certificates", "By their state.", labels=["state"])
        known = Counter(one["state"] for one in certificates)
        for state in get_args(StateName):
            states.add_metric([state], known[state])
        yield states
        ends: dict[str, str] = {}
        renews: dict[str, str] = {}
        failed: dict[str, int] = {}
        for one in certificates:
            label = self._label(one["name"], one["on_demand_for"])
            for first, moment in ((ends, one["not_after"]), (renews, one["renew_at"])):
                if moment:
                    first[label] = min(first.get(label, moment), moment)  # RFC 3339, all in UTC
            failed[label] = max(failed.get(label, 0), one["attempts"])
        for name, said, first in (
            ("not_after", "When it ends, Unix time.", ends),
            ("renew_at", "When it is renewed, Unix time.", renews),
        ):
            family = GaugeMetricFamily(
                f"treehouse_certificate_{name}_seconds", said, labels=["name"]
            )
            for label, moment in first.items():
                family.add_metric([label], datetime.fromisoformat(moment).timestamp())
            yield family
        failures = GaugeMetricFamily(
            "treehouse_certificate_failed_attempts", "Since the last success.", labels=["name"]
        )
        for label, count in failed.items():
            failures.add_metric([label], count)
        yield failures
        renewals = CounterMetricFamily(
            "treehouse_certificate_renewals",
            "Attempts that have ended.",
            labels=["name", "outcome"],
        )
        ended: Counter[tuple[str, str]] = Counter()
        for name, outcome, count in self._overview["renewals"]:
            ended[self._label(name), outcome] += count
        for key, count in ended.items():
            renewals.add_metric(list(key), count)
        yield renewals

    def _label(self, name: str, on_demand_for: str | None = None) -> str:
        """What a certificate is told under: its name, or what its site shares with others."""
        if not self._shared:
            return name
        return self._shared.get(on_demand_for or name.partition("/")[0], name)

    def _processes(self) -> Iterator[Metric]:
        """Names and meaning as in the library's own collector, which knows one process only."""
        for name, said in _PROCESS.items():
            family: CounterMetricFamily | GaugeMetricFamily
            if name == "cpu_seconds":
                family = CounterMetricFamily(f"process_{name}", said, labels=["process"])
            else:
                family = GaugeMetricFamily(f"process_{name}", said, labels=["process"])
            for one in self._overview["processes"]:
                figure = one[name]
                if figure is not None:
                    family.add_metric([one["process"]], figure)
            yield family


def _counter(name: str, said: str, counts: dict[str, int], *names: str) -> Metric:
    family = CounterMetricFamily(name, said, labels=names)
    for key, count in counts.items():
        family.add_metric(labels(key), count)
    return family


def _histogram(
    name: str,
    said: str,
    label: str,
    seconds: dict[str, list[int]],
    sums: dict[str, float],
    exemplars: Mapping[str, list[str]] = MappingProxyType({}),
) -> Metric:
    family = HistogramMetricFamily(name, said, labels=[label])
    examples: dict[tuple[str, int], Exemplar] = {}
    for key, (trace_id, duration, at) in exemplars.items():
        one, bucket = labels(key)
        examples[one, int(bucket)] = Exemplar(
            {"trace_id": trace_id}, float(duration), Timestamp(float(at), 0)
        )
    for one, counts in seconds.items():
        buckets: list[tuple[str, float] | tuple[str, float, Exemplar]] = []
        for place, (bound, count) in enumerate(_buckets(BUCKETS, counts)):
            example = examples.get((one, place))
            buckets.append((bound, count) if example is None else (bound, count, example))
        family.add_metric([one], buckets, sums[one])
    return family


def _buckets(bounds: Sequence[float], counts: Sequence[int]) -> list[tuple[str, float]]:
    """Each bound, and how many took at most that; of ``counts`` the last took longer than all."""
    texts = [*(str(bound) for bound in bounds), "+Inf"]
    return [*zip(texts, map(float, accumulate(counts)), strict=True)]


def _prefers_openmetrics(accept: str) -> bool:
    """Whether the field Accept names OpenMetrics, and nothing of Prometheus' own before it."""
    weights: dict[str, float] = {}
    for one in accept.lower().split(","):
        kind, *parameters = (part.strip() for part in one.split(";"))
        weight = next((part[2:] for part in parameters if part.startswith("q=")), "1")
        try:
            weights[kind] = max(weights.get(kind, 0.0), float(weight))
        except ValueError:
            continue
    wanted = weights.get(_OPENMETRICS, 0.0)
    return wanted > 0 and wanted >= weights.get("text/plain", 0.0)


def render(
    overview: Overview, accept: str = "", shared: Mapping[str, str] = MappingProxyType({})
) -> tuple[bytes, bytes]:
    """Return content type and text: OpenMetrics where ``accept`` names it, else Prometheus' own
    format. ``shared``: by the first name of a site the label that its certificates are told under,
    where the configuration has one."""
    registry = CollectorRegistry()
    registry.register(_Overview(overview, shared))
    if not _prefers_openmetrics(accept):
        plain: bytes = generate_latest(registry)
        return CONTENT_TYPE, plain
    text: bytes = openmetrics.generate_latest(registry)  # type: ignore[no-untyped-call]
    return b"application/openmetrics-text; version=1.0.0; charset=utf-8", text
