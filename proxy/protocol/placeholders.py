"""Fills what a request says into a text that an operator wrote: ``{host}``, ``{client}``, … Pure.

What is filled in comes from a request that a strict parser has accepted, and is visible ASCII
without blanks. Bytes that are not are left out all the same: nothing here may split a message.
"""

from __future__ import annotations

import functools
import secrets

from ..config.syntax.field_rules import PLACE
from .message import Request

# Everything but visible ASCII.
_UNSEEN = bytes(byte for byte in range(256) if not 0x20 < byte < 0x7F)


def filled(text: str, request: Request | None) -> bytes:
    """The text with its places filled in; empty ones where there is no request."""
    first, rest = _parts(text)
    if not rest:
        return first
    words = [first]
    for place, literal in rest:
        words += _of_request(place, request), literal
    return b"".join(words)


@functools.lru_cache(maxsize=4096)
def _parts(text: str) -> tuple[bytes, tuple[tuple[str, bytes], ...]]:
    """What stands before the first place; and each place with what follows it."""
    first, *rest = PLACE.split(text)
    words = [one.encode("ascii") for one in rest[1::2]]
    return first.encode("ascii"), tuple(zip(rest[::2], words, strict=True))


def _of_request(place: str, request: Request | None) -> bytes:
    if request is None:
        return b""
    match place:
        case "host":
            found = request.host
        case "path":
            found = request.original.path
        case "query":
            found = request.original.query
        case "scheme":
            found = request.connection.scheme
        case "client":
            found = request.client.encode()
        case _:
            if not request.id:
                request.id = secrets.token_hex(8).encode()
            found = request.id
    return found.translate(None, _UNSEEN)
