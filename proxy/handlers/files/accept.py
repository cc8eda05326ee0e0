"""What a client wants to read, by its Accept field (RFC 9110 §12.5.1). Pure."""

from __future__ import annotations

from collections.abc import Iterable

from ...protocol.message import Request
from .quality import quality_of

_LONGEST = 2048  # of Accept; what stands behind that is nobody's wish
HTML = b"text/html"
XHTML = b"application/xhtml+xml"
JSON = b"application/json"


class Accept:
    """The wishes of a request. ``given``: whether it has any."""

    def __init__(self, values: Iterable[bytes]) -> None:
        self._qualities: dict[bytes, float] = {}
        text = b",".join(values)[:_LONGEST].lower()
        for element in text.split(b","):
            kind, *parameters = (part.strip() for part in element.split(b";"))
            if b"/" in kind:
                self._qualities[kind] = max(quality_of(parameters), self._qualities.get(kind, 0.0))
        self.given = bool(self._qualities)

    def named(self, kind: bytes) -> float:
        """How much a media type is wanted that is named, or whose family is; 0 where neither is."""
        family = kind.partition(b"/")[0] + b"/*"
        return self._qualities.get(kind, self._qualities.get(family, 0.0))

    def quality(self, kind: bytes) -> float:
        """How much a media type is wanted, from 0 to 1."""
        if not self.given:
            return 1.0
        family = kind.partition(b"/")[0] + b"/*"
        for one in (kind, family, b"*/*"):
            if one in self._qualities:
                return self._qualities[one]
        return 0.0


def accept_of(request: Request) -> Accept:
    """The wishes of a request."""
    return Accept(value for name, value in request.fields if name == b"accept")
