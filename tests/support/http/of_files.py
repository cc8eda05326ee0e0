"""Requests for a document root, and what is in the responses of `handlers.files`."""

from __future__ import annotations

import os

from proxy.handlers.files.pieces import Pieces
from proxy.protocol.message import Connection, FileBody, Request, Response


def request(target: bytes, method: bytes = b"GET", **fields: str) -> Request:
    connection = Connection("192.0.2.1", 1, "192.0.2.2", 443)
    spelt = [(name.replace("_", "-").encode(), value.encode()) for name, value in fields.items()]
    return Request(method, target, b"1.1", b"a", b"a", spelt, connection)


def body(response: Response) -> bytes:
    """The body, whose file is released."""
    found = response.body
    if isinstance(found, FileBody):
        data = os.pread(found.fd, found.length, found.offset)
        found.release()
        return data
    if isinstance(found, Pieces):
        pieces = []
        while piece := found.read_now():
            pieces.append(piece)
        return b"".join(pieces)
    assert isinstance(found, bytes)
    return found


def field(response: Response, name: str) -> str | None:
    """The first value of a field."""
    return next((value.decode() for key, value in response.fields if key == name.encode()), None)
