"""Which handler answers a request: by host, then by path. Pure: a table made once, and look-ups.

The host finds the site: its exact name, else a wildcard for one label, else the site that it came
on demand for, else the default site.
Within a site an exact path beats a prefix and a longer prefix a shorter one; ``/api/*`` takes
``/api/`` and everything below it, and not ``/api``.

Why it is hard: the router and whoever answers must understand the same path, or a route can be
dodged by spelling it differently. A site with one route for everything has nothing to dodge, and
its requests pass unread. On a site with several, paths are compared decoded and with their slashes
merged, and a path that two readers could take for two (dot segments, an encoded slash, backslash or
NUL, an overlong UTF-8 sequence, a broken percent sign) is refused. Path parameters (``;``) and case
are left to backends: a route that protects something does not rely on their reading of either.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from urllib.parse import unquote_to_bytes

from ..bounded_cache import remember
from ..config.model import Action, Route, Site
from ..errors import Fault
from ..protocol.message import Handler, Request

_MANY_SLASHES = re.compile(rb"//+")
_BROKEN_PERCENT = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_AMBIGUOUS = re.compile(rb"%(?:2[fF]|5[cC]|00)|\\")
# RFC 3629 §3: C0 and C1 never appear, E0 and F0 never before these. Lenient decoders make "." and
# "/" of what strict ones refuse.
_OVERLONG = re.compile(rb"[\xc0\xc1][\x80-\xbf]|\xe0[\x80-\x9f]|\xf0[\x80-\x8f]")
_DOT_SEGMENT = re.compile(rb"(?:^|/)\.\.?(?:/|$)")

# Paths whose route is remembered, per site; a site's busy ones are fewer.
_MOST_FOUND = 4096


def understood(path: bytes) -> bytes:
    """A percent-encoded path as everybody must understand it: decoded, slashes merged.

    ``path`` is printable ASCII, as the grammar of a request's target has it (protocol/grammar.py).
    Raises `Fault` ("bad_path") for one that can be understood in two ways.
    """
    if b"%" not in path and b"//" not in path and b"/." not in path and b"\\" not in path:
        return path  # nearly all of them
    if _AMBIGUOUS.search(path) or _BROKEN_PERCENT.search(path):
        raise Fault("bad_path", f"{path[:64]!r} has an ambiguous encoding")
    decoded = _MANY_SLASHES.sub(b"/", unquote_to_bytes(path))
    if _OVERLONG.search(decoded):
        raise Fault("bad_path", f"{path[:64]!r} has overlong UTF-8")
    if _DOT_SEGMENT.search(decoded):
        raise Fault("bad_path", f"{path[:64]!r} has dot segments")
    return decoded


class _Paths:
    """The routes of a site that has several."""

    def __init__(self, routes: tuple[Route, ...], handler_of: Callable[[Action], Handler]) -> None:
        self._exact: dict[bytes, Handler] = {}
        self._found: dict[bytes, tuple[Handler, bytes]] = {}  # by path as it was sent; bounded
        self._prefixes: list[tuple[bytes, Handler]] = []
        for route in routes:
            handler = handler_of(route.action)
            if route.path.endswith("/*"):
                self._prefixes.append((unquote_to_bytes(route.path[:-1]), handler))
            else:
                self._exact[unquote_to_bytes(route.path)] = handler
        self._prefixes.sort(key=lambda entry: len(entry[0]), reverse=True)

    def find(self, request: Request) -> Handler:
        found = self._found.get(request.path)
        if found is None:
            found = self._look_for(understood(request.path))
            remember(self._found, request.path, found, _MOST_FOUND)
        handler, request.matched = found
        return handler

    def _look_for(self, path: bytes) -> tuple[Handler, bytes]:
        handler = self._exact.get(path)
        if handler is not None:
            return handler, b"/"
        for prefix, handler in self._prefixes:
            if path.startswith(prefix):
                return handler, prefix
        raise Fault("not_found", "no route takes this path")


class Router:
    """The table of a generation. `bind` once, before the first request. ``guests``: hosts that
    came on demand, with the first name of their site; whoever made it may change it."""

    def __init__(
        self, sites: tuple[Site, ...], guests: Mapping[bytes, bytes] = MappingProxyType({})
    ) -> None:
        self._sites = sites
        self._guests = guests
        self._hosts: dict[bytes, Handler | _Paths] = {}
        self._default: Handler | _Paths | None = None
        self._names = frozenset(name.encode("ascii") for site in sites for name in site.names)

    def bind(self, handler_of: Callable[[Action], Handler]) -> None:
        """Make the handlers of all routes."""
        for site in self._sites:
            entry = self._entry(site.routes, handler_of)
            for name in site.names:
                self._hosts[name.encode("ascii")] = entry
            if site.default:
                self._default = entry

    @staticmethod
    def _entry(
        routes: tuple[Route, ...], handler_of: Callable[[Action], Handler]
    ) -> Handler | _Paths:
        if len(routes) == 1 and routes[0].path == "/*":
            return handler_of(routes[0].action)
        return _Paths(routes, handler_of)

    def knows(self, host: bytes) -> bool:
        """Whether a site has this name, or a wildcard for it, or it has come on demand."""
        return self.configured(host) or host in self._guests

    def configured(self, host: bytes) -> bool:
        return host in self._names or _wildcard(host) in self._names

    def route(self, request: Request) -> Handler:
        """Raises `Fault` where nobody answers."""
        host = request.host
        entry = self._hosts.get(host)
        if entry is None:
            entry = self._hosts.get(_wildcard(host))
            if entry is None:
                entry = self._hosts.get(self._guests.get(host, b""), self._default)
                if entry is None:
                    raise Fault("unknown_host")
        if isinstance(entry, _Paths):
            return entry.find(request)
        return entry


def _wildcard(host: bytes) -> bytes:
    _label, dot, parent = host.partition(b".")
    return b"*." + parent if dot else b""
