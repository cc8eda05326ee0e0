"""Keeps certificates with their records in a store, a folder for each; and names the folders."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from ..storage import documents, newer_documents
from ..storage.store import Edit, Lock, Store
from ..x509.verify import CertificateAndKey
from . import record as records
from . import unfinished_order
from .folder_names import FOLDER, folder_name, kept_names, names_of
from .record import History, Record
from .unfinished_order import UnfinishedOrder

CHAIN, KEY, META = "fullchain.pem", "privkey.pem", "meta.json"


class CertificateRepository:
    def __init__(self, store: Store) -> None:
        self._store = store
        self._ours: set[str] = set()  # whose record has been looked at before it was replaced
        self._histories: dict[str, tuple[History, list[str]]] = {}  # as written last

    def names(self) -> list[str]:
        """List the names of all certificates that are kept, wanted or not."""
        return kept_names(self._store)

    def load(self, name: str) -> tuple[Record, CertificateAndKey | None]:
        return read(self._store.load(folder_of(name)))

    def load_pair(self, name: str) -> CertificateAndKey | None:
        return pair_of(self._store.load(folder_of(name)))

    def refresh(self, name: str) -> bool:
        """Take what the store has that several machines share; returns whether the certificate here
        was issued later. This repository has no such store, so it does nothing."""
        return False

    def previous(self, name: str) -> CertificateAndKey | None:
        return pair_of(self._store.previous(folder_of(name)))

    def keep_record(self, name: str, record: Record) -> None:
        folder = folder_of(name)
        if name not in self._ours:
            newer_documents.set_aside(self._store, folder, META, records.VERSION)
            self._ours.add(name)
        before = self._histories.get(name)
        history = records.translated(record.history, documents.encode, before)
        self._histories[name] = history
        self._store.store(folder, {META: records.to_json(record, history[1])})

    def keep_pair(self, name: str, pair: CertificateAndKey) -> None:
        self._store.store(folder_of(name), files_of(pair))

    def discard_pair(self, name: str) -> None:
        """Delete certificate and key, and keep the record."""
        for file in (CHAIN, KEY):
            self._store.delete(folder_of(name), file)

    def discard(self, name: str) -> None:
        """Delete certificate, key and record."""
        self._ours.discard(name)
        self._histories.pop(name, None)
        self._store.delete(folder_of(name))
        unfinished_order.erase(self._store, name)

    def forget(self, name: str, wanted: Collection[str]) -> list[str]:
        """Discard the certificates that are kept for a name, by which they are called or which they
        were for, unless they are ``wanted``; returns their names. Raises OSError."""
        gone = []
        for one in self.names():
            if one not in wanted and (one == name or name in self.load(one)[0].names):
                self.discard(one)
                gone.append(one)
        return gone

    def unfinished_order(self, name: str) -> UnfinishedOrder | None:
        """Return the order for this certificate that an attempt has not come to the end of; None
        without any. Raises OSError."""
        return unfinished_order.load(self._store, name)

    def keep_order(self, name: str, order: UnfinishedOrder, beside: Sequence[Edit] = ()) -> None:
        """Note an order. Where several machines share the note, it is written in one step with what
        is ``beside`` it. Raises OSError."""
        unfinished_order.keep(self._store, name, order)

    def erase_order(self, name: str) -> None:
        """Forget the order that is noted for this certificate, and its key."""
        unfinished_order.erase(self._store, name)

    def revoke_order(self, name: str) -> None:
        """Forget the order with the certificate, which is revoked: its key may be known to others,
        as that of the certificate may be."""
        unfinished_order.erase(self._store, name)

    def lock(self, name: str, lease: float) -> Lock | None:
        return self._store.lock(folder_of(name), lease)

    def watch(self) -> Callable[[], set[str]]:
        """Return a function that lists the names whose certificate or record has changed since its
        last call, whoever changed it."""
        changed = self._store.watch(FOLDER)
        return lambda: names_of(changed())


def forgotten(name: str, gone: list[str]) -> dict[str, object]:
    """The answer to a command that was to forget a name."""
    if not gone:
        return {"ok": False, "error": f"nothing is kept for {name} that no site wants"}
    return {"ok": True, "message": f"removed, with its key: {', '.join(gone)}"}


def folder_of(name: str) -> str:
    return f"{FOLDER}/{folder_name(name)}"


def read(files: Mapping[str, bytes]) -> tuple[Record, CertificateAndKey | None]:
    """Return what the files of a certificate's folder have."""
    return records.from_json(files.get(META, b"")), pair_of(files)


def files_of(pair: CertificateAndKey) -> dict[str, bytes]:
    return {CHAIN: pair.chain_pem, KEY: pair.key_pem}


def pair_of(files: Mapping[str, bytes]) -> CertificateAndKey | None:
    if CHAIN not in files or KEY not in files:
        return None
    return CertificateAndKey(files[CHAIN], files[KEY])
