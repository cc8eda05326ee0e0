"""Certificates for names that nobody has configured, when somebody comes for them.

A worker that meets such a name in a ClientHello asks (``want``); here it is decided whether the
name may be had (`admission`, `asking`, `pointing`) and the agent is given one more holding, which
is then issued, kept, served and renewed like any other. Names are remembered over restarts in
``on-demand/names.json``, certificates where all certificates are.

What differs from a configured name, and why this is hard:

- Whoever comes is a stranger. Questions are answered from memory where possible, few are under way
  at a time, new names are counted by the hour, and there is an end to how many there can be.
- Nobody has promised that the name works. An attempt is made when somebody waits for it, never by
  itself again (the holding is *asleep*), until there was a certificate once.
- A name may be given up. So before each renewal it is asked for again, and one that nobody has come
  for in a long time is not renewed. Its certificate is served while it lasts, and then forgotten
  with its files.

Everything here runs on the agent's main thread, except `_look`, which asks the network.
"""

from __future__ import annotations

import logging
import queue
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from . import documents
from .admission import Allowance, Refusals, Voice, hostname, takes
from .asking import CannotTell, ask
from .desks import ATTEMPTS_AT_ONCE
from .holding import Holding
from .lifecycle import PAUSED, READY
from .link import FORGET, Command, OnDemandRule, Settings, Wanted
from .shelf import Shelf
from .store import Store

log = logging.getLogger("treehouse.certifier")

_FOLDER, _FILE, VERSION = "on-demand", "names.json", 1

# Threads that ask an app or the DNS, and questions that may wait for one. Beyond that a stranger
# hears no, which is forgotten within a second.
LOOKS_AT_ONCE = 8
LOOKS_MOST = 64
# How long a no holds. A customer who has just added a domain tries again within minutes.
REFUSED_FOR = 300.0
# An app that is being restarted, a name server that is slow.
UNTOLD_FOR = 15.0
CROWDED_FOR = 1.0
# A name that is full of promise, but for the hour's allowance.
ALLOWANCE_FOR = 60.0
# Attempts that leave a place for configured names.
ATTEMPTS_MOST = ATTEMPTS_AT_ONCE - 1
# A renewal that was not allowed, or not decided, is asked about again.
LOOK_AGAIN_REFUSED = 6 * 3600.0
LOOK_AGAIN_UNTOLD = 600.0
# A name that never had a certificate, and that nobody has come for since.
FAILED_KEPT = 86400.0
# What is to be forgotten must be so for as long: a clock that is set wrong is set right within.
FORGET_AFTER = 3600.0
# How often what has been used is written down.
SAVE_EVERY = 600.0


@dataclass(slots=True)
class Name:
    """What is remembered of one: ``asked_at`` is when somebody last came for it."""

    site: str
    asked_at: float
    look_at: float = 0.0  # when to ask again whether it may be renewed
    refused: bool = False  # by the last look
    over_since: float | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    name: str
    outcome: Literal["allowed", "refused", "untold"]
    why: str
    rule: OnDemandRule | None = None


@dataclass(slots=True)
class _Look:
    """A question under way, and the commands that wait for its answer."""

    waiting: list[Command] = field(default_factory=list)


class OnDemand:
    """``holdings`` are the agent's, all of them; ``take_on``, ``let_go`` (of a holding, from then
    on neither served nor reported) and ``reply`` are the agent's too."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        shelf: Shelf,
        holdings: dict[str, Holding],
        take_on: Callable[[Wanted], Holding],
        let_go: Callable[[Holding], None],
        reply: Callable[[Command, dict[str, object]], None],
        now: Callable[[], float],
    ) -> None:
        self._store = store
        self._shelf = shelf
        self._holdings = holdings
        self._take_on = take_on
        self._let_go = let_go
        self._reply = reply
        self._now = now
        self._names: dict[str, Name] = {}
        self._cleared: set[str] = set()  # an attempt may be made
        self._looks: dict[str, _Look] = {}
        self._found: queue.SimpleQueue[Finding] = queue.SimpleQueue()
        self._pool = ThreadPoolExecutor(LOOKS_AT_ONCE, "look")
        self._refusals = Refusals(longest=REFUSED_FOR)
        self._voice = Voice()
        self._allowances: dict[str, Allowance] = {}
        self._unsaved_since: float | None = None
        self.adopt(settings)
        if self._rules:
            self._read()

    def adopt(self, settings: Settings) -> None:
        self._rules = settings.on_demand
        self._taken = frozenset(settings.taken)
        for rule in self._rules:
            known = self._allowances.setdefault(rule.site, Allowance(rule.per_hour))
            known.per_hour = rule.per_hour
        if any(rule.dns for rule in self._rules):
            from . import pointing  # noqa: F401 - now, and in this thread

    def remembered(self) -> list[Wanted]:
        """Of an earlier life, as far as the configuration still has room for them."""
        found = []
        for name, one in sorted(self._names.items()):
            rule = self._rule(one.site)
            if rule is not None and takes(rule.patterns, name) and not self._is_taken(name):
                found.append(_wanted(rule, name))
        return found

    @property
    def busy(self) -> bool:
        return bool(self._looks)

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._save()

    # Questions

    def obey(self, command: Command) -> None:
        name = hostname(str(command.value))
        match command.verb:
            case "used" if name in self._names:
                self._came_for(name)
            case "refusal":
                self._reply(command, {"ok": True, "refusal": self._explain(name)})
            case "want" if name is not None:
                self._want(name, command)
            case "want":
                self._refuse(command, REFUSED_FOR, "it is no name that a CA certifies")

    def _explain(self, name: str | None) -> dict[str, Any] | None:
        refusal = self._refusals.find(name, self._now()) if name else None
        return {"why": refusal.why, "until": refusal.until} if refusal else None

    def _refuse(self, command: Command, seconds: float, why: str) -> None:
        self._reply(command, {"ok": False, "seconds": seconds, "error": why})

    def _want(self, name: str, command: Command) -> None:
        now = self._now()
        holding = self._holdings.get(name)
        if holding is not None and name in self._names:
            self._came_for(name)
            if holding.usable(now):
                self._reply(command, {"ok": True})
                return
            if holding.busy or name in self._cleared:
                self._wait(holding, command)
                return
            if holding.record.state in PAUSED:
                self._refuse_paused(holding, command)
                return
        elif holding is not None or self._is_taken(name):
            self._refuse(command, REFUSED_FOR, "it is a configured name")
            return
        if name in self._looks:
            self._looks[name].waiting.append(command)
            return
        refusal = self._refusals.find(name, now)
        if refusal is not None:
            self._refuse(command, refusal.until - now, refusal.why)
            return
        rules = [rule for rule in self._rules if takes(rule.patterns, name)]
        allowed = [rule for rule in rules if not self._allowances[rule.site].wait(now)]
        if not rules:
            self._no(name, [command], REFUSED_FOR, "no pattern takes it")
        elif not allowed:
            why = f"{rules[0].per_hour} new names in an hour are ordered for {rules[0].site}"
            self._no(name, [command], ALLOWANCE_FOR, why)
        elif len(self._looks) >= LOOKS_MOST:
            self._refuse(command, CROWDED_FOR, "too many names are being looked at")
        else:
            self._begin(name, allowed).waiting.append(command)

    def _wait(self, holding: Holding, command: Command) -> None:
        if command.ticket is not None:
            holding.tickets.append(command.ticket)

    def _refuse_paused(self, holding: Holding, command: Command) -> None:
        until = holding.record.next_attempt or 0.0
        seconds = max(until - self._now(), CROWDED_FOR)
        self._refuse(command, seconds, holding.record.last_error or "the CA has not issued it")

    def _no(self, name: str, waiting: list[Command], seconds: float, why: str) -> None:
        now = self._now()
        self._refusals.put(name, now, seconds, why)
        for command in waiting:
            self._refuse(command, seconds, why)
        held = self._voice.speaks(now)
        if held is not None:
            more = f" ({held} more names were refused before)" if held else ""
            log.info("%s: no certificate on demand: %s%s", name, why, more)

    def _came_for(self, name: str) -> None:
        one, now = self._names[name], self._now()
        if not one.asked_at <= now < one.asked_at + SAVE_EVERY:
            one.asked_at = now
            self._change()

    # Looking whether a name may be had

    def _begin(self, name: str, rules: list[OnDemandRule]) -> _Look:
        look = self._looks[name] = _Look()
        self._pool.submit(self._look, name, rules)
        return look

    def _look(self, name: str, rules: list[OnDemandRule]) -> None:
        """In a thread of the pool. The first rule that allows the name has it."""
        finding = Finding(name, "refused", "")
        for rule in rules:
            try:
                why = _objection(rule, name)
            except CannotTell as reason:
                finding = Finding(name, "untold", str(reason), rule)
            except Exception as error:
                log.exception("%s: a fault in the certifier itself", name)
                finding = Finding(name, "untold", repr(error), rule)
            else:
                if why is None:
                    finding = Finding(name, "allowed", _ground(rule), rule)
                    break
                if finding.outcome == "refused":
                    finding = Finding(name, "refused", why, rule)
        self._found.put(finding)

    def turn(self) -> None:
        """Once in each turn of the agent's loop, before attempts are started."""
        while not self._found.empty():
            finding = self._found.get()
            look = self._looks.pop(finding.name)
            if finding.name in self._names:
                self._looked_again(finding, look.waiting)
            else:
                self._looked(finding, look.waiting)
        now = self._now()
        under_way = sum(
            holding.busy and holding.facts is None
            for name in self._names
            if (holding := self._holdings.get(name))
        )
        for name, one in list(self._names.items()):
            under_way += self._settle(name, one, now, under_way)
        if self._unsaved_since is not None and now >= self._unsaved_since + SAVE_EVERY:
            self._save()

    def _looked(self, finding: Finding, waiting: list[Command]) -> None:
        """At a name that was not had."""
        name, rule = finding.name, finding.rule
        if finding.outcome == "refused" or rule is None:
            self._no(name, waiting, REFUSED_FOR, finding.why)
            return
        if finding.outcome == "untold":
            self._no(name, waiting, UNTOLD_FOR, finding.why)
            return
        now = self._now()
        allowance = self._allowances[rule.site]
        # Others have come in while this one was looked at.
        if allowance.wait(now):
            why = f"{rule.per_hour} new names in an hour are ordered for {rule.site}"
            self._no(name, waiting, ALLOWANCE_FOR, why)
            return
        if not self._make_room(rule):
            self._no(name, waiting, ALLOWANCE_FOR, f"{rule.site} has {rule.most} names already")
            return
        log.info("%s: somebody came for it; allowed %s, for %s", name, finding.why, rule.site)
        self._names[name] = Name(rule.site, now)
        self._cleared.add(name)
        holding = self._take_on(_wanted(rule, name))
        if not holding.usable(now):  # else it was on the disk
            allowance.spend(now)
        self._save()
        self._hand_on(holding, waiting)

    def _looked_again(self, finding: Finding, waiting: list[Command]) -> None:
        """At a name that is had, or whose first attempt has failed."""
        name, one, now = finding.name, self._names[finding.name], self._now()
        holding = self._holdings.get(name)
        if finding.outcome == "allowed" and holding is not None:
            one.refused = False
            self._cleared.add(name)
            if holding.facts is None:
                self._allowances[one.site].spend(now)
            self._hand_on(holding, waiting)
            return
        refused = finding.outcome == "refused"
        one.refused = refused
        one.look_at = now + (LOOK_AGAIN_REFUSED if refused else LOOK_AGAIN_UNTOLD)
        if holding is not None and holding.facts is not None:
            log.warning("%s: not renewed: %s", name, finding.why)
            for command in waiting:
                self._refuse(command, UNTOLD_FOR, finding.why)
        else:
            self._no(name, waiting, REFUSED_FOR if refused else UNTOLD_FOR, finding.why)

    def _hand_on(self, holding: Holding, waiting: list[Command]) -> None:
        for command in waiting:
            if holding.usable(self._now()):
                self._reply(command, {"ok": True})
            elif holding.record.state in PAUSED:
                self._refuse_paused(holding, command)
            else:
                self._wait(holding, command)

    # What becomes of names

    def _settle(self, name: str, one: Name, now: float, under_way: int) -> bool:
        """Let the holding sleep or not; whether a first attempt begins now."""
        holding = self._holdings.get(name)
        if holding is None:
            self._forget_if_over(name, one, None, now, now - one.asked_at > self._forget(one))
            return False
        if holding.busy:
            return False
        new = holding.facts is None
        unused = now - one.asked_at > self._forget(one)
        if holding.record.state not in READY:
            self._cleared.discard(name)
            holding.asleep = new
        elif name in self._cleared or holding.tickets:  # of somebody who asks for it by hand
            holding.asleep = new and under_way >= ATTEMPTS_MOST
        else:
            holding.asleep = True
            if not new and not unused and now >= one.look_at and name not in self._looks:
                rule = self._rule(one.site)
                if rule is not None and len(self._looks) < LOOKS_MOST:
                    self._begin(name, [rule])
        if new:
            over = name not in self._cleared and now - one.asked_at > FAILED_KEPT
        else:
            over = not holding.usable(now) and (unused or one.refused)
        self._forget_if_over(name, one, holding, now, over)
        return new and holding.record.state in READY and not holding.asleep

    def _forget_if_over(
        self, name: str, one: Name, holding: Holding | None, now: float, over: bool
    ) -> None:
        if not over or name in self._looks:
            one.over_since = None
        elif one.over_since is None or one.over_since > now:
            one.over_since = now
        elif now - one.over_since >= FORGET_AFTER:
            self._drop(name, holding, "nobody comes for it, or it is not allowed any more")

    def _drop(self, name: str, holding: Holding | None, why: str) -> None:
        log.info("%s: forgotten: %s", name, why)
        del self._names[name]
        self._cleared.discard(name)
        if holding is not None:
            self._let_go(holding)
        if not self._is_taken(name):
            try:
                self._shelf.discard(name)
            except OSError as error:
                log.warning("%s: its files cannot be taken away: %s", name, error)
        self._change()

    def _make_room(self, rule: OnDemandRule) -> bool:
        """A name that never got a certificate makes room for one that may."""
        of_site = [name for name, one in self._names.items() if one.site == rule.site]
        if len(of_site) < rule.most:
            return True
        failed = [
            name
            for name in of_site
            if (holding := self._holdings.get(name)) is not None
            and holding.facts is None
            and not holding.busy
            and name not in self._cleared
        ]
        if not failed:
            return False
        oldest = min(failed, key=lambda name: self._names[name].asked_at)
        self._drop(oldest, self._holdings[oldest], "another name needs its place")
        return True

    def _rule(self, site: str) -> OnDemandRule | None:
        return next((rule for rule in self._rules if rule.site == site), None)

    def _forget(self, one: Name) -> float:
        rule = self._rule(one.site)
        return rule.forget if rule is not None else FORGET

    def _is_taken(self, name: str) -> bool:
        return name in self._taken or f"*.{name.partition('.')[2]}" in self._taken

    # On disk

    def _change(self) -> None:
        if self._unsaved_since is None:
            self._unsaved_since = self._now()

    def _save(self) -> None:
        if not self._rules and not self._names:
            return
        self._unsaved_since = None
        document = {
            "names": {
                name: {"site": one.site, "asked_at": one.asked_at}
                for name, one in sorted(self._names.items())
            },
            "allowances": {site: one.due for site, one in self._allowances.items()},
        }
        files = {_FILE: documents.write(document, VERSION)}
        try:
            before = self._store.load(_FOLDER).get(_FILE, b"")
            aside = documents.set_aside(_FILE, before, VERSION)
            if aside is not None:
                self._store.store(_FOLDER, {aside: before})
            self._store.store(_FOLDER, files)
        except OSError as error:
            self._change()
            log.warning("names on demand cannot be written down: %s", error)

    def _read(self) -> None:
        """What can be read of it; a name that is lost is only asked for anew."""
        try:
            document = documents.read(self._store.load(_FOLDER).get(_FILE, b""), VERSION)
            names, dues = document.get("names", {}), document.get("allowances", {})
            for name, one in names.items():
                if hostname(name) == name:
                    self._names[name] = Name(str(one["site"]), float(one["asked_at"]))
            for site, due in dues.items():
                if site in self._allowances:
                    self._allowances[site].due = float(due)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            log.warning("names on demand: what was written down cannot be read: %r", error)


def _wanted(rule: OnDemandRule, name: str) -> Wanted:
    return replace(rule.wanted, names=(name,), on_demand_for=rule.site)


def _ground(rule: OnDemandRule) -> str:
    grounds = [
        said
        for given, said in (
            (rule.patterns, "by a pattern"),
            (rule.ask, "by the ask URL"),
            (rule.dns, "by its DNS"),
        )
        if given
    ]
    return " and ".join(grounds)


def _objection(rule: OnDemandRule, name: str) -> str | None:
    """Why the rule does not allow a name that its patterns take. Our own app is asked first: it
    is near, and a stranger's name server may be made to be slow."""
    why = ask(rule.ask, name) if rule.ask else None
    if why is None and rule.dns:
        from .pointing import leads_here, public_addresses

        ours = frozenset(rule.addresses) or public_addresses()
        why = leads_here(name, ours, rule.resolver)
    return why
