"""Fills what a request says into a text that an operator wrote: ``{host}``, ``{client}``, … Pure.

What is filled in comes from a request that a strict parser has accepted, and is visible ASCII
without blanks. Bytes that are not are left out all the same: nothing here may split a message.
"""

from __future__ import annotations

import secrets

from ..config.syntax.field_rules import PLACE
from .message import Request


def filled(text: str, request: Request | None) -> bytes:
    """The text with its places filled in; empty ones where there is no request."""
    return PLACE.sub(lambda place: _of_request(place[1], request), text).encode("ascii")


def _of_request(place: str, request: Request | None) -> str:
    if request is None:
        return ""
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
    return "".join(chr(byte) for byte in found if 0x20 < byte < 0x7F)
