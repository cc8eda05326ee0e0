"""The certifier process: what is wanted, what is at hand, what is under way.

One thread, the main one, reads the mailbox and decides; a few others make the attempts. What is on
the disk is served before anything else happens, and before `acme` is imported, because that takes
longer than everything else at start. A CA that is down, a disk that is full or a certificate that
fails keeps nobody else from being served; nothing here gives up, it only waits longer.

It never blocks on the network in the main thread: acknowledgements of the workers arrive there, and
attempts in other threads wait for them.
"""

from __future__ import annotations

import logging
import queue
import random
import threading
import time
from collections.abc import Callable

from ..certificates import transitions
from ..certificates.lifecycle import READY, State
from ..certificates.managed import UNDER_WAY, Holding
from ..certificates.record import Record
from ..certificates.repository import Shelf
from ..challenges.dns01_solver import DnsRecords
from ..challenges.worker_solver import Challenges
from ..issuers import account_files
from ..issuers.interface import Issuer
from ..issuers.internal import InternalCa, InternalIssuer, how_to_trust
from ..link import INTERNAL, Authority, Command, Link, LinkBroken, Settings, Wanted
from ..on_demand.manager import OnDemand
from ..rate_limits.ledger import Ledgers
from ..storage.store import Store
from ..timestamps import timestamp
from .attempt import LEASE, TELL_AGAIN, Bench, spell
from .commands import Commands
from .executors import Desks
from .replies import Replies
from .scheduler import Turns

log = logging.getLogger("treehouse.certifier")

# A look at everything at least this often: the clock may have been set, the disk changed.
LOOK_EVERY = 60.0
# While attempts are under way, so that what they lead to follows promptly.
LOOK_WHEN_BUSY = 0.1
# All that an attempt does has a bound, and all bounds together are less than this: one that takes
# longer hangs in a place that nobody thought of, and with it its certificate. Another process
# starts with what is on disk.
HANGS_AFTER = 2 * LEASE
# Attempts that are cut off at the end lose nothing but themselves.
FINISH_WITHIN = 5.0


class Hangs(Exception):
    """A thread of ours has stopped for good; only the end of the process ends it."""


def run(
    settings: Settings,
    link: Link,
    store: Store,
    confine_hook: Callable[[], None] | None = None,
) -> None:
    """The whole life of the certifier; returns after ``stop``, raises `LinkBroken` without peer,
    or `Hangs`. ``confine_hook`` is what the operator's DNS hook does before it runs, in its own
    process."""
    agent = Agent(settings, link, store, confine_hook=confine_hook)
    agent.load()
    link.loaded()
    agent.serve()


class Agent:
    """``now`` gives Unix seconds; ``dice`` decides what is to be spread. Tests give their own."""

    def __init__(
        self,
        settings: Settings,
        link: Link,
        store: Store,
        now: Callable[[], float] = time.time,
        dice: random.Random | None = None,
        desks: Desks | None = None,
        confine_hook: Callable[[], None] | None = None,
    ) -> None:
        self._settings = settings
        self._link = link
        self._store = store
        self._now = now
        self._stopping = threading.Event()
        self._shelf = Shelf(store)
        self._challenges = Challenges(store, link)
        self._ledgers = Ledgers(store, now)
        self._records = DnsRecords(settings.dns, store, self._stopping, confine_hook)
        self._internal = InternalIssuer(InternalCa(store, settings.lifetime_internal, now))
        self._issuers: dict[Authority, Issuer] = {}
        self._importing = threading.Lock()
        self._bench = Bench(
            self._shelf,
            link,
            self._issuer,
            now,
            dice or random.SystemRandom(),
            self._ledgers,
            settings.dns,
        )
        self._holdings: dict[str, Holding] = {}
        self._changed: Callable[[], set[str]] | None = None
        self._unreadable = False
        self._look_at = 0.0
        self._to_see: set[str] = set()  # changed on disk, and not looked at yet
        self._lookers: list[Command] = []  # wait until it has been
        self._done: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._desks = desks or Desks()
        self._turns = Turns()
        self._replies = Replies(link.answer)
        self._on_demand = OnDemand(
            settings, store, self._shelf, self._holdings,
            self._take_on, self._forget, self._bench.report, self._reply, now,
        )  # fmt: skip

        self._commands = Commands(
            self._holdings, self._bench, self._desks, self._ledgers, self._on_demand,
            self._replies, self._working, self._is_customer,
        )  # fmt: skip

    # Start

    def load(self) -> None:
        """Have everything served that is at hand and may be."""
        self._changes()  # from here on
        for wanted in (*self._settings.wanted, *self._on_demand.remembered()):
            self._take_on(wanted)
        if any(one.authority.directory == INTERNAL for one in self._settings.wanted):
            log.info("%s", how_to_trust(self._settings.state))
        self._look_at = self._now() + LOOK_EVERY

    def _take_on(self, wanted: Wanted) -> Holding:
        holding = Holding(wanted, Record())
        self._holdings[holding.name] = holding
        try:
            self._bench.look(holding)
        except OSError as error:
            log.error("%s: the state directory cannot be read: %s", holding.name, error)
        if holding.facts is not None:
            self._bench.serve(holding)
            log.info(
                "%s: certificate at hand, valid %s, renews about %s",
                holding.name,
                spell(holding.facts.not_after - self._now()),
                timestamp(holding.record.renew_at),
            )
        self._bench.report(holding)
        return holding

    # The main loop

    def serve(self) -> None:
        """Until ``stop``."""
        self._desks.ask("", self._store.tidy)
        self._challenges.clear()
        self._desks.ask("DNS", self._records.clear)  # name servers may take their time
        try:
            while not self._stopping.is_set():
                self._collect()
                if self._desks.longest() > HANGS_AFTER:
                    raise Hangs(f"an attempt has been under way for {spell(HANGS_AFTER)}")
                self._pass_time()
                self._on_demand.turn()
                self._start_attempts()
                self._ask_for_a_window()
                for command in self._link.receive(self._rest()):
                    self._obey(command)
        finally:
            self._stopping.set()
            self._desks.close()
            self._on_demand.close()
        # Attempts notice that the program ends; the mailbox must be read meanwhile.
        self._desks.ended(FINISH_WITHIN, lambda: self._link.receive(LOOK_WHEN_BUSY))
        self._store.close()

    def _rest(self) -> float:
        """Seconds until something is to be done."""
        now = self._now()
        until = now + LOOK_EVERY
        if self._on_demand.busy:
            return LOOK_WHEN_BUSY
        for holding in self._holdings.values():
            if holding.busy:
                return LOOK_WHEN_BUSY
            if holding.asleep:
                continue
            if holding.record.state in READY:  # there was no room, or the batch was full
                return LOOK_WHEN_BUSY
            moment = transitions.next_moment(holding.record)
            if moment is not None:
                until = min(until, moment)
        return max(until - now, 0.0)

    def _pass_time(self) -> None:
        now = self._now()
        look = not now < self._look_at <= now + LOOK_EVERY
        if look:
            self._to_see |= self._changes()
            self._look_at = now + LOOK_EVERY
        for name, holding in self._holdings.items():
            if holding.busy:
                continue
            if look and not holding.saved:
                self._bench.keep_pair(holding)
            if name in self._to_see:
                self._to_see.discard(name)
                self._look_again(holding)
            if look:
                self._look_behind_stand_in(holding)
            if holding.tickets and holding.record.state not in READY:
                self._commands.answer(holding)
            record = transitions.at(holding.record, now)
            if record is not holding.record:
                set_right = record.paused_at != holding.record.paused_at
                holding.record = record
                if set_right:  # the clock
                    self._bench.keep_record(holding)
                self._bench.report(holding)
            waits = now < holding.tell_at <= now + TELL_AGAIN
            if holding.usable(now) and not holding.served and not waits:
                self._bench.serve(holding)
                self._bench.report(holding)

        lookers, self._lookers = self._lookers, []
        for command in lookers:
            if any(self._will_be_seen(name) for name in self._to_see):
                self._lookers.append(command)
            else:
                self._reply(command, {"ok": True, "error": None})

    def _changes(self) -> set[str]:
        """Names whose files have changed; all of them when they can be read again."""
        try:
            self._changed = self._changed or self._shelf.watch()
            changed = self._changed()
        except OSError as error:
            if not self._unreadable:
                log.error("the state directory cannot be read, served is what is known: %s", error)
            self._unreadable = True
            return set()
        if self._unreadable:
            log.info("the state directory can be read again")
            self._unreadable = False
            return set(self._holdings)
        return changed

    def _will_be_seen(self, name: str) -> bool:
        """In a moment; an attempt takes longer, and nobody may change its folder meanwhile."""
        holding = self._holdings.get(name)
        return holding is not None and holding.busy and holding.record.state not in UNDER_WAY

    def _look_again(self, holding: Holding) -> None:
        """The folder has changed: by ourselves, or by somebody else who knew better."""
        serial = holding.facts.serial if holding.facts else None
        kept = holding.record
        try:
            _record, pair = self._shelf.load(holding.name)
            if pair is None or pair == holding.pair:
                return
            self._bench.look(holding)
        except OSError as error:
            holding.record = kept
            log.warning("%s: cannot be read: %s", holding.name, error)
            return
        if holding.facts is not None and holding.facts.serial != serial:
            log.info("%s: another certificate was put on disk", holding.name)
            self._bench.report(holding)

    def _look_behind_stand_in(self, holding: Holding) -> None:
        try:
            self._bench.look_behind_stand_in(holding)
        except OSError as error:
            log.warning("%s: cannot be read: %s", holding.name, error)

    # Attempts

    def _start_attempts(self) -> None:
        turns = self._turns.attempts(self._holdings.values(), self._now(), self._desks.has_room)
        for directory, holding in turns:
            holding.busy = True
            self._desks.attempt(directory, self._working(self._bench.attempt, holding))

    def _ask_for_a_window(self) -> None:
        """One at a time of each CA, and in a thread of its own: a CA that is slow to say when to
        renew must not keep attempts from being made."""
        now = self._now()
        due = [
            (one.record.ask_at, name)
            for name, one in self._holdings.items()
            if one.record.state is State.FRESH
            and not one.busy
            and one.record.ask_at is not None
            and one.record.ask_at <= now
        ]
        for _ask_at, name in sorted(due):
            holding = self._holdings[name]
            directory = holding.issued_by
            if not self._desks.is_asking(directory):
                holding.busy = True
                self._desks.ask(directory, self._working(self._bench.ask, holding))

    def _working(self, what: Callable[[Holding], None], holding: Holding) -> Callable[[], None]:
        def work() -> None:
            try:
                what(holding)
            except LinkBroken:
                log.debug("%s: the supervisor is gone", holding.name)  # the main thread ends by it
            finally:
                self._done.put(holding.name)

        return work

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
                    self._store,
                    self._ledgers,
                    self._challenges,
                    self._records,
                    self._settings.user_agent,
                    self._stopping,
                    self._now,
                )
            return issuer

    def _collect(self) -> None:
        """What has come of attempts."""
        while not self._done.empty():
            holding = self._holdings.get(self._done.get())
            if holding is None or not holding.busy:
                continue
            holding.busy = False
            self._commands.answer(holding)
            postponed, holding.postponed = holding.postponed, []
            for obey in postponed:
                obey()

    # Commands

    def _obey(self, command: Command) -> None:
        match command.verb:
            case "stop":
                self._stopping.set()
                self._reply(command, {"ok": True, "error": None})
            case "want" | "used" | "refusal":
                self._on_demand.obey(command)
            case "look":
                self._look_at = 0.0
                self._lookers.append(command)
            case _:
                self._commands.obey(command)

    def _reply(self, command: Command, value: dict[str, object]) -> None:
        self._replies.give(command.ticket, value)

    def _is_customer(self, authority: Authority) -> bool:
        """Of a CA that has been needed yet. What cannot be read is told by who tries."""
        try:
            return account_files.has_key(self._store, authority.directory)
        except OSError:
            return True

    def _forget(self, holding: Holding) -> None:
        """Its files stay: it may be wanted again, and a key is never thrown away unasked."""
        del self._holdings[holding.name]
        self._commands.answer(holding)
        self._link.report(holding.name, None)
