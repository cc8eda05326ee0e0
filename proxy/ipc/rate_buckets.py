"""Request rates, counted by all workers together.

A token bucket in the form of the generic cell rate algorithm (ITU-T I.371): all there is to a
bucket is one moment, the *theoretical arrival time* of its next request. Eight bytes and a key fit
into sixteen, and a fixed table of them lies in memory that the supervisor has made before it forks.
No lock: two workers that read the same moment both add to it and one addition is lost, so that a
limit is exceeded by the workers' number at worst. Nothing to allocate, nothing to expire, and an
attacker who comes from many addresses fills no memory: a bucket that is empty, or the one that will
be first, makes room.

Keys are hashed with a secret, so that nobody can aim at somebody else's bucket.
"""

from __future__ import annotations

import hashlib
import mmap
import secrets
import struct
from collections.abc import Callable

from ..bounded_cache import remember
from ..config.model import RateLimit

_SLOTS = 1 << 16
_WAYS = 4  # neighbouring slots that a key may take
_SLOT = struct.Struct("=Qd")  # key, theoretical arrival time
_MOST_KEYS = 8192  # hashes remembered by a worker
_Token = tuple[int, int, float]  # where its slot is, and what stands there when it is spent


class Buckets:
    """The table. Times are seconds of a clock that all workers share (monotonic)."""

    def __init__(self) -> None:
        self._table = mmap.mmap(-1, _SLOTS * _SLOT.size)
        self._secret = secrets.token_bytes(16)
        self._keys: dict[bytes, int] = {}

    def take(self, key: bytes, limit: RateLimit, now: float) -> float:
        """Take one token of the key's bucket: 0.0, or for how many seconds there is none."""
        wait, token = self.look(key, limit, now)
        if not wait:
            self.spend(token)
        return wait

    def look(self, key: bytes, limit: RateLimit, now: float) -> tuple[float, _Token]:
        """For how many seconds there is no token in the key's bucket; 0.0, and one to `spend`."""
        hashed = self._hashed(key)
        at, due = self._find(hashed)
        interval = 1.0 / limit.rate
        due = max(due, now)
        # One request may always come when its time is due; `burst` of them before it.
        early = due - now - interval * (limit.burst - 1)
        return early if early > 1e-9 else 0.0, (at, hashed, due + interval)

    def spend(self, token: _Token) -> None:
        at, hashed, due = token
        _SLOT.pack_into(self._table, at, hashed, due)

    def _hashed(self, key: bytes) -> int:
        hashed = self._keys.get(key)
        if hashed is None:
            digest = hashlib.blake2b(key, key=self._secret, digest_size=8).digest()
            hashed = int.from_bytes(digest, "little") or 1
            remember(self._keys, key, hashed, _MOST_KEYS)
        return hashed

    def _find(self, hashed: int) -> tuple[int, float]:
        """Where the key's slot is, or which one it takes, and its moment."""
        first = hashed % (_SLOTS // _WAYS) * _WAYS
        oldest, least = 0, float("inf")
        for slot in range(first, first + _WAYS):
            at = slot * _SLOT.size
            present, due = _SLOT.unpack_from(self._table, at)
            if present == hashed:
                return at, due
            if due < least:
                oldest, least = at, due
        return oldest, 0.0


class RateLimits:
    """The limits of one site. ``clock`` gives the present moment, ``address`` whom a peer counts
    for."""

    def __init__(
        self,
        site: str,
        limits: tuple[RateLimit, ...],
        buckets: Buckets,
        clock: Callable[[], float],
        address: Callable[[str], str],
    ) -> None:
        self._limits = [
            (limit, f"{site}\0{number}\0{limit}\0".encode()) for number, limit in enumerate(limits)
        ]
        self._buckets = buckets
        self._clock = clock
        self._address = address

    def wait(self, peer: str) -> float:
        """0.0 for a request that may come; else in how many seconds the next one may. One that may
        not come counts nowhere: else whoever is over his own limit would use up the site's."""
        now = self._clock()
        tokens = []
        for limit, prefix in self._limits:
            key = prefix
            if limit.by == "address":
                key += self._address(peer).encode()
            wait, token = self._buckets.look(key, limit, now)
            if wait:
                return wait
            tokens.append(token)
        for token in tokens:
            self._buckets.spend(token)
        return 0.0
