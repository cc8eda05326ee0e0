"""What stands beside an answer: fields, logins, sizes, compression, and other paths."""

from __future__ import annotations

import re
from typing import Any

from ..draft import Route
from ..shapes import covers
from ..times import size
from . import proxying
from .blocks import GUARDS, Rule, State
from .placeholders import in_field, in_target
from .tokens import Directive

_NEEDLESS = frozenset(
    ["log", "log_skip", "log_append", "log_name", "tracing", "push", "fs", "copy_response_headers"]
)
_WHY = {
    "templates": "pages are sent as they are",
    "map": "the variables that it makes have no counterpart",
    "vars": "the variables that it makes have no counterpart",
    "metrics": "the figures are /metrics: admin: {listen: 127.0.0.1:2020}",
    "acme_server": "the built-in CA certifies this server alone",
    "invoke": "routes are not called by name",
    "intercept": "error_pages with intercept replace a backend's errors",
    "method": "a request keeps its method",
}


def modify(rule: Rule, state: State) -> None:
    one, args, route = rule.directive, rule.args, state.route
    match one.name:
        case "root" if args:
            state.root = (args[-1], one.place)
        case "header":
            _headers(one, args, route)
        case "request_header":
            proxying.header_up(args, one, route)
        case "request_body":
            for each in one.block or ():
                if each.name == "max_size" and each.args and size(each.args[0]):
                    route.put("body_size", size(each.args[0]), each.place)
                else:
                    route.leave(each.place, str(each), "it has no counterpart here")
        case "encode":
            _encode(one, args, route)
        case "basic_auth" | "basicauth":
            _passwords(one, args, route)
        case "forward_auth":
            _login(one, args, route)
        case "rewrite" if args:
            _rewrite(args[-1], rule, state)
        case "uri" if args[:1] == ["strip_prefix"] and len(args) == 2:
            prefix = f"/{args[1].strip('/')}"
            if route.path == f"{prefix}/*":
                state.stripped = prefix
            elif covers(f"{prefix}/*", route.path) or route.path == prefix:
                route.put("rewrite", route.path.removeprefix(prefix).rstrip("*") or "/", one.place)
        case "try_files":
            _tried(one, args, route)
        case name if name in _NEEDLESS:
            pass
        case name:
            why = _WHY.get(name, "it has no counterpart here")
            route.leave(one.place, str(one), why, guard=name in GUARDS)


def _headers(one: Directive, args: list[str], route: Route) -> None:
    if args:
        if len(args) == 3:
            route.leave(one.place, str(one), "a value is replaced as a whole")
            return
        proxying.response_field(args, one, route)
    for each in one.block or ():
        if each.name in ("defer", "match"):
            continue
        proxying.response_field([each.name, *each.args], each, route)
    # Said before it is known whether files or a backend answer; `_settle` puts it right.
    entry = route.keys.get("headers")
    if entry is not None and "set" in entry.value:
        for name in list(entry.value["set"]):
            if name.lower() == "cache-control":
                value = entry.value["set"].pop(name)
                if not entry.value["set"]:
                    del entry.value["set"]
                if not entry.value:
                    del route.keys["headers"]
                there = route.value("cache_control") or {}
                route.put("cache_control", {**there, "*": value}, one.place)


def _encode(one: Directive, args: list[str], route: Route) -> None:
    said: dict[str, Any] = {}
    for each in one.block or ():
        if each.name == "minimum_length" and each.args:
            said["min_size"] = f"{each.args[0]}B"
        elif each.name not in ("gzip", "zstd", "br", "match"):
            route.leave(each.place, str(each), "it has no counterpart here")
    if said:
        route.put("compress", {"mode": "auto", **said}, one.place)


def _passwords(one: Directive, args: list[str], route: Route) -> None:
    words = [word for word in args if word not in ("bcrypt", "argon2id")]
    if len(words) < len(args) or not args or words == args:
        realm = words[-1] if words and words != args else ""
        if realm:
            route.put_in(("basic_auth", "realm"), realm, one.place)
    if args[:1] and args[0] not in ("bcrypt", "argon2id"):
        route.close(one.place, str(one), "of hashes argon2id, bcrypt and yescrypt are known")
        return
    for each in one.block or ():
        if each.args:
            route.put_in(("basic_auth", "users", each.name), each.args[0], each.place)
    if not one.block:
        route.close(one.place, str(one), "it names nobody")


def _login(one: Directive, args: list[str], route: Route) -> None:
    said: dict[str, Any] = {}
    address = proxying.backend(args[0]) if len(args) == 1 else None
    uri = next((each.args[0] for each in one.inner("uri") if each.args), "/")
    if address is None or address.startswith("unix:") or "{" in uri:
        route.close(one.place, str(one), "who is asked is not one address")
        return
    said["url"] = f"{address}{uri}"
    copied: list[str] = []
    for each in one.inner("copy_headers"):
        for word in [*each.args, *(inner.name for inner in each.block or ())]:
            if ">" in word:
                route.leave(each.place, str(each), "a field keeps its name")
            copied.append(word.partition(">")[0])
    if copied:
        said["copy"] = copied
    for each in one.block or ():
        if each.name not in ("uri", "copy_headers", "trusted_proxies"):
            route.leave(each.place, str(each), "it has no counterpart here")
    route.put("forward_auth", said, one.place)


def _rewrite(target: str, rule: Rule, state: State) -> None:
    route, place = state.route, rule.directive.place
    made = in_target(target, rule.matcher.forms.get(route.path))
    if made is None or (in_field(target) is None and "{" in target and "uri" not in target):
        route.leave(place, str(rule.directive), "it has a placeholder that is not known here")
        return
    route.put("rewrite", made, place)


def _tried(one: Directive, args: list[str], route: Route) -> None:
    *names, last = args or [""]
    ends = []
    if last in ("{path}", "{path}/", "{path}/index.html") or re.fullmatch(r"\{path\}(\.\w+)", last):
        names, last = args, ""
    for name in names:
        found = re.fullmatch(r"\{path\}(\.\w+)", name)
        if found:
            ends.append(found[1])
        elif name not in ("{path}", "{path}/", "{path}/index.html", "{http.request.uri.path}"):
            route.leave(one.place, f"try_files {name}", "it is looked for by its path alone")
    if ends:
        route.put("extensions", ends, one.place)
    if last.startswith("=") or not last:
        return
    path = last.partition("?")[0]
    if "{" in path:
        route.leave(one.place, str(one), "the last of them is a file with a name")
        return
    beneath = route.path[:-2] if route.path.endswith("/*") else ""
    if beneath:
        if not path.startswith(f"{beneath}/"):
            route.put("_whole", beneath, one.place)
        else:
            path = path.removeprefix(beneath)
    route.put("fallback", path if path.startswith("/") else f"/{path}", one.place)
