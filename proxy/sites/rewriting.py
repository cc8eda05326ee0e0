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

from collections.abc import Awaitable
from urllib.parse import quote

from ..bounded_cache import LONGEST_KEY, remember
from ..config.syntax.patterns import PLACE
from ..errors import Fault
from ..protocol.message import Handler, Request, Response
from ..protocol.paths import below, in_order
from ..protocol.rewritten import Rewritten

_MOST_PATHS = 4096
_QUERY = b"{query}"  # no other part of a query has a brace
# The path, the parts of its query (None: the client's own), the prefix that a backend is told of.
_Made = tuple[bytes, tuple[bytes, ...] | None, bytes]
# RFC 3986 §3.3, without what separates parameters; percent signs are encodings already.
_IN_A_QUERY = "/:@!$'()*,-._~%"


class Rewriting:
    """``strip``: the prefix that the route's asterisk stands behind is left out. ``template``: the
    path that is asked for instead, None to leave it."""

    def __init__(self, handler: Handler, strip: bool, template: str | None) -> None:
        self.handler = handler
        self._strip = strip
        self._template, question_mark, query = (template or "{path}").partition("?")
        # Literal text and names of places by turns.
        self._query = PLACE.split(query) if question_mark else None
        self._asks_query = "{query}" in self._template
        self._made: dict[tuple[bytes, bytes, bytes, bytes], _Made] = {}

    def handle(self, request: Request) -> Response | Awaitable[Response]:
        """The response of the handler. Raises `Fault` ("bad_path") for a path that cannot be
        rewritten safely."""
        return self.handler.handle(self.rewritten(request))

    def rewritten(self, request: Request) -> Request:
        """The request that the handler gets."""
        path = request.path
        if not path.startswith(b"/"):
            return request  # OPTIONS *
        in_path = request.query if self._asks_query else b""
        key = path, request.matched, request.host, in_path
        made = self._made.get(key)
        if made is None:
            made = self._make(*key)
            if len(path) + len(in_path) <= LONGEST_KEY:
                remember(self._made, key, made, _MOST_PATHS)
        path, filled, stripped = made
        if filled is not None:
            query = b"".join(
                request.query if part == _QUERY else part  # the only place that is left
                for part in filled
            )
            return Rewritten(request, b"%b?%b" % (path, query.rstrip(b"&")), stripped)
        if self._asks_query or b"?" not in request.target:
            return Rewritten(request, path, stripped)
        return Rewritten(request, b"%b?%b" % (path, request.query), stripped)

    def _make(self, path: bytes, matched: bytes, host: bytes, in_path: bytes) -> _Made:
        """What does not depend on the query."""
        path, rest = _apart(path, matched)
        if self._strip:
            path = b"/" + rest
        values = {
            "path": path.decode("latin-1"),
            "rest": rest.decode("latin-1"),
            "host": host.decode("latin-1"),
            # A query that stands in the path must not end it.
            "query": quote(in_path, safe="=&%"),
        }
        made = PLACE.sub(lambda place: values[place[1]], self._template)
        new = in_order(made.encode("latin-1"))
        prefix = _spelt(matched)
        stripped = prefix.rstrip(b"/") if self._strip or not new.startswith(prefix) else b""
        return new, self._filled(values), stripped

    def _filled(self, values: dict[str, str]) -> tuple[bytes, ...] | None:
        """The query of the template, in which `_QUERY` stands for the client's; None where it has
        none."""
        if self._query is None:
            return None
        parts = []
        for number, part in enumerate(self._query):
            if number % 2 == 0:
                parts.append(part.encode("ascii"))
            elif part == "query":
                parts.append(_QUERY)
            else:
                parts.append(quote(values[part], safe=_IN_A_QUERY).encode("ascii"))
        return tuple(parts)


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
