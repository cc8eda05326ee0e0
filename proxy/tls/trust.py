"""Contexts for connections that we begin: whom to believe.

Every file of authorities is read in the same way, by `acme_client.x509.trust_bundle`,
whether it is for a backend, a webhook or (in `contexts`) for clients: a file that serves in one
place serves in all.
"""

from __future__ import annotations

import ssl
from pathlib import Path

from acme_client.x509.trust_bundle import authorities


def client_context(ca_file: Path | None) -> ssl.SSLContext:
    """A context that believes the authorities in the file, or else the system's. Raises `OSError`
    (also `ssl.SSLError`) and `acme_client.x509.pem.PemError`, a ValueError."""
    if ca_file is None:
        return ssl.create_default_context()
    return ssl.create_default_context(cadata=authorities(ca_file.read_bytes(), "servers"))
