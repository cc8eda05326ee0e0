"""Content-Type by file name. Pure.

A table of our own (`media_type_table`), so that the answer does not depend on what the machine has
in /etc/mime.types. Text is UTF-8, as everything written this century is.
"""

from __future__ import annotations

from .media_type_table import TABLE

UNKNOWN = b"application/octet-stream"


def _table() -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    for top, subtypes in TABLE.items():
        parameter = b"; charset=utf-8" if top == "text" else b""
        for entry in subtypes.split():
            subtype, _, extensions = entry.rpartition("=")
            kind = f"{top}/{subtype}".encode("ascii") + parameter
            found.update((one.encode("ascii"), kind) for one in extensions.split(","))
    return found


_TABLE = _table()


def content_type(name: bytes) -> bytes:
    """The value of Content-Type for a file of that name."""
    _stem, dot, extension = name.rpartition(b"/")[2].rpartition(b".")
    return _TABLE.get(extension.lower(), UNKNOWN) if dot else UNKNOWN
