"""The whole configuration, from all its sources, or everything that is wrong with it.

`load` is what everybody calls: at the start, for ``check``, and at each reload with the same
`Options`. It reads, and touches nothing.
"""

from __future__ import annotations

import contextlib
import os
import pwd
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from .. import open_files
from .checks import consistency, descriptors, own_filters, surprises
from .checks import files as places
from .checks.accounts import NOBODY, find_group, find_user
from .checks.reader import Reader
from .model import Config
from .options import Options
from .resolve import Surroundings, resolve
from .schema.parse import Parsed, validate
from .sources import flags
from .sources.flags import Draft
from .sources.sites_dir import left_out
from .syntax.faults import ConfigurationFaults, Fault, Origin, Wrong

__all__ = ["ConfigurationFaults", "Options", "load", "state_directory"]

DEFAULT_STATE = Path("/var/lib/treehouse-proxy")
_NO_STATE = ("no directory for keys and certificates can be chosen", "give one: --state DIR")


def load(options: Options, *, now_uid: int, argv0: str = "treehouse-proxy") -> Config:
    """Return the whole configuration. Raises `ConfigurationFaults` with everything that is wrong.

    ``now_uid`` is who the program was started as, at a reload too: it decides the default state
    directory, and whether there is a user to become. ``argv0`` is for the messages.
    """
    slips: dict[Origin, Fault] = {}
    while True:
        draft = Draft.of_file(options, argv0)
        if draft.faults and not draft.tree:
            raise ConfigurationFaults(draft.faults)  # all others would only say that this is so
        draft.lay_over(options)
        draft.add_included()
        draft.add_sites_dir(slips)
        draft.add_containers(_state_of(draft, now_uid), slips)
        parsed, faults = validate(draft.tree, draft.origins, draft.broken, draft.base)
        faults += draft.faults
        faults += consistency.check(parsed)
        found = _left_out(faults, draft.labels | {one: one for one in draft.entries})
        if found:
            slips |= found  # and once more without them
            continue
        notices = [*draft.notices, *slips.values(), *parsed.notices]
        notices += _without_sites(parsed)
        blamed = {one.origin for one in faults}  # what follows from a fault is no news
        notices += (one for one in surprises.check(parsed) if one.origin not in blamed)
        identity, reader = _identity(parsed, now_uid, faults, notices)
        state = _state(parsed, now_uid, draft.base, faults)
        if state is not None:
            running = now_uid == 0 and os.geteuid() != 0  # a server that has dropped its privileges
            opener = None if running else Reader(os.geteuid(), os.getegid(), here=True)
            faults += places.check(parsed, state, reader, opener, notices)
        code, wrong = own_filters.check(parsed, None if faults else identity)
        faults += wrong
        # A file that an entry of the sites directory names stands on this disk, and whoever made
        # the entry can mend it; a container is not to keep others from being served even so.
        found = _left_out(faults, draft.labels)
        if not found:
            break
        slips |= found
    if faults or identity is None or state is None:
        raise ConfigurationFaults(faults, notices)
    here = Surroundings(state, *identity, draft.source, tuple(map(str, notices)), code)
    return _with_descriptors(resolve(parsed, here), parsed)


def _left_out(faults: Iterable[Fault], entries: Mapping[Origin, Origin]) -> dict[Origin, Fault]:
    """What is told of each entry that has a fault. ``entries``: by where its words stand."""
    found: dict[Origin, Fault] = {}
    for one in faults:
        entry = entries.get(one.origin)
        if entry is not None:
            found.setdefault(entry, left_out(one))
    return found


def _state_of(draft: Draft, now_uid: int) -> Path | None:
    word = draft.tree.get("state")
    return draft.base / word if isinstance(word, str) else _default_state(now_uid, os.environ)


def _with_descriptors(config: Config, parsed: Parsed) -> Config:
    """The configuration, with a notice where descriptors are too few for all connections. Raises
    `ConfigurationFaults` where they are too few to start."""
    most = open_files.most()
    trouble = descriptors.unstartable(config, most)
    if trouble is not None:
        raise ConfigurationFaults([parsed.origins.fault(("sites",), *trouble)])
    trouble = descriptors.shortfall(config, most)
    if trouble is None:
        return config
    notice = str(parsed.origins.fault(("limits", "connections"), *trouble))
    return replace(config, notices=(*config.notices, notice))


def _without_sites(parsed: Parsed) -> Iterator[Fault]:
    """Yield a notice where the configuration includes files for sites and none has a site, as just
    after a package has been installed: the server runs, and serves nothing yet."""
    given = parsed.document.given
    if parsed.sites or "sites" in parsed.broken or given & {"sites_dir", "providers"}:
        return
    if parsed.document.include:
        remedy = f"write a site in {parsed.document.include[0]}, then reload"
        yield parsed.origins.fault(("include",), "there is no site yet: nothing is served", remedy)


def state_directory(config: Path | None, state: Path | None) -> Path:
    """Return the state directory of the running server, where its control socket lies.

    Only that one key is read, so that a file with faults elsewhere keeps nobody from stopping the
    server. Raises `ConfigurationFaults` when ``config`` cannot be read.
    """
    if state is not None:
        return state.absolute()
    if config is not None or os.access(flags.DEFAULT_CONFIG, os.R_OK):
        draft = Draft.of_file(Options(config=config), "treehouse-proxy")
        word = draft.tree.get("state")
        if isinstance(word, str):
            return draft.base / word
        if config is not None and draft.faults and not draft.tree:
            raise ConfigurationFaults(draft.faults)
    found = _default_state(os.geteuid(), os.environ)
    if found is None:
        raise ConfigurationFaults([Fault(Origin("--state"), "", *_NO_STATE)])
    return found


class SecretsPlace(NamedTuple):
    """Where the cluster's secret is to be: the file that ``cluster.secret_file`` names, and the
    group that the server has by ``group`` or ``user``; each None where nothing says it."""

    file: Path | None = None
    gid: int | None = None


def cluster_secret(config: Path | None) -> SecretsPlace:
    """Return where the cluster's secret is to be. Only these keys are read: the file may not be
    there yet. Raises `ConfigurationFaults` when ``config`` cannot be read."""
    if config is None and not os.access(flags.DEFAULT_CONFIG, os.R_OK):
        return SecretsPlace()
    draft = Draft.of_file(Options(config=config), "treehouse-proxy")
    if draft.faults and not draft.tree:
        raise ConfigurationFaults(draft.faults)
    section = draft.tree.get("cluster")
    word = section.get("secret_file") if isinstance(section, dict) else None
    file = draft.base / word if isinstance(word, str) else None
    group, user = draft.tree.get("group"), draft.tree.get("user")
    gid = None
    with contextlib.suppress(Wrong):  # which `check` tells
        if isinstance(group, str):
            gid = find_group(group)
        elif isinstance(user, str):
            gid = find_user(user)[1]
    return SecretsPlace(file, gid)


# Who the program becomes, and where its state lies


def _identity(
    parsed: Parsed, now_uid: int, faults: list[Fault], notices: list[Fault]
) -> tuple[tuple[int, int] | None, Reader | None]:
    """Return the uid and gid to become, and who reads files then; None where that cannot be told.

    Without root nobody can become anybody else: the program stays who it is. A flag that asks for
    it is a fault, and a file, which may be meant for a start as root, is told so.
    """
    document = parsed.document
    uid, gid = (NOBODY, NOBODY) if now_uid == 0 else (now_uid, os.getgid())
    found = True
    try:
        if document.user:
            uid, primary = find_user(document.user)
            gid = NOBODY if primary is None else primary
    except Wrong as wrong:
        faults.append(parsed.origins.fault(("user",), wrong.what, wrong.remedy))
        found = False
    try:
        if document.group:
            gid = find_group(document.group)
    except Wrong as wrong:
        faults.append(parsed.origins.fault(("group",), wrong.what, wrong.remedy))
        found = False
    if not found or parsed.broken & {"user", "group"}:
        return None, None
    if now_uid != 0:
        if document.user and uid != now_uid:
            told = parsed.origins.fault(
                ("user",),
                f"only root can become another user, and this is uid {now_uid}",
                "start it with sudo, or leave user out",
            )
            (notices if told.origin.line else faults).append(told)
        uid, gid = now_uid, os.getgid()
    return (uid, gid), Reader(uid, gid, here=os.geteuid() == uid)


def _state(parsed: Parsed, now_uid: int, base: Path, faults: list[Fault]) -> Path | None:
    if parsed.document.state:
        return base / parsed.document.state
    found = _default_state(now_uid, os.environ)
    if found is None and "state" not in parsed.broken:
        faults.append(parsed.origins.fault((), *_NO_STATE))
    return found


def _default_state(uid: int, environ: Mapping[str, str]) -> Path | None:
    """Return the directory that the service manager has made (systemd.exec(5), StateDirectory=);
    else as root under /var/lib, and otherwise as the XDG base directory specification 0.8 has
    it."""
    managed = Path(environ.get("STATE_DIRECTORY", "").partition(":")[0])
    if managed.is_absolute():
        return managed
    if uid == 0:
        return DEFAULT_STATE
    given = Path(environ.get("XDG_STATE_HOME", ""))
    if given.is_absolute():  # the specification has relative ones ignored
        return given / DEFAULT_STATE.name
    home = environ.get("HOME", "")
    if not home:
        try:
            home = pwd.getpwuid(uid).pw_dir
        except KeyError:
            return None
    return Path(home).absolute() / ".local/state" / DEFAULT_STATE.name
