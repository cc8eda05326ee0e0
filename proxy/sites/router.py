"""Which handler answers a request of a site: by its path. Pure: a table made once, and look-ups.

An exact path beats a prefix and a longer prefix a shorter one; ``/api/*`` takes ``/api/`` and
everything below it, and not ``/api``. Of equal paths the first one counts.

Why it is hard: the router and whoever answers must understand the same path, or a route can be
dodged by spelling it differently. A site with one route for everything has nothing to dodge, and
its requests pass unread. On a site with several, paths are compared as `paths.understood` reads
them. A path that programs read differently (an encoded slash, a backslash, dot segments: see
`paths.readings`) takes a route only if every reading takes the same handler under the same filters;
then it goes to the backend as it came. Else it is refused. Routes that are answered here (files,
redirects) read the path with this very function, so one reading is enough for them.

Path parameters (``;``) are left to backends, which read them or not, but they are no way around a
filter: a path that would meet other request filters (a password, an address rule, a rate) without
its parameters is refused. Case is left to backends altogether.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol
from urllib.parse import unquote_to_bytes

from ..bounded_cache import LONGEST_KEY, remember
from ..errors import Fault
from ..protocol.message import Fields, Handler, Request, Response
from ..protocol.paths import readings, understood, without_parameters
from .conditions import Condition
from .filters import Chain, RequestFilter

# Paths whose route is remembered, per site; a site's busy ones are fewer.
_MOST_FOUND = 4096


class Route:
    """What takes the requests of some paths. ``path`` is exact, or a prefix when it ends in "/*".
    ``chain`` are the filters before and behind ``handler``; None: there are none. ``passes_on``:
    the handler gives the path to a backend as it came; ``rewrites``: but for the part before the
    asterisk. ``condition``: what else must be so of a request (`conditional_router`)."""

    __slots__ = ("chain", "condition", "handler", "passes_on", "path", "rewrites")

    def __init__(
        self,
        path: str,
        handler: Handler,
        chain: Chain | None = None,
        *,
        passes_on: bool = False,
        rewrites: bool = False,
        condition: Condition | None = None,
    ) -> None:
        self.path = path
        self.handler = handler
        self.chain = chain
        self.passes_on = passes_on
        self.rewrites = rewrites
        self.condition = condition

    @property
    def guards(self) -> tuple[RequestFilter, ...]:
        """The filters of requests before the handler."""
        return () if self.chain is None else self.chain.guards


class Refusing:
    """Answers every request with a fault."""

    def __init__(self, kind: str, detail: str = "", fields: Fields | None = None) -> None:
        self._kind = kind
        self._detail = detail
        self._fields = fields

    def handle(self, request: Request) -> Response:
        raise Fault(self._kind, self._detail, self._fields)


class RequestRouter(Protocol):
    def find(self, request: Request) -> Route:
        """The route of a request; one that refuses it where there is none."""
        ...


class Router:
    """The routes of one site. ``chain`` are the filters of requests that no route takes."""

    def __init__(self, routes: Sequence[Route], chain: Chain | None = None) -> None:
        self._only = routes[0] if len(routes) == 1 and routes[0].path == "/*" else None
        self._chain = chain
        # The route of what no route takes.
        self.none = Route("", Refusing("not_found", "no route takes this path"), chain)
        self._exact: dict[bytes, Route] = {}
        self._prefixes: list[tuple[bytes, Route]] = []
        self._found: dict[bytes, tuple[Route, bytes]] = {}  # by path as it was sent; bounded
        for route in routes:
            if route.path.endswith("/*"):
                self._prefixes.append((unquote_to_bytes(route.path[:-1]), route))
            else:
                self._exact.setdefault(unquote_to_bytes(route.path), route)
        self._prefixes.sort(key=lambda entry: len(entry[0]), reverse=True)
        whole = bool(self._prefixes) and self._prefixes[-1][0] == b"/"
        # Whatever a path means, it is the same route in all but name.
        self._uniform = whole and len({self._treatment(route, b"/") for route in routes}) == 1

    def find(self, request: Request) -> Route:
        """The route of a request, whose ``matched`` is set to the prefix of the route (decoded).
        Where no route takes it, or nobody can say which, the route is one that says so."""
        route = self._only
        if route is not None:
            return route
        found = self._found.get(request.path)
        if found is None:
            found = self._guarded(request.path, *self._look_for(request.path))
            if len(request.path) <= LONGEST_KEY:
                remember(self._found, request.path, found, _MOST_FOUND)
        route, request.matched = found
        return route

    def _guarded(self, path: bytes, route: Route, prefix: bytes) -> tuple[Route, bytes]:
        """The route, unless leaving out path parameters would be a way to or from its filters."""
        if route.passes_on:
            for plain in without_parameters(path):
                for one in readings(plain) or ():
                    if self._take(one)[0].guards != route.guards:
                        why = f"{path[:64]!r} meets other filters without its parameters"
                        return self._refused(why)
        return route, prefix

    def _look_for(self, path: bytes) -> tuple[Route, bytes]:
        try:
            clear = understood(path)
        except Fault as fault:
            return self._by_all_readings(path, None, fault.detail)
        if clear == path:
            return self._take(clear)
        return self._by_all_readings(path, clear, "")

    def _by_all_readings(self, path: bytes, clear: bytes | None, why: str) -> tuple[Route, bytes]:
        """The route that every reading takes. ``clear`` is our own reading, None where we have
        none because of ``why``."""
        found = None if clear is None else self._take(clear)
        if found is not None and not found[0].passes_on:
            return found
        several = readings(path)
        if several is None:
            if self._uniform:
                return self._prefixes[-1][1], b"/"
            return self._refused(why)
        taken = [found] if found is not None else []
        taken += [self._take(one) for one in several]
        if len({self._treatment(*one) for one in taken}) == 1:
            return taken[0]
        paths = sorted({one[0].path or "no route" for one in taken})
        why = why or f"{path[:64]!r} is read in several ways"
        return self._refused(f"{why}; by who reads it, its route is {' or '.join(paths)}")

    def _refused(self, why: str) -> tuple[Route, bytes]:
        return Route("", Refusing("bad_path", why), self._chain), b"/"

    @staticmethod
    def _treatment(route: Route, prefix: bytes) -> tuple[object, ...]:
        return route.handler, route.chain, b"" if route.passes_on and not route.rewrites else prefix

    def _take(self, path: bytes) -> tuple[Route, bytes]:
        route = self._exact.get(path)
        if route is not None:
            return route, b"/"
        for prefix, route in self._prefixes:
            if path.startswith(prefix):
                return route, prefix
        return self.none, b"/"
