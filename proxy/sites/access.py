"""Who gets in: the client certificates and the request rates that a site demands. Request filters.

A client certificate is asked for in the handshake, by the name that the client gave there. A
connection that was opened for another name is no way around it, even where one certificate covers
both: the request is told to come again on a connection of its own (421).

A rate counts clients by `Request.client`: behind a trusted proxy that is whom the proxy names.
"""

from __future__ import annotations

import math

from ..errors import Fault
from ..ipc.rate_buckets import RateLimits
from ..protocol.exchange import Exchange


class ClientCertificate:
    """Lets in connections whose handshake went by the rules of ``site`` (its first name)."""

    def __init__(self, site: str) -> None:
        self._site = site

    def request(self, exchange: Exchange) -> None:
        """Raise `Fault` (misdirected) for a connection that was opened for another site."""
        if exchange.connection.mtls_site != self._site:
            raise Fault("misdirected", "the site asks for a client certificate")


class RateLimit:
    """Lets in as many requests as ``limits`` allow."""

    def __init__(self, limits: RateLimits) -> None:
        self._limits = limits

    def request(self, exchange: Exchange) -> None:
        """Raise `Fault` (rate_limited) for a request that comes too early, with Retry-After."""
        assert exchange.request is not None  # noqa: S101 - filters are asked about requests
        wait = self._limits.wait(exchange.request.client)
        if wait:
            seconds = b"%d" % max(1, math.ceil(wait - 0.001))
            raise Fault("rate_limited", fields=[(b"retry-after", seconds)])
