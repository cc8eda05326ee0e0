"""Examines a certificate and a key that a person brought along, and says in words what is wrong.

Such files come from web forms, mail, other servers and Windows machines; what a CA's program would
never write is usual here. So more is understood than of a CA (a key beside the chain, parameters,
any order, no subjectAltName), and everything that keeps clients away is named with its file and the
command that mends it. `check`, the start, a reload and `doctor` say the same, because all of them
ask here.

Pure: the files' contents, the site's names and the time go in.
"""

from __future__ import annotations

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

from ..late_dataclass import dataclass
from ..names import covers
from ..text import timestamp
from . import pem
from .chain_order import ordered
from .verify import (
    UNREADABLE,
    CertificateAndKey,
    CertificateInfo,
    facts_of,
    gap_in,
    leaf_for,
    to_pem,
)


@dataclass(frozen=True, slots=True)
class Fault:
    """Something wrong with a certificate's files. ``text`` names the file. ``kind`` is one of
    "unreadable" (no PEM, damaged, encrypted), "mismatch" (the key is another's), "names",
    "expired", "early", "gap". ``fatal``: there is nothing that could be served; else it is served,
    and some or all clients refuse it. ``command``: mends it."""

    kind: str
    text: str
    fatal: bool
    command: str | None = None

    def __str__(self) -> str:
        return f"{self.text} ({self.command})" if self.command else self.text


@dataclass(frozen=True, slots=True)
class Examined:
    """What an examination found. ``pair`` is what is to be served, written anew; None with a fatal
    fault. ``facts.names`` is empty for a certificate without subjectAltName."""

    pair: CertificateAndKey | None
    facts: CertificateInfo | None
    faults: tuple[Fault, ...] = ()

    @property
    def fatal(self) -> Fault | None:
        return next((one for one in self.faults if one.fatal), None)


def examine_files(
    chain: bytes,
    key: bytes,
    names: tuple[str, ...],
    now: float,
    *,
    chain_path: str = "the chain",
    key_path: str = "the key",
) -> Examined:
    """Examine the contents of a chain's and a key's file (they may be the same one) for a site of
    these ``names``; ``now`` in Unix seconds."""
    loaded = _certificates(chain, chain_path)
    found_keys = _keys(key, key_path)
    wrong = [one for one in (loaded, found_keys) if isinstance(one, Fault)]
    if isinstance(loaded, Fault) or isinstance(found_keys, Fault):
        return Examined(None, None, tuple(wrong))
    try:
        found = _matching(loaded, found_keys)
        if found is None:
            words = f"{chain_path}, {key_path}: the key does not belong to the certificate"
            return Examined(None, None, (Fault("mismatch", words, fatal=True),))
        leaf, block = found
        facts = facts_of(leaf, named=False)
    except UNREADABLE as error:
        words = f"{chain_path}: the certificate cannot be read: {error}"
        return Examined(None, None, (Fault("unreadable", words, fatal=True),))
    path, left_out = ordered(leaf, loaded)
    gap = gap_in(path, left_out)
    faults = [
        *([] if gap is None else [Fault("gap", f"{chain_path}: {gap}", fatal=False)]),
        *_about_names(facts, names, chain_path),
        *_about_dates(facts, now, chain_path),
    ]
    return Examined(CertificateAndKey(to_pem(path), block.pem), facts, tuple(faults))


def _certificates(chain: bytes, path: str) -> list[x509.Certificate] | Fault:
    try:
        return [x509.load_der_x509_certificate(one) for one in pem.certificates(chain)]
    except pem.PemError as error:
        return _unreadable(error, path)
    except UNREADABLE as error:
        return Fault("unreadable", f"{path}: a certificate cannot be read: {error}", fatal=True)


def _keys(key: bytes, path: str) -> list[tuple[pem.Block, PublicKeyTypes]] | Fault:
    """Return each private key's block and public key."""
    found: list[tuple[pem.Block, PublicKeyTypes]] = []
    why = "it holds no key of a kind that TLS knows"
    try:
        for block in pem.keys(key):
            try:
                private = serialization.load_pem_private_key(block.pem, None)
            except (ValueError, TypeError, UnsupportedAlgorithm) as error:
                why = f"the key cannot be read: {error}"
                if block.label.startswith("OPENSSH"):
                    why = "the key is one for SSH, and TLS does not know its form"
                continue
            found.append((block, private.public_key()))
    except pem.PemError as error:
        return _unreadable(error, path)
    return found or Fault("unreadable", f"{path}: {why}", fatal=True)


def _unreadable(error: pem.PemError, path: str) -> Fault:
    return Fault("unreadable", f"{path}: {error.text}", fatal=True, command=error.mending(path))


def _matching(
    certificates: list[x509.Certificate], found: list[tuple[pem.Block, PublicKeyTypes]]
) -> tuple[x509.Certificate, pem.Block] | None:
    for block, public in found:
        leaf = leaf_for(certificates, public)
        if leaf is not None:
            return leaf, block
    return None


def _about_names(facts: CertificateInfo, names: tuple[str, ...], path: str) -> list[Fault]:
    if not facts.names:
        words = (
            f"{path}: the certificate has no subjectAltName, without which clients take it for "
            "no name at all (RFC 9525 §6.3)"
        )
        return [Fault("names", words, fatal=False)]
    missing = [name for name in names if not covers(facts.names, name)]
    if not missing:
        return []
    words = (
        f"{path}: names that the certificate does not cover: {', '.join(missing)}; it is for "
        f"{', '.join(facts.names)}"
    )
    return [Fault("names", words, fatal=False)]


def _about_dates(facts: CertificateInfo, now: float, path: str) -> list[Fault]:
    if facts.not_after <= now:
        words = f"{path}: the certificate has expired, on {timestamp(facts.not_after)}"
        return [Fault("expired", words, fatal=False)]
    if facts.not_before > now:
        words = f"{path}: the certificate is not valid before {timestamp(facts.not_before)}"
        return [Fault("early", words, fatal=False)]
    return []
