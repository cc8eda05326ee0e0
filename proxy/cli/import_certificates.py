"""``certs import``: what another program has obtained, into the state directory.

Other programs' keys are usually root's, and the state directory is the server's user's. So this
reads everything first, as whoever calls; then, if that is root, makes or puts right the directory
as a start of the server would, becomes the server's user for good, and only then writes: root never
writes where somebody else might have laid a link.

A server that runs on the directory is told to look, and serves what has come at once.
"""

from __future__ import annotations

import os
import random
import time
from pathlib import Path
from urllib.parse import urlsplit

from acme_client.importers.directories import Directories
from acme_client.importers.findings import Findings, Skipped
from acme_client.importers.safe_tree import Tree, Unreadable
from acme_client.importers.selection import Site, accounts, places
from acme_client.importers.sources import SOURCES, Source
from acme_client.importers.writer import Outcome, Writer
from acme_client.late_dataclass import dataclass
from acme_client.link import INTERNAL
from acme_client.on_demand.policy import takes
from acme_client.storage.directory import open_store

from ..config.checks.accounts import NOBODY
from ..config.load import Options, load, state_directory
from ..config.model import Config
from ..config.sources.flags import DEFAULT_CONFIG
from ..ipc.control_client import DoesNotAnswer, NotRunning, ask
from ..system import preload, privileges
from ..system.state_directory import StateUnusable, prepare

# The certifier looks and the workers acknowledge.
_SEEN_WITHIN = 60.0


class CannotImport(Exception):
    """Why nothing at all was done, and what to do."""


@dataclass(frozen=True, slots=True)
class Request:
    source: str
    path: Path | None
    config: Path | None
    state: Path | None
    directories: tuple[str, ...]
    rehearsal: bool
    replacing: bool  # an account that is there already


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What is known of the server. ``sites`` and ``directories`` are None where nothing is."""

    state: Path
    uid: int
    gid: int
    sites: tuple[Site, ...] | None
    on_demand: tuple[tuple[str, ...], ...]  # patterns of names that may have one
    directories: frozenset[str] | None


@dataclass(frozen=True, slots=True)
class Report:
    lines: tuple[str, ...]
    ok: bool  # something came in, or was there already


def move_in(request: Request) -> Report:
    """Raises `CannotImport`, or `ConfigurationFaults`."""
    around = _surroundings(request)
    findings = _read(request, around)
    preload.everything()  # what CPython loads late may be out of reach for the server's user
    try:
        lines = [] if request.rehearsal else prepare(around.state, around.uid, around.gid)
    except StateUnusable as error:
        raise CannotImport(str(error)) from None
    if os.geteuid() == 0:
        privileges.drop(around.uid, around.gid)
    arrived, left = _bring(request, around, findings)
    lines += [f"{_verdict(one)} {one.what}: {one.said}" for one in arrived]
    lines += [f"left  {one.where}: {one.why}" for one in left]
    taken = any(one.taken for one in arrived)
    lines.append(_what_now(request, around, taken))
    return Report(tuple(lines), taken or any(one.present for one in arrived))


def _surroundings(request: Request) -> Surroundings:
    if request.config is not None or (request.state is None and os.access(DEFAULT_CONFIG, os.R_OK)):
        config = load(Options(config=request.config, state=request.state), now_uid=os.geteuid())
        authorities = (config.acme, *config.acme.fallback)
        return Surroundings(
            config.state,
            config.uid,
            config.gid,
            _sites(config),
            tuple(one.on_demand.patterns for one in config.sites if one.on_demand),
            frozenset(one.directory for one in authorities if one.directory != INTERNAL),
        )
    state = state_directory(None, request.state)
    owner = _owner(state)
    return Surroundings(state, *owner, _sites_of_running(state), (), None)


def _sites(config: Config) -> tuple[Site, ...]:
    return tuple(
        Site(
            site.names,
            "it has a certificate of its own in the configuration"
            if site.certificates
            else "its certificates are from the built-in CA"
            if site.internal
            else None,
        )
        for site in config.sites
    )


def _owner(state: Path) -> tuple[int, int]:
    """Whom the directory belongs to; root only until the server has started on it once."""
    try:
        info = state.stat()
    except OSError:
        return NOBODY, NOBODY
    return (info.st_uid, info.st_gid) if info.st_uid and info.st_gid else (NOBODY, NOBODY)


def _sites_of_running(state: Path) -> tuple[Site, ...] | None:
    """Without a configuration, a running server knows which names go together."""
    try:
        certificates = ask(state, {"command": "status"})["certificates"]
    except (NotRunning, KeyError):
        return None
    return tuple(
        Site(tuple(one["names"]), None if one["source"] == "acme" else "it needs none from a CA")
        for one in certificates
        if one["name"] in one["names"]  # not the second one of a site, for another kind of key
    )


# Reading


def _read(request: Request, around: Surroundings) -> Findings:
    source = SOURCES[request.source]
    path = request.path or _usual(request.source, source)
    named = request.directories
    hosts = {urlsplit(one).netloc for one in named}
    known = [one for one in around.directories or () if urlsplit(one).netloc not in hosts]
    try:
        if source.signatures:
            _require_marks(request.source, source, path)
        findings = source.read(path, Directories((*named, *sorted(known))))
    except Unreadable as error:
        advice = " (run it as root)" if os.geteuid() and "permission" in error.why else ""
        raise CannotImport(f"{error.where}: {error.why}{advice}") from None
    if findings == Findings():
        raise CannotImport(f"{path}: {request.source} keeps no certificates and no accounts there")
    return findings


def _usual(name: str, source: Source) -> Path:
    candidates = source.usual(os.environ)
    for path in candidates:
        if path.exists():
            return path
    looked = ", ".join(str(path) for path in candidates)
    raise CannotImport(f"where does {name} keep its files? There is no {looked}; name the path")


def _require_marks(name: str, source: Source, path: Path) -> None:
    with Tree(path) as tree:
        there = {*tree.folders(), *tree.files()}
    if not there.intersection(source.signatures):
        lacking = " nor ".join(source.signatures)
        raise CannotImport(f"{path}: not what {name} makes, for it has neither {lacking}")


# Writing


def _bring(
    request: Request, around: Surroundings, findings: Findings
) -> tuple[list[Outcome], list[Skipped]]:
    now = time.time()
    writer = Writer(
        open_store(around.state), now, random.SystemRandom(), rehearsal=request.rehearsal
    )
    going, left = places(
        findings.certificates,
        around.sites,
        now,
        lambda name: any(takes(patterns, name) for patterns in around.on_demand),
    )
    taken, others = accounts(findings.accounts, around.directories)
    arrived: list[Outcome] = []
    try:
        # Accounts first: a certifier that finds a certificate wants to speak for it.
        arrived.extend(writer.account(one, replacing=request.replacing) for one in taken)
        arrived.extend(writer.certificate(place) for place in going)
    except OSError as error:
        raise CannotImport(
            f"{error.filename or around.state}: {(error.strerror or str(error)).lower()}; what was "
            f"written until then is whole: {', '.join(one.what for one in arrived) or 'nothing'}"
        ) from None
    return arrived, [*left, *others, *findings.skipped]


def _verdict(one: Outcome) -> str:
    return "taken" if one.taken else "kept " if one.present else "left "


def _what_now(request: Request, around: Surroundings, taken: bool) -> str:
    if request.rehearsal:
        return "nothing was written: this was a rehearsal"
    if not taken:
        return "nothing was changed"
    try:
        answer = ask(around.state, {"command": "look"}, _SEEN_WITHIN)
    except DoesNotAnswer:
        return "the running server does not answer, and uses them when it goes on or is restarted"
    except NotRunning:
        return "a server that starts on this state directory uses them"
    if answer.get("ok"):
        return "the running server has been told, and uses them"
    return f"the running server notices within a minute ({answer.get('error')})"
