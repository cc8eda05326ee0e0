"""The names that were had on demand, and how many more may be: ``on-demand/names.json``.

What is lost of it costs little: a name that is not there is asked for anew, and its certificate is
found on the disk. So reading is tolerant, and when somebody last came for a name is written down
only now and then.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from ..storage import documents
from ..storage.store import Store
from .policy import Allowance, hostname

log = logging.getLogger("treehouse.certifier")

_FOLDER, _FILE, VERSION = "on-demand", "names.json", 1
# How often what has been used is written down.
SAVE_EVERY = 600.0


@dataclass(slots=True)
class Name:
    """What is remembered of one: ``asked_at`` is when somebody last came for it."""

    site: str
    asked_at: float
    # From here on not kept on disk.
    look_at: float = 0.0  # when to ask again whether it may be renewed
    refused: bool = False  # by the last look
    over_since: float | None = None  # since when there is no reason to keep it


class Roster:
    """``allowances`` are by site; those that are to be read must be there before."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.names: dict[str, Name] = {}
        self.allowances: dict[str, Allowance] = {}
        self._changed_at: float | None = None

    def change(self, now: float) -> None:
        """Something is to be written down, in its time."""
        if self._changed_at is None:
            self._changed_at = now

    def tend(self, now: float) -> None:
        if self._changed_at is not None and not 0 <= now - self._changed_at < SAVE_EVERY:
            self._changed_at = None
            if not self.save():
                self.change(now)

    def save(self) -> bool:
        document = {
            "names": {
                name: {"site": one.site, "asked_at": one.asked_at}
                for name, one in sorted(self.names.items())
            },
            "allowances": {site: one.due for site, one in self.allowances.items()},
        }
        try:
            self._store.store(_FOLDER, {_FILE: documents.write(document, VERSION)})
        except OSError as error:
            log.warning("names on demand cannot be written down: %s", error)
            return False
        return True

    def read(self) -> None:
        try:
            data = self._store.load(_FOLDER).get(_FILE, b"")
            aside = documents.set_aside(_FILE, data, VERSION)
            if aside is not None:
                self._store.store(_FOLDER, {aside: data})
        except OSError as error:
            log.warning("names on demand cannot be read: %s", error)
            return
        document = documents.read(data, VERSION)
        for name, value in _mapping(document.get("names")):
            kept = dict(_mapping(value))
            site, asked_at = kept.get("site"), _moment(kept.get("asked_at"))
            if isinstance(site, str) and asked_at is not None and hostname(name) == name:
                self.names[name] = Name(site, asked_at)
        for site, value in _mapping(document.get("allowances")):
            due = _moment(value)
            if site in self.allowances and due is not None:
                self.allowances[site].due = due


def _mapping(value: Any) -> list[tuple[str, Any]]:
    return [*value.items()] if isinstance(value, dict) else []


def _moment(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) < 1e11 else None  # NaN is not either
