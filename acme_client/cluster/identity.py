"""Which machine this is, whatever it is called: two machines may have one name by mistake.

An identity is made of a random word that lies beside the certificates and of what the host says of
itself (`ClusterSettings.host`). So it stays the same when the program is started again, reloaded or
upgraded, and is another one on a machine that was copied from this one.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from ..storage import documents
from ..storage.directory import DirectoryStore
from ..storage.store import Store
from .members import Said
from .settings import ClusterSettings

log = logging.getLogger("treehouse.certifier")

FOLDER, FILE = "cluster", "machine.json"
VERSION = 1


def own(local: Store, host: str) -> str:
    """Return this machine's identity; the first time it is made. "" where the disk does not take
    it: then nobody can tell this machine from another one of its name before both run."""
    known = look_up(local, host)
    if known != "":
        return known or ""
    word = secrets.token_hex(16)
    try:
        local.store(FOLDER, {FILE: documents.write({"word": word}, VERSION)})
    except OSError as error:
        log.warning("this machine's identity cannot be noted: %s", error.strerror or error)
        return ""
    return _of(word, host)


def look_up(local: Store, host: str) -> str | None:
    """Return this machine's identity; "" where none has been made, None where that is not known."""
    try:
        data = local.load(FOLDER).get(FILE, b"")
    except OSError:
        return None
    word = documents.read(data, VERSION).get("word")
    return _of(word, host) if isinstance(word, str) and word else ""


def namesake(
    settings: ClusterSettings,
    state: Path | None,
    present: Mapping[str, Said],
    waiting: Mapping[str, Said] = MappingProxyType({}),
) -> str:
    """Return since when another machine runs that has this one's name; "" where none does, as far
    as can be known. ``state`` is this machine's directory, ``present`` what the machines say, and
    ``waiting`` what those say that wait for the name to be free, by what they are."""
    said = present.get(settings.node)
    here = None if state is None else look_up(DirectoryStore(state), settings.host)
    if said is None or not said.machine or here is None:
        return ""
    if said.machine == here:
        others = [one for machine, one in sorted(waiting.items()) if machine != here]
    else:
        others = [said]
    return (others[0].since or "an unknown moment") if others else ""


def _of(word: str, host: str) -> str:
    return hashlib.sha256(f"{word}\0{host}".encode()).hexdigest()[:16]
