"""Finding out whether names may be had: an app and the DNS are asked, by a few threads.

One inquiry for each name, however many wait for it; a bound on how many there are. What is found
out is fetched by the thread that began it.
"""

from __future__ import annotations

import logging
import queue
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

from ..link import Command, OnDemandRule
from .ask_url import CannotTell, ask

log = logging.getLogger("treehouse.certifier")

# Threads, and inquiries that are under way or wait for one. Beyond that a stranger hears no, which
# is forgotten within a second.
AT_ONCE = 8
MOST = 64


@dataclass(frozen=True, slots=True)
class Finding:
    """``rule``: the one that decided. ``why``: the ground, or the objection."""

    name: str
    outcome: Literal["allowed", "refused", "untold"]
    why: str
    rule: OnDemandRule


def objection(rule: OnDemandRule, name: str) -> str | None:
    """Why the rule does not allow a name that its patterns take; raises `CannotTell`. Our own app
    is asked first: it is near, and a stranger's name server may be made to be slow."""
    why = ask(rule.ask, name) if rule.ask else None
    if why is None and rule.dns:
        from .dns_check import leads_here, public_addresses

        ours = frozenset(rule.addresses) or public_addresses()
        why = leads_here(name, ours, rule.resolvers)
    return why


class Inquiries:
    """``objection`` is asked in a thread, for one rule after the other until one has none."""

    def __init__(self, objection: Callable[[OnDemandRule, str], str | None] = objection) -> None:
        self._objection = objection
        self._waiting: dict[str, list[Command]] = {}
        self._found: queue.SimpleQueue[Finding] = queue.SimpleQueue()
        self._pool = ThreadPoolExecutor(AT_ONCE, "inquiry")

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, name: str) -> bool:
        return name in self._waiting

    def begin(self, name: str, rules: list[OnDemandRule]) -> bool:
        """False when there are too many. One that is under way already is not begun again."""
        if name in self._waiting:
            return True
        if len(self._waiting) >= MOST:
            return False
        self._waiting[name] = []
        self._pool.submit(self._inquire, name, rules)
        return True

    def join(self, name: str, command: Command) -> None:
        """Wait for one that is under way."""
        self._waiting[name].append(command)

    def ended(self) -> Iterator[tuple[Finding, list[Command]]]:
        """What has been found out since, and who waits for it."""
        while not self._found.empty():
            finding = self._found.get()
            yield finding, self._waiting.pop(finding.name)

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _inquire(self, name: str, rules: list[OnDemandRule]) -> None:
        """In a thread of the pool. The first rule that allows the name has it; a name that nobody
        could tell about may still be allowed."""
        finding: Finding | None = None
        for rule in rules:
            try:
                why = self._objection(rule, name)
            except CannotTell as reason:
                finding = Finding(name, "untold", str(reason), rule)
            except Exception as error:
                log.exception("%s: a fault in the certifier itself", name)
                finding = Finding(name, "untold", repr(error), rule)
            else:
                if why is None:
                    finding = Finding(name, "allowed", _ground(rule), rule)
                    break
                if finding is None or finding.outcome == "refused":
                    finding = Finding(name, "refused", why, rule)
        if finding is not None:
            self._found.put(finding)


def _ground(rule: OnDemandRule) -> str:
    grounds = (
        (rule.patterns, "by a pattern"),
        (rule.ask, "by the ask URL"),
        (rule.dns, "by its DNS"),
    )
    return " and ".join(said for given, said in grounds if given)
