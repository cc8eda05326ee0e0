"""Which route takes a request, where routes ask for more than a path. Pure.

Routes are tried from the most specific path on, among equal paths in their order; a route whose
condition (`conditions`) the request does not fulfil is as if it were not there. So there is a
`Router` for each set of routes that are there, which makes all its promises: however a path is
spelt, it takes the same route, or none. A site whose routes have no conditions has a plain `Router`
and pays nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..bounded_cache import remember
from ..protocol.message import Request
from .filters import Chain
from .router import Refusing, RequestRouter, Route, Router

# Sets of routes whose router is remembered, per site; requests of a site are of fewer kinds.
_MOST_SETS = 64


def router_of(routes: Sequence[Route], chain: Chain | None = None) -> RequestRouter:
    """The router of a site. ``chain`` are the filters of requests that no route takes."""
    if any(route.condition is not None for route in routes):
        return ConditionalRouter(routes, chain)
    return Router(routes, chain)


class ConditionalRouter:
    """The routes of one site, some of which have a condition."""

    def __init__(self, routes: Sequence[Route], chain: Chain | None = None) -> None:
        self._routes = tuple(routes)
        self._chain = chain
        self._routers: dict[frozenset[int], Router] = {}  # bounded

    def find(self, request: Request) -> Route:
        """The route of a request, as `Router.find`. Where routes take it but for its method, the
        route is one that says so (405)."""
        fitting = [
            number
            for number, route in enumerate(self._routes)
            if route.condition is None or route.condition.matches(request)
        ]
        taking = [number for number in fitting if self._takes_method(number, request)]
        router = self._router(frozenset(taking))
        found = router.find(request)
        if found is not router.none or len(taking) == len(fitting):
            return found
        allowed: dict[bytes, None] = {}
        chain = None
        for number in fitting:
            alone = self._router(frozenset((number,)))
            other = alone.find(request)
            if other is not alone.none and not isinstance(other.handler, Refusing):
                condition = other.condition
                allowed |= dict.fromkeys(condition.methods if condition is not None else ())
                chain = chain or other.chain
        request.matched = b"/"
        if not allowed:
            return found
        fields = [(b"allow", b", ".join(allowed))]
        refusing = Refusing("method_not_allowed", "no route takes this method here", fields)
        return Route("", refusing, chain or self._chain)

    def _takes_method(self, number: int, request: Request) -> bool:
        condition = self._routes[number].condition
        return condition is None or condition.takes_method(request)

    def _router(self, numbers: frozenset[int]) -> Router:
        made = self._routers.get(numbers)
        if made is None:
            made = Router([self._routes[number] for number in sorted(numbers)], self._chain)
            remember(self._routers, numbers, made, _MOST_SETS)
        return made
