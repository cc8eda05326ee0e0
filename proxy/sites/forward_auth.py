"""Lets requests in that a login service lets in: `forward_auth`. A request filter.

2xx lets in: the fields of the answer that are named in ``copy`` become the request's, in place of a
client's own. Any other answer is the answer to the request, with its redirect and its cookies. A
service that cannot be asked lets nobody in.

Why it is hard: what is remembered of a verdict must never let another request in. The service may
look at anything: the address, the path, the method, each field. So a verdict is kept by all that
the service is told, and only where the configuration says for how long.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from ..bounded_cache import remember
from ..config.schema.access import ForwardAuth
from ..errors import Fault
from ..handlers.upstream.login_service import LoginService, end
from ..protocol.exchange import Exchange
from ..protocol.message import Fields, Login, Request, Response

_MOST_REMEMBERED = 4096
# Of each request another, and nothing that a verdict could depend on.
_OF_ONE_REQUEST = frozenset({b"x-request-id", b"traceparent", b"tracestate"})
_FOR_THE_CLIENT = b"set-cookie"
# Directives that let a cache keep an answer for everybody (RFC 9111 §5.2.2).
_FOR_SHARED_CACHES = frozenset({b"public", b"s-maxage", b"proxy-revalidate"})


class LoginAnswers:
    """Marks what a login service has let out, and gives the client the cookies that it renews. A
    response filter.

    RFC 9111 §3.5 keeps answers to Authorization out of caches that many share; of a session in a
    cookie no cache knows. So an answer that says nothing of caches is ``private``; and one that is
    given cookies here is so whatever it says.
    """

    def response(self, exchange: Exchange, response: Response) -> Response:
        request = exchange.request
        if request is None or request.login is None or response.status == 101:
            return response
        if exchange.cookies:
            changed = response.copy() if response.shared else response
            for name, value in exchange.cookies:
                changed.add_field(name, value)
            return _with_cookies_kept_private(changed)
        return response.changed_once(self, _private) if response.shared else _private(response)


def _private(response: Response) -> Response:
    if not any(name == b"cache-control" for name, _ in response.fields):
        response.add_field(b"cache-control", b"private")
    return response


def _with_cookies_kept_private(response: Response) -> Response:
    """The response with a Cache-Control by which no shared cache keeps it, and with it the cookies
    of one user, whatever the handler allows (RFC 9111 §7.3)."""
    said = b",".join(value for name, value in response.fields if name == b"cache-control")
    words = [word.strip() for word in said.split(b",")]
    kept = [word for word in words if word and _directive(word) not in _FOR_SHARED_CACHES]
    if not any(word.lower() in (b"private", b"no-store") for word in kept):
        kept.insert(0, b"private")
    response.set_field(b"cache-control", b", ".join(kept))
    # RFC 9213 §2.1: what such a cache heeds in its place.
    if any(_is_targeted(name) for name, _ in response.fields):
        response.fields = [one for one in response.fields if not _is_targeted(one[0])]
        response.cached = None
    return response


def _directive(word: bytes) -> bytes:
    return word.partition(b"=")[0].strip().lower()


def _is_targeted(name: bytes) -> bool:
    return name.endswith(b"cdn-cache-control") or name == b"surrogate-control"


class _Verdict:
    """What the service says of a user whom it lets in: ``copied`` fields, of which ``user`` names
    the one with the name; as the log has that name; and what a backend is told."""

    __slots__ = ("copied", "login", "shown")

    def __init__(self, copied: Fields, user: bytes) -> None:
        name = next((value for field, value in copied if field == user), b"")
        self.copied = copied
        self.shown = name.decode("utf-8", "replace")
        visible = Login.visible(name)
        # Credentials are verified by whoever gets them, and no word of ours.
        self.login = Login(visible, [one for one in copied if one[0] != b"authorization"])


class ForwardAuthentication:
    """One for all routes with the same rule. ``now`` is monotonic seconds."""

    def __init__(
        self,
        rule: ForwardAuth,
        service: LoginService,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._service = service
        self._names = tuple(name.encode() for name in rule.copy)
        self.takes = frozenset(self._names) - {_FOR_THE_CLIENT}
        self._gives_cookies = _FOR_THE_CLIENT in self._names
        # The name of the user, where a field has it: for logs, and for applications by CGI.
        users = (one for one in self._names if one.endswith((b"-user", b"-username")))
        self._user = next(users, b"")
        self._trust_redirects = rule.trust_redirects
        self._remember_for = rule.cache
        self._now = now
        self._skipped = service.question.left_out | _OF_ONE_REQUEST
        self._key = secrets.token_bytes(32)
        self._let_in: dict[bytes, tuple[float, _Verdict]] = {}

    def request(self, exchange: Exchange) -> Awaitable[Response | None] | None:
        """None, or wait for the service: None or its answer. Raises `Fault` where it cannot be
        asked."""
        request = exchange.request
        assert request is not None  # noqa: S101 - filters are asked about requests
        if not self._remember_for:
            return self._ask(exchange, request, b"")
        mark = self._mark(request)
        known = self._let_in.get(mark)
        if known is not None and known[0] > self._now():
            self._admit(exchange, request, known[1])
            return None
        return self._ask(exchange, request, mark)

    def _mark(self, request: Request) -> bytes:
        """All that the service is told, as a keyed hash: it holds passwords and sessions."""
        connection = request.connection
        words = [
            request.method, connection.scheme, request.authority, request.target,
            connection.peer.encode(), request.client.encode(), connection.client_certificate,
        ]  # fmt: skip
        skipped = self._skipped
        for field in request.fields:
            if field[0] not in skipped:
                words += field
        # Neither names nor values hold a NUL.
        return hashlib.blake2b(b"\0".join(words), key=self._key, digest_size=32).digest()

    async def _ask(self, exchange: Exchange, request: Request, mark: bytes) -> Response | None:
        subrequest = self._service.question.subrequest(request)
        response = await self._service.ask(request, subrequest)
        if not 200 <= response.status < 300:
            return self._refusal(request, response)
        names = self.takes
        copied = [field for field in response.fields if field[0] in names]
        cookies = [field for field in response.fields if field[0] == _FOR_THE_CLIENT]
        await end(response)
        verdict = _Verdict(copied, self._user)
        if mark and not cookies:
            known = self._now() + self._remember_for, verdict
            remember(self._let_in, mark, known, _MOST_REMEMBERED)
        self._admit(exchange, request, verdict)
        if self._gives_cookies:
            exchange.cookies = cookies
        return None

    def _refusal(self, request: Request, response: Response) -> Response:
        """The service's answer, which is the answer to the request."""
        where = next((value for name, value in response.fields if name == b"location"), None)
        if where is not None and not self._trust_redirects and not _stays(where, request):
            response.discard()
            fault = Fault("auth_refused", f"it redirects to another host: {where[:128]!r}")
            fault.backend = response.backend
            raise fault
        response.handler = "auth"
        return response

    def _admit(self, exchange: Exchange, request: Request, verdict: _Verdict) -> None:
        """Give the request what the service says of its user."""
        request.replace_fields(self.takes, verdict.copied)
        request.login = verdict.login
        exchange.user = verdict.shown


def believed(rule: ForwardAuth) -> frozenset[bytes]:
    """Those of the copied fields that a backend believes without proof, so that no client may send
    them on another route of the site either."""
    names = frozenset(name.encode() for name in rule.copy)
    return names - {b"authorization", _FOR_THE_CLIENT}


def _stays(location: bytes, request: Request) -> bool:
    """Whether a redirect leads to the host that was asked, as every browser reads it."""
    text = location.decode("latin-1")
    if any(ord(character) <= 0x20 for character in text) or "\\" in text:
        return False  # browsers drop some of these and read others as a slash
    try:
        parts = urlsplit(text)
        host = parts.hostname
    except ValueError:
        return False
    if not parts.netloc:
        return not parts.scheme and not text.startswith("//")
    return parts.scheme in ("https", "") and (host or "").encode() == request.host
