"""Which filters act on which route, and in which order: the one place that knows.

On a request: client certificates, rates; then the handler. On a response: field filters. The order
is that of docs/architecture.md ("The life of a request"). Routes with the same filters share a
chain, so that what is kept with a shared response is kept once.
"""

from __future__ import annotations

from collections.abc import Callable

from ..config import model
from ..ipc.rate_buckets import RateLimits
from .access import ClientCertificate, RateLimit
from .filters import Chain, Fixed, RequestFilter, ResponseFilter
from .response_fields import StrictTransportSecurity


class Chains:
    """Makes the chains of a generation. ``rates`` makes the counters of a site's rate limits."""

    def __init__(self, tls: model.Tls, rates: Callable[[model.Site], RateLimits]) -> None:
        self._rates = rates
        self._fixed: tuple[ResponseFilter, ...] = ()
        if tls.hsts is not None:
            self._fixed = (Fixed([StrictTransportSecurity(tls.hsts)]),)
        self._made: dict[tuple[RequestFilter, ...], Chain] = {}

    def of(self, site: model.Site) -> Chain | None:
        """The chain of all routes of ``site``; None where there is nothing to filter."""
        before: list[RequestFilter] = []
        if site.client_auth is not None:
            before.append(ClientCertificate(site.names[0]))
        if site.rate_limits:
            before.append(RateLimit(self._rates(site)))
        if not before and not self._fixed:
            return None
        key = tuple(before)
        if key not in self._made:
            self._made[key] = Chain(before, self._fixed)
        return self._made[key]
