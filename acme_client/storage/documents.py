"""What every JSON document on disk has in common: it is an object with a ``version``.

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
    """In lines, for people; values may be dataclasses, or be ``encoded`` already."""
    text = encode({"version": version, **document})
    for key, value in (encoded or {}).items():
        text = f"{text[:-1]},\n {encode(key)}: {value}}}"
    return (text + "\n").encode()


def _fields(value: Any) -> dict[str, Any]:
    return {name: getattr(value, name) for name in value.__slots__}


# Separators, because with an indentation the library encodes in Python, which takes ten times as
# long: felt where there are thousands of certificates.
encode = json.JSONEncoder(separators=(",\n ", ": "), default=_fields).encode


def encoded_list(items: Iterable[str]) -> str:
    """Of what is encoded already."""
    return "[" + ",\n ".join(items) + "]"


def read(data: bytes, version: int) -> dict[str, Any]:
    """The document; empty for what is none, or none of ours. One without a version is taken for
    one of the first."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(document, dict) or _version(document) > version:
        return {}
    return document


def set_aside(name: str, data: bytes, version: int) -> str | None:
    """Under which name to keep a document before it is replaced; None if it need not be kept."""
    later = newer(data, version)
    if later is None:
        return None
    stem, dot, suffix = name.rpartition(".")
    return f"{stem}.version-{later}{dot}{suffix}"


def newer(data: bytes, version: int) -> int | None:
    """The version of a document that is newer than ours; None for any other."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict) or _version(document) <= version:
        return None
    return _version(document)


def _version(document: dict[str, Any]) -> int:
    version = document.get("version", 1)
    return version if isinstance(version, int) and 0 < version < 10**6 else 1
