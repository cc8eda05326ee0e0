"""Our session in the engine, and what hangs on it: the locks that we hold, and leases of what is to
pass away by itself.

    :session/LEASE                       there while the session of this lease lives
    :lock/certificates/example.org       there while somebody holds the folder's lock

Both vanish with their writer, whose lease the engine ends. A lock's token is the revision at which
its key was made: who writes under a lock has the engine see that the key is that one still.

What makes it hard is a call whose answer is lost. A lock may be ours though we were never told so,
and may be there still though we gave it back; and our session, which goes on, would keep it for
ever. So what the engine has not confirmed is noted, and undone as soon as the engine can be heard.
"""

from __future__ import annotations

import contextlib
import math
import secrets
import threading
import time
from collections.abc import Callable

from ..store import Lock
from .api import EtcdApi, decoded, encoded, number
from .lease import Lease
from .operations import (
    Operation,
    created_at,
    has_value,
    reading,
    removal,
    transact,
    writing,
)

_LOCK, _SESSION = ":lock/", ":session/"
# What is to pass away by itself has one lease for so many seconds: each costs the engine a write.
_LEASE_SHARED_FOR = 60.0

Operations = list[Operation]


class Sessions:
    """One session at a time; any thread may use it. ``prefix`` and ``lasts`` are those of the
    store, and so is ``lost``."""

    def __init__(self, api: EtcdApi, prefix: str, lasts: int, lost: Callable[[], object]) -> None:
        self._api = api
        self._prefix = prefix
        self._lasts = lasts
        self._lost = lost
        self._beginning = threading.Lock()
        self._lease: Lease | None = None
        self._passing: dict[float, tuple[int, float]] = {}  # leases of what is to pass away
        # Keys of locks that nobody holds, which the engine has still, or may have: it has not been
        # heard when they were given back, or not in time when they were taken. Each with the
        # condition that it is that lock.
        self._left: list[tuple[str, Operation]] = []

    # The session

    def lease(self) -> Lease:
        """Return the lease of our session, which begins with the first call, and anew after the
        engine has ended it. Raises OSError."""
        with self._beginning:
            if self._lease is None or not self._lease.lives():
                lease = Lease.begun(self._api, self._lasts, self._lost, self._kept)
                key = f"{self._prefix}{_SESSION}{lease.name:x}"
                put = {"key": encoded(key), "value": "", "lease": str(lease.name)}
                self._api.call("/v3/kv/put", put)
                self._lease = lease
            return self._lease

    def is_ours(self, mark: str) -> bool:
        lease = self._lease
        return lease is not None and mark == f"{lease.name:x}"

    def is_over(self, mark: str) -> bool:
        """Whether the session of this mark has ended. Raises OSError."""
        if self.is_ours(mark):
            return False
        asked = {"key": encoded(f"{self._prefix}{_SESSION}{mark}"), "count_only": True}
        return number(self._api.call("/v3/kv/range", asked).get("count")) == 0

    def end(self) -> None:
        """Give back the session and what hangs on it, if the engine can be heard."""
        with self._beginning:
            lease, self._lease = self._lease, None
        if lease is not None and not self._api.fault:
            with contextlib.suppress(OSError):  # it ends by itself
                lease.end()

    def _kept(self) -> None:
        """Our session goes on: the engine can be heard again, perhaps."""
        with contextlib.suppress(OSError):
            self.give_back()

    # Locks

    def lock(self, folder: str) -> Lock | None:
        """Take the lock of a folder; None while somebody else has it. Raises OSError."""
        self.give_back()
        held = self.lease()
        key = f"{self._prefix}{_LOCK}{folder}"
        ours = secrets.token_hex(8)
        put = writing(key, ours.encode(), lease=str(held.name))
        try:
            answer = transact(self._api, [created_at(key, 0)], [put], [reading(key)])
        except OSError:
            self._left.append((key, has_value(key, ours.encode())))
            raise
        if answer.get("succeeded"):
            return _EtcdLock(self, key, number(answer["header"].get("revision")), held)
        # A call that was made twice, because its first answer was lost, finds its own lock.
        for found in answer["responses"][0].get("response_range", {}).get("kvs", ()):
            if decoded(found.get("value")) == ours.encode():
                return _EtcdLock(self, key, number(found.get("create_revision")), held)
        return None

    def release(self, key: str, token: int) -> None:
        """Have a lock be nobody's. Raises OSError; then it is given back later."""
        condition = created_at(key, token)
        try:
            transact(self._api, [condition], [removal(key)])
        except OSError:
            self._left.append((key, condition))
            raise

    def give_back(self) -> None:
        """Give back the locks that the engine has not heard of that they are nobody's. They would
        not end by themselves, because our session goes on. Raises OSError."""
        while self._left:
            key, condition = self._left[0]
            transact(self._api, [condition], [removal(key)])
            with contextlib.suppress(ValueError):  # another thread was faster
                self._left.remove((key, condition))

    # What passes away

    def passing(self, seconds: float) -> int:
        """Return a lease that nobody keeps: it ends at the earliest after these seconds and a
        minute later at the latest. Raises OSError."""
        now = time.monotonic()
        with self._beginning:
            lease, since = self._passing.get(seconds, (0, 0.0))
            if not lease or now > since + _LEASE_SHARED_FOR:
                lasts = math.ceil(seconds + _LEASE_SHARED_FOR)
                lease = number(self._api.call("/v3/lease/grant", {"TTL": lasts}).get("ID"))
                self._passing[seconds] = lease, now
            return lease

    def forget_passing(self, seconds: float) -> None:
        """Have another lease next time: an engine that was restored does not know this one."""
        self._passing.pop(seconds, None)


class _EtcdLock:
    def __init__(self, sessions: Sessions, key: str, token: int, lease: Lease) -> None:
        self.token = token
        self.key = key
        self._sessions = sessions
        self._lease = lease
        self._given_back = False

    def holds(self) -> bool:
        return not self._given_back and self._lease.lives()

    def release(self) -> None:
        self._given_back = True
        self._sessions.release(self.key, self.token)


def fence(by: object) -> Operations:
    """Return the condition that a lock is its holder's still; none where there is no lock."""
    if not isinstance(by, _EtcdLock):
        return []
    return [created_at(by.key, by.token)]


def is_of_a_session(key: str) -> bool:
    """Whether a key, without the store's prefix, is a lock or a session."""
    return key.startswith((_SESSION, _LOCK))
