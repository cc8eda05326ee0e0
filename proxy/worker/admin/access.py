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


class Refused(Fault):
    """A request that the admin listener refuses. ``told`` is what its client reads: what is
    missing, and how to get it; whoever reaches this listener looks after the server."""

    def __init__(self, kind: str, detail: str, told: str) -> None:
        super().__init__(kind, detail)
        self.told = told


class Access:
    """``secret`` is the same in all workers, for the life of the server."""

    def __init__(self, admin: Admin, secret: bytes) -> None:
        self._names = frozenset(name.encode("ascii") for name in admin.names)
        self._by_certificate = admin.client_auth is not None
        self.token = (
            hmac.digest(secret, b"admin actions", hashlib.sha256).hex() if admin.actions else None
        )

    def check(self, exchange: Exchange, request: Request) -> None:
        """Raise `Refused` for a request that another site's page may have made, or that names
        another server."""
        host = request.host
        if self._names:
            # The certificate was chosen by the name in the handshake, and so were its rules.
            named = (request.connection.server_name or "").encode("ascii", "replace")
            if host not in self._names or named not in self._names:
                raise Refused(
                    "misdirected",
                    "the admin listener is asked by its own names",
                    "This is the admin listener: ask it by a name of admin.names, in the URL and "
                    "in TLS.",
                )
        elif not _is_address(host.decode("ascii")):
            raise Refused(
                "misdirected",
                "the admin listener is asked by address",
                "This is the admin listener: ask it by an address or localhost, or give it the "
                "name in admin.names.",
            )
        if self._by_certificate and not request.connection.client_certificate:
            raise Refused(
                "forbidden",
                "no client certificate was shown",
                "No client certificate was shown: take one of a CA of admin.client_auth.ca_file.",
            )
        if not _same_site(request):
            raise Refused(
                "forbidden",
                "another site's page asks",
                "Another site's page asks: open the admin page by its own address.",
            )

    def check_action(self, request: Request) -> None:
        """Raise `Refused` unless the page itself asks for something to be done."""
        if self.token is None:
            raise Refused(
                "forbidden",
                "the configuration allows no actions (admin.actions)",
                "The admin page may do nothing here: set admin.actions to true and reload, or give "
                "the command on the machine (treehouse-proxy reload, certs renew).",
            )
        given = _only(request, TOKEN_FIELD)
        if not hmac.compare_digest(given, self.token.encode("ascii")):
            what = "is not this server's" if given else "is missing, or there several times"
            raise Refused(
                "forbidden",
                "the token of the page is missing or old",
                f"The field X-Treehouse-Token {what}: load the admin page anew. A script reads the "
                'token from the first event of /events ("token"); it changes when the server is '
                "started.",
            )
        if _only(request, b"content-type").partition(b";")[0].strip() != b"application/json":
            raise Refused(
                "forbidden",
                "an action is JSON",
                "An action is JSON: send it with Content-Type: application/json.",
            )
        if not request.field(b"origin") and request.field(b"sec-fetch-site") != b"same-origin":
            own = (request.connection.scheme + b"://" + request.authority).decode(
                "ascii", "replace"
            )
            raise Refused(
                "forbidden",
                "an action names its origin",
                f"An action says where it comes from: send it with Origin: {own}.",
            )


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
