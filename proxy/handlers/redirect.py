"""Redirects: a target with places to fill in (see `config.patterns`), and a status.

``{path}`` is the request's path with its leading slash, ``{rest}`` what the route's asterisk took
of it, ``{host}`` the host without its port, ``{query}`` the query without its question mark. The
query is kept: where ``{query}`` stands, else at the end of a target that has none of its own.

What comes from the request is decoded, understood as the router understands it, and encoded anew,
so that no spelling of it (``//evil``, ``/\\evil``) can lead the Location to another host.
"""

from __future__ import annotations

import re
from urllib.parse import quote_from_bytes

from ..config.model import RedirectAction
from ..errors import Fault
from ..protocol.message import Request, Response
from ..protocol.paths import understood

_PATH_SAFE = "/!$&'()*+,;=:@-._~"  # RFC 3986 §3.3: pchar and the slash
# §3.4: pchar, slash and question mark. Percent signs stay, for a query is passed on undecoded.
_QUERY_UNSAFE = re.compile(rb"[^A-Za-z0-9/?!$&'()*+,;=:@\-._~%]")
_PLACE = re.compile(r"\{(rest|path|query|host)\}")


class Redirect:
    def __init__(self, action: RedirectAction) -> None:
        self._target, hash_sign, fragment = action.target.partition("#")
        self._fragment = hash_sign + fragment
        self._status = action.status
        self._keeps_query = "?" not in self._target and "{query}" not in action.target

    def handle(self, request: Request) -> Response:
        """The answer; `Fault` "bad_path" for a path that can be understood in two ways."""
        location = self.location(request.path, request.query, request.host, request.matched)
        return Response(self._status, [(b"location", location)], handler="redirect")

    def location(self, path: bytes, query: bytes, host: bytes, matched: bytes) -> bytes:
        """``matched`` is the prefix whose asterisk took the rest of the path."""
        clear = understood(path)
        if not clear.startswith(b"/"):
            raise Fault("bad_path", "a redirect needs a path, and not *")
        given_query = _QUERY_UNSAFE.sub(lambda found: b"%%%02X" % found[0][0], query).decode()
        values = {
            "rest": quote_from_bytes(clear.removeprefix(matched), _PATH_SAFE),
            "path": quote_from_bytes(clear, _PATH_SAFE),
            "host": (b"[%b]" % host if b":" in host else host).decode("ascii"),
            "query": given_query,
        }

        def fill(text: str) -> str:
            return _PLACE.sub(lambda place: values[place[1]], text)

        location = fill(self._target)
        if not query:
            location = location.removesuffix("?")
        elif self._keeps_query:
            location += f"?{given_query}"
        if location.startswith("//"):  # "/{path}": two slashes would name another host
            location = "/" + location.lstrip("/")
        return (location + fill(self._fragment)).encode("ascii")
