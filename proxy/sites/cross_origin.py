"""Tells browsers what scripts of other origins may do here: `cors` (the Fetch standard, §3.3).

A request filter and a response filter. A preflight (OPTIONS with Access-Control-Request-Method)
comes without cookies and logins, so it is answered here, before any login is asked for; what it
allows is decided by the rules alone. On all other answers, whoever made them, the fields of the
rules stand in place of the application's own: two values of Access-Control-Allow-Origin are none.

Why it is hard: where the answer names the origin that asked, a cache must not give it to another
one. So Vary says Origin on every answer of the route, also on those to requests without an origin.
"""

from __future__ import annotations

import re

from ..config.schema.access import Cors
from ..protocol.exchange import Exchange
from ..protocol.message import Fields, Request, Response

# Of the application: what the rules decide.
_OURS = frozenset(
    {
        b"access-control-allow-origin",
        b"access-control-allow-credentials",
        b"access-control-allow-methods",
        b"access-control-allow-headers",
        b"access-control-expose-headers",
        b"access-control-max-age",
    }
)
_VARY_OF_PREFLIGHTS = b"origin, access-control-request-method, access-control-request-headers"
# RFC 9110 §5.6.2: names of fields, as a browser lists them.
_NAMES = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~, -]{1,4096}")
_METHOD = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}")


class CrossOrigin:
    def __init__(self, rules: Cors) -> None:
        self._everybody = "*" in rules.origins
        self._origins = frozenset(one.encode() for one in rules.origins if "://*." not in one)
        # https://*.example.org: the scheme, and what follows the first label.
        self._below = tuple(
            (scheme.encode() + b"://", rest[1:].encode())
            for scheme, _, rest in (one.partition("://") for one in rules.origins)
            if rest.startswith("*.")
        )
        self._methods = b", ".join(one.encode() for one in rules.methods)
        self._headers = b", ".join(one.encode() for one in rules.headers)
        # "*" means nothing but itself in answers to requests with credentials.
        self._any_method = "*" in rules.methods
        self._any_header = "*" in rules.headers
        self._credentials = rules.credentials
        self._always: Fields = []
        if rules.credentials:
            self._always.append((b"access-control-allow-credentials", b"true"))
        self._exposed = b", ".join(one.encode() for one in rules.expose)
        self._max_age = b"%d" % int(rules.max_age)

    # Preflights

    def request(self, exchange: Exchange) -> Response | None:
        """The answer to a preflight; None for any other request."""
        request = exchange.request
        assert request is not None  # noqa: S101 - filters are asked about requests
        if request.method != b"OPTIONS":
            return None
        wanted = request.field(b"access-control-request-method")
        if wanted is None or request.field(b"origin") is None:
            return None
        response = Response(204, [(b"vary", _VARY_OF_PREFLIGHTS)], handler="cors")
        if self._allowed(request) is not None:
            response.fields += self._permissions(request, wanted)
        return response

    def _permissions(self, request: Request, wanted: bytes) -> Fields:
        """What a preflight of an allowed origin learns, but for what `response` adds."""
        methods, headers = self._methods, self._headers
        if self._any_method:
            methods = wanted if _METHOD.fullmatch(wanted) else b"GET"
        if self._any_header:
            asked = request.field(b"access-control-request-headers") or b""
            headers = asked if _NAMES.fullmatch(asked) else b""
        fields = [(b"access-control-allow-methods", methods)]
        if headers:
            fields.append((b"access-control-allow-headers", headers))
        fields.append((b"access-control-max-age", self._max_age))
        return fields

    # Every answer

    def response(self, exchange: Exchange, response: Response) -> Response:
        """The response with the fields of the rules, and Vary."""
        request = exchange.request
        allowed = None if request is None else self._allowed(request)
        if not response.shared:
            return self._changed(response, allowed)
        if allowed is None or self._everybody or allowed in self._origins:  # they are few
            return response.changed_once((self, allowed), lambda copy: self._changed(copy, allowed))
        return self._changed(response.copy(), allowed)

    def _changed(self, response: Response, allowed: bytes | None) -> Response:
        preflight = response.handler == "cors"
        fields = response.fields
        if not preflight:
            fields = [field for field in fields if field[0] not in _OURS]
        if allowed is not None:
            fields = [*fields, (b"access-control-allow-origin", allowed), *self._always]
            if self._exposed and not preflight:
                fields.append((b"access-control-expose-headers", self._exposed))
        if not self._everybody and not preflight:
            fields = _varying(fields)
        response.fields = fields
        response.cached = None
        return response

    def _allowed(self, request: Request) -> bytes | None:
        """What Access-Control-Allow-Origin says to this request; None: nothing."""
        if self._everybody:
            return b"*"
        given = [value for name, value in request.fields if name == b"origin"]
        if len(given) != 1:
            return None
        origin = given[0]
        if origin in self._origins or any(
            origin.startswith(scheme)
            and origin.endswith(rest)
            and _is_host(origin[len(scheme) : -len(rest)])
            for scheme, rest in self._below
        ):
            return origin
        return None


def _is_host(labels: bytes) -> bool:
    return bool(re.fullmatch(rb"[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_])?", labels))


def _varying(fields: Fields) -> Fields:
    """The fields with Origin in Vary, once."""
    for name, value in fields:
        if name == b"vary":
            words = [word.strip().lower() for word in value.split(b",")]
            if b"*" in words or b"origin" in words:
                return fields
    return [*fields, (b"vary", b"origin")]
