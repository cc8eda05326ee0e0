"""Who runs scripts: the location that hands ``*.php`` to an interpreter."""

from __future__ import annotations

from . import upstreams
from .directives import Directive, Scope
from .needless import FASTCGI_PARAMS
from .variables import constants
from .world import Server, World


def find_scripts(server: Server, blocks: list[Directive]) -> None:
    """Find the location that hands ``*.php`` to an interpreter."""
    for one in blocks:
        inner = server.scope.inner(one)
        if not one.args:
            continue
        passed = [each for each in one.block or () if each.name == "fastcgi_pass"]
        regex = one.args[0] in ("~", "~*") and "php" in one.args[-1]
        exact = one.args[0] == "=" and one.args[-1].endswith(".php")
        if not passed or not (regex or exact):
            continue
        where = interpreter(constants(inner, passed[0].arg), server.world)
        if where is None:
            server.site.leave(passed[0].place, str(passed[0]), "where scripts are run is not said")
            continue
        one.used = True
        passed[0].used = True
        if exact:
            server.script = one.args[-1]
        server.php, server.php_place = where, passed[0].place
        beside_scripts(server, inner, one)


def interpreter(text: str, world: World) -> str | None:
    known = world.upstreams.get(text)
    if known is not None:
        known.told = True
        if len(known.servers) != 1:
            return None
        text = known.servers[0][0]
    if "$" in text:
        return None
    return text if text.startswith("unix:") else f"tcp://{text}"


def beside_scripts(server: Server, inner: Scope, one: Directive) -> None:
    """Take what else stands in the block of the scripts."""
    upstreams.timeouts(inner, server.site, "fastcgi")
    for each in inner.here("fastcgi_param"):
        name, value = (*each.args, "", "")[:2]
        if name in FASTCGI_PARAMS or not value:
            continue
        if "$" in value:
            why = "what is told to scripts beside CGI's parameters has no variables"
            server.site.leave(each.place, str(each), why)
        else:
            server.params[name] = value
    server.hidden += [(each.arg, each.place) for each in inner.here("fastcgi_hide_header")]
    for name in ("try_files", "fastcgi_intercept_errors", "internal"):
        inner.here(name)
    for each in inner.here("if"):
        if each.args[:1] in (("!-f",), ("!-e",)):
            each.use()  # no file, no script
    inside = inner.all("allow", "deny")
    if any(each in (one.block or []) for each in inside):
        for each in inside:
            why = "scripts cannot be guarded apart from the site"
            server.site.leave(each.place, str(each), why, guard=True)
