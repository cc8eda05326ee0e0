"""Certificates and their records that several machines keep together, each with a copy on its disk.

The store that they share says what is true, and a machine's own disk has all that it needs to start
and to serve when that store is away. Only the holder of a certificate's lock writes its record, and
what it writes is refused when it has lost the lock without noticing. The holder of the lock reads
the shared store first, because another machine may have been faster.

Of two certificates for one name the one that was issued later wins, on both sides; but nothing
takes the place of what is here before it was examined (`offered`). What cannot be used is told, and
put right by the machine that has made the certificate, or by the next attempt: if everybody did,
two machines that cannot read each other would write for ever. Nothing on the disk is deleted
because it is missing in the shared store.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import threading
import time
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType

from ..errors import IssuanceError
from ..storage import documents
from ..storage.store import (
    Changes,
    Conflict,
    Edit,
    Fenced,
    Files,
    Lock,
    Store,
    Unreachable,
    Unreadable,
)
from ..x509 import verify
from ..x509.verify import CertificateAndKey
from . import record as records
from . import unfinished_order
from .copies import Copies
from .folder_names import FOLDER, known_name
from .offered import Refusals, judged
from .record import Record
from .repository import META, CertificateRepository, files_of, folder_of, read
from .unfinished_order import UnfinishedOrder

log = logging.getLogger("treehouse.certifier")

# Ends with its session; the figure is for stores that cannot tell whether a holder lives.
_LEASE = 1800.0
_STRIPES = 64


class Busy(Conflict):
    """Another machine is at work on the certificate."""


class SharedRepository(CertificateRepository):
    """``store`` is this machine's own, ``shared`` all machines'; ``node`` is its name, ``wanted``
    the names that each certificate is wanted for: what is offered for one of these is examined.
    ``now`` gives Unix seconds; ``noted`` is what an earlier process has noted of its `copies`."""

    def __init__(
        self,
        store: Store,
        shared: Store,
        node: str = "",
        wanted: Mapping[str, Sequence[str]] = MappingProxyType({}),
        now: Callable[[], float] = time.time,
        noted: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        super().__init__(store)
        self.copies = Copies(store, noted)
        """The certificates of which this machine's disk has what the shared store has."""
        self._shared = shared
        self._node = node
        self._wanted = dict(wanted)
        self._wall = now
        self._held: dict[str, Lock] = {}
        self._ahead: set[str] = set()  # of these, names whose certificate the others have not
        self._own: set[str] = set()  # folders that this machine has written since it looked
        self._there: Changes | None = None
        self._hearing = threading.Lock()
        self._heard: set[str] = set()  # names to look at, whatever the stores tell
        self._strangers: set[str] = set()  # which nobody wanted here: they may have come on demand
        self._newer: set[str] = set()  # names whose records a newer program writes
        self._refusals = Refusals()
        self._untaken: set[str] = set()  # names of what is there and was not looked at, or taken
        # Two threads may look at one certificate, as at a start. The first one must not write the
        # state that it has read in the shared store over a later one that the second has read.
        self._taking = tuple(threading.RLock() for _ in range(_STRIPES))

    def _alone_here(self, name: str) -> threading.RLock:
        """The lock of those who bring a certificate from the shared store to the disk."""
        return self._taking[zlib.crc32(name.encode()) % _STRIPES]

    @property
    def refused(self) -> dict[str, str]:
        """Why what is offered is not taken, by name."""
        return self._refusals.by_name

    def behind(self) -> set[str]:
        """Name the wanted certificates of which the shared store has another one than this machine,
        which has not taken it yet, or does not. Any thread may call."""
        untaken = self._untaken & self._wanted.keys()
        return (untaken | self._refusals.by_name.keys()) - self._held.keys()

    def want(self, name: str, names: Sequence[str]) -> None:
        """Have a certificate as well that no configuration names."""
        if name not in self._wanted:
            self._wanted[name] = names
            if name not in self.copies:
                self._heard.add(name)

    def unwant(self, name: str) -> None:
        self._wanted.pop(name, None)

    # Under a certificate's lock

    @contextlib.contextmanager
    def alone(self, name: str) -> Iterator[Lock]:
        """Hold the certificate's lock inside: no other machine changes the certificate or its
        record meanwhile. First this machine's disk takes what the shared store has, if that is
        newer. Raises `Busy` where another machine has the lock, or where a newer version of this
        program writes the record, which this one must not replace; `Unreachable`."""
        lock = self._shared.lock(folder_of(name), _LEASE)
        if lock is None:
            raise Busy(errno.EBUSY, "another machine is at work on it")
        self._held[name] = lock
        try:
            if self.refresh(name):
                self._ahead.add(name)
            if name in self._newer:
                raise Busy(errno.EBUSY, "its record is by a newer version of this program")
            yield lock
        finally:
            del self._held[name]
            self._ahead.discard(name)
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
        the shared store has another certificate than the record is of, or a request for another
        one that the record does not know, `Fenced` where the lock has been lost; then the record is
        written nowhere. A certificate that was issued later than that of the others is shared with
        its record: with the record alone another machine would order it."""
        with contextlib.suppress(Unreachable):
            held = self._held.get(name)
            if held is not None:
                self._share_record(name, record, held)
            else:
                self._keep_record_alone(name, record)
        self.keep_record_here(name, record)

    def _keep_record_alone(self, name: str, record: Record) -> None:
        with self.alone(name) as lock:
            kept, _pair = super().load(name)
            if kept.serial != record.serial and kept.serial is not None:
                raise Conflict(errno.EEXIST, "another machine has obtained another certificate")
            if kept.wanted_anew and not record.wanted_anew:
                self._heard.add(name)
                raise Conflict(errno.EEXIST, "another one has been asked for on another machine")
            self._share_record(name, record, lock)

    def keep_pair(self, name: str, pair: CertificateAndKey) -> None:
        held = self._held.get(name)
        if held is not None:
            self._share(name, files_of(pair), held)
        with self._alone_here(name):
            self._note(name)
            super().keep_pair(name, pair)

    def keep(self, name: str, pair: CertificateAndKey, record: Record) -> None:
        """Write a certificate and its record in one step. Raises `Fenced` when the lock has been
        lost; then nothing has changed."""
        folder = folder_of(name)
        edits = [Edit(folder, files_of(pair)), Edit(folder, {META: records.to_json(record)})]
        self._shared.change(edits, by=self._held[name])
        self._ahead.discard(name)
        self.keep_here(name, pair, record)

    def keep_here(self, name: str, pair: CertificateAndKey, record: Record) -> None:
        """Write a certificate and its record on this machine's disk only. The record is written
        first: a reader that comes in between finds the old certificate, which it knows already."""
        with self._alone_here(name):
            self._note(name)
            super().keep_record(name, record)
            super().keep_pair(name, pair)

    def unfinished_order(self, name: str) -> UnfinishedOrder | None:
        """Return the order that any machine has left unfinished. Where the shared store has none,
        one that was placed while it was away may be noted on this machine's disk."""
        found = None
        with contextlib.suppress(Unreachable):  # then this machine has its own disk alone
            found = unfinished_order.load(self._shared, name)
        return found or super().unfinished_order(name)

    def keep_order(self, name: str, order: UnfinishedOrder, beside: Sequence[Edit] = ()) -> None:
        """Note an order for all machines, and on this one's disk. Raises `Fenced` when the lock has
        been lost; then it is noted nowhere. Raises `Unreachable`; then it may be noted for the
        others. Without the lock it is noted on the disk alone."""
        held = self._held.get(name)
        if held is not None:
            unfinished_order.keep(self._shared, name, order, held, beside)
        super().keep_order(name, order)

    def erase_order(self, name: str) -> None:
        super().erase_order(name)
        held = self._held.get(name)
        if held is not None:
            unfinished_order.erase(self._shared, name, by=held)

    def revoke_order(self, name: str) -> None:
        super().revoke_order(name)
        unfinished_order.erase(self._shared, name)

    def keep_record_here(self, name: str, record: Record) -> None:
        with self._alone_here(name):
            self._note(name)
            super().keep_record(name, record)

    # Between the two

    def refresh(self, name: str) -> bool:
        """Take the certificate and the record that the shared store has, unless the certificate on
        this machine's disk was issued later; returns whether it was. Raises `Unreachable`."""
        with self._alone_here(name):
            heard = self.copies.heard(name)
            found: Files | Unreadable
            try:
                found = self._shared.load(folder_of(name))
            except Unreadable as fault:
                found = fault
            except Unreachable:
                self._heard.add(name)  # it is looked at again
                raise
            is_ahead = self.compare(name, found)
            self._compared(name, found, heard)
            return is_ahead

    def compare(self, name: str, found: Files | Unreadable) -> bool:
        """Do as `refresh` with what was found in the shared store."""
        is_ours = self._take_newer(name, found)
        self._untaken.discard(name)
        return is_ours

    def _take_newer(self, name: str, found: Files | Unreadable) -> bool:
        kept, here = super().load(name)
        if isinstance(found, Unreadable):
            return self._refuse(name, str(found.strerror), kept, here)
        newer = documents.newer(found.get(META, b""), records.VERSION) is not None
        (self._newer.add if newer else self._newer.discard)(name)
        shared, pair = read(found)
        if pair is None:
            self._refusals.end(name)
            if here is None and META in found and shared != kept and not newer:
                self.keep_record_here(name, shared)  # of attempts that have failed
            return here is not None
        if pair == here:
            self._refusals.end(name)
            known = records.with_revocation(shared, kept, self._node)
            if known != kept and not newer:
                self.keep_record_here(name, known)
            return False
        why = self._objection(name, pair, shared, here)
        if why:
            is_ours = self._refuse(name, why, kept, here)
            # Whoever has made a later one would write that again, and so on for ever.
            return is_ours and here is not None and _issued(here) > _issued(pair)
        self._refusals.end(name)
        if here is not None and _issued(here) > _issued(pair):
            return True
        if _issued(pair) > 0.0:  # it can be read
            self._untaken.add(name)  # until the disk has it
            self.keep_here(name, pair, shared)
            super().erase_order(name)  # another machine has gone on with it, or needs it no more
        return False

    def _compared(self, name: str, found: Files | Unreadable, heard: int | None) -> None:
        fits = name not in self.refused and name not in self._newer
        self.copies.compared(name, found, heard, fits)

    def _objection(
        self, name: str, pair: CertificateAndKey, shared: Record, here: CertificateAndKey | None
    ) -> str:
        """Say why a pair is not to take the place of what is here; empty where it may."""
        wanted = self._wanted.get(name)
        if wanted is None:
            return ""
        ordered = shared.serial if shared.made is not None else None
        return judged(pair, here, wanted, self._wall(), ordered)[1]

    def _refuse(self, name: str, why: str, kept: Record, here: CertificateAndKey | None) -> bool:
        """Keep what is here; returns whether it is this machine's to put it right."""
        self._refusals.add(name, why)
        return here is not None and kept.made is not None and kept.made.node == self._node

    def catch_up(self, found: Iterable[tuple[str, Files | Unreadable]]) -> None:
        """Have all that the shared store has, folder by folder, of the certificates that are
        wanted. Those that are other ones now, or are to be given to the others, are named by the
        next look (`watch`). Raises OSError."""
        missing = set(self._wanted)
        for folder, files in found:
            name = known_name(folder)
            if name is not None and name not in self._wanted:
                self._heard.add(name)  # it may have come on demand
            elif name is not None and name in missing:
                missing.discard(name)
                with self._alone_here(name):
                    before = super().load(name)
                    if self.compare(name, files) or super().load(name) != before:
                        self._heard.add(name)
                    if self.copies.heard(name) is None:  # else it is older than what was heard
                        self._compared(name, files, None)
        for name in missing:
            if super().load(name)[1] is not None:
                self._heard.add(name)

    def doubtful(self) -> set[str]:
        """Verify the copies that were noted; returns the names of all certificates that have to be
        read in the shared store all the same. Raises OSError."""
        gone = self.copies.verify()
        return gone | {name for name in list(self._wanted) if name not in self.copies}

    def catch_up_with(self, doubtful: Iterable[str], there: Iterable[str]) -> None:
        """Have what the shared store has of the certificates that are in doubt; with all others
        this machine goes on from where it was. ``there``: the names of all that the shared store
        had then. Raises OSError."""
        for name in doubtful:
            if name not in self._wanted:
                self._heard.add(name)
                continue
            with self._alone_here(name):
                before = super().load(name)
                if self.refresh(name) or super().load(name) != before:
                    self._heard.add(name)
        with self._hearing:
            self._strangers |= set(there) - self._wanted.keys()

    def hear(self, there: Changes | None = None) -> None:
        """Hear of what changes in the shared store from now on, by a watch that is ``there`` or by
        one of its own. Raises OSError."""
        with self._hearing:
            if self._there is None:
                self._there = there or self._shared.watch(FOLDER)

    def share(self, name: str) -> None:
        """Give the shared store the certificate of this machine's disk, if it was issued later than
        the one there. Raises `Busy`, `Unreachable`, `Fenced`."""
        with self.alone(name):
            record, pair = super().load(name)
            if pair is None or not self.refresh(name):
                return
            self.keep(name, pair, records.shared(record))
        log.info("%s: offered to the cluster", name)

    def watch(self) -> Callable[[], set[str]]:
        here = super().watch()

        def names() -> set[str]:
            found = here() - self._own
            self._own = set()
            for name in found:
                self.copies.doubt(name)
            heard, self._heard = self._heard, set()
            with contextlib.suppress(Unreachable):
                self.hear()
                if self._there is not None:
                    there = self.copies.hear(self._there)
                    self._untaken |= there & self._wanted.keys()
                    found |= there
            return found | heard | self._met()

        return names

    def _met(self) -> set[str]:
        with self._hearing:
            strangers, self._strangers = self._strangers, set()
        return {name for name in strangers if name not in self._wanted or name not in self.copies}

    def discard_pair(self, name: str) -> None:
        self.copies.doubt(name)
        super().discard_pair(name)

    def discard(self, name: str) -> None:
        self.copies.doubt(name)
        super().discard(name)

    def forget(self, name: str, wanted: Collection[str]) -> list[str]:
        gone = super().forget(name, wanted)
        for one in gone:
            self._shared.delete(folder_of(one))
            unfinished_order.erase(self._shared, one)
        return gone

    def _share_record(self, name: str, record: Record, by: Lock) -> None:
        pair = super().load_pair(name) if name in self._ahead else None
        if pair is None:
            self._share(name, {META: records.to_json(record)}, by)
            return
        edits = [Edit(folder_of(name), files_of(pair))]
        said = records.to_json(records.shared(record))
        self._shared.change([*edits, Edit(folder_of(name), {META: said})], by=by)
        self._ahead.discard(name)
        self._note(name)

    def _share(self, name: str, files: Files, by: Lock) -> None:
        self._shared.change([Edit(folder_of(name), files)], by=by)
        self._note(name)

    def _note(self, name: str) -> None:
        self._own.add(name)
        self.copies.doubt(name)


LOST = (Busy, Conflict, Fenced)


def _issued(pair: CertificateAndKey) -> float:
    """When a certificate begins; 0.0 for one that cannot be read."""
    try:
        return verify.read(pair)[1].not_before
    except IssuanceError:
        return 0.0
