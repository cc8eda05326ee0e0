"""Why this machine cannot do its part in the cluster at the moment, by what it was doing.

The engine may be away for everything, or refuse one thing and allow another: a role that may read
certificates and write nothing. So each part of the work has its own fault, and each fault is told
once when it begins, and once when it has ended. Where the engine cannot be reached at all, one part
tells it for all.
"""

from __future__ import annotations

import logging
import threading

from ..storage.store import Unreachable

log = logging.getLogger("treehouse.certifier")


class Faults:
    """``name`` is the cluster's; ``lasting``: what no other try mends. Any thread may call."""

    def __init__(self, name: str, lasting: str = "") -> None:
        self._name = name
        self._lasting = lasting
        self._lock = threading.Lock()
        self._by_part: dict[str, str] = {}
        self._unreached: set[str] = set()  # parts for which the engine cannot be reached
        self._told: set[str] = set()

    @property
    def text(self) -> str:
        """All of them, each once; empty where there is none."""
        with self._lock:
            found = (self._lasting, *self._by_part.values())
        return "; ".join(dict.fromkeys(one for one in found if one))

    def of(self, part: str) -> bool:
        """Whether this part of the work cannot be done."""
        with self._lock:
            return part in self._by_part

    def last(self, why: str) -> None:
        """Take a fault that lasts until the configuration is another one."""
        self._lasting = why

    def begun(self, part: str, error: OSError) -> None:
        """A part of the work could not be done."""
        words = error.strerror or str(error)
        with self._lock:
            self._unreached.discard(part)
            is_news = part not in self._told
            if isinstance(error, Unreachable):
                is_news &= not (self._unreached & self._told)
                self._unreached.add(part)
            self._by_part[part] = words
            if is_news:
                self._told.add(part)
        if is_news:
            log.warning(
                "cluster %s: %s: %s; what is on the disk is served (treehouse-proxy cluster check "
                "says what to do)",
                self._name,
                part,
                words,
            )

    def ended(self, part: str) -> bool:
        """A part of the work is done again; returns whether it could not be before."""
        with self._lock:
            was = self._by_part.pop(part, None)
            was_told = part in self._told
            self._told.discard(part)
            self._unreached.discard(part)
        if was_told:
            log.info("cluster %s: %s: done again", self._name, part)
        return was is not None
