"""Certificates from the engine, on a machine that orders none.

The local directory is complete: a machine starts, serves and reloads from it without the engine. It
takes the certificates that it wants, and none on trust (`certificates.offered`); and a certificate
that it takes replaces nothing that was issued later, so that an engine which was restored from a
backup takes nothing back. Nothing local is ever deleted because it is missing in the engine.

The record goes to the disk before the certificate: a reader that comes in between finds the old
certificate, which it knows already.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from types import MappingProxyType

from ..certificates.copies import Copies, is_much
from ..certificates.folder_names import FOLDER, folder_name, known_name, names_of
from ..certificates.offered import Refusals, judged
from ..certificates.repository import META, files_of, folder_of, pair_of
from ..errors import IssuanceError
from ..storage.etcd.store import EtcdStore
from ..storage.etcd.watch import Watch
from ..storage.store import Store, Unreadable
from ..text import spell
from ..x509.verify import CertificateAndKey, CertificateInfo, read

log = logging.getLogger("treehouse.certifier")


class Replica:
    """``wanted``: the names that each certificate is wanted for; ``noted``: what an earlier process
    has noted of its `copies`. One thread takes."""

    def __init__(
        self,
        shared: EtcdStore,
        local: Store,
        wanted: Mapping[str, tuple[str, ...]],
        now: Callable[[], float],
        noted: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.copies = Copies(local, noted)
        """The certificates of which this machine's disk has what the engine has."""
        self._shared = shared
        self._local = local
        self.wanted = wanted
        self._now = now
        self._refusals = Refusals()
        self._untaken: set[str] = set()  # folders that have changed and were not looked at yet

    @property
    def refused(self) -> dict[str, str]:
        """Why what the engine has is not taken, by name."""
        return self._refusals.by_name

    def behind(self) -> set[str]:
        """Name the certificates of which the engine has another one than this machine: those that
        were not looked at yet, and those that are not taken. Any thread may call."""
        return (names_of(tuple(self._untaken)) & self.wanted.keys()) | self.refused.keys()

    def follow(
        self,
        watch: Watch,
        took: Callable[[], object],
        is_over: Callable[[], bool],
        *,
        again: bool,
        due: bool,
    ) -> None:
        """Take what has changed in the engine, or at first (not ``again``) what is in doubt; where
        it is ``due``, what was refused before as well. ``took`` is called if anything was taken,
        ``is_over`` tells whether to go on. Raises OSError; what is left is taken the next time."""
        self._untaken |= self.hear(watch.changed)
        if due:
            self._untaken |= self.refused_folders()
        taken = False
        try:
            if not again:
                doubtful = self.doubtful_folders()
                if not watch.goes_on or is_much(doubtful, self.wanted):
                    taken = self.take_all()
                    self._untaken.clear()
                else:
                    self._untaken |= doubtful
            while self._untaken and not is_over():
                folder = next(iter(self._untaken))
                taken |= self.take(folder)
                self._untaken.discard(folder)
        finally:
            if taken:
                took()

    def refused_folders(self) -> set[str]:
        """Name what was not taken: it may be wanted by now, or what is here may have ended."""
        return {folder_name(one) for one in self.refused}

    def take_all(self) -> bool:
        """Take everything that is wanted; returns whether anything was. Raises OSError."""
        taken = False
        for folder, files in self._shared.load_all(FOLDER):
            name = known_name(folder)
            if name is None or name not in self.wanted:
                continue
            if isinstance(files, OSError):
                self._refusals.add(name, str(files.strerror))
            else:
                taken |= self._take(name, files)
            if self.copies.heard(name) is None:  # else it is older than what was heard
                self._taken(name, files, None)
        return taken

    def doubtful_folders(self) -> set[str]:
        """Verify the copies that were noted; returns what has to be read all the same. Raises
        OSError."""
        self.copies.verify()
        return {folder_name(name) for name in self.wanted if name not in self.copies}

    def hear(self, changed: Callable[[], set[str]]) -> set[str]:
        """Return the folders of certificates that a watch names."""
        return {folder_name(name) for name in self.copies.hear(changed)}

    def take(self, folder: str) -> bool:
        """Take one certificate; returns whether it has. Raises OSError."""
        name = known_name(folder)
        if name is None or name not in self.wanted:
            return False
        heard = self.copies.heard(name)
        try:
            files = self._shared.load(f"{FOLDER}/{folder}")
        except Unreadable as fault:
            self._refusals.add(name, str(fault.strerror))
            self._taken(name, fault, heard)
            return False
        has = self._take(name, files)
        self._taken(name, files, heard)
        return has

    def _taken(self, name: str, found: Mapping[str, bytes] | Unreadable, heard: int | None) -> None:
        self.copies.compared(name, found, heard, name not in self.refused)

    def _take(self, name: str, files: Mapping[str, bytes]) -> bool:
        offered = pair_of(files)
        if offered is None:
            return False
        here = pair_of(self._local.load(folder_of(name)))
        if here == offered:
            self._refusals.end(name)
            return False
        facts, why = judged(offered, here, self.wanted[name], self._now())
        if facts is None or why:
            self._refusals.add(name, why)
            return False
        self._refusals.end(name)
        if not self._is_newer(facts, here):
            return False
        folder = folder_of(name)
        if META in files:
            self._local.store(folder, {META: files[META]})
        self._local.store(folder, files_of(offered))
        log.info("%s: taken from the cluster, valid %s", name, spell(facts.not_after - self._now()))
        return True

    def _is_newer(self, facts: CertificateInfo, here: CertificateAndKey | None) -> bool:
        if here is None:
            return True
        try:
            _sound, ours = read(here)
        except IssuanceError:
            return True
        if ours.not_after <= self._now():
            return facts.not_after > ours.not_after
        return facts.not_before >= ours.not_before
