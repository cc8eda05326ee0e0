"""What a site demands of a request before any handler is asked: a client certificate, and a rate.

Most sites demand nothing and have no gate; a server without gates does not look for them.

A client certificate is asked for in the handshake, by the name that the client gave there. A
connection that was opened for another name is no way around it, even where one certificate covers
both: the request is told to come again on a connection of its own (421).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from ..config.model import Site
from ..errors import Fault
from ..ipc.rate_buckets import RateLimits
from ..protocol.message import Request


@dataclass(frozen=True, slots=True)
class Gate:
    """``site`` is the first of its names; ``certificate``: whether it asks clients for theirs."""

    site: str
    certificate: bool
    limits: RateLimits | None

    def check(self, request: Request) -> None:
        """Raises `Fault` for a request that does not get through."""
        connection = request.connection
        if self.certificate and connection.client_site != self.site:
            raise Fault("misdirected", "the site asks for a client certificate")
        if self.limits is not None:
            wait = self.limits.wait(connection.peer)
            if wait:
                seconds = b"%d" % max(1, math.ceil(wait - 0.001))
                raise Fault("rate_limited", fields=[(b"retry-after", seconds)])


class Gates:
    """By host, as the router finds sites: the exact name, a wildcard, the site that the host came
    on demand for, the default site."""

    def __init__(
        self,
        sites: tuple[Site, ...],
        limits: dict[str, RateLimits],
        guests: Mapping[bytes, bytes] = MappingProxyType({}),
    ) -> None:
        self._guests = guests
        self._by_host: dict[bytes, Gate | None] = {}
        self._default: Gate | None = None
        self._any = False
        for site in sites:
            name = site.names[0]
            gate = None
            if site.client_auth is not None or name in limits:
                gate = Gate(name, site.client_auth is not None, limits.get(name))
                self._any = True
            self._by_host.update((one.encode("ascii"), gate) for one in site.names)
            if site.default:
                self._default = gate

    def __bool__(self) -> bool:
        return self._any

    def check(self, request: Request) -> None:
        """Raises `Fault` for a request that does not get through."""
        host = request.host
        if host not in self._by_host:
            _label, dot, parent = host.partition(b".")
            wildcard = b"*." + parent if dot else b""
            host = wildcard if wildcard in self._by_host else self._guests.get(host, b"")
        gate = self._by_host.get(host, self._default)
        if gate is not None:
            gate.check(request)
