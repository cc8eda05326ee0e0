"""What a CA still allows us: token buckets, kept ahead of the CA's own.

A CA counts what we do and says nothing until we have done too much; then it may be a week until the
next certificate. So we count along, with its published figures, and an order that would take the
last token of a bucket is not made: it waits, and says until when and why. One token is left for who
knows better (``--force``, or the CA's own view of what has come in meanwhile).

Pure: the time is a parameter (Unix seconds). A bucket is one moment, the *theoretical arrival time*
of its next token (the generic cell rate algorithm), which is how Let's Encrypt counts as well: a
token comes back every ``window / count`` seconds, not all of them at the window's end.

It is hard because of what we do not see: another machine with the same account or domain. Then the
CA says 429, each certificate keeps to the pause it was told, and nothing here contradicts that.
"""

from __future__ import annotations

import functools
import ipaddress
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from publicsuffixlist import PublicSuffixList

VERSION = 1
_DAY = 86400.0


@dataclass(frozen=True, slots=True)
class Limit:
    """``count`` tokens, which come back within ``window`` seconds."""

    what: str
    count: int
    window: float

    @property
    def interval(self) -> float:
        return self.window / self.count


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one CA. None where it has no such limit."""

    orders: Limit | None = None  # per account
    domain: Limit | None = None  # certificates per registered domain
    names: Limit | None = None  # certificates for exactly the same names
    failures: Limit | None = None  # failed authorizations per name


# https://letsencrypt.org/docs/rate-limits/, 2026. The staging CA has larger ones; those of
# production serve it as well.
LETSENCRYPT = Limits(
    Limit("orders of this account", 300, 3 * 3600.0),
    Limit("certificates for the domain {}", 50, 7 * _DAY),
    Limit("certificates for exactly these names", 5, 7 * _DAY),
    Limit("failed validations of {}", 5, 3600.0),
)


def limits_of(directory: str) -> Limits:
    host = urlsplit(directory).hostname or ""
    return LETSENCRYPT if host.endswith(".letsencrypt.org") else Limits()


@functools.cache
def _suffixes() -> PublicSuffixList:
    return PublicSuffixList()


def registered_domain(name: str) -> str:
    """What somebody has bought below a public suffix; an address, or a suffix itself, is its own
    (IPv6: its /64, as the CAs count)."""
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        bare = name.removeprefix("*.")
        return _suffixes().privatesuffix(bare) or bare
    if address.version == 6:
        return str(ipaddress.ip_network((address, 64), strict=False))
    return name


@dataclass(frozen=True, slots=True)
class Cost:
    """One token of one bucket."""

    key: str
    limit: Limit
    about: str = ""

    def __str__(self) -> str:
        return self.limit.what.format(self.about)


@dataclass(frozen=True, slots=True)
class Refusal:
    """``until``: Unix seconds, when the order can be made without taking a last token."""

    until: float
    why: str


def costs(names: tuple[str, ...], limits: Limits, *, replaces: bool) -> tuple[Cost, ...]:
    """What an order takes if it succeeds. One that names by ARI which certificate it replaces is
    exempt from every limit (Let's Encrypt's words)."""
    if replaces:
        return ()
    found = [Cost("orders", limits.orders)] if limits.orders else []
    return (*found, *_issued(names, limits))


def _issued(names: tuple[str, ...], limits: Limits) -> Iterable[Cost]:
    if limits.names:
        yield Cost("names " + ",".join(sorted(set(names))), limits.names)
    if limits.domain:
        for domain in sorted({registered_domain(name) for name in names}):
            yield Cost(f"domain {domain}", limits.domain, domain)


@dataclass(slots=True)
class Ledger:
    """The buckets of one CA. ``due`` maps a bucket's key to its moment; one that is full again is
    not in it."""

    due: dict[str, float] = field(default_factory=dict)

    def refusal(
        self, names: tuple[str, ...], limits: Limits, now: float, *, replaces: bool
    ) -> Refusal | None:
        """Why an order should wait, and until when."""
        found: Refusal | None = None
        for cost in costs(names, limits, replaces=replaces):
            found = _later(found, self._reserve(cost, now))
        if limits.failures and not replaces:
            for name in names:
                cost = Cost(f"failures {name}", limits.failures, name)
                found = _later(found, self._reserve(cost, now))
        return found

    def _reserve(self, cost: Cost, now: float) -> Refusal | None:
        limit = cost.limit
        due = self.due.get(cost.key, now)
        if due - now > limit.window:
            due = now + limit.window  # written by a clock that ran ahead
        # With one token left beside the one that is taken, where there are two.
        depth = max(limit.count - 2, 0) * limit.interval
        until = due - depth
        if until <= now:
            return None
        return Refusal(until, f"{cost}: {limit.count} in {_spell(limit.window)} are allowed")

    def ordered(self, limits: Limits, now: float) -> None:
        if limits.orders:
            self._spend(Cost("orders", limits.orders), now)

    def issued(self, names: tuple[str, ...], limits: Limits, now: float) -> None:
        for cost in _issued(names, limits):
            self._spend(cost, now)

    def failed(self, name: str, limits: Limits, now: float) -> None:
        if limits.failures:
            self._spend(Cost(f"failures {name}", limits.failures, name), now)

    def _spend(self, cost: Cost, now: float) -> None:
        due = min(max(self.due.get(cost.key, now), now), now + cost.limit.window)
        self.due[cost.key] = due + cost.limit.interval

    def left(self, cost: Cost, now: float) -> int:
        """Whole tokens in a bucket."""
        due = max(self.due.get(cost.key, now) - now, 0.0)
        return max(int(cost.limit.count - due / cost.limit.interval + 1e-9), 0)

    def tidy(self, now: float) -> None:
        """Forget buckets that are full again."""
        self.due = {key: due for key, due in self.due.items() if due > now}

    # On disk

    def to_json(self) -> bytes:
        document = {"version": VERSION, "due": self.due}
        return json.dumps(document, indent=1, sort_keys=True).encode() + b"\n"

    @classmethod
    def from_json(cls, data: bytes) -> Ledger:
        """What can be read of it. A ledger that is lost begins anew: the CA's own still holds."""
        try:
            document: Any = json.loads(data)
        except ValueError:
            return cls()
        due = document.get("due") if isinstance(document, dict) else None
        if not isinstance(due, Mapping):
            return cls()
        return cls(
            {
                str(key): float(value)
                for key, value in due.items()
                if isinstance(value, int | float) and not isinstance(value, bool)
            }
        )


def _later(one: Refusal | None, other: Refusal | None) -> Refusal | None:
    if one is None or other is None:
        return one or other
    return max(one, other, key=lambda refusal: refusal.until)


def _spell(seconds: float) -> str:
    if seconds >= _DAY:
        return f"{seconds / _DAY:g} days"
    return f"{seconds / 3600:g} hours"
