"""Decides what the certifier does next, and when.

`Scheduler.step` takes the time and what has happened, and returns what is to be done. It does no
I/O, starts no thread and has no clock, so that years can be simulated with the very code that runs
(tests/support/simulated_life.py).

It looks only at certificates that something has happened to: each has a moment at which time alone
changes something, kept in a heap; those that call for an attempt stand in a queue for each CA, the
most urgent first. So a step costs as much as it has to do, however many certificates there are.

What makes it hard is the clock, which may be set. A moment that has passed is found by the heap; a
clock that went back is noticed at the next step, and then every certificate is looked at anew.
"""

from __future__ import annotations

import heapq
import itertools
import logging
from collections import Counter
from collections.abc import Iterable

from ..certificates import ca_choice, transitions
from ..certificates.lifecycle import READY, State
from ..certificates.managed import TELL_AGAIN, ManagedCertificate, Task
from ..certificates.record import Record
from ..link import ATTEMPTS_AT_ONCE, INTERNAL, CertificateSpec, Command, Settings
from ..on_demand.manager import OnDemand
from .commands import Commands
from .pace import Pace, in_hurry
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
    Report,
    Run,
    SaveNames,
    Scan,
)

log = logging.getLogger("treehouse.certifier")

# A clock that is set back by less than this changes nothing worth looking at everything for.
_CLOCK_WENT_BACK = 1.0
# Of those who stand in one CA's queue and must wait (for their site's other certificate, or for the
# next batch), so many are passed over before the rest of the queue waits with them.
_PASSED_OVER = 2 * ATTEMPTS_AT_ONCE + 2
# What a person who asked for a look at the store waits for.
_BEFORE_AN_ANSWER = {Task.REREAD, Task.SERVE, Task.LOAD}
_NEVER = float("inf")


class Scheduler:
    """Times are Unix seconds. ``certificates``: all certificates that are wanted, by name."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._now = 0.0
        self._out: list[Action] = []
        self._count = itertools.count()
        self.certificates: dict[str, ManagedCertificate] = {}
        # When time alone changes something; an entry counts while it is the certificate's last.
        self._moments: list[tuple[float, int, str]] = []
        self._last_moment: dict[str, int] = {}
        # Those who call for an attempt, by CA; an entry counts while it is the certificate's last.
        self._queues: dict[str, list[tuple[Urgency, int, str]]] = {}
        self._queued: dict[str, int] = {}
        self._paces: dict[str, Pace] = {}
        self._batch_at = _NEVER  # when the next batch begins somewhere
        self._attempts: Counter[str] = Counter()  # under way, by CA
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
            lambda name, rules: self._out.append(Check(name, rules)),
            lambda document: self._out.append(SaveNames(document)),
            lambda name: self._out.append(Discard(name)),
        )
        self._commands = Commands(
            self.certificates,
            self._on_demand,
            self._replies,
            self._touch,
            self._run,
            lambda action: self._out.append(action),
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
        if went_back:
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
        while self._moments and self._moments[0][1] != self._last_moment.get(self._moments[0][2]):
            heapq.heappop(self._moments)
        moment = min(self._moments[0][0] if self._moments else _NEVER, self._batch_at)
        return None if moment == _NEVER else moment

    @property
    def loaded(self) -> bool:
        return self._loaded

    def last_names(self) -> bytes | None:
        """The document of names on demand, for the end of the process; None: there are none."""
        return self._on_demand.document()

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
                self._to_see |= (
                    set(self.certificates) if names is None else names & set(self.certificates)
                )
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

    # Certificates

    def _take_on(self, wanted: CertificateSpec) -> ManagedCertificate:
        managed = self.certificates[wanted.name] = ManagedCertificate(wanted, Record())
        self._run(Task.LOAD, managed)
        return managed

    def _let_go(self, managed: ManagedCertificate) -> None:
        """Nobody wants it any more. Its files are another matter."""
        del self.certificates[managed.name]
        for known in (self._last_moment, self._queued):
            known.pop(managed.name, None)
        for some in (self._to_see, self._unsaved, self._stand_ins):
            some.discard(managed.name)
        self._commands.answer(managed)
        self._out.append(Report(managed.name, None))

    def _run(
        self, task: Task, managed: ManagedCertificate, directory: str = "", reason: int = 0
    ) -> None:
        managed.task = task
        self._queued.pop(managed.name, None)
        self._busy_sites[managed.wanted.names[0]] += 1
        if task is Task.ATTEMPT:
            self._attempts[directory] += 1
        elif directory:
            self._asking[directory] += 1
        self._out.append(Run(task, managed, directory, reason))

    def _finished(self, event: Finished) -> None:
        task, managed, directory = event.run.task, event.run.managed, event.run.directory
        self._busy_sites[managed.wanted.names[0]] -= 1
        if task is Task.ATTEMPT:
            self._attempts[directory] -= 1
        elif directory:
            self._asking[directory] -= 1
        managed.task = None
        if self.certificates.get(managed.name) is not managed:
            return
        if task is Task.REVOKE:
            self._commands.revoked(managed, event.run.reason, event.error)
        for known, is_one in (
            (self._unsaved, not managed.saved),
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
        self._queued.pop(name, None)
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
        if record.state in READY and not managed.dormant:
            self._queue(managed)
        self._plan(managed, waits)

    def _plan(self, managed: ManagedCertificate, waits: bool) -> None:
        """Its next moment."""
        record, now = managed.record, self._now
        if record.state in READY:
            moment = record.not_after if record.state is State.DUE else None
        else:
            moment = transitions.next_moment(record)
            if record.state is State.FRESH and record.ask_at is not None and record.ask_at <= now:
                heapq.heappush(
                    self._asks.setdefault(managed.issued_by, []), (record.ask_at, managed.name)
                )
                moment = min(record.renew_at or 0.0, record.not_after or 0.0)
        if waits:
            moment = min(moment or _NEVER, managed.republish_at)
        number = self._last_moment[managed.name] = next(self._count)
        if moment is not None:
            heapq.heappush(self._moments, (moment, number, managed.name))

    def _pass_time(self) -> None:
        while self._moments and self._moments[0][0] <= self._now:
            _moment, number, name = heapq.heappop(self._moments)
            if self._last_moment.get(name) == number:
                self._on_demand.touched(name)
                self._touch(self.certificates[name])

    def _look_around(self) -> None:
        self._out.append(Scan())
        self._scans += 1
        for names, task in (
            (self._unsaved, Task.KEEP_PAIR),
            (self._stand_ins, Task.RECHECK),
        ):
            for name in sorted(names):
                if not self.certificates[name].busy:
                    self._run(task, self.certificates[name])
        self._on_demand.stir()

    # Attempts and questions

    def _queue(self, managed: ManagedCertificate) -> None:
        directory = self._asked_next(managed)
        number = self._queued[managed.name] = next(self._count)
        heapq.heappush(
            self._queues.setdefault(directory, []), (urgency(managed), number, managed.name)
        )

    def _asked_next(self, managed: ManagedCertificate) -> str:
        return ca_choice.authority(managed.wanted, managed.record, self._now).directory

    def _begin_attempts(self) -> None:
        self._batch_at = _NEVER
        if self._loaded:
            for directory in list(self._queues):
                self._begin_attempts_at(directory)

    def _begin_attempts_at(self, directory: str) -> None:
        """The most urgent first, as far as there is room; renewals that have time in small batches.

        Of a site's two certificates one after the other: the CA may ask for the same names'
        challenges, and there is one answer to TLS-ALPN-01 for a name."""
        queue = self._queues[directory]
        passed_over = []
        while queue and self._attempts[directory] < ATTEMPTS_AT_ONCE:
            entry = heapq.heappop(queue)
            _urgency, number, name = entry
            if self._queued.get(name) != number:
                continue
            managed = self.certificates[name]
            if self._asked_next(managed) != directory:
                self._queue(managed)
                continue
            if self._busy_sites[managed.wanted.names[0]] or not self._has_turn(managed, directory):
                passed_over.append(entry)
                if len(passed_over) == _PASSED_OVER:
                    break
                continue
            self._run(Task.ATTEMPT, managed, directory)
        for entry in passed_over:
            heapq.heappush(queue, entry)

    def _has_turn(self, managed: ManagedCertificate, directory: str) -> bool:
        """Whether it may begin now; if so, that is counted."""
        if not has_time(managed, self._now):
            return True
        pace = self._paces.setdefault(directory, Pace())
        wait = pace.wait(self._now)
        if wait:
            self._batch_at = min(self._batch_at, self._now + wait)
            return False
        pace.begin(self._now)
        return True

    def _begin_asks(self) -> None:
        """One at a time of each CA, and in a thread of its own: a CA that is slow to say when to
        renew must not keep attempts from being made."""
        for directory, due in self._asks.items():
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


Urgency = tuple[bool, bool, bool, float]


def urgency(managed: ManagedCertificate) -> Urgency:
    """What takes no time first, then what somebody waits for, then what has nothing to serve, then
    what ends soonest."""
    return (
        managed.wanted.authority.directory != INTERNAL,
        not managed.tickets,
        managed.facts is not None,
        managed.facts.not_after if managed.facts else 0.0,
    )


def has_time(managed: ManagedCertificate, now: float) -> bool:
    """Whether its renewal may wait for others; none by the built-in CA has to."""
    facts = managed.facts
    return (
        facts is not None
        and managed.record.state is State.DUE
        and not managed.tickets
        and managed.wanted.authority.directory != INTERNAL
        and not in_hurry(facts.not_before, facts.not_after, now)
    )
