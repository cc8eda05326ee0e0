"""The certifier process: a mailbox, a clock, a few threads, and a scheduler that decides.

The main thread reads the mailbox, tells the scheduler what has happened and has its actions done:
nothing in it waits for a CA, the store or the workers, because its silence is taken for a hang.
What is in the store is served before anything else happens, and before `acme` is imported, because
that takes longer than everything else at the start. A CA that is down, a disk that is full or a
certificate that fails keeps nobody else from being served; nothing here gives up, it only waits
longer.
"""

from __future__ import annotations

import gc
import logging
import queue
import random
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..certificates import unfinished_order
from ..certificates.managed import Task
from ..certificates.repository import forgotten
from ..challenges.dns01_solver import DnsRecords
from ..challenges.dns_provider import Outside
from ..challenges.worker_solver import Challenges
from ..issuers import account_files
from ..issuers.interface import Issuer
from ..issuers.internal import InternalCa, InternalIssuer, how_to_trust
from ..link import (
    INTERNAL,
    Authority,
    Command,
    Link,
    LinkBroken,
    Settings,
)
from ..on_demand.checks import CheckThreads, Finding
from ..on_demand.known_names import Changes as NameChanges
from ..on_demand.known_names import NamesFile, Remembered
from ..storage.store import Store
from ..text import spell, timestamp
from .attempt import LEASE, Obtainer
from .batches import Batches
from .ca_requests import CaRequests
from .common import alone, among_others
from .executors import Executors
from .keeper import CertificateKeeper
from .scheduler import Scheduler
from .tasks import (
    Action,
    AllLoaded,
    Answer,
    Came,
    Changed,
    Check,
    Checked,
    CountCosts,
    Discard,
    Event,
    Finished,
    Forget,
    LookAround,
    NamesNotSaved,
    NamesRemembered,
    PeersChanged,
    Report,
    RollAccountKeys,
    Run,
    SaveNames,
    Scan,
    ShowPersistRecords,
)

if TYPE_CHECKING:
    from ..cluster.node import Node

log = logging.getLogger("treehouse.certifier")

# A look at everything at least this often: the clock may have been set, the disk changed.
LOOK_EVERY = 60.0
# What interrupted writers have left is looked for at the start, and then this often.
TIDY_EVERY = 86400.0
# All that an attempt does has a bound, and all bounds together are less than this: one that takes
# longer hangs in a place that nobody thought of, and with it its certificate. Another process
# starts with what is on disk.
HANGS_AFTER = 2 * LEASE
# Attempts that are cut off at the end lose nothing but themselves.
FINISH_WITHIN = 5.0
# With more certificates than this, the log of a start says how many are at hand, and not which.
TOLD_EACH = 100
_MEANWHILE = 0.1


class Hangs(Exception):
    """A thread of ours has stopped for good; only the end of the process ends it."""


def run(
    settings: Settings,
    link: Link,
    store: Store,
    outside: Outside | None = None,
    cluster: Node | None = None,
) -> None:
    """The whole life of the certifier; returns after ``stop``, raises `LinkBroken` without peer,
    or `Hangs`. ``outside`` is how providers of DNS records leave this process; ``cluster`` is this
    machine among others that share their certificates."""
    Agent(settings, link, store, outside=outside, cluster=cluster).serve()


class Agent:
    """``now`` gives Unix seconds; ``rng`` decides what is to be spread. Tests give their own."""

    def __init__(
        self,
        settings: Settings,
        link: Link,
        store: Store,
        now: Callable[[], float] = time.time,
        rng: random.Random | None = None,
        executors: Executors | None = None,
        outside: Outside | None = None,
        issuer: Callable[[Authority], Issuer] | None = None,
        cluster: Node | None = None,
    ) -> None:
        rng = rng or random.SystemRandom()
        issuer = issuer or self._issuer
        self._settings = settings
        self._link = link
        self._store = store
        self._now = now
        self._without_work = cluster is None and not (settings.wanted or settings.on_demand)
        self._stopping = threading.Event()
        self._cluster = cluster
        common = alone(store, now) if cluster is None else among_others(cluster, store, now)
        self._repository = common.repository
        self._challenges = Challenges(store, link if cluster is None else cluster.link)
        self._ledger = common.ledger
        self._files = common.files
        self._records = DnsRecords(
            settings.dns, store, self._stopping, outside, self._is_unfinished
        )
        self._internal = InternalIssuer(InternalCa(self._files, settings.lifetime_internal, now))
        self._issuers: dict[Authority, Issuer] = {}
        self._importing = threading.Lock()
        self._names = NamesFile(store)
        self._keeper = CertificateKeeper(
            self._repository,
            link,
            now,
            rng,
            settings.dns,
            tells_each=len(settings.wanted) <= TOLD_EACH,
            peers=common.peers,
        )
        self._requests = CaRequests(
            self._keeper, issuer, self._has_account, self._ledger, now, rng,
            shared=common.peers is not None,
        )  # fmt: skip
        self._obtainer = Obtainer(
            self._keeper, self._repository, issuer, self._ledger, now, rng,
            common.together(self._keeper),
        )  # fmt: skip
        self._executors = executors or Executors()
        self._shared_names = common.names
        self._checks = CheckThreads(self._checked, shared=common.names)
        self._scheduler = (
            Scheduler(settings)
            if cluster is None
            else Scheduler(settings, cluster.peers, cluster.refusal)
        )
        self._batches = Batches(self._keeper, self._executors, self._stopping, self._happened)
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._changes: Callable[[], set[str]] | None = None
        self._unreadable = False
        self._look_at = 0.0
        self._tidy_at = 0.0

    # The main loop

    def serve(self) -> None:
        """Until ``stop``."""
        if any(rule.dns for rule in self._settings.on_demand):
            from ..on_demand import dns_check  # noqa: F401 - now, and in this thread
        if any(one.authority.directory == INTERNAL for one in self._settings.wanted):
            log.info("%s", how_to_trust(self._settings.state))
        self._executors.store(self._challenges.clear)
        if self._settings.on_demand:
            self._executors.store(self._recall_names)
        gc.disable()  # what is loaded stays, and looking through it for garbage takes as long again
        self._perform(self._scheduler.start(self._now()))
        if self._cluster is not None:
            self._cluster.start(
                lambda: self._happened(LookAround()), lambda: self._happened(PeersChanged())
            )
        self._look_at = self._now() + LOOK_EVERY
        cleaned = False
        try:
            while not self._stopping.is_set():
                if self._executors.longest() > HANGS_AFTER:
                    raise Hangs(f"an attempt has been under way for {spell(HANGS_AFTER)}")
                self._perform(self._scheduler.step(self._now(), self._happenings()))
                if self._scheduler.loaded and not cleaned:  # what is at hand is served
                    cleaned = True
                    self._clean_up()
                elif cleaned and self._has_nothing_to_do():
                    self._link.idle()
                for command in self._link.receive(self._rest()):
                    self._receive(command)
        finally:
            self._stopping.set()
            if self._cluster is not None:
                self._cluster.close()
            self._executors.close()
            if self._shared_names is not None:
                self._shared_names.close()
            self._checks.close()
        self._finish()

    def _has_nothing_to_do(self) -> bool:
        """Whether no certificate is this process's business, and all that was asked is done."""
        return self._without_work and self._events.empty() and not self._executors.busy

    def _finish(self) -> None:
        """Attempts notice that the program ends; the mailbox must be read meanwhile."""
        self._executors.ended(FINISH_WITHIN, lambda: self._link.receive(_MEANWHILE))
        names = self._scheduler.last_names()
        if names is not None:
            self._names.write(names)
        self._store.close()

    def _receive(self, command: Command) -> None:
        if command.verb == "stop":
            self._stopping.set()
            self._answer(command.ticket, {"ok": True, "error": None})
        else:
            self._events.put(Came(command))

    def _happenings(self) -> list[Event]:
        """What has happened since the last step."""
        events = []
        while not self._events.empty():
            events.append(self._events.get())
        now = self._now()
        if self._scheduler.loaded and not now < self._look_at <= now + LOOK_EVERY:
            self._look_at = now + LOOK_EVERY
            events.append(LookAround())
            if not now < self._tidy_at <= now + TIDY_EVERY:
                self._clean_up()
        return events

    def _rest(self) -> float:
        """Seconds until something is to be done."""
        if not self._events.empty():
            return 0.0
        if self._without_work and self._executors.busy:
            return _MEANWHILE
        now = self._now()
        moments = [self._scheduler.next_moment(), self._look_at if self._scheduler.loaded else None]
        until = min((one for one in moments if one is not None), default=now + LOOK_EVERY)
        return min(max(until - now, 0.0), LOOK_EVERY)

    def _happened(self, *events: Event) -> None:
        """From any thread."""
        for event in events:
            self._events.put(event)
        self._link.wake()

    # Actions

    def _perform(self, actions: list[Action]) -> None:
        for action in actions:
            self._perform_one(action)

    def _perform_one(self, action: Action) -> None:
        match action:
            case Run():
                self._run(action)
            case Report(name, managed):
                self._link.report(name, None if managed is None else managed.status())
            case Answer(ticket, value):
                self._answer(ticket, dict(value))
            case AllLoaded():
                gc.freeze()
                gc.enable()
                self._link.loaded()
                self._tell_of_many()
                self._look_at = self._now() + LOOK_EVERY
            case Scan():
                self._executors.store(self._scan)
            case Check(name, rules, why):
                self._checks.begin(name, rules, why)
            case SaveNames(changes):
                self._executors.store(lambda: self._save_names(changes))
            case Discard(name):
                self._executors.store(lambda: self._discard(name))
            case Forget(command, name, wanted):
                self._executors.store(lambda: self._forget(command, name, wanted))
            case ShowPersistRecords(command, authorities, names):
                self._executors.ask(
                    authorities[0].directory,
                    lambda: self._answer(
                        command.ticket, self._requests.show_persist_records(authorities, names)
                    ),
                )
            case RollAccountKeys(command, authorities):
                self._executors.ask(
                    "",
                    lambda: self._answer(
                        command.ticket, self._requests.roll_account_keys(authorities)
                    ),
                )
            case CountCosts(command, orders):
                self._executors.store(
                    lambda: self._answer(command.ticket, self._requests.count_costs(orders))
                )

    def _tell_of_many(self) -> None:
        if len(self._settings.wanted) <= TOLD_EACH:
            return
        every = list(self._scheduler.certificates.values())
        first = min((one.record.renew_at for one in every if one.record.renew_at), default=None)
        if first is None:
            log.info("none of %d certificates is at hand", len(every))
            return
        log.info(
            "%d of %d certificates at hand, the first renews about %s",
            sum(one.facts is not None for one in every),
            len(every),
            timestamp(first),
        )

    def _run(self, run: Run) -> None:
        match run.task:
            case Task.ATTEMPT:
                self._executors.attempt(run.directory, lambda: self._work(run))
            case Task.ASK | Task.REVOKE:
                self._executors.ask(run.directory, lambda: self._work(run))
            case Task.LOAD:
                self._batches.load(run)
            case Task.SERVE:
                self._batches.serve(run)
            case _:
                self._executors.store(lambda: self._work(run))

    def _work(self, run: Run) -> None:
        """Do, in a thread, what the scheduler wants."""
        error: str | None = None
        try:
            error = perform(run, self._keeper, self._requests, self._obtainer)
        except LinkBroken:
            log.debug("%s: the supervisor is gone", run.managed.name)  # the main thread ends by it
        except Exception:
            log.exception("%s: a fault in the certifier itself", run.managed.name)
            error = "a fault in the certifier itself; its log says more"
        finally:
            self._happened(Finished(run, error))

    # The store, in its thread

    def _scan(self) -> None:
        try:
            self._changes = self._changes or self._repository.watch()
            names: frozenset[str] | None = frozenset(self._changes())
        except OSError as error:
            if not self._unreadable:
                log.error("the state directory cannot be read, served is what is known: %s", error)
            self._unreadable = True
            names = frozenset()
        else:
            if self._unreadable:
                log.info("the state directory can be read again")
                self._unreadable = False
                names = None
        self._happened(Changed(names))

    def _is_unfinished(self, certificate: str) -> bool:
        """Whether the last order for a certificate may be taken up. Raises OSError."""
        order = self._repository.unfinished_order(certificate)
        return unfinished_order.may_be_taken_up(order, self._now())

    def _clean_up(self) -> None:
        self._executors.store(self._tidy)
        self._executors.ask("DNS", self._records.clear)  # servers may take their time

    def _tidy(self) -> None:
        self._tidy_at = self._now() + TIDY_EVERY
        try:
            self._store.tidy()
        except OSError as error:
            log.warning("the state directory cannot be tidied up: %s", error)

    def _recall_names(self) -> None:
        remembered = Remembered({}, {})
        try:
            remembered = self._names.read()
            if self._shared_names is not None:
                self._shared_names.want(remembered.names)
        finally:  # whatever happens: everything else waits for it
            self._happened(NamesRemembered(remembered))

    def _save_names(self, changes: NameChanges) -> None:
        if not self._names.write(changes):
            self._happened(NamesNotSaved())

    def _forget(self, command: Command, name: str, wanted: frozenset[str]) -> None:
        try:
            gone = self._repository.forget(name, wanted)
        except OSError as error:
            error_text = f"{name} cannot be removed: {error.strerror}"
            self._answer(command.ticket, {"ok": False, "error": error_text})
        else:
            self._answer(command.ticket, forgotten(name, gone))

    def _discard(self, name: str) -> None:
        try:
            if self._shared_names is not None:
                self._shared_names.discard(name)
            else:
                self._repository.discard(name)
        except OSError as error:
            log.warning("%s: its files cannot be taken away: %s", name, error)

    # The others

    def _checked(self, finding: Finding) -> None:
        self._happened(Checked(finding))

    def _answer(self, ticket: int | None, value: dict[str, Any]) -> None:
        if ticket is not None:
            self._link.answer(ticket, value)

    def _issuer(self, authority: Authority) -> Issuer:
        if authority.directory == INTERNAL:
            return self._internal
        # The lock is also for the import: two threads in one package's circular imports may see
        # it half made.
        with self._importing:
            issuer = self._issuers.get(authority)
            if issuer is None:
                from ..issuers.acme import AcmeIssuer

                issuer = self._issuers[authority] = AcmeIssuer(
                    authority,
                    self._files,
                    self._ledger,
                    self._challenges,
                    self._records,
                    self._settings.user_agent,
                    self._stopping,
                    self._now,
                )
            return issuer

    def _has_account(self, authority: Authority) -> bool:
        """Whether we have an account with this CA. Assume so if the file cannot be read; the next
        request will report the error."""
        try:
            return account_files.has_key(self._files, authority.directory)
        except OSError:
            return True


def perform(
    run: Run, keeper: CertificateKeeper, requests: CaRequests, obtainer: Obtainer
) -> str | None:
    """Do with a certificate what the scheduler wants; returns why a revocation failed, if it
    did."""
    managed = run.managed
    match run.task:
        case Task.LOAD:
            keeper.load(managed)
        case Task.REREAD:
            keeper.reread(managed)
        case Task.RECHECK:
            keeper.recheck(managed)
        case Task.KEEP_PAIR:
            keeper.keep_pair(managed)
        case Task.KEEP_RECORD:
            keeper.keep_record(managed)
        case Task.KEEP_REQUEST:
            keeper.keep_request(managed)
        case Task.SERVE:
            keeper.serve_again([managed])
            keeper.report(managed)
        case Task.ATTEMPT:
            obtainer.attempt(managed)
        case Task.ASK:
            requests.ask(managed)
        case Task.REVOKE:
            return requests.revoke(managed, run.reason)
        case Task.SHARE:
            obtainer.share(managed)
    return None
