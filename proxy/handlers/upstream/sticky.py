"""Clients that stay with the backend that they got first, by a cookie.

The cookie names the backend by a hash of its URL: the same on every worker and machine, and nothing
about where it is. A backend that is out loses its clients to another one, which then binds them.
"""

from __future__ import annotations

import hashlib

from ...config import model
from ...protocol.message import Request, Response
from .backend import Backend
from .cookies import cookie_value


def sticky_id(backend: model.Backend) -> bytes:
    """What the cookie says for a backend."""
    return hashlib.blake2b(backend.url.encode(), digest_size=6).hexdigest().encode("ascii")


class StickyCookie:
    def __init__(self, settings: model.StickyCookie, backends: list[Backend]) -> None:
        self._name = settings.name.encode("ascii")
        self._same_site = settings.same_site.capitalize().encode("ascii")
        self._ids = {one: sticky_id(one.config) for one in backends}
        self._by_id = {identity: one for one, identity in self._ids.items()}

    def bound(self, request: Request) -> Backend | None:
        """The backend that the request's cookie names, if it names one."""
        return self._by_id.get(cookie_value(request, self._name) or b"")

    def bind(self, request: Request, response: Response, backend: Backend) -> None:
        """Add the cookie to the response, unless the client has it already."""
        identity = self._ids[backend]
        if cookie_value(request, self._name) == identity:
            return
        value = b"%b=%b; Path=/; HttpOnly; Secure; SameSite=%b" % (
            self._name,
            identity,
            self._same_site,
        )
        response.add_field(b"set-cookie", value)
