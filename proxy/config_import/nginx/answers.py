"""What answers in a location: a backend, scripts, files; and what stands beside the answer."""

from __future__ import annotations

import os
import re

from ..backends import Backend, shown, with_path
from ..draft import Place, Route
from ..path_patterns import PathForm
from . import fields, guards, upstreams
from .choices import location_condition
from .directives import Directive, Scope
from .files import files
from .needless import WHY
from .redirects import returned, rewritten
from .scripts import beside_scripts, interpreter
from .variables import constants
from .world import Server

_MOST_BESIDE = 60  # files and folders beside a backend that get a route each
# What decides over a request in a location.
ANSWERS = ("return", "rewrite", "proxy_pass", "grpc_pass", "fastcgi_pass", "uwsgi_pass",
            "scgi_pass", "memcached_pass")  # fmt: skip


def answer(
    server: Server,
    scope: Scope,
    shapes: list[PathForm],
    place: Place,
    prefix: str,
    *,
    regular: bool = False,
    base: bool = False,
) -> None:
    """Add a route for each shape. ``base`` is for paths that no location takes, which the files of
    the server answer."""
    for number, form in enumerate(shapes):
        route = Route(place, path=form.path)
        act(server, scope, route, form, prefix, regular)
        if route.action is not None:
            beside(server, scope, route)
        if number:
            route.left = []  # told at the first
        if route.action is not None:
            server.site.add(route)
        elif route.left:
            server.site.left += route.left
            guarded = any(one.name in guards.NAMES for one in scope.directives)
            if not base and (guarded or not regular):
                shut = Route(place, path=form.path)
                shut.put("respond", {"status": "501"}, place)
                shut.note(place, "its answer could not be taken over")
                server.site.add(shut)
        if (
            form.path == f"{prefix}*"
            and prefix != "/"
            and route.action in ("backend", "fastcgi")
            and not any(other.path == prefix.rstrip("/") for other in server.site.routes)
        ):
            slash = Route(place, path=prefix.rstrip("/"))
            slash.redirect(prefix, "301", place)
            server.site.add(slash)


def act(
    server: Server, scope: Scope, route: Route, form: PathForm, prefix: str, regular: bool
) -> None:
    # What stands beside the locations has been taken over before them.
    around = scope is server.scope
    own = [] if around else [one for one in scope.directives if one.name in ANSWERS]
    passed = next((one for one in own if one.name.endswith("_pass")), None)
    for one in own:
        if one.name == "return":
            one.used = True
            returned(server, one, route, form)
            return
        if one.name == "rewrite":
            one.used = True
            if "rewrite" not in route.keys and rewritten(server, one, scope, route, passed):
                return
    for one in [] if around else scope.here("if"):
        location_condition(server, one, scope, route)
    if passed is not None:
        passed.used = True
        if passed.name == "fastcgi_pass":
            where = interpreter(constants(scope, passed.arg), server.world)
            if where is None:
                route.leave(passed.place, str(passed), "where scripts are run is not said")
                return
            server.php, server.php_place = server.php or where, server.php_place or passed.place
            beside_scripts(server, scope, passed)
            files(server, scope, route, form, prefix, regular)
            return
        _proxy(server, scope, route, passed, form, prefix, regular)
        return
    if not _tried_backend(server, scope, route, form):
        files(server, scope, route, form, prefix, regular)


def _proxy(
    server: Server,
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
    # With a variable behind it, a path stands for the whole of the request's.
    whole = re.fullmatch(r"(\w+://[^/$]+)(/[^$?]*)\??(?:\$is_args)?(?:\$args|\$query_string)", text)
    if whole:
        text = whole[1]
        route.put("rewrite", whole[2], passed.place)
    found = upstreams.target(text, server.world.upstreams, grpc=kind == "grpc")
    if found is None or not found.backends:
        route.leave(passed.place, str(passed), "which backend that is, only nginx can tell")
        return
    backends, path = found.backends, found.path
    if "rewrite" in route.keys or "strip_prefix" in route.keys:
        path = None  # nginx ignores the URI part where a rewrite changed it
    if path is not None and not regular and prefix:
        backends = _with_uri(route, form, prefix, path, backends, passed)
    route.put("backend", shown(backends), passed.place)
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
    for each in scope.all("proxy_redirect"):
        if each.arg not in ("off", "default"):
            route.leave(each.place, str(each), WHY["proxy_redirect"])


def _with_uri(
    route: Route, form: PathForm, prefix: str, path: str, backends: list[Backend], passed: Directive
) -> list[Backend]:
    """Replace what the location took: ``location /a/ { proxy_pass http://b/c/; }``."""
    if form.path == prefix and not prefix.endswith("/"):  # exact
        if path != prefix:
            route.put("rewrite", path, passed.place)
        return backends
    if path == prefix:
        return backends
    if prefix == "/":
        return with_path(backends, path)
    if path.rstrip("/") == "":
        route.put("strip_prefix", True, passed.place)
        return backends
    if not form.path.endswith("/*"):
        route.put("rewrite", path, passed.place)
        return backends
    route.put("rewrite", f"{path.rstrip('/')}/{{rest}}", passed.place)
    return backends


def _tried_backend(server: Server, scope: Scope, route: Route, form: PathForm) -> bool:
    """Take over ``try_files … @name``. Return whether a backend in that location answers."""
    tried = scope.one("try_files")
    last = tried.args[-1] if tried is not None and tried.args else ""
    if not last.startswith("@") or last not in server.named or scope.here("alias"):
        return False
    return _named(server, scope, route, form, last, tried)


def _named(
    server: Server,
    outer: Scope,
    route: Route,
    form: PathForm,
    name: str,
    tried: Directive | None,
) -> bool:
    """Take over the location of ``try_files … @name``: a front controller, or a backend with files
    beside it. Return whether a backend answers."""
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
    beside(server, inner, route)
    if tried.args[:-1]:
        root = outer.one("root")
        where = f" in {root.arg}" if root is not None else ""
        folder = "" if root is None else constants(outer, root.arg).rstrip("/")
        if form.path == "/*" and folder.startswith("/") and os.path.isdir(folder):
            _files_before(server, outer, folder, tried)
        else:
            why = f"files{where} do not go before a backend here; give their folders a route each"
            route.leave(tried.place, str(tried), why)
    return True


def _files_before(server: Server, scope: Scope, folder: str, tried: Directive) -> None:
    """Give what lies in a folder now a route each, because files go before the backend."""
    names = sorted(name for name in os.listdir(folder) if re.fullmatch(r"[\w-][\w.~-]*", name))
    for name in names[:_MOST_BESIDE]:
        inside = os.path.isdir(f"{folder}/{name}")
        route = Route(tried.place, path=f"/{name}/*" if inside else f"/{name}")
        route.put("root", f"{folder}/{name}" if inside else folder, tried.place)
        beside(server, scope, route)
        server.site.add(route)
    if "$uri/index.html" in tried.args and "index.html" in names:
        route = Route(tried.place, path="/")
        route.put("root", folder, tried.place)
        server.site.add(route)
    server.site.note(
        tried.place, "what lay there at the import has a route; what is new there needs one"
    )
    if len(names) > _MOST_BESIDE:
        why = f"only the first {_MOST_BESIDE} of {len(names)} names got a route"
        server.site.leave(tried.place, str(tried), why)


def beside(server: Server, scope: Scope, route: Route) -> None:
    if route.action not in ("redirect", "respond"):
        # nginx answers these before it asks who is there.
        guards.access(scope, route)
        route.pass_credentials(route.place)
    if "forward_auth" not in route.keys:
        guards.subrequest(scope, route, server.internal)
    guards.rates(scope, route, server.world.zones)
    fields.response_fields(scope, route)
    if route.action == "fastcgi":
        for name, place in server.hidden:
            route.put_in(("headers", "remove"), [name], place)
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
        if changed and codes == ["404"] and "root" in route.keys and target.endswith(".html"):
            route.put("fallback", target, one.place)
            continue
        if changed:
            route.note(one.place, "here an error page keeps its status")
        root = scope.word("root").rstrip("/")
        beside_backend = "backend" in route.keys and root.startswith("/") and "$" not in root
        if beside_backend and os.path.isfile(f"{root}{target}"):
            target = f"{root}{target}"
        kept = [code for code in codes if code not in ("497", "494", "495", "496", "499")]
        if kept:
            route.put_in(("error_pages", ",".join(kept)), target, one.place)
