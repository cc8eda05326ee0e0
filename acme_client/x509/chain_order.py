"""Puts the certificates of a file in the order in which TLS sends them (RFC 8446 §4.4.2).

Files hold them in any order, with roots, twice, or with others that have nothing to do with the
leaf. From the leaf on, each certificate is followed by the one that signed it; the rest is left
out. An order that is right already stays as it is, because of two ways up (a root of its own and
the same root signed by an older one) the author of the file has chosen one.

Pure.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm


def ordered(
    leaf: x509.Certificate, others: Sequence[x509.Certificate]
) -> tuple[list[x509.Certificate], list[x509.Certificate]]:
    """Return the chain, ``leaf`` first, and the certificates that do not belong to it. Duplicates
    are in neither."""
    rest = [one for one in dict.fromkeys(others) if one != leaf]
    given = [leaf, *rest]
    if all(issued_by(signed, signer) for signed, signer in itertools.pairwise(given)):
        return given, []
    chain = [leaf]
    while (following := _issuer(chain[-1], rest)) is not None:
        chain.append(following)
        rest.remove(following)
    return chain, rest


def issued_by(signed: x509.Certificate, signer: x509.Certificate) -> bool:
    """Whether ``signer`` signed ``signed``. Signatures of a kind that cannot be verified here do
    not count."""
    try:
        signed.verify_directly_issued_by(signer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def is_self_issued(certificate: x509.Certificate) -> bool:
    """Whether issuer and subject are the same, as with roots."""
    return certificate.issuer == certificate.subject


def _issuer(
    signed: x509.Certificate, candidates: list[x509.Certificate]
) -> x509.Certificate | None:
    """Return the issuer of ``signed``; of several, one that leads further up: a root signed by an
    older root reaches more clients than the same root signed by itself."""
    if is_self_issued(signed):
        return None
    found = [one for one in candidates if issued_by(signed, one)]
    return min(found, key=is_self_issued, default=None)
