"""Certificates that people bring along, in shared memory (`ipc.packs`), and kept for later.

They are read (`certificate_reading`) at boot while the process may still be root, because such keys
are usually root's alone; and again at each reload, as the user that the server has become.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from acme_client.status import CertificateStatus

from ..config.model import OwnCertificate
from ..ipc.messages import CertificateFacts
from ..ipc.packs import Bundle

log = logging.getLogger("treehouse.certificates")


class CertificateUnusable(Exception):
    """A file of a site's own certificate cannot be used; the text says which and why."""


class LoadedCertificate(NamedTuple):
    """``files``: where it was read from. ``bundle``: the chain and the key."""

    files: OwnCertificate
    facts: CertificateFacts
    status: CertificateStatus
    bundle: Bundle


class OwnFiles(NamedTuple):
    """What a reading has found of certificates that sites bring along: all of them, whose bundles
    are the caller's; or what is wrong with one (``unusable``), and then none. ``warnings``: what is
    wrong with certificates that are served all the same."""

    loaded: Sequence[LoadedCertificate] = ()
    unusable: str | None = None
    warnings: Sequence[str] = ()

    def release(self) -> None:
        """Let go of all bundles."""
        for one in self.loaded:
            one.bundle.release()


class OwnCertificates:
    """What was read, kept for a reload that may not read it again: a key that only root can read
    was read once at boot, and stays in use until the program is restarted."""

    def __init__(self, inherited: Mapping[OwnCertificate, Bundle] | None = None) -> None:
        self._present: dict[OwnCertificate, Bundle] = dict(inherited or {})
        self.names: frozenset[str] = frozenset()  # of the certificates that were read last

    @property
    def present(self) -> Mapping[OwnCertificate, Bundle]:
        """What was read, for a successor and for the next reading; it stays ours."""
        return self._present

    def close_in_child(self, *_: object) -> None:
        """A worker has been given the certificates that it serves; no child reads these."""
        for bundle in self._present.values():
            bundle.release()
        self._present = {}

    def take(self, read: OwnFiles) -> Sequence[LoadedCertificate]:
        """Keep what has been read, and return it; the bundles are the caller's. Raises
        `CertificateUnusable`, and then nothing has changed."""
        for text in read.warnings:
            log.warning("%s", text)
        if read.unusable is not None:
            raise CertificateUnusable(read.unusable)
        present: dict[OwnCertificate, Bundle] = {}
        for one in read.loaded:
            if one.files not in present:  # two sites may have the same files
                present[one.files] = one.bundle.again()
        for bundle in self._present.values():
            bundle.release()
        self._present = present
        self.names = frozenset(one.facts.name for one in read.loaded)
        return read.loaded
