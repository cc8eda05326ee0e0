"""HTTP-01 (RFC 8555 §8.3): the key authorization, for exactly that token on exactly that host.

Nothing of the request is ever reflected: an unknown token, another host's token, a token after its
validation, and anything behind the token are all the same 404. Two exceptions are there for a
machine of a cluster. While it has lost touch with the others, as its certifier says, a token of the
right form at a host of ours is answered by itself and the account's thumbprint (`put` of `ANY`).
And while its certifier has not heard yet what the others answer, or is silent itself, such a
token's 404 waits (`tls.unheard`) until the certifier has (`put` of `HEARD`); where that takes long,
the thumbprint answers that the certifier has given for this case (`put` of `SPARE`).
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable

from acme_client.link import ANY, HEARD, SPARE

from ..errors import Fault
from ..protocol.message import Request, Response
from ..tls.unheard import UnheardChallenges

PREFIX = b"/.well-known/acme-challenge/"
# At least 128 bits in base64url (RFC 8555 §8.3).
_TOKEN = re.compile(rb"[A-Za-z0-9_-]{22,256}")
# Seconds until the spare thumbprint answers. CAs wait for some ten.
_PATIENCE = 3.0


class Http01Handler:
    """Answers with the tokens in force, of which the supervisor tells; ``unheard``: whether there
    may be others."""

    def __init__(self, unheard: UnheardChallenges) -> None:
        self._unheard = unheard
        self._known: dict[tuple[bytes, bytes], bytes] = {}
        self._thumbprint = b""  # of the account, while unknown tokens are answered by it
        self._spare = b""  # the same, for those who have waited
        self.is_ours: Callable[[bytes], bool] = lambda host: False
        """Whether a host is one of the server's; for unknown tokens."""
        self.may_be_ours: Callable[[bytes], bool] = lambda host: False
        """The same, where the host may also become one on demand."""

    def put(self, host: str, token: str, key_authorization: str) -> None:
        """Answer this token on this host from now on. `ANY` token: every one on our hosts. `HEARD`:
        no others are expected than those that were put. `SPARE`: those who have waited for longer
        than others may are answered as with `ANY` token."""
        if token == HEARD:
            self._unheard.expect(on=False)
        elif token == SPARE:
            self._spare = key_authorization.encode("ascii")
        elif token == ANY:
            self._thumbprint = key_authorization.encode("ascii")
        else:
            key = host.encode("ascii"), token.encode("ascii")
            self._known[key] = key_authorization.encode("ascii")
        self._unheard.come()

    def remove(self, host: str, token: str) -> None:
        """Answer it no more."""
        if token == HEARD:
            self._unheard.expect(on=True)
            return
        if token == SPARE:
            self._spare = b""
            return
        if token == ANY:
            self._thumbprint = b""
            return
        self._known.pop((host.encode("ascii"), token.encode("ascii")), None)

    def handle(self, request: Request) -> Response | Awaitable[Response]:
        """The key authorization. Raises `Fault` (not_found, method_not_allowed)."""
        host, token = request.host, request.target[len(PREFIX) :]
        answer = self._find(host, token)
        waits = answer is None and self._unheard.expected and _TOKEN.fullmatch(token)
        if waits and self.may_be_ours(host):
            return self._later(request, host, token)
        return self._answered(request, answer)

    async def _later(self, request: Request, host: bytes, token: bytes) -> Response:
        """The response once it is known what there is to answer."""
        within = _PATIENCE if self._spare else None
        answer = await self._unheard.wait_for(lambda: self._find(host, token), within)
        if answer is None and self._unheard.expected:
            answer = self._stateless(host, token, self._spare)
        return self._answered(request, answer)

    def _answered(self, request: Request, answer: bytes | None) -> Response:
        if answer is None:
            raise Fault("not_found", "unknown challenge token")
        if request.method not in (b"GET", b"HEAD"):
            raise Fault("method_not_allowed", fields=[(b"allow", b"GET, HEAD")])
        fields = [(b"content-type", b"application/octet-stream")]
        return Response(200, fields, answer, handler="challenge")

    def _find(self, host: bytes, token: bytes) -> bytes | None:
        answer = self._known.get((host, token))
        return self._stateless(host, token, self._thumbprint) if answer is None else answer

    def _stateless(self, host: bytes, token: bytes, thumbprint: bytes) -> bytes | None:
        if not thumbprint or not _TOKEN.fullmatch(token) or not self.is_ours(host):
            return None
        return token + b"." + thumbprint
