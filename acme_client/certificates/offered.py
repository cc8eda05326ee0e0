"""Judges a certificate that another machine has made, before it takes the place of one that is
here.

Nobody takes anything on trust: it is read, matched with its key and with the names that are wanted,
and loaded by OpenSSL. One that is sound may still be a step back: where what is here is valid and
is for more of the wanted names, visitors of these names would be turned away.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from ..errors import IssuanceError
from ..names import covers
from ..x509 import loadable, verify
from ..x509.verify import CertificateAndKey, CertificateInfo

log = logging.getLogger("treehouse.certifier")


class Refusals:
    """Why what is offered is not taken, by the names of certificates. A reason is logged once."""

    def __init__(self) -> None:
        self.by_name: dict[str, str] = {}

    def add(self, name: str, why: str) -> None:
        if self.by_name.get(name) != why:
            log.error("%s: what the cluster has is not taken, what is here stays: %s", name, why)
        self.by_name[name] = why

    def end(self, name: str) -> None:
        self.by_name.pop(name, None)


def judged(
    offered: CertificateAndKey,
    here: CertificateAndKey | None,
    wanted: Sequence[str],
    now: float,
    ordered: str | None = None,
) -> tuple[CertificateInfo | None, str]:
    """Return what the certificate states, and why it is not to take the place of what is here; ""
    where it may. One that serves less may if a machine of the cluster has ordered it (``ordered``
    is its serial then): a person has decided so."""
    facts, why = _examined(offered, wanted)
    if facts is None or why or facts.serial == ordered:
        return facts, why
    lost = _loses(facts, here, wanted, now)
    return facts, f"it is not for {', '.join(lost)}, which what is here is for" if lost else ""


def _examined(
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


def _loses(
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
