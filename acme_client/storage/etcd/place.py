"""Where a machine has come to in what the engine tells, in a form that outlives its process: so
that the next one hears of what has changed since, and reads nothing else.

What makes it hard is that the engine may be another one by then, or the same one restored from a
backup, which has come to the same revisions again with other things in them. Numbers do not tell
that. So a place has witnesses: keys with a digest of what lay under them. What is written is sealed
with a random number, so nobody writes the same twice; an engine in which a witness stands has the
history up to the witness' revision that this machine knew. What was known from later than that is
not believed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from .api import Answer, EtcdApi, Refused, decoded, encoded, number

# What is known to be another one now, whatever is found.
_ANOTHER = -1


class State(NamedTuple):
    """Which engine it is, by its own number; in which term of its leaders; at which revision."""

    engine: str
    term: int
    revision: int


class Witness(NamedTuple):
    """What was written under a key at a revision: its `digest`."""

    key: str
    revision: int
    digest: str


class Place(NamedTuple):
    """``engine``: its own number; ``known``: the keys that were there, with their revisions;
    ``witnesses``: the latest first. Keys are those below the watched prefix."""

    engine: str
    known: Mapping[str, int]
    witnesses: tuple[Witness, ...]


class Start(NamedTuple):
    """Where a watch goes on. ``compares``: changes since cannot be had one by one, or not all."""

    state: State
    known: dict[str, int]
    compares: bool


def digest(value: bytes) -> str:
    return hashlib.sha256(value).hexdigest()[:24]


def found_again(api: EtcdApi, prefix: str, place: Place) -> Start | None:
    """Return where to go on from a place; None where the engine has another history. Raises
    OSError."""
    latest = max(place.known.values(), default=0)
    for one in place.witnesses:
        state = _stands(api, prefix, one)
        if state is None or state.engine != place.engine:
            continue
        # Nothing that was known is later than the witness: changes since are all that there is.
        # What was heard after it, and is gone, is heard again.
        compares = one.revision < latest
        known = {
            key: revision if revision <= one.revision else _ANOTHER
            for key, revision in place.known.items()
        }
        return Start(state._replace(revision=one.revision), known, compares)
    return None


def _stands(api: EtcdApi, prefix: str, witness: Witness) -> State | None:
    """Return the engine's state, if a witness stands in its history, or where that is gone, in what
    is there now. Raises OSError."""
    for at in (witness.revision, 0):
        asked: dict[str, Any] = {"key": encoded(prefix + witness.key)}
        if at:
            asked["revision"] = str(at)
        try:
            answer = api.call("/v3/kv/range", asked)
        except Refused as refusal:
            if refusal.compacted:  # or it has not come to that revision
                continue
            raise
        for pair in answer.get("kvs") or ():
            is_same = digest(decoded(pair.get("value"))) == witness.digest
            if is_same and number(pair.get("mod_revision")) == witness.revision:
                return state_of(answer)
    return None


def state_of(answer: Answer) -> State:
    header = answer.get("header") or {}
    term, revision = number(header.get("raft_term")), number(header.get("revision"))
    return State(str(header.get("cluster_id")), term, revision)


# As a document


def encode(place: Place) -> dict[str, Any]:
    """Encode a place for JSON: keys by their folders, because they begin alike."""
    folders: dict[str, dict[str, int]] = {}
    for key, revision in place.known.items():
        folder, _slash, last = key.rpartition("/")
        folders.setdefault(folder, {})[last] = revision
    return {
        "engine": place.engine,
        "known": folders,
        "witnesses": [list(one) for one in place.witnesses],
    }


def decode(document: Any) -> Place | None:
    """Decode what `encode` has made; None for anything else."""
    if not isinstance(document, dict):
        return None
    engine, folders = document.get("engine"), document.get("known")
    witnesses = document.get("witnesses")
    if not isinstance(engine, str) or not isinstance(folders, dict):
        return None
    if not isinstance(witnesses, list):
        return None
    known: dict[str, int] = {}
    for folder, files in folders.items():
        if not isinstance(files, dict) or not all(map(_is_revision, files.values())):
            return None
        known |= {f"{folder}/{last}" if folder else last: at for last, at in files.items()}
    found = [_witness(one) for one in witnesses]
    several = tuple(one for one in found if one is not None)
    return Place(engine, known, several) if len(several) == len(found) else None


def _witness(value: object) -> Witness | None:
    match value:
        case [str(key), int(revision), str(found)] if _is_revision(revision):
            return Witness(key, revision, found)
    return None


def _is_revision(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def latest_first(witnesses: Iterable[Witness], most: int) -> tuple[Witness, ...]:
    """Return at most so many witnesses of different keys, the latest first."""
    by_key: dict[str, Witness] = {}
    for one in sorted(witnesses, key=lambda one: one.revision):
        by_key[one.key] = one
    return tuple(sorted(by_key.values(), key=lambda one: -one.revision)[:most])
