"""Files: ``root``, ``alias``, ``index``, ``autoindex``, ``try_files``."""

from __future__ import annotations

import re

from ..draft import Route
from ..path_patterns import PathForm
from .directives import Directive, Scope
from .variables import constants
from .world import Server


def files(
    server: Server, scope: Scope, route: Route, form: PathForm, prefix: str, regular: bool
) -> None:
    alias = next(iter(scope.here("alias")), None)
    root = scope.one("root")
    tried = scope.one("try_files")
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
                route.redirect(f"{prefix}/", "301", alias.place)
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
        if "rewrite" in route.keys:
            pass  # by its new path a file is looked for below the whole root
        elif form.path.endswith("/*"):
            where += form.path[:-2]
        elif form.loose and form.path == prefix and not regular and tried is None:
            # nginx sends people from a folder's name to the folder.
            route.redirect(f"{form.path}/", "301", route.place)
            return
        route.put("root", where or "/", root.place)
    else:
        returned = [one for one in scope.directives if one.name in ("deny", "allow", "auth_basic")]
        if returned:
            route.put("respond", {"status": "404"}, route.place)
        return
    _file_keys(server, scope, route, form, tried)


def _file_keys(
    server: Server, scope: Scope, route: Route, form: PathForm, tried: Directive | None
) -> None:
    index = scope.one("index")
    names = [name for name in index.args if "/" not in name and "$" not in name] if index else []
    names = [name for name in names if not name.endswith(".php")]  # fastcgi sees to these
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
    own = route.keys.pop("_controller", None)
    file = not form.path.endswith("/*") and "." in form.path.rpartition("/")[2]
    if file and not form.path.endswith(".php"):
        return
    if server.php and server.php_place is not None:
        controller = server.script if form.path == "/*" else ""
        controller = controller if own is None else str(own.value)
        route.run_scripts(server.php, server.php_place, controller, server.params)
    elif own is not None:
        route.leave(own.place, f"try_files … {own.value}", "who runs scripts is not said")


def _tried(server: Server, route: Route, form: PathForm, tried: Directive) -> None:
    *names, last = tried.args
    ends = []
    for name in names:
        found = re.fullmatch(r"\$uri(\.\w+)", name)
        if found:
            ends.append(found[1])
        elif name not in ("$uri", "$uri/", "$uri/index.html", "$uri/index.htm", "$uri/index.php",
                          "/index.html", "index.html", "$document_root$uri"):  # fmt: skip
            route.leave(
                tried.place, f"try_files … {name}", "it is looked for below root by its path alone"
            )
    if ends:
        route.put("extensions", ends, tried.place)
    if last.startswith(("=", "@")):
        if last != "=404" and last.startswith("="):
            route.note(tried.place, f"what is not there is 404 here, and not {last[1:]}")
        return
    path = re.sub(r"(?:\?.*|\$is_args\$args|\$request_uri|\$uri|\$args)+$", "", last) or last
    if "$" in path:
        if path not in ("$uri", "$uri/"):
            route.leave(tried.place, str(tried), "the last of them is a file with a name")
        return
    beneath = form.path[:-2] if form.path.endswith("/*") else ""
    if path.endswith(".php"):
        route.put("_controller", path.removeprefix(beneath), tried.place)
        return
    folder = str(route.value("root"))
    if beneath and path.startswith(f"{beneath}/"):
        path = path[len(beneath) :]
    elif beneath and folder.endswith(beneath) and route.keys["root"].place.line:
        route.serve_whole(folder.removesuffix(beneath), route.keys["root"].place)
    elif beneath:
        route.leave(tried.place, str(tried), f"the file that is sent instead lies below {beneath}")
        return
    route.put("fallback", path, tried.place)
