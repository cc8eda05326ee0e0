"""Lets users in by name and password (RFC 7617): `basic_auth`. A request filter.

A password is verified in a thread, never on the event loop, and at most `_AT_ONCE` of them at the
same time. A pair that was right is remembered for a minute, as a keyed hash of it, so that a page
with fifty pictures costs one verification.

An address (IPv6: a /64) that keeps sending wrong passwords waits: attempts have a bucket of their
own, which right ones do not empty. The answer is 429 then, and no thread is asked.

The application gets Remote-User, from us alone, and not the password, unless `forward` says so.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import secrets
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from weakref import WeakValueDictionary

from ..bounded_cache import remember
from ..config.schema.rules import BasicAuth
from ..errors import Fault
from ..protocol.client_address import subscriber
from ..protocol.exchange import Exchange
from ..protocol.message import Login, Request
from . import passwords

_AT_ONCE = 2  # per worker: each takes a core for some 20 ms, and 19 MiB
_REMEMBERED_FOR = 60.0
_MOST_REMEMBERED = 4096
# Wrong passwords of one address: so many at once, then one in so many seconds.
_BURST = 10
_EVERY = 6.0
_MOST_ADDRESSES = 8192
_LONGEST = 1024  # bytes of Authorization; passwords are shorter

_pool: ThreadPoolExecutor | None = None


class _User:
    """Who has shown a password: as the log has the name, and as a backend is told of it."""

    __slots__ = ("login", "shown")

    def __init__(self, name: bytes) -> None:
        self.shown = name.decode("utf-8", "replace")
        visible = Login.visible(name)
        self.login = Login(visible, [(b"remote-user", visible)], password=True)


class BasicAuthentication:
    """One for all routes with the same rules. ``now`` is monotonic seconds."""

    def __init__(
        self, rules: BasicAuth, users: dict[str, str], now: Callable[[], float] = time.monotonic
    ) -> None:
        self._users = {name.encode(): line for name, line in users.items()}
        realm = rules.realm.replace("\\", "\\\\").replace('"', '\\"')
        challenge = f'Basic realm="{realm}", charset="UTF-8"'.encode()
        self._fields = [(b"www-authenticate", challenge)]
        # What the application learns from us alone, or not at all.
        self.takes = frozenset({b"remote-user"} | (set() if rules.forward else {b"authorization"}))
        self._now = now
        self._key = secrets.token_bytes(32)
        self._right: dict[bytes, tuple[float, _User]] = {}  # until when, and who it is
        self._wrong: dict[str, float] = {}  # by address: when its bucket is empty again
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def request(self, exchange: Exchange) -> Awaitable[None] | None:
        """Raise `Fault` (unauthorized, rate_limited), or wait for the verification."""
        request = exchange.request
        assert request is not None  # noqa: S101 - filters are asked about requests
        values = [value for name, value in request.fields if name == b"authorization"]
        if len(values) != 1 or len(values[0]) > _LONGEST:
            raise Fault("unauthorized", fields=self._fields)
        mark = hashlib.blake2b(values[0], key=self._key, digest_size=32).digest()
        known = self._right.get(mark)
        if known is not None and known[0] > self._now():
            self._admit(exchange, request, known[1])
            return None
        user, password = self._credentials(values[0])
        return self._verify(exchange, request, user, password, mark)

    def _credentials(self, value: bytes) -> tuple[bytes, bytes]:
        """Name and password of a field Authorization. Raises `Fault`."""
        scheme, _, encoded = value.partition(b" ")
        if scheme.lower() != b"basic":
            raise Fault("unauthorized", fields=self._fields)
        try:
            user, colon, password = base64.b64decode(encoded.strip(), validate=True).partition(b":")
        except binascii.Error:
            raise Fault("unauthorized", fields=self._fields) from None
        if not colon:
            raise Fault("unauthorized", fields=self._fields)
        return user, password

    async def _verify(
        self, exchange: Exchange, request: Request, user: bytes, password: bytes, mark: bytes
    ) -> None:
        client = subscriber(exchange.client)
        # One after the other for each address: many at once are no way around the bucket, they
        # leave threads to others, and the same pair is verified once.
        turn = self._turns.get(client)
        if turn is None:
            turn = self._turns[client] = asyncio.Lock()
        async with turn:
            known = self._right.get(mark)
            if known is None or known[0] <= self._now():
                await self._spend_attempt(client, user, password)
                known = self._now() + _REMEMBERED_FOR, _User(user)
                remember(self._right, mark, known, _MOST_REMEMBERED)
        self._admit(exchange, request, known[1])

    async def _spend_attempt(self, client: str, user: bytes, password: bytes) -> None:
        """Verify, and raise `Fault` unless it fits. The attempt counts from the beginning, so that
        it counts for a client that leaves before the answer; a right one is given back."""
        self._check_attempts(client)
        self._count_attempt(client)
        loop = asyncio.get_running_loop()
        line = self._users.get(user)
        if not await loop.run_in_executor(_threads(), passwords.fits, line, password):
            raise Fault("unauthorized", "wrong name or password", self._fields)
        if client in self._wrong:
            self._wrong[client] -= _EVERY

    def _check_attempts(self, client: str) -> None:
        wait = self._wrong.get(client, 0.0) - self._now() - (_BURST - 1) * _EVERY
        if wait > 0:
            seconds = b"%d" % (int(wait) + 1)
            raise Fault("rate_limited", "too many wrong passwords", [(b"retry-after", seconds)])

    def _count_attempt(self, client: str) -> None:
        empty = max(self._wrong.get(client, 0.0), self._now()) + _EVERY
        remember(self._wrong, client, empty, _MOST_ADDRESSES)

    def _admit(self, exchange: Exchange, request: Request, user: _User) -> None:
        exchange.user = user.shown
        login = user.login
        if request.login is not None:  # a login service's
            told = [field for field in request.login.fields if field[0] != b"remote-user"]
            login = Login(login.user, [*told, *login.fields], password=True)
        request.login = login
        request.replace_fields(self.takes, [])


def _threads() -> ThreadPoolExecutor:
    global _pool
    if _pool is None:
        _pool = ThreadPoolExecutor(_AT_ONCE, "password")
    return _pool
