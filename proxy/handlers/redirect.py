"""Redirects: a target with places to fill in (see `config.syntax.patterns`), and a status.

``{path}`` is the request's path with its leading slash, ``{rest}`` what the route's asterisk took
of it, ``{host}`` the host without its port, ``{query}`` the query without its question mark. The
query is kept: where ``{query}`` stands, else at the end of a target that has none of its own.

Path and query go into the Location as they came, with every ``%2F``, ``//`` and lone ``?``: what
they mean is for whoever answers there. Only what no URL may hold is percent-encoded, a backslash
among it, and a Location that begins with a slash begins with one alone: no spelling of a path
(``//evil``, ``/\\evil``) leads to another host.
"""

from __future__ import annotations

import re

from ..config.model import RedirectAction
from ..config.syntax.patterns import PLACE
from ..errors import Fault
from ..protocol.message import Request, Response
from ..protocol.paths import below, one_slash, sendable

# RFC 3986 §3.4: pchar, slash and question mark. Percent signs stay, for a query is passed on as it
# came.
_QUERY_UNSAFE = re.compile(rb"[^A-Za-z0-9/?!$&'()*+,;=:@\-._~%]")


class Redirect:
    def __init__(self, action: RedirectAction) -> None:
        self._target, hash_sign, fragment = action.target.partition("#")
        self._fragment = hash_sign + fragment
        self._status = action.status
        self._keeps_query = "?" not in self._target and "{query}" not in action.target

    def handle(self, request: Request) -> Response:
        """The response; `Fault` "bad_path" for a request that has no path (OPTIONS *)."""
        query = request.query if b"?" in request.target else None
        location = self.location(request.path, query, request.host, request.matched)
        return Response(self._status, [(b"location", location)], handler="redirect")

    def location(self, path: bytes, query: bytes | None, host: bytes, matched: bytes) -> bytes:
        """The value of Location. ``query`` is None where the target has no question mark;
        ``matched`` is the prefix (decoded) whose asterisk took the rest of the path."""
        if not path.startswith(b"/"):
            raise Fault("bad_path", "a redirect needs a path, and not *")
        rest = below(path, matched)  # the whole path where the prefix ends within, say, a %2F
        given_query = _QUERY_UNSAFE.sub(lambda found: b"%%%02X" % found[0][0], query or b"")
        values = {
            "rest": sendable(path[1:] if rest is None else rest).decode("ascii"),
            "path": sendable(path).decode("ascii"),
            "host": (b"[%b]" % host if b":" in host else host).decode("ascii"),
            "query": given_query.decode("ascii"),
        }

        def fill(text: str) -> str:
            return PLACE.sub(lambda place: values[place[1]], text)

        location = fill(self._target)
        if query is None:
            location = location.removesuffix("?")
        elif self._keeps_query:
            location += f"?{values['query']}"
        return one_slash((location + fill(self._fragment)).encode("ascii"))
