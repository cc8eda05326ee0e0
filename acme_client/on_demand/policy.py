"""Decides which names may have a certificate on demand, and how many: rules that need no network.

Anybody can name any host in a ClientHello. What keeps that from being an order each: a name must
be one that a CA could certify at all, a site's patterns must take it, what was refused is
remembered for a while, and new names come at a bounded rate. Whether a name is wanted beyond that,
`ask_url` and `dns_check` find out.

Pure: the time is a parameter. Nothing here grows with what clients send: each table has a bound,
and the oldest entry makes room.
"""

from __future__ import annotations

from collections import OrderedDict

from ..gcra import gcra
from ..late_dataclass import dataclass
from ..names import wildcard_of

_HOUR = 3600.0

# Names whose refusal is remembered. An entry takes some 300 bytes.
REFUSALS_MOST = 4096


def takes(patterns: tuple[str, ...], name: str) -> bool:
    """Whether one of the patterns matches a name; an asterisk stands for one label, as in
    certificates. Without patterns every name matches: another rule decides then."""
    return not patterns or name in patterns or wildcard_of(name) in patterns


@dataclass(frozen=True, slots=True)
class Refusal:
    until: float
    why: str


class Refusals:
    """Remembers names that were refused, each until a moment. No refusal lasts longer than
    ``longest``, so that a clock that was set back does not make it last for ever."""

    def __init__(self, longest: float, most: int = REFUSALS_MOST) -> None:
        self._longest = longest
        self._most = most
        self._kept: OrderedDict[str, Refusal] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def put(self, name: str, now: float, seconds: float, why: str) -> None:
        self._kept.pop(name, None)
        self._kept[name] = Refusal(now + min(seconds, self._longest), why)
        if len(self._kept) > self._most:
            self._kept.popitem(last=False)

    def find(self, name: str, now: float) -> Refusal | None:
        refusal = self._kept.get(name)
        if refusal is None or now < refusal.until <= now + self._longest:
            return refusal
        del self._kept[name]
        return None

    def forget(self, name: str) -> None:
        self._kept.pop(name, None)


@dataclass(slots=True)
class Allowance:
    """How many new names per hour: a token bucket (`gcra`)."""

    per_hour: int
    due: float = 0.0

    def wait(self, now: float) -> float:
        """Seconds until there may be another one; 0.0: now."""
        return self._ask(now)[0]

    def spend(self, now: float) -> None:
        self.due = self._ask(now)[1]

    def give_back(self) -> None:
        """A name that was counted costs nothing."""
        self.due -= _HOUR / self.per_hour

    def _ask(self, now: float) -> tuple[float, float]:
        due = min(self.due, now + _HOUR)  # later was written by a clock that ran ahead
        return gcra(due, now, _HOUR / self.per_hour, self.per_hour)


class LogThrottle:
    """Throttles log lines that clients can cause: so many in a minute, and the next line tells how
    many were held back."""

    def __init__(self, most: int = 10, within: float = 60.0) -> None:
        self._most = most
        self._within = within
        self._since = float("-inf")
        self._said = 0
        self._held = 0

    def passes(self, now: float) -> int | None:
        """Return None for a line to be held back, else how many were held back before it."""
        if not self._since <= now < self._since + self._within:
            self._since, self._said = now, 0
        if self._said >= self._most:
            self._held += 1
            return None
        self._said += 1
        held, self._held = self._held, 0
        return held
