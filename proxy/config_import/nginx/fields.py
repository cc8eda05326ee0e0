"""Fields of requests and responses, caching, compression, sizes: what stands beside an answer."""

from __future__ import annotations

import re

from ..draft import Level, Route
from ..times import seconds, size
from .directives import Directive, Scope
from .variables import in_field

# What backends are told by themselves, with these values or better ones.
_TOLD = {
    "x-real-ip",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-ssl",
    "x-forwarded-scheme",
    "x-forwarded-server",
    "x-scheme",
    "forwarded",
    "upgrade",
    "connection",
    "x-request-id",
    "via",
    "x-original-uri",
    "x-url-scheme",
    "proxy",
}
_FOREVER = "max-age=315360000"


def absolute(path: str, folder: str) -> str:
    return path if path.startswith("/") else f"{folder}/{path}"


def response_fields(scope: Scope, route: Route) -> None:
    """Take over what responses are given and lose: add_header, expires, proxy_hide_header."""
    kind = "set" if route.action in ("root", "fastcgi", "respond", "redirect") else "add"
    caching: list[tuple[str, Directive]] = []
    expires = scope.one("expires")
    if expires is not None:
        said = cache_control(expires.args)
        if said:
            caching.append((said, expires))
        elif said is None:
            route.leave(expires.place, str(expires), "only a time from now is known here")
    given: dict[str, list[tuple[str, Directive]]] = {}
    for one in scope.all("add_header"):
        name, text = (*one.args, "", "")[:2]
        value = in_field(scope, text)
        if value is None:
            route.leave(one.place, str(one), "it has a variable that is not known here")
        elif name.lower() == "cache-control":
            caching.append((value, one))
        elif name.lower() == "pragma":
            one.used = True  # what Cache-Control says again, for programs before 1997
        elif value:
            given.setdefault(name, []).append((value, one))
    for name, several in given.items():
        for value, one in several:
            if kind == "set" and len(several) == 1:
                route.put_in(("headers", "set", name), value, one.place)
            elif len(several) == 1:
                route.put_in(("headers", "add", name), value, one.place)
            else:
                joined = ", ".join(each for each, _one in several)
                route.put_in(("headers", kind, name), joined, one.place)
    if caching:
        _caching(route, caching)
    hidden = [*scope.all("proxy_hide_header"), *scope.all("fastcgi_hide_header")]
    for one in hidden:
        route.put_in(("headers", "remove"), [one.arg], one.place)


def _caching(route: Route, said: list[tuple[str, Directive]]) -> None:
    value = joined_cache_control([text for text, _one in said])
    place = said[-1][1].place
    if "root" in route.keys:
        route.put("cache_control", {"*": value}, place)
    else:
        route.put_in(("headers", "set", "Cache-Control"), value, place)


def joined_cache_control(said: list[str]) -> str:
    """Join several Cache-Control fields into one, which has each directive once."""
    words: dict[str, str] = {}
    for text in said:
        for word in text.split(","):
            if word.strip():
                words.setdefault(word.strip().partition("=")[0].lower(), word.strip())
    return ", ".join(words.values())


def cache_control(args: tuple[str, ...]) -> str | None:
    """Return what ``expires`` says as Cache-Control; "" for off, None where it has no such
    value."""
    words = [word for word in args if word != "modified"]
    if not words or len(words) != len(args) or len(words) > 1:
        return None
    match words[0]:
        case "off":
            return ""
        case "max":
            return _FOREVER
        case "epoch" | "-1":
            return "no-cache"
        case text if text.startswith("-"):
            return "no-cache"
        case text:
            found = seconds(text)
            return None if found is None else f"max-age={int(found)}"


def request_fields(scope: Scope, route: Route, host: str, kind: str = "proxy") -> None:
    """Take over ``proxy_set_header``. ``host`` is the target's, which nginx sends as Host unless it
    is told otherwise."""
    preserved = kind == "grpc"
    for one in scope.all(f"{kind}_set_header"):
        name, text = (*one.args, "", "")[:2]
        low = name.lower()
        if low == "host":
            if re.fullmatch(
                r"\$\{?(http_)?host\}?(:\$server_port)?|\$server_name(:\$server_port)?", text
            ):
                preserved = True
            elif text not in ("$proxy_host", host, "$proxy_host:$proxy_port"):
                preserved = True
                route.fix_host(one.place, str(one), text)
            continue
        if low in _TOLD:
            if not text and low not in ("connection", "upgrade"):
                route.put_in(("request_headers", "remove"), [name], one.place)
            continue
        value = in_field(scope, text)
        if text == f"$http_{low.replace('-', '_')}":
            continue  # as the client sent it, which it is
        if low in ("x-ssl-client-cert", "x-client-cert", "ssl-client-cert", "x-ssl-cert"):
            route.leave(one.place, str(one), "the backend is told in Client-Cert (RFC 9440)")
        elif value is None:
            route.leave(one.place, str(one), "it has a variable that is not known here")
        elif value:
            route.put_in(("request_headers", "set", name), value, one.place)
        else:
            route.put_in(("request_headers", "remove"), [name], one.place)
    if not preserved:
        route.put("preserve_host", False, route.place)


def compression(scope: Scope, level: Level) -> None:
    """Take over ``gzip``. Without ``gzip on`` nginx compresses nothing; this server does where it
    is safe."""
    gzip = scope.one("gzip")
    level_of = scope.one("gzip_comp_level")
    types, least = scope.one("gzip_types"), scope.one("gzip_min_length")
    for name in ("gzip_proxied", "gzip_static", "brotli", "brotli_types", "brotli_comp_level",
                 "brotli_static", "brotli_min_length", "gunzip"):  # fmt: skip
        scope.all(name)
    if gzip is None:
        return
    if gzip.arg == "off":
        level.put("compress", False, gzip.place)
        return
    said: dict[str, object] = {}
    if least is not None and size(least.arg):
        said["min_size"] = size(least.arg)
    if types is not None and "*" in types.args:
        said["types"] = ["text/", "application/", "image/", "font/", "audio/", "video/"]
    if level_of is not None and level_of.arg in ("8", "9"):
        said["level"] = "best"
    if said:
        level.put("compress", {"mode": "auto", **said}, gzip.place)


def body_size(scope: Scope, level: Level) -> None:
    found = scope.one("client_max_body_size")
    if found is None:
        return
    if found.arg == "0":
        level.put("body_size", "unlimited", found.place)
    elif size(found.arg):
        level.put("body_size", size(found.arg), found.place)
    else:
        level.leave(found.place, str(found), "it is no size")
