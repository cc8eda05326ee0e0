"""From one generation to the next: a reload, in whatever way it ends.

A reload builds the next generation beside the present one: configuration, listeners, ticket keys,
workers. When all of these are ready it is *in force*, and the ones before it drain. Whatever comes
before that, a fault in the configuration, a port that cannot be bound, a worker that dies, thirty
seconds without an answer, leaves the present one as it was. There is one reload at a time, and
one answer to whoever asked for it.

It is hard because workers die whenever they like: before they were ready, while they drain, after
their generation was given up. Each end comes here once (`ended`), unless another worker is to take
the dead one's place, which is the supervisor's to do.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Sequence

from ...config.model import Config
from ...config.syntax.faults import ConfigurationFaults
from ...config.syntax.units import spell_duration
from ...exit_status import CANNOT_BIND, USAGE
from ...ipc.messages import Drain, Stop
from ...log import Composed
from ...system import mapped_code
from ...system.certificate_files import CertificateUnusable, LoadedCertificate, OwnCertificates
from ...system.config_process import Found, ReadingEnded
from ...system.listeners import CannotBind, Listener, open_listeners, try_listeners
from ...system.systemd import Notifier
from ...worker.memory_trim import trim
from ..answers import Answer, Reply, unheard
from ..containers import ContainerFeed
from ..control.overview import Overview
from ..lifecycle import Lifecycle
from ..process_table import Child, Processes, describe_exit
from ..readiness import Readiness
from ..registry import Registry
from ..shutdown import Shutdown
from ..spawner import Spawner
from ..timers import Timers
from . import immutable
from .config_source import ConfigSource
from .generations import DRAINING_MOST, Generation, Generations

log = logging.getLogger("treehouse.supervisor")

# Seconds; a new generation that is not ready by then is given up, and the old one goes on.
_READY_WITHIN = 30.0
# RFC 8446 §4.6.1 lets a ticket live for a week; who gets hold of its key reads all of them. Keys
# come with a generation, and it is followed by one with the same configuration after that long.
_TICKET_KEYS_FOR = 20 * 3600.0
_HANDED_ON: Answer = {
    "ok": False,
    "error": "the upgraded program has taken over, and reads the configuration once more",
}


class Reloader:
    """Puts what is on disk in force, one generation after the other."""

    def __init__(
        self,
        lifecycle: Lifecycle,
        processes: Processes,
        registry: Registry,
        generations: Generations,
        timers: Timers,
        notifier: Notifier,
        own: OwnCertificates,
        source: ConfigSource,
        spawner: Spawner,
        overview: Overview,
        shutdown: Shutdown,
        readiness: Readiness,
        containers: ContainerFeed,
    ) -> None:
        self._lifecycle = lifecycle
        self._processes = processes
        self._registry = registry
        self._generations = generations
        self._timers = timers
        self._notifier = notifier
        self._own = own
        self._source = source
        self._spawner = spawner
        self._overview = overview
        self._shutdown = shutdown
        self._readiness = readiness
        self._containers = containers
        self._waiting: list[Reply] = []
        self._reply: Reply | None = None  # while there is one under way
        self._warned_of_hsts: float | None = None

    @property
    def under_way(self) -> bool:
        return self._reply is not None or self._generations.serving.state != "serving"

    # The next one

    def reload(self, why: str, reply: Reply, told: Collection[str] = ()) -> None:
        """Begin to put in force what is on disk now. Nothing else may be under way. ``told``:
        notices of the configuration that are not to be told again."""
        log.info("reloading: %s", why)
        self._notifier.reloading()
        self._reply = reply
        try:
            config, listeners, certificates = self._prepare()
        except (ConfigurationFaults, CannotBind, CertificateUnusable, ReadingEnded) as error:
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
        trim()  # reading thousands of sites takes three times what they take in the end
        for notice in config.notices:
            if notice not in told:
                log.warning("%s", Composed(notice))
        self._registry.from_files(certificates)
        self._follow(config, listeners)

    def _prepare(self) -> tuple[Config, tuple[Listener, ...], Sequence[LoadedCertificate]]:
        """Read and open all that a generation needs. Raises what can be wrong with it, and then
        leaves nothing open."""
        config, own = self._wanted()
        present = self._generations.serving.listeners
        listeners: tuple[Listener, ...] = ()
        try:
            listeners = open_listeners(config.listen, present, config.admin)
            return config, listeners, self._own.take(own)
        except BaseException:
            own.release()
            kept = {one.sock for one in present}
            for listener in listeners:
                if listener.sock not in kept:
                    listener.sock.close()
            raise

    def _wanted(self) -> Found:
        """The configuration on disk, except for settings that need a restart."""
        present = self._generations.serving.config
        wanted = self._source.reread(present)
        for difference in immutable.differences(present, wanted.config):
            log.warning("%s; until then it stays as it is", difference)
        return wanted._replace(config=immutable.kept(present, wanted.config))

    def rehearse(self) -> Config:
        """What a reload would put in force; nothing is changed. Raises what a reload would be
        refused for: `ConfigurationFaults`, `CannotBind`, `CertificateUnusable`, `ReadingEnded`."""
        wanted, own = self._source.read(self._generations.serving.config)
        own.release()
        try_listeners(wanted.listen, self._generations.serving.listeners, wanted.admin)
        if own.unusable is not None:
            raise CertificateUnusable(own.unusable)
        return wanted

    def follow_disk(self) -> bool:
        """Begin a reload if the configuration's files or the containers have changed, or if
        somebody has asked for one meanwhile. Whether one has been begun."""
        waiting, self._waiting = self._waiting, []
        if waiting:
            self.reload("asked for meanwhile", lambda answer: _answer_all(waiting, answer))
            return True
        told: Collection[str] = ()
        why = self._source.changed()
        if why is None:
            why = self._containers.changed()
            # Containers come and go without anybody who reads the log: what is new is enough.
            told = self._generations.serving.config.notices
        if why is not None:
            self.reload(why, unheard, told)
        return why is not None

    @property
    def asked_again(self) -> bool:
        """Whether a reload has been asked for while none could be begun."""
        return bool(self._waiting)

    def remember(self, reply: Reply) -> None:
        """Begin a reload as soon as what is under way is over: it has read the file as it was."""
        if not self._waiting:
            log.info("the configuration is read once more when what is under way is over")
        self._waiting.append(reply)

    def renew_ticket_keys(self, now: float) -> None:
        """Start a generation with the same configuration when the ticket keys are too old."""
        serving = self._generations.serving
        if now - serving.born > _TICKET_KEYS_FOR:
            log.info("new ticket keys: the next generation has the same configuration")
            self._reply = unheard
            self._follow(serving.config, serving.listeners)

    def _follow(self, config: Config, listeners: tuple[Listener, ...]) -> None:
        generation = self._generations.add(config, listeners)
        self._spawner.start_workers(generation)
        self._timers.at(time.monotonic() + _READY_WITHIN, lambda: self._too_late(generation))

    def _too_late(self, generation: Generation) -> None:
        if generation.state == "starting" and generation in self._generations:
            log.error("generation %d was not ready in time", generation.number)
            self._give_up(generation)

    def _answer(self, answer: Answer) -> None:
        reply, self._reply = self._reply, None
        if reply is not None:
            self._overview.reloaded(None if answer["ok"] else str(answer["error"]))
            self._notifier.ready()  # the reload is over, either way
            reply(answer)

    # What its workers do

    def ready(self, child: Child) -> None:
        """Note that a worker serves; the last one of a generation puts it in force."""
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
        self._registry.retain_file_certificates(self._own.names | sites)
        self._warn_of_hsts(generation.config)
        ways = ", ".join(one.address for one in generation.listeners)
        log.info("serving on %s with %d workers", ways, generation.config.workers)
        self._spawner.renew_certifier_for(generation)
        self._spawner.renew_exporter_for(generation)
        # Where no client waits for a certificate at the start, the certifier comes second.
        self._spawner.start_certifier()
        self._readiness.reached()
        self._notifier.ready()  # also where nobody has asked
        self._notifier.status(f"serving {len(generation.config.sites)} sites on {ways}")
        notices = list(generation.config.notices)
        self._answer({"ok": True, "generation": generation.number, "notices": notices})
        mapped_code.let_go()  # of code that reading a configuration ran

    def _warn_of_hsts(self, config: Config) -> None:
        """Warn once for each length of time: clients remember HSTS when the key is gone again."""
        hsts = config.tls.hsts
        if hsts is not None and hsts.max_age != self._warned_of_hsts:
            log.warning(
                "tls.hsts: whoever comes now will refuse these names without HTTPS, or with a "
                "certificate that is not trusted, for %s, also when the key is taken out again",
                spell_duration(hsts.max_age),
            )
            self._warned_of_hsts = hsts.max_age

    def ended(self, child: Child, how: int) -> None:
        """Take the end of a worker whose generation does not serve: it is given up, or done."""
        generation = self._generations.find(child.generation)
        if generation is not None and generation.state == "starting":
            log.error("%s %s before it was ready", child.title, describe_exit(how))
            self._give_up(generation)
            return
        log.info("%s of generation %d has finished", child.title, child.generation)
        self._remove_if_empty(generation)

    def _give_up(self, generation: Generation) -> None:
        if len(self._generations) == 1:
            self._shutdown.give_up()
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
        generation.state, generation.drains_since = "draining", time.monotonic()
        for child in self._processes.workers(generation.number):
            child.state = "draining"
            self._processes.tell_worker(child, Drain())

    def _remove_if_empty(self, generation: Generation | None) -> None:
        # The last one stays: until its end, the program is asked what it is configured to do.
        if generation is None or generation.state != "draining" or self._lifecycle.retired:
            return
        if not self._processes.workers(generation.number):
            self._generations.remove(generation)

    def retire(self) -> None:
        """Let all generations drain: a successor accepts from the same sockets."""
        for generation in self._generations:
            self._have_drained(generation)
        self._generations.close_sockets()
        waiting, self._waiting = self._waiting, []
        _answer_all(waiting, _HANDED_ON)


def _answer_all(replies: list[Reply], answer: Answer) -> None:
    for reply in replies:
        reply(answer)
