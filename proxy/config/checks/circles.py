"""Ways that lead back here: backends that are this proxy, redirects to what is redirected. Pure.

A redirect is tried with a path that it takes: it goes round when the address that comes out is one
of the same site, and the same redirect would take that path too. Routes that ask for more than a
path (``methods``, ``match``) may be meant to send somebody back, so nothing is said of sites with
such.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from ipaddress import ip_address
from itertools import chain

from ..schema.document import Site
from ..schema.parse import Parsed, servings
from ..schema.site import ACTIONS
from ..syntax.faults import Fault, Path, Wrong, shown
from ..syntax.names import parse_name
from ..values import Address

_TARGET = re.compile(
    r"(?:(?P<scheme>https?)://(?P<host>\{host\}|\[[^\]]*\]|[^/:?#{]*)(?::(?P<port>[0-9]+))?)?"
    r"(?P<path>[^?#]*)"
)
_SAMPLE = "x"


def backends(site: Site, at: Path, parsed: Parsed) -> Iterator[Fault]:
    """Yield a fault for each backend that is this proxy: each request would come back until it is
    refused."""
    listen = parsed.document.listen
    for path, serving in servings(site, at):
        for number, each in enumerate(serving.backend or ()):
            backend = Address(each.url.host, each.url.port)
            if any(_reaches(backend, own) for own in chain(listen.http, listen.https)):
                yield parsed.origins.fault(
                    (*path, "backend", number),
                    f"{shown(each.url.url)} is this proxy itself",
                    "give the port that the application listens on",
                )


def named_backends(site: Site, at: Path, parsed: Parsed, names: Collection[str]) -> Iterator[Fault]:
    """Yield what is to be told of backends that are called like a site of this server (``names``
    are those of all), on a port of its own. Where the name leads somewhere else, to another
    machine, that is no circle: so it is no fault."""
    listen = parsed.document.listen
    ports = {one.port for one in chain(listen.http, listen.https)}
    for path, serving in servings(site, at):
        for number, each in enumerate(serving.backend or ()):
            if each.url.host in names and each.url.port in ports:
                yield parsed.origins.fault(
                    (*path, "backend", number),
                    f"{shown(each.url.url)} has the name of a site here: where that leads to this "
                    "machine, each request comes back, and gets 508",
                    "give the address that the application listens on, like http://127.0.0.1:3000",
                )


def redirects(site: Site, at: Path, parsed: Parsed) -> Iterator[Fault]:
    """Yield what is to be told of redirects that lead back to themselves."""
    if any(route.methods or route.match for route in site.routes):
        return
    answered = any(key in site.given for key in ACTIONS)
    taken = {"/*": at} if not answered else {}
    taken |= {route.path: (*at, "routes", i) for i, route in enumerate(site.routes)}
    for path, serving in servings(site, at):
        if serving.redirect is None or any(key in serving.given for key in ACTIONS):
            continue
        way = next((one for one, place in taken.items() if place == path), None)
        reached = _reached(serving.redirect, way, site, parsed) if way else None
        if reached is not None and _taker(reached, taken) == path:
            yield parsed.origins.fault(
                (*path, "redirect"),
                f"{shown(serving.redirect)} leads back here, round and round",
                "redirect to another name or path, or give that path a route of its own",
            )


def _reaches(backend: Address, own: Address) -> bool:
    if backend.port != own.port or not own.port:
        return False
    host = "127.0.0.1" if backend.host == "localhost" else backend.host
    if own.host == host:
        return True
    try:
        address = ip_address(host)
    except ValueError:
        return False
    everywhere = ("", "0.0.0.0" if address.version == 4 else "::")  # noqa: S104 - compared only
    return own.host in everywhere and (address.is_loopback or address.is_unspecified)


def _reached(target: str, way: str, site: Site, parsed: Parsed) -> str | None:
    """Return the path of the site that a redirect leads to from a path that ``way`` takes; None
    where that is another site's."""
    found = _TARGET.match(target)
    assert found is not None  # noqa: S101 - every part may be empty
    if found["host"] is not None and not _is_own(found["host"], site, parsed):
        return None
    listen = parsed.document.listen
    addresses = listen.http if found["scheme"] == "http" else listen.https
    port = int(found["port"] or (80 if found["scheme"] == "http" else 443))
    if found["host"] is not None and port not in {one.port for one in addresses}:
        return None
    asked = way.removesuffix("*") + (_SAMPLE if way.endswith("*") else "")
    path = found["path"].replace("{path}", asked).replace("{rest}", _SAMPLE)
    return None if "{" in path else path or "/"


def _is_own(host: str, site: Site, parsed: Parsed) -> bool:
    """Whether requests for a host come to the site: by its own name, else by its wildcard."""
    if host == "{host}":
        return True
    try:
        name = parse_name(host)
    except Wrong:
        return False
    if name in site.names:
        return True
    if any(name in other.names for _, other in parsed.sites):
        return False
    return f"*.{name.partition('.')[2]}" in site.names


def _taker(path: str, taken: dict[str, Path]) -> Path | None:
    """Return whose path it is: the exact one, else the longest of the prefixes."""
    if path in taken:
        return taken[path]
    prefixes = [one for one in taken if one.endswith("/*") and path.startswith(one[:-1])]
    return taken[max(prefixes, key=len)] if prefixes else None
