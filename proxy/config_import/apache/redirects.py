"""Redirects and aliases: what is answered for a path before anything else."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..draft import Place, Route, Site
from ..path_patterns import NO_ROUTE, filled, forms
from ..shapes import beneath
from .directives import Directive, here

_STATUS = {"permanent": "301", "temp": "302", "seeother": "303", "gone": "410"}


def aliases(directives: Sequence[Directive], site: Site) -> list[tuple[str, str, Place]]:
    found = []
    for one in here(directives, "alias"):
        if len(one.args) != 2:
            continue
        path, where = one.args
        found += [(shape, where.rstrip("/"), one.place) for shape in beneath(path)]
    for one in here(directives, "aliasmatch", "scriptalias", "scriptaliasmatch"):
        site.leave(one.place, str(one), "CGI and expressions for files have no counterpart")
    return found


def redirects(directives: Sequence[Directive], site: Site, within: str = "") -> list[Route]:
    found: list[Route] = []
    for one in here(directives, "redirect", "redirectpermanent", "redirecttemp", "redirectmatch"):
        words = list(one.args)
        status = {"redirectpermanent": "301"}.get(one.name, "302")
        if words and (words[0].lower() in _STATUS or re.fullmatch(r"\d{3}", words[0])):
            status = _STATUS.get(words[0].lower(), words[0])
            words = words[1:]
        if within and len(words) == 1:
            words.insert(0, within.removesuffix("/*") or "/")
        if not words:
            continue
        path = words[0]
        if not status.startswith("3"):
            expression = one.name == "redirectmatch"
            shapes = [form.path for form in forms(path) or ()] if expression else beneath(path)
            for shape in shapes:
                route = Route(one.place, path=shape)
                route.put("respond", {"status": status}, one.place)
                found.append(route)
            continue
        if len(words) != 2:
            site.leave(one.place, str(one), "it does not say where to")
            continue
        if one.name == "redirectmatch":
            found += _matched(one, path, words[1], status, site)
            continue
        for shape in beneath(path):
            route = Route(one.place, path=shape)
            target = words[1]
            if shape.endswith("/*"):
                # Apache puts what comes behind the path behind the target as it is.
                joined = "" if path.endswith("/") else "/"
                target += f"{joined}{{rest}}"
            route.redirect(target, status, one.place)
            found.append(route)
    return found


def _matched(one: Directive, path: str, target: str, status: str, site: Site) -> list[Route]:
    found = []
    for form in forms(path) or ():
        made = filled(target, form, lambda text: text)
        if made is None or "$" in made:
            break
        route = Route(one.place, path=form.path)
        route.redirect(made, status, one.place)
        found.append(route)
    if not found:
        site.leave(one.place, str(one), NO_ROUTE)
    return found
