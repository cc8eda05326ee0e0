"""A document of which a little changes at a time: a snapshot, and a journal of the changes since.

A ledger of ten thousand names has a quarter of a million bytes and changes twice for each order. So
a change is a line at the end of a journal, and when the journal has grown larger than what it
spares, the whole is written anew.

    ledger.json    the snapshot: sections of keys, as `documents` has it, and the journal's number
    ledger.log     {"journal": "5f2c…"} and then a line for each change: the keys' new values

A line holds whole values, never differences, and None for what is gone. A line that was cut off is
no JSON, and is left out. A journal counts for the snapshot with its number alone: it was begun
after that one, and an earlier version of the program, which knows of no journal, writes none.

May be used by one thread at a time. Who shares the document with other processes holds the folder's
lock, and asks `is_current` first.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping
from typing import Any

from . import documents
from .store import Store

_NUMBER = "journal"
# A journal may have as many bytes as the snapshot, and at least so many: some two hundred lines.
_LEAST = 64 * 1024

Sections = Mapping[str, Any]


class Journal:
    """The document ``file`` in a folder; its journal is called alike, and ends in ".log"."""

    def __init__(self, store: Store, folder: str, file: str, version: int) -> None:
        self._store = store
        self._folder = folder
        self._file = file
        self._log = file.rpartition(".")[0] + ".log"
        self._version = version
        self._number: str | None = None  # of the journal that changes may be added to
        self._room = 0  # bytes until the snapshot is written anew
        self._mark: object = None

    def read(self) -> dict[str, Any]:
        """Return the document; empty where there is none that can be understood. One of a newer
        version is set aside. Raises OSError."""
        self._number = self._mark = None
        mark = self._store.mark(self._folder)
        files = self._store.load(self._folder)
        data = files.get(self._file, b"")
        aside = documents.set_aside(self._file, data, self._version)
        if aside is not None:
            self._store.store(self._folder, {aside: data})
            mark = self._store.mark(self._folder)
        document = documents.read(data, self._version)
        number = document.pop(_NUMBER, None)
        head, *changes = files.get(self._log, b"").split(b"\n")
        if isinstance(number, str) and documents.read(head, self._version).get(_NUMBER) == number:
            for line in changes:
                _apply(documents.read(line, self._version), document)
            self._number = number
            self._room = max(_LEAST, len(data)) - len(files[self._log])
        self._mark = mark
        return document

    def is_current(self) -> bool:
        """Whether nobody else has written since the last `read` or `write`. Raises OSError."""
        return self._mark is not None and self._store.mark(self._folder) == self._mark

    def begin_anew(self) -> None:
        """Have the next write be of the whole."""
        self._number = None

    def write(self, changes: Sections, whole: Callable[[], Sections]) -> None:
        """Keep changes: for each section its keys' new values, None for a key that is gone; or a
        value that is no section. ``whole`` returns the document with them. Raises OSError; then the
        next write is of the whole."""
        number, self._number = self._number, None
        # In a line of its own, whatever was cut off before it.
        line = b"\n" + json.dumps(changes, separators=(",", ":"), default=documents.fields).encode()
        try:
            if number is None or len(line) > self._room:
                number = self._begin(whole())
            else:
                self._store.append(self._folder, self._log, line)
                self._room -= len(line)
        finally:
            # Also where the disk took nothing: what is in memory is newer than that.
            self._mark = self._store.mark(self._folder)
        self._number = number

    def _begin(self, document: Sections) -> str:
        """Write the snapshot, and begin a journal for it."""
        number = secrets.token_hex(8)
        data = documents.write({**document, _NUMBER: number}, self._version)
        self._store.store(self._folder, {self._file: data})
        head = json.dumps({_NUMBER: number}).encode()
        self._store.store(self._folder, {self._log: head})
        self._room = max(_LEAST, len(data)) - len(head)
        return number


def _apply(changes: dict[str, Any], document: dict[str, Any]) -> None:
    for section, change in changes.items():
        present = document.get(section)
        if not isinstance(change, dict) or not isinstance(present, dict):
            document[section] = change
            continue
        for key, value in change.items():
            if value is None:
                present.pop(key, None)
            else:
                present[key] = value
