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
from typing import Any

from . import progress
from .attempt import LEASE, TELL_AGAIN, Bench, spell
from .challenges import Challenges
from .desks import Desks
from .dns_records import DnsRecords
from .holding import Holding
from .internal_ca import InternalCa, InternalIssuer, how_to_trust
from .ledgers import Ledgers
from .lifecycle import READY, State
from .link import INTERNAL, Authority, Command, Link, LinkBroken, Settings, Wanted
from .on_demand import OnDemand
from .order import Issuer
from .record import Record
from .replies import Replies
from .shelf import Shelf
from .store import DirectoryStore, Store
from .timestamps import timestamp
from .turns import Turns

log = logging.getLogger("treehouse.certifier")

# Of a holding that is busy: its attempt has not come to its end.
UNDER_WAY = READY | {State.ISSUING}
# A look at everything at least this often: the clock may have been set, the disk changed.
LOOK_EVERY = 60.0
# While attempts are under way, so that what they lead to follows promptly.
LOOK_WHEN_BUSY = 0.1
# RFC 5280 §5.3.1, those that Let's Encrypt and others take from subscribers.
REASONS = {
    "unspecified": 0,
    "keyCompromise": 1,
    "affiliationChanged": 3,
    "superseded": 4,
    "cessationOfOperation": 5,
}
# All that an attempt does has a bound, and all bounds together are less than this: one that takes
# longer hangs in a place that nobody thought of, and with it its certificate. Another process
# starts with what is on disk.
HANGS_AFTER = 2 * LEASE
# Attempts that are cut off at the end lose nothing but themselves.
FINISH_WITHIN = 5.0


class Hangs(Exception):
    """A thread of ours has stopped for good; only the end of the process ends it."""


def run(settings: Settings, link: Link, confine_hook: Callable[[], None] | None = None) -> None:
    """The whole life of the certifier; returns after ``stop``, raises `LinkBroken` without peer,
    or `Hangs`. ``confine_hook`` is what the operator's DNS hook does before it runs, in its own
    process."""
    store = DirectoryStore(settings.state)
    agent = Agent(settings, link, store, confine_hook=confine_hook)
    agent.load()
    link.loaded()
    store.tidy()
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
            moment = progress.next_moment(holding.record)
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
            if holding.tickets and holding.record.state not in READY:
                self._answer(holding)
            record = progress.at(holding.record, now)
            if record != holding.record:
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
            directory = _issued_by(holding)
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
                from .issuer import AcmeIssuer

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
            self._answer(holding)
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
            case "renew":
                self._renew(command)
            case "revoke":
                self._revoke(command)
            case "look":
                self._look_at = 0.0
                self._lookers.append(command)
            case "dns_persist":
                self._dns_persist(command)
            case "costs":
                self._reply(command, {"ok": True, "costs": self._costs(command.value)})
            case "roll_account_key":
                self._desks.ask("", lambda: self._roll_account_keys(command))  # at any of them
            case _:
                self._reply(command, {"ok": False, "error": f"{command.verb} is not known here"})

    def _reply(self, command: Command, value: dict[str, object]) -> None:
        self._replies.give(command.ticket, value)

    def _answer(self, holding: Holding) -> None:
        """Whoever waits for what has just come to its end."""
        tickets, holding.tickets = holding.tickets, []
        ok = holding.record.state is State.FRESH
        value = {
            "ok": ok,
            "error": None if ok else f"{holding.name}: {holding.record.last_error or 'given up'}",
            "message": f"renewed: {holding.name}",
            "certificate": holding.status(),
        }
        for ticket in tickets:
            self._replies.give(ticket, value)

    def _called(self, command: Command, name: object) -> list[Holding]:
        """The certificates that a command is about; it will be answered once for all of them, and
        has been if there is none."""
        called = [one for one in self._holdings.values() if one.is_called(name)]
        if not called:
            self._reply(command, self._unknown(name))
        self._replies.expect(command.ticket, len(called))
        return called

    def _unknown(self, name: object) -> dict[str, object]:
        known = ", ".join(sorted(self._holdings)) or "none"
        error = f"no certificate for {name} is wanted here; wanted are: {known}"
        return {"ok": False, "error": error}

    def _costs(self, value: Any) -> list[str]:
        """What orders would take: ``value`` maps directories to sets of names."""
        return [
            line
            for directory, orders in value.items()
            for line in self._ledgers.costs(directory, [tuple(names) for names in orders])
        ]

    def _renew(self, command: Command) -> None:
        value = command.value
        name, force = (
            (value.get("name"), bool(value.get("force")))
            if isinstance(value, dict)
            else (value, False)
        )
        if not any(one.is_called(name) for one in self._holdings.values()) and (
            self._on_demand.takes(name)
        ):
            self._on_demand.obey(command)
            return
        for holding in self._called(command, name):
            self._renew_one(holding, force, command)

    def _renew_one(self, holding: Holding, force: bool, command: Command) -> None:
        if holding.name not in self._holdings:
            self._reply(command, self._unknown(holding.name))
            return
        if holding.busy and holding.record.state not in UNDER_WAY:
            # The attempt is over; what was asked for is another.
            holding.postponed.append(lambda: self._renew_one(holding, force, command))
            return
        if command.ticket is not None:
            holding.tickets.append(command.ticket)
        if not holding.busy:
            holding.force = force
            holding.record = progress.asked(holding.record)
            self._bench.report(holding)

    def _revoke(self, command: Command) -> None:
        """In a thread, and in the mailbox again as an order for another one."""
        value = command.value if isinstance(command.value, dict) else {}
        reason = REASONS.get(str(value.get("reason", "unspecified")))
        if reason is None:
            error = f"{value.get('reason')!r} is no reason; there are: {', '.join(REASONS)}"
            self._reply(command, {"ok": False, "error": error})
            return
        for holding in self._called(command, value.get("name")):
            self._revoke_one(holding, reason, command)

    def _revoke_one(self, holding: Holding, reason: int, command: Command) -> None:
        if holding.name not in self._holdings:
            self._reply(command, self._unknown(holding.name))
        elif holding.busy:
            holding.postponed.append(lambda: self._revoke_one(holding, reason, command))
        else:
            holding.busy = True
            work = self._working(lambda one: self._revoked(one, reason, command), holding)
            self._desks.ask(_issued_by(holding), work)

    def _revoked(self, holding: Holding, reason: int, command: Command) -> None:
        error = self._bench.revoke(holding, reason)
        message = "revoked; another one is being ordered"
        if error is None:
            log.warning("%s: certificate %s was revoked", holding.name, holding.record.serial)
            if reason == REASONS["cessationOfOperation"]:
                message = "revoked; it is served until its site is taken out of the configuration"
            else:
                holding.record = progress.asked(holding.record)
                self._bench.keep_record(holding)
                self._bench.report(holding)
        self._reply(command, {"ok": error is None, "error": error, "message": message})

    def _dns_persist(self, command: Command) -> None:
        """What is to stand in the DNS for a certificate, at each of its CAs."""
        value = command.value if isinstance(command.value, dict) else {}
        name = value.get("name")
        called = [one.wanted for one in self._holdings.values() if one.is_called(name)]
        if not called:
            self._reply(command, self._unknown(name))
            return
        wanted = called[0]  # a second one has the same names, CAs and records
        authorities = (wanted.authority, *wanted.fallback)

        def look() -> None:
            told = [self._bench.standing_records(one, wanted.names) for one in authorities]
            message = "\n".join(text for text, _ok in told)
            ok = any(good for _text, good in told)
            error = None if ok else message
            self._reply(command, {"ok": ok, "error": error, "message": message})

        self._desks.ask(wanted.authority.directory, look)

    def _roll_account_keys(self, command: Command) -> None:
        """With every CA that we are a customer of."""
        authorities = {
            one
            for holding in list(self._holdings.values())
            for one in (holding.wanted.authority, *holding.wanted.fallback)
            if one.directory != INTERNAL
        }
        told = {one.directory: self._bench.roll_account_key(one) for one in authorities}
        failed = [f"{directory}: {error}" for directory, error in told.items() if error]
        error = "; ".join(failed) or (None if told else "no CA is configured that has accounts")
        message = f"new account keys at {', '.join(sorted(told))}"
        self._reply(command, {"ok": error is None, "error": error, "message": message})

    def _forget(self, holding: Holding) -> None:
        """Its files stay: it may be wanted again, and a key is never thrown away unasked."""
        del self._holdings[holding.name]
        self._answer(holding)
        self._link.report(holding.name, None)


def _issued_by(holding: Holding) -> str:
    """The directory of the CA that knows the certificate at hand."""
    return holding.record.directory or holding.wanted.authority.directory
