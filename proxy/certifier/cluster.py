"""This machine in its cluster: `acme_client.cluster.settings`, from the configuration.

Files are read here, before the process is confined. One that cannot be read is no fault yet:
what is on the disk is served, and the status and the log say why the engine cannot be asked.
"""

from __future__ import annotations

import ssl

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
    tls = None
    if any(url.startswith("https:") for url in cluster.etcd):
        try:
            tls = _tls(cluster)
        except (OSError, ssl.SSLError) as error:
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
        version=VERSION,
        fault="; ".join(faults),
    )


def _tls(cluster: Cluster) -> ssl.SSLContext:
    context = ssl.create_default_context(
        cafile=None if cluster.ca_file is None else str(cluster.ca_file)
    )
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if cluster.cert_file is not None:
        key = None if cluster.key_file is None else str(cluster.key_file)
        context.load_cert_chain(str(cluster.cert_file), key)
    return context
