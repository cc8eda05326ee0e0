"""Who may ask the admin listener, and who may have something done.

Every request must name this server as the configuration does (an address, localhost, or one of
``admin.names``), because a page on the web could otherwise have its visitor's browser ask under a
name that it makes resolve here (DNS rebinding). A request that a browser makes for another site's
page is refused, unless somebody has followed a link to the page itself. Logins, where there are
any, come next: they are the filters that sites have. What changes something needs all of that, a
token that only the page can read, and a content type that no form can send.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress

from ...config.model import Admin
from ...errors import Fault
from ...protocol.exchange import Exchange
from ...protocol.message import Request

TOKEN_FIELD = b"x-treehouse-token"


class Access:
    """``secret`` is the same in all workers, for the life of the server."""

    def __init__(self, admin: Admin, secret: bytes) -> None:
        self._names = frozenset(name.encode("ascii") for name in admin.names)
        self._by_certificate = admin.client_auth is not None
        self.token = (
            hmac.digest(secret, b"admin actions", hashlib.sha256).hex() if admin.actions else None
        )

    def check(self, exchange: Exchange, request: Request) -> None:
        """Raise `Fault` for a request that another site's page may have made, or that names another
        server."""
        host = request.host
        if self._names:
            # The certificate was chosen by the name in the handshake, and so were its rules.
            named = (request.connection.server_name or "").encode("ascii", "replace")
            if host not in self._names or named not in self._names:
                raise Fault("misdirected", "the admin listener is asked by its own names")
        elif not _is_address(host.decode("ascii")):
            raise Fault("misdirected", "the admin listener is asked by address")
        if self._by_certificate and not request.connection.client_certificate:
            raise Fault("forbidden", "no client certificate was shown")
        if not _same_site(request):
            raise Fault("forbidden", "another site's page asks")

    def check_action(self, request: Request) -> None:
        """Raise `Fault` unless the page itself asks for something to be done."""
        if self.token is None:
            raise Fault("forbidden", "the configuration allows no actions (admin.actions)")
        given = _only(request, TOKEN_FIELD)
        if not hmac.compare_digest(given, self.token.encode("ascii")):
            raise Fault("forbidden", "the token of the page is missing or old")
        if _only(request, b"content-type").partition(b";")[0].strip() != b"application/json":
            raise Fault("forbidden", "an action is JSON")
        if not request.field(b"origin") and request.field(b"sec-fetch-site") != b"same-origin":
            raise Fault("forbidden", "an action names its origin")


def _only(request: Request, name: bytes) -> bytes:
    values = [value for key, value in request.fields if key == name]
    return values[0] if len(values) == 1 else b""


def _same_site(request: Request) -> bool:
    """Whether a request comes from this listener's own pages, or from no page at all."""
    origins = [value for key, value in request.fields if key == b"origin"]
    own = request.connection.scheme + b"://" + request.authority.lower()
    if any(origin.lower() != own for origin in origins):
        return False
    sites = {value for key, value in request.fields if key == b"sec-fetch-site"}
    if sites <= {b"same-origin", b"none"}:
        return True
    # A link that somebody follows, from a chat or a wiki: the page is shown, in no frame of theirs.
    return (
        request.method == b"GET"
        and request.path == b"/"
        and _only(request, b"sec-fetch-mode") == b"navigate"
        and _only(request, b"sec-fetch-dest") == b"document"
    )


def _is_address(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
