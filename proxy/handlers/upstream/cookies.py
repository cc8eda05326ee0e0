"""Cookies of requests. Pure."""

from __future__ import annotations

from ...protocol.message import Request


def cookie_value(request: Request, name: bytes) -> bytes | None:
    """The value of a cookie (RFC 6265 §4.2.1)."""
    for field, value in request.fields:
        if field == b"cookie":
            for pair in value.split(b";"):
                key, equals, content = pair.strip().partition(b"=")
                if equals and key == name:
                    return content
    return None
