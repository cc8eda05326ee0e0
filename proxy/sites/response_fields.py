"""Fields that a site adds to all its responses. Field filters."""

from __future__ import annotations

from ..config.model import Hsts
from ..protocol.message import Response


class StrictTransportSecurity:
    """Sets the site's Strict-Transport-Security. An application's own is replaced: a response must
    not have two (RFC 6797 §7.1), and whoever ends TLS decides."""

    def __init__(self, hsts: Hsts) -> None:
        self._value = b"max-age=%d" % int(hsts.max_age)

    def change(self, response: Response) -> None:
        response.set_field(b"strict-transport-security", self._value)
