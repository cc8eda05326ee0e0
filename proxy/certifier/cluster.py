"""This machine in its cluster: `acme_client.cluster.settings`, from the configuration.

Files are read here, before the process is confined. One that cannot be read is no fault yet:
what is on the disk is served, and the status and the log say why the engine cannot be asked.
"""

from __future__ import annotations

import ssl

from cryptography import x509

from acme_client.cluster.settings import ClusterSettings
from acme_client.storage.etcd.api import Login

from ..config.model import Cluster
from ..version import VERSION


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
        except (OSError, ValueError) as error:
            faults.append(f"TLS for etcd: {error}")
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
        fault="; ".join(faults),
    )


def _tls(cluster: Cluster) -> tuple[ssl.SSLContext, float | None]:
    """Return the context for etcd, and when our own certificate in it ends, in Unix seconds. Raises
    OSError, ValueError."""
    own = None
    context = ssl.create_default_context(
        cafile=None if cluster.ca_file is None else str(cluster.ca_file)
    )
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if cluster.cert_file is not None:
        key = None if cluster.key_file is None else str(cluster.key_file)
        context.load_cert_chain(str(cluster.cert_file), key)
        own = x509.load_pem_x509_certificate(cluster.cert_file.read_bytes())
    return context, None if own is None else own.not_valid_after_utc.timestamp()
