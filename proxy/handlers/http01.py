"""HTTP-01 (RFC 8555 §8.3): the key authorization, for exactly that token on exactly that host.

Nothing of the request is ever reflected: an unknown token, another host's token, a token after its
validation, and anything behind the token are all the same 404.
"""

from __future__ import annotations

from ..errors import Fault
from ..protocol.message import Request, Response

PREFIX = b"/.well-known/acme-challenge/"


class Http01Handler:
    """Answers with the tokens in force, of which the supervisor tells."""

    def __init__(self) -> None:
        self._known: dict[tuple[bytes, bytes], bytes] = {}

    def put(self, host: str, token: str, key_authorization: str) -> None:
        """Answer this token on this host from now on."""
        self._known[host.encode("ascii"), token.encode("ascii")] = key_authorization.encode("ascii")

    def remove(self, host: str, token: str) -> None:
        """Answer it no more."""
        self._known.pop((host.encode("ascii"), token.encode("ascii")), None)

    def handle(self, request: Request) -> Response:
        """The key authorization. Raises `Fault` (not_found, method_not_allowed)."""
        answer = self._known.get((request.host, request.target[len(PREFIX) :]))
        if answer is None:
            raise Fault("not_found", "unknown challenge token")
        if request.method not in (b"GET", b"HEAD"):
            raise Fault("method_not_allowed", fields=[(b"allow", b"GET, HEAD")])
        fields = [(b"content-type", b"application/octet-stream")]
        return Response(200, fields, answer, handler="challenge")
