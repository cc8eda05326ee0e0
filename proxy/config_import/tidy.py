"""Brings a draft into the shape that a person would have written. Pure; changes no answer.

What every route of a site says alike is said once at the site, and a site with one route for
everything needs no routes.
"""

from __future__ import annotations

from ..config.schema.rules import Rules
from .draft import ACTIONS, Draft, Entry, Route, Site

# What stands beside an answer. What answers, or changes the path that is asked for, stays.
_INHERITED = frozenset(Rules.known_keys()) - ACTIONS - {"status", "rewrite", "strip_prefix"}


def tidy(draft: Draft) -> None:
    for site in draft.sites:
        seen = set(site.left)
        for route in site.routes:  # what is left of several routes is told at the first
            route.left = [one for one in route.left if one not in seen]
            seen.update(route.left)
        _hoist(site)
        only = site.routes[0] if len(site.routes) == 1 else None
        if only is not None and only.path == "/*" and not only.conditional:
            _merge(site, site.routes.pop())


def _hoist(site: Site) -> None:
    """Move to the site what all its routes say with the same words. Only where some route takes
    every request: what no route takes would meet the rule as well."""
    if not any(route.path == "/*" for route in site.routes) or len(site.routes) < 2:
        return
    first = site.routes[0]
    for key, entry in list(first.keys.items()):
        if key not in _INHERITED or key in site.keys:
            continue
        if all(_same(route, key, entry) for route in site.routes):
            site.keys[key] = entry
            for route in site.routes:
                del route.keys[key]


def _same(route: Route, key: str, entry: Entry) -> bool:
    return key in route.keys and route.keys[key].value == entry.value


def _merge(site: Site, route: Route) -> None:
    for key, entry in route.keys.items():
        if key in site.keys and key in ("headers", "request_headers"):
            for name, value in entry.value.items():
                there = site.keys[key].value.get(name)
                if isinstance(there, dict):
                    site.keys[key].value[name] = {**there, **value}
                elif isinstance(there, list):
                    site.keys[key].value[name] = [*there, *value]
                else:
                    site.keys[key].value[name] = value
        else:
            site.keys[key] = entry
    site.left += route.left
    site.notes += [one for one in route.notes if one not in site.notes]
