"""Locations become routes.

nginx takes the longest prefix, or the first regular expression that fits; here a route is an exact
path or all below a folder. ``location /api`` takes ``/api``, ``/api/x`` and ``/apiary``: it becomes
two routes, and the third is told. Of regular expressions those become routes that say no more than
paths (`path_patterns`); endings of file names become ``cache_control``; ``\\.php$`` tells who runs
scripts.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from ..draft import Draft, Level, Place, Route, Site
from ..path_patterns import PathForm, endings, filled, forms, hides_dot_files
from . import conditions, fields, guards, upstreams
from .directives import Directive, Scope
from .needless import FASTCGI_PARAMS
from .upstreams import Upstream, read_upstream
from .variables import constants, in_field, in_target

_REDIRECTS = ("301", "302", "303", "307", "308")
_SCHEMES = {"http": "http", "https": "https"}
_GRPC = {"grpc": "h2c", "grpcs": "https", "http": "h2c", "https": "https"}
# What decides over a request in a location, in this order.
_ANSWERS = ("return", "rewrite", "proxy_pass", "grpc_pass", "fastcgi_pass", "uwsgi_pass",
            "scgi_pass", "memcached_pass")  # fmt: skip


class World:
    """What stands beside the servers: upstreams, zones of rates, maps."""

    def __init__(self, http: Scope, draft: Draft) -> None:
        self.http = http
        self.draft = draft
        self.upstreams: dict[str, Upstream] = {
            one.arg: read_upstream(one) for one in http.here("upstream")
        }
        self.zones: dict[str, tuple[str, str, Place]] = {}
        for one in http.here("limit_req_zone"):
            found = guards.zone(one)
            if found is None:
                draft.leave(one.place, str(one), "rates count by address or site, and per s or m")
            else:
                self.zones[found[0]] = found[1]
        self.paths: dict[str, list[tuple[str, str, Place]]] = {}  # of maps: variable to pairs
        self.maps: dict[str, Directive] = {}
        for one in http.here("map"):
            self._map(one)

    def _map(self, one: Directive) -> None:
        if len(one.args) != 2:
            return
        source, name = one.args[0], one.args[1].lstrip("$")
        if source == "$http_upgrade":  # WebSockets pass by themselves
            one.use()
        elif source in ("$uri", "$request_uri"):
            self.maps[name] = one
            self.paths[name] = [
                (each.name, each.arg, each.place)
                for each in one.block or ()
                if each.name not in ("default", "hostnames", "include", "volatile")
            ]
            for each in one.block or ():
                each.used = True
        else:
            one.used = False

    def finish(self) -> None:
        for known in self.upstreams.values():
            if not known.told:
                for place, text, why in known.left:
                    self.draft.leave(place, text, why)


@dataclass(slots=True)
class _Server:
    site: Site
    scope: Scope
    world: World
    named: dict[str, Directive] = field(default_factory=dict)
    internal: dict[str, tuple[str, list[str]]] = field(default_factory=dict)
    php: str = ""  # where scripts are run
    php_place: Place | None = None
    script: str = ""  # the front controller
    assets: list[tuple[list[str], str, Place]] = field(default_factory=list)
    refusals: list[tuple[dict[str, Any], dict[str, Any], Place]] = field(default_factory=list)
    methods: tuple[list[str], Place] | None = None


def compile_server(scope: Scope, site: Site, world: World) -> None:
    """Add the routes of a server block to its site."""
    server = _Server(site, scope, world)
    blocks = scope.here("location")
    server.named = {one.arg: one for one in blocks if one.arg.startswith("@")}
    _internals(server, blocks)
    _scripts(server, blocks)
    _conditions(server)
    _redirects(server)
    returned = scope.here("return")
    if returned:  # answers whatever a location would
        route = Route(returned[0].place)
        _return(server, returned[0], route, PathForm("/*", 1))
        _beside(server, scope, route)
        for one in blocks:
            one.use()
        site.add(route)
    else:
        for one in blocks:
            _location(server, one, scope)
        if not any(route.path == "/*" for route in site.routes):
            _answer(server, scope, [PathForm("/*", 1)], Route(site.place), "/", base=True)
    _finish(server)


# What is known before the locations are read


def _internals(server: _Server, blocks: list[Directive]) -> None:
    for one in blocks:
        inner = server.scope.inner(one)
        if one.args and any(each.name == "internal" for each in one.block or ()):
            passed = [each for each in one.block or () if each.name == "proxy_pass"]
            if passed:
                found = upstreams.target(
                    constants(inner, passed[0].arg), server.world.upstreams, _SCHEMES
                )
                if found is not None and found.backends:
                    first = found.backends[0]
                    url = first["url"] if isinstance(first, dict) else first
                    path = found.path if found.path is not None else one.args[-1]
                    server.internal[one.args[-1]] = (f"{url}{path}", [])


def _scripts(server: _Server, blocks: list[Directive]) -> None:
    """Find the location that hands ``*.php`` to an interpreter."""
    for one in blocks:
        inner = server.scope.inner(one)
        passed = [each for each in one.block or () if each.name == "fastcgi_pass"]
        regex = one.args[0] in ("~", "~*") and "php" in one.args[-1]
        exact = one.args[0] == "=" and one.args[-1].endswith(".php")
        if not passed or not (regex or exact):
            continue
        where = _fastcgi(constants(inner, passed[0].arg), server.world)
        if where is None:
            server.site.leave(passed[0].place, str(passed[0]), "where scripts are run is not said")
            continue
        one.used = True
        passed[0].used = True
        if exact:
            server.script = one.args[-1]
        server.php, server.php_place = where, passed[0].place
        _script_location(server, inner, one)


def _fastcgi(text: str, world: World) -> str | None:
    known = world.upstreams.get(text)
    if known is not None:
        known.told = True
        if len(known.servers) != 1:
            return None
        text = known.servers[0][0]
    if "$" in text:
        return None
    return text if text.startswith("unix:") else f"tcp://{text}"


def _script_location(server: _Server, inner: Scope, one: Directive) -> None:
    """Take what else stands in the block of the scripts."""
    upstreams.timeouts(inner, server.site, "fastcgi")
    for each in inner.here("fastcgi_param"):
        name, value = (*each.args, "", "")[:2]
        if name not in FASTCGI_PARAMS and value not in ("", "off"):
            server.site.leave(each.place, str(each), "only what CGI names is told to scripts")
    for each in (*inner.here("try_files"), *inner.here("fastcgi_intercept_errors")):
        each.used = True
    for each in inner.here("if"):
        if each.args[:1] in (("!-f",), ("!-e",)):
            each.use()  # no file, no script
    inside = guards._ordered(inner, ("allow", "deny"))
    if any(each in (one.block or []) for each in inside):
        for each in inside:
            why = "scripts cannot be guarded apart from the site"
            server.site.leave(each.place, str(each), why, guard=True)


def _conditions(server: _Server) -> None:
    scope, site = server.scope, server.site
    for one in scope.here("if"):
        if all(each.used for each in one.block or ()) and one.block:
            continue
        allowed = conditions.methods(one)
        if allowed is not None:
            one.use()
            server.methods = (allowed, one.place)
            continue
        script = conditions.front_controller(one)
        if script is not None:
            one.use()
            server.script = script
            continue
        answer = _fixed(server, one.block or [])
        asked = conditions.match(one)
        if answer is not None and asked is not None:
            one.use()
            server.refusals.append((asked, answer, one.place))
            continue
        if _by_map(server, one):
            continue
        conditions.leave(one, site)


def _fixed(server: _Server, block: list[Directive]) -> dict[str, Any] | None:
    """The keys of an answer that is the same for every request."""
    for one in block:
        if one.name == "return":
            route = Route(one.place)
            _return(server, one, route, PathForm("/*"))
            keys = {key: entry.value for key, entry in route.keys.items()}
            return keys if keys and not route.left else None
    return None


def _by_map(server: _Server, one: Directive) -> bool:
    """``if ($new) { return 301 $new; }`` with a map of paths."""
    name = one.arg.lstrip("$")
    if name not in server.world.paths or len(one.args) != 1:
        return False
    status = "301"
    for each in one.block or ():
        if each.name == "return" and each.arg in _REDIRECTS:
            status = each.arg
        elif each.name == "rewrite":
            status = "301" if each.args[-1] == "permanent" else "302"
    one.use()
    server.world.maps[name].used = True
    for path, target, place in server.world.paths[name]:
        _mapped(server, path, target, status, place)
    return True


def _mapped(server: _Server, path: str, target: str, status: str, place: Place) -> None:
    expression = path.lstrip("~*")
    found = forms(expression) if path.startswith("~") else [PathForm(path)]
    for form in found or ():
        made = filled(target, form, lambda text: in_target(server.scope, text, _name(server)))
        if made is not None:
            route = Route(place, path=form.path)
            route.put("redirect", made, place)
            route.put("status", status, place)
            server.site.add(route)
            continue
        server.site.leave(place, f"{path} {target}", "it has a variable that is not known here")
    if not found:
        server.site.leave(place, f"{path} {target}", _NO_ROUTE)


_NO_ROUTE = "a route is an exact path, or all below a folder"


def _redirects(server: _Server) -> None:
    """``rewrite`` beside the locations: it comes before all of them."""
    for one in server.scope.here("rewrite"):
        _rewritten(server, one, None)


def _name(server: _Server) -> str:
    return server.site.names[0]


# Locations


def _location(server: _Server, one: Directive, outer: Scope, within: str = "") -> None:
    one.used = True
    *modifier, pattern = one.args or ("/",)
    kind = modifier[0] if modifier else ""
    scope = outer.inner(one)
    for each in scope.here("set"):
        if len(each.args) == 2 and "$" not in each.args[1]:
            scope.constants[each.args[0].lstrip("$")] = each.args[1]
    site = server.site
    nested = scope.here("location")
    if pattern.startswith("@"):
        return
    if pattern.rstrip("/").startswith("/.well-known/acme-challenge"):
        one.use()
        return
    if kind in ("~", "~*"):
        _regular(server, one, scope, pattern, kind == "~*")
    else:
        if scope.here("internal"):
            if not _is_error_page(server, pattern) and pattern not in server.internal:
                site.leave(one.place, str(one), "paths that only backends may name are not known")
                route = Route(one.place, path=pattern if kind == "=" else _below(pattern))
                route.put("respond", {"status": "404"}, one.place)
                site.add(route)
            elif pattern in server.internal:
                pass
            else:
                _answer(server, scope, [PathForm(pattern)], Route(one.place), pattern)
            one.use()
        else:
            shapes = _shapes(kind, pattern)
            _answer(server, scope, shapes, Route(one.place), pattern)
            if shapes[0].loose and pattern != "/":
                _tell_loose(server, scope, one, pattern)
    for each in nested:
        _location(server, each, scope, pattern)


def _tell_loose(server: _Server, scope: Scope, one: Directive, pattern: str) -> None:
    said = f"{pattern} took {pattern}xyz as well; here that is another path"
    if any(each.name in guards.NAMES for each in scope.directives):
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


def _is_error_page(server: _Server, path: str) -> bool:
    return any(one.args[-1:] == (path,) for one in server.scope.all("error_page"))


def _regular(
    server: _Server, one: Directive, scope: Scope, pattern: str, ignore_case: bool
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
        site.note(one.place, "files whose names begin with a dot are never sent")
        return
    names = endings(pattern)
    if names is not None and not denies:
        _endings(server, one, scope, names)
        return
    found = forms(pattern)
    if found is None:
        one.use()
        guard = denies or any(each.name in guards.NAMES for each in one.block or ())
        site.leave(one.place, f"location {' '.join(one.args)}", _NO_ROUTE, guard=guard)
        if guard:
            _close_beginning(server, one, pattern)
        return
    if ignore_case and any(re.search("[A-Za-z]", form.path) for form in found):
        site.note(one.place, "here upper and lower case differ in paths")
    _answer(server, scope, found, Route(one.place), "", regular=True)


def _close_beginning(server: _Server, one: Directive, pattern: str) -> None:
    """A guard for an expression that no route can say: its folder is closed, if it names one."""
    found = re.match(r"\^((?:/[A-Za-z0-9_-]+)+)/", pattern)
    if found:
        route = Route(one.place, path=f"{found[1]}/*")
        route.put("respond", {"status": "403"}, one.place)
        route.note(one.place, "closed, because what was guarded in it cannot be told apart")
        server.site.add(route)


def _endings(server: _Server, one: Directive, scope: Scope, names: list[str]) -> None:
    """A location of files by their endings: how long they are kept, and no more."""
    said: list[str] = []
    for each in scope.here("expires"):
        text = fields.cache_control(each.args)
        if text:
            said.append(text)
    for each in scope.here("add_header"):
        if each.arg.lower() == "cache-control" and len(each.args) > 1:
            text = in_field(scope, each.args[1])
            if text:
                said.append(text)
        elif each.arg.lower() not in ("pragma", "vary"):
            each.used = False
    for name in ("try_files", "log_not_found", "access_log", "tcp_nodelay", "etag"):
        scope.here(name)
    if said:
        server.assets.append((names, fields.joined_cache_control(said), one.place))
    for each in one.block or ():
        if not each.used and each.name in ("root", "alias", "proxy_pass", "return", "rewrite"):
            why = "files are told apart by their endings for cache_control alone"
            server.site.leave(each.place, str(each), why)
            each.used = True


# Answers


def _answer(
    server: _Server,
    scope: Scope,
    shapes: list[PathForm],
    like: Route,
    prefix: str,
    *,
    regular: bool = False,
    base: bool = False,
) -> None:
    """Add a route for each shape. ``base``: no location takes it; the server's files do."""
    for number, form in enumerate(shapes):
        route = Route(like.place, path=form.path)
        if number:
            quiet = Route(like.place, path=form.path)
            _act(server, scope, quiet, form, prefix, regular)
            route = quiet
            if route.action is not None:
                _beside(server, scope, route)
            route.left = []
        else:
            _act(server, scope, route, form, prefix, regular)
            if route.action is not None:
                _beside(server, scope, route)
        if route.action is not None:
            server.site.add(route)
        elif route.left:
            server.site.left += route.left
            guarded = any(one.name in guards.NAMES for one in scope.directives)
            if not base and (guarded or not regular):
                shut = Route(like.place, path=form.path)
                shut.put("respond", {"status": "501"}, like.place)
                shut.note(like.place, "its answer could not be taken over")
                server.site.add(shut)
        if (
            form.path == f"{prefix}*"
            and prefix != "/"
            and route.action in ("backend", "fastcgi")
            and not any(other.path == prefix.rstrip("/") for other in server.site.routes)
        ):
            slash = Route(like.place, path=prefix.rstrip("/"))
            slash.put("redirect", prefix, like.place)
            slash.put("status", "301", like.place)
            server.site.add(slash)


def _act(
    server: _Server, scope: Scope, route: Route, form: PathForm, prefix: str, regular: bool
) -> None:
    own = [one for one in scope.directives if one.name in _ANSWERS]
    for one in own:
        if one.name == "return":
            one.used = True
            _return(server, one, route, form)
            return
    passed = next((one for one in own if one.name.endswith("_pass")), None)
    for one in own:
        if one.name == "rewrite":
            one.used = True
            if _rewritten(server, one, route, passed):
                return
    for one in scope.here("if"):
        _location_condition(server, one, scope, route)
    if passed is not None:
        passed.used = True
        if passed.name == "fastcgi_pass":
            _files(server, scope, route, form, prefix, regular)
            where = _fastcgi(constants(scope, passed.arg), server.world)
            if where is not None:
                route.put("fastcgi", where, passed.place)
                _script_location(server, scope, passed)
            return
        _proxy(server, scope, route, passed, form, prefix, regular)
        return
    _files(server, scope, route, form, prefix, regular)


def _location_condition(server: _Server, one: Directive, scope: Scope, route: Route) -> None:
    if one.used and all(each.used for each in one.block or ()):
        return
    if one.args[:2] == ("$request_method", "=") and one.args[2:] == ("OPTIONS",):
        route.leave(one.place, f"if ({' '.join(one.args)})", "preflights are answered by cors")
        one.use()
        return
    allowed = conditions.methods(one)
    if allowed is not None:
        one.use()
        route.put("methods", allowed, one.place)
        return
    script = conditions.front_controller(one)
    if script is not None:
        one.use()
        server.script = script
        return
    answer, asked = _fixed(server, one.block or []), conditions.match(one)
    if answer is not None and asked is not None:
        one.use()
        twin = Route(one.place, path=route.path)
        twin.put("match", asked, one.place)
        for key, value in answer.items():
            twin.put(key, value, one.place)
        server.site.add(twin)
        return
    conditions.leave(one, route)


def _return(server: _Server, one: Directive, route: Route, form: PathForm) -> None:
    code, text = (one.args[0], " ".join(one.args[1:])) if len(one.args) > 1 else (one.arg, "")
    if not code.isdigit():
        code, text = "302", code
    if code in _REDIRECTS and text:
        made = filled(text, form, lambda each: in_target(server.scope, each, _name(server)))
        if made is None:
            route.leave(one.place, str(one), "it has a variable that is not known here")
            return
        route.put("redirect", made or "/", one.place)
        route.put("status", code, one.place)
        return
    said: dict[str, Any] = {"status": "404" if code in ("444", "499") else code}
    body = in_field(server.scope, text) if text else ""
    if body is None or "{" in (body or "") and "{" not in text:
        route.leave(one.place, str(one), "the text of a fixed answer has no variables")
        return
    if text:
        said["body"] = text
        kind = server.scope.word("default_type") or "text/plain"
        said["content_type"] = kind
    if code in ("444", "499"):
        route.note(one.place, "connections are not just closed here: it is 404")
    route.put("respond", said, one.place)


def _rewritten(
    server: _Server, one: Directive, route: Route | None, passed: Directive | None = None
) -> bool:
    """A ``rewrite``. In a location its ``route`` is given, and True is returned when that has its
    answer by this."""
    expression, target, *flags = (*one.args, "", "")[:3]
    flag = flags[0] if flags else ""
    away = flag in ("permanent", "redirect") or target.startswith(("http://", "https://"))
    site = server.site
    found = forms(expression) if expression.startswith("^") else None
    if expression in (".*", "(.*)", "/"):
        found = [PathForm("/*", -1 if "(" in expression else 0)]
    if not away and server.php and re.match(r"/[\w.-]+\.php", target):
        server.script = re.match(r"/[\w./-]+", target)[0]  # type: ignore[index] # it has just matched
        return False
    if found is None:
        (route or site).leave(one.place, str(one), _NO_ROUTE)
        return False
    query = target.endswith("?")
    done = False
    for form in found:
        shown = target.removesuffix("?") if query else target
        made = filled(shown, form, lambda text: in_target(server.scope, text, _name(server)))
        if made is None:
            (route or site).leave(one.place, str(one), "it has a variable that is not known here")
            return False
        if not away:
            if route is None or form.path == route.path or (
                form.path.endswith("/*") and route.path == form.path
            ):  # fmt: skip
                holder = route if route is not None else Route(one.place, path=form.path)
                made = re.sub(r"\?$", "", made)
                if route is not None and passed is not None and made == "/{rest}":
                    holder.put("strip_prefix", True, one.place)
                else:
                    holder.put("rewrite", made, one.place)
                if route is None:
                    _act(server, server.scope, holder, form, "/", True)
                    if holder.action is not None:
                        _beside(server, server.scope, holder)
                        site.add(holder)
            elif route is not None and form.path.startswith(route.path.rstrip("*")):
                (route or site).leave(one.place, str(one), _NO_ROUTE)
            continue
        status = "301" if flag == "permanent" else "302"
        if route is not None and form.path == route.path:
            route.put("redirect", made or "/", one.place)
            route.put("status", status, one.place)
            done = True
            continue
        if route is not None and not _within(form.path, route.path):
            if form.path == "/*":  # the whole of the location
                shape = PathForm(route.path, form.rest)
                made = filled(shown.replace("$1", "$request_uri"), shape,
                              lambda text: in_target(server.scope, text, _name(server)))  # fmt: skip
                if made is not None:
                    route.put("redirect", re.sub(r"(?<!:)//", "/", made), one.place)
                    route.put("status", status, one.place)
                    done = True
            continue
        other = Route(one.place, path=form.path)
        other.put("redirect", made or "/", one.place)
        other.put("status", status, one.place)
        site.add(other)
    return done


def _within(path: str, route: str) -> bool:
    return route.endswith("/*") and path.startswith(route[:-1])


def _proxy(
    server: _Server,
    scope: Scope,
    route: Route,
    passed: Directive,
    form: PathForm,
    prefix: str,
    regular: bool,
) -> None:
    kind = passed.name.removesuffix("_pass")
    if kind not in ("proxy", "grpc"):
        route.leave(passed.place, str(passed), "backends speak HTTP; see fastcgi for PHP")
        return
    text = constants(scope, passed.arg)
    if kind == "grpc" and "://" not in text:
        text = f"grpc://{text}"
    # The path is put behind the address by hand; here that is what happens anyway.
    text = re.sub(r"\$request_uri$|\$uri(\$is_args\$args)?$", "", text)
    found = upstreams.target(
        text, server.world.upstreams, _GRPC if kind == "grpc" else _SCHEMES
    )
    if found is None or not found.backends:
        route.leave(passed.place, str(passed), "which backend that is, only nginx can tell")
        return
    backends, path = found.backends, found.path
    if "rewrite" in route.keys or "strip_prefix" in route.keys:
        path = None  # nginx ignores the URI part where a rewrite changed it
    if path is not None and not regular and prefix:
        backends = _with_uri(route, form, prefix, path, backends, passed)
    shown = backends[0] if len(backends) == 1 else backends
    route.put("backend", shown, passed.place)
    if found.upstream is not None:
        for key, (value, place) in found.upstream.keys.items():
            route.put(key, value, place)
        if not found.upstream.told:
            found.upstream.told = True
            for place, said, why in found.upstream.left:
                route.leave(place, said, why)
    if found.scheme in ("https", "grpcs"):
        upstreams.secure(scope, route, passed.place, kind)
        if kind == "grpc":
            route.put_in(("backend_tls", "http2"), True, passed.place)
    upstreams.timeouts(scope, route, kind)
    guards.subrequest(scope, route, server.internal)
    fields.request_fields(scope, route, found.host, kind)
    if scope.word("proxy_intercept_errors") == "on":
        one = scope.one("proxy_intercept_errors")
        route.put("intercept", True, one.place if one else passed.place)
    for name in ("proxy_redirect",):
        for each in scope.all(name):
            if each.arg in ("off", "default"):
                continue
            each.used = True
            route.leave(each.place, str(each), "Location fields of backends are passed on as they are")


def _with_uri(
    route: Route, form: PathForm, prefix: str, path: str, backends: list[Any], passed: Directive
) -> list[Any]:
    """``location /a/ { proxy_pass http://b/c/; }``: what the location took is replaced."""
    if form.path == prefix and not prefix.endswith("/"):  # exact
        if path != prefix:
            route.put("rewrite", path, passed.place)
        return backends
    if path == prefix:
        return backends
    if prefix == "/":
        return upstreams.with_path(backends, path)
    if path.rstrip("/") == "":
        route.put("strip_prefix", True, passed.place)
        return backends
    if not form.path.endswith("/*"):
        route.put("rewrite", path, passed.place)
        return backends
    route.put("rewrite", f"{path.rstrip('/')}/{{rest}}", passed.place)
    return backends


def _files(
    server: _Server, scope: Scope, route: Route, form: PathForm, prefix: str, regular: bool
) -> None:
    alias = next(iter(scope.here("alias")), None)
    root = scope.one("root")
    tried = scope.one("try_files")
    named = tried.args[-1] if tried is not None and tried.args else ""
    if named.startswith("@") and named in server.named and alias is None:
        if _named(server, scope, route, form, named, tried):
            return
    if alias is not None:
        where = constants(scope, alias.arg)
        if "$" in where:
            route.leave(alias.place, str(alias), "a folder has a name without variables")
            return
        if form.path == prefix and not prefix.endswith("/"):
            folder, _slash, name = where.rpartition("/")
            if not where.endswith("/") and name and "." in name:
                route.put("root", folder or "/", alias.place)
                route.put("rewrite", f"/{name}", alias.place)
            else:
                route.put("redirect", f"{prefix}/", alias.place)
                route.put("status", "301", alias.place)
                return
        else:
            route.put("root", where.rstrip("/") or "/", alias.place)
    elif root is not None:
        where = constants(scope, root.arg)
        if "$" in where.replace("$document_root", ""):
            route.leave(root.place, str(root), "a folder has a name without variables")
            return
        if not where.startswith("/"):
            where = f"/usr/share/nginx/{where}"
        where = where.rstrip("/")
        if form.path.endswith("/*"):
            where += form.path[:-2]
        elif "." not in form.path.rpartition("/")[2] and not regular and prefix != "/":
            # nginx sends people from a folder's name to the folder.
            if any(other == f"{form.path}/*" for other in (f"{prefix}/*",)) and tried is None:
                route.put("redirect", f"{form.path}/", route.place)
                route.put("status", "301", route.place)
                return
        route.put("root", where or "/", root.place)
    else:
        returned = [one for one in scope.directives if one.name in ("deny", "allow", "auth_basic")]
        if returned:
            route.put("respond", {"status": "404"}, route.place)
        return
    _file_keys(server, scope, route, form, tried)


def _file_keys(
    server: _Server, scope: Scope, route: Route, form: PathForm, tried: Directive | None
) -> None:
    index = scope.one("index")
    names = [name for name in index.args if "/" not in name and "$" not in name] if index else []
    if names and names != ["index.html"]:
        if not server.php:
            names = [name for name in names if not name.endswith(".php")]
        if names and names != ["index.html"] and index is not None:
            route.put("index", names, index.place)
    listing = scope.one("autoindex")
    kind = scope.word("autoindex_format")
    for name in ("autoindex_exact_size", "autoindex_localtime"):
        scope.all(name)
    if listing is not None and listing.arg == "on":
        route.put("listing", kind if kind in ("html", "json") else True, listing.place)
    if tried is not None:
        _tried(server, route, form, tried)
    if server.php and server.php_place is not None:
        route.put("fastcgi", server.php, server.php_place)
        if server.script and "fallback" not in route.keys and form.path == "/*":
            route.put("fallback", server.script, server.php_place)


def _tried(server: _Server, route: Route, form: PathForm, tried: Directive) -> None:
    *names, last = tried.args
    ends = []
    for name in names:
        found = re.fullmatch(r"\$uri(\.\w+)", name)
        if found:
            ends.append(found[1])
        elif name not in ("$uri", "$uri/", "$uri/index.html", "$uri/index.htm", "$uri/index.php",
                          "/index.html", "index.html", "$document_root$uri"):  # fmt: skip
            route.leave(tried.place, f"try_files … {name}", "it is looked for below root by its path alone")
    if ends:
        route.put("extensions", ends, tried.place)
    if last.startswith(("=", "@")):
        if last not in ("=404",) and last.startswith("="):
            route.note(tried.place, f"what is not there is 404 here, and not {last[1:]}")
        return
    path = last.partition("?")[0]
    if "$" in path:
        if path not in ("$uri", "$uri/"):
            route.leave(tried.place, str(tried), "the last of them is a file with a name")
        return
    if path.endswith(".php"):
        server.script = server.script or path
        route.put("fallback", path, tried.place)
        return
    beneath = form.path[:-2] if form.path.endswith("/*") else ""
    if beneath and path.startswith(f"{beneath}/"):
        path = path[len(beneath) :]
    elif beneath:
        route.leave(tried.place, str(tried), f"the file that is sent instead lies below {beneath}")
        return
    route.put("fallback", path, tried.place)


def _named(
    server: _Server,
    outer: Scope,
    route: Route,
    form: PathForm,
    name: str,
    tried: Directive | None,
) -> bool:
    """``try_files … @name``: a front controller, or a backend with files beside it."""
    one = server.named[name]
    one.used = True
    inner = Scope(one.block or [], server.scope)
    for each in inner.directives:
        if each.name == "rewrite" and server.php:
            each.used = True
            found = re.match(r"/[\w./-]+\.php", each.args[1] if len(each.args) > 1 else "")
            if found:
                server.script = found[0]
            return False
        if each.name == "return":
            return False
    passed = next((each for each in inner.directives if each.name.endswith("_pass")), None)
    if passed is None or tried is None:
        return False
    passed.used = True
    if passed.name == "fastcgi_pass":
        return False
    _proxy(server, inner, route, passed, form, "", True)
    _beside(server, inner, route)
    if tried.args[:-1]:
        root = outer.one("root")
        where = f" in {root.arg}" if root is not None else ""
        why = f"files{where} do not go before a backend here; give their folders a route each"
        route.leave(tried.place, str(tried), why)
    return True


# What stands beside


def _beside(server: _Server, scope: Scope, route: Route) -> None:
    guards.access(scope, route)
    if "forward_auth" not in route.keys:
        guards.subrequest(scope, route, server.internal)
    guards.rates(scope, route, server.world)
    fields.response_fields(scope, route)
    if route.action in ("backend", "fastcgi"):
        fields.body_size(scope, route)
    if route.action not in ("redirect", "respond"):
        fields.compression(scope, route)
        _error_pages(scope, route)
    if server.methods is not None and "methods" not in route.keys:
        route.put("methods", *server.methods)


def _error_pages(scope: Scope, route: Route) -> None:
    for one in scope.all("error_page"):
        *codes, target = one.args
        changed = [code for code in codes if code.startswith("=")]
        codes = [code for code in codes if code.isdigit()]
        if "auth_request" in {each.name for each in scope.directives} and codes == ["401"]:
            continue
        if not target.startswith("/") or "$" in target:
            route.leave(one.place, str(one), "an error page is a path of the site or a file")
            continue
        if changed and codes == ["404"] and route.action == "root" and target.endswith(".html"):
            route.put("fallback", target, one.place)
            continue
        if changed:
            route.note(one.place, "here an error page keeps its status")
        kept = [code for code in codes if code not in ("497", "494", "495", "496", "499")]
        if kept:
            route.put_in(("error_pages", ",".join(kept)), target, one.place)


def _finish(server: _Server) -> None:
    """Say at each route what holds for all of the block."""
    site = server.site
    for route in list(site.routes):
        if route.action not in ("root", "fastcgi") or route.path.endswith((".html", ".php")):
            continue
        if server.assets:
            there = route.value("cache_control") or {}
            made = {",".join(f"*.{name}" for name in names): said for names, said, _ in server.assets}
            route.put("cache_control", {**made, **there}, server.assets[0][2])
    if server.assets and not any(route.action in ("root", "fastcgi") for route in site.routes):
        for names, said, place in server.assets:
            text = f"Cache-Control {said} for {', '.join(names)}"
            site.leave(place, text, "of a backend's answers the path does not decide")
    for asked, answer, place in server.refusals:
        for path in dict.fromkeys(route.path for route in site.routes):
            twin = Route(place, path=path)
            twin.put("match", asked, place)
            for key, value in answer.items():
                twin.put(key, value, place)
            first = next(n for n, route in enumerate(site.routes) if route.path == path)
            site.routes.insert(first, twin)


__all__ = ["Level", "World", "compile_server"]
