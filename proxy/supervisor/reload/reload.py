"""From one generation to the next: a reload, in whatever way it ends.

A reload builds the next generation beside the present one: configuration, listeners, ticket keys,
workers. When all of these are ready it is *in force*, and the ones before it drain. Whatever comes
before that, a fault in the configuration, a port that cannot be bound, a worker that dies, thirty
seconds without an answer, leaves the present one as it was. There is one turnover at a time, and
one answer to whoever asked for it.

It is hard because workers die whenever they like: before they were ready, while they drain, after
their generation was given up. Each end comes here once (`ended`), unless another worker is to take
the dead one's place, which is the supervisor's to do.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from ...config.model import Config
from ...config.syntax.faults import ConfigurationFaults
from ...config.syntax.units import spell_duration
from ...exit_status import CANNOT_BIND, USAGE
from ...ipc.messages import Drain, Stop
from ...log import Composed
from ...system.certificate_files import CertificateUnusable, LoadedCertificate, OwnCertificates
from ...system.listeners import CannotBind, Listener, open_listeners
from ...system.systemd import Notifier
from ..control.server import Reply
from ..process_table import Child, Processes, describe_exit
from ..registry import Announcements
from ..timers import Schedule
from .generations import DRAINING_MOST, Generation, Generations

log = logging.getLogger("treehouse.supervisor")

# Seconds; a new generation that is not ready by then is given up, and the old one goes on.
_READY_WITHIN = 30.0
# RFC 8446 §4.6.1 lets a ticket live for a week; who gets hold of its key reads all of them. Keys
# come with a generation, and it is followed by one with the same configuration after that long.
_TICKET_KEYS_FOR = 20 * 3600.0


class Turnover:
    """``reread`` gives the configuration on disk or raises `ConfigurationFaults`. ``start`` forks a
    generation's workers; ``in_force`` is called when all of them serve, before anybody is answered;
    ``hopeless`` when the first generation cannot be started, and there is none to go back to;
    ``outcome`` with how each reload went."""

    def __init__(
        self,
        processes: Processes,
        announcements: Announcements,
        generations: Generations,
        schedule: Schedule,
        notifier: Notifier,
        own: OwnCertificates,
        *,
        reread: Callable[[], Config],
        start: Callable[[Generation], None],
        in_force: Callable[[Generation], None],
        hopeless: Callable[[], None],
        outcome: Callable[[bool], None],
    ) -> None:
        self._processes = processes
        self._announcements = announcements
        self._generations = generations
        self._schedule = schedule
        self._notifier = notifier
        self._own = own
        self._reread = reread
        self._start = start
        self._in_force = in_force
        self._hopeless = hopeless
        self._outcome = outcome
        self._reply: Reply | None = None  # while there is one under way
        self._retired = False
        self._warned_of_hsts: float | None = None

    @property
    def under_way(self) -> bool:
        return self._reply is not None or self._generations.serving.state != "serving"

    # The next one

    def reload(self, why: str, reply: Reply) -> None:
        """Follow what is on disk now. Nothing else may be under way."""
        log.info("reloading: %s", why)
        self._notifier.reloading()
        self._reply = reply
        try:
            config, listeners, certificates = self._prepare()
        except (ConfigurationFaults, CannotBind, CertificateUnusable) as error:
            whole = isinstance(error, CannotBind)  # advice in lines; faults have a line each
            for text in [str(error)] if whole else str(error).splitlines():
                log.error("%s", Composed(text))
            log.error("the configuration on disk is not usable; nothing was changed")
            status = CANNOT_BIND if isinstance(error, CannotBind) else USAGE
            self._answer({"ok": False, "error": str(error), "status": status})
            return
        except Exception as error:
            # Out of descriptors, or a fault of our own: what serves is not to end by it.
            log.exception("the configuration on disk cannot be put in force; nothing was changed")
            self._answer({"ok": False, "error": f"it cannot be put in force: {error!r}"})
            return
        for notice in config.notices:
            log.warning("%s", Composed(notice))
        for certificate in certificates:
            self._announcements.from_files(certificate)
        self._follow(config, listeners)

    def _prepare(self) -> tuple[Config, tuple[Listener, ...], list[LoadedCertificate]]:
        """All that can be wrong before a worker is forked; then nothing is left open either."""
        config = self._reread()
        present = self._generations.serving.listeners
        listeners = open_listeners(config.listen, present, config.admin)
        try:
            return config, listeners, self._own.read(config)
        except BaseException:
            kept = {one.sock for one in present}
            for listener in listeners:
                if listener.sock not in kept:
                    listener.sock.close()
            raise

    def renew_ticket_keys(self, now: float) -> None:
        """By a generation that is the same in all else, once their time is over."""
        serving = self._generations.serving
        if now - serving.born > _TICKET_KEYS_FOR:
            log.info("new ticket keys: the next generation has the same configuration")
            self._reply = lambda _answer: None
            self._follow(serving.config, serving.listeners)

    def _follow(self, config: Config, listeners: tuple[Listener, ...]) -> None:
        generation = self._generations.add(config, listeners)
        self._start(generation)
        self._schedule.at(time.monotonic() + _READY_WITHIN, lambda: self._too_late(generation))

    def _too_late(self, generation: Generation) -> None:
        if generation.state == "starting" and generation in self._generations:
            log.error("generation %d was not ready in time", generation.number)
            self._give_up(generation)

    def _answer(self, answer: dict[str, Any]) -> None:
        reply, self._reply = self._reply, None
        if reply is not None:
            self._outcome(answer["ok"])
            self._notifier.ready()  # the reload is over, either way
            reply(answer)

    # What its workers do

    def ready(self, child: Child) -> None:
        """A worker serves."""
        child.state = "serving"
        generation = self._generations.find(child.generation)
        if generation is None or generation.state != "starting":
            return
        workers = self._processes.workers(generation.number)
        serving = [one for one in workers if one.state == "serving"]
        if len(serving) >= generation.config.workers:
            self._complete(generation)

    def _complete(self, generation: Generation) -> None:
        generation.state = "serving"
        for older in self._generations.before(generation):
            self._drain(older)
        sites = {site.names[0] for site in generation.config.sites}
        self._announcements.keep_files(self._own.names | sites)
        self._warn_of_hsts(generation.config)
        ways = ", ".join(one.address for one in generation.listeners)
        log.info("serving on %s with %d workers", ways, generation.config.workers)
        self._in_force(generation)
        self._notifier.ready()  # also where nobody has asked
        self._notifier.status(f"serving {len(generation.config.sites)} sites on {ways}")
        self._answer({"ok": True, "generation": generation.number})

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

    def ended(self, child: Child, how: int) -> None:
        """A worker of a generation that does not serve has ended, with this wait status."""
        generation = self._generations.find(child.generation)
        if generation is not None and generation.state == "starting":
            log.error("%s %s before it was ready", child.title, describe_exit(how))
            self._give_up(generation)
            return
        log.info("%s of generation %d has finished", child.title, child.generation)
        self._remove_if_empty(generation)

    def _give_up(self, generation: Generation) -> None:
        if len(self._generations) == 1:
            self._hopeless()
            return
        self._generations.remove(generation)
        for child in self._processes.workers(generation.number):
            child.state = "draining"
            self._processes.kill(child)
        self._generations.close_sockets_of(generation, self._generations.serving)
        log.error("the new configuration could not be started; the old one goes on")
        self._answer({"ok": False, "error": "the new workers did not start; see the log"})

    # Those before it

    def _drain(self, generation: Generation) -> None:
        self._have_drained(generation)
        for listener in self._generations.close_sockets_of(generation, self._generations.newest):
            log.info("no longer listening on %s", listener.address)
        for oldest in self._generations.too_many:
            log.warning("generation %d still drains after %d reloads; it is ended",
                        oldest.number, DRAINING_MOST)  # fmt: skip
            for child in self._processes.workers(oldest.number):
                self._processes.tell_worker(child, Stop())
        self._remove_if_empty(generation)

    def _have_drained(self, generation: Generation) -> None:
        generation.state = "draining"
        for child in self._processes.workers(generation.number):
            child.state = "draining"
            self._processes.tell_worker(child, Drain())

    def _remove_if_empty(self, generation: Generation | None) -> None:
        # The last one stays: until its end, the program is asked what it is configured to do.
        if generation is None or generation.state != "draining" or self._retired:
            return
        if not self._processes.workers(generation.number):
            self._generations.remove(generation)

    def retire(self) -> None:
        """A successor accepts from the same sockets: nobody new comes to any generation."""
        self._retired = True
        for generation in self._generations:
            self._have_drained(generation)
        self._generations.close_sockets()
