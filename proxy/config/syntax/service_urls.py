"""URLs of services that this server itself asks for something, like a login service. Pure."""

from __future__ import annotations

import re
from dataclasses import replace

from ..values import ServiceUrl
from .addresses import parse_backend
from .faults import Wrong, shown

_BEFORE_PATH = re.compile(r"[A-Za-z0-9+.-]+://[^/?#]*")
_TARGET = re.compile(
    r"(?:/(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/]|%[0-9A-Fa-f]{2})*)?"
    r"(?:\?(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/?]|%[0-9A-Fa-f]{2})*)?",
    re.ASCII,
)


def parse_service_url(url: str) -> ServiceUrl:
    """Read http://HOST:PORT/PATH?QUERY, https, h2c, or unix:/SOCKET:/PATH. Raises `Wrong`."""
    url = url.strip()
    scheme, _, rest = url.partition(":")
    if scheme.lower() == "unix":
        socket, colon, path = rest.partition(":/")
        base, target = f"{scheme}:{socket}", colon[1:] + path
    else:
        found = _BEFORE_PATH.match(url)
        base = url if found is None else found[0]
        target = url[len(base) :]
    backend = parse_backend(base)
    if not _TARGET.fullmatch(target):
        raise Wrong(
            f"{shown(url)} asks for a path that no request could ask for",
            "write it like http://127.0.0.1:9091/api/authz/forward-auth",
        )
    if not target.startswith("/"):
        target = f"/{target}"
    return ServiceUrl(replace(backend, url=url.partition("?")[0]), target)
