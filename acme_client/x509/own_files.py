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
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID

from ..late_dataclass import dataclass
from ..names import covers
from ..text import timestamp
from . import pem
from .chain_order import is_self_issued, ordered
from .keys import type_of
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
    "expired", "early", "gap", "purpose" (made for something else than a server). ``fatal``: there
    is nothing that could be served; else it is served, and some or all clients refuse it.
    ``command``: mends it; where no command does, ``words`` say what to do, if there is more to say
    than of every fault of the kind."""

    kind: str
    text: str
    fatal: bool
    command: str | None = None
    words: str | None = None

    @property
    def remedy(self) -> str:
        """What to do, in a clause."""
        return self.command or self.words or _REMEDIES[self.kind]

    def __str__(self) -> str:
        return f"{self.text} ({self.command})" if self.command else self.text


_FOR_SERVERS = frozenset(
    {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE}
)
_CURVES = ("secp256r1", "secp384r1", "secp521r1")
_REMEDIES = {
    "unreadable": "give PEM: BEGIN CERTIFICATE in the chain, BEGIN PRIVATE KEY in the key",
    "mismatch": "name the key that the certificate was made with",
    "names": "name the certificate for these names, or have one made for them",
    "expired": "renew it, or take the key `certificate` out: then one is ordered",
    "early": "see that the clock is right, or wait",
    "gap": "add the intermediate certificates, as the CA gives them",
    "purpose": "name the certificate that was made for this server",
}
_ANOTHER_KEY = "have a certificate made with a key for TLS: ECDSA P-256, or RSA of 2048 bits"
_COPY_AGAIN = "copy it again, or name the file that is meant"
_WITH_NAMES = (
    "have one made that names the site there; openssl does so with "
    "-addext subjectAltName=DNS:{name}"
)


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
    if chain_path != key_path and _swapped(chain, key):
        text = f"{chain_path} is a key, and {key_path} a certificate"
        words = f"exchange the two: chain: {key_path}, key: {chain_path}"
        return Examined(None, None, (Fault("unreadable", text, fatal=True, words=words),))
    loaded = _certificates(chain, chain_path)
    found_keys = _keys(key, key_path)
    wrong = [one for one in (loaded, found_keys) if isinstance(one, Fault)]
    if isinstance(loaded, Fault) or isinstance(found_keys, Fault):
        return Examined(None, None, tuple(wrong))
    try:
        found = _matching(loaded, found_keys)
        if found is None:
            text = f"{chain_path}, {key_path}: the key does not belong to the certificate"
            return Examined(None, None, (Fault("mismatch", text, fatal=True),))
        leaf, block = found
        facts = facts_of(leaf, named=False)
    except UNREADABLE as error:
        text = f"{chain_path}: the certificate cannot be read: {error}"
        return Examined(None, None, (Fault("unreadable", text, fatal=True, words=_ANOTHER_KEY),))
    path, left_out = ordered(leaf, loaded)
    gap = gap_in(path, left_out)
    faults = [
        *([] if gap is None else [Fault("gap", f"{chain_path}: {gap}", fatal=False)]),
        *_about_names(facts, names, chain_path),
        *_about_dates(facts, now, chain_path),
        *_about_purpose(leaf, chain_path),
        *_about_key(leaf.public_key(), chain_path),
    ]
    return Examined(CertificateAndKey(to_pem(path), block.pem), facts, tuple(faults))


def _certificates(chain: bytes, path: str) -> list[x509.Certificate] | Fault:
    try:
        return [x509.load_der_x509_certificate(one) for one in pem.certificates(chain)]
    except pem.PemError as error:
        return _unreadable(error, path)
    except UNREADABLE as error:
        text = f"{path}: a certificate cannot be read: {error}"
        return Fault("unreadable", text, fatal=True, words=_COPY_AGAIN)


def _swapped(chain: bytes, key: bytes) -> bool:
    """Whether each of the two files is what the other should be."""
    try:
        in_chain, in_key = pem.blocks(chain), pem.blocks(key)
    except pem.PemError:
        return False
    return (
        any(one.is_key for one in in_chain)
        and any(one.is_certificate for one in in_key)
        and not any(one.is_certificate for one in in_chain)
        and not any(one.is_key for one in in_key)
    )


def _keys(key: bytes, path: str) -> list[tuple[pem.Block, PublicKeyTypes]] | Fault:
    """Return each private key's block and public key."""
    found: list[tuple[pem.Block, PublicKeyTypes]] = []
    why, words = "it holds no key of a kind that TLS knows", _ANOTHER_KEY
    try:
        for block in pem.keys(key):
            try:
                private = serialization.load_pem_private_key(block.pem, None)
            except (ValueError, TypeError, UnsupportedAlgorithm) as error:
                why, words = f"the key cannot be read: {error}", _COPY_AGAIN
                if block.label.startswith("OPENSSH"):
                    why = "the key is one for SSH, and TLS does not know its form"
                    words = "name the key that the certificate was made with"
                continue
            found.append((block, private.public_key()))
    except pem.PemError as error:
        return _unreadable(error, path)
    return found or Fault("unreadable", f"{path}: {why}", fatal=True, words=words)


def _unreadable(error: pem.PemError, path: str) -> Fault:
    command = error.mending(path)
    return Fault("unreadable", f"{path}: {error.text}", True, command, error.words)


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
        text = (
            f"{path}: the certificate has no subjectAltName, without which clients take it for "
            "no name at all (RFC 9525 §6.3)"
        )
        return [Fault("names", text, False, words=_WITH_NAMES.format(name=names[0]))]
    missing = [name for name in names if not covers(facts.names, name)]
    if not missing:
        return []
    text = (
        f"{path}: names that the certificate does not cover: {', '.join(missing)}; it is for "
        f"{', '.join(facts.names)}"
    )
    return [Fault("names", text, fatal=False)]


def _about_purpose(leaf: x509.Certificate, path: str) -> list[Fault]:
    """Find what clients check and servers do not: RFC 5280 §4.2.1.9 and §4.2.1.12. A certificate
    that its own key has signed is trusted by itself, or not at all: nothing is said of that."""
    found: list[Fault] = []
    extensions = leaf.extensions
    try:
        constraints = extensions.get_extension_for_class(x509.BasicConstraints).value
    except x509.ExtensionNotFound:
        constraints = None
    if constraints is not None and constraints.ca and not is_self_issued(leaf):
        text = f"{path}: the certificate is a CA's own, which browsers refuse from a server"
        found.append(Fault("purpose", text, fatal=False))
    try:
        uses = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return found
    if _FOR_SERVERS.isdisjoint(uses):
        text = f"{path}: the certificate is not for servers (its extendedKeyUsage lacks serverAuth)"
        found.append(Fault("purpose", text, fatal=False))
    return found


def _about_key(public: PublicKeyTypes, path: str) -> list[Fault]:
    """Find keys that a server can use and that no browser takes."""
    kind = type_of(public)
    if isinstance(public, ec.EllipticCurvePublicKey):
        if public.curve.name in _CURVES:
            return []
        kind = public.curve.name
    elif isinstance(public, rsa.RSAPublicKey):
        return []
    text = f"{path}: browsers take no certificate with a key of this kind ({kind})"
    return [Fault("purpose", text, fatal=False, words=_ANOTHER_KEY)]


def _about_dates(facts: CertificateInfo, now: float, path: str) -> list[Fault]:
    if facts.not_after <= now:
        text = f"{path}: the certificate has expired, on {timestamp(facts.not_after)}"
        return [Fault("expired", text, fatal=False)]
    if facts.not_before > now:
        text = f"{path}: the certificate is not valid before {timestamp(facts.not_before)}"
        return [Fault("early", text, fatal=False)]
    return []
