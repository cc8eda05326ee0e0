"""Locations become routes.

nginx takes the longest prefix, or the first regular expression that fits; here a route is an exact
path or all below a folder. ``location /api`` takes ``/api``, ``/api/x`` and ``/apiary``: it becomes
two routes, and the third is told. Of regular expressions those become routes that say no more than
paths (`path_patterns`); those of endings of file names are `endings`'; ``\\.php$`` tells who runs
scripts.
"""

from __future__ import annotations

import os
import re

from ..backends import url_of
from ..draft import Route, Site
from ..path_patterns import NO_ROUTE, PathForm, endings, forms, hides_dot_files
from . import guards, upstreams
from .answers import ANSWERS, act, answer, beside
from .choices import server_conditions
from .directives import Directive, Scope
from .endings import by_endings, cached, files_beside_backend
from .redirects import returned, rewritten
from .scripts import find_scripts
from .variables import constants
from .world import Server, World

# The folder that an expression names at its beginning.
_BEGINNING = re.compile(r"\^((?:/[A-Za-z0-9_-]+)+)/")


def compile_server(scope: Scope, site: Site, world: World) -> None:
    """Add the routes of a server block to its site, and the client certificates that it takes."""
    server = Server(site, scope, world)
    blocks = scope.here("location")
    server.named = {one.arg: one for one in blocks if one.arg.startswith("@")}
    _internals(server, blocks)
    find_scripts(server, blocks)
    server_conditions(server)
    _redirects(server)
    at_once = scope.here("return")
    if at_once:  # answers whatever a location would
        route = Route(at_once[0].place)
        returned(server, at_once[0], route, PathForm("/*", 1))
        beside(server, scope, route)
        for one in blocks:
            one.use()
        site.add(route)
    else:
        for one in blocks:
            _location(server, one, scope)
        if not any(route.path == "/*" for route in site.routes):
            answer(server, scope, [PathForm("/*", 1)], site.place, "/", base=True)
    for route, form, inner in server.pending:
        act(server, inner, route, form, "/", True)
        if route.action is not None:
            beside(server, inner, route)
            site.add(route)
    _finish(server)
    guards.client_certificates(scope, site, all_of_them=server.certificate_asked)


def _internals(server: Server, blocks: list[Directive]) -> None:
    for one in blocks:
        inner = server.scope.inner(one)
        if one.args and any(each.name == "internal" for each in one.block or ()):
            passed = [each for each in one.block or () if each.name == "proxy_pass"]
            if passed:
                url = constants(inner, passed[0].arg)
                found = upstreams.target(url, server.world.upstreams)
                if found is not None and found.backends:
                    path = found.path if found.path is not None else one.args[-1]
                    server.internal[one.args[-1]] = f"{url_of(found.backends[0])}{path}"


def _redirects(server: Server) -> None:
    """Take over ``rewrite`` beside the locations, which comes before all of them."""
    for one in server.scope.here("rewrite"):
        rewritten(server, one, server.scope, None)


# Locations


def _location(server: Server, one: Directive, outer: Scope, within: str = "") -> None:
    one.used = True
    *modifier, pattern = one.args or ("/",)
    kind = modifier[0] if modifier else ""
    scope = outer.inner(one)
    scope.learn_constants()
    site = server.site
    nested = scope.here("location")
    if pattern.startswith("@"):
        return
    if pattern.rstrip("/").startswith("/.well-known/acme-challenge"):
        one.use()
        return
    if kind in ("~", "~*"):
        _regular(server, one, scope, pattern, kind == "~*", within)
    else:
        if scope.here("internal"):
            if pattern in server.internal:
                pass  # only asked who is there
            elif _is_error_page(server, pattern):
                answer(server, scope, [PathForm(pattern)], one.place, pattern)
            else:
                site.leave(one.place, str(one), "paths that only backends may name are not known")
                route = Route(one.place, path=pattern if kind == "=" else _below(pattern))
                route.put("respond", {"status": "404"}, one.place)
                site.add(route)
            one.use()
        else:
            shapes = _shapes(kind, pattern)
            answer(server, scope, shapes, one.place, pattern)
            if shapes[0].loose and pattern != "/":
                _tell_loose(server, scope, one, pattern)
    for each in nested:
        _location(server, each, scope, pattern)


def _tell_loose(
    server: Server, scope: Scope, one: Directive, pattern: str, *, guard: bool = False
) -> None:
    said = f"{pattern} took {pattern}xyz as well; here that is another path"
    if guard or any(each.name in guards.NAMES for each in scope.directives):
        server.site.leave(one.place, str(one), said, guard=True)
    else:
        server.site.note(one.place, said)


def _shapes(kind: str, pattern: str) -> list[PathForm]:
    if kind == "=":
        return [PathForm(pattern)]
    if pattern.endswith("/"):
        return [PathForm(f"{pattern}*", 1)]
    last = pattern.rpartition("/")[2]
    loose = "." not in last
    return [PathForm(pattern, 0, loose=loose), PathForm(f"{pattern}/*", 1, loose=loose)]


def _below(pattern: str) -> str:
    return f"{pattern.rstrip('/')}/*"


def _is_error_page(server: Server, path: str) -> bool:
    return any(one.args[-1:] == (path,) for one in server.scope.all("error_page"))


def _regular(
    server: Server, one: Directive, scope: Scope, pattern: str, ignore_case: bool, within: str
) -> None:
    site = server.site
    if any(each.name == "fastcgi_pass" for each in one.block or ()) and "php" in pattern:
        return
    denies = any(
        (each.name == "deny" and each.arg == "all")
        or (each.name == "return" and each.arg in ("403", "404", "444"))
        for each in one.block or ()
    )
    if denies and hides_dot_files(pattern):
        one.use()
        server.dots = one
        return
    names = endings(pattern)
    if names is not None and not denies:
        by_endings(server, one, scope, names, within)
        return
    found = forms(pattern)
    if found is None and denies and "php" in pattern and _scripts_kept_out(server, one, pattern):
        one.use()
        return
    if found is None:
        one.use()
        guard = denies or any(each.name in guards.NAMES for each in one.block or ())
        why = NO_ROUTE
        root = scope.one("root")
        if root is not None and not any(each.name in ANSWERS for each in one.block or ()):
            folder = _folder_of(pattern)
            where = f"{root.arg.rstrip('/')}{folder}"
            why += f", like {{path: {folder}/*, root: {where}}}"
        site.leave(one.place, f"location {' '.join(one.args)}", why, guard=guard)
        if guard:
            _close_beginning(server, one, pattern)
        return
    if denies:
        found = [form for form in found if not form.path.startswith("/.")]  # never sent
    loose = next((form for form in found if form.loose), None)
    if loose is not None:
        _tell_loose(server, scope, one, loose.path, guard=denies)
    if ignore_case and any(re.search("[A-Za-z]", form.path) for form in found):
        site.note(one.place, "here upper and lower case differ in paths")
    answer(server, scope, found, one.place, "", regular=True)


def _scripts_kept_out(server: Server, one: Directive, pattern: str) -> bool:
    """Take over ``/(?:uploads|files)/.*\\.php$`` denied: no script is run that somebody has
    uploaded. The folders that are meant get a route of files alone. Return False where none of them
    is there."""
    root = server.scope.word("root").rstrip("/")
    done = False
    for name in re.findall(r"[a-z-]{3,}", pattern.partition(r"\.")[0]):
        for path in (f"/{name}", f"/wp-content/{name}"):
            if root.startswith("/") and os.path.isdir(f"{root}{path}"):
                route = Route(one.place, path=f"{path}/*")
                route.put("root", f"{root}{path}", one.place)
                route.note(one.place, "no script is run here; one would be sent as a text")
                server.site.add(route)
                done = True
    return done


def _folder_of(pattern: str) -> str:
    """Return the folder that an expression names at its beginning, else one for an example."""
    found = _BEGINNING.match("^" + pattern.removeprefix("^"))
    return found[1] if found else "/images"


def _close_beginning(server: Server, one: Directive, pattern: str) -> None:
    """Close the folder that an expression names, if any, because no route can say what it
    guards."""
    found = _BEGINNING.match(pattern)
    if found:
        route = Route(one.place, path=f"{found[1]}/*")
        route.put("respond", {"status": "403"}, one.place)
        route.note(one.place, "closed, because what was guarded in it cannot be told apart")
        server.site.add(route)


def _finish(server: Server) -> None:
    """Say at each route what holds for all of the block."""
    site = server.site
    if server.dots is not None:
        if any("backend" in route.keys for route in site.routes):
            why = "of files such names are never sent; a backend is asked for them"
            site.leave(server.dots.place, str(server.dots), why, guard=True)
        else:
            site.note(server.dots.place, "files whose names begin with a dot are never sent")
    rest = next((route for route in site.routes if route.path == "/*"), None)
    if server.php and server.php_place is not None and rest is not None and "backend" in rest.keys:
        why = "scripts are run where files are served, and what no other route takes is a backend's"
        site.leave(server.php_place, f"fastcgi_pass {server.php}", why)
    for one, asked, keys, place in server.required_of:
        if any(route is one for route in site.routes):
            site.require(one.path, asked, keys, place)
    for asked, keys, place in server.required:
        for path in dict.fromkeys(route.path for route in site.routes):
            site.require(path, asked, keys, place)
    for route in list(site.routes):
        if ("methods" in route.keys and route.path != "/*") or route.value("_refuse"):
            # Other methods would try on, at a route for more paths.
            entry = route.keys["methods"]
            rest = Route(entry.place, path=route.path)
            rest.put("respond", {"status": route.value("_refuse") or "405"}, entry.place)
            site.routes.insert(site.routes.index(route) + 1, rest)
        route.keys.pop("_refuse", None)
    files_beside_backend(server)
    kept, cached_at = cached(server.assets)
    for route in list(site.routes):
        if "root" not in route.keys or route.path.endswith((".html", ".php")):
            continue
        if cached_at is not None:
            there = route.value("cache_control") or {}
            route.put("cache_control", {**kept, **there}, cached_at)
    if not any("root" in route.keys for route in site.routes):
        for assets in server.assets:
            if assets.cache_control:
                text = f"Cache-Control {assets.cache_control} for {', '.join(assets.names)}"
                why = "of a backend's answers the path does not decide"
                site.leave(assets.location.place, text, why)
    for asked, keys, place in server.refusals:
        for path in dict.fromkeys(route.path for route in site.routes):
            twin = Route(place, path=path)
            twin.put("match", asked, place)
            for key, value in keys.items():
                twin.put(key, value, place)
            first = next(n for n, route in enumerate(site.routes) if route.path == path)
            site.routes.insert(first, twin)
