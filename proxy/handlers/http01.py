"""HTTP-01 (RFC 8555 §8.3): the key authorization, for exactly that token on exactly that host.

Nothing of the request is ever reflected: an unknown token, another host's token, a token after its
validation, and anything behind the token are all the same 404. One exception is there for a machine
that has lost touch with its cluster: while the certifier says so, a token of the right form at a
host of ours is answered by itself and the account's thumbprint (`put` of `ANY`).
"""

from __future__ import annotations

import re
from collections.abc import Callable

from acme_client.link import ANY

from ..errors import Fault
from ..protocol.message import Request, Response

PREFIX = b"/.well-known/acme-challenge/"
# At least 128 bits in base64url (RFC 8555 §8.3).
_TOKEN = re.compile(rb"[A-Za-z0-9_-]{22,256}")


class Http01Handler:
    """Answers with the tokens in force, of which the supervisor tells."""

    def __init__(self) -> None:
        self._known: dict[tuple[bytes, bytes], bytes] = {}
        self._thumbprint = b""  # of the account, while unknown tokens are answered by it
        self.is_ours: Callable[[bytes], bool] = lambda host: False
        """Whether a host is one of the server's; for unknown tokens."""

    def put(self, host: str, token: str, key_authorization: str) -> None:
        """Answer this token on this host from now on. `ANY` token: every one on our hosts."""
        if token == ANY:
            self._thumbprint = key_authorization.encode("ascii")
            return
        self._known[host.encode("ascii"), token.encode("ascii")] = key_authorization.encode("ascii")

    def remove(self, host: str, token: str) -> None:
        """Answer it no more."""
        if token == ANY:
            self._thumbprint = b""
            return
        self._known.pop((host.encode("ascii"), token.encode("ascii")), None)

    def handle(self, request: Request) -> Response:
        """The key authorization. Raises `Fault` (not_found, method_not_allowed)."""
        token = request.target[len(PREFIX) :]
        answer = self._known.get((request.host, token))
        if answer is None and self._thumbprint:
            answer = self._stateless(request.host, token)
        if answer is None:
            raise Fault("not_found", "unknown challenge token")
        if request.method not in (b"GET", b"HEAD"):
            raise Fault("method_not_allowed", fields=[(b"allow", b"GET, HEAD")])
        fields = [(b"content-type", b"application/octet-stream")]
        return Response(200, fields, answer, handler="challenge")

    def _stateless(self, host: bytes, token: bytes) -> bytes | None:
        if not _TOKEN.fullmatch(token) or not self.is_ours(host):
            return None
        return token + b"." + self._thumbprint
