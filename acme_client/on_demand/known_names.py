"""Remembers the names on demand, and how many more may come: ``on-demand/names.json``, and in
``names.log`` what has changed since.

What is lost of it costs little: a name that is not there is asked for anew, and its certificate is
found on the disk. So reading is tolerant, and when somebody last came for a name is written down
only now and then.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from ..late_dataclass import dataclass
from ..names import hostname
from ..storage import documents
from ..storage.journal import Journal
from ..storage.store import Store

log = logging.getLogger("treehouse.certifier")

_FOLDER, _FILE, VERSION = "on-demand", "names.json", 1
# How often it is written down which names were used.
SAVE_EVERY = 600.0


@dataclass(slots=True)
class Name:
    """A name on demand. ``asked_at`` is when a client last asked for it."""

    site: str
    asked_at: float
    # The rest is not kept on disk.
    look_at: float = 0.0  # when to ask again whether it may be renewed
    refused: bool = False  # by the last look
    over_since: float | None = None  # since when there is no reason to keep it


@dataclass(frozen=True, slots=True)
class Remembered:
    """What the document holds: the names, and by site when the next new name may come
    (`policy.Allowance.due`)."""

    names: dict[str, Name]
    due: dict[str, float]


@dataclass(frozen=True, slots=True)
class Changes:
    """Changes to be written down: names, each with None if it is kept no more; and when the next
    new name may come, by site."""

    names: Mapping[str, Name | None]
    due: Mapping[str, float]

    def sections(self) -> dict[str, dict[str, object]]:
        """Return the changes as sections of the document."""
        names = {name: None if one is None else _entry(one) for name, one in self.names.items()}
        return {"names": {**names}, "allowances": {**self.due}}


def understood(document: Mapping[str, Any]) -> Remembered:
    """Take what can be read of the document."""
    names: dict[str, Name] = {}
    for name, value in _mapping(document.get("names")):
        kept = dict(_mapping(value))
        site, asked_at = kept.get("site"), documents.number(kept.get("asked_at"))
        if isinstance(site, str) and asked_at is not None and hostname(name) == name:
            names[name] = Name(site, asked_at)
    moments = {
        site: documents.number(value) for site, value in _mapping(document.get("allowances"))
    }
    return Remembered(names, {site: due for site, due in moments.items() if due is not None})


class NamesFile:
    """The document in a store, and a journal of what has changed in it (`storage.journal`). Faults
    are logged. For one thread at a time."""

    def __init__(self, store: Store) -> None:
        self._journal = Journal(store, _FOLDER, _FILE, VERSION)
        # All of the document, as it is on the disk or would be, if the disk took it.
        self._names: dict[str, object] = {}
        self._due: dict[str, float] = {}

    def read(self) -> Remembered:
        try:
            remembered = understood(self._journal.read())
        except OSError as error:
            log.warning("names on demand cannot be read: %s", error)
            return Remembered({}, {})
        self._names = {name: _entry(one) for name, one in remembered.names.items()}
        self._due = dict(remembered.due)
        return remembered

    def write(self, changes: Changes) -> bool:
        """Write what has changed; returns whether the disk took it. What it did not take is written
        with what changes next."""
        for name, one in changes.names.items():
            if one is None:
                self._names.pop(name, None)
            else:
                self._names[name] = _entry(one)
        self._due |= changes.due
        try:
            if not self._journal.is_current():  # another certifier's, whose names are ours, too
                self._journal.begin_anew()
            self._journal.write(changes.sections(), self._document)
        except OSError as error:
            log.warning("names on demand cannot be written down: %s", error)
            return False
        return True

    def _document(self) -> dict[str, object]:
        return {"names": dict(sorted(self._names.items())), "allowances": self._due}


def _entry(one: Name) -> dict[str, object]:
    return {"site": one.site, "asked_at": one.asked_at}


def _mapping(value: Any) -> list[tuple[str, Any]]:
    return [*value.items()] if isinstance(value, dict) else []
