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
from .conditions import Condition
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
        self._conditional = [
            (number, route.condition, Router([route]))
            for number, route in enumerate(routes)
            if route.condition is not None
        ]
        # By the routes whose condition is fulfilled; bounded.
        self._routers: dict[tuple[int, ...], Router] = {}

    def find(self, request: Request) -> Route:
        """The route of a request, as `Router.find`. Where routes take it but for its method, the
        route is one that says so (405)."""
        fitting = [one for one in self._conditional if one[1].matches(request)]
        taking = tuple(
            number for number, condition, _ in fitting if condition.takes_method(request)
        )
        router = self._routers.get(taking)
        if router is None:
            router = self._router(taking)
        found = router.find(request)
        if found is not router.none or len(taking) == len(fitting):
            return found
        return self._without_method([(condition, alone) for _, condition, alone in fitting],
                                    request, found)  # fmt: skip

    def _without_method(
        self, fitting: list[tuple[Condition, Router]], request: Request, none: Route
    ) -> Route:
        """The route that refuses a method, by the filters of the first one that takes the path;
        ``none`` where the path is none that they take."""
        allowed: dict[bytes, None] = {}
        chain = None
        for condition, alone in fitting:
            other = alone.find(request)
            if other is not alone.none and not isinstance(other.handler, Refusing):
                allowed |= dict.fromkeys(condition.methods)
                chain = chain or other.chain
        request.matched = b"/"
        if not allowed:
            return none
        fields = [(b"allow", b", ".join(allowed))]
        refusing = Refusing("method_not_allowed", "no route takes this method here", fields)
        return Route("", refusing, chain or self._chain)

    def _router(self, taking: tuple[int, ...]) -> Router:
        left = [
            route
            for number, route in enumerate(self._routes)
            if route.condition is None or number in taking
        ]
        made = Router(left, self._chain)
        remember(self._routers, taking, made, _MOST_SETS)
        return made
