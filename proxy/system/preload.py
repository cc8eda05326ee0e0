"""Imports now what is needed later.

Once the process is nobody, an interpreter below a 0700 home cannot be read any more, and once it is
confined even less: a late import in an error path would turn a small fault into a crash. So
everything that CPython loads lazily is loaded here, on purpose, while it can be.
"""

from __future__ import annotations

import encodings.ascii
import encodings.idna
import encodings.latin_1
import encodings.punycode
import encodings.utf_8
import importlib
import importlib.util
import linecache
import os
import socket
import ssl
import traceback
from collections.abc import Callable

from ..filters.code import FilterCode

LOADED = (
    encodings.ascii,
    encodings.latin_1,
    encodings.utf_8,
    encodings.punycode,
    linecache,
)


def while_root(
    uid: int, gid: int, read: Callable[[], object], filters: FilterCode | None = None
) -> None:
    """Before the drop: what is imported late, if by then nobody could read it. ``filters``:
    those of users, for what they import of the interpreter's library and of installed packages.

    `acme` and what it pulls in cost memory that workers have no use for, so usually only the
    certifier has them, and what reads a configuration only the process that does. Where the
    interpreter's prefix is root's alone, all must, and ``read``, which reads the configuration
    in this process, shows what else that takes.
    """
    _load_encoders()
    # Of the standard library, of the installed packages, and of our own code.
    origins = [importlib.util.find_spec(name) for name in ("argparse", "acme", "acme_client")]
    if not _may_read([one.origin for one in origins if one and one.origin], uid, gid):
        for name in (
            "cryptography.hazmat.backends.openssl.backend",
            "difflib",
            "idna.uts46data",
            "acme_client.rate_limits.published",
            "acme_client.storage.etcd.sealing",
            "proxy.config.checks.certificates",
            "proxy.config.sources.containers",
            "proxy.system.certificate_reading",
            "proxy.certifier.settings",
            "acme_client.agent.agent",
            "acme_client.cluster.node",
            "acme_client.cluster.spare",
            "acme_client.issuers.acme",
            "acme_client.challenges.dns_propagation",
            "acme_client.challenges.dns_rfc2136",
            "acme_client.on_demand.dns_check",
            "proxy.alerts.messenger",
            "proxy.certifier.cluster",
            "proxy.config.checks.dns_providers",
            "proxy.containers.watcher",
            "proxy.metrics.exposition",
            "proxy.worker.admin.service",
            "proxy.worker.tracing",
            "proxy.sites.basic_auth",
            "proxy.sites.passwords",
        ):
            importlib.import_module(name)
        read()
        if filters is not None:
            filters.import_installed()
        if importlib.util.find_spec("opentelemetry") is not None:
            importlib.import_module("opentelemetry.exporter.otlp.proto.http.trace_exporter")
        importlib.import_module("proxy.exporter.process")
        limits = importlib.import_module("acme_client.rate_limits.published")
        limits.registered_domain("example.org")
        limits.is_public_suffix("example.org")


def _may_read(paths: list[str], uid: int, gid: int) -> bool:
    """Whether the user may read these files: a child becomes the user and tries, because
    permissions have too many sources to be guessed."""
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setgid(gid)
            os.setuid(uid)
            for path in paths:
                os.close(os.open(path, os.O_RDONLY))
            os._exit(0)
        except OSError:
            os._exit(1)
    _, status = os.waitpid(pid, 0)
    return status == 0


def _load_encoders() -> None:
    """What compresses, which nearly every worker needs: shared by all, it costs its memory once."""
    importlib.import_module("proxy.sites.encoders").load()


def everything() -> None:
    _load_encoders()
    "xn--bcher-kva.example".encode("idna")
    encodings.idna.ToASCII("bücher")
    _format_a_traceback()
    _resolve()
    ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def _format_a_traceback() -> None:
    try:
        raise ValueError
    except ValueError:
        traceback.format_exc()


def _resolve() -> None:
    # glibc loads its name service modules at the first look-up (nsswitch.conf); a name that
    # /etc/hosts answers is enough to have them in memory, and asks nobody on the network.
    try:
        socket.getaddrinfo("localhost", 80, type=socket.SOCK_STREAM)
    except OSError:
        return
