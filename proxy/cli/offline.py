"""What the state directory says when no server runs: read, and nothing else.

`status`, `why` and ``certs list`` fall back to this. The certificates that the configuration wants
are shown as a server would show them, others that are kept are named. Where no configuration can be
found (the server was started by flags), all that are kept are shown.

``certs forget`` is the only one that changes anything here, under the lock of the state directory
and as its owner.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from acme_client.certificates.managed import ManagedCertificate
from acme_client.certificates.repository import CertificateRepository, forgotten
from acme_client.errors import IssuanceError
from acme_client.link import INTERNAL, Authority, CertificateSpec
from acme_client.status import CertificateStatus
from acme_client.storage.directory import open_store
from acme_client.x509.verify import CertificateInfo, verify_pair

from ..config.load import Options, load
from ..config.model import Config
from ..config.sources.flags import DEFAULT_CONFIG
from ..config.syntax.faults import ConfigurationFaults
from ..doctor.probes import state as records
from ..doctor.probes.server import Server
from ..ipc.documents import Status
from ..system import privileges
from ..system.state_lock import StateLock
from ..version import VERSION


class CannotRead(Exception):
    """The state directory is missing, or another user's; the text says what to do."""


class CannotForget(Exception):
    """Why nothing is removed, and what to do."""


def status(state: Path, options: Options) -> Status:
    """The document of ``status`` as far as the disk knows it. Raises `CannotRead`."""
    _require_readable(state)
    try:
        kept = {one["name"]: one for one in _kept(CertificateRepository(open_store(state)))}
    except OSError as error:
        raise CannotRead(f"{error.filename or state}: {error.strerror}") from None
    config = _configuration(options, state)
    shown = dict(kept)
    unwanted: list[str] = []
    if config is not None:
        shown = records.look_up(config, Server(None, None)).statuses
        on_demand = any(site.on_demand for site in config.sites)
        for name, one in kept.items():
            if name in shown:
                continue
            if on_demand and one["on_demand_for"]:
                shown[name] = one
            else:
                unwanted.append(name)
    return {
        "version": VERSION,
        "pid": None,
        "uid": None,
        "gid": None,
        "started_at": None,
        "generation": None,
        "config": None if config is None else str(config.source),
        "workers": [],
        "listeners": [],
        "certificates": [shown[name] for name in sorted(shown)],
        "unwanted": unwanted,
        "upstreams": [],
        "providers": [],
        "cluster": None,
        "sites": [],
    }


def forget(state: Path, name: str, options: Options) -> str:
    """Remove what is kept for a name that no site wants; what was done, for people. Raises
    `CannotForget`, `CannotRead` and `StateUnusable`."""
    _require_readable(state)
    config = _configuration(options, state)
    if config is None:
        raise CannotForget(
            "no configuration says which certificates are wanted: name it with --config FILE, or "
            "ask while the server runs"
        )
    wanted = records.look_up(config, Server(None, None)).wanted
    if name in wanted:
        raise CannotForget(f"{name}: a site wants this certificate; take the site out first")
    if os.geteuid() == 0:
        owner = os.stat(state)
        if owner.st_uid != 0 and owner.st_gid != 0:
            privileges.drop(owner.st_uid, owner.st_gid)
    lock = StateLock.taken(state, patience=0.0)
    try:
        answer = forgotten(
            name, CertificateRepository(open_store(state)).forget(name, frozenset(wanted))
        )
    except OSError as error:
        raise CannotForget(f"{name} cannot be removed: {error.strerror}") from None
    finally:
        lock.let_go()
    if not answer["ok"]:
        raise CannotForget(str(answer["error"]))
    return str(answer["message"])


def _require_readable(state: Path) -> None:
    try:
        os.listdir(state)
    except FileNotFoundError:
        raise CannotRead(f"{state} is not there; name the state directory with --state") from None
    except OSError as error:
        raise CannotRead(
            f"{state}: {error.strerror}; ask as root or as the server's user"
        ) from None


def _configuration(options: Options, state: Path) -> Config | None:
    """The one that belongs to this state directory, if it can be found and is valid."""
    if options.config is None and not os.access(DEFAULT_CONFIG, os.R_OK):
        return None
    with contextlib.suppress(ConfigurationFaults, OSError):
        config = load(Options(config=options.config), now_uid=os.geteuid())
        if config.state.absolute() == state.absolute():
            return config
    return None


def _kept(shelf: CertificateRepository) -> Iterator[CertificateStatus]:
    for name in shelf.names():
        record, pair = shelf.load(name)
        facts: CertificateInfo | None = None
        if pair is not None:
            with contextlib.suppress(IssuanceError):
                facts = verify_pair(pair, (), time.time())
        plain, _, mark = name.partition("/")
        names = record.names or (facts.names if facts else ())
        wanted = CertificateSpec(
            names=(plain, *(one for one in names if one != plain)),
            authority=Authority(
                INTERNAL if record.source == "internal" else record.directory or "unknown"
            ),
            key_type=record.key_type or (facts.key_type if facts else "unknown"),
            mark=mark,
        )
        yield ManagedCertificate(wanted, record, facts=facts).status()
