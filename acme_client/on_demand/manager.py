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

Everything here runs on the agent's main thread; the network is asked by `inquiries`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ..agent.executors import ATTEMPTS_AT_ONCE
from ..certificates import transitions
from ..certificates.lifecycle import PAUSED, READY
from ..certificates.managed import Holding
from ..certificates.repository import Shelf
from ..link import FORGET, Command, OnDemandRule, Settings, Wanted
from ..storage.store import Store
from .checks import Finding, Inquiries
from .known_names import SAVE_EVERY, Name, Roster
from .policy import Allowance, Refusals, Voice, hostname, takes

log = logging.getLogger("treehouse.certifier")

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


class OnDemand:
    """``holdings`` are the agent's, all of them; ``take_on``, ``let_go`` (of a holding, from then
    on neither served nor reported), ``report`` and ``reply`` are the agent's too. ``objection``
    asks the network; a test has its own."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        shelf: Shelf,
        holdings: dict[str, Holding],
        take_on: Callable[[Wanted], Holding],
        let_go: Callable[[Holding], None],
        report: Callable[[Holding], None],
        reply: Callable[[Command, dict[str, object]], None],
        now: Callable[[], float],
        objection: Callable[[OnDemandRule, str], str | None] | None = None,
    ) -> None:
        self._shelf = shelf
        self._holdings = holdings
        self._take_on = take_on
        self._let_go = let_go
        self._report = report
        self._reply = reply
        self._now = now
        self._roster = Roster(store)
        self._names = self._roster.names
        self._cleared: set[str] = set()  # an attempt may be made
        self._inquiries = Inquiries(objection) if objection else Inquiries()
        self._refusals = Refusals(longest=REFUSED_FOR)
        self._voice = Voice()
        self._allowances = self._roster.allowances
        self._rules = settings.on_demand
        self._taken = frozenset(settings.taken)
        for rule in self._rules:
            self._allowances[rule.site] = Allowance(rule.per_hour)
        if self._rules:
            self._roster.read()
        if any(rule.dns for rule in self._rules):
            from . import dns_check  # noqa: F401 - now, and in this thread

    def remembered(self) -> list[Wanted]:
        """Of an earlier life, as far as the configuration still has room for them."""
        found = []
        for name, one in sorted(self._names.items()):
            rule = self._rule(one.site)
            if rule is not None and takes(rule.patterns, name) and not self._is_taken(name):
                found.append(_wanted(rule, name))
        return found

    def takes(self, name: object) -> bool:
        """Whether it may be a name to be had."""
        found = hostname(str(name))
        return found is not None and any(takes(rule.patterns, found) for rule in self._rules)

    @property
    def busy(self) -> bool:
        return bool(self._inquiries)

    def close(self) -> None:
        self._inquiries.close()
        if self._rules:
            self._roster.save()

    # Questions

    def obey(self, command: Command) -> None:
        value = command.value
        name = hostname(str(value.get("name") if isinstance(value, dict) else value))
        match command.verb:
            case "used" if name in self._names:
                self._came_for(name)
            case "refusal":
                self._reply(command, {"ok": True, "refusal": self._explain(name)})
            case "want" if name is not None:
                self._want(name, command)
            case "renew" if name is not None:  # by hand: whoever asks knows that it is time
                self._refusals.forget(name)
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
            holding.record = transitions.at(holding.record, now)  # the pause may just be over
            if holding.record.state in PAUSED:
                self._refuse_paused(holding, command)
                return
        elif holding is not None or self._is_taken(name):
            self._refuse(command, REFUSED_FOR, "it is a configured name")
            return
        if name in self._inquiries:
            self._inquiries.join(name, command)
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
        elif not self._inquiries.begin(name, allowed):
            self._refuse(command, CROWDED_FOR, "too many names are being looked at")
        else:
            self._inquiries.join(name, command)

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
            self._roster.change(self._now())

    # Answers

    def turn(self) -> None:
        """Once in each turn of the agent's loop, before attempts are started."""
        for finding, waiting in self._inquiries.ended():
            holding = self._holdings.get(finding.name)
            if holding is not None and finding.name in self._names:
                self._looked_again(finding, waiting, holding)
            else:  # new here, or another site's until the configuration changed
                self._looked(finding, waiting)
        now = self._now()
        under_way = sum(
            holding.busy and holding.facts is None
            for name in self._names
            if (holding := self._holdings.get(name))
        )
        for name, one in list(self._names.items()):
            under_way += self._settle(name, one, now, under_way)
        self._roster.tend(now)

    def _looked(self, finding: Finding, waiting: list[Command]) -> None:
        """At a name that this configuration does not have yet."""
        name, rule = finding.name, finding.rule
        if finding.outcome == "refused":
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
        self._roster.save()
        self._hand_on(holding, waiting)

    def _looked_again(self, finding: Finding, waiting: list[Command], holding: Holding) -> None:
        """At a name that is had, or whose first attempt has failed."""
        name, one, now = finding.name, self._names[finding.name], self._now()
        if finding.outcome == "allowed":
            one.refused = False
            self._cleared.add(name)
            if holding.facts is None:
                self._allowances[one.site].spend(now)
            self._hand_on(holding, waiting)
            return
        refused = finding.outcome == "refused"
        one.refused = refused
        one.look_at = now + (LOOK_AGAIN_REFUSED if refused else LOOK_AGAIN_UNTOLD)
        if holding.facts is not None:
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
            rule = self._rule(one.site)
            if not new and not unused and now >= one.look_at and rule is not None:
                self._inquiries.begin(name, [rule])
        given_up = not new and (unused or one.refused)
        if given_up is not holding.given_up:
            holding.given_up = given_up
            self._report(holding)
        if new:
            over = name not in self._cleared and now - one.asked_at > FAILED_KEPT
        else:
            over = given_up and not holding.usable(now)
        self._forget_if_over(name, one, holding, now, over)
        return new and holding.record.state in READY and not holding.asleep

    def _forget_if_over(
        self, name: str, one: Name, holding: Holding | None, now: float, over: bool
    ) -> None:
        if not over or name in self._inquiries:
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
        self._roster.change(self._now())

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


def _wanted(rule: OnDemandRule, name: str) -> Wanted:
    return replace(rule.wanted, names=(name,), on_demand_for=rule.site)
