"""Which of a status's certificates and backends somebody wants to see.

A table of ten thousand lines says nothing to anybody: what needs attention comes first, and of the
rest there are as many as fit a page, unless all are asked for.
"""

from __future__ import annotations

import fnmatch
import time

from acme_client.late_dataclass import dataclass
from acme_client.status import CertificateStatus, validity

from ..ipc.documents import Status

# Lines of certificates that are shown unless all are asked for.
MOST = 50
# A certificate should have been renewed when so many seconds are left, or that part of its life.
_SOON = 2 * 86400.0
_PART = 0.1


@dataclass(frozen=True, slots=True)
class Selection:
    """``names``: patterns as a shell has them ("*.example.org"), none for all; ``attention``: what
    needs attention alone; ``every``: however many there are."""

    names: tuple[str, ...] = ()
    attention: bool = False
    every: bool = False

    def of(self, document: Status) -> Status:
        """Return the document with those of its certificates and backends that are wanted."""
        if not self.names and not self.attention:
            return document
        certificates = [one for one in document["certificates"] if self._wants(one)]
        upstreams = document["upstreams"]
        if self.names:
            upstreams = []
        elif self.attention:
            upstreams = [one for one in upstreams if one["healthy"] == "no"]
        return {**document, "certificates": certificates, "upstreams": upstreams}

    def knows(self, document: Status) -> bool:
        """Whether some certificate has one of the names."""
        return any(map(self._is_called, document["certificates"]))

    def _is_called(self, one: CertificateStatus) -> bool:
        return any(
            name == pattern or fnmatch.fnmatchcase(name, pattern)
            for pattern in self.names
            for name in one["names"]
        )

    def _wants(self, one: CertificateStatus) -> bool:
        called = not self.names or self._is_called(one)
        return called and (not self.attention or needs_attention(one))

    def page(self, certificates: list[CertificateStatus]) -> tuple[list[CertificateStatus], int]:
        """Return the certificates that are shown, in their order, and how many more there are."""
        order = sorted(
            certificates, key=lambda one: (not needs_attention(one), one["not_after"] or "")
        )
        most = len(order) if self.every else MOST
        return order[:most], max(len(order) - most, 0)


def needs_attention(one: CertificateStatus) -> bool:
    """Whether clients do not get the certificate, or soon will not, or its last attempt failed."""
    if one.get("contested"):  # a server of an earlier version says nothing of it
        return True
    if not one["served"] or one["last_error"] or one["state"] not in ("fresh", "due", "issuing"):
        return True
    valid = validity(one)
    if valid is None:
        return True
    begin, end = valid
    return end - time.time() < min(_SOON, (end - begin) * _PART)
