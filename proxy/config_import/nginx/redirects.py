"""``return`` and ``rewrite``: where a request is sent, and what is answered at once."""

from __future__ import annotations

import re
from typing import Any

from ..draft import Route
from ..path_patterns import NO_ROUTE, PathForm, filled, forms
from .directives import Directive, Scope
from .variables import in_field, in_target
from .world import Server

REDIRECTS = ("301", "302", "303", "307", "308")


def returned(server: Server, one: Directive, route: Route, form: PathForm) -> None:
    code, text = (one.args[0], " ".join(one.args[1:])) if len(one.args) > 1 else (one.arg, "")
    if not code.isdigit():
        code, text = "302", code
    if code in REDIRECTS and text:
        made = filled(text, form, lambda each: in_target(server.scope, each, server.name))
        if made is None:
            route.leave(one.place, str(one), "it has a variable that is not known here")
            return
        route.redirect(made or "/", code, one.place)
        return
    said: dict[str, Any] = {"status": "404" if code in ("444", "499") else code}
    body = in_field(server.scope, text) if text else ""
    text = text.replace("\\n", "\n").replace("\\r", "\r").replace("\\t", "\t")
    if body is None or ("{" in (body or "") and "{" not in text):
        route.leave(one.place, str(one), "the text of a fixed answer has no variables")
        return
    if text:
        said["body"] = text
        kind = server.scope.word("default_type") or "text/plain"
        said["content_type"] = kind
    if code in ("444", "499"):
        route.note(one.place, "connections are not just closed here: it is 404")
    route.put("respond", said, one.place)


def rewritten(
    server: Server,
    one: Directive,
    scope: Scope,
    route: Route | None,
    passed: Directive | None = None,
) -> bool:
    """Take a ``rewrite`` over. In a location its ``route`` is given, and True is returned when this
    answers it. What is rewritten for a part of the paths is put into ``server.pending``."""
    expression, target, *flags = (*one.args, "", "")[:3]
    flag = flags[0] if flags else ""
    holder = route or server.site
    script = re.match(r"/[\w./-]+\.php", target)
    away = flag in ("permanent", "redirect") or target.startswith(("http://", "https://"))
    if not away and server.php and script:
        server.script = script[0]
        return False
    if expression in (".*", "(.*)", "/"):
        shapes: list[PathForm] | None = [PathForm("/*", -1 if "(" in expression else 0)]
    else:
        shapes = forms(expression) if expression.startswith("^") else None
    if shapes is None:
        holder.leave(one.place, str(one), NO_ROUTE)
        return False
    done = False
    for form in shapes:
        form = _narrowed(form, route)
        made = filled(
            target.removesuffix("?"), form, lambda text: in_target(scope, text, server.name)
        )
        if made is None:
            holder.leave(one.place, str(one), "it has a variable that is not known here")
            return False
        mine = route is not None and form.path == route.path
        if away:
            held = route if mine and route is not None else Route(one.place, path=form.path)
            held.redirect(made or "/", "301" if flag == "permanent" else "302", one.place)
            done = done or mine
            if not mine and (route is None or _within(form.path, route.path)):
                server.site.add(held)
        elif mine and route is not None:
            _rewrite(route, made, one, passed)
        elif route is None or _within(form.path, route.path):
            held = Route(one.place, path=form.path)
            _rewrite(held, made, one, passed)
            server.pending.append((held, form, scope))
    return done


def _narrowed(form: PathForm, route: Route | None) -> PathForm:
    """Return an expression for every path as one for the paths of the location in which it
    stands."""
    if form.path != "/*" or route is None or route.path == "/*":
        return form
    # What a group took of the whole path begins with what the location took.
    known = ((abs(form.rest), route.path.rstrip("*").removeprefix("/")),) if form.rest else ()
    if not route.path.endswith("*"):
        return PathForm(route.path, 0, known)
    return PathForm(route.path, 0, ((abs(form.rest), f"{known[0][1]}{{rest}}"),) if known else ())


def _rewrite(route: Route, made: str, one: Directive, passed: Directive | None) -> None:
    path, _mark, query = made.partition("?")
    if passed is not None and made == "/{rest}":
        route.put("strip_prefix", True, one.place)
    else:
        route.put("rewrite", f"{path}?{query}" if query else path, one.place)


def _within(path: str, route: str) -> bool:
    return route.endswith("/*") and path.startswith(route[:-1])
