"""What the supervisor knows of the whole server: for ``status``, and for ``/metrics``.

Figures of workers are as old as their last report. A status asks all of them first and waits for
the answers, though not for long: a worker that hangs is no reason to say nothing of the others.
Figures of workers that have ended are kept, so that no counter ever runs backwards.
"""

from __future__ import annotations

import os
import time
from collections import Counter, deque
from collections.abc import Callable

from ...ipc.documents import Figures, ProcessFigures, Status, UpstreamStatus, WorkerStats
from ...ipc.documents import Overview as OverviewDocument
from ...ipc.messages import AskStats, Exported
from ...metrics import counters, process_stats
from ..containers import ContainerFeed
from ..on_demand import OnDemand
from ..process_table import Child, Processes
from ..registry import Registry
from ..reload.generations import Generations
from ..roles import MESSENGER, WORKER
from ..timers import Timers
from . import status

# How long a status waits for workers that do not answer.
_STATUS_WITHIN = 1.0
# What "lately" is, in seconds, and how much of it is kept.
_LATELY = 600.0
_LATELY_MOST = 200


class Overview:
    def __init__(
        self,
        processes: Processes,
        registry: Registry,
        generations: Generations,
        on_demand: OnDemand,
        timers: Timers,
        containers: ContainerFeed,
    ) -> None:
        self._processes = processes
        self._registry = registry
        self._generations = generations
        self._on_demand = on_demand
        self._timers = timers
        self._containers = containers
        self.started_at = time.time()  # Unix seconds
        self._retired = counters.empty()  # of workers that have ended
        self._reloads = {"ok": 0, "failed": 0}
        self.refused: tuple[float, str] | None = None  # the last reload: when (Unix), and why
        self.counting = False  # somebody asks for figures
        self.spans: dict[str, int] = {}  # of traces, by what became of them
        self._lost_spans: deque[tuple[float, int]] = deque(maxlen=_LATELY_MOST)
        self._crashes: Counter[str] = Counter()  # by role
        self._crashed: deque[tuple[float, str, str]] = deque(maxlen=_LATELY_MOST)
        self._spans_before: dict[str, int] = {}  # of exporters that have ended
        self._certifier_heard = 0.0  # Unix seconds
        self._certifier_alive = time.monotonic()
        self._questions: list[status.Question] = []

    # What happens

    def reloaded(self, refusal: str | None) -> None:
        """Note the end of a reload; ``refusal``: why nothing was changed."""
        self._reloads["ok" if refusal is None else "failed"] += 1
        self.refused = None if refusal is None else (time.time(), refusal)

    def heard_certifier(self) -> None:
        """Note that the certifier's main loop runs."""
        self._certifier_heard, self._certifier_alive = time.time(), time.monotonic()

    def heard_exporter(self, message: Exported) -> None:
        before = self._spans_before
        lost = before.get("failed", 0) + message.failed
        if (more := lost - self.spans.get("failed", 0)) > 0:
            self._lost_spans.append((time.monotonic(), more))
        self.spans = {"exported": before.get("exported", 0) + message.exported, "failed": lost}

    def exporter_ended(self) -> None:
        """Keep what the exporter has counted: the next one counts from zero."""
        self._spans_before = self.spans

    def crashed(self, child: Child, how: str) -> None:
        """Note a child that has ended before its time, and how."""
        self._crashes[child.role.name] += 1
        self._crashed.append((time.monotonic(), child.title, how))

    def crashed_lately(self) -> list[tuple[str, str]]:
        """Return what has crashed in the last minutes, and how, the last one first."""
        since = time.monotonic() - _LATELY
        return [(title, how) for at, title, how in reversed(self._crashed) if at > since]

    def spans_lost_lately(self) -> int:
        """Return how many spans of traces no collector has taken in the last minutes."""
        since = time.monotonic() - _LATELY
        return sum(lost for at, lost in self._lost_spans if at > since)

    def certifier_silent(self) -> float:
        """Seconds since the certifier was heard, or since the start."""
        return time.monotonic() - self._certifier_alive

    def heard_worker(self, child: Child, stats: WorkerStats) -> None:
        """Keep what a worker says of itself. Raises `ValueError` for figures that do not add up
        with ours, so that whoever sums them later cannot fail."""
        if stats["figures"] is not None:
            counters.require_buckets(stats["figures"])
        if stats["open_fds"] is None and child.stats is not None:
            stats["open_fds"] = child.stats["open_fds"]
        child.stats = stats
        self._settle(child.pid)

    def ended(self, child: Child) -> None:
        if child.stats is not None and child.stats["figures"] is not None:
            self._retired = counters.added(self._retired, child.stats["figures"])
        self._settle(child.pid)

    def _settle(self, pid: int) -> None:
        for question in list(self._questions):
            question.settle(pid)

    # What is asked

    def ask(self, reply: Callable[[Status], None]) -> None:
        """Reply with a status, once the workers have said how they are."""
        self.refresh(lambda: reply(self._document()))

    def refresh(self, done: Callable[[], None]) -> None:
        """Ask the workers how they are, and call ``done`` once they have said so."""
        workers = self._processes.workers()
        question = status.Question({one.pid for one in workers}, lambda: answer())
        self._questions.append(question)

        def answer() -> None:
            self._questions.remove(question)
            done()

        for child in workers:
            self._processes.tell_worker(child, AskStats(True, self.counting))
        question.settle(0)
        self._timers.at(time.monotonic() + _STATUS_WITHIN, question.give_up)

    def figures(self) -> Figures:
        """Add up what all workers have counted, those that have ended among them."""
        counted = self._retired
        for one in self._processes.workers():
            if one.stats is not None and one.stats["figures"] is not None:
                counted = counters.added(counted, one.stats["figures"])
        return counted

    def document(
        self,
        status: Status,
        attention: dict[str, int],
        undelivered: dict[str, int],
        warnings: dict[str, int],
    ) -> OverviewDocument:
        """Make the overview of a status, and of the counts that `Board` has."""
        return {
            "status": status,
            "figures": self.figures(),
            "reloads": self._reloads,
            "renewals": self._registry.renewals.counts(),
            "connections": self.connections(),
            "processes": self.kernel_figures(),
            "certifier_heard": self._certifier_heard,
            "spans": self.spans,
            "on_demand": self._on_demand.outcomes,
            "crashes": dict(self._crashes),
            "attention": attention,
            "undelivered": undelivered,
            "warnings": warnings,
            "engine": self._registry.engine.total(),
        }

    def connections(self) -> dict[str, int]:
        """Open connections by listener, also those of draining workers."""
        counts = {one.address: 0 for one in self._generations.serving.listeners}
        for child in self._processes.workers():
            for address, count in (child.stats["listeners"] if child.stats else {}).items():
                counts[address] = counts.get(address, 0) + count
        return counts

    def kernel_figures(self) -> list[ProcessFigures]:
        """Return what the kernel counts of each process."""
        found = []
        own = process_stats.of(os.getpid(), "supervisor")
        if own is not None:
            own["open_fds"] = process_stats.open_descriptors()
            found.append(own)
        for child in self._processes:
            title = child.title
            if child.role is WORKER:
                title += f" of generation {child.generation}"
            one = process_stats.of(child.pid, title)
            if one is not None and child.role is not MESSENGER:
                one["open_fds"] = child.stats["open_fds"] if child.stats else None
                found.append(one)
        return found

    def upstreams(self) -> list[UpstreamStatus]:
        """Return every backend, by what all workers said last."""
        return status.upstreams(self._processes.workers())

    def _document(self) -> Status:
        serving = self._generations.serving
        return status.document(
            started_at=self.started_at,
            generation=serving.number,
            config=serving.config.source,
            workers=self._processes.workers(),
            listeners=serving.listeners,
            certificates=self._registry.statuses(),
            unwanted=self._registry.unwanted(serving.config.state),
            providers=self._containers.status(serving.config),
            cluster=None if serving.config.cluster is None else self._registry.cluster,
            sites=serving.config.sites,
        )
