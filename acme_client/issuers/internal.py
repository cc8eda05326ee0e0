"""A CA of our own, for names that no public CA can certify: localhost, *.test, private addresses.

Its root is made once and stays in the state directory; who wants its certificates to be trusted
installs that root, so it must not change without need. Leaves live for days and are renewed like
those of any other CA: a client that trusts the root never notices.

Near its end the root is replaced with room to spare. The old root then signs the new one's key as
well, and that cross-certificate goes out with every leaf, so that clients which know only the old
root stay content until it really ends.
"""

from __future__ import annotations

import contextlib
import datetime
import functools
import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ..certificates.renewal import Suggestion
from ..challenges.dns_persist import PersistRecord
from ..errors import IssuanceError, plainly
from ..storage.store import Store
from ..x509 import keys
from ..x509.verify import CertificateAndKey
from .interface import Issued, Order

log = logging.getLogger("treehouse.certifier")

FOLDER = "internal-ca"
ROOT, ROOT_KEY, CROSS = "root.pem", "root.key", "cross.pem"

# Nobody likes to install a root twice, and browsers put no bound on roots added by hand.
ROOT_LIFETIME = 3650 * 86400.0
# A year for people to install the next one.
ROOT_REPLACED_BEFORE_END = 365 * 86400.0
# For clients whose clock is a little behind (certificates made by ACME CAs do the same).
BACKDATED = 3600.0
# Longer than making a root takes.
_LEASE = 60.0

# A root, its key, and its cross-certificate by the root before it.
_Root = tuple[x509.Certificate, keys.PrivateKey, x509.Certificate | None]


class InternalCa:
    """``now`` gives Unix seconds. May be used by several threads."""

    def __init__(self, store: Store, lifetime: float, now: Callable[[], float]) -> None:
        self._store = store
        self._lifetime = lifetime
        self._now = now
        self._lock = threading.Lock()

    def issue(self, names: tuple[str, ...], key_type: str) -> CertificateAndKey:
        """A new key and a certificate for it; OSError when the root cannot be kept."""
        now = self._now()
        root, root_key, cross = self._root(now)
        key = keys.generate(key_type)
        until = min(now + self._lifetime, root.not_valid_after_utc.timestamp())
        leaf = (
            _builder(_leaf_subject(names), key, now - BACKDATED, until)
            .issuer_name(root.subject)
            .add_extension(keys.alternative_names(names), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(digital_signature=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(_authority_of(root), critical=False)
            .sign(root_key, hashes.SHA256())
        )
        chain = leaf.public_bytes(Encoding.PEM)
        if cross is not None and cross.not_valid_after_utc.timestamp() > until:
            chain += cross.public_bytes(Encoding.PEM)
        return CertificateAndKey(chain, keys.to_pem(key))

    def _root(self, now: float) -> _Root:
        with self._lock:
            root, _before = self._kept(now)
            if root is not None:
                return root
            with self._alone():
                root, before = self._kept(now)  # somebody may have been faster
                return root or self._replace(before, now)

    def _kept(self, now: float) -> tuple[_Root | None, _Root | None]:
        """Return the root that is kept, and, where there is none that lasts, the one before it."""
        usable: list[_Root] = []
        for load in (self._store.load, self._store.previous):
            one = _read(load(FOLDER))
            # A root from the future was made while the clock was wrong.
            if one is None or one[0].not_valid_before_utc.timestamp() > now:
                continue
            if one[0].not_valid_after_utc.timestamp() - ROOT_REPLACED_BEFORE_END > now:
                return one, None
            usable.append(one)
        return None, usable[0] if usable else None

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        lock = self._store.lock(FOLDER, _LEASE)
        if lock is None:
            raise IssuanceError("busy", "somebody else is making the built-in CA's root")
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # a lease ends by itself
                lock.release()

    def _replace(self, old: _Root | None, now: float) -> _Root:
        key = keys.generate(keys.DEFAULT)
        subject = _root_subject(key)
        root = (
            # One more CA may stand below it: its successor's cross-certificate.
            _authority(subject, key, now, now + ROOT_LIFETIME, path_length=1)
            .issuer_name(subject)
            .sign(key, hashes.SHA256())
        )
        files = {ROOT: root.public_bytes(Encoding.PEM), ROOT_KEY: keys.to_pem(key)}
        cross = None
        if old is not None:
            old_root, old_key, _ = old
            until = old_root.not_valid_after_utc.timestamp()
            if until > now:
                cross = (
                    _authority(subject, key, now, until, path_length=0)
                    .issuer_name(old_root.subject)
                    .add_extension(_authority_of(old_root), critical=False)
                    .sign(old_key, hashes.SHA256())
                )
            files[CROSS] = cross.public_bytes(Encoding.PEM) if cross else b""
        self._store.store(FOLDER, files)
        log.info("internal CA: new root made, valid until %s", root.not_valid_after_utc.date())
        return root, key, cross


class InternalIssuer:
    """`order.Issuer` by an `InternalCa`."""

    def __init__(self, authority: InternalCa) -> None:
        self._authority = authority

    def issue(self, order: Order) -> Issued:
        try:
            return Issued(self._authority.issue(order.names, order.key_type), None)
        except OSError as error:
            raise IssuanceError(
                "disk", f"the internal CA's root cannot be kept: {plainly(error)}"
            ) from None

    def suggestion(self, chain_pem: bytes) -> Suggestion | None:
        return None

    def revoke(self, chain_pem: bytes, key_pem: bytes, reason: int) -> None:
        raise IssuanceError(
            "settings", "nobody asks the built-in CA what it has revoked; renew instead"
        )

    def standing_records(self, names: tuple[str, ...]) -> tuple[PersistRecord, ...]:
        raise IssuanceError("settings", "the built-in CA asks for no proof, and so for no record")

    def roll_account_key(self) -> None:
        raise IssuanceError("settings", "the built-in CA has no accounts")


def how_to_trust(state: Path) -> str:
    """For the log: what to do so that browsers and programs accept the certificates."""
    root = state / FOLDER / ROOT
    return (
        f"internal CA: to trust its certificates, install {root} "
        f"(Debian: sudo cp {root} /usr/local/share/ca-certificates/treehouse-internal-ca.crt "
        f"&& sudo update-ca-certificates; browsers: import it as an authority; "
        f"for one command: curl --cacert {root} https://localhost/)"
    )


def _read(files: dict[str, bytes]) -> _Root | None:
    return _parsed(files.get(ROOT, b""), files.get(ROOT_KEY, b""), files.get(CROSS, b""))


@functools.lru_cache(maxsize=2)  # thousands of certificates are made in a row
def _parsed(root: bytes, key: bytes, cross: bytes) -> _Root | None:
    try:
        return (
            x509.load_pem_x509_certificate(root),
            keys.from_pem(key),
            x509.load_pem_x509_certificate(cross) if cross else None,
        )
    except ValueError:
        return None


def _root_subject(key: keys.PrivateKey) -> x509.Name:
    """Named after its key: two roots in one trust store can be told apart."""
    mark = x509.SubjectKeyIdentifier.from_public_key(key.public_key()).digest.hex()[:8]
    return x509.Name(
        [x509.NameAttribute(NameOID.COMMON_NAME, f"treehouse-proxy internal CA {mark}")]
    )


def _leaf_subject(names: tuple[str, ...]) -> x509.Name:
    """Clients look at the subjectAltName only; the subject is for people, and holds 64 characters
    at most (RFC 5280 appendix A)."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])])


def _builder(
    subject: x509.Name, key: keys.PrivateKey, not_before: float, not_after: float
) -> x509.CertificateBuilder:
    public = key.public_key()
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(_moment(not_before))
        .not_valid_after(_moment(not_after))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _authority(
    subject: x509.Name, key: keys.PrivateKey, now: float, until: float, path_length: int
) -> x509.CertificateBuilder:
    return (
        _builder(subject, key, now - BACKDATED, until)
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(_usage(key_cert_sign=True, crl_sign=True), critical=True)
    )


def _authority_of(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    identifier = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)


def _usage(
    *, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )


def _moment(unix: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(int(unix), datetime.UTC)
