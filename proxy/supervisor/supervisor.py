"""The supervisor: owns the listening sockets, the children and the control socket.

It speaks no HTTP, loads no certificate key and runs no event loop: a plain `selectors` loop, in
which signal handlers only enqueue, so that forking is safe at every turn. What it knows it gives to
a child at birth: a worker is forked with the certificates, the pending challenges and the
configuration of its generation already in its memory, and needs no conversation before it serves.

A *generation* is one configuration with its TLS base context and its workers. A reload builds the
next one beside the present one; when all its workers are ready the old ones drain. Until that
moment a failure leaves everything as it was.

It is hard because every step can be overtaken by a death. The rule that keeps it simple: a child's
end is handled in one place (`_on_exit`), and whatever waits for children (`Announcements`, a
generation's start, a status) is settled there too.
"""

from __future__ import annotations

import gc
import logging
import selectors
import signal
import time
from collections.abc import Callable
from typing import Any

from .. import certifier
from ..channel import Channel, Message
from ..config.faults import ConfigurationFaults
from ..config.model import Config
from ..config.units import spell_duration
from ..listeners import CannotBind, Listener, open_listeners
from ..own_certificates import CertificateUnusable, OwnCertificates
from ..rate_limit import Buckets
from ..systemd import Notifier
from ..worker import worker
from ..worker.birth import Birth
from . import plan
from .alerting import Alerting
from .announcements import Announcements
from .backoff import Backoff
from .control_socket import ControlSocket, Reply
from .generations import DRAINING_MOST, Generation, Generations
from .heartbeats import EVERY, Heartbeats
from .knocking import Knocking
from .on_demand import OnDemand
from .overview import Overview
from .processes import Child, Processes, describe_exit
from .schedule import Schedule
from .self_check import SelfCheck
from .signal_socket import SignalSocket
from .succession import Succession
from .upgrade import CannotUpgrade, Estate, Program

log = logging.getLogger("treehouse.supervisor")

# A new generation that is not ready by then is given up; the old one goes on.
_READY_WITHIN = 30.0
# The certifier reads the store before the first worker starts; a slow disk must not keep the
# door shut for ever.
_LOADED_WITHIN = 10.0
# RFC 8446 §4.6.1 lets a ticket live for a week; who gets hold of its key reads all of them. Keys
# come with a generation, and it is followed by one with the same configuration after that long.
_TICKET_KEYS_FOR = 20 * 3600.0
# Beyond the workers' own bound on what is under way; after that they are killed.
_STOP_MARGIN = 2.0
_BUSY = "busy: starting, reloading, upgrading or stopping already"
_ENDING = (signal.SIGTERM, signal.SIGINT)


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
        own_certificates: list[tuple[Message, int]],
        own: OwnCertificates,
        notifier: Notifier,
        program: Program,
        started_as: int,
        sandbox: str,
        estate: Estate | None,
    ) -> None:
        self._notifier = notifier
        self._read = read
        self._reread = reread
        self._disk_changed = disk_changed
        self._open_access_log = open_access_log
        self._access_log = access_log
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
        for facts, bundle in own_certificates:
            self._announcements.certificate(facts, bundle)
        self._generations = Generations(config, listeners, estate.generation if estate else 0)
        self._overview = Overview(
            self._processes, self._announcements, self._generations, self._schedule
        )
        self._overview.on_demand = self._on_demand.outcomes
        self._knocking = Knocking(self._announcements, self._schedule)
        self._alerting = Alerting(
            self._processes,
            self._schedule,
            self._announcements.statuses,
            self._overview.certifier_silent,
        )
        self._buckets = Buckets()  # one table for all generations
        self._certifying: object = None  # what the certifier was born with
        self._loaded = False
        self._stopping = False
        self._outcome = 0  # the exit status, once all children are gone
        self._status: int | None = None
        self._backoff = Backoff()
        self._heartbeats = Heartbeats(time.monotonic())
        self._reloading: Reply | None = None
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
        self._upgraded: Reply | None = None
        self._processes.on_other = self._succession.exited
        signals = SignalSocket(self._selector, self._on_signal)
        self._processes.private += [
            signals.close_descriptors,
            self._succession.close_descriptors,
        ]
        self._warned_of_hsts: float | None = None
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
        self._control = ControlSocket(path, self._selector, self._schedule, self._on_command)
        self._processes.private.append(self._control.close_descriptors)

    def _start(self) -> None:
        gc.freeze()  # what exists now stays shared with the children instead of being copied
        self._start_certifier()
        self._schedule.at(time.monotonic() + _LOADED_WITHIN, self._on_loaded)
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
                self._reload("SIGHUP", None)
            case signal.SIGUSR1:
                self._reopen_logs()
            case _:
                self._upgrade("SIGUSR2", None)

    # Children

    @property
    def _serving(self) -> Generation:
        return self._generations.serving

    def _start_certifier(self) -> None:
        """Not while a successor is on its way: two certifiers would be at the same work."""
        if self._succession.upgrading or self._succession.retired or self._processes.certifier():
            return
        newest = self._generations.newest
        self._certifying = certifier.needs(newest.config)

        def run(channel: Channel) -> int:
            return certifier.run(newest.config, channel)

        self._processes.fork("certifier", newest.number, 0, run)

    def _start_worker(self, generation: Generation, number: int) -> None:
        birth = Birth(
            number=number,
            config=generation.config,
            base=generation.base,
            listeners=generation.listeners,
            certificates=self._announcements.certificates(),
            challenges=self._announcements.challenges(),
            access_log=self._access_log,
            buckets=self._buckets,
        )
        self._processes.fork(
            "worker", generation.number, number, lambda channel: worker.run(birth, channel)
        )

    def _start_workers(self, generation: Generation) -> None:
        for number in range(1, generation.config.workers + 1):
            self._start_worker(generation, number)

    def _on_loaded(self) -> None:
        """The certifier has read the store (or takes too long): the workers may start."""
        if not self._loaded and not self._stopping:
            self._loaded = True
            self._start_workers(self._serving)

    def _on_ready(self, child: Child) -> None:
        child.state = "serving"
        generation = self._generations.find(child.generation)
        if generation is None or generation.state != "starting":
            return
        workers = self._processes.workers(generation.number)
        serving = [one for one in workers if one.state == "serving"]
        if len(serving) >= generation.config.workers:
            self._on_generation_ready(generation)

    def _config_of(self, child: Child) -> Config | None:
        generation = self._generations.find(child.generation)
        return generation.config if generation is not None else None

    def _on_exit(self, child: Child, how: int) -> None:
        self._announcements.settle(child.pid)
        self._self_check.ended(child.pid)
        self._on_demand.ended(child.pid)
        self._overview.ended(child)
        self._alerting.ended(child, how)
        if self._stopping:
            self._finish_if_empty()
        elif child.role == "certifier":
            self._announcements.certifier_ended()
            if child.state == "draining":
                self._start_certifier()
            else:
                self._restart(child, how, self._start_certifier)
        elif child.role == "worker":
            self._on_worker_exit(child, how)

    def _on_worker_exit(self, child: Child, how: int) -> None:
        generation = self._generations.find(child.generation)
        if generation is None or generation.state == "draining":
            log.info("%s of generation %d has finished", child.title, child.generation)
            self._end_generation_if_empty(child.generation)
            if self._succession.retired:
                self._finish_if_empty()
        elif generation.state == "starting":
            log.error("%s %s before it was ready", child.title, describe_exit(how))
            self._give_up(generation)
        else:
            self._restart(child, how, lambda: self._start_worker(generation, child.number))

    def _restart(self, child: Child, how: int, start: Callable[[], None]) -> None:
        lived = time.monotonic() - child.born
        pause = self._backoff.pause((child.role, child.number), lived)
        said = describe_exit(how)
        log.error("%s (pid %d) %s; another starts in %.2g s", child.title, child.pid, said, pause)
        generation = self._generations.find(child.generation)

        def replace() -> None:
            wanted = generation is None or generation.state == "serving"
            if wanted and not self._stopping:
                start()

        self._schedule.at(time.monotonic() + pause, replace)

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
                self._processes.send(child, {"type": "stats"})
        self._notifier.watchdog()
        if not self._busy():
            self._alerting.look(self._serving.config, self._serving.number)
            why = self._disk_changed()
            if why is not None:
                self._reload(why, None)
            elif now - self._serving.born > _TICKET_KEYS_FOR:
                log.info("new ticket keys: the next generation has the same configuration")
                self._reloading = lambda _answer: None
                self._follow(self._serving.config, self._serving.listeners)
        self._schedule.at(now + EVERY, self._beat)

    # What children say

    def _hear(self, child: Child, message: Message, fds: list[int]) -> None:
        kind = message["type"]
        if child.role == "worker":
            self._hear_worker(child, kind, message)
        elif child.role == "messenger":
            self._alerting.heard(child, message)
        elif kind == "pass":
            child.heard = time.monotonic()
            self._overview.heard_certifier()
        elif kind == "loaded":
            self._announcements.loaded()
            self._on_loaded()
            self._on_demand.certifier_ready()
        elif kind == "answer":
            self._announcements.answered(message)
        else:
            self._announcements.hear(child, kind, message, fds)

    def _hear_worker(self, child: Child, kind: str, message: Message) -> None:
        child.heard = time.monotonic()
        match kind:
            case "ready":
                self._on_ready(child)
            case "ack":
                self._announcements.acknowledged(child.pid, message["ticket"])
            case "seen":
                self._self_check.seen(child, message)
            case "wanted" | "used":
                self._on_demand.hear(child, kind, message["name"])
            case "overview":
                self._overview.send(child, message["number"])
            case "stats":
                self._overview.heard_worker(child, message["stats"])

    # Generations

    def _on_generation_ready(self, generation: Generation) -> None:
        generation.state = "serving"
        for older in self._generations.before(generation):
            if certifier.needs(generation.config) != self._certifying:
                self._renew_certifier()
            self._drain(older)
        sites = {site.names[0] for site in generation.config.sites}
        self._announcements.keep_files(self._own.names | sites)
        self._warn_of_hsts(generation.config)
        ways = ", ".join(one.address for one in generation.listeners)
        log.info("serving on %s with %d workers", ways, generation.config.workers)
        if self._control is None:
            self._open_control()
            self._succession.ready()
        self._notifier.ready()
        self._notifier.status(f"serving {len(generation.config.sites)} sites on {ways}")
        if self._reloading is not None:
            self._answer_reload({"ok": True, "generation": generation.number})

    def _warn_of_hsts(self, config: Config) -> None:
        """Once for each length of time: it is the one setting that stays when it is taken out."""
        hsts = config.tls.hsts
        if hsts is not None and hsts.max_age != self._warned_of_hsts:
            log.warning(
                "tls.hsts: whoever comes now will refuse these names without HTTPS, or with a "
                "certificate that is not trusted, for %s, also when the key is taken out again",
                spell_duration(hsts.max_age),
            )
            self._warned_of_hsts = hsts.max_age

    def _drain(self, generation: Generation) -> None:
        generation.state = "draining"
        for child in self._processes.workers(generation.number):
            child.state = "draining"
            self._processes.send(child, {"type": "drain"})
        for listener in self._generations.close_sockets_of(generation, self._generations.newest):
            log.info("no longer listening on %s", listener.address)
        for oldest in self._generations.too_many:
            log.warning("generation %d still drains after %d reloads; it is ended",
                        oldest.number, DRAINING_MOST)  # fmt: skip
            for child in self._processes.workers(oldest.number):
                self._processes.send(child, {"type": "stop"})
        self._end_generation_if_empty(generation.number)

    def _end_generation_if_empty(self, number: int) -> None:
        generation = self._generations.find(number)
        if generation is None or generation.state != "draining" or self._succession.retired:
            return
        if not self._processes.workers(number):
            self._generations.remove(generation)

    def _give_up(self, generation: Generation) -> None:
        """A generation that cannot start: the first one ends the program, a later one itself."""
        if len(self._generations) == 1:
            self._outcome = 1
            self._stopping = True
            self._kill_all()
            return
        self._generations.remove(generation)
        for child in self._processes.workers(generation.number):
            child.state = "draining"
            self._processes.kill(child)
        self._generations.close_sockets_of(generation, self._serving)
        log.error("the new configuration could not be started; the old one goes on")
        self._answer_reload({"ok": False, "error": "the new workers did not start; see the log"})

    def _busy(self) -> bool:
        """Whether something is under way that a reload or an upgrade would get in the way of."""
        return (
            self._stopping
            or self._reloading is not None
            or self._succession.upgrading
            or self._serving.state != "serving"
        )

    def _reload(self, why: str, reply: Reply | None) -> None:
        answer = reply or (lambda _answer: None)
        if self._busy():
            answer({"ok": False, "error": _BUSY})
            return
        log.info("reloading: %s", why)
        self._notifier.reloading()
        self._reloading = answer
        present = self._serving
        try:
            config = self._reread()
            listeners = open_listeners(config.listen, present.listeners, config.admin)
            certificates = self._own.read(config)
        except (ConfigurationFaults, CannotBind, CertificateUnusable) as error:
            for line in str(error).splitlines():
                log.error("%s", line)
            log.error("the configuration on disk is not usable; nothing was changed")
            self._answer_reload({"ok": False, "error": str(error)})
            self._notifier.ready()
            return
        for facts, bundle in certificates:
            self._announcements.certificate(facts, bundle)
        self._follow(config, listeners)

    def _follow(self, config: Config, listeners: tuple[Listener, ...]) -> None:
        """Start the next generation beside the present one."""
        generation = self._generations.add(config, listeners)
        self._start_workers(generation)
        self._schedule.at(time.monotonic() + _READY_WITHIN, lambda: self._too_late(generation))

    def _renew_certifier(self) -> None:
        """A certifier is born with its settings and its sandbox; other ones need another."""
        present = self._processes.certifier()
        if present is not None:
            present.state = "draining"
            self._processes.send(present, {"type": "command", "verb": "stop"})

    def _too_late(self, generation: Generation) -> None:
        if generation.state == "starting" and generation in self._generations:
            log.error("generation %d was not ready in time", generation.number)
            self._give_up(generation)

    def _answer_reload(self, answer: dict[str, Any]) -> None:
        self._overview.reloaded(answer["ok"])
        reply, self._reloading = self._reloading, None
        if reply is not None:
            reply(answer)

    # Upgrade

    def _upgrade(self, why: str, reply: Reply | None) -> None:
        answer = reply or (lambda _answer: None)
        if self._busy():
            answer({"ok": False, "error": _BUSY})
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
            answer({"ok": False, "error": str(error)})
            return
        self._upgraded = answer
        self._renew_certifier()

    def _on_upgrade_settled(self, error: str | None) -> None:
        answer, self._upgraded = self._upgraded, None
        pid = self._succession.pid
        if error is not None:
            log.error("%s; this one goes on", error)
            if self._processes.certifier() is None:
                self._start_certifier()
        else:
            log.info("process %s has taken over; finishing what is under way", pid)
            if pid is not None:
                self._notifier.main_pid(pid)
            self._retire()
        if answer is not None:
            answer({"ok": error is None, "error": error, "pid": pid})

    def _retire(self) -> None:
        """The successor accepts from the same sockets; nobody new comes to us."""
        for generation in self._generations:
            generation.state = "draining"
            for listener in generation.listeners:
                listener.sock.close()
        for child in self._processes.workers():
            child.state = "draining"
            self._processes.send(child, {"type": "drain"})
        self._finish_if_empty()

    def _on_successor_ended(self, status: int) -> None:
        self._outcome = status if 0 <= status < 128 else 1  # 128 and more is a shell's for signals
        self._end("the successor has ended")

    def _end(self, why: str) -> None:
        """Stop, and only once: what a second SIGTERM means is for people to say."""
        if not self._stopping:
            self._stop(why)
        self._finish_if_empty()

    # Logs, status, commands, the end

    def _reopen_logs(self) -> None:
        try:
            fd = self._open_access_log(self._serving.config)
        except OSError as error:
            log.error("the access log could not be opened again: %s", error.strerror)
            return
        if fd is None:
            return
        self._access_log = fd
        for child in self._processes.workers():
            self._processes.send(child, {"type": "log"}, (fd,))
        log.info("logs reopened")

    def _on_command(self, request: dict[str, Any], reply: Reply) -> None:
        match request.get("command"):
            case "status":
                self._overview.ask(reply)
            case "reload":
                self._reload("asked on the control socket", reply)
            case "upgrade":
                self._upgrade("asked on the control socket", reply)
            case "plan":
                self._plan(reply)
            case "knock":
                self._knocking.begin(request, self._serving.config, reply)
            case "stop":
                self._stop("asked on the control socket")
                reply({"ok": True})
            case (
                "renew" | "revoke" | "roll_account_key" | "refusal" | "look" | "dns_persist"
            ) as verb:
                certifying = self._processes.certifier()
                if certifying is None:
                    reply({"ok": False, "error": "the certifier is being restarted; ask again"})
                else:
                    self._announcements.ask(certifying, verb, request, reply)
            case other:
                reply({"ok": False, "error": f"unknown command {other!r}"})

    def _plan(self, reply: Reply) -> None:
        """What a reload would change; nothing is changed by asking."""
        try:
            config = self._read()
        except ConfigurationFaults as error:
            reply({"ok": False, "error": str(error)})
            return
        certified = frozenset(
            (frozenset(one["names"]), one["directory"], one["key_type"])
            for one in self._announcements.statuses()
            if one["served"]
        )
        found = plan.changes(self._serving.config, config, certified)
        orders = [one for one, _key in plan.orders(config, certified) if not one.internal]
        certifying = self._processes.certifier()
        if not orders or certifying is None:
            reply({"ok": True, "changes": found})
            return
        value = {config.acme.directory: [list(one.names) for one in orders]}
        self._announcements.ask(
            certifying,
            "costs",
            {"value": value},
            lambda told: reply({"ok": True, "changes": [*found, *told.get("costs", ())]}),
        )

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
                self._processes.send(child, {"type": "command", "verb": "stop"})
            elif child.role == "worker":
                self._processes.send(child, {"type": "stop"})
        self._alerting.stop()
        for generation in self._generations:
            for listener in generation.listeners:
                listener.sock.close()
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
