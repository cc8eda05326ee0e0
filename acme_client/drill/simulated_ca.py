"""A CA without a network: limits as Let's Encrypt enforces them, outages, renewal information,
incidents, and a clock that stands where somebody has put it. An `issuers.interface.Issuer`.

It counts in its own way (tokens that flow in), not with the code under test, and refuses where
Let's Encrypt does: when an order is placed. What is spent then, and what only when a validation has
failed or a certificate is issued, follows https://letsencrypt.org/docs/rate-limits/ (of 5 August
2026) and its server, Boulder. Its certificates are real ones, by a root that nobody trusts.
"""

from __future__ import annotations

import bisect
import collections
import itertools
import random
from collections.abc import Callable
from dataclasses import field
from typing import Any

from cryptography import x509

from ..certificates.clock_skew import demand_agreement
from ..certificates.renewal import Suggestion, Window
from ..certificates.unfinished_order import UnfinishedOrder
from ..errors import IssuanceError
from ..issuers.interface import Issued, Order
from ..issuers.internal import InternalCa
from ..late_dataclass import dataclass
from ..rate_limits.published import registered_domain
from ..x509.verify import CertificateAndKey, CertificateInfo
from .memory_store import MemoryStore

DIRECTORY = "https://acme-v02.api.letsencrypt.org/directory"
ACCOUNT = "https://acme-v02.api.letsencrypt.org/acme/acct/1"
DAY, HOUR = 86400.0, 3600.0
START = 1.8e9
# Let's Encrypt's, by its page; a test compares them with those that the ledger counts with.
ORDERS, NAMES, DOMAIN, FAILURES = (300, 3 * HOUR), (5, 7 * DAY), (50, 7 * DAY), (5, HOUR)
# Failed validations in a row, of one name; then the account is paused for it.
IN_A_ROW = (1152, 1152 * DAY)
# From one address, by endpoint: how many at once, and in how many seconds they come back.
REQUESTS = {
    "directory": (40, 1.0),
    "new-nonce": (10, 0.5),
    "new-order": (200, 200 / 300),
    "renewal-info": (100, 0.1),
}
# The middle of its window is where a third of the lifetime is left, and below ten days the half;
# the window reaches from there this part of the lifetime in both ways (Boulder,
# core.RenewalInfoSimple).
WINDOW_PART = 1 / 100
ASK_AGAIN = 6 * HOUR
# As long an order may be gone on with.
ORDER_LASTS = 7 * DAY


def left_at_renewal(lifetime: float) -> float:
    return lifetime / (2 if lifetime < 10 * DAY else 3)


class Bucket:
    """Holds tokens, which flow in at a steady rate. None is borrowed."""

    def __init__(self, count: int, window: float, now: float) -> None:
        self.count, self.rate = count, count / window
        self.tokens, self.at = float(count), now

    def has_one(self, now: float) -> bool:
        self.tokens = min(self.count, self.tokens + (now - self.at) * self.rate)
        self.at = now
        return self.tokens >= 1 - 1e-6

    def spend(self, now: float) -> None:
        self.has_one(now)
        self.tokens = max(self.tokens - 1, 0.0)


@dataclass(slots=True)
class _Placed:
    """An order. ``spent``: what its certificate takes from; ``failed``: a name did not validate."""

    number: int
    at: float
    replaces: str | None
    spent: list[Bucket]
    issued: Issued | None = None
    failed: bool = False

    @property
    def key(self) -> bytes:
        return b"key of order %d" % self.number


def _which(order: Order) -> tuple[tuple[str, ...], str]:
    return order.names, order.key_type


Span = tuple[float, float]


@dataclass()
class SimulatedCa:
    """``outages``: unreachable, or 503 with a Retry-After, turn by turn. ``incidents``: moments at
    which the windows of all certificates of before become "now". ``broken``: names whose validation
    fails for a while. ``clock``: what the client's own shows (RFC 9773's Retry-After is relative).
    ``done_with``: by incident, when the last certificate of before was replaced.
    """

    lifetime: float
    rng: random.Random
    outages: list[Span] = field(default_factory=list)
    incidents: list[float] = field(default_factory=list)
    broken: dict[str, Span] = field(default_factory=dict)
    information: bool = True
    now: float = START
    clock: Callable[[], float] = lambda: START
    orders_by_hour: collections.Counter[int] = field(default_factory=collections.Counter)
    orders_by_minute: collections.Counter[int] = field(default_factory=collections.Counter)
    failed_by_hour: collections.Counter[int] = field(default_factory=collections.Counter)
    limits_hit: list[str] = field(default_factory=list)
    asked_when_expired: int = 0
    questions: int = 0
    exempt: int = 0
    already_replaced: int = 0
    taken_up: int = 0  # orders that an attempt went on with that had not placed them
    serial: int = 0
    issued_at: dict[str, float] = field(default_factory=dict)
    replaced: set[str] = field(default_factory=set)
    known: set[frozenset[str]] = field(default_factory=set)
    done_with: dict[float, float] = field(default_factory=dict)
    buckets: dict[str, Bucket] = field(default_factory=dict)
    # Those that differ from ``lifetime``, by the names of the certificate.
    lifetimes: dict[frozenset[str], float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._roots: dict[float, InternalCa] = {}
        self._numbers = itertools.count(1)
        self._placed: dict[tuple[tuple[str, ...], str], _Placed] = {}  # the last of each
        self._starts = [start for start, _end in self.outages]

    def _answer(self, *endpoints: str) -> None:
        """Answer a request, or raise `IssuanceError` as an outage or a limit demands. The time
        after which to come back grows with the length of the outage, and never reaches beyond its
        end."""
        number = bisect.bisect_right(self._starts, self.now) - 1
        if number >= 0 and self.now < self.outages[number][1]:
            if number % 2:
                start, end = self.outages[number]
                again = self.clock() + min(end - self.now, max(HOUR, (end - start) / 20))
                raise IssuanceError("unavailable", "maintenance", not_before=again)
            raise IssuanceError("unreachable", "no answer")
        for endpoint in endpoints:
            bucket = self._bucket(endpoint, REQUESTS[endpoint])
            if not bucket.has_one(self.now):
                self._hit(endpoint)
                raise IssuanceError("unavailable", "too many requests", not_before=self.clock() + 1)
            bucket.spend(self.now)

    def _bucket(self, key: str, limit: tuple[int, float]) -> Bucket:
        bucket = self.buckets.get(key)
        if bucket is None:
            bucket = self.buckets[key] = Bucket(*limit, self.now)
        return bucket

    def _hit(self, key: str) -> None:
        self.limits_hit.append(f"{key} at {(self.now - START) / DAY:.2f} d")

    def _demand(self, key: str, limit: tuple[int, float]) -> Bucket:
        bucket = self._bucket(key, limit)
        if not bucket.has_one(self.now):
            self._hit(key)
            again = self.clock() + 1 / bucket.rate
            raise IssuanceError("rate_limited", f"too many: {key}", not_before=again)
        return bucket

    def issue(self, order: Order) -> Issued:
        self._answer("directory", "new-nonce")
        demand_agreement_at(self.clock(), self.now)
        return self._taken_up(order) or self._ordered(order)

    def _ordered(self, order: Order) -> Issued:
        self._answer("new-order")
        replaces = self._replaces(order)
        order.reservation.reserve(exempt=replaces is not None)
        if replaces in self.replaced:  # 409; the client tries once more, without it
            self.already_replaced += 1
            replaces = None
            order.reservation.reserve(exempt=False)
        self.exempt += replaces is not None
        self.orders_by_hour[int(self.now // HOUR)] += 1
        self.orders_by_minute[int(self.now // 60)] += 1
        spent = [] if replaces is not None else self._admit(order.names)
        placed = self._placed[_which(order)] = _Placed(
            next(self._numbers), self.now, replaces, spent
        )
        order.note.write(
            UnfinishedOrder(
                url=f"{DIRECTORY}/order/{placed.number}",
                directory=DIRECTORY,
                account=ACCOUNT,
                names=order.names,
                key_type=order.key_type,
                profile=None,
                replaces=replaces,
                placed_at=self.clock(),
                key_pem=placed.key,
            )
        )
        return self._finished(order, placed)

    def _taken_up(self, order: Order) -> Issued | None:
        """Go on with an order that an attempt has left, as `issuers.acme` does."""
        found = order.note.read()
        if found is None:
            return None
        placed = self._placed.get(_which(order))
        if placed is None or not found.url.endswith(f"/{placed.number}"):
            order.note.refuse("the CA does not know it")
            return None
        if placed.issued is not None:
            why = order.note.objection(placed.issued.pair)
            if why:
                order.note.refuse(why)
                return None
            order.reservation.take_up(found, is_issuing=True)
            self.taken_up += 1
            return placed.issued
        is_over = placed.failed or self.now > placed.at + ORDER_LASTS
        if is_over or placed.replaces not in (None, self._replaces(order)):
            order.note.refuse("it is over, or replaces something else")
            order.reservation.come_to_nothing(found)
            return None
        order.reservation.take_up(found, is_issuing=False)
        self.taken_up += 1
        return self._finished(order, placed)

    def _finished(self, order: Order, placed: _Placed) -> Issued:
        try:
            self._validate(order.names)
        except IssuanceError:
            placed.failed = True
            self.failed_by_hour[int(self.now // HOUR)] += 1
            raise
        order.reservation.finalizing()
        for bucket in placed.spent:
            bucket.spend(self.now)
        if order.replaces is not None:
            if placed.replaces is not None:
                self.replaced.add(placed.replaces)
            self._follow(self.facts(order.replaces).serial, order.names)
        placed.issued = self._issued(order, placed)
        return placed.issued

    def _replaces(self, order: Order) -> str | None:
        if order.replaces is not None and self.information and order.account == ACCOUNT:
            return self.facts(order.replaces).serial
        return None

    def _admit(self, names: tuple[str, ...]) -> list[Bucket]:
        """Take the order, and return the buckets that its certificate takes from, if it is issued.
        Raises `IssuanceError` where a bucket is empty."""
        new = frozenset(names) not in self.known
        orders = self._demand("orders", ORDERS) if new else None
        spent = [self._demand("names " + ",".join(sorted(names)), NAMES)]
        for name in names:
            self._demand(f"failures {name}", FAILURES)
            self._demand(f"in a row {name}", IN_A_ROW)
        if new:
            domains = sorted({registered_domain(name) for name in names})
            spent += [self._demand(f"domain {domain}", DOMAIN) for domain in domains]
        if orders is not None:
            orders.spend(self.now)
        return spent

    def _validate(self, names: tuple[str, ...]) -> None:
        for name in names:
            start, end = self.broken.get(name, (0.0, 0.0))
            if start <= self.now < end:
                self._bucket(f"failures {name}", FAILURES).spend(self.now)
                self._bucket(f"in a row {name}", IN_A_ROW).spend(self.now)
                raise IssuanceError(
                    "validation", f"{name}: 404", challenge="http-01", names=(name,)
                )
            self.buckets.pop(f"in a row {name}", None)

    def _follow(self, serial: str, names: tuple[str, ...]) -> None:
        validates_late = any(name in self.broken for name in names)
        for moment in self.incidents:
            if self.issued_at.get(serial, 0.0) < moment <= self.now and not validates_late:
                self.done_with[moment] = self.now

    def _issued(self, order: Order, placed: _Placed) -> Issued:
        pair = self.with_key(self.certificate(order.names, order.key_type), placed.key)
        self.issued_at[self.facts(pair.chain_pem).serial] = self.now
        self.known.add(frozenset(order.names))
        return Issued(pair, "http-01", ACCOUNT)

    def certificate(self, names: tuple[str, ...], key_type: str) -> CertificateAndKey:
        """Make a certificate that begins now, by the CA's clock."""
        lifetime = self.lifetimes.get(frozenset(names), self.lifetime)
        root = self._roots.get(lifetime)
        if root is None:
            store = MemoryStore()
            root = self._roots[lifetime] = InternalCa(store, lifetime, lambda: self.now)
        return root.issue(names, key_type)

    def with_key(self, pair: CertificateAndKey, key: bytes) -> CertificateAndKey:
        """Return a certificate with the key that was noted for its order, where that is possible: a
        real one comes with a key of its own."""
        return pair

    def facts(self, chain_pem: bytes) -> CertificateInfo:
        leaf = x509.load_pem_x509_certificate(chain_pem)
        begin, end = leaf.not_valid_before_utc, leaf.not_valid_after_utc
        return CertificateInfo((), f"{leaf.serial_number:x}", begin.timestamp(), end.timestamp())

    def suggestion(self, chain_pem: bytes) -> Suggestion | None:
        self._answer("directory", "renewal-info")
        self.questions += 1
        if not self.information:
            return None
        facts = self.facts(chain_pem)
        self.asked_when_expired += self.now >= facts.not_after
        lifetime = facts.not_after - facts.not_before
        middle = facts.not_after - left_at_renewal(lifetime)
        around = lifetime * WINDOW_PART
        window = Window(middle - around, middle + around)
        for moment in self.incidents:
            if self.issued_at.get(facts.serial, facts.not_before) < moment <= self.now:
                window = Window(moment - HOUR, moment - HOUR / 2, "https://ca.example/incident")
        return Suggestion(window, self.clock() + ASK_AGAIN)

    def revoke(self, *_: Any) -> None:
        raise NotImplementedError

    def standing_records(self, *_: Any) -> Any:
        raise NotImplementedError

    def roll_account_key(self) -> None:
        raise NotImplementedError


def demand_agreement_at(ours: float, theirs: float) -> None:
    """Raise `IssuanceError` where the clocks differ, as the real issuer does by the Date of an
    answer."""
    if abs(ours - theirs) > HOUR:
        from email.utils import formatdate

        demand_agreement(ours, formatdate(theirs, usegmt=True))
