"""The supervisor's loop: signals arrive, children are heard, replaced when they end or hang.

It speaks no HTTP, loads no certificate key and runs no event loop: a plain `selectors` loop, in
which signal handlers only enqueue, so that forking is safe at every turn.

What takes several steps has a file of its own: which child is started (`spawner`), a reload
(`reload`), an upgrade (`upgrade`), the end (`shutdown`), a change that every worker has to know
(`registry`). How they are put together is `wiring`.

It is hard because every step can be overtaken by a death. The rule that keeps it simple: a child's
end is handled in one place (`_on_exit`), and everything that waits for children (a delivery, a
generation's start, a status) is settled there too.
"""

from __future__ import annotations

import gc
import logging
import selectors
import signal
import time
from typing import assert_never

from acme_client.late_dataclass import dataclass

from .. import log as logs
from ..certifier import needs as certifier
from ..ipc.codec import JsonObject
from ..ipc.messages import (
    FROM_CERTIFIER,
    FROM_DOCKER,
    FROM_EXPORTER,
    FROM_MESSENGER,
    FROM_WORKER,
    Acknowledged,
    Alive,
    AskAdmin,
    AskOverview,
    AskStats,
    CannotServe,
    CertificateUsed,
    CertifierAnswer,
    ContainersSeen,
    FromCertifier,
    FromDocker,
    FromWorker,
    Idle,
    Loaded,
    NotTaken,
    Present,
    ProbeResult,
    Publish,
    Ready,
    Report,
    ReportCluster,
    ReportEngine,
    Retract,
    Stats,
    Truncated,
    WantCertificate,
    Warned,
)
from ..system import own_code
from ..system.systemd import Notifier
from ..worker.warming_up import warm_up
from .alerts import Alerting
from .certifier_requests import CertifierRequests
from .containers import ContainerFeed
from .control.admin_questions import AdminQuestions
from .control.board import Board
from .control.overview import Overview
from .control.server import ControlSocket
from .deliveries import Deliveries
from .lifecycle import Lifecycle
from .liveness import EVERY, Liveness, Silence
from .on_demand import OnDemand
from .operations import Operations
from .process_table import Child, Processes, describe_exit
from .registry import Registry
from .reload.generations import Generations
from .reload.reload import Reloader
from .roles import CERTIFIER, EXPORTER, WORKER
from .self_check import SelfCheck
from .shutdown import Shutdown
from .spawner import Spawner
from .timers import Timers
from .upgrade.succession import Succession

log = logging.getLogger("treehouse.supervisor")

# The certifier reads the store before the first worker starts; a slow disk must not keep the
# door shut for ever.
_LOADED_WITHIN = 10.0
# A certifier that cannot even begin must not keep balancers away for ever.
_HEARD_WITHIN = 30.0
_CODE_KEPT_AFTER = 2.0  # an upgrade's new files are not there so soon
_ENDING = (signal.SIGTERM, signal.SIGINT)


@dataclass(frozen=True, slots=True)
class Parts:
    """What `wiring` has put together."""

    selector: selectors.BaseSelector
    timers: Timers
    lifecycle: Lifecycle
    processes: Processes
    deliveries: Deliveries
    registry: Registry
    requests: CertifierRequests
    generations: Generations
    overview: Overview
    on_demand: OnDemand
    self_check: SelfCheck
    alerting: Alerting
    containers: ContainerFeed
    board: Board
    spawner: Spawner
    reloader: Reloader
    succession: Succession
    shutdown: Shutdown
    operations: Operations
    admin_questions: AdminQuestions
    control: ControlSocket
    notifier: Notifier


class Supervisor:
    """``run`` returns the exit status. Everything that needs root has been done before."""

    def __init__(self, parts: Parts, *, successor: bool) -> None:
        """``successor``: another program serves until this one is ready."""
        self._parts = parts
        self._successor = successor
        self._loaded = False
        self._liveness = Liveness(time.monotonic())
        self._silence = Silence()

    # The loop

    def run(self) -> int:
        parts = self._parts
        try:
            self._start()
            while parts.shutdown.status is None:
                now = time.monotonic()
                for key, events in parts.selector.select(parts.timers.pause(now)):
                    key.data(events)
                parts.timers.run(time.monotonic())
            return parts.shutdown.status
        finally:
            parts.control.close()

    def _start(self) -> None:
        parts = self._parts
        logs.tell_warnings("supervisor", parts.board.written)
        if not self._successor:
            parts.control.open()
        warm_up()
        gc.freeze()  # what exists now stays shared with the children instead of being copied
        gc.enable()
        if certifier.has_any(parts.generations.serving.config):
            parts.spawner.start_certifier()
            parts.timers.at(time.monotonic() + _LOADED_WITHIN, self._on_loaded)
            if parts.generations.serving.config.cluster is not None and not self._successor:
                parts.lifecycle.starting = True
                parts.timers.at(time.monotonic() + _HEARD_WITHIN, self._on_heard)
        else:
            self._on_loaded()
        parts.timers.at(time.monotonic() + EVERY, self._beat)
        # Once clients are served: 20 ms, in which this process hears nobody.
        parts.timers.at(time.monotonic() + _CODE_KEPT_AFTER, own_code.keep)

    def on_signal(self, number: int) -> None:
        parts = self._parts
        passed_on = number != signal.SIGCHLD and parts.succession.pass_on(number)
        if passed_on and number not in _ENDING:
            return
        match number:
            case signal.SIGCHLD:
                for child, how in parts.processes.reap():
                    self._on_exit(child, how)
            case _ if parts.lifecycle.retired and number not in _ENDING:
                log.info("%s ignored: the successor serves", signal.Signals(number).name)
            case signal.SIGTERM | signal.SIGINT:
                parts.operations.stop(signal.Signals(number).name)
            case signal.SIGHUP:
                parts.spawner.reopen_log(parts.generations.serving.config)
                parts.operations.reload_by_signal()
            case signal.SIGUSR1:
                parts.spawner.reopen_log(parts.generations.serving.config)
            case _:
                parts.operations.upgrade_by_signal()

    # Children

    def _on_loaded(self) -> None:
        """The certifier has read the store (or takes too long): the workers may start."""
        if not self._loaded and not self._parts.lifecycle.stopping:
            self._loaded = True
            self._parts.spawner.start_workers(self._parts.generations.serving)

    def _on_heard(self) -> None:
        """The certifier knows the cluster's challenges (or takes too long): clients may come."""
        self._parts.lifecycle.starting = False

    def _on_exit(self, child: Child, how: int) -> None:
        parts = self._parts
        for part in (parts.deliveries, parts.self_check, parts.on_demand, parts.overview):
            part.ended(child)
        parts.alerting.ended(child, how)
        parts.containers.ended(child, how)
        parts.spawner.ended(child)
        if child.role is EXPORTER:
            parts.overview.exporter_ended()
        if child.role is CERTIFIER:
            parts.registry.certifier_ended(rests=parts.spawner.certifier_rests)
            parts.requests.certifier_ended()
        if parts.lifecycle.stopping:
            parts.shutdown.finish_if_empty()
        elif parts.lifecycle.retired:
            if child.role is WORKER:
                parts.reloader.ended(child, how)
            parts.shutdown.finish_if_empty()
        else:
            self._follow_up(child, how)

    def _follow_up(self, child: Child, how: int) -> None:
        """Start another child in the place of one that has ended, where its role says so."""
        parts = self._parts
        match child.role.restart:
            case "always":
                if child.state == "draining" and child.role is CERTIFIER:
                    parts.spawner.start_certifier()
                elif child.state == "draining":
                    parts.spawner.start_exporter()
                else:
                    self._replace(child, how)
            case "with its generation":
                generation = parts.generations.find(child.generation)
                if generation is not None and generation.state == "serving":
                    self._replace(child, how)
                else:
                    parts.reloader.ended(child, how)
            case "never":
                pass
            case _:
                assert_never(child.role.restart)

    def _replace(self, child: Child, how: int) -> None:
        self._parts.overview.crashed(child, describe_exit(how))
        self._parts.spawner.replace(child, how)

    def _beat(self) -> None:
        """Ask every worker how it is, and kill each child that hangs, for another to start."""
        parts = self._parts
        now = time.monotonic()
        self._liveness.beat(now)
        for child in parts.processes:
            allowed = child.role.patience(starting=child.state == "starting")
            if self._liveness.is_hung(child.heard, allowed, now):
                log.error("%s (pid %d) does not answer any more", child.title, child.pid)
                parts.processes.kill(child)
            elif child.role is WORKER:
                parts.processes.tell_worker(child, AskStats(counting=parts.overview.counting))
        if parts.generations.serving.config.cluster is not None:
            heard = now - parts.overview.certifier_silent()
            parts.registry.hush(on=self._silence.beat(heard, now))
        if parts.spawner.certifier_rests:
            parts.overview.heard_certifier()  # its silence is no sign of anything
        parts.board.beat(now)
        parts.self_check.beat(now)
        parts.notifier.watchdog()
        if not parts.operations.busy:
            serving = parts.generations.serving
            parts.alerting.look(serving.config, serving.number)
            parts.containers.look(serving.config, serving.number)
            if not parts.reloader.follow_disk():
                parts.reloader.renew_ticket_keys(now)
        parts.timers.at(now + EVERY, self._beat)

    def exited_elsewhere(self, pid: int, status: int) -> None:
        self._parts.succession.exited(pid, status)

    # What children say

    def hear(self, child: Child, said: JsonObject, fds: list[int]) -> None:
        match child.role.name:
            case "worker":
                self._hear_worker(child, FROM_WORKER.decode(said, len(fds)))
            case "certifier":
                self._hear_certifier(child, FROM_CERTIFIER.decode(said, len(fds)), fds)
            case "docker":
                self._hear_docker(child, FROM_DOCKER.decode(said, len(fds)))
            case "messenger":
                self._parts.alerting.heard(child, FROM_MESSENGER.decode(said, len(fds)))
            case "exporter":
                child.heard = time.monotonic()
                if child.state == "starting":
                    child.state, child.served = "serving", child.heard
                self._parts.overview.heard_exporter(FROM_EXPORTER.decode(said, len(fds)))
            case _:
                assert_never(child.role.name)

    def _hear_worker(self, child: Child, message: FromWorker) -> None:
        parts = self._parts
        child.heard = time.monotonic()
        match message:
            case Ready():
                child.served = child.heard
                if not parts.lifecycle.stopping:
                    parts.reloader.ready(child)
            case Acknowledged(ticket):
                parts.deliveries.acknowledged(child, ticket)
            case CannotServe(ticket, why):
                parts.deliveries.acknowledged(child, ticket, why)
            case NotTaken(ticket):
                parts.deliveries.not_taken(child, ticket)
            case ProbeResult():
                parts.self_check.result(child, message)
            case WantCertificate():
                parts.on_demand.wanted(child, message)
            case CertificateUsed():
                parts.on_demand.used(message)
            case AskOverview(number):
                parts.board.send(child, number)
            case Stats(stats):
                parts.overview.heard_worker(child, stats)
            case AskAdmin():
                parts.admin_questions.ask(child, message)
            case Warned(warned):
                parts.board.warned(warned)
            case _:
                assert_never(message)

    def _hear_certifier(self, child: Child, message: FromCertifier, fds: list[int]) -> None:
        parts = self._parts
        match message:
            case Alive():
                child.heard = time.monotonic()
                parts.overview.heard_certifier()
            case Loaded():
                child.served = time.monotonic()
                parts.registry.loaded()
                self._on_loaded()
                parts.on_demand.certifier_ready()
            case Idle():
                if not parts.requests.waiting and not parts.lifecycle.stopping:
                    parts.spawner.rest_certifier()
            case CertifierAnswer():
                parts.requests.answered(message)
            case Publish():
                parts.registry.publish(child, message, fds.pop(0))
            case Present():
                parts.registry.present(child, message, fds.pop(0) if fds else None)
                if parts.registry.has_heard:
                    self._on_heard()
            case Retract():
                parts.registry.retract(message)
            case Report(name, status):
                parts.registry.report(name, status)
            case ReportCluster(cluster):
                parts.registry.cluster = cluster
            case ReportEngine(figures):
                parts.registry.engine.reported(figures)
            case Warned(warned):
                parts.board.warned(warned)
            case Truncated(ticket):
                log.error("no descriptor is left for what the certifier sends; it sends it again")
                if ticket is not None:
                    parts.processes.tell_certifier(child, NotTaken(ticket))
            case _:
                assert_never(message)

    def _hear_docker(self, child: Child, message: FromDocker) -> None:
        child.heard = time.monotonic()
        match message:
            case Alive():
                pass
            case ContainersSeen():
                self._parts.containers.seen(child, message)
            case _:
                assert_never(message)
