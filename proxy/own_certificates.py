"""Certificates that people bring along: read, proven, and put into a sealed memfd.

Read at boot while the process may still be root, because such keys are usually root's alone; and
again at each reload, as the user that the server has become. What is wrong with one is a fault of
the configuration and reported like any other.
"""

from __future__ import annotations

import logging
import os
import ssl
from collections.abc import Mapping
from datetime import UTC, datetime

from cryptography import x509

from acme_client.keys import family, type_of
from acme_client.timestamps import timestamp

from .channel import Message, content, sealed
from .config.model import Config, OwnCertificate, Site

log = logging.getLogger("treehouse.certificates")


class CertificateUnusable(Exception):
    """A file of a site's own certificate cannot be used; the text says which and why."""


class OwnCertificates:
    """What was read, kept for a reload that may not read it again: a key that only root can read
    was read once at boot, and stays in use until the program is restarted."""

    def __init__(self, inherited: Mapping[OwnCertificate, int] | None = None) -> None:
        self._present: dict[OwnCertificate, int] = dict(inherited or {})
        self.names: frozenset[str] = frozenset()  # of the certificates that were read last

    @property
    def present(self) -> Mapping[OwnCertificate, int]:
        """The memfds, for a successor; they stay ours."""
        return self._present

    def close(self) -> None:
        """In a forked child: a worker has been given what it serves."""
        for bundle in self._present.values():
            os.close(bundle)
        self._present = {}

    def read(self, config: Config) -> list[tuple[Message, int]]:
        """Facts and memfd of every site that brings its own certificate; the descriptors are the
        caller's. Raises `CertificateUnusable`, and then nothing has changed."""
        loaded: list[tuple[Message, int]] = []
        present: dict[OwnCertificate, int] = {}
        try:
            for site in config.sites:
                kinds: dict[str, OwnCertificate] = {}
                for certificate in site.certificates:
                    facts, bundle = self._load(site, certificate, config, second=bool(kinds))
                    loaded.append((facts, bundle))
                    _require_another_kind(kinds, facts["family"], certificate)
                    if certificate not in present:  # two sites may have the same files
                        present[certificate] = os.dup(bundle)
        except BaseException:
            for bundle in (*present.values(), *(bundle for _facts, bundle in loaded)):
                os.close(bundle)
            raise
        for bundle in self._present.values():
            os.close(bundle)
        self._present = present
        self.names = frozenset(facts["name"] for facts, _bundle in loaded)
        return loaded

    def _load(
        self, site: Site, certificate: OwnCertificate, config: Config, *, second: bool
    ) -> tuple[Message, int]:
        bundle = self._bundle(certificate, config)
        try:
            return _facts(site, _leaf(bundle), second=second), bundle
        except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
            os.close(bundle)
            raise CertificateUnusable(
                f"{certificate.chain}: its names cannot be read ({error})"
            ) from None

    def _bundle(self, certificate: OwnCertificate, config: Config) -> int:
        try:
            chain = certificate.chain.read_bytes()
            key = certificate.key.read_bytes()
        except OSError as error:
            kept = self._present.get(certificate)
            if kept is not None:
                log.warning(
                    "%s: %s; the certificate that was read before stays in use (restart the "
                    "server as root to have it read again)",
                    error.filename,
                    error.strerror,
                )
                return os.dup(kept)
            raise CertificateUnusable(
                f"{error.filename}: {error.strerror} (make it readable for the server's user, or "
                "restart the server as root, which reads it before the privileges are dropped)"
            ) from None
        bundle = sealed("certificate", chain.rstrip() + b"\n" + key)
        try:
            if os.geteuid() == 0:
                os.fchown(bundle, config.uid, config.gid)  # so that the workers may open it
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(f"/proc/self/fd/{bundle}")
            _leaf(bundle)
        except (ssl.SSLError, ValueError) as error:
            os.close(bundle)
            reason = "the key does not belong to the certificate"
            if not (isinstance(error, ssl.SSLError) and error.reason == "KEY_VALUES_MISMATCH"):
                reason = f"not a usable PEM pair ({error})"
            raise CertificateUnusable(f"{certificate.chain}, {certificate.key}: {reason}") from None
        return bundle


def _leaf(bundle: int) -> x509.Certificate:
    return x509.load_pem_x509_certificates(content(bundle))[0]


def _require_another_kind(
    kinds: dict[str, OwnCertificate], family: str, certificate: OwnCertificate
) -> None:
    """A client takes the one that it can verify; of two such ones nobody could say which."""
    before = kinds.setdefault(family, certificate)
    if before is not certificate:
        raise CertificateUnusable(
            f"{before.chain}, {certificate.chain}: both are for {family.upper()} keys (leave one "
            "out, or give one of each kind)"
        )


def _facts(site: Site, leaf: x509.Certificate, *, second: bool) -> Message:
    try:
        extension = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names = [name.lower() for name in extension.get_values_for_type(x509.DNSName)]
        names += [str(address) for address in extension.get_values_for_type(x509.IPAddress)]
    except x509.ExtensionNotFound:
        names = list(site.names)
    not_before = leaf.not_valid_before_utc.timestamp()
    not_after = leaf.not_valid_after_utc.timestamp()
    expired = datetime.now(UTC).timestamp() > not_after
    serial = f"{leaf.serial_number:x}"
    key_type = type_of(leaf.public_key())
    name = f"{site.names[0]}/{family(key_type)}" if second else site.names[0]
    return {
        "name": name,
        "site": site.names[0],
        "names": names,
        "not_after": not_after,
        "serial": serial,
        "family": family(key_type),
        "status": {
            "name": name,
            "names": names,
            "source": "file",
            "directory": None,
            "key_type": key_type,
            "serial": serial,
            "not_before": timestamp(not_before),
            "not_after": timestamp(not_after),
            "renew_at": None,
            "ari_window": None,
            "state": "failed" if expired else "fresh",
            "attempts": 0,
            "last_error": "the certificate in the file has expired" if expired else None,
            "next_attempt": None,
        },
    }
