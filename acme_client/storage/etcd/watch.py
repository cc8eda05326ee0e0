"""Hears which folders change in the engine, and misses none.

A thread reads the engine's stream of changes, from the revision after the last that it knows. What
makes it hard is that the stream may end anywhere: by a member that dies or loses its leader, by a
compaction of the history that we have not read yet, or by an engine that was restored from a backup
and so went back. After each of these, what is there is compared with what was known, and what
differs counts as changed.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from collections.abc import Callable, Iterable
from typing import NamedTuple

from .api import Answer, EtcdApi, Refused, below, decoded, encoded, number
from .figures import Why
from .place import Place, Start, State, Witness, digest, found_again, latest_first, state_of

log = logging.getLogger("treehouse.certifier")

_REASONS: dict[Why, str] = {
    "compacted": "the history that had not been read is gone",
    "restored": "the engine was restored from a backup",
}
_PAUSES = (0.2, 0.5, 1.0, 2.0, 5.0)
_PAGE = 2000
# Of so many keys that were written last it is kept what was written.
_WITNESSES = 16


class Value(NamedTuple):
    """What lies under a key, and at which revision it was written."""

    data: bytes
    revision: int


class Watch:
    """``prefix`` ends in "/"; changed are the folders right below it. ``keeps_values``: what lies
    there is kept in memory. ``place``: where another watch has come to; where the engine still has
    what was there, it goes on from there, and what has changed since is named, and else nothing was
    known. Raises OSError when it cannot be told what is there now; later troubles are the
    thread's."""

    def __init__(
        self,
        api: EtcdApi,
        prefix: str,
        wake: Callable[[], object],
        *,
        keeps_values: bool = False,
        place: Place | None = None,
    ) -> None:
        self._api = api
        self.prefix = prefix
        self._wake = wake
        self._lock = threading.Lock()
        self._changed: set[str] = set()
        self._closed = threading.Event()
        self._socket: socket.socket | None = None
        self._known: dict[str, int] = {}
        self._keeps_values = keeps_values
        self._values: dict[str, Value] = {}
        self._witnesses: tuple[Witness, ...] = ()
        self._state = State("", 0, 0)
        start = None if place is None else found_again(api, prefix, place)
        self.goes_on = start is not None
        """Whether it goes on from the place that it was given."""
        if place is not None and start is not None:
            self._begin_at(start, place.witnesses)
        else:
            self._compare()
            self.changed()
        threading.Thread(target=self._run, name="watch", daemon=True).start()

    @property
    def revision(self) -> int:
        """The engine's revision up to which everything has been heard."""
        return self._state.revision

    def changed(self) -> set[str]:
        """Return the folders that have changed since the last call."""
        with self._lock:
            changed, self._changed = self._changed, set()
            return changed

    def folders(self) -> set[str]:
        """Return the folders that are there, as far as they have been heard of."""
        with self._lock:
            return set(map(self._name, self._known))

    def values(self) -> dict[str, Value]:
        """Return what lies there, by its keys, as far as it has been heard of."""
        with self._lock:
            return dict(self._values)

    def close(self) -> None:
        with self._lock:
            self._closed.set()
            if self._socket is not None:
                with contextlib.suppress(OSError):  # it has ended by itself
                    self._socket.shutdown(socket.SHUT_RDWR)

    def place(self) -> tuple[Place, set[str]]:
        """Return where this watch is, and the folders that have changed up to there and have not
        been named yet."""
        with self._lock:
            known = {key.removeprefix(self.prefix): at for key, at in self._known.items()}
            return Place(self._state.engine, known, self._witnesses), set(self._changed)

    def see_a_witness(self) -> None:
        """Have what was written last among the witnesses, if it is there still. Raises OSError."""
        with self._lock:
            key, revision = max(self._known.items(), key=lambda one: one[1], default=("", 0))
            if not key or (self._witnesses and self._witnesses[0].revision >= revision):
                return
        answer = self._api.call("/v3/kv/range", {"key": encoded(key)})
        for pair in answer.get("kvs") or ():
            if number(pair.get("mod_revision")) == revision:
                with self._lock:
                    self._bear_witness(key, revision, decoded(pair.get("value")))

    # In the thread

    def _run(self) -> None:
        failures = 0
        while not self._closed.is_set():
            try:
                if self._follow():
                    failures = 0
            except Refused as refusal:
                if refusal.compacted:
                    self._look_again(compacted=True)
                    continue
                failures += 1
            except OSError:
                failures += 1
            except Exception:  # the thread must live, or nothing is heard until the next start
                log.exception("a fault in the certifier itself")
                failures += 1
            if failures:
                self._closed.wait(_PAUSES[min(failures, len(_PAUSES)) - 1])

    def _follow(self) -> bool:
        """Read the stream to its end; returns whether it has begun."""
        begun = False
        request = {**below(self.prefix), "start_revision": str(self.revision + 1)}
        said = {"create_request": request}
        for answer in self._api.stream("/v3/watch", said, self._opened):
            if self._closed.is_set():
                break
            if answer.get("canceled"):
                if number(answer.get("compact_revision")):
                    self._look_again(compacted=True)
                break
            if answer.get("created"):
                begun = True
                if _is_older(self._state, state_of(answer)):
                    self._look_again(compacted=False)
                    break
                continue
            self._take(answer)
        return begun

    def _opened(self, connection: socket.socket) -> None:
        with self._lock:
            self._socket = connection
            if self._closed.is_set():
                connection.shutdown(socket.SHUT_RDWR)

    def _take(self, answer: Answer) -> None:
        """Take what an answer tells. It has come no further than to its last event: many changes
        come in several answers, of which each tells the engine's revision in its head."""
        names = set()
        with self._lock:
            found, at = state_of(answer), self._state.revision
            for event in answer.get("events") or ():
                pair = event.get("kv") or {}
                key = decoded(pair.get("key")).decode("utf-8", "replace")
                names.add(self._name(key))
                revision = number(pair.get("mod_revision"))
                at = max(at, revision)
                if event.get("type") == "DELETE":
                    self._known.pop(key, None)
                    self._values.pop(key, None)
                    continue
                self._known[key] = revision
                value = decoded(pair.get("value"))
                self._bear_witness(key, revision, value)
                if self._keeps_values:
                    self._values[key] = Value(value, revision)
            self._state = State(found.engine, max(found.term, self._state.term), at)
            self._changed |= names
        if names:
            self._wake()

    def _look_again(self, *, compacted: bool) -> None:
        """Compare, because changes cannot be had one by one. It is told and counted only where
        changes had escaped: a watch of what seldom changes has to compare after each compaction,
        and one that has gone to a member that lags behind, too."""
        before = self._state
        try:
            differs = self._compare()
        except OSError:
            self._closed.wait(1.0)
            return
        why: Why | None = "compacted" if compacted and differs else None
        if _is_older(before, self._state):
            why = "restored"
        if why is not None:
            log.info("the cluster's store was compared with what was known: %s", _REASONS[why])
            self._api.figures.reload(why)
        self._closed.wait(_PAUSES[0])

    def _compare(self) -> bool:
        """Note what differs from what is known; returns whether anything did. Raises OSError."""
        found: dict[str, int] = {}
        values: dict[str, Value] = {}
        span: dict[str, str] = below(self.prefix)
        at = 0
        while True:
            asked = {**span, "keys_only": not self._keeps_values, "limit": str(_PAGE)}
            if at:
                asked["revision"] = str(at)
            answer = self._api.call("/v3/kv/range", asked)
            if not at:
                state = state_of(answer)
                at = state.revision
            pairs = answer.get("kvs") or []
            for pair in pairs:
                key = decoded(pair.get("key")).decode("utf-8", "replace")
                found[key] = number(pair.get("mod_revision"))
                if self._keeps_values:
                    values[key] = Value(decoded(pair.get("value")), found[key])
            if not answer.get("more") or not pairs:
                break
            span = {**span, "key": _after(pairs[-1].get("key"))}
        keys = self._known.keys() | found.keys()
        differing = {key for key in keys if self._known.get(key) != found.get(key)}
        with self._lock:
            if _is_older(self._state, state):
                self._witnesses = ()
            self._known, self._values, self._state = found, values, state
            self._changed |= set(map(self._name, differing))
        if differing:
            self._wake()
        return bool(differing)

    def _name(self, key: str) -> str:
        return key.removeprefix(self.prefix).partition("/")[0]

    # Places

    def _begin_at(self, start: Start, witnesses: Iterable[Witness]) -> None:
        """Go on from a place. Raises OSError."""
        self._known = {f"{self.prefix}{key}": at for key, at in start.known.items()}
        self._state = start.state
        self._witnesses = tuple(one for one in witnesses if one.revision <= start.state.revision)
        if start.compares:
            self._compare()

    def _bear_witness(self, key: str, revision: int, value: bytes) -> None:
        one = Witness(key.removeprefix(self.prefix), revision, digest(value))
        self._witnesses = latest_first((*self._witnesses, one), _WITNESSES)


def _is_older(known: State, found: State) -> bool:
    """Whether the engine is not the one that was known, or was taken back to what it was before. A
    member that lags behind looks like that as well."""
    return (
        found.engine != known.engine or found.term < known.term or found.revision < known.revision
    )


def _after(key: object) -> str:
    return encoded(decoded(key) + b"\0")
