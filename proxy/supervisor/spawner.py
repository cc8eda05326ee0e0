"""Who is started, and started again: the workers of each generation, and the certifier.

What a child is to know it is forked with, so that it needs no conversation before it serves. One
that ends before its time is followed by another, after a pause that grows with each end; and where
the kernel has no room for a process just now, it is asked again. Nobody is started for a
generation that nobody wants any more: that is looked at when the moment has come, not before.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable

from ..certifier import process as certifier
from ..config.model import Config
from ..ipc.channel import Channel
from ..ipc.connection_counters import Census
from ..ipc.messages import AddGeneration, CertifierCommand, ReplaceAccessLog
from ..ipc.rate_buckets import Buckets
from ..worker import worker
from ..worker.startup import Birth
from .backoff import Backoff
from .log_file import AccessLog
from .process_table import Child, Processes, Role, describe_exit
from .registry import Announcements
from .reload.generations import Generation, Generations
from .timers import Schedule

log = logging.getLogger("treehouse.supervisor")

# Seconds until a fork is tried again that failed for want of memory, processes or descriptors.
_AGAIN_AFTER = 1.0


class Births:
    """``stopping``: then nobody is started any more. ``certifying``: whether it is this program
    that certifies, and not one that is to take over or has done so."""

    def __init__(
        self,
        processes: Processes,
        announcements: Announcements,
        generations: Generations,
        schedule: Schedule,
        *,
        access_log: AccessLog,
        stopping: Callable[[], bool],
        certifying: Callable[[], bool],
    ) -> None:
        self._processes = processes
        self._announcements = announcements
        self._generations = generations
        self._schedule = schedule
        self._stopping = stopping
        self._certifying = certifying
        self._access_log = access_log
        self._buckets = Buckets()  # one table for all generations
        self._secret = secrets.token_bytes(16)
        generations.on_census = self._show
        self._backoff = Backoff()
        self._needs: object = None  # what the certifier was born with

    # Workers

    def start_workers(self, generation: Generation) -> None:
        self._access_log.follow(generation.config)
        for number in range(1, generation.config.workers + 1):
            self._start_worker(generation, number)

    def _start_worker(self, generation: Generation, number: int) -> None:
        if generation not in self._generations or generation.state == "draining":
            return
        birth = Birth(
            number=number,
            config=generation.config,
            base=generation.base,
            listeners=generation.listeners,
            certificates=self._announcements.certificates(),
            challenges=self._announcements.challenges(),
            access_log=self._access_log.fd,
            buckets=self._buckets,
            census=generation.census,
            beside=tuple(one.census for one in self._generations if one is not generation),
            secret=self._secret,
        )
        self._fork(
            "worker",
            generation.number,
            number,
            lambda channel: worker.run(birth, channel),
            lambda: self._start_worker(generation, number),
        )

    def _show(self, census: Census, fd: int) -> None:
        """What a generation that is on its way counts, to those beside whom it will accept."""
        message = AddGeneration(census.workers, census.buckets)
        for child in self._processes.workers():
            self._processes.tell_worker(child, message, (fd,))

    def ended(self, child: Child) -> None:
        """Its connections are gone with it, whether or not it could still count them off."""
        generation = self._generations.find(child.generation)
        if child.role == "worker" and generation is not None:
            generation.census.clear(child.number)

    def reopen_log(self, config: Config) -> None:
        """Have access lines written to what has the file's name now, by all workers."""
        if not self._access_log.is_file or not self._access_log.reopen(config):
            return
        fd = self._access_log.fd
        if fd is not None:
            for child in self._processes.workers():
                self._processes.tell_worker(child, ReplaceAccessLog(), (fd,))
            log.info("logs reopened")

    # The certifier

    def start_certifier(self) -> None:
        """One at a time: two of them would be at the same work."""
        if not self._certifying() or self._processes.certifier():
            return
        serving = self._generations.serving
        self._needs = certifier.needs(serving.config)
        self._fork(
            "certifier",
            serving.number,
            0,
            lambda channel: certifier.run(serving.config, channel),
            self.start_certifier,
        )

    def renew_certifier_for(self, generation: Generation) -> None:
        """It is born with its settings and its sandbox; other ones need another."""
        if certifier.needs(generation.config) != self._needs:
            self.end_certifier()

    def end_certifier(self) -> None:
        """In good order; another is started when it has ended, if one is wanted."""
        present = self._processes.certifier()
        if present is not None:
            present.state = "draining"
            self._processes.tell_certifier(present, CertifierCommand("stop"))

    # Again

    def replace(self, child: Child, how: int) -> None:
        """A child has ended that was to live, with this wait status."""
        pause = self._backoff.pause((child.role, child.number), time.monotonic() - child.born)
        said = describe_exit(how)
        log.error("%s (pid %d) %s; another starts in %.2g s", child.title, child.pid, said, pause)
        generation = self._generations.find(child.generation)

        def start() -> None:
            if child.role == "certifier":
                self.start_certifier()
            elif generation is not None:
                self._start_worker(generation, child.number)

        self._later(pause, start)

    def _fork(
        self,
        role: Role,
        generation: int,
        number: int,
        run: Callable[[Channel], int],
        again: Callable[[], None],
    ) -> None:
        try:
            self._processes.fork(role, generation, number, run)
        except OSError as error:
            log.error("a %s cannot be started: %s; tried again", role, error.strerror)
            self._later(_AGAIN_AFTER, again)

    def _later(self, pause: float, start: Callable[[], None]) -> None:
        self._schedule.at(time.monotonic() + pause, lambda: None if self._stopping() else start())
