"""Compares the certificate that a machine's configuration asks for, its *wish*, with the
certificate that the machines have.

The configurations of two machines may ask for different certificates of one name: while a change is
rolled out, or by mistake. Each machine would order the certificate that it wants, find the one that
the other machine has ordered, and order again, once a minute for ever. So a certificate that covers
a wish, or more, satisfies it. A certificate that does not satisfy a machine is not replaced by that
machine while another member lives whose wish it was made for; a warning tells of the difference,
and a person decides.

Pure.
"""

from __future__ import annotations

import functools
import hashlib

from ..link import CertificateSpec
from ..names import covers
from ..text import timestamp
from ..x509.verify import CertificateInfo
from . import ca_choice
from .record import MADE_LATELY, Record


@functools.lru_cache(maxsize=4096)
def of(wanted: CertificateSpec) -> str:
    """Hash what a certificate is to be: names, kind of key, CAs and their terms. How its names are
    proven is each machine's own business."""
    terms = [ca_choice.terms(one) for one in (wanted.authority, *wanted.fallback)]
    said = repr((sorted(set(wanted.names)), wanted.key_type, terms))
    return hashlib.sha256(said.encode()).hexdigest()[:12]


def satisfied(wanted: CertificateSpec, record: Record, facts: CertificateInfo) -> bool:
    """Whether a certificate is what is wanted, or more."""
    if not all(covers(facts.names, name) for name in wanted.names):
        return False
    if facts.key_type != wanted.key_type or not ca_choice.serves(wanted, record):
        return False
    made = record.made
    if made is None or made.terms is None:
        return True
    return any(ca_choice.terms(one) == made.terms for one in (wanted.authority, *wanted.fallback))


def told(name: str, holders: list[str], node: str) -> str:
    """Say that machines want one certificate to be different things."""
    others = ", ".join(holders)
    return (
        f"{name}: {others} and this node ({node}) are configured differently, so this node does "
        "not order what it wants; make the configurations alike, or decide by certs renew"
    )


def told_to_wait(name: str, until: float) -> str:
    """Say that so many certificates were made lately that no further certificate is."""
    return (
        f"{name}: {MADE_LATELY} certificates were made within a day, so none is ordered before "
        f"{timestamp(until)}; certs renew orders all the same"
    )
