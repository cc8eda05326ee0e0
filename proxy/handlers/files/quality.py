"""How much a client wants what an element of Accept or Accept-Encoding names. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

_QUALITY = re.compile(rb"(?:0(?:\.\d{0,3})?|1(?:\.0{0,3})?)")


def quality_of(parameters: Iterable[bytes]) -> float:
    """The weight (RFC 9110 §12.4.2), from 0 to 1: 1 where none is given, 0 for a malformed one."""
    for parameter in parameters:
        name, _, value = parameter.partition(b"=")
        if name.strip() == b"q":
            value = value.strip()
            return float(value) if _QUALITY.fullmatch(value) else 0.0
    return 1.0
