"""Redirects: a target with places to fill in (see `config.patterns`), and a status.

The query is kept: where ``{query}`` stands, else at the end of a target that has none of its own.
What comes from the request is decoded, understood as the router understands it, and encoded anew,
so that no spelling of it (``//evil``, ``/\\evil``) can lead the Location to another host.
"""

from __future__ import annotations

from urllib.parse import quote_from_bytes

from ..config.model import RedirectAction
from ..protocol.message import Request, Response
from ..router import understood

_SAFE = "/!$&'()*+,;=:@-._~"  # RFC 3986 §3.3: pchar and the slash


class Redirect:
    def __init__(self, action: RedirectAction) -> None:
        self._target = action.target
        self._status = action.status
        self._keeps_query = "?" not in action.target and "{query}" not in action.target

    async def handle(self, request: Request) -> Response:
        """The answer; `Fault` "bad_path" for a path that can be understood in two ways."""
        location = self.location(request.path, request.query, request.host, request.matched)
        return Response(self._status, [(b"location", location)], handler="redirect")

    def location(self, path: bytes, query: bytes, host: bytes, matched: bytes) -> bytes:
        """``matched`` is the prefix whose asterisk took the rest of the path."""
        clear = understood(path)
        location = self._target
        for place, value in (
            ("{rest}", quote_from_bytes(clear.removeprefix(matched), _SAFE)),
            ("{path}", quote_from_bytes(clear, _SAFE)),
            ("{host}", (b"[%b]" % host if b":" in host else host).decode("ascii")),
            ("{query}", query.decode("ascii")),
        ):
            location = location.replace(place, value)
        if self._keeps_query and query:
            location += f"?{query.decode('ascii')}"
        if location.startswith("//"):
            location = "/" + location.lstrip("/")
        return location.encode("ascii")
