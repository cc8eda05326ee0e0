"""The ledgers of all CAs, on disk and between threads: asked before an order, told afterwards.

A disk that cannot be written keeps nobody from ordering: the count in memory goes on, and what is
lost by a restart the CA still knows.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Callable
from urllib.parse import urlsplit

from .errors import Problem
from .ledger import Ledger, Limits, limits_of
from .shelf import folder_name
from .store import Store

log = logging.getLogger("treehouse.certifier")

_FOLDER = "ledgers"
FILE = "ledger.json"


class Ledgers:
    def __init__(
        self,
        store: Store,
        now: Callable[[], float],
        limits: Callable[[str], Limits] = limits_of,
    ) -> None:
        self._store = store
        self._now = now
        self._limits = limits
        self._kept: dict[str, Ledger] = {}
        self._lock = threading.Lock()

    def admit(self, directory: str, names: tuple[str, ...], *, replaces: bool, force: bool) -> None:
        """Before an order. Raises `Problem` ("limits") for one that had better wait."""
        with self._lock:
            now, limits = self._now(), self._limits(directory)
            ledger = self._ledger(directory)
            refusal = ledger.refusal(names, limits, now, replaces=replaces)
            if refusal is not None and not force:
                why = f"one of the last orders that the CA would take; {refusal.why}"
                raise Problem("limits", why, not_before=refusal.until)
            if refusal is not None:
                log.warning("%s: ordered all the same: %s", names[0], refusal.why)
            if not replaces:
                ledger.ordered(limits, now)
                self._keep(directory, ledger, now)

    def issued(self, directory: str, names: tuple[str, ...], *, replaces: bool) -> None:
        if not replaces:
            with self._lock:
                now, ledger = self._now(), self._ledger(directory)
                ledger.issued(names, self._limits(directory), now)
                self._keep(directory, ledger, now)

    def failed(self, directory: str, name: str) -> None:
        """The CA has looked for a challenge of this name and was not content."""
        with self._lock:
            now, ledger = self._now(), self._ledger(directory)
            ledger.failed(name, self._limits(directory), now)
            self._keep(directory, ledger, now)

    def _ledger(self, directory: str) -> Ledger:
        ledger = self._kept.get(directory)
        if ledger is None:
            try:
                data = self._store.load(_folder(directory)).get(FILE, b"")
            except OSError as error:
                log.warning("the ledger for %s cannot be read: %s", directory, error)
                data = b""
            ledger = self._kept[directory] = Ledger.from_json(data)
        return ledger

    def _keep(self, directory: str, ledger: Ledger, now: float) -> None:
        if self._limits(directory) == Limits():
            return
        ledger.tidy(now)
        try:
            self._store.store(_folder(directory), {FILE: ledger.to_json()})
        except OSError as error:
            log.warning("the ledger for %s cannot be written: %s", directory, error)


def _folder(directory: str) -> str:
    host = folder_name(urlsplit(directory).hostname or "unknown")
    mark = hashlib.sha256(directory.encode()).hexdigest()[:8]
    return f"{_FOLDER}/{host}_{mark}"
