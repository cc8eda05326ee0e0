"""Decides about certificates for names that no configuration lists, when a client asks for one.

A worker that meets such a name in a ClientHello asks (``want``). This module decides whether the
name may have a certificate (`policy`, `ask_url`, `dns_check`) and gives the scheduler one
certificate more, which is then obtained, kept, served and renewed like any other. Names are
remembered over restarts in ``on-demand/names.json``, certificates where all certificates are.

What differs from a configured name, and why this is hard:

- The client is unknown. Questions are answered from memory where possible, few are asked at a time,
  new names are counted by the hour, and the number of names is bounded.
- Nobody has promised that the name works. Until it has had a certificate once, an attempt is made
  only while a client waits for it; otherwise the certificate is *dormant*.
- A name may be given up. So before each renewal it is checked again, and a name that no client has
  asked for in a long time is not renewed. Its certificate is served while it lasts; then its files
  are deleted.

Nothing here does I/O: the scheduler hands on what is to be asked, written and deleted, and comes
back with what was found (`checked`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from ..certificates import transitions
from ..certificates.lifecycle import PAUSED, READY
from ..certificates.managed import ManagedCertificate
from ..link import ATTEMPTS_AT_ONCE, FORGET, CertificateSpec, Command, OnDemandRule, Settings
from ..names import hostname, typed, wildcard_of
from .checks import MOST, Finding, Why
from .known_names import SAVE_EVERY, Changes, Name, Remembered
from .policy import Allowance, LogThrottle, Refusals, takes

log = logging.getLogger("treehouse.certifier")

# How long a refusal holds. A customer who has just added a domain tries again within minutes.
REFUSED_FOR = 300.0
# How long no answer holds: the app is being restarted, a name server is slow.
UNTOLD_FOR = 15.0
CROWDED_FOR = 1.0
# How long a name waits that is allowed but over the hour's allowance.
ALLOWANCE_FOR = 60.0
# First attempts on demand at a time; one place is left for configured names.
ATTEMPTS_MOST = ATTEMPTS_AT_ONCE - 1
# Names of other machines that are looked at at a time.
_HEARD_MOST = MOST // 4
# When a renewal that was not allowed, or not decided, is asked about again.
LOOK_AGAIN_REFUSED = 6 * 3600.0
LOOK_AGAIN_UNTOLD = 600.0
# How long a name is kept that never had a certificate and that no client asks for.
FAILED_KEPT = 86400.0
# A name must qualify for deletion for this long first, in case the clock was wrong.
FORGET_AFTER = 3600.0


class OnDemand:
    """``certificates`` are the scheduler's, all of them; ``take_on``, ``let_go`` (of a certificate,
    from then on neither served nor reported), ``report`` and ``reply`` are the scheduler's too.
    ``check`` has a name asked about, ``save`` has what has changed written down, ``discard`` has a
    name's files deleted."""

    def __init__(
        self,
        settings: Settings,
        certificates: dict[str, ManagedCertificate],
        take_on: Callable[[CertificateSpec], ManagedCertificate],
        let_go: Callable[[ManagedCertificate], None],
        report: Callable[[ManagedCertificate], None],
        reply: Callable[[Command, dict[str, object]], None],
        now: Callable[[], float],
        check: Callable[[str, tuple[OnDemandRule, ...], Why], None],
        save: Callable[[Changes], None],
        discard: Callable[[str], None],
    ) -> None:
        self._check = check
        self._save = save
        self._discard = discard
        self._certificates = certificates
        self._take_on = take_on
        self._let_go = let_go
        self._report = report
        self._reply = reply
        self._now = now
        self._names: dict[str, Name] = {}
        self._unwritten: set[str] = set()  # names that have changed since they were written down
        self._changed_at: float | None = None  # since when something is to be written
        self._cleared: set[str] = set()  # an attempt may be made
        self._spent: set[str] = set()  # had from the allowance, and perhaps found in the store
        self._waiting: dict[str, list[Command]] = {}  # for what is found out about a name
        self._heard: set[str] = set()  # names that other machines may have certificates for
        self._only_heard: set[str] = set()  # of these, those that are being looked at
        self._stirred = True  # something has happened since the last turn
        self._changed: set[str] = set()  # names that began or ceased to sleep
        self._refusals = Refusals(longest=REFUSED_FOR)
        self._log_throttle = LogThrottle()
        self._rules = settings.on_demand
        self._allowances = {rule.site: Allowance(rule.per_hour) for rule in self._rules}
        self._taken = frozenset(settings.taken)

    def recall(self, remembered: Remembered) -> list[CertificateSpec]:
        """Take over what an earlier process has written; returns the certificates that are wanted
        still, as far as the configuration has room for them."""
        self._names.update(remembered.names)
        for site, due in remembered.due.items():
            if site in self._allowances:
                self._allowances[site].due = due
        self.stir()
        found = []
        for name, one in sorted(self._names.items()):
            rule = self._rule(one.site)
            if rule is not None and takes(rule.patterns, name) and not self._is_taken(name):
                found.append(_wanted(rule, name))
        return found

    def takes(self, name: object) -> bool:
        """Whether a certificate for this name may be had on demand, as far as patterns tell."""
        found = hostname(typed(str(name)))
        return found is not None and any(takes(rule.patterns, found) for rule in self._rules)

    @property
    def busy(self) -> bool:
        return bool(self._waiting)

    def unwritten(self) -> Changes | None:
        """Take the changes that are not written down yet; None where no name can come on
        demand."""
        if not self._rules:
            return None
        changed, self._unwritten = self._unwritten, set()
        names = {
            # A copy: it is written in another thread, and changes here.
            name: None if (one := self._names.get(name)) is None else Name(one.site, one.asked_at)
            for name in changed
        }
        return Changes(names, {site: one.due for site, one in self._allowances.items()})

    def not_saved(self) -> None:
        self._change()

    def stir(self) -> None:
        """Look at every name in the next turn."""
        self._stirred = True

    def touched(self, name: str) -> None:
        """Something has happened to this certificate."""
        self._stirred = self._stirred or name in self._names

    def found(self, managed: ManagedCertificate) -> None:
        """Its certificate was in the store: then it costs nothing of the hour's allowance."""
        if managed.name in self._spent and managed.usable(self._now()):
            self._spent.discard(managed.name)
            self._allowances[self._names[managed.name].site].give_back()

    def hear(self, names: Iterable[str]) -> None:
        """Other machines may have certificates for these names."""
        for name in names:
            if name not in self._certificates and not self._is_taken(name) and self.takes(name):
                self._heard.add(name)
        self._stirred = self._stirred or bool(self._heard)

    # Questions

    def obey(self, command: Command) -> None:
        self.stir()
        value = command.value
        name = hostname(typed(str(value.get("name") if isinstance(value, dict) else value)))
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
        managed = self._certificates.get(name)
        if managed is not None and name in self._names:
            self._came_for(name)
            if managed.usable(now):
                self._reply(command, {"ok": True})
                return
            if managed.busy or name in self._cleared:
                self._wait(managed, command)
                return
            managed.record = transitions.after_time(
                managed.record, now
            )  # the pause may just be over
            if managed.record.state in PAUSED:
                self._refuse_paused(managed, command)
                return
        elif managed is not None or self._is_taken(name):
            self._refuse(command, REFUSED_FOR, "it is a configured name")
            return
        if name in self._waiting:
            self._waiting[name].append(command)
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
        elif not self._begin(name, allowed, Why.NEW):
            self._refuse(command, CROWDED_FOR, "too many names are being looked at")
        else:
            self._waiting[name].append(command)

    def _begin(self, name: str, rules: list[OnDemandRule], why: Why) -> bool:
        """Have a name asked about, once at a time; False when too many are."""
        if name not in self._waiting:
            if len(self._waiting) >= MOST:
                return False
            self._waiting[name] = []
            self._check(name, tuple(rules), why)
        return True

    def _wait(self, managed: ManagedCertificate, command: Command) -> None:
        if command.ticket is not None:
            managed.tickets.append(command.ticket)

    def _refuse_paused(self, managed: ManagedCertificate, command: Command) -> None:
        until = managed.record.next_attempt or 0.0
        seconds = max(until - self._now(), CROWDED_FOR)
        self._refuse(command, seconds, managed.record.last_error or "the CA has not issued it")

    def _no(self, name: str, waiting: list[Command], seconds: float, why: str) -> None:
        now = self._now()
        self._refusals.put(name, now, seconds, why)
        for command in waiting:
            self._refuse(command, seconds, why)
        held = self._log_throttle.passes(now)
        if held is not None:
            more = f" ({held} more names were refused before)" if held else ""
            log.info("%s: no certificate on demand: %s%s", name, why, more)

    def _came_for(self, name: str) -> None:
        one, now = self._names[name], self._now()
        if not one.asked_at <= now < one.asked_at + SAVE_EVERY:
            one.asked_at = now
            self._unwritten.add(name)
            self._change()

    def _change(self) -> None:
        """Something is to be written down, in its time."""
        if self._changed_at is None:
            self._changed_at = self._now()

    def _save_now(self) -> None:
        self._changed_at = None
        changes = self.unwritten()
        if changes is not None:
            self._save(changes)

    # Answers

    def checked(self, finding: Finding) -> None:
        """What was found out about a name."""
        self.stir()
        waiting = self._waiting.pop(finding.name, [])
        only_heard = finding.name in self._only_heard
        self._only_heard.discard(finding.name)
        managed = self._certificates.get(finding.name)
        if only_heard and (managed is not None or finding.outcome != "allowed"):
            for command in waiting:  # who has come meanwhile
                self._want(finding.name, command)
        elif managed is not None and finding.name in self._names:
            self._looked_again(finding, waiting, managed)
        else:  # new here, or another site's until the configuration changed
            self._looked(finding, waiting)

    def turn(self) -> set[str]:
        """Call in each step of the scheduler, before attempts begin. Returns the names of
        certificates that became dormant, or ceased to be."""
        if not self._stirred:
            return set()
        self._stirred = False
        now = self._now()
        self._follow_heard()
        under_way = sum(
            managed.busy and managed.facts is None
            for name in self._names
            if (managed := self._certificates.get(name))
        )
        for name, one in list(self._names.items()):
            under_way += self._settle(name, one, now, under_way)
        if self._changed_at is not None and not 0 <= now - self._changed_at < SAVE_EVERY:
            self._save_now()
        changed, self._changed = self._changed, set()
        return changed

    def _follow_heard(self) -> None:
        """Look at names of other machines, so few at a time that clients' names have room."""
        while self._heard and len(self._waiting) < _HEARD_MOST:
            name = self._heard.pop()
            rules = [rule for rule in self._rules if takes(rule.patterns, name)]
            if rules and name not in self._certificates and name not in self._waiting:
                self._begin(name, rules, Why.HEARD)
                self._only_heard.add(name)

    def _looked(self, finding: Finding, waiting: list[Command]) -> None:
        """A check of a new name has ended."""
        name, rule = finding.name, finding.rule
        if finding.outcome == "refused":
            self._no(name, waiting, finding.seconds or REFUSED_FOR, finding.why)
            return
        if finding.outcome == "untold":
            self._no(name, waiting, finding.seconds or UNTOLD_FOR, finding.why)
            return
        now = self._now()
        if finding.is_known:
            log.info("%s: another machine has it, for %s", name, rule.site)
            self._add(name, rule, now, waiting)
            return
        allowance = self._allowances[rule.site]
        # Other names have been allowed while this one was checked.
        if allowance.wait(now):
            why = f"{rule.per_hour} new names in an hour are ordered for {rule.site}"
            self._no(name, waiting, ALLOWANCE_FOR, why)
            return
        if not self._make_room(rule):
            self._no(name, waiting, ALLOWANCE_FOR, f"{rule.site} has {rule.most} names already")
            return
        log.info("%s: somebody came for it; allowed %s, for %s", name, finding.why, rule.site)
        allowance.spend(now)
        self._spent.add(name)
        self._add(name, rule, now, waiting)

    def _add(self, name: str, rule: OnDemandRule, now: float, waiting: list[Command]) -> None:
        self._names[name] = Name(rule.site, now)
        self._unwritten.add(name)
        self._cleared.add(name)
        managed = self._take_on(_wanted(rule, name))
        self._save_now()
        self._hand_on(managed, waiting)

    def _looked_again(
        self, finding: Finding, waiting: list[Command], managed: ManagedCertificate
    ) -> None:
        """A check has ended of a name that has a certificate, or whose first attempt failed."""
        name, one, now = finding.name, self._names[finding.name], self._now()
        if finding.outcome == "allowed":
            one.refused = False
            self._cleared.add(name)
            if managed.facts is None:
                self._allowances[one.site].spend(now)
            self._hand_on(managed, waiting)
            return
        refused = finding.outcome == "refused"
        one.refused = refused
        one.look_at = now + (LOOK_AGAIN_REFUSED if refused else LOOK_AGAIN_UNTOLD)
        if managed.facts is not None:
            log.warning("%s: not renewed: %s", name, finding.why)
            for command in waiting:
                self._refuse(command, UNTOLD_FOR, finding.why)
        else:
            self._no(name, waiting, REFUSED_FOR if refused else UNTOLD_FOR, finding.why)

    def _hand_on(self, managed: ManagedCertificate, waiting: list[Command]) -> None:
        for command in waiting:
            if managed.usable(self._now()):
                self._reply(command, {"ok": True})
            elif managed.record.state in PAUSED:
                self._refuse_paused(managed, command)
            else:
                self._wait(managed, command)

    # What becomes of names

    def _settle(self, name: str, one: Name, now: float, under_way: int) -> bool:
        """Make the certificate dormant or not. Returns whether a first attempt begins now."""
        managed = self._certificates.get(name)
        if managed is None:
            self._forget_if_over(name, one, None, now, now - one.asked_at > self._forget(one))
            return False
        if managed.busy:
            return False
        new = managed.facts is None
        unused = now - one.asked_at > self._forget(one)
        if managed.record.state not in READY:
            self._cleared.discard(name)
            self._spent.discard(name)
            self._let_sleep(managed, new)
        elif name in self._cleared or managed.tickets:  # of somebody who asks for it by hand
            self._let_sleep(managed, new and under_way >= ATTEMPTS_MOST)
        else:
            self._let_sleep(managed, True)
            rule = self._rule(one.site)
            if not new and not unused and now >= one.look_at and rule is not None:
                self._begin(name, [rule], Why.AGAIN)
        given_up = not new and (unused or one.refused)
        if given_up is not managed.given_up:
            managed.given_up = given_up
            self._report(managed)
        if new:
            over = name not in self._cleared and now - one.asked_at > FAILED_KEPT
        else:
            over = given_up and not managed.usable(now)
        self._forget_if_over(name, one, managed, now, over)
        return new and managed.record.state in READY and not managed.dormant

    def _let_sleep(self, managed: ManagedCertificate, dormant: bool) -> None:
        if managed.dormant is not dormant:
            managed.dormant = dormant
            self._changed.add(managed.name)

    def _forget_if_over(
        self, name: str, one: Name, managed: ManagedCertificate | None, now: float, over: bool
    ) -> None:
        if not over or name in self._waiting:
            one.over_since = None
        elif one.over_since is None or one.over_since > now:
            one.over_since = now
        elif now - one.over_since >= FORGET_AFTER:
            self._drop(name, managed, "nobody comes for it, or it is not allowed any more")

    def _drop(self, name: str, managed: ManagedCertificate | None, why: str) -> None:
        log.info("%s: forgotten: %s", name, why)
        del self._names[name]
        self._unwritten.add(name)
        self._cleared.discard(name)
        if managed is not None:
            self._let_go(managed)
        self._spent.discard(name)
        if not self._is_taken(name):
            self._discard(name)
        self._change()

    def _make_room(self, rule: OnDemandRule) -> bool:
        """Whether there is room for another name; if need be, drop a name that never got a
        certificate."""
        of_site = [name for name, one in self._names.items() if one.site == rule.site]
        if len(of_site) < rule.most:
            return True
        failed = [
            name
            for name in of_site
            if (managed := self._certificates.get(name)) is not None
            and managed.facts is None
            and not managed.busy
            and name not in self._cleared
        ]
        if not failed:
            return False
        oldest = min(failed, key=lambda name: self._names[name].asked_at)
        self._drop(oldest, self._certificates[oldest], "another name needs its place")
        return True

    def _rule(self, site: str) -> OnDemandRule | None:
        return next((rule for rule in self._rules if rule.site == site), None)

    def _forget(self, one: Name) -> float:
        rule = self._rule(one.site)
        return rule.forget if rule is not None else FORGET

    def _is_taken(self, name: str) -> bool:
        return name in self._taken or wildcard_of(name) in self._taken


def _wanted(rule: OnDemandRule, name: str) -> CertificateSpec:
    return replace(rule.wanted, names=(name,), on_demand_for=rule.site)
