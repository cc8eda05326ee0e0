"""What stands in a block of a Caddyfile becomes routes.

Caddy sorts directives by kind and, within a kind, by their paths; each acts on the requests that
its matcher takes, and the first that answers ends the matter. Here the longest path decides. So the
block is gone through once for each shape of path that anything in it names: what covers the shape
acts on it, in Caddy's order. A matcher that asks for more than a path gives a route with `match`,
and what comes after it is the next route of the same path.
"""

from __future__ import annotations

import re
from typing import Any

from ..draft import Entry, Place, Route, Site
from ..path_patterns import NO_ROUTE_OF_ENDINGS
from ..shapes import covers, specific_first
from . import proxying
from .beside import modify
from .blocks import GUARDS, KEEPS_OUT, TERMINAL, Block, Rule, State
from .files import file_server, php_fastcgi
from .placeholders import in_target
from .tokens import Directive


def compile_site(block: Block, site: Site) -> None:
    """Add the site's routes."""
    told: set[tuple[Place, str]] = set()
    for shape in specific_first([*block.shapes(), "/*"]):
        state = State(Route(site.place, path=shape))
        made: list[Route] = []
        _run(block, shape, state, made)
        if not state.hidden:
            route = state.route
            if route.action is None:
                route.put("respond", {"status": "200"}, site.place)
            made.append(route)
        for route in made:
            route.keys.pop("_whole", None)
            for left in route.left:
                if (left.place, left.text) not in told:
                    told.add((left.place, left.text))
                    site.left.append(left)
            route.left = []
            site.add(route)
    _drop_repetitions(site)


def _drop_repetitions(site: Site) -> None:
    """Take out routes that say what the route around them says; only their shape was asked for."""
    for route in list(site.routes):
        if route.conditional or route.path == "/*":
            continue
        same_path = [one for one in site.routes if one.path == route.path]
        around = [
            one for one in site.routes
            if one is not route and one.path != route.path and covers(one.path, route.path)
        ]  # fmt: skip
        if len(same_path) > 1 or not around:
            continue
        longest = max(len(one.path) for one in around)
        nearest = [one for one in around if len(one.path) == longest]
        if len(nearest) == 1 and _alike(route, nearest[0]):
            site.routes.remove(route)


def _alike(inner: Route, outer: Route) -> bool:
    if inner.keys.keys() != outer.keys.keys():
        return False
    for key, entry in inner.keys.items():
        there = outer.keys[key].value
        if key == "root":
            if inner.path.endswith("/*"):
                below = inner.path[:-2].removeprefix(outer.path[:-2])
                if entry.value != f"{there.rstrip('/')}{below}":
                    return False
            elif outer.path != "/*" or entry.value != there:
                return False
        elif entry.value != there or key in ("strip_prefix", "rewrite"):
            return False
    return True


def _run(block: Block, shape: str, state: State, made: list[Route]) -> None:
    """Let the rules act on a shape, until one answers it as a whole."""
    grouped = False  # handle blocks exclude each other
    for number, rule in enumerate(block.rules):
        if state.hidden:
            return
        name = rule.directive.name
        matcher = rule.matcher
        if matcher.endings:
            _of_endings(rule, state)
            continue
        if not matcher.takes(shape):
            continue
        if name in ("handle", "handle_path") and grouped:
            continue
        if matcher.negated:
            if not (_refuses(rule) and not matcher.conditions and not matcher.methods):
                why = "a condition that is turned round is known where others are refused"
                state.route.leave(rule.directive.place, str(rule.directive), why, guard=True)
                continue
            _only(rule, Block(block.rules[number + 1 :], block.within), shape, state, made)
            return
        if matcher.conditional:
            if name not in TERMINAL:
                if name in GUARDS:
                    state.route.close(rule.directive.place, str(rule.directive), _CONDITION)
                else:
                    state.route.leave(rule.directive.place, str(rule.directive), _CONDITION)
                continue
            twin = state.copy()
            for key, value in matcher.keys().items():
                twin.route.put(key, value, rule.directive.place)
            inner: list[Route] = []
            _answer(rule, shape, twin, inner)
            for one in inner:
                for key, value in matcher.keys().items():
                    one.keys.setdefault(key, Entry(value, rule.directive.place))
            if twin.hidden:
                made += inner
            else:
                state.route.left += twin.route.left
            continue
        if name in TERMINAL:
            _answer(rule, shape, state, made)
            grouped = grouped or name in ("handle", "handle_path")
        else:
            modify(rule, state)


def _refuses(rule: Rule) -> bool:
    if rule.directive.name in ("abort", "error"):
        return True
    status = rule.args[-1] if rule.args else ""
    return rule.directive.name == "respond" and bool(re.fullmatch(r"4\d\d|5\d\d", status))


def _only(rule: Rule, rest: Block, shape: str, state: State, made: list[Route]) -> None:
    """Take over ``respond @others 403`` with ``@others not …``: what the matcher excepts meets the
    rules that follow, and all else is refused."""
    place, asked = rule.directive.place, rule.matcher.negated
    inner: list[Route] = []
    twin = state.copy()
    _run(rest, shape, twin, inner)
    if not twin.hidden:
        if twin.route.action is None:
            twin.route.put("respond", {"status": "200"}, place)
        inner.append(twin.route)
    for one in inner:
        if "methods" in asked:
            one.put("methods", asked["methods"], place)
            continue
        one.ask(asked, place)
    made += inner
    refused: list[Route] = []
    _answer(rule, shape, state, refused)
    made += refused


_CONDITION = "its condition asks for more than a path, which only routes do here"


def _of_endings(rule: Rule, state: State) -> None:
    """Take over ``header *.css Cache-Control …``; any other rule for endings of names is left
    out."""
    one, args = rule.directive, rule.args
    if one.name == "header" and len(args) == 2 and args[0].lower() == "cache-control":
        key = ",".join(f"*.{name}" for name in rule.matcher.endings)
        entry = state.route.keys.get("cache_control")
        before = {} if entry is None else entry.value
        state.route.put("cache_control", {key: args[1], **before}, one.place)
        return
    why = NO_ROUTE_OF_ENDINGS
    state.route.leave(one.place, str(one), why, guard=one.name in KEEPS_OUT)


# Answers


def _answer(rule: Rule, shape: str, state: State, made: list[Route]) -> None:
    one, args, route = rule.directive, rule.args, state.route
    before = len(made)
    match one.name:
        case "redir" if args:
            _redirect(rule, shape, state)
        case "respond":
            _respond(one, args, route)
        case "abort":
            route.put("respond", {"status": "403"}, one.place)
            route.note(one.place, "connections are not just closed here: it is 403")
        case "error" if args:
            status = next((word for word in args if re.fullmatch(r"\d{3}", word)), "500")
            route.put("respond", {"status": status}, one.place)
        case "reverse_proxy":
            proxying.reverse_proxy(one, args, route)
            if route.action == "backend" and state.stripped:
                route.put("strip_prefix", True, one.place)
        case "php_fastcgi":
            php_fastcgi(one, args, state)
        case "file_server":
            file_server(one, args, state)
        case "handle" | "handle_path" | "route" if rule.block is not None:
            if one.name == "handle_path" and shape.endswith("/*"):
                state.stripped = shape[:-2]
            _run(rule.block, shape, state, made)
            if one.name == "route" or state.hidden:
                return
            if route.action is None:
                route.put("respond", {"status": "200"}, one.place)
        case _:
            return
    if route.action is not None and not state.hidden:
        made.append(route)
        state.hidden = True
        _settle(route)
        route.pass_credentials(one.place)
    elif len(made) == before and route.left and not state.hidden:
        # What would have answered could not be taken over: nothing else may answer in its place.
        route.put("respond", {"status": "501"}, one.place)
        made.append(route)
        state.hidden = True


def _settle(route: Route) -> None:
    """Say in the words for files, or in those for a backend, what was said before the answer was
    known."""
    if "root" not in route.keys:
        for key in ("fallback", "extensions"):
            route.keys.pop(key, None)
    entry = route.keys.get("cache_control")
    if entry is None or "root" in route.keys:
        if entry is not None and "*" in entry.value:
            entry.value["*"] = entry.value.pop("*")  # to the end: the first that fits decides
        return
    del route.keys["cache_control"]
    if "*" in entry.value:
        route.put_in(("headers", "set", "Cache-Control"), entry.value.pop("*"), entry.place)
    if entry.value and route.action == "backend":
        why = "of a backend's answers the path does not decide"
        route.leave(entry.place, f"header Cache-Control for {' '.join(entry.value)}", why)


def _redirect(rule: Rule, shape: str, state: State) -> None:
    one, args, route = rule.directive, rule.args, state.route
    target, code = args[0], args[1] if len(args) > 1 else "302"
    code = {"permanent": "301", "temporary": "302", "html": "302"}.get(code, code)
    made = in_target(target, rule.matcher.forms.get(shape))
    if made is None:
        route.leave(one.place, str(one), "it has a placeholder that is not known here")
        return
    route.redirect(made, code, one.place)


def _respond(one: Directive, args: list[str], route: Route) -> None:
    said: dict[str, Any] = {}
    words = list(args)
    if words and re.fullmatch(r"\d{3}", words[-1]):
        said["status"] = words.pop()
    inner = {each.name: each for each in one.block or ()}
    if "body" in inner and inner["body"].args:
        words = [inner["body"].args[0]]
    if words:
        if re.search(r"\{[a-z][\w.]*\}", words[0]):
            route.leave(one.place, str(one), "the text of a fixed answer has no variables")
            return
        said["body"] = words[0]
    said.setdefault("status", "200")
    kind = _taken_field(route, "content-type")
    if kind:
        said["content_type"] = kind
    again = _taken_field(route, "retry-after")
    if again:
        said["retry_after"] = f"{again}s" if again.isdigit() else again
    route.put("respond", said, one.place)


def _taken_field(route: Route, name: str) -> str:
    """Take a field out of ``headers.set`` that has a key of its own."""
    entry = route.keys.get("headers")
    fields = entry.value.get("set", {}) if entry is not None else {}
    for key in list(fields):
        if key.lower() == name:
            value: str = fields.pop(key)
            if entry is not None and not fields:
                del entry.value["set"]
                if not entry.value:
                    del route.keys["headers"]
            return value
    return ""
