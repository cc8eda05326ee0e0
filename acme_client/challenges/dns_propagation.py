"""Waits until every name server of a zone shows a record.

A CA asks any of them, and one that has not heard of the record yet makes the validation fail. So
each address of each server is asked until it shows the record. One that gives no answer, or none
that is of any use, gives the CA no wrong one either (it will ask another): once all others show the
record, it is told of and not waited for. All bounded; and time is measured here, because other
machines take it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable

from ..errors import IssuanceError
from .dns_resolver import NameServer, NoAnswer, texts

log = logging.getLogger("treehouse.certifier")

# Seconds between two looks; the last one repeats. A primary shows a record at once, its secondaries
# after a NOTIFY and a transfer, those of large providers within a minute.
LOOKS = (0.2, 0.5, 1.0, 2.0, 3.0, 5.0)
# Looks in a row without an answer, after which a name server is taken to be down.
DEAD_AFTER = 3

At = tuple[str, int]  # address and port


def await_shown(
    record: str,
    value: str,
    servers: Iterable[NameServer],
    within: float,
    stopping: threading.Event,
    ask: Callable[[str, int, str], frozenset[bytes]] = texts,
    now: Callable[[], float] = time.monotonic,
) -> None:
    """Return when every name server shows the record. Raises `IssuanceError` after ``within``
    seconds."""
    waiting: dict[At, str] = {at: one.name for one in servers for at in one.addresses}
    said: dict[At, str] = {}
    silent: dict[At, int] = {}
    shown = looks = 0
    deadline = now() + within
    while True:
        for at in [*waiting]:
            try:
                if value.encode("ascii") in ask(*at, record):
                    del waiting[at]
                    shown += 1
                    continue
                said[at], silent[at] = "does not show it", 0
            except NoAnswer as answer:
                said[at], silent[at] = str(answer), silent.get(at, 0) + 1
        if shown and all(silent[at] >= DEAD_AFTER for at in waiting):
            for at, name in waiting.items():
                log.warning("%s: name server %s is not waited for", record, _told(name, at, said))
            return
        pause = LOOKS[min(looks, len(LOOKS) - 1)]
        looks += 1
        if now() + pause > deadline:
            raise IssuanceError("zone", _too_late(record, within, waiting, said))
        if stopping.wait(pause):
            raise IssuanceError("stopped", "the program is being stopped")


def _too_late(record: str, within: float, waiting: dict[At, str], said: dict[At, str]) -> str:
    if not waiting:
        return f"no name server of the zone of {record} has an address that is known"
    told = "; ".join(_told(name, at, said) for at, name in waiting.items())
    return (
        f"the record {record} was set, but not every name server shows it within {within:g} s: "
        f"{told} (are zone transfers in order? else raise acme.dns.propagation)"
    )


def _told(name: str, at: At, said: dict[At, str]) -> str:
    return f"{name} ({at[0]}): {said[at]}"
