"""What an ``if`` or a map of a server block decides: refusals, methods, lists of redirects."""

from __future__ import annotations

from typing import Any

from ..draft import Place, Route
from ..path_patterns import NO_ROUTE, PathForm, filled, forms
from . import conditions
from .directives import Directive, Scope
from .redirects import REDIRECTS, returned
from .variables import in_target
from .world import Server


def server_conditions(server: Server) -> None:
    scope, site = server.scope, server.site
    for one in scope.here("if"):
        if all(each.used for each in one.block or ()) and one.block:
            continue
        if conditions.asks_for_certificate(one):
            one.use()
            server.certificate_asked = True
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
        answer = fixed_answer(server, one.block or [])
        asked = conditions.match(one)
        if answer is not None and asked is not None:
            one.use()
            server.refusals.append((asked, answer, one.place))
            continue
        wanted = conditions.required(one)
        if answer is not None and wanted is not None:
            one.use()
            server.required.append((wanted, answer, one.place))
            continue
        if by_map(server, one):
            continue
        conditions.leave(one, site)


def location_condition(server: Server, one: Directive, scope: Scope, route: Route) -> None:
    if one.args[:2] == ("$request_method", "=") and one.args[2:] == ("OPTIONS",):
        route.leave(one.place, f"if ({' '.join(one.args)})", "preflights are answered by cors")
        one.use()
        return
    if conditions.asks_for_certificate(one):
        one.use()
        if scope.word("ssl_verify_client") != "on":
            why = "client certificates are asked for by the site as a whole"
            route.close(one.place, f"if ({' '.join(one.args)})", why)
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
    answer, asked = fixed_answer(server, one.block or []), conditions.match(one)
    wanted = conditions.required(one)
    if answer is not None and wanted is not None:
        one.use()
        server.required_of.append((route, wanted, answer, one.place))
        return
    if answer is not None and asked is not None:
        one.use()
        twin = Route(one.place, path=route.path)
        twin.put("match", asked, one.place)
        for key, value in answer.items():
            twin.put(key, value, one.place)
        server.site.add(twin)
        return
    conditions.leave(one, route)


def fixed_answer(server: Server, block: list[Directive]) -> dict[str, Any] | None:
    """Return the keys of an answer that is the same for every request; None where there is none."""
    for one in block:
        if one.name == "return":
            route = Route(one.place)
            returned(server, one, route, PathForm("/*"))
            keys = {key: entry.value for key, entry in route.keys.items()}
            return keys if keys and not route.left else None
    return None


def by_map(server: Server, one: Directive) -> bool:
    """Add redirects for ``if ($new) { return 301 $new; }`` with a map of paths. Return False where
    the condition is not of this kind."""
    name = one.arg.lstrip("$")
    if name not in server.world.paths or len(one.args) != 1:
        return False
    status = "301"
    for each in one.block or ():
        if each.name == "return" and each.arg in REDIRECTS:
            status = each.arg
        elif each.name == "rewrite":
            status = "301" if each.args[-1] == "permanent" else "302"
    one.use()
    server.world.maps[name].used = True
    for path, target, place in server.world.paths[name]:
        _mapped(server, path, target, status, place)
    return True


def _mapped(server: Server, path: str, target: str, status: str, place: Place) -> None:
    expression = path.lstrip("~*")
    found = forms(expression) if path.startswith("~") else [PathForm(path)]
    for form in found or ():
        made = filled(target, form, lambda text: in_target(server.scope, text, server.name))
        if made is not None:
            route = Route(place, path=form.path)
            route.redirect(made, status, place)
            server.site.add(route)
            continue
        server.site.leave(place, f"{path} {target}", "it has a variable that is not known here")
    if not found:
        server.site.leave(place, f"{path} {target}", NO_ROUTE)
