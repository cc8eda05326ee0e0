"""What is allowed, and seldom meant: told by ``check`` and at the start, and no fault. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_network

from ..schema.document import Site
from ..schema.parse import Parsed, servings
from ..schema.site import ACTIONS, responds
from ..syntax.faults import Fault, Path, shown
from . import circles


def check(parsed: Parsed) -> Iterator[Fault]:
    """Yield what an operator would want to hear of."""
    yield from _believed(parsed)
    names = {name for _, site in parsed.sites for name in site.names}
    for index, site in parsed.sites:
        at: Path = ("sites", index)
        yield from _without_answer(site, at, parsed)
        yield from _shown_source(site, at, parsed)
        if "listen" not in parsed.broken and (site.backend or site.redirect or site.routes):
            yield from circles.redirects(site, at, parsed)
            yield from circles.named_backends(site, at, parsed, names)


def _believed(parsed: Parsed) -> Iterator[Fault]:
    """Find networks that are everybody: then each client says itself who it is."""
    if "trusted_proxies" in parsed.broken:
        return
    for number, network in enumerate(parsed.document.trusted_proxies):
        if ip_network(network).prefixlen == 0:
            yield parsed.origins.fault(
                ("trusted_proxies", number),
                f"{network} is everybody: each client chooses its address for allow, deny, limits "
                "and logs",
                "name the networks of the proxies in front of this server",
            )


def _without_answer(site: Site, at: Path, parsed: Parsed) -> Iterator[Fault]:
    if site.routes or not site.given.isdisjoint(ACTIONS):
        return
    rules = parsed.holding((at, site)).rules
    if rules.redirect or responds(rules):
        return
    empty = next((key for key in ACTIONS if parsed.origins.stands((*at, key))), None)
    if empty is not None:
        yield parsed.origins.fault(
            (*at, empty),
            f"there is no value, so {site.names[0]} has a certificate and no answer: every request "
            "gets 404",
            f"write the value behind {empty}:",
        )
    else:
        yield parsed.origins.fault(
            at,
            f"{site.names[0]} has a certificate and no answer: every request gets 404",
            "add root, backend, redirect, respond or routes, where one is meant",
        )


def _shown_source(site: Site, at: Path, parsed: Parsed) -> Iterator[Fault]:
    """Find scripts that are named as pages where nobody runs them: their source would be sent."""
    for path, serving in servings(site, at):
        if serving.root is None or "fastcgi" in serving.given:
            continue
        between = [] if serving is site else [(at, site)]
        rules = parsed.holding(*between, (path, serving)).rules
        pages = [*rules.index, *([rules.fallback] if rules.fallback else [])]
        for page in pages:
            if page.lower().endswith(".php"):
                yield parsed.origins.fault(
                    path,
                    f"{shown(page)} is a script and nobody runs it here: its source is sent",
                    "add fastcgi: unix:/run/php/php-fpm.sock",
                )
