"""What a new configuration has in common with the one in force is the same object in both. Pure.

A reload that changes a site among ten thousand reads all of them anew. Without this the supervisor
would hold each of them twice while the workers of both generations live, and those of the new one
would share no page with those before them.
"""

from __future__ import annotations

from dataclasses import replace

from ...config.model import Config, Site


def shared(present: Config, wanted: Config) -> Config:
    """Return ``wanted``, with the sites of ``present`` where they say the same and are written in
    the same place."""
    known = {site.names[0]: site for site in present.sites}
    sites = tuple(_shared(known.get(site.names[0]), site) for site in wanted.sites)
    admin = present.admin_site
    if admin is None or not _alike(admin, wanted.admin_site):
        admin = wanted.admin_site
    return replace(wanted, sites=sites, admin_site=admin)


def _shared(before: Site | None, site: Site) -> Site:
    return before if before is not None and _alike(before, site) else site


def _alike(before: Site, site: Site | None) -> bool:
    """Whether two sites are equal, and messages would name the same lines for both."""
    return (
        site is not None
        and before == site
        and before.origins == site.origins
        and all(
            one.origins == other.origins
            for one, other in zip(before.routes, site.routes, strict=True)
        )
    )
