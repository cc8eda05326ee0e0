"""What a client wants to read, by its Accept field (RFC 9110 §12.5.1). Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ...protocol.message import Request

_QUALITY = re.compile(r"(?:0(?:\.\d{0,3})?|1(?:\.0{0,3})?)")
_LONGEST = 2048  # of Accept; what stands behind that is nobody's wish
HTML = "text/html"
XHTML = "application/xhtml+xml"
JSON = "application/json"


class Accept:
    """The wishes of a request. ``given``: whether it has any."""

    def __init__(self, values: Iterable[bytes]) -> None:
        self._qualities: dict[str, float] = {}
        text = b",".join(values)[:_LONGEST].decode("latin-1").lower()
        for element in text.split(","):
            kind, *parameters = (part.strip() for part in element.split(";"))
            if "/" in kind:
                self._qualities[kind] = max(_quality(parameters), self._qualities.get(kind, 0.0))
        self.given = bool(self._qualities)

    def named(self, kind: str) -> float:
        """How much a media type is wanted that is named, or whose family is; 0 where neither is."""
        family = f"{kind.partition('/')[0]}/*"
        return self._qualities.get(kind, self._qualities.get(family, 0.0))

    def quality(self, kind: str) -> float:
        """How much a media type is wanted, from 0 to 1."""
        if not self.given:
            return 1.0
        family = f"{kind.partition('/')[0]}/*"
        for one in (kind, family, "*/*"):
            if one in self._qualities:
                return self._qualities[one]
        return 0.0


def accept_of(request: Request) -> Accept:
    """The wishes of a request."""
    return Accept(value for name, value in request.fields if name == b"accept")


def _quality(parameters: Iterable[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            value = value.strip()
            return float(value) if _QUALITY.fullmatch(value) else 0.0
    return 1.0
