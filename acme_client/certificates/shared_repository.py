"""Certificates and their records that several machines keep together, each with a copy on its disk.

The store that they share says what is true, and a machine's own disk has all that it needs to start
and to serve when that store is away. Only the holder of a certificate's lock writes its record, and
what it writes is refused when it has lost the lock without noticing. The holder of the lock reads
the shared store first, because another machine may have been faster.

Of two certificates for one name the one that was issued later wins, on both sides. Nothing on the
disk is deleted because it is missing in the shared store.
"""

from __future__ import annotations

import contextlib
import errno
import logging
from collections.abc import Callable, Collection, Iterator

from ..errors import IssuanceError
from ..storage.store import Changes, Conflict, Edit, Fenced, Files, Lock, Store, Unreachable
from ..x509 import verify
from ..x509.verify import CertificateAndKey
from . import record as records
from .folder_names import FOLDER, names_of
from .record import Record
from .repository import META, CertificateRepository, files_of, folder_of, read

log = logging.getLogger("treehouse.certifier")

# Ends with its session; the figure is for stores that cannot tell whether a holder lives.
_LEASE = 1800.0


class Busy(Conflict):
    """Another machine is at work on the certificate."""


class SharedRepository(CertificateRepository):
    """``store`` is this machine's own, ``shared`` all machines'."""

    def __init__(self, store: Store, shared: Store) -> None:
        super().__init__(store)
        self._shared = shared
        self._held: dict[str, Lock] = {}
        self._own: set[str] = set()  # folders that this machine has written since it looked

    # Under a certificate's lock

    @contextlib.contextmanager
    def alone(self, name: str) -> Iterator[Lock]:
        """Hold the certificate's lock inside: no other machine changes the certificate or its
        record meanwhile. First this machine's disk takes what the shared store has, if that is
        newer. Raises `Busy` where another machine has the lock, `Unreachable`."""
        lock = self._shared.lock(folder_of(name), _LEASE)
        if lock is None:
            raise Busy(errno.EBUSY, "another machine is at work on it")
        self._held[name] = lock
        try:
            self.refresh(name)
            yield lock
        finally:
            del self._held[name]
            with contextlib.suppress(OSError):  # it ends with the session
                lock.release()

    def holds(self, name: str) -> bool:
        """Whether this machine has the certificate's lock, as far as it knows."""
        return name in self._held

    def keep_record(self, name: str, record: Record) -> None:
        """Write the record to the shared store and to this machine's disk; while the shared store
        is unreachable, to the disk alone.

        It is written under the certificate's lock, which is taken for the writing where this
        machine does not have it. Raises `Busy` where another machine has the lock, `Conflict` where
        the shared store has another certificate than the record is of, `Fenced` where the lock has
        been lost; then the record is written nowhere."""
        with contextlib.suppress(Unreachable):
            held = self._held.get(name)
            if held is not None:
                self._share(name, {META: records.to_json(record)}, held)
            else:
                self._keep_record_alone(name, record)
        self.keep_record_here(name, record)

    def _keep_record_alone(self, name: str, record: Record) -> None:
        with self.alone(name) as lock:
            kept, _pair = super().load(name)
            if kept.serial != record.serial and kept.serial is not None:
                raise Conflict(errno.EEXIST, "another machine has obtained another certificate")
            self._share(name, {META: records.to_json(record)}, lock)

    def keep_pair(self, name: str, pair: CertificateAndKey) -> None:
        held = self._held.get(name)
        if held is not None:
            self._share(name, files_of(pair), held)
        self._note(name)
        super().keep_pair(name, pair)

    def keep(self, name: str, pair: CertificateAndKey, record: Record) -> None:
        """Write a certificate and its record in one step. Raises `Fenced` when the lock has been
        lost; then nothing has changed."""
        folder = folder_of(name)
        edits = [Edit(folder, files_of(pair)), Edit(folder, {META: records.to_json(record)})]
        self._shared.change(edits, by=self._held[name])
        self.keep_here(name, pair, record)

    def keep_here(self, name: str, pair: CertificateAndKey, record: Record) -> None:
        """Write a certificate and its record on this machine's disk only. The record is written
        first: a reader that comes in between finds the old certificate, which it knows already."""
        self._note(name)
        super().keep_record(name, record)
        super().keep_pair(name, pair)

    def keep_record_here(self, name: str, record: Record) -> None:
        self._note(name)
        super().keep_record(name, record)

    # Between the two

    def refresh(self, name: str) -> bool:
        """Take the certificate and the record that the shared store has, unless the certificate on
        this machine's disk was issued later; returns whether it was. Raises `Unreachable`."""
        shared, pair = read(self._shared.load(folder_of(name)))
        kept, here = super().load(name)
        if pair is None:
            return here is not None
        if pair == here:
            if shared != kept:
                self.keep_record_here(name, shared)
            return False
        if here is not None and _issued(here) > _issued(pair):
            return True
        if _issued(pair) > 0.0:  # it can be read
            self.keep_here(name, pair, shared)
        return False

    def share(self, name: str) -> None:
        """Give the shared store the certificate of this machine's disk, if it was issued later than
        the one there. Raises `Busy`, `Unreachable`, `Fenced`."""
        with self.alone(name):
            record, pair = super().load(name)
            if pair is None or not self.refresh(name):
                return
            self.keep(name, pair, records.shared(record))

    def watch(self) -> Callable[[], set[str]]:
        here = super().watch()
        there: Changes | None = None

        def names() -> set[str]:
            nonlocal there
            found = here() - self._own
            self._own = set()
            try:
                if there is None:
                    there = self._shared.watch(FOLDER)
                found |= names_of(there())
            except Unreachable:
                pass
            return found

        return names

    def forget(self, name: str, wanted: Collection[str]) -> list[str]:
        gone = super().forget(name, wanted)
        for one in gone:
            self._shared.delete(folder_of(one))
        return gone

    def _share(self, name: str, files: Files, by: Lock) -> None:
        self._shared.change([Edit(folder_of(name), files)], by=by)
        self._note(name)

    def _note(self, name: str) -> None:
        self._own.add(name)


LOST = (Busy, Conflict, Fenced)


def _issued(pair: CertificateAndKey) -> float:
    """When a certificate begins; 0.0 for one that cannot be read."""
    try:
        return verify.read(pair)[1].not_before
    except IssuanceError:
        return 0.0
