"""Reads and writes JSON documents, each an object with a ``version``.

A version is raised when a key changes its meaning; keys may be added without. So a document of a
newer version than ours is none that we understand: it is read as if it were not there, and before
ours takes its place, it is set aside under a name of its own, for the newer program's return.

Pure.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any


def write(
    document: Mapping[str, Any], version: int, encoded: Mapping[str, str] | None = None
) -> bytes:
    """Encode a document in lines, for people. Values may be dataclasses; ``encoded`` has values
    that are encoded already."""
    text = encode({"version": version, **document})
    for key, value in (encoded or {}).items():
        text = f"{text[:-1]},\n {encode(key)}: {value}}}"
    return (text + "\n").encode()


def fields(value: Any) -> dict[str, Any]:
    """Return a dataclass's fields, for an encoder that does not know it."""
    return {name: getattr(value, name) for name in value.__slots__}


# Separators, because with an indentation the library encodes in Python, which takes ten times as
# long: felt where there are thousands of certificates.
encode = json.JSONEncoder(separators=(",\n ", ": "), default=fields).encode


def encoded_list(items: Iterable[str]) -> str:
    """Join encoded items to an encoded list."""
    return "[" + ",\n ".join(items) + "]"


def read(data: bytes, version: int) -> dict[str, Any]:
    """Decode a document; empty for invalid JSON and for a version newer than ``version``. A
    document without a version counts as version 1."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(document, dict) or _version(document) > version:
        return {}
    return document


def set_aside(name: str, data: bytes, version: int) -> str | None:
    """Return the name under which a newer document is kept before ours replaces it; None for any
    other."""
    later = newer(data, version)
    if later is None:
        return None
    stem, dot, suffix = name.rpartition(".")
    return f"{stem}.version-{later}{dot}{suffix}"


def newer(data: bytes, version: int) -> int | None:
    """Return the version of a document that is newer than ours; None for any other."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict) or _version(document) <= version:
        return None
    return _version(document)


def number(value: object) -> float | None:
    """Return a moment, a span or a count; None for what is none, such as NaN and infinity, which
    JSON does not know but Python reads."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) < 1e11 else None


def _version(document: dict[str, Any]) -> int:
    version = document.get("version", 1)
    return version if isinstance(version, int) and 0 < version < 10**6 else 1
