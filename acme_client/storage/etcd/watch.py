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
from collections.abc import Callable
from typing import NamedTuple

from .api import Answer, EtcdApi, Refused, below, decoded, encoded, number
from .figures import Why

log = logging.getLogger("treehouse.certifier")

_REASONS: dict[Why, str] = {
    "compacted": "the history that had not been read is gone",
    "restored": "the engine was restored from a backup",
}
_PAUSES = (0.2, 0.5, 1.0, 2.0, 5.0)
_PAGE = 2000


class State(NamedTuple):
    """Which engine it is, by its own number; in which term of its leaders; at which revision."""

    engine: str
    term: int
    revision: int


class Value(NamedTuple):
    """What lies under a key, and at which revision it was written."""

    data: bytes
    revision: int


class Watch:
    """``prefix`` ends in "/"; changed are the folders right below it. ``keeps_values``: what lies
    there is kept in memory. Raises OSError when it cannot be told what is there now; later troubles
    are the thread's."""

    def __init__(
        self,
        api: EtcdApi,
        prefix: str,
        wake: Callable[[], object],
        *,
        keeps_values: bool = False,
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
        self._state = State("", 0, 0)
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
                if _is_older(self._state, _state(answer)):
                    self._look_again(compacted=False)
                    break
                continue
            self._take(answer)
            found = _state(answer)
            self._state = State(
                found.engine,
                max(found.term, self._state.term),
                max(found.revision, self._state.revision),
            )
        return begun

    def _opened(self, connection: socket.socket) -> None:
        with self._lock:
            self._socket = connection
            if self._closed.is_set():
                connection.shutdown(socket.SHUT_RDWR)

    def _take(self, answer: Answer) -> None:
        keys = set()
        values: dict[str, Value | None] = {}
        for event in answer.get("events") or ():
            pair = event.get("kv") or {}
            key = decoded(pair.get("key")).decode("utf-8", "replace")
            keys.add(key)
            if event.get("type") == "DELETE":
                self._known.pop(key, None)
                values[key] = None
            else:
                self._known[key] = revision = number(pair.get("mod_revision"))
                if self._keeps_values:
                    values[key] = Value(decoded(pair.get("value")), revision)
        if self._keeps_values:
            with self._lock:
                for key, value in values.items():
                    if value is None:
                        self._values.pop(key, None)
                    else:
                        self._values[key] = value
        self._note(keys)

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
                state = _state(answer)
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
        self._known = found
        with self._lock:
            self._values = values
        self._note(differing)
        self._state = state
        return bool(differing)

    def _note(self, keys: set[str]) -> None:
        names = {key.removeprefix(self.prefix).partition("/")[0] for key in keys}
        if names:
            with self._lock:
                self._changed |= names
            self._wake()


def _state(answer: Answer) -> State:
    header = answer.get("header") or {}
    term, revision = number(header.get("raft_term")), number(header.get("revision"))
    return State(str(header.get("cluster_id")), term, revision)


def _is_older(known: State, found: State) -> bool:
    """Whether the engine is not the one that was known, or was taken back to what it was before. A
    member that lags behind looks like that as well."""
    return (
        found.engine != known.engine or found.term < known.term or found.revision < known.revision
    )


def _after(key: object) -> str:
    return encoded(decoded(key) + b"\0")
