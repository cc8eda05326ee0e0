"""The supervisor's loop: children are heard and missed, signals and commands come in.

It speaks no HTTP, loads no certificate key and runs no event loop: a plain `selectors` loop, in
which signal handlers only enqueue, so that forking is safe at every turn.

What takes several steps has a file of its own: who is started, and started again (`births`), a
reload (`turnover`), an upgrade (`succession`), a change that every worker has to know
(`announcements`). Here they are tied together.

It is hard because every step can be overtaken by a death. The rule that keeps it simple: a child's
end is handled in one place (`_on_exit`), and whatever waits for children (`Announcements`, a
generation's start, a status) is settled there too.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import selectors
import signal
import time
from collections.abc import Callable
from typing import Any, assert_never

from ..certifier import process as certifier
from ..config.model import Config
from ..ipc.codec import JsonObject
from ..ipc.messages import (
    FROM_CERTIFIER,
    FROM_MESSENGER,
    FROM_WORKER,
    Acknowledged,
    Alive,
    AskOverview,
    AskStats,
    CertificateUsed,
    CertifierAnswer,
    CertifierCommand,
    FromCertifier,
    FromWorker,
    Loaded,
    Present,
    ProbeResult,
    Publish,
    Ready,
    Report,
    Retract,
    Stats,
    Stop,
    WantCertificate,
)
from ..system.certificate_files import LoadedCertificate, OwnCertificates
from ..system.listeners import Listener, try_listeners
from ..system.systemd import Notifier
from .alerts import Alerting
from .control.commands import Commands
from .control.overview import Overview
from .control.probe_tokens import Knocking
from .control.server import ControlSocket, Reply
from .liveness import EVERY, Heartbeats
from .log_file import AccessLog
from .on_demand import OnDemand
from .process_table import Child, Processes
from .registry import Announcements
from .reload import immutable
from .reload.generations import Generation, Generations
from .reload.reload import Turnover
from .self_check import SelfCheck
from .signals import SignalSocket
from .spawner import Births
from .timers import Schedule
from .upgrade.handoff import CannotUpgrade, Estate, Program
from .upgrade.succession import Succession

log = logging.getLogger("treehouse.supervisor")

# The certifier reads the store before the first worker starts; a slow disk must not keep the
# door shut for ever.
_LOADED_WITHIN = 10.0
# Beyond the workers' own bound on what is under way; after that they are killed.
_STOP_MARGIN = 2.0
_BUSY = "busy: starting, reloading, upgrading or stopping already"
_ENDING = (signal.SIGTERM, signal.SIGINT)


def _nobody_asked(_answer: dict[str, Any]) -> None:
    """What is begun by a signal or by the server itself has its answer in the log."""


def _log_refusal(what: str, answer: dict[str, Any]) -> None:
    if answer.get("error") == _BUSY:
        log.warning("%s: nothing was done: %s", what, _BUSY)


class Supervisor:
    """``run`` returns the exit status. Everything that needs root has been done before.

    ``read`` gives the configuration as it stands on disk now, or raises `ConfigurationFaults`;
    ``reread`` the same for a reload, after which ``disk_changed`` tells what differs from it.
    ``open_access_log`` gives a descriptor, or None where there is no access log.
    """

    def __init__(
        self,
        config: Config,
        listeners: tuple[Listener, ...],
        *,
        read: Callable[[], Config],
        reread: Callable[[], Config],
        disk_changed: Callable[[], str | None],
        open_access_log: Callable[[Config], int | None],
        access_log: int | None,
        own_certificates: list[LoadedCertificate],
        own: OwnCertificates,
        notifier: Notifier,
        program: Program,
        started_as: int,
        sandbox: str,
        estate: Estate | None,
    ) -> None:
        self._notifier = notifier
        self._disk_changed = disk_changed
        self._read = read
        self._reread = reread
        self._access_log = AccessLog(config, access_log, open_access_log)
        self._own = own
        self._started_as = started_as
        self._sandbox = sandbox
        self._selector = selectors.DefaultSelector()
        self._schedule = Schedule()
        self._processes = Processes(self._selector, self._hear)
        self._announcements = Announcements(self._processes)
        self._self_check = SelfCheck(
            self._processes, self._announcements, self._schedule, self._config_of
        )
        self._announcements.on_change = self._self_check.changed
        self._on_demand = OnDemand(self._processes, self._announcements)
        for certificate in own_certificates:
            self._announcements.from_files(certificate)
        self._generations = Generations(config, listeners, estate.generation if estate else 0)
        self._overview = Overview(
            self._processes, self._announcements, self._generations, self._schedule
        )
        self._overview.on_demand = self._on_demand.outcomes
        self._alerting = Alerting(
            self._processes,
            self._schedule,
            self._announcements.statuses,
            self._overview.certifier_silent,
        )
        self._births = Births(
            self._processes,
            self._announcements,
            self._generations,
            self._schedule,
            access_log=self._access_log,
            stopping=lambda: self._stopping,
            certifying=lambda: not (self._succession.upgrading or self._succession.retired),
        )
        self._loaded = False
        self._stopping = False
        self._outcome = 0  # the exit status, once all children are gone
        self._status: int | None = None
        self._heartbeats = Heartbeats(time.monotonic())
        self._reload_again = False  # somebody has asked for it while it could not be done
        self._turnover = Turnover(
            self._processes,
            self._announcements,
            self._generations,
            self._schedule,
            notifier,
            own,
            reread=self._read_anew,
            start=self._births.start_workers,
            in_force=self._on_generation_in_force,
            hopeless=self._on_hopeless,
            outcome=self._overview.reloaded,
        )
        self._succession = Succession(
            self._selector,
            self._schedule,
            program,
            estate,
            managed=notifier.sock is not None,
            settled=self._on_upgrade_settled,
            ended=self._on_successor_ended,
            superseded=self._end,
        )
        self._upgraded: Reply = _nobody_asked
        self._processes.on_other = self._succession.exited
        signals = SignalSocket(self._selector, self._on_signal)
        self._processes.closing += [
            signals.close_in_child,
            self._succession.close_in_child,
            self._generations.close_in_child,
            self._announcements.close_in_child,
            self._access_log.close_in_child,
            lambda *_: own.close(),
            lambda *_: notifier.close(),
        ]
        self._commands = Commands(
            self._processes,
            self._announcements,
            self._overview,
            Knocking(self._announcements, self._schedule),
            serving=lambda: self._serving.config,
            read=self._read_for_plan,
            reload=self._reload,
            upgrade=self._upgrade,
            stop=self._stop,
        )
        self._control: ControlSocket | None = None
        if estate is None:
            self._open_control()

    # The loop

    def run(self) -> int:
        try:
            self._start()
            while self._status is None:
                now = time.monotonic()
                for key, events in self._selector.select(self._schedule.pause(now)):
                    key.data(events)
                self._schedule.run(time.monotonic())
            return self._status
        finally:
            if self._control is not None:
                self._control.close()

    def _open_control(self) -> None:
        """A successor does so when it is ready: until then commands are its predecessor's."""
        path = self._serving.config.state / "control.sock"
        self._control = ControlSocket(path, self._selector, self._schedule, self._commands.hear)
        self._processes.closing.append(self._control.close_in_child)

    def _start(self) -> None:
        gc.freeze()  # what exists now stays shared with the children instead of being copied
        gc.enable()
        if certifier.has_any(self._serving.config):
            self._births.start_certifier()
            self._schedule.at(time.monotonic() + _LOADED_WITHIN, self._on_loaded)
        else:
            self._on_loaded()
        self._schedule.at(time.monotonic() + EVERY, self._beat)

    def _on_signal(self, number: int) -> None:
        passed_on = number != signal.SIGCHLD and self._succession.pass_on(number)
        if passed_on and number not in _ENDING:
            return
        match number:
            case signal.SIGCHLD:
                for child, how in self._processes.reap():
                    self._on_exit(child, how)
            case _ if self._succession.retired and number not in _ENDING:
                log.info("%s ignored: the successor serves", signal.Signals(number).name)
            case signal.SIGTERM | signal.SIGINT:
                self._stop(signal.Signals(number).name)
            case signal.SIGHUP:
                self._reload_or_remember()
            case signal.SIGUSR1:
                self._births.reopen_log(self._serving.config)
            case _:
                self._upgrade("SIGUSR2", lambda answer: _log_refusal("SIGUSR2", answer))

    # Children

    @property
    def _serving(self) -> Generation:
        return self._generations.serving

    def _on_loaded(self) -> None:
        """The certifier has read the store (or takes too long): the workers may start."""
        if not self._loaded and not self._stopping:
            self._loaded = True
            self._births.start_workers(self._serving)

    def _config_of(self, child: Child) -> Config | None:
        generation = self._generations.find(child.generation)
        return generation.config if generation is not None else None

    def _on_exit(self, child: Child, how: int) -> None:
        self._announcements.settle(child.pid)
        self._self_check.ended(child.pid)
        self._on_demand.ended(child.pid)
        self._overview.ended(child)
        self._alerting.ended(child, how)
        self._births.ended(child)
        if child.role == "certifier":
            self._announcements.certifier_ended()
        if self._stopping:
            self._finish_if_empty()
        elif self._succession.retired:
            if child.role == "worker":
                self._turnover.ended(child, how)
            self._finish_if_empty()
        elif child.role == "certifier":
            if child.state == "draining":
                self._births.start_certifier()
            else:
                self._births.replace(child, how)
        elif child.role == "worker":
            generation = self._generations.find(child.generation)
            if generation is not None and generation.state == "serving":
                self._births.replace(child, how)
            else:
                self._turnover.ended(child, how)

    def _beat(self) -> None:
        """Ask every worker how it is; end whoever has stopped answering, for another to start."""
        now = time.monotonic()
        self._heartbeats.beat(now)
        for child in self._processes:
            starting = child.state == "starting"
            if self._heartbeats.hangs(child.role, starting, child.heard, now):
                log.error("%s (pid %d) does not answer any more", child.title, child.pid)
                self._processes.kill(child)
            elif child.role == "worker":
                self._processes.tell_worker(child, AskStats())
        self._notifier.watchdog()
        if not self._busy():
            self._alerting.look(self._serving.config, self._serving.number)
            again, self._reload_again = self._reload_again, False
            why = "SIGHUP" if again else self._disk_changed()
            if why is not None:
                self._turnover.reload(why, _nobody_asked)
            else:
                self._turnover.renew_ticket_keys(now)
        self._schedule.at(now + EVERY, self._beat)

    # What children say

    def _hear(self, child: Child, said: JsonObject, fds: list[int]) -> None:
        match child.role:
            case "worker":
                self._hear_worker(child, FROM_WORKER.decode(said, len(fds)))
            case "certifier":
                self._hear_certifier(child, FROM_CERTIFIER.decode(said, len(fds)), fds)
            case "messenger":
                self._alerting.heard(child, FROM_MESSENGER.decode(said, len(fds)))
            case _:
                assert_never(child.role)

    def _hear_worker(self, child: Child, message: FromWorker) -> None:
        child.heard = time.monotonic()
        match message:
            case Ready():
                if not self._stopping:
                    self._turnover.ready(child)
            case Acknowledged(ticket):
                self._announcements.acknowledged(child.pid, ticket)
            case ProbeResult():
                self._self_check.seen(child, message)
            case WantCertificate():
                self._on_demand.wanted(child, message)
            case CertificateUsed():
                self._on_demand.used(message)
            case AskOverview(number):
                self._overview.send(child, number)
            case Stats(stats):
                self._overview.heard_worker(child, stats)
            case _:
                assert_never(message)

    def _hear_certifier(self, child: Child, message: FromCertifier, fds: list[int]) -> None:
        match message:
            case Alive():
                child.heard = time.monotonic()
                self._overview.heard_certifier()
            case Loaded():
                self._announcements.loaded()
                self._on_loaded()
                self._on_demand.certifier_ready()
            case CertifierAnswer():
                self._announcements.answered(message)
            case Publish():
                self._announcements.publish(child, message, fds.pop(0))
            case Present():
                self._announcements.present(child, message, fds.pop(0) if fds else None)
            case Retract():
                self._announcements.retract(message)
            case Report(name, status):
                self._announcements.report(name, status)
            case _:
                assert_never(message)

    # Reload

    def _busy(self) -> bool:
        """Whether something is under way that a reload or an upgrade would get in the way of."""
        return self._stopping or self._turnover.under_way or self._succession.upgrading

    def _read_for_plan(self) -> Config:
        """What a reload would read. Raises what it would be refused for, and changes nothing."""
        wanted = self._read()
        try_listeners(wanted.listen, self._serving.listeners, wanted.admin)
        self._own.examine(wanted)
        return wanted

    def _read_anew(self) -> Config:
        present, wanted = self._serving.config, self._reread()
        for difference in immutable.differences(present, wanted):
            log.warning("%s; until then it stays as it is", difference)
        return immutable.kept(present, wanted)

    def _reload_or_remember(self) -> None:
        """Nobody hears an answer to a signal; and what is under way has read the file as it was."""
        if not self._busy() or self._stopping:
            self._reload("SIGHUP", _nobody_asked)
        elif not self._reload_again:
            self._reload_again = True
            log.info("SIGHUP: the configuration is read once more when what is under way is over")

    def _reload(self, why: str, reply: Reply) -> None:
        if self._busy():
            reply({"ok": False, "error": _BUSY})
        else:
            self._turnover.reload(why, reply)

    def _on_generation_in_force(self, generation: Generation) -> None:
        self._births.renew_certifier_for(generation)
        self._births.start_certifier()  # at the start it comes second where nobody waits for it
        if self._control is None:
            self._open_control()
            self._succession.ready()

    def _on_hopeless(self) -> None:
        self._outcome = 1
        self._stopping = True
        self._kill_all()

    # Upgrade

    def _upgrade(self, why: str, reply: Reply) -> None:
        if self._busy():
            reply({"ok": False, "error": _BUSY})
            return
        log.info("upgrading to the program now on disk: %s", why)
        serving = self._serving
        estate = Estate(
            generation=serving.number,
            started_as=self._started_as,
            sandbox=self._sandbox,
            listeners=serving.listeners,
            certificates=self._own.present,
            manager=self._notifier.sock,
            keeper=self._succession.keeper,
        )
        try:
            self._succession.begin(estate)
        except CannotUpgrade as error:
            log.error("%s; nothing was changed", error)
            reply({"ok": False, "error": str(error)})
            return
        self._upgraded = reply
        self._births.end_certifier()

    def _on_upgrade_settled(self, error: str | None) -> None:
        reply, self._upgraded = self._upgraded, _nobody_asked
        pid = self._succession.pid
        if error is not None:
            log.error("%s; this one goes on", error)
            self._births.start_certifier()
        else:
            log.info("process %s has taken over; finishing what is under way", pid)
            if pid is not None:
                self._notifier.main_pid(pid)
                if self._reload_again:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGHUP)
            self._turnover.retire()
            self._finish_if_empty()
        reply({"ok": error is None, "error": error, "pid": pid})

    def _on_successor_ended(self, status: int) -> None:
        self._outcome = status if 0 <= status < 128 else 1  # 128 and more is a shell's for signals
        self._end("the successor has ended")

    def _end(self, why: str) -> None:
        """Stop, and only once: what a second SIGTERM means is for people to say."""
        if not self._stopping:
            self._stop(why)
        self._finish_if_empty()

    # The end

    def _stop(self, why: str) -> None:
        if self._stopping:
            log.warning("stopping at once: %s", why)
            self._kill_all()
            return
        self._stopping = True
        log.info("stopping: %s", why)
        if not self._succession.retired:
            self._notifier.stopping()
        limit = self._serving.config.limits.shutdown_timeout
        for child in self._processes:
            if child.role == "certifier":
                self._processes.tell_certifier(child, CertifierCommand("stop"))
            elif child.role == "worker":
                self._processes.tell_worker(child, Stop())
        self._alerting.stop()
        self._generations.close_sockets()
        self._schedule.at(time.monotonic() + limit + _STOP_MARGIN, lambda: self._stop("time is up"))
        self._finish_if_empty()

    def _kill_all(self) -> None:
        for child in self._processes:
            self._processes.kill(child)
        self._finish_if_empty()

    def _finish_if_empty(self) -> None:
        if not len(self._processes) and self._status is None and not self._succession.keeping:
            log.info("stopped")
            self._status = self._outcome
