"""This machine in its cluster: `acme_client.cluster.settings`, from the configuration.

Files are read here, before the process is confined. One that cannot be read is no fault yet:
what is on the disk is served, and the status and the log say why the engine cannot be asked.
"""

from __future__ import annotations

import ssl
from pathlib import Path

from cryptography import x509

from acme_client.cluster.settings import ClusterSettings
from acme_client.storage.etcd.api import Login

from ..config.model import Cluster
from ..version import VERSION

_MACHINE_ID = Path("/etc/machine-id")


def settings(cluster: Cluster) -> ClusterSettings:
    """Make the settings, from the configuration and the files that it names."""
    faults: list[str] = []

    def text(key: str) -> str:
        path = getattr(cluster, key)
        try:
            return "" if path is None else str(path.read_text("utf-8", "replace"))
        except OSError as error:
            faults.append(f"cluster.{key}: {path}: {error.strerror}")
            return ""

    secret = text("secret_file")
    password = text("password_file").strip()
    login = None if cluster.user is None else Login(cluster.user, password)
    tls = client_ends = None
    if any(url.startswith("https:") for url in cluster.etcd):
        try:
            tls, client_ends = _tls(cluster)
        except _Unusable as why:
            faults.append(str(why))
    return ClusterSettings(
        name=cluster.name,
        node=cluster.called,
        endpoints=cluster.etcd,
        secret=secret,
        order=cluster.order,
        order_below=cluster.alone.order_below,
        thumbprint=cluster.alone.challenges == "thumbprint",
        login=login,
        tls=tls,
        client_ends=client_ends,
        version=VERSION,
        host=_host(),
        fault="; ".join(faults),
    )


def _host() -> str:
    """Return what systemd calls this installation of a system; "" where there is none, as in most
    containers."""
    try:
        return _MACHINE_ID.read_text("ascii", "replace").strip()
    except OSError:
        return ""


class _Unusable(Exception):
    """A file for TLS with etcd cannot be used; the text names its key, and says what to do."""


def _tls(cluster: Cluster) -> tuple[ssl.SSLContext, float | None]:
    """Return the context for etcd, and when our own certificate in it ends, in Unix seconds. Raises
    `_Unusable`."""
    own = None
    try:
        ca_file = None if cluster.ca_file is None else str(cluster.ca_file)
        context = ssl.create_default_context(cafile=ca_file)
    except (OSError, ValueError) as error:
        raise _Unusable(
            f"cluster.ca_file: {cluster.ca_file}: {_words(error)} (name the file with the "
            "certificate of the CA that made etcd's, in PEM)"
        ) from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if cluster.cert_file is not None:
        key = None if cluster.key_file is None else str(cluster.key_file)
        both = f"cluster.cert_file, cluster.key_file: {cluster.cert_file}, {key}"
        try:
            # Of a key with a passphrase OpenSSL would ask for that at the terminal.
            context.load_cert_chain(str(cluster.cert_file), key, password=lambda: b"")
            own = x509.load_pem_x509_certificate(cluster.cert_file.read_bytes())
        except ssl.SSLError as error:
            if error.reason == "KEY_VALUES_MISMATCH":
                raise _Unusable(
                    f"{both}: the key is that of another certificate (name the key that the "
                    "certificate was made with)"
                ) from None
            raise _Unusable(
                f"{both}: {_words(error)} (give a certificate and its key in PEM, the key without "
                "a passphrase)"
            ) from None
        except (OSError, ValueError) as error:
            raise _Unusable(f"{both}: {_words(error)}") from None
    return context, None if own is None else own.not_valid_after_utc.timestamp()


def _words(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or "it cannot be read").lower().replace("_", " ")
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
