"""Asks a login service whether a request may come in: the subrequest of `forward_auth`.

The service is a backend like any other, with a pool and counters of its own. It is asked with GET
for one path, with the fields of the request and none of its body. What the request itself asks for
is told in fields: X-Forwarded-Method, X-Forwarded-Uri, -Host, -Proto and -For (Traefik, Caddy;
Authelia, authentik, tinyauth), X-Original-URL and X-Original-Method (nginx; authentik, Authelia),
X-Original-URI (ingress-nginx). A client's own fields of these names are dropped, as everywhere.

What must not reach the service: conditions and ranges, whose answer would be about the service's
own page; the body's length; and who the user is, of which the service is to be asked.
"""

from __future__ import annotations

import asyncio

from ...config.schema.access import ForwardAuth
from ...errors import Blame, Fault
from ...protocol.message import Fields, FileBody, Request, Response, Tunnel
from .handler import Upstream
from .request_body import Payload

# What the service is told of the request by us alone. A trusted proxy passes on what its clients
# say under these names, and a service that takes the first of two would judge another request.
_TOLD = frozenset(
    {
        b"x-forwarded-method",
        b"x-forwarded-uri",
        b"x-original-method",
        b"x-original-uri",
        b"x-original-url",
        b"x-rewrite-url",
    }
)
# About the content of an answer or the body of a request, neither of which this is.
_LEFT_OUT = _TOLD | frozenset(
    {
        b"if-match",
        b"if-modified-since",
        b"if-none-match",
        b"if-range",
        b"if-unmodified-since",
        b"range",
        b"content-encoding",
        b"content-type",
        b"digest",
        b"content-digest",
        b"repr-digest",
        b"trailer",
    }
)
# What a service that lets in says beside its fields is read to this length, so that the connection
# can be used again; in bytes.
_WORTH_READING = 64 * 1024
# The service's own bounds are looked at four times a second.
_GRACE = 1.0
# A service reads these to learn who comes, whatever is copied from its answer.
_PROOFS = frozenset({b"authorization", b"cookie"})


class _About(Payload):
    """What a service is told of the request, behind the fields that came with it."""

    def __init__(self, request: Request) -> None:
        target = b"/" if request.target == b"*" else request.target
        scheme, host, method = request.connection.scheme, request.authority, request.method
        self.framing = (
            b"x-forwarded-method: %b\r\nx-forwarded-uri: %b\r\nx-original-method: %b\r\n"
            b"x-original-url: %b://%b%b\r\nx-original-uri: %b\r\n"
            % (method, target, method, scheme, host, target, target)
        )


class _Question(Request):
    """What a service is asked. Where it cannot be, the log names the client's request."""

    __slots__ = ("about",)

    about: Request

    @property
    def original(self) -> Request:
        return self.about.original


class ServiceQuestion:
    """What a service is asked, by a rule. ``copied``: names of fields that say who the user is,
    which no client can tell it. ``left_out`` are all that it is not told."""

    def __init__(self, rule: ForwardAuth, copied: frozenset[bytes]) -> None:
        self._target = rule.url.target.encode("ascii")
        self.left_out = _LEFT_OUT | (copied - _PROOFS)

    @staticmethod
    def lines(request: Request) -> bytes:
        """The lines that the head of the subrequest gets beside those of any request."""
        return _About(request).framing

    def subrequest(self, request: Request) -> Request:
        """The request that is sent to the service, but for `lines`."""
        asked = _Question(
            b"GET", self._target, b"1.1", request.authority, request.host,
            self._passed_on(request.fields), request.connection,
        )  # fmt: skip
        asked.about = request
        block = request.cached_fields
        if block is not None and self.left_out.isdisjoint(block.names):
            asked.uncached_fields = self._passed_on(request.uncached_fields)
            asked.cached_fields = block
        asked.id = request.id
        if hasattr(request, "trace"):
            asked.trace = request.trace
        return asked

    def _passed_on(self, fields: Fields) -> Fields:
        left_out = self.left_out
        return [field for field in fields if field[0].replace(b"_", b"-") not in left_out]


class LoginService:
    """Who is asked; ``question`` is what."""

    def __init__(self, rule: ForwardAuth, upstream: Upstream, question: ServiceQuestion) -> None:
        self._upstream = upstream
        upstream.purpose = "forward_auth"
        self._timeout = rule.timeout + _GRACE
        self.question = question

    async def ask(self, request: Request, subrequest: Request) -> Response:
        """The service's answer; whoever calls ends its body. Raises `Fault`."""
        try:
            async with asyncio.timeout(self._timeout):
                return await self._upstream.ask(subrequest, _About(request))
        except TimeoutError:
            raise Fault("auth_timeout", "the answer took too long") from None
        except Fault as fault:
            raise _translated(fault) from None
        finally:
            request.backend = subrequest.backend
            request.id = subrequest.id


def _translated(fault: Fault) -> Fault:
    if fault.what.blame is not Blame.BACKEND:
        return fault
    kind = "auth_timeout" if fault.kind == "backend_timeout" else "auth_refused"
    made = Fault(kind, fault.detail)
    made.backend = fault.backend
    return made


async def end(response: Response) -> None:
    """End an answer of which nothing more is needed, so that its connection can be used again."""
    body = response.body
    if isinstance(body, bytes):
        return
    if isinstance(body, FileBody | Tunnel):
        response.discard()
        return
    left, complete = _WORTH_READING, False
    try:
        async with asyncio.timeout(_GRACE):
            while left > 0:
                piece = await body.read(left)
                if not piece:
                    complete = True
                    break
                left -= len(piece)
    except (Fault, TimeoutError):
        return
    finally:
        body.close(complete)
