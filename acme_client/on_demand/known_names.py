"""Remembers the names on demand, and how many more may come: ``on-demand/names.json``.

What is lost of it costs little: a name that is not there is asked for anew, and its certificate is
found on the disk. So reading is tolerant, and when somebody last came for a name is written down
only now and then.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..names import hostname
from ..storage import documents
from ..storage.store import Store
from .policy import Allowance

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


def encode(names: Mapping[str, Name], allowances: Mapping[str, Allowance]) -> bytes:
    """Encode the document."""
    document = {
        "names": {
            name: {"site": one.site, "asked_at": one.asked_at}
            for name, one in sorted(names.items())
        },
        "allowances": {site: one.due for site, one in allowances.items()},
    }
    return documents.write(document, VERSION)


def decode(data: bytes) -> Remembered:
    """Decode what can be read of the document."""
    document = documents.read(data, VERSION)
    names: dict[str, Name] = {}
    for name, value in _mapping(document.get("names")):
        kept = dict(_mapping(value))
        site, asked_at = kept.get("site"), _moment(kept.get("asked_at"))
        if isinstance(site, str) and asked_at is not None and hostname(name) == name:
            names[name] = Name(site, asked_at)
    moments = {site: _moment(value) for site, value in _mapping(document.get("allowances"))}
    return Remembered(names, {site: due for site, due in moments.items() if due is not None})


class NamesFile:
    """The document in a store. Faults are logged."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def read(self) -> Remembered:
        try:
            data = self._store.load(_FOLDER).get(_FILE, b"")
            aside = documents.set_aside(_FILE, data, VERSION)
            if aside is not None:
                self._store.store(_FOLDER, {aside: data})
        except OSError as error:
            log.warning("names on demand cannot be read: %s", error)
            return Remembered({}, {})
        return decode(data)

    def write(self, document: bytes) -> bool:
        """Write the document; returns whether the disk took it."""
        try:
            self._store.store(_FOLDER, {_FILE: document})
        except OSError as error:
            log.warning("names on demand cannot be written down: %s", error)
            return False
        return True


def _mapping(value: Any) -> list[tuple[str, Any]]:
    return [*value.items()] if isinstance(value, dict) else []


def _moment(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) < 1e11 else None  # NaN is not either
