"""How the supervisor ends: children are told to finish, and killed when their time is up."""

from __future__ import annotations

import logging
import time

from ..ipc.messages import CertifierCommand, Stop
from ..system.state_lock import StateLock
from ..system.systemd import Notifier
from .alerts import Alerting
from .containers import ContainerFeed
from .lifecycle import Lifecycle
from .process_table import Processes
from .reload.generations import Generations
from .roles import CERTIFIER, WORKER
from .timers import Timers
from .upgrade.succession import Succession

log = logging.getLogger("treehouse.supervisor")

# Seconds beyond the workers' own bound on what is under way; after that they are killed.
_STOP_MARGIN = 2.0


class Shutdown:
    """``status`` is the exit status, None while anything runs."""

    def __init__(
        self,
        lifecycle: Lifecycle,
        processes: Processes,
        generations: Generations,
        timers: Timers,
        alerting: Alerting,
        containers: ContainerFeed,
        succession: Succession,
        notifier: Notifier,
        lock: StateLock,
    ) -> None:
        self._lifecycle = lifecycle
        self._processes = processes
        self._generations = generations
        self._timers = timers
        self._alerting = alerting
        self._containers = containers
        self._succession = succession
        self._notifier = notifier
        self._lock = lock
        self._outcome = 0
        self.status: int | None = None

    def stop(self, why: str) -> None:
        """Have everything end in good order; when asked a second time, at once."""
        if self._lifecycle.stopping:
            log.warning("stopping at once: %s", why)
            self._kill_all()
            return
        self._lifecycle.stopping = True
        log.info("stopping: %s", why)
        if not self._lifecycle.retired:
            self._notifier.stopping()
        for child in self._processes:
            if child.role is CERTIFIER:
                self._processes.tell_certifier(child, CertifierCommand("stop"))
            elif child.role is WORKER:
                self._processes.tell_worker(child, Stop())
        self._alerting.stop()
        self._containers.stop()
        self._generations.close_sockets()
        limit = self._generations.serving.config.limits.shutdown_timeout + _STOP_MARGIN
        self._timers.at(time.monotonic() + limit, lambda: self.stop("time is up"))
        self.finish_if_empty()

    def stop_once(self, why: str) -> None:
        """The same, but never at once: a second SIGTERM is for people to send."""
        if not self._lifecycle.stopping:
            self.stop(why)
        self.finish_if_empty()

    def give_up(self) -> None:
        """The first generation cannot be started, and there is none to go back to."""
        self._outcome = 1
        self._lifecycle.stopping = True
        self._kill_all()

    def after_successor(self, status: int) -> None:
        """The successor that served has ended with this status; so does the server."""
        self._outcome = status if 0 <= status < 128 else 1  # 128 and more is a shell's for signals
        self.stop_once("the successor has ended")

    def _kill_all(self) -> None:
        for child in self._processes:
            self._processes.kill(child)
        self.finish_if_empty()

    def finish_if_empty(self) -> None:
        """Called after each end of a child: end, when there is nothing left to wait for."""
        if self._lifecycle.stopping and self._processes.certifier() is None:
            # Clients may be served for a while yet; the next server may begin.
            self._lock.let_go()
        exporter = self._processes.exporter()
        if exporter is not None and not self._processes.workers():
            self._processes.tell_exporter(exporter, Stop())  # it has the last spans now
        if not len(self._processes) and self.status is None and not self._succession.keeping:
            log.info("stopped")
            self.status = self._outcome
