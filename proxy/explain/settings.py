"""Which lines of the configuration hold for a request without being about it. Pure.

Bounds, addresses, logs and certificates stand at the top of the file, and some keys of a site are
about more than one request. A row tells each that was given, with its place; what is not given has
its default and no row. Sections whose values may be secrets are told without them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ..config.model import Config, Site
from ..config.schema.rules import Rules
from ..config.schema.site import ACTIONS
from .rows import Row, in_the_file, shown

# Told by their own rows on the page, or in them.
_OF_THE_PAGE = frozenset(
    {"sites", "names", "routes", "certificate", "path", "listen", *ACTIONS, *Rules.known_keys()}
)
# Addresses of webhooks, and what providers of DNS records are told, are secrets as often as not.
_MAY_BE_SECRET = ("alerts", "acme.dns", "acme.eab", "acme.fallback", "admin", "cluster")
# Where the program has a key under another name.
_NAMED = {
    "acme.key_type": "acme.key_types",
    "user": "uid",
    "group": "gid",
    "tls": "client_auth",
    "key_type": "key_types",
}


def of_the_server(config: Config) -> Iterator[Row]:
    """Yield a row for each key that was given at the top of the file and holds for all requests."""
    yield from _rows(config, config.origins, "setting")


def of_a_site(site: Site) -> Iterator[Row]:
    """Yield a row for each key of a site that is not about single requests."""
    yield from _rows(site, site.origins, "of the site")


def _rows(holder: object, origins: Mapping[str, str], title: str) -> Iterator[Row]:
    for key, place in in_the_file(origins):
        if key.partition(".")[0] in _OF_THE_PAGE:
            continue
        if any(other.startswith(f"{key}.") for other in origins):
            continue  # the keys below it are told
        yield Row(title, f"{key}{_value(holder, key)}", place)


def _value(holder: object, key: str) -> str:
    if any(key == one or key.startswith(f"{one}.") for one in _MAY_BE_SECRET):
        return ""
    value = holder
    for step in _NAMED.get(key, key).split("."):
        if not hasattr(value, step):
            return ""
        value = getattr(value, step)
    return f": {shown(value)}"
