"""What a new configuration has in common with the one in force is the same object in both. Pure.

A reload that changes a site among ten thousand reads all of them anew. Without this the supervisor
would hold each of them twice while the workers of both generations live, and those of the new one
would share no page with those before them. And the process that has read them would write down all
of them for the supervisor, which has them: it tells their numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from operator import attrgetter
from typing import Any, NamedTuple

from .model import Config, Route, Site


class Difference(NamedTuple):
    """A configuration beside the one in force. ``config`` has no sites: each of ``sites`` is a new
    one, or the number of one in force. ``same_admin``: whether the admin site is the one in force,
    too."""

    config: Config
    sites: Sequence[Site | int]
    same_admin: bool


def difference(present: Config | None, wanted: Config) -> Difference:
    """Return what ``wanted`` has that ``present`` has not. A site is the same where it says the
    same and is written in the same place."""
    rest = replace(wanted, sites=())
    if present is None:
        return Difference(rest, wanted.sites, False)
    alike = _Alike()
    known = {site.names[0]: number for number, site in enumerate(present.sites)}
    sites: list[Site | int] = []
    for site in wanted.sites:
        number = known.get(site.names[0])
        if number is None or not alike.sites(present.sites[number], site):
            sites.append(site)
        else:
            sites.append(number)
    before, admin = present.admin_site, wanted.admin_site
    if before is None or admin is None or not alike.sites(before, admin):
        return Difference(rest, sites, False)
    return Difference(replace(rest, admin_site=None), sites, True)


def whole(present: Config | None, found: Difference) -> Config:
    """Return the configuration whose `difference` from ``present`` is ``found``, with the sites of
    ``present`` where they are the same."""
    known = () if present is None else present.sites
    sites = tuple(known[one] if isinstance(one, int) else one for one in found.sites)
    if present is None or not found.same_admin:
        return replace(found.config, sites=sites)
    return replace(found.config, sites=sites, admin_site=present.admin_site)


def _others(cls: type[Any], *left_out: str) -> Any:
    """What gets all fields of an object but some."""
    return attrgetter(*(one.name for one in fields(cls) if one.name not in left_out))


class _Alike:
    """Whether two sites are equal, and messages would name the same lines for both. Thousands of
    sites have few rules and actions between them: each two of these are compared once."""

    _of_site = staticmethod(_others(Site, "routes", "rules", "log"))
    _of_route = staticmethod(_others(Route, "action", "rules"))

    def __init__(self) -> None:
        self._known: dict[tuple[int, int], bool] = {}

    def sites(self, before: Site, site: Site) -> bool:
        return (
            bool(self._of_site(before) == self._of_site(site))  # with ``origins``
            and len(before.routes) == len(site.routes)
            and self._equal(before.rules, site.rules)
            and self._equal(before.log, site.log)
            and all(map(self._routes, before.routes, site.routes))
        )

    def _routes(self, before: Route, route: Route) -> bool:
        return (
            bool(self._of_route(before) == self._of_route(route))
            and self._equal(before.action, route.action)
            and self._equal(before.rules, route.rules)
        )

    def _equal(self, one: object, other: object) -> bool:
        """Both belong to configurations that outlive this object, so that they keep their ids."""
        key = id(one), id(other)
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = one == other
        return known
