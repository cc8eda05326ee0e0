"""Middlewares become keys of a route."""

from __future__ import annotations

import re
from typing import Any

from ..draft import Route
from ..path_patterns import PathForm, filled, forms
from ..times import size
from .documents import Node

_NEEDLESS = frozenset(("contenttype", "grpcweb", "redirectscheme", "passtlsclientcert", "retry"))
_SECURITY = {
    "framedeny": ("X-Frame-Options", "DENY"),
    "contenttypenosniff": ("X-Content-Type-Options", "nosniff"),
    "browserxssfilter": ("X-XSS-Protection", "1; mode=block"),
}
_TEXTS = {
    "customframeoptionsvalue": "X-Frame-Options",
    "custombrowserxssvalue": "X-XSS-Protection",
    "contentsecuritypolicy": "Content-Security-Policy",
    "referrerpolicy": "Referrer-Policy",
    "permissionspolicy": "Permissions-Policy",
    "contentsecuritypolicyreportonly": "Content-Security-Policy-Report-Only",
}
_REFERENCE = re.compile(r"\$\{?(\d)\}?")
_OF_CORS = {
    "accesscontrolallowmethods": "methods",
    "accesscontrolallowheaders": "headers",
    "accesscontrolalloworiginlist": "origins",
}


def add(kind: str, one: Node, route: Route) -> None:
    """Add what a middleware of a kind says. ``route`` has its path."""
    place = one.place
    low = kind.lower()
    one.use()
    match low:
        case "stripprefix":
            _strip(one, route)
        case "addprefix":
            _rewrite(route, f"{one.word('prefix')}{{path}}", one)
        case "replacepath":
            _rewrite(route, one.word("path"), one)
        case "replacepathregex":
            _replace(one, route)
        case "redirectregex":
            redirect(one, route)
        case "headers":
            _headers(one, route)
        case "basicauth":
            _passwords(one, route)
        case "forwardauth":
            _login(one, route)
        case "ipallowlist" | "ipwhitelist":
            ranges = one.words("sourceRange")
            route.put("allow", ranges, place)
            if one.get("ipStrategy") is not None:
                route.note(place, "the client is whom trusted_proxies name")
            if not ranges:
                route.close(place, "ipAllowList", "it names no network")
        case "ratelimit":
            _rate(one, route)
        case "compress":
            if one.get("excludedContentTypes") or one.get("includedContentTypes"):
                route.note(place, "which types are compressed is said by compress: {types}")
        case "buffering" if one.word("maxRequestBodyBytes"):
            route.put("body_size", size(one.word("maxRequestBodyBytes")), place)
        case "buffering":
            pass
        case "circuitbreaker":
            found = re.search(r"(?:NetworkErrorRatio\(\)|ResponseCodeRatio\([^)]*\)) ?> ?(0\.\d+)",
                              one.word("expression"))  # fmt: skip
            if found:
                route.put("breaker", {"failure_ratio": f"{round(float(found[1]) * 100)}%"}, place)
            else:
                route.leave(place, "circuitBreaker", "breaker knows the share of failures alone")
        case "digestauth":
            route.close(place, "digestAuth", "passwords are asked for by basic_auth")
        case name if name in _NEEDLESS:
            pass
        case "errors":
            route.leave(place, "errors", "an error page is a file, or a path of the site")
        case "inflightreq":
            route.leave(
                place, "inFlightReq", "requests are limited by rate_limit and max_connections"
            )
        case _:
            # Nobody knows what it does; it may keep people out.
            route.close(place, f"the middleware {kind}", "it has no counterpart here")


def _strip(one: Node, route: Route) -> None:
    for prefix in one.words("prefixes"):
        prefix = prefix.rstrip("/")
        if route.path == f"{prefix}/*":
            route.put("strip_prefix", True, one.place)
            return
        if route.path == prefix or route.path.startswith(f"{prefix}/"):
            rest = route.path.removeprefix(prefix) or "/"
            _rewrite(route, f"{rest[:-1]}{{rest}}" if rest.endswith("/*") else rest, one)
            return


def _rewrite(route: Route, target: str, one: Node) -> None:
    if "strip_prefix" in route.keys:
        del route.keys["strip_prefix"]
        target = target.replace("{path}", "/{rest}")
    route.put("rewrite", target, one.place)


def _replace(one: Node, route: Route) -> None:
    expression, replacement = one.word("regex"), one.word("replacement")
    text = f"replacePathRegex {expression}"
    for form in forms(expression) or ():
        if form.path != route.path and not (form.path == "/*" or route.path == "/*"):
            continue
        made = filled(replacement, form, lambda each: each, _REFERENCE)
        if made is None:
            break
        if form.path == route.path:
            _rewrite(route, made, one)
            return
        if form.path == "/*":
            _rewrite(route, made.replace("/{rest}", "{path}"), one)
            return
    route.leave(one.place, text, "it does not replace what a route's asterisk takes")


def redirect(one: Node, route: Route, hosts: tuple[str, ...] = ()) -> bool:
    """Take over ``redirectRegex``, whose expression is for the whole address. Return whether the
    route is a redirect now: not where the expression takes other paths, and not where it has no
    counterpart, which is told."""
    expression, replacement = one.word("regex"), one.word("replacement")
    status = "301" if one.on("permanent") else "302"
    host, path = _address(expression)
    target: str | None = None
    if host is not None:
        text = _REFERENCE.sub(r"$\1", replacement)
        if path in ("", "/(.*)", "(.*)", "/.*", "$", "/?(.*)", "/?$", "(/.*)?", "(.*)$", "/(.*)$"):
            groups = host.count("(") - host.count("(?:")
            kept = bool(re.search(r"\(", path))
            made = text
            if kept:
                slash = "" if path.startswith("(") else "/"
                made = made.replace(f"{slash}${groups + 1}", "{path}")
            if host.startswith((r"www\.(", "www.(")):
                # www.X leads to X, for each of the names
                bare = [name.removeprefix("www.") for name in hosts if name.startswith("www.")]
                if len(set(bare)) == 1:
                    made = made.replace("$1", bare[0])
                    if not kept and "{path}" not in made and path == "":
                        made = f"{made.rstrip('/')}{{path}}"
            elif groups == 1 and len(hosts) == 1 and host == "(.*)":
                made = made.replace("$1", hosts[0])
            target = made if "$" not in made else None
        elif found := _forms(path):
            form = next((each for each in found if each.path == route.path), None)
            if form is None:
                return False  # it takes other paths, which have routes of their own
            if "(" not in host:
                target = filled(text, form, lambda each: each)
            elif host == "(.*)" and len(hosts) == 1:
                # The path's groups are counted behind the host's.
                of_path = re.sub(r"\$([2-9])", lambda number: f"${int(number[1]) - 1}",
                                 text.replace("$1", hosts[0]))  # fmt: skip
                target = filled(of_path, form, lambda each: each)
    if target is None:
        text = f"redirectRegex {expression}"
        route.leave(one.place, text, "where to is said by a host and what the asterisk takes")
        return False
    route.redirect(target.replace("http://", "https://", 1), status, one.place)
    return True


def redirected_paths(one: Node) -> list[str]:
    """Return the paths that a ``redirectRegex`` takes out of a router's, as routes have them."""
    host, path = _address(one.word("regex"))
    return [] if host is None else [form.path for form in _forms(path)]


def _forms(path: str) -> list[PathForm]:
    """Return the routes that an expression for an address's path takes; none where that is every
    path, or no route says it. A dot at a name's beginning means itself, as in /.well-known."""
    found = forms("^" + re.sub(r"(?<=/)\.(?=[a-z])", r"\\.", path)) if path else None
    return [one for one in found or () if one.path != "/*"]


def is_for(one: Node, hosts: tuple[str, ...]) -> bool:
    """Whether a ``redirectRegex`` can take an address of one of these hosts."""
    host, _path = _address(one.word("regex"))
    if host is None:
        return True
    try:
        return any(re.fullmatch(host, name) for name in hosts)
    except re.error:
        return True


def _address(expression: str) -> tuple[str | None, str]:
    """Return the host and the path of an expression for addresses; None as host where it is
    none."""
    found = re.fullmatch(
        r"\^?(?:https\??|http|\(https\?\)|https\?|\(\?:https\?\)|\.\*):(?://|\\/\\/)"
        r"((?:\(\?:[^)]*\)|\([^)/]*\)|[^/()?$])+)(.*)", expression)  # fmt: skip
    if not found:
        return None, ""
    return found[1], found[2].replace("\\/", "/")


def _headers(one: Node, route: Route) -> None:
    place = one.place
    for kind, section in (
        ("headers", "customResponseHeaders"),
        ("request_headers", "customRequestHeaders"),
    ):
        node = one.get(section)
        for name, value in node.items() if node is not None else ():
            text = value.value if isinstance(value.value, str) else ""
            if name.lower() == "host" and kind == "request_headers":
                route.fix_host(value.place, f"Host: {text}", text)
            elif name.lower() in ("x-forwarded-proto", "x-forwarded-for", "x-forwarded-host"):
                continue
            elif text:
                route.put_in((kind, "set", name), text, value.place)
            else:
                route.put_in((kind, "remove"), [name], value.place)
    cors: dict[str, Any] = {}
    for name, value in one.items():
        low = name.lower()
        text = value.value if isinstance(value.value, str) else ""
        if low in _SECURITY and text == "true":
            route.put_in(("headers", "set", _SECURITY[low][0]), _SECURITY[low][1], value.place)
        elif low in _TEXTS and text:
            route.put_in(("headers", "set", _TEXTS[low]), text, value.place)
        elif low in _OF_CORS:
            cors[_OF_CORS[low]] = one.words(name)
        elif low == "accesscontrolallowcredentials" and text == "true":
            cors["credentials"] = True
        elif low == "accesscontrolmaxage":
            cors["max_age"] = f"{text}s"
        elif low == "accesscontrolalloworiginlistregex":
            route.leave(value.place, name, "origins are written out")
        elif low == "accesscontrolexposeheaders":
            route.put_in(
                ("headers", "set", "Access-Control-Expose-Headers"),
                ", ".join(one.words(name)),
                value.place,
            )
    seconds = one.word("stsSeconds")
    if seconds and seconds != "0":
        said = f"max-age={seconds}"
        said += "; includeSubDomains" if one.on("stsIncludeSubdomains") else ""
        said += "; preload" if one.on("stsPreload") else ""
        route.put_in(("headers", "set", "Strict-Transport-Security"), said, place)
    if cors.get("origins"):
        route.put("cors", cors, place)
    elif cors:
        route.leave(place, "accessControl…", "no origins are named")


def _passwords(one: Node, route: Route) -> None:
    place = one.place
    file = one.word("usersFile")
    pairs = [word.partition(":")[::2] for word in one.words("users")]
    if not file and not pairs:
        route.close(place, "basicAuth", "it names nobody")
        return
    if file:
        route.put_in(("basic_auth", "users_file"), file, place)
    for user, hashed in pairs:
        route.put_in(("basic_auth", "users", user), hashed, place)
    route.put_in(("basic_auth", "realm"), one.word("realm") or "traefik", place)
    if not one.on("removeHeader"):
        route.put_in(("basic_auth", "forward"), True, place)


def _login(one: Node, route: Route) -> None:
    address = one.word("address")
    if not address:
        route.close(one.place, "forwardAuth", "it names nobody")
        return
    said: dict[str, Any] = {"url": address}
    copied = one.words("authResponseHeaders")
    if copied:
        said["copy"] = copied
    if one.word("authResponseHeadersRegex"):
        why = "fields that are copied are named"
        route.leave(one.place, "authResponseHeadersRegex", why)
    route.put("forward_auth", said, one.place)


def _rate(one: Node, route: Route) -> None:
    average = one.word("average") or "0"
    period = one.word("period") or "1s"
    unit = {"1s": "s", "1": "s", "1m": "m", "1h": "h"}.get(period)
    if not average.isdigit() or average == "0" or unit is None:
        route.leave(one.place, f"rateLimit {average} in {period}", "a rate is for s, m or h")
        return
    said: dict[str, Any] = {"rate": f"{average}/{unit}", "burst": one.word("burst") or "1"}
    criterion = one.get("sourceCriterion")
    if criterion is not None and not criterion.get("ipStrategy"):
        route.leave(one.place, "rateLimit.sourceCriterion", "rates count by address or by site")
    route.put("rate_limit", said, one.place)
