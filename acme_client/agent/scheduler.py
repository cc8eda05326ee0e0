"""Decides what the certifier does next, and when.

`Scheduler.step` takes the time and what has happened, and returns what is to be done. It does no
I/O, starts no thread and has no clock, so that years can be simulated with the very code that runs
(`drill.life`).

It looks only at certificates that something has happened to: each has a moment at which time alone
changes something (`agenda`), and those that call for an attempt stand in line (`attempt_queue`). So
a step costs as much as it has to do, however many certificates there are.

What makes it hard is the clock, which may be set. A moment that has passed is found by the heap; a
clock that went back is noticed at the next step, and then every certificate is looked at anew.
"""

from __future__ import annotations

import heapq
import logging
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace

from ..certificates import transitions
from ..certificates.lifecycle import READY, State
from ..certificates.managed import TELL_AGAIN, ManagedCertificate, Task
from ..certificates.peers import Peers, no_peers
from ..certificates.record import Record
from ..link import CertificateSpec, Command, Settings
from ..on_demand.known_names import Changes as NameChanges
from ..on_demand.manager import OnDemand
from .agenda import Agenda
from .attempt_queue import AttemptQueue
from .commands import Commands
from .replies import Replies
from .tasks import (
    Action,
    AllLoaded,
    Answer,
    Came,
    Changed,
    Check,
    Checked,
    Discard,
    Event,
    Finished,
    LookAround,
    NamesNotSaved,
    NamesRemembered,
    PeersChanged,
    Report,
    Run,
    SaveNames,
    Scan,
)
from .turns import Turns

log = logging.getLogger("treehouse.certifier")

# A clock that is set back by less than this changes nothing worth looking at everything for.
_CLOCK_WENT_BACK = 1.0
# Scans that wait for the store: one may be under way, and another begins after what has just
# changed.
_SCANS_MOST = 2
# What a person who asked for a look at the store waits for.
_BEFORE_AN_ANSWER = {Task.REREAD, Task.SERVE, Task.LOAD}
_NEVER = float("inf")


class Scheduler:
    """Times are Unix seconds. ``certificates``: all certificates that are wanted, by name;
    ``peers``: machines that have the same certificates. ``refusal`` says why this process asks no
    CA for anything at the moment, because another machine does; empty where it may."""

    def __init__(
        self,
        settings: Settings,
        peers: Peers | None = None,
        refusal: Callable[[], str] = str,
    ) -> None:
        self._settings = settings
        self._refusal = refusal
        self._may_ask = True
        self._turns = Turns(peers or no_peers())
        self._now = 0.0
        self._out: list[Action] = []
        self.certificates: dict[str, ManagedCertificate] = {}
        self._agenda = Agenda()
        self._queue = AttemptQueue(self._is_site_busy, self._turns.peers.ordering)
        self._busy_sites: Counter[str] = Counter()
        # Those who are to be asked about, by CA, and what is being asked there.
        self._asks: dict[str, list[tuple[float, str]]] = {}
        self._asking: Counter[str] = Counter()

        self._loading: set[str] = set()
        self._names_awaited = bool(settings.on_demand)
        self._loaded = False
        self._early: list[Command] = []  # commands that wait until it is known what there is
        self._to_see: set[str] = set()  # changed in the store, and not looked at yet
        self._scans = 0
        self._lookers: list[_Looker] = []
        self._unsaved: set[str] = set()
        self._unshared: set[str] = set()
        self._stand_ins: set[str] = set()

        self._replies = Replies(lambda ticket, value: self._out.append(Answer(ticket, value)))
        self._on_demand = OnDemand(
            settings,
            self.certificates,
            self._take_on,
            self._let_go,
            self._report,
            self._reply,
            lambda: self._now,
            lambda name, rules, why: self._out.append(Check(name, rules, why)),
            lambda changes: self._out.append(SaveNames(changes)),
            lambda name: self._out.append(Discard(name)),
        )
        self._commands = Commands(
            self.certificates,
            self._on_demand,
            self._replies,
            self._touch,
            self._run,
            lambda action: self._out.append(action),
            self._turns.peers.node,
        )

    # In and out

    def start(self, now: float) -> list[Action]:
        """What is to be done first: everything that is configured is loaded. Names on demand are,
        once they are known (`NamesRemembered`)."""
        self._now = now
        for wanted in self._settings.wanted:
            self._loading.add(self._take_on(wanted).name)
        self._out.append(Scan())  # from here on
        self._scans += 1
        self._end_loading()
        return self._taken()

    def step(self, now: float, events: Iterable[Event] = ()) -> list[Action]:
        """What is to be done, now that this has happened and it is that late."""
        went_back = now < self._now - _CLOCK_WENT_BACK
        self._now = now
        may_ask = not self._refusal()
        if went_back or may_ask != self._may_ask:
            self._may_ask = may_ask
            for managed in list(self.certificates.values()):
                self._touch(managed)
            self._on_demand.stir()
        for event in events:
            self._take(event)
        self._pass_time()
        for name in self._on_demand.turn():
            if name in self.certificates:
                self._touch(self.certificates[name])
        self._begin_attempts()
        self._begin_asks()
        self._answer_lookers()
        return self._taken()

    def next_moment(self) -> float | None:
        """When the next step is due if nothing happens before; None: never."""
        moments = (self._agenda.next(), self._queue.next_batch)
        return min((one for one in moments if one is not None), default=None)

    @property
    def loaded(self) -> bool:
        return self._loaded

    @property
    def has_stand_ins(self) -> bool:
        """Whether the certificate before the newest stands in for any."""
        return bool(self._stand_ins)

    def last_names(self) -> NameChanges | None:
        """Take the changes to the names on demand that are to be written at the end of the
        process. None where no name can come on demand, and where the names of the process before
        have not been read yet: then its file must stay."""
        return None if self._names_awaited else self._on_demand.unwritten()

    def _taken(self) -> list[Action]:
        out, self._out = self._out, []
        return out

    def _take(self, event: Event) -> None:
        match event:
            case Finished():
                self._finished(event)
            case Came(command) if self._loaded:
                self._obey(command)
            case Came(command):
                self._early.append(command)
            case LookAround():
                self._look_around()
            case Changed(names):
                self._scans -= 1
                found = self.certificates if names is None else names
                self._to_see.update(name for name in found if name in self.certificates)
                if self._turns.peers.are_shared:
                    self._on_demand.hear(found)
                for looker in self._lookers:
                    looker.saw(self._scans, self._to_see)
                for name in list(self._to_see):
                    self._touch(self.certificates[name])
            case Checked(finding):
                self._on_demand.checked(finding)
            case NamesRemembered(remembered):
                for wanted in self._on_demand.recall(remembered):
                    self._loading.add(self._take_on(wanted).name)
                self._names_awaited = False
                self._end_loading()
            case NamesNotSaved():
                self._on_demand.not_saved()
            case PeersChanged():
                self._turns.meet(self._now)
                for managed in list(self.certificates.values()):
                    self._meet(managed)

    # Certificates

    def _take_on(self, wanted: CertificateSpec) -> ManagedCertificate:
        managed = self.certificates[wanted.name] = ManagedCertificate(wanted, Record())
        self._run(Task.LOAD, managed)
        return managed

    def _let_go(self, managed: ManagedCertificate) -> None:
        """Nobody wants it any more. Its files are another matter."""
        del self.certificates[managed.name]
        self._agenda.drop(managed.name)
        self._queue.drop(managed.name)
        for some in (self._to_see, self._unsaved, self._unshared, self._stand_ins):
            some.discard(managed.name)
        self._commands.answer(managed)
        self._out.append(Report(managed.name, None))

    def _run(
        self, task: Task, managed: ManagedCertificate, directory: str = "", reason: int = 0
    ) -> None:
        managed.task = task
        self._queue.drop(managed.name)
        self._busy_sites[managed.wanted.names[0]] += 1
        if task is Task.ATTEMPT:
            self._queue.begun(directory)
        elif directory:
            self._asking[directory] += 1
        self._out.append(Run(task, managed, directory, reason))

    def _finished(self, event: Finished) -> None:
        task, managed, directory = event.run.task, event.run.managed, event.run.directory
        self._busy_sites[managed.wanted.names[0]] -= 1
        if task is Task.ATTEMPT:
            self._queue.ended(directory)
            if managed.no_place_until > self._now:
                self._queue.hold(directory, managed.no_place_until)
        elif directory:
            self._asking[directory] -= 1
        managed.task = None
        if self.certificates.get(managed.name) is not managed:
            return
        if task is Task.REVOKE:
            self._commands.revoked(managed, event.run.reason, event.error)
        for known, is_one in (
            (self._unsaved, not managed.saved),
            (self._unshared, managed.record.unshared),
            (self._stand_ins, managed.is_fallback),
        ):
            (known.add if is_one else known.discard)(managed.name)
        if task is Task.ATTEMPT:
            self._commands.answer(managed)
        postponed, managed.postponed = managed.postponed, []
        for obey in postponed:
            obey()
        if task is Task.LOAD and managed.facts is not None and not managed.busy:
            self._on_demand.found(managed)
            if not managed.served:
                self._run(Task.SERVE, managed)  # whatever its dates are: there is no better one
        is_ahead = task is Task.REREAD and managed.name in self._unshared
        if is_ahead and not managed.busy and not self._turns.peers.away:
            self._run(Task.SHARE, managed)
        self._on_demand.touched(managed.name)
        self._touch(managed)
        if managed.name in self._loading and managed.task is None:
            self._loading.discard(managed.name)
            self._end_loading()

    def _end_loading(self) -> None:
        if not self._loading and not self._names_awaited and not self._loaded:
            self._loaded = True
            self._out.append(AllLoaded())
            early, self._early = self._early, []
            for command in early:
                self._obey(command)

    def _touch(self, managed: ManagedCertificate) -> None:
        """Something has happened to it, or its moment has come: see what it calls for."""
        if managed.busy:
            return
        now, name = self._now, managed.name
        self._queue.drop(name)
        if name in self._to_see:
            self._to_see.discard(name)
            self._run(Task.REREAD, managed)
            return
        waits = now < managed.republish_at <= now + TELL_AGAIN
        to_serve = managed.usable(now) and not managed.served and not waits
        if managed.tickets and managed.record.state not in READY and not to_serve:
            self._commands.answer(managed)
        record = transitions.after_time(managed.record, now)
        if record is not managed.record:
            set_right = record.paused_at != managed.record.paused_at
            managed.record = record
            self._report(managed)
            if set_right:  # the clock
                self._run(Task.KEEP_RECORD, managed)
                return
        if to_serve:
            self._run(Task.SERVE, managed)
            return
        self._see_wishes(managed)
        self._turns.calls(managed, now)
        begins = self._turns.begins(managed, now)
        ready = managed.record.state in READY and not managed.dormant and self._may_ask
        if ready and begins <= now:
            self._queue.put(managed, now)
        self._plan(managed, waits, begins)

    def _see_wishes(self, managed: ManagedCertificate) -> None:
        """Where other machines have the certificate: see whether it is what this one wants."""
        contested = self._turns.contested(managed, self._now)
        if contested != managed.contested:
            if bool(contested) != bool(managed.contested):
                managed.contested_since = self._now if contested else None
            managed.contested = contested
            if contested:
                log.warning("%s", contested)
            self._report(managed)
        if self._turns.wants_another(managed):
            managed.record = transitions.on_requested(managed.record)
            self._report(managed)

    def _plan(self, managed: ManagedCertificate, waits: bool, begins: float) -> None:
        """Its next moment."""
        record, now = managed.record, self._now
        if record.state in READY:
            moment = record.not_after if record.state is State.DUE else None
            if now < begins < _NEVER:
                moment = min(moment or _NEVER, begins)
        else:
            moment = transitions.next_moment(record)
            if record.state is State.FRESH and record.ask_at is not None and record.ask_at <= now:
                if self._may_ask:
                    # If another machine asks the CA, this machine hears the answer from the shared
                    # record. Whether this machine asks changes with the members only (`_meet`).
                    managed.asks = self._turns.asks(managed)
                if self._may_ask and managed.asks:
                    heapq.heappush(
                        self._asks.setdefault(managed.issued_by, []), (record.ask_at, managed.name)
                    )
                moment = min(record.renew_at or 0.0, record.not_after or 0.0)
            braked = self._turns.replaces_from(managed, now)
            if braked is not None:
                moment = min(moment or _NEVER, braked)
        if waits:
            moment = min(moment or _NEVER, managed.republish_at)
        self._agenda.put(managed.name, moment)

    def _meet(self, managed: ManagedCertificate) -> None:
        """Other machines have come or gone."""
        if managed.busy:
            return  # it is touched afterwards
        record = managed.record
        ask_at = self._turns.takes_over_asking(managed, self._now)
        if (
            ask_at is not None
            and record.ask_at is not None
            and not self._now < record.ask_at <= ask_at
        ):
            managed.record = replace(record, ask_at=ask_at)
            managed.asks = True
            self._touch(managed)
        elif record.state in READY or not managed.satisfies:
            self._touch(managed)

    def _pass_time(self) -> None:
        for name in self._agenda.due(self._now):
            self._on_demand.touched(name)
            self._touch(self.certificates[name])

    def _look_around(self) -> None:
        if self._scans < _SCANS_MOST:
            self._out.append(Scan())
            self._scans += 1
        away = self._turns.peers.away
        for names, task in (
            (set() if away else self._unshared, Task.SHARE),
            (self._unsaved, Task.KEEP_PAIR),
            (self._stand_ins, Task.RECHECK),
        ):
            for name in sorted(names):
                if not self.certificates[name].busy:
                    self._run(task, self.certificates[name])
        self._on_demand.stir()

    # Attempts and questions

    def _is_site_busy(self, managed: ManagedCertificate) -> bool:
        return self._busy_sites[managed.wanted.names[0]] > 0

    def _begin_attempts(self) -> None:
        if self._loaded and self._may_ask:
            for directory, managed in self._queue.take(self._now):
                self._run(Task.ATTEMPT, managed, directory)

    def _begin_asks(self) -> None:
        """One at a time of each CA, and in a thread of its own: a CA that is slow to say when to
        renew must not keep attempts from being made."""
        for directory, due in self._asks.items() if self._may_ask else ():
            while due and not self._asking[directory]:
                ask_at, name = heapq.heappop(due)
                managed = self.certificates.get(name)
                if (
                    managed is not None
                    and not managed.busy
                    and managed.record.state is State.FRESH
                    and managed.record.ask_at == ask_at
                    and managed.issued_by == directory
                ):
                    self._run(Task.ASK, managed, directory)

    # Commands

    def _obey(self, command: Command) -> None:
        match command.verb:
            case "want" | "used" | "refusal":
                self._on_demand.obey(command)
            case "look":
                self._lookers.append(_Looker(command))
                self._look_around()
            case "renew" | "revoke" | "roll_account_key" if why := self._refusal():
                self._reply(command, {"ok": False, "error": why})
            case _:
                self._commands.obey(command)

    def _answer_lookers(self) -> None:
        waiting = []
        for looker in self._lookers:
            if looker.waits_for_scan or any(map(self._will_be_seen, looker.names)):
                waiting.append(looker)
            else:
                self._reply(looker.command, {"ok": True, "error": None})
        self._lookers = waiting

    def _will_be_seen(self, name: str) -> bool:
        """In a moment. An attempt takes longer, and nobody may change its folder meanwhile."""
        managed = self.certificates.get(name)
        if managed is None:
            return False
        if name in self._to_see:
            return not managed.attempted
        return managed.task in _BEFORE_AN_ANSWER

    def _report(self, managed: ManagedCertificate) -> None:
        self._out.append(Report(managed.name, managed))

    def _reply(self, command: Command, value: dict[str, object]) -> None:
        self._replies.give(command.ticket, value)


class _Looker:
    """A command to look at the store, until everything has been looked at that had changed."""

    def __init__(self, command: Command) -> None:
        self.command = command
        self.waits_for_scan = True
        self.names: set[str] = set()

    def saw(self, scans_left: int, names: set[str]) -> None:
        """A scan has ended, and ``scans_left`` are under way still: only the last one began after
        the command for certain."""
        self.names |= names
        if not scans_left:
            self.waits_for_scan = False
