"""Bounds the bodies of a route's requests: `body_size` and `body_timeout`. A request filter."""

from __future__ import annotations

from ..config.model import Limits
from ..errors import Fault
from ..protocol.exchange import Exchange


class RequestLimits:
    """``limits`` hold for the bodies of requests in place of the server's."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits

    def request(self, exchange: Exchange) -> None:
        """Raise `Fault` (body_too_large) for a body that is known to be too large."""
        assert exchange.request is not None  # noqa: S101 - filters are asked about requests
        body = exchange.request.body
        if body is None:
            return
        body.limits = self._limits
        most = self._limits.body_size
        if most is not None and body.length is not None and body.length > most:
            raise Fault("body_too_large", f"{body.length} bytes")
