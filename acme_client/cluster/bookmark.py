"""Where this machine has come to in what the engine has, in a document of its own disk.

A machine that starts has almost all of it on its disk. With this document it hears of what has
changed since (`storage.etcd.place`), and reads what its disk has not as it was noted
(`certificates.copies`). So a hundred machines that start at once ask for what is new, and not for
everything a hundred times.

The document is written after what it speaks of, and never believed alone: the engine has to have
the history that it tells of, and the disk the files. One that is lost, damaged, another machine's
or another cluster's, or from before the secret or the role was another one, costs a full read.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Mapping
from typing import Any

from ..certificates.copies import Copies
from ..storage import documents, newer_documents
from ..storage.etcd import place as places
from ..storage.etcd.place import Place
from ..storage.etcd.watch import Watch
from ..storage.store import Store
from .settings import ClusterSettings

log = logging.getLogger("treehouse.certifier")

FOLDER, FILE = "cluster", "engine.json"
VERSION = 1

# It grows with the certificates, and is written as a whole: at most so often, and so much.
_PAUSE = 10.0
_BYTES_A_SECOND = 5000


class Bookmark:
    """``fingerprint`` is the secret's. ``place`` and ``noted`` are what an earlier process has
    written. Used by one thread, but for `noted`."""

    def __init__(self, store: Store, settings: ClusterSettings, fingerprint: str) -> None:
        self._store = store
        self._of = {
            "cluster": settings.name,
            "node": settings.node,
            "orders": settings.order,
            "secret": fingerprint,
        }
        self._edition: object = None
        self._next_at = 0.0
        self._refused = False
        known = self._read()
        self.place: Place | None = places.decode(known.get("place"))
        self.noted: Mapping[str, str] = _digests(known.get("certificates")) if self.place else {}

    def _read(self) -> dict[str, Any]:
        data = b""
        with contextlib.suppress(OSError):
            data = self._store.load(FOLDER).get(FILE, b"")
        known = documents.read(data, VERSION)
        return known if all(known.get(key) == value for key, value in self._of.items()) else {}

    def keep(self, watch: Watch, copies: Copies) -> None:
        """Write down where the watch is and which copies are what it has told, if that is another
        place than was written, and not too soon. A disk that does not take it is told once."""
        edition = watch.revision, copies.edition
        if edition == self._edition or time.monotonic() < self._next_at:
            return
        with contextlib.suppress(OSError):  # without it, the next start reads a little more
            watch.see_a_witness()
        try:
            place, noted = copies.noted(watch.place)
            document = {**self._of, "place": places.encode(place), "certificates": noted}
            data = documents.write(document, VERSION)
            newer_documents.set_aside(self._store, FOLDER, FILE, VERSION)
            self._store.store(FOLDER, {FILE: data})
        except OSError as error:
            if not self._refused:
                why = error.strerror or error
                log.warning("where this machine is in the cluster cannot be noted: %s", why)
            self._refused = True
            self._next_at = time.monotonic() + _PAUSE
            return
        self._refused = False
        self._edition = edition
        self._next_at = time.monotonic() + max(_PAUSE, len(data) / _BYTES_A_SECOND)


def _digests(value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        return {}
    return {name: one for name, one in value.items() if isinstance(one, str)}
