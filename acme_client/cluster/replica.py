"""Certificates between the engine and the local disk, in both directions.

The local directory is complete: a machine starts, serves and reloads from it without the engine.
The machine that orders *offers* its certificates, and the others *take* those that they want. No
machine takes a certificate on trust: it is read, matched with its key and with the names that are
wanted, and loaded by OpenSSL, before it replaces what is served; and it replaces nothing that was
issued later, so that an engine which was restored from a backup takes nothing back. Nothing local
is ever deleted because it is missing in the engine.

The record goes to the disk before the certificate: a reader that comes in between finds the old
certificate, which it knows already.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Mapping

from ..certificates import record as records
from ..certificates.folder_names import FOLDER, folder_name, known_name
from ..certificates.repository import META, files_of, folder_of, pair_of
from ..errors import IssuanceError
from ..names import covers
from ..storage.etcd.store import EtcdStore, Unreadable
from ..storage.store import Edit, Lock, Store
from ..text import spell
from ..x509 import loadable
from ..x509.verify import CertificateAndKey, CertificateInfo, digest_of, read

log = logging.getLogger("treehouse.certifier")


class Replica:
    """``wanted``: the names that each certificate is wanted for. Used by one thread."""

    def __init__(
        self,
        shared: EtcdStore,
        local: Store,
        wanted: Mapping[str, tuple[str, ...]],
        now: Callable[[], float],
    ) -> None:
        self._shared = shared
        self._local = local
        self.wanted = wanted
        self._now = now
        self._there: dict[str, str] = {}  # digests of what the engine has, by name
        self.shortest_life = float("inf")  # of the certificates that have been seen
        self.refused: dict[str, str] = {}  # why what the engine has is not taken, by name

    def refused_folders(self) -> set[str]:
        """Name what was not taken: it may be wanted by now, or what is here may have ended."""
        return {folder_name(one) for one in self.refused}

    # From the engine

    def take_all(self, *, orders: bool) -> bool:
        """Take everything that is wanted; returns whether anything was. ``orders``: what is here
        counts for more where the two are as old. Raises OSError."""
        taken = False
        self._there.clear()
        for folder, files in self._shared.load_all(FOLDER):
            name = known_name(folder)
            if name is None or name not in self.wanted:
                continue
            if isinstance(files, OSError):
                self._refuse(name, str(files.strerror))
            else:
                taken |= self._take(name, files, orders=orders)
        return taken

    def take(self, folder: str, *, orders: bool) -> bool:
        """Take one certificate; returns whether it has. Raises OSError."""
        name = known_name(folder)
        if name is None or name not in self.wanted:
            return False
        try:
            files = self._shared.load(f"{FOLDER}/{folder}")
        except Unreadable as fault:
            self._refuse(name, str(fault.strerror))
            return False
        return self._take(name, files, orders=orders)

    def differs(self, folder: str) -> str | None:
        """Return the name of a certificate of which the engine has another version than the one
        that it was seen to have last, or one that cannot be opened; None for the others. Raises
        OSError."""
        name = known_name(folder)
        if name is None or name not in self.wanted:
            return None
        digest = None
        with contextlib.suppress(Unreadable):
            pair = pair_of(self._shared.load(f"{FOLDER}/{folder}"))
            digest = digest_of(pair) if pair is not None else None
        if digest is not None and digest == self._there.get(name):
            return None
        self._there.pop(name, None)
        return name

    def _take(self, name: str, files: Mapping[str, bytes], *, orders: bool) -> bool:
        offered = pair_of(files)
        if offered is None:
            return False
        self._there[name] = digest_of(offered)
        record = records.from_json(files.get(META, b""))
        if record.not_before is not None and record.not_after is not None:
            self.shortest_life = min(self.shortest_life, record.not_after - record.not_before)
        here = pair_of(self._local.load(folder_of(name)))
        if here == offered:
            self.refused.pop(name, None)
            return False
        try:
            sound, facts = read(offered)
            self._demand_wanted(name, facts)
            why = loadable.fault(sound)
        except IssuanceError as problem:
            why = problem.text
        if why is not None:
            self._refuse(name, why)
            return False
        self.refused.pop(name, None)
        if not self._is_better(name, facts, here, orders=orders):
            return False
        folder = folder_of(name)
        if META in files:
            self._local.store(folder, {META: files[META]})
        self._local.store(folder, files_of(offered))
        log.info("%s: taken from the cluster, valid %s", name, spell(facts.not_after - self._now()))
        return True

    def _demand_wanted(self, name: str, facts: CertificateInfo) -> None:
        missing = [one for one in self.wanted[name] if not covers(facts.names, one)]
        if missing and len(missing) == len(self.wanted[name]):
            raise IssuanceError("unproven", f"it is for other names: {', '.join(facts.names)}")

    def _is_better(
        self,
        name: str,
        facts: CertificateInfo,
        here: CertificateAndKey | None,
        *,
        orders: bool,
    ) -> bool:
        if here is None:
            return True
        try:
            _sound, ours = read(here)
        except IssuanceError:
            return True
        if ours.not_after <= self._now():
            return facts.not_after > ours.not_after
        lost = [
            one
            for one in self.wanted[name]
            if covers(ours.names, one) and not covers(facts.names, one)
        ]
        if lost and not orders:
            self._refuse(name, f"it is not for {', '.join(lost)}, which what is here is for")
        if lost:
            return False
        if orders:
            return facts.not_before > ours.not_before
        return facts.not_before >= ours.not_before

    def _refuse(self, name: str, why: str) -> None:
        if self.refused.get(name) != why:
            log.error("%s: what the cluster has is not taken, what is here stays: %s", name, why)
        self.refused[name] = why

    # To the engine

    def offer(self, name: str, by: Lock) -> bool:
        """Offer what is here, if the engine has something else; returns whether it had. Raises
        OSError, `Fenced` when another machine orders by now."""
        if name not in self.wanted:
            return False
        folder = folder_of(name)
        files = self._local.load(folder)
        pair = pair_of(files)
        if pair is None:
            return False
        digest = digest_of(pair)
        if self._there.get(name) == digest and name not in self.refused:
            return False
        try:
            read(pair)
        except IssuanceError as problem:
            log.debug("%s: not offered to the cluster: %s", name, problem.text)
            return False
        edits = [Edit(folder, files_of(pair))]
        if META in files:
            edits.append(Edit(folder, {META: files[META]}))
        self._shared.change(edits, by=by)
        self._there[name] = digest
        self.refused.pop(name, None)
        log.info("%s: offered to the cluster", name)
        return True
