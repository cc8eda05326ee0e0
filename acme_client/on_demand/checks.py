"""Finds out whether names may have a certificate: an app and the DNS are asked, in a few threads.

There is a bound on how many are asked about at once (`MOST`), which whoever decides keeps.
"""

from __future__ import annotations

import enum
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Literal, Protocol

from ..late_dataclass import dataclass
from ..link import OnDemandRule
from .ask_url import CannotTell, ask

log = logging.getLogger("treehouse.certifier")

# Threads, and checks that are under way or wait for a thread. Beyond that a client is refused,
# which is forgotten within a second.
AT_ONCE = 8
MOST = 64


class Why(enum.Enum):
    """Why a name is asked about."""

    NEW = "a client has come for it"
    AGAIN = "it has a certificate, or had an attempt"
    HEARD = "another machine may have its certificate"


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of a check. ``rule`` has decided; ``why`` is its reason, or its objection, which
    holds for some ``seconds``, where that is known. ``is_known``: other machines have the name
    already, and have counted it."""

    name: str
    outcome: Literal["allowed", "refused", "untold"]
    why: str
    rule: OnDemandRule
    seconds: float | None = None
    is_known: bool = False


class Shared(Protocol):
    """What several machines have found out together."""

    def find_out(
        self,
        name: str,
        rules: Sequence[OnDemandRule],
        why: Why,
        ask: Callable[[], Finding | None],
    ) -> Finding | None:
        """Return what is known of a name, or what ``ask`` finds out, for all machines."""
        ...


def objection(rule: OnDemandRule, name: str) -> str | None:
    """Return why the rule does not allow a name that its patterns match; None if it does. Raises
    `CannotTell`. The app is asked first: it is near, and a foreign name server may be slow on
    purpose."""
    why = ask(rule.ask, name) if rule.ask else None
    if why is None and rule.dns:
        from .dns_check import leads_here, public_addresses

        ours = frozenset(rule.addresses) or public_addresses()
        why = leads_here(name, ours, rule.resolvers)
    return why


class CheckThreads:
    """``objection`` is asked in a thread, for one rule after the other until one has none; then
    ``found`` is called, in that thread. ``shared``: other machines ask the same."""

    def __init__(
        self,
        found: Callable[[Finding], None],
        objection: Callable[[OnDemandRule, str], str | None] = objection,
        shared: Shared | None = None,
    ) -> None:
        self._found = found
        self._shared = shared
        self._objection = objection
        self._pool = ThreadPoolExecutor(AT_ONCE, "inquiry")

    def begin(self, name: str, rules: Sequence[OnDemandRule], why: Why = Why.NEW) -> None:
        self._pool.submit(self._inquire, name, rules, why)

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _inquire(self, name: str, rules: Sequence[OnDemandRule], why: Why) -> None:
        """Run in a thread of the pool."""
        if self._shared is None:
            finding = self._ask(name, rules)
        else:
            try:
                finding = self._shared.find_out(name, rules, why, lambda: self._ask(name, rules))
            except Exception as error:  # the thread serves other names
                log.exception("%s: a fault in the certifier itself", name)
                finding = Finding(name, "untold", repr(error), rules[0])
        if finding is not None:
            self._found(finding)

    def _ask(self, name: str, rules: Sequence[OnDemandRule]) -> Finding | None:
        """Ask rule after rule until one allows the name."""
        finding: Finding | None = None
        for rule in rules:
            try:
                why = self._objection(rule, name)
            except CannotTell as reason:
                finding = Finding(name, "untold", str(reason), rule)
            except Exception as error:  # the thread serves other names
                log.exception("%s: a fault in the certifier itself", name)
                finding = Finding(name, "untold", repr(error), rule)
            else:
                if why is None:
                    finding = Finding(name, "allowed", _ground(rule), rule)
                    break
                if finding is None or finding.outcome == "refused":
                    finding = Finding(name, "refused", why, rule)
        return finding


def _ground(rule: OnDemandRule) -> str:
    grounds = (
        (rule.patterns, "by a pattern"),
        (rule.ask, "by the ask URL"),
        (rule.dns, "by its DNS"),
    )
    return " and ".join(said for given, said in grounds if given)
