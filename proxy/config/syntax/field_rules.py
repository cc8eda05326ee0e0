"""Names and values of fields that an operator writes into requests and responses. Pure.

A field that splits a message, or that says how long it is, would make one message into two: names
are tokens (RFC 9110 §5.6.2), values visible ASCII and blanks, and the fields of framing belong to
the protocol. What we say of the client cannot be written by hand, only left out.
"""

from __future__ import annotations

import re

from .faults import Wrong, nearest, shown
from .names import is_wildcard, parse_name

IN_TOKENS = r"[A-Za-z0-9!#$%&'*+.^_`|~-]"  # a character that tokens may have
_NAME = re.compile(rf"{IN_TOKENS}{{1,128}}")
_VALUE = re.compile(r"[\x20-\x7e]{0,8192}")
PLACE = re.compile(r"\{([a-z_]+)\}")
PLACES = ("host", "path", "query", "id", "scheme", "client")

_HIGHEST_PORT = 65535

# RFC 9110 §7.6.1 and RFC 9112: they belong to one connection, or say where a message ends.
_FRAMING = frozenset(
    [
        "connection",
        "content-length",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ]
)
_OF_RESPONSES = _FRAMING | {"content-encoding", "content-range", "date"}
# Who the client is and which host it asked for: said by us, or by `host`.
_FORGERY = frozenset(
    [
        "forwarded",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-proto",
        "x-forwarded-port",
        "x-real-ip",
        "via",
        "client-cert",
        "client-cert-chain",
    ]
)


def response_name(text: str) -> str:
    """The name of a field of responses, in lower case. Raises `Wrong`."""
    name = _name(text)
    if name in _OF_RESPONSES:
        raise Wrong(f"{shown(text)} is written by the protocol", "leave it out")
    return name


def request_name(text: str) -> str:
    """The name of a field that requests to backends are given. Raises `Wrong`."""
    name = removable_request_name(text)
    if name in _FORGERY:
        raise Wrong(
            f"{shown(text)} says who the client is, and is written by the server",
            "leave it out; remove: takes it away",
        )
    return name


def removable_request_name(text: str) -> str:
    """The name of a field that requests to backends may lose. Raises `Wrong`."""
    name = _name(text)
    if name in ("cdn-loop", "x-request-id"):
        raise Wrong(f"{shown(text)} is written by the server", "leave it out")
    if name == "host":
        raise Wrong(
            "Host is no field to be written here",
            "write request_headers: {host: NAME}, or preserve_host: false for the backend's own",
        )
    if name in _FRAMING or name == "expect":
        raise Wrong(f"{shown(text)} is written by the protocol", "leave it out")
    return name


def host(text: str) -> str:
    """What backends are told as Host in place of the client's: NAME, ADDRESS, either with :PORT
    (RFC 9110 §7.2). Raises `Wrong`."""
    whole, port = text.strip(), ""
    if found := re.fullmatch(r"(\[[^\]]*\]|[^:/]*):([0-9]{1,5})", whole, re.ASCII):
        whole, port = found[1], f":{found[2]}"
        if not 0 < int(found[2]) <= _HIGHEST_PORT:
            raise Wrong(f"{shown(text)} has a port that does not exist", "ports are 1 to 65535")
    if PLACE.search(whole):
        raise Wrong(f"{shown(text)} has a place to fill in", "Host is a fixed name here")
    name = parse_name(whole)
    if is_wildcard(name):
        raise Wrong(f"{shown(text)} is a pattern and no name", "write the one that backends expect")
    return (f"[{name}]" if ":" in name else name) + port


def value(text: str) -> str:
    """The value of a field; {host}, {path}, {query}, {id}, {scheme}, {client} are filled in. Raises
    `Wrong`."""
    if not _VALUE.fullmatch(text):
        raise Wrong(
            f"{shown(text)} has characters that a field's value must not have",
            "use printable ASCII, without line ends",
        )
    for found in PLACE.finditer(text):
        if found[1] not in PLACES:
            known = [f"{{{place}}}" for place in PLACES]
            raise Wrong(f"{{{found[1]}}} is nothing to fill in", nearest(found[0], known))
    return text.strip()


def _name(text: str) -> str:
    name = text.strip()
    if not _NAME.fullmatch(name):
        raise Wrong(
            f"{shown(text)} is no name of a field",
            "use letters, digits and -, like X-Frame-Options",
        )
    return name.lower()
