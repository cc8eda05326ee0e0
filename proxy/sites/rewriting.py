"""Asks a handler for another path than the client did: `strip_prefix` and `rewrite`. Pure.

It stands between the filters of a route and its handler, and changes nothing but path and query:
the host, and with it the site, stays what it was.

Why it is hard: the prefix is taken off the path that the router compared, and what is left must
mean to the handler what it meant here. So the path is put in order first (`paths.in_order`): empty
segments and dots are gone, and a path that any program might read as leading upwards is refused.
Nothing that a placeholder brings can then lead out of what the operator wrote before it. Everything
else keeps its spelling, encoded slashes included, because signatures and names may depend on it.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable
from urllib.parse import quote

from ..bounded_cache import remember
from ..errors import Fault
from ..protocol.message import Handler, Request, Response
from ..protocol.paths import below, in_order
from ..protocol.rewritten import Rewritten

_PLACE = re.compile(r"\{(rest|path|query|host)\}")
_MOST_PATHS = 4096
# RFC 3986 §3.3, without what separates parameters; percent signs are encodings already.
_IN_A_QUERY = "/:@!$'()*,-._~%"


class Rewriting:
    """``strip``: the prefix that the route's asterisk stands behind is left out. ``template``: the
    path that is asked for instead, None to leave it."""

    def __init__(self, handler: Handler, strip: bool, template: str | None) -> None:
        self.handler = handler
        self._strip = strip
        self._path, question_mark, self._query = (template or "").partition("?")
        self._whole = template is not None
        self._keeps_query = not question_mark
        # By path as it was sent and prefix of the route: the path in order, and its rest.
        self._taken: dict[tuple[bytes, bytes], tuple[bytes, bytes]] = {}

    def handle(self, request: Request) -> Response | Awaitable[Response]:
        """The response of the handler. Raises `Fault` ("bad_path") for a path that cannot be
        rewritten safely."""
        return self.handler.handle(self.rewritten(request))

    def rewritten(self, request: Request) -> Request:
        """The request that the handler gets."""
        if not request.path.startswith(b"/"):
            return request  # OPTIONS *
        matched = request.matched
        taken = self._taken.get((request.path, matched))
        if taken is None:
            taken = _apart(request.path, matched)
            remember(self._taken, (request.path, matched), taken, _MOST_PATHS)
        path, rest = taken
        if self._strip:
            path = b"/" + rest
        query = request.query if b"?" in request.target else None
        if self._whole:
            path, query = self._filled(path, rest, query, request.host)
        target = path if query is None else b"%b?%b" % (path, query)
        prefix = _spelt(matched)
        left_out = self._strip or not path.startswith(prefix)
        return Rewritten(request, target, prefix.rstrip(b"/") if left_out else b"")

    def _filled(
        self, path: bytes, rest: bytes, query: bytes | None, host: bytes
    ) -> tuple[bytes, bytes | None]:
        """Path and query as the template has them."""
        values = {
            "path": path.decode("latin-1"),
            "rest": rest.decode("latin-1"),
            "query": (query or b"").decode("latin-1"),
            "host": host.decode("latin-1"),
        }
        # A query that stands in the path must not end it.
        in_path = values | {"query": quote(values["query"], safe="=&%")}
        made = _PLACE.sub(lambda place: in_path[place[1]], self._path)
        path = in_order(made.encode("latin-1"))
        if self._keeps_query:
            return path, None if "{query}" in self._path else query
        in_query = {name: quote(value, safe=_IN_A_QUERY) for name, value in values.items()}
        in_query["query"] = values["query"]
        asked = _PLACE.sub(lambda place: in_query[place[1]], self._query)
        if not values["query"]:
            asked = asked.rstrip("&")
        return path, asked.encode("latin-1")


def _apart(path: bytes, matched: bytes) -> tuple[bytes, bytes]:
    """The path in order, and what follows the prefix of the route. Raises `Fault` ("bad_path")."""
    path = in_order(path)
    rest = below(path, matched)
    if rest is None:
        raise Fault("bad_path", f"the prefix of {path[:64]!r} ends within something ambiguous")
    return path, rest


def _spelt(prefix: bytes) -> bytes:
    """A decoded prefix as a URL has it."""
    return quote(prefix, safe="/:@!$&'()*+,;=-._~").encode("ascii")
