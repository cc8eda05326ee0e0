"""Words of the rules on requests of other origins: `cors`. Pure.

An origin is compared as browsers write it (RFC 6454 §6.2, ASCII serialisation): scheme and host in
small letters, no path, no port where it is the scheme's own.
"""

from __future__ import annotations

import re

from .faults import Wrong, shown
from .field_rules import IN_TOKENS

_ORIGIN = re.compile(
    r"([a-z][a-z0-9+.-]*)://(\*\.)?([a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_])?|\[[0-9a-f:.]+\])(?::([0-9]{1,5}))?/?",
    re.ASCII,
)
_TOKEN = re.compile(rf"{IN_TOKENS}{{1,128}}")
_OWN_PORTS = {"http": "80", "https": "443"}


def origin(text: str) -> str:
    """An origin, "*" for every one, "null" for pages without one, or ``https://*.example.org`` for
    all hosts below a name. Raises `Wrong`."""
    text = text.strip()
    if text in ("*", "null"):
        return text
    found = _ORIGIN.fullmatch(text.lower())
    if found is None or int(found[4] or 0) > 65535:
        raise Wrong(
            f"{shown(text)} is no origin",
            "write scheme and host, like https://app.example.org or https://*.example.org, or *",
        )
    scheme, star, host, port = found.groups()
    if port is None or port == _OWN_PORTS.get(scheme):
        return f"{scheme}://{star or ''}{host}"
    return f"{scheme}://{star or ''}{host}:{int(port)}"


def method(text: str) -> str:
    """A method, or "*" for all. Raises `Wrong`."""
    name = text.strip()
    if not _TOKEN.fullmatch(name):
        raise Wrong(f"{shown(text)} is no method", "write it like PUT, or * for all")
    if name.upper() in ("CONNECT", "TRACE", "TRACK"):
        raise Wrong(f"{shown(text)} is a method that no browser sends", "leave it out")
    return name.upper() if name.islower() else name


def field_name(text: str) -> str:
    """The name of a field in small letters, or "*" for all. Raises `Wrong`."""
    name = text.strip()
    if not _TOKEN.fullmatch(name):
        raise Wrong(f"{shown(text)} is no name of a field", "write it like Content-Type, or *")
    return name.lower()
