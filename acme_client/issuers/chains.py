"""Chooses one of the chains that a CA offers for a certificate (RFC 8555 §7.4.2).

A CA with a young root offers a second chain, which leads to an older root. Which of the two is
better depends on the clients, so the configuration says it, by the common name of the root that the
chain leads to: of the issuer of its topmost certificate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from cryptography import x509
from cryptography.x509.oid import NameOID

from ..errors import IssuanceError
from ..x509 import loadable, pem
from ..x509.verify import CertificateAndKey, read

# More than any CA offers; each is a request.
ALTERNATES_MOST = 8


def root_of(chain_pem: bytes) -> str | None:
    """Return the common name of the root that the chain leads to; None if it has none, or is no
    chain."""
    try:
        top = x509.load_der_x509_certificate(pem.certificates(chain_pem)[-1])
    except ValueError:
        return None
    found = top.issuer.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(found[0].value) if found else None


def choose(
    preferred: str, first: CertificateAndKey, others: Iterable[Callable[[], bytes]]
) -> tuple[CertificateAndKey, list[str]]:
    """Return the pair whose chain leads to the ``preferred`` root; else the ``first``, which the CA
    chose, with the roots that there were. ``others`` fetch a chain each. A chain that cannot be
    fetched, or served with this key, is passed over: a preference never costs the certificate."""
    roots = []
    for fetch in (lambda: first.chain_pem, *others):
        try:
            pair, _facts = read(CertificateAndKey(fetch(), first.key_pem))
            loadable.demand(pair)
        except IssuanceError:
            continue
        root = root_of(pair.chain_pem)
        if root is None:
            continue
        if root == preferred:
            return pair, []
        roots.append(root)
    return first, roots
