"""Judges a certificate that another machine has made, before it takes the place of one that is
here.

Nobody takes anything on trust: it is read, matched with its key and with the names that are wanted,
and loaded by OpenSSL. One that is sound may still be a step back: where what is here is valid and
is for more of the wanted names, visitors of these names would be turned away.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import IssuanceError
from ..names import covers
from ..x509 import loadable, verify
from ..x509.verify import CertificateAndKey, CertificateInfo


def examined(
    offered: CertificateAndKey, wanted: Sequence[str]
) -> tuple[CertificateInfo | None, str]:
    """Return what the certificate states, and why it cannot be served for any of the wanted names;
    "" where it can."""
    try:
        sound, facts = verify.read(offered)
    except IssuanceError as problem:
        return None, problem.text
    if not any(covers(facts.names, one) for one in wanted):
        return None, f"it is for other names: {', '.join(facts.names)}"
    return facts, loadable.fault(sound) or ""


def loses(
    facts: CertificateInfo, here: CertificateAndKey | None, wanted: Sequence[str], now: float
) -> list[str]:
    """Name the wanted names that what is here serves, and what is offered does not."""
    if here is None:
        return []
    try:
        _sound, ours = verify.read(here)
    except IssuanceError:
        return []
    if ours.not_after <= now:
        return []
    return [one for one in wanted if covers(ours.names, one) and not covers(facts.names, one)]


def loses_in_words(lost: Sequence[str]) -> str:
    """Say why such a certificate is not taken."""
    return f"it is not for {', '.join(lost)}, which what is here is for"
