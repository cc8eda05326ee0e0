"""Token buckets of one CA: what it still allows, counted ahead of the CA itself.

A CA counts our orders and says nothing until there were too many; then it may be a week until the
next certificate. So we count along, with its published figures. An order that would take the last
token of a bucket is not placed: it waits, and says until when and why. One token is left for
``--force``, and for orders that the CA has counted and we have not. Orders that wait stand in line:
each gets a moment of its own, so that a thousand do not come back for one token.

Pure: the time is a parameter (Unix seconds). A bucket is one moment (`gcra`), which is how Let's
Encrypt counts as well: a token comes back every ``window / count`` seconds, not all of them at the
window's end.

It is hard because another machine may use the same account or domain, which we do not see. Then the
CA answers 429, and its answer is kept here as well (`Hold`): nobody asks again before.

A clock that is set wrong does no lasting harm: the moments are stored with the time at which they
were written, and if that is ahead of now, they all move back by the difference (`advance`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import field
from datetime import UTC, datetime
from typing import Any

from ..certificates.retry import RETRY_AFTER_MOST
from ..gcra import gcra
from ..late_dataclass import dataclass
from ..storage import documents
from ..text import spell_exactly
from .published import (
    Cost,
    Limits,
    OrderKind,
    costs,
    failures,
    limit_of,
    names_key,
    registered_domain,
    window_of,
)

VERSION = 1
# Two moments that differ by less than this are the same, computed in two ways.
_TOLERANCE = 1.0
# An order that has not come back so long after its moment loses its place in line.
_LATE = 3600.0
# After so long all tokens of an order have come back by themselves, whatever has become of it.
_FORGOTTEN_AFTER = RETRY_AFTER_MOST
# Seconds between two looks for buckets that are full again.
_SWEEP_EVERY = 60.0


# Which limit a CA's refusal is about: Let's Encrypt's text ends with the address of its page.
_MEANT = {
    "#new-orders-per-account": "orders",
    "#new-certificates-per-registered-domain": "domain",
    "#new-certificates-per-exact-set-of-identifiers": "names",
    "#authorization-failures-per-identifier-per-account": "failures",
    "#new-registrations-per-ip": "accounts",
}


@dataclass(frozen=True, slots=True)
class Refusal:
    """``until``: Unix seconds, when the order can be made without taking a last token."""

    until: float
    why: str


@dataclass(frozen=True, slots=True)
class Hold:
    """The CA has answered that there were too many requests, and until when."""

    until: float
    why: str


@dataclass(frozen=True, slots=True)
class Taken:
    """The keys of what an order under way has taken, and when."""

    at: float
    keys: tuple[str, ...]


_CA = "ca"  # a hold on everything there
_ACCOUNTS = "accounts"
_OF_THE_ACCOUNT = frozenset({_CA, _ACCOUNTS, "orders"})


@dataclass(slots=True)
class Buckets:
    """The buckets of one CA. ``due`` maps a bucket's key to its moment; one that is full again is
    not in it. ``held`` is what the CA itself has said. ``taken``: what orders have taken that are
    under way, or were when their process was killed, by certificate. ``at``: when this was last
    true."""

    due: dict[str, float] = field(default_factory=dict)
    held: dict[str, Hold] = field(default_factory=dict)
    at: float | None = None
    taken: dict[str, Taken] = field(default_factory=dict)
    # Whether ``taken`` is kept, and by how many seconds the clocks of those who count may differ.
    keeps_taken: bool = field(default=True, compare=False, repr=False)
    clocks_apart: float = field(default=0.0, compare=False, repr=False)
    # When each waiting order may come back, by bucket. Not on disk: it is computed again when
    # asked.
    line: dict[str, dict[str, float]] = field(default_factory=dict, compare=False, repr=False)
    # Keys of ``due``, of ``held`` and of ``taken`` that have changed since they were taken.
    changed: set[str] = field(default_factory=set, compare=False, repr=False)
    told_anew: set[str] = field(default_factory=set, compare=False, repr=False)
    taken_anew: set[str] = field(default_factory=set, compare=False, repr=False)
    # When what is over is looked for next.
    sweep_at: float = field(default=float("-inf"), compare=False, repr=False)

    def advance(self, limits: Limits, now: float) -> bool:
        """Bring the buckets to the present time, and forget what is over; call it first. True if
        the clock has been set back since the last call."""
        back = self.at is not None and now < self.at - _TOLERANCE
        if back or self.at is None:
            self._set_clock(limits, now)
        self.at = now
        if back or now >= self.sweep_at:
            self._sweep(now)
        return back

    def _sweep(self, now: float) -> None:
        """Forget what is over. With thousands of buckets, not each time: until then it does no
        harm, because a moment that has passed is a full bucket."""
        self.sweep_at = now + _SWEEP_EVERY
        over = [key for key, due in self.due.items() if due <= now]
        for key in over:
            del self.due[key]
        self.changed.update(over)
        let_go = [key for key, one in self.held.items() if one.until <= now]
        for key in let_go:
            del self.held[key]
        self.told_anew.update(let_go)
        for name in [name for name, one in self.taken.items() if one.at < now - _FORGOTTEN_AFTER]:
            self.end(name)
        for line in self.line.values():
            for who in [one for one, until in line.items() if until < now - _LATE]:
                del line[who]

    def bring_to(self, limits: Limits, now: float) -> None:
        """Bring buckets that several machines count in to the present time. What they have written
        is never moved back, for that would be tokens out of nothing; but no moment is further ahead
        than its bucket allows."""
        for key, due in self.due.items():
            latest = now + window_of(key, limits)
            if due > latest + _TOLERANCE:
                self.due[key] = latest
                self.changed.add(key)
        self.at = max(self.at or now, now)
        self._sweep(now)

    def take_changes(self) -> dict[str, dict[str, object]]:
        """Return the new values of what has changed since the last call, None for what is gone;
        empty for nothing."""
        due = {key: self.due.get(key) for key in sorted(self.changed)}
        held = {key: self.held.get(key) for key in sorted(self.told_anew)}
        taken = {name: self.taken.get(name) for name in sorted(self.taken_anew)}
        for told in (self.changed, self.told_anew, self.taken_anew):
            told.clear()
        sections: dict[str, dict[str, object]] = {
            "due": {**due}, "held": {**held}, "taken": {**taken},
        }  # fmt: skip
        return {name: section for name, section in sections.items() if section}

    def _set_clock(self, limits: Limits, now: float) -> None:
        """Keep each moment's distance from now, but none longer than its bucket allows."""
        ahead = self.at - now if self.at is not None else 0.0
        self.due = {
            key: min(due - ahead, now + window_of(key, limits)) for key, due in self.due.items()
        }
        self.held = {
            key: Hold(min(one.until - ahead, now + RETRY_AFTER_MOST), one.why)
            for key, one in self.held.items()
        }
        self.line.clear()
        self.changed.update(self.due)
        self.told_anew.update(self.held)

    # Before an order

    def refusal(
        self, names: tuple[str, ...], limits: Limits, now: float, kind: OrderKind
    ) -> Refusal | None:
        """Return why an order should wait, and until when; None if it need not."""
        key = names_key(names)
        found: list[tuple[Refusal, str | None]] = [
            (Refusal(held.until, held.why), None) for held in self._holds(names, kind, now)
        ]
        for cost in costs(names, limits, kind):
            found += self._reserve(cost, key, now)
        if kind is not OrderKind.EXEMPT:
            for cost in failures(names, limits):
                found += self._reserve(cost, key, now)
        if not found:
            for line in self.line.values():
                line.pop(key, None)
            return None
        latest, bucket = max(found, key=lambda one: one[0].until)
        if bucket is not None:
            self.line.setdefault(bucket, {})[key] = latest.until
        return latest

    def _holds(self, names: tuple[str, ...], kind: OrderKind, now: float) -> Iterable[Hold]:
        keys = {_CA, f"order {names_key(names)}"}
        # Also for a CA without published figures: its answers name limits as Let's Encrypt's do.
        if kind is not OrderKind.EXEMPT:
            keys |= {names_key(names), *(f"failures {name}" for name in names)}
        if kind is OrderKind.NEW:
            keys |= {"orders", *(f"domain {registered_domain(name)}" for name in names)}
        found = [self.held[key] for key in keys & self.held.keys()]
        return [one for one in found if one.until > now]

    def _reserve(self, cost: Cost, who: str, now: float) -> Iterable[tuple[Refusal, str]]:
        """Yield nothing if there is a token beside the last one and no other order waits for it."""
        limit = cost.limit
        line = self.line.get(cost.key, {})
        ahead = [until for one, until in line.items() if one != who and until > now + _TOLERANCE]
        mine = line.get(who)
        # With one token left beside the one that is taken, where there are two.
        wait, _ = gcra(self.due.get(cost.key, now), now, limit.interval, max(limit.count - 1, 1))
        until = now + wait
        if until <= now + _TOLERANCE and (not ahead or mine is not None):
            return
        if mine is not None and mine > now + _TOLERANCE:
            until = max(until, mine)
        elif mine is None and ahead:
            until = max(until, max(ahead) + limit.interval)
        yield (
            Refusal(until, f"{cost}: {limit.count} in {spell_exactly(limit.window)} are allowed"),
            cost.key,
        )

    def account_refusal(self, limits: Limits, now: float) -> Refusal | None:
        """Return why a new account should wait; None if it need not."""
        held = self.held.get(_ACCOUNTS)
        if held is not None and held.until > now:
            return Refusal(held.until, held.why)
        if limits.accounts is None:
            return None
        found = [*self._reserve(Cost(_ACCOUNTS, limits.accounts), "", now)]
        return found[0][0] if found else None

    # What has happened

    def spend(self, taken: Iterable[Cost], now: float) -> None:
        for cost in taken:
            limit = cost.limit
            _, due = gcra(self.due.get(cost.key, now), now, limit.interval, limit.count)
            self.due[cost.key] = min(due, now + limit.window)
            self.changed.add(cost.key)

    def give_back(self, taken: Iterable[Cost]) -> None:
        """Return tokens: the order has led to no certificate."""
        for cost in taken:
            if cost.key in self.due:
                self.due[cost.key] -= cost.limit.interval
                self.changed.add(cost.key)

    def begin(self, name: str, taken: Iterable[Cost], now: float) -> None:
        """An order for the certificate of this name is placed, and has taken these tokens."""
        keys = tuple(cost.key for cost in taken)
        if keys and self.keeps_taken:
            self.taken[name] = Taken(now, keys)
            self.taken_anew.add(name)
        else:
            self.end(name)

    def end(self, name: str) -> None:
        """The order for this certificate is under way no more."""
        if self.taken.pop(name, None) is not None:
            self.taken_anew.add(name)

    def taken_for(self, name: str, limits: Limits, now: float) -> tuple[Cost, ...] | None:
        """Return the tokens of an order for this certificate that is under way, or was when its
        process was killed; None without any. Left out are those that have come back by themselves
        since: to give them back would make two of one."""
        taken = self.taken.get(name) if self.keeps_taken else None
        if taken is None:
            return None
        known = ((key, limit_of(key, limits)) for key in taken.keys)
        return tuple(
            Cost(key, limit)
            for key, limit in known
            if limit is not None and now - taken.at < limit.interval - self.clocks_apart
        )

    def registered(self, limits: Limits, now: float) -> None:
        if limits.accounts:
            self.spend([Cost(_ACCOUNTS, limits.accounts)], now)

    def told(
        self, text: str, until: float, names: tuple[str, ...], limits: Limits, now: float
    ) -> None:
        """Keep that the CA has answered 429 with this text to an order for ``names``."""
        meant = next((kind for mark, kind in _MEANT.items() if mark in text), None)
        keys = [f"order {names_key(names)}"]
        if meant == "orders":
            keys = ["orders"]
        elif meant == "names":
            keys = [names_key(names)]
        elif meant == "domain":
            every = {registered_domain(name) for name in names}
            keys = [f"domain {one}" for one in {one for one in every if one in text} or every]
        elif meant == "failures":
            keys = [f"failures {one}" for one in {one for one in names if one in text} or names]
        elif meant == "accounts":
            keys = [_ACCOUNTS]
        for key in keys:
            self.held[key] = Hold(min(until, now + RETRY_AFTER_MOST), text)
            self.told_anew.add(key)

    def told_to_leave_alone(self, text: str, until: float, now: float) -> None:
        """Keep that the CA has answered 503 with a Retry-After: it is overloaded, whatever is
        asked."""
        self.held[_CA] = Hold(min(until, now + RETRY_AFTER_MOST), text)
        self.told_anew.add(_CA)

    def served(self, names: tuple[str, ...]) -> None:
        """The CA has issued: forget what it said before about this order."""
        for key in (_CA, f"order {names_key(names)}"):
            if self.held.pop(key, None) is not None:
                self.told_anew.add(key)

    # For people

    def foresee(
        self,
        orders: list[tuple[str, ...]],
        limits: Limits,
        now: float,
        kind: OrderKind = OrderKind.NEW,
    ) -> Iterator[str]:
        """Describe which of these orders would have to wait, if they came one after the other."""
        copy = Buckets(
            dict(self.due),
            dict(self.held),
            self.at,
            line={one: dict(who) for one, who in self.line.items()},
        )
        for names in orders:
            refusal = copy.refusal(names, limits, now, kind)
            if refusal is None:
                copy.spend(costs(names, limits, kind), now)
            else:
                yield f"{names[0]} would wait until {moment(refusal.until)} ({refusal.why})"

    def left(self, cost: Cost, now: float) -> int:
        """Count the whole tokens in a bucket; 0 while the CA has told us to wait."""
        if cost.key in self.held and self.held[cost.key].until > now:
            return 0
        due = max(self.due.get(cost.key, now) - now, 0.0)
        return max(int(cost.limit.count - due / cost.limit.interval + 1e-9), 0)

    # On disk

    def document(self) -> dict[str, object]:
        """Return what is to be kept."""
        return {"at": self.at, "due": self.due, "held": self.held, "taken": self.taken}

    @classmethod
    def of_document(cls, document: Mapping[str, Any]) -> Buckets:
        """Take what can be read. Lost buckets begin full: the CA still has its own count."""
        held = {
            key: Hold(until, str(one.get("why")))
            for key, one in _items(document.get("held"))
            if isinstance(one, Mapping)
            and (until := documents.number(one.get("until"))) is not None
        }
        dues = {key: documents.number(one) for key, one in _items(document.get("due"))}
        due = {key: one for key, one in dues.items() if one is not None}
        taken = {
            name: Taken(at, tuple(map(str, one["keys"])))
            for name, one in _items(document.get("taken"))
            if isinstance(one, Mapping)
            and isinstance(one.get("keys"), list)
            and (at := documents.number(one.get("at"))) is not None
        }
        return cls(due, held, documents.number(document.get("at")), taken)


def domains(names: tuple[str, ...]) -> list[str]:
    """Return the registered domains of an order's names: what is counted for it belongs to one of
    them, or to the account."""
    return sorted({registered_domain(name) for name in names})


def domain_of(key: str) -> str | None:
    """Return the registered domain that a bucket or hold belongs to; None: to the account."""
    if key in _OF_THE_ACCOUNT:
        return None
    kind, _space, about = key.removeprefix("order ").partition(" ")
    return about if kind == "domain" else registered_domain(about.partition(",")[0])


def moment(unix: float) -> str:
    return datetime.fromtimestamp(unix, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _items(value: Any) -> Iterable[tuple[str, Any]]:
    return value.items() if isinstance(value, Mapping) else ()
