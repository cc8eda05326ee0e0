"""Which child is started, with what, and which is started again.

A child is given all that it needs when it is forked, so that it needs no conversation before it
serves. One that ends before its time is followed by another, after a pause that depends on how long
it lived; where the kernel has no room for a process just now, it is asked again. Nothing is started
for a generation that is no longer wanted: this is looked at when the moment has come, not before.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable
from typing import TypeVar

from ..certifier import needs as certifier
from ..config.model import Config, Tracing
from ..ipc.messages import (
    AddGeneration,
    CertifierCommand,
    DrainBackend,
    ReplaceAccessLog,
    Stop,
    ToWorker,
)
from ..ipc.rate_buckets import Buckets
from ..worker.startup import WorkerInit
from .backoff import Backoff
from .deliveries import Deliveries
from .lifecycle import Lifecycle
from .log_file import AccessLogFile
from .process_table import Child, Processes, describe_exit
from .registry import Registry
from .reload.generations import Generation, Generations
from .roles import CERTIFIER, EXPORTER, WORKER, Role
from .span_pipe import SpanPipe
from .timers import Timers

log = logging.getLogger("treehouse.supervisor")

Init = TypeVar("Init")

# Seconds until a fork is tried again that failed for want of memory, processes or descriptors.
_AGAIN_AFTER = 1.0


class Spawner:
    def __init__(
        self,
        lifecycle: Lifecycle,
        processes: Processes,
        deliveries: Deliveries,
        registry: Registry,
        generations: Generations,
        timers: Timers,
        access_log: AccessLogFile,
        spans: SpanPipe,
    ) -> None:
        self._lifecycle = lifecycle
        self._processes = processes
        self._deliveries = deliveries
        self._registry = registry
        self._generations = generations
        self._timers = timers
        self._access_log = access_log
        self._spans = spans
        self._buckets = Buckets()  # one table for all generations
        self._secret = secrets.token_bytes(16)
        # URLs of backends that get no new clients, until somebody says otherwise: also in later
        # generations, which come by themselves.
        self.drained: set[str] = set()
        self._backoff = Backoff()
        self._needs: object = None  # what the certifier was started with
        self._rests_for: object = None  # of a certifier that was ended because nothing was to do
        self._traces: Tracing | None = None  # and the exporter

    # Workers

    def start_workers(self, generation: Generation) -> None:
        """Start all workers of a new generation. Those of others learn where it counts its
        connections: for a moment both accept."""
        self._access_log.follow(generation.config)
        self._deliveries.to_all(lambda ticket: self._introduction(generation, ticket))
        for number in range(1, generation.config.workers + 1):
            self._start_worker(generation, number)

    def _introduction(
        self, generation: Generation, ticket: int
    ) -> tuple[ToWorker, tuple[int, ...]] | None:
        if generation not in self._generations:
            return None
        counters = generation.counters
        return AddGeneration(counters.workers, counters.buckets, ticket), (generation.counters_fd,)

    def _start_worker(self, generation: Generation, number: int) -> None:
        if generation not in self._generations or generation.state == "draining":
            return
        init = WorkerInit(
            number=number,
            config=generation.config,
            sites=generation.sites,
            policy=generation.policy,
            base=generation.base,
            listeners=generation.listeners,
            certificates=self._registry.certificates(),
            challenges=self._registry.challenges(),
            access_log=self._access_log.fd,
            buckets=self._buckets,
            counters=generation.counters,
            beside=tuple(one.counters for one in self._generations if one is not generation),
            drained=frozenset(self.drained),
            spans=self._spans.ends()[0] if generation.config.tracing is not None else None,
            secret=self._secret,
        )
        self._fork(
            WORKER, init, generation.number, number, lambda: self._start_worker(generation, number)
        )

    def ended(self, child: Child) -> None:
        """Its connections are gone with it, whether or not it could still count them off."""
        generation = self._generations.find(child.generation)
        if child.role is WORKER and generation is not None:
            generation.counters.clear(child.number)

    def reopen_log(self, config: Config) -> None:
        """Have all workers write access lines to what has the file's name now."""
        if self._access_log.is_file and self._access_log.reopen(config):
            self._deliveries.to_all(self._log_descriptor)
            log.info("logs reopened")

    def _log_descriptor(self, ticket: int) -> tuple[ToWorker, tuple[int, ...]] | None:
        fd = self._access_log.fd
        return None if fd is None else (ReplaceAccessLog(ticket), (fd,))

    def drain_backend(self, url: str, on: bool) -> None:
        """Have all workers give a backend no new clients, or (``on`` False) its share again."""
        (self.drained.add if on else self.drained.discard)(url)
        log.warning(
            "%s %s", url, "gets no new clients" if on else "gets its share of clients again"
        )
        self._deliveries.to_all(lambda ticket: (DrainBackend(url, on, ticket), ()))

    # The certifier

    def start_certifier(self) -> None:
        """Start one if there is none: two of them would be at the same work. None either where the
        one before has been ended because it had nothing to do, and the same is needed now."""
        if not self._lifecycle.certifies or self._processes.certifier():
            return
        serving = self._generations.serving
        needs = certifier.needs(serving.config)
        if needs == self._rests_for:
            return
        self._needs, self._rests_for = needs, None
        self._fork(CERTIFIER, serving.config, serving.number, 0, self.start_certifier)

    def renew_certifier_for(self, generation: Generation) -> None:
        """End the certifier if this configuration needs another one: it is started with its
        settings and its sandbox."""
        if certifier.needs(generation.config) != self._needs:
            self.end_certifier()

    def end_certifier(self) -> None:
        """In good order; another is started when it has ended, if one is wanted."""
        present = self._processes.certifier()
        if present is not None:
            present.state = "draining"
            self._processes.tell_certifier(present, CertifierCommand("stop"))

    @property
    def certifier_rests(self) -> bool:
        """Whether there is no certifier, or will be none in a moment, for want of work."""
        return self._rests_for is not None

    def rest_certifier(self) -> None:
        """End the certifier, which has nothing to do: at rest it is a sixth of all memory. It is
        started again when it is asked something (`wake_certifier`), or a reload gives it work."""
        if certifier.may_rest(self._generations.serving.config) and not self.certifier_rests:
            log.info("the certifier has nothing to do and ends; it starts again when it is needed")
            self._rests_for = self._needs
            self.end_certifier()

    def wake_certifier(self) -> None:
        """Start the certifier that rests, because a question for it has come."""
        if self.certifier_rests and not self._lifecycle.stopping:
            self._rests_for = None
            self.start_certifier()

    # The exporter

    def start_exporter(self) -> None:
        """Start an exporter if there is none and the configuration has traces."""
        serving = self._generations.serving
        if serving.config.tracing is None or self._processes.exporter() or self._lifecycle.retired:
            return
        self._traces = serving.config.tracing
        init = (serving.config, self._spans.ends()[1])
        self._fork(EXPORTER, init, serving.number, 0, self.start_exporter)

    def renew_exporter_for(self, generation: Generation) -> None:
        """Start an exporter for this configuration, or end the one with other settings, which
        another follows."""
        present = self._processes.exporter()
        if present is None:
            self.start_exporter()
        elif generation.config.tracing != self._traces:
            present.state = "draining"
            self._processes.tell_exporter(present, Stop())

    # Again

    def replace(self, child: Child, how: int) -> None:
        """Start another in the place of a child that has ended before its time, with this wait
        status."""
        lived = time.monotonic() - child.born
        who = (child.role.name, child.number)
        pause = self._backoff.pause(who, lived, child.took_to_serve)
        ended = describe_exit(how)
        log.error("%s (pid %d) %s; another starts in %.2g s", child.title, child.pid, ended, pause)
        generation = self._generations.find(child.generation)

        def start() -> None:
            if child.role is CERTIFIER:
                self.start_certifier()
            elif child.role is EXPORTER:
                self.start_exporter()
            elif generation is not None:
                self._start_worker(generation, child.number)

        self._later(pause, start)

    def _fork(
        self,
        role: Role[Init],
        init: Init,
        generation: int,
        number: int,
        again: Callable[[], None],
    ) -> None:
        try:
            self._processes.fork(role, init, generation, number)
        except OSError as error:
            log.error("a %s cannot be started: %s; tried again", role.name, error.strerror)
            self._later(_AGAIN_AFTER, again)

    def _later(self, pause: float, start: Callable[[], None]) -> None:
        def unless_stopping() -> None:
            if not self._lifecycle.stopping:
                start()

        self._timers.at(time.monotonic() + pause, unless_stopping)
