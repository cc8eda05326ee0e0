"""A CA without a network, for simulations of years: `order.Issuer`, limits as Let's Encrypt enforces
them, outages, renewal information, incidents, and a clock that stands where the test has put it.

It counts in its own way (tokens that flow in), not with the code under test. Certificates are two
lines of JSON instead of ASN.1; `cheap_examine` takes the place of `proof.examine`.
"""

from __future__ import annotations

import bisect
import collections
import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from acme_client.clocks import demand_agreement
from acme_client.errors import Problem
from acme_client.limits import registered_domain
from acme_client.order import Issued, Order
from acme_client.proof import Facts, Pair
from acme_client.renewal import Suggestion, Window

DIRECTORY = "https://acme-v02.api.letsencrypt.org/directory"
ACCOUNT = "https://acme-v02.api.letsencrypt.org/acme/acct/1"
DAY, HOUR = 86400.0, 3600.0
START = 1.8e9
# Let's Encrypt's, by its page; a test compares them with those that the ledger counts with.
ORDERS, NAMES, DOMAIN, FAILURES = (300, 3 * HOUR), (5, 7 * DAY), (50, 7 * DAY), (5, HOUR)


def cheap_examine(pair: Pair) -> Facts:
    said = json.loads(pair.chain_pem)
    return Facts(tuple(said["names"]), said["serial"], said["not_before"], said["not_after"])


class Bucket:
    """Tokens that flow in, and none that is borrowed."""

    def __init__(self, count: int, window: float) -> None:
        self.count, self.rate = count, count / window
        self.tokens, self.at = float(count), START

    def take(self, now: float) -> bool:
        self.tokens = min(self.count, self.tokens + (now - self.at) * self.rate)
        self.at = now
        if self.tokens < 1 - 1e-9:
            return False
        self.tokens -= 1
        return True


Span = tuple[float, float]


@dataclass
class SimulatedCa:
    """``outages``: unreachable, or 503 with a Retry-After, turn by turn. ``incidents``: moments at
    which the windows of all certificates of before become "now". ``broken``: names whose validation
    fails for a while. ``clock``: what the client's own shows (RFC 9773's Retry-After is relative).
    """

    lifetime: float
    dice: random.Random
    outages: list[Span] = field(default_factory=list)
    incidents: list[float] = field(default_factory=list)
    broken: dict[str, Span] = field(default_factory=dict)
    information: bool = True
    now: float = START
    clock: Callable[[], float] = lambda: START
    orders_by_hour: collections.Counter[int] = field(default_factory=collections.Counter)
    orders_by_minute: collections.Counter[int] = field(default_factory=collections.Counter)
    limits_hit: list[str] = field(default_factory=list)
    asked_when_expired: int = 0
    questions: int = 0
    exempt: int = 0
    serial: int = 0
    issued_at: dict[str, float] = field(default_factory=dict)
    current: dict[tuple[str, ...], str] = field(default_factory=dict)
    buckets: dict[str, Bucket] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._starts = [start for start, _end in self.outages]

    def _answer(self) -> None:
        """Or not."""
        number = bisect.bisect_right(self._starts, self.now) - 1
        if number >= 0 and self.now < self.outages[number][1]:
            if number % 2:
                raise Problem("unavailable", "maintenance", not_before=self.clock() + HOUR)
            raise Problem("unreachable", "no answer")

    def _take(self, key: str, limit: tuple[int, float]) -> None:
        bucket = self.buckets.setdefault(key, Bucket(*limit))
        if not bucket.take(self.now):
            self.limits_hit.append(f"{key} at {(self.now - START) / DAY:.2f} d")
            again = self.clock() + 1 / bucket.rate
            raise Problem("rate_limited", f"too many: {key}", not_before=again)

    def issue(self, order: Order) -> Issued:
        self._answer()
        demand_agreement_at(self.clock(), self.now)
        exempt = (
            order.replaces is not None
            and self.information
            and order.account == ACCOUNT
            and json.loads(order.replaces)["serial"] == self.current.get(order.names)
        )
        order.toll.admit(exempt=exempt)
        self.exempt += exempt
        self.orders_by_hour[int(self.now // HOUR)] += 1
        self.orders_by_minute[int(self.now // 60)] += 1
        new = order.names not in self.current
        if not exempt and new:
            self._take("orders", ORDERS)
        for name in order.names:
            start, end = self.broken.get(name, (0.0, 0.0))
            if start <= self.now < end:
                if not exempt:
                    self._take(f"failures {name}", FAILURES)
                raise Problem("validation", f"{name}: 404", challenge="http-01", names=(name,))
        order.toll.handed_in()
        if not exempt:
            self._take("names " + ",".join(order.names), NAMES)
            if new:
                for domain in {registered_domain(name) for name in order.names}:
                    self._take(f"domain {domain}", DOMAIN)
        self.serial += 1
        serial = f"{self.serial:x}"
        said = {"names": order.names, "serial": serial, "not_before": self.now - HOUR}
        said["not_after"] = self.now - HOUR + self.lifetime
        self.issued_at[serial] = self.now
        self.current[order.names] = serial
        key = f"key {serial}".encode()
        return Issued(Pair(json.dumps(said).encode(), key), "http-01", ACCOUNT)

    def suggestion(self, chain_pem: bytes) -> Suggestion | None:
        self._answer()
        self.questions += 1
        if not self.information:
            return None
        said = json.loads(chain_pem)
        self.asked_when_expired += self.now >= said["not_after"]
        left = self.lifetime / (2 if self.lifetime < 10 * DAY else 3)
        start = said["not_after"] - left
        window = Window(start, start + self.lifetime / 45)
        for moment in self.incidents:
            if self.issued_at[said["serial"]] < moment <= self.now:
                window = Window(moment - 2 * HOUR, moment - HOUR, "https://ca.example/incident")
        return Suggestion(window, self.clock() + 6 * HOUR)

    def revoke(self, *_: Any) -> None:
        raise NotImplementedError

    def roll_account_key(self) -> None:
        raise NotImplementedError


def demand_agreement_at(ours: float, theirs: float) -> None:
    """As `issuer` does, by the Date of an answer."""
    if abs(ours - theirs) > HOUR:
        from email.utils import formatdate

        demand_agreement(ours, formatdate(theirs, usegmt=True))
