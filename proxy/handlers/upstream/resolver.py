"""Looks up the addresses of a backend's name, again and again, because containers move.

A lookup runs in a thread beside the event loop, one at a time for each backend, however many
requests wait for it. A name server that does not answer takes no working backend down: once
addresses are known, a request waits half a second for newer ones and then uses the last. Only a
name that has never resolved fails, and that is tried again every second.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import Any

from ...config.model import Backend
from ...errors import Fault
from .context import UpstreamContext

log = logging.getLogger("treehouse.upstream")

# Seconds for which a lookup's result is used. getaddrinfo(3) does not tell the records' TTL.
_GOOD_FOR = 30.0
# That there is no such name may change at any moment: a container that starts gets its name then.
_NOTHING_GOOD_FOR = 1.0
# What a request waits for a new answer where there is an old one. Resolvers at hand take
# milliseconds; one that is down takes ten seconds to say nothing.
_PATIENCE = 0.5

Address = tuple[socket.AddressFamily, Any]


class Resolver:
    def __init__(self, backend: Backend, context: UpstreamContext) -> None:
        self._backend = backend
        self._fields = {"backend": backend.url}  # of its log records
        self._context = context
        self._known: list[Address] = []
        self._looked_up = float("-inf")
        self._lookup: asyncio.Task[None] | None = None
        self._begun = 0.0
        self._why = ""  # the last lookup failed
        fixed = _spelt_out(backend)
        if fixed:
            self._known, self._looked_up = fixed, float("inf")

    async def find(self) -> list[Address]:
        """Return the backend's addresses, at least one. Raises `Fault` ("backend_refused")."""
        now = self._context.clock.now
        good_for = _GOOD_FOR if self._known else _NOTHING_GOOD_FOR
        if self._lookup is None and now - self._looked_up > good_for:
            self._begun = now
            self._lookup = self._context.loop.create_task(self._look_up())
        lookup = self._lookup
        if lookup is not None and not self._known:
            await asyncio.shield(lookup)
        elif lookup is not None and now - self._begun < _PATIENCE:
            await asyncio.wait((lookup,), timeout=_PATIENCE)
        if not self._known:
            raise Fault("backend_refused", f"the name cannot be resolved: {self._why}")
        return self._known

    def close(self) -> None:
        if self._lookup is not None:
            self._lookup.cancel()

    async def _look_up(self) -> None:
        backend = self._backend
        try:
            found = await self._context.loop.getaddrinfo(
                backend.host, backend.port, type=socket.SOCK_STREAM
            )
        except (OSError, UnicodeError) as error:
            self._failed(getattr(error, "strerror", None) or str(error))
        else:
            self._found([(one[0], one[4]) for one in found])
        finally:
            self._looked_up = self._context.clock.now
            self._lookup = None

    def _failed(self, why: str) -> None:
        if self._known and not self._why:
            log.warning("%s: the name cannot be resolved (%s); its last addresses are used",
                        self._backend.url, why, extra=self._fields)  # fmt: skip
        self._why = why

    def _found(self, addresses: list[Address]) -> None:
        if self._why and self._known:
            text = "%s: the name can be resolved again"
            log.info(text, self._backend.url, extra=self._fields)
        if self._known and set(self._known).isdisjoint(addresses):
            log.info("%s leads elsewhere now", self._backend.url, extra=self._fields)
        self._known, self._why = addresses, ""


def _spelt_out(backend: Backend) -> list[Address]:
    """Return the address of a socket or of an IP address in the configuration; nothing for a name,
    which has to be looked up."""
    if backend.scheme == "unix":
        path = backend.path
        # unix(7): the names of abstract sockets begin with NUL.
        return [(socket.AF_UNIX, "\0" + path[1:] if path.startswith("@") else path)]
    try:
        found = socket.getaddrinfo(
            backend.host, backend.port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
        )
    except (OSError, UnicodeError):
        return []
    return [(one[0], one[4]) for one in found]
