"""What a reload would change: two configurations compared, in words. Pure.

It compares what is configured, not what is on disk: whether a port can be bound, or a certificate
read, only trying tells.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from urllib.parse import urlsplit

from acme_client.link import INTERNAL

from ...config.model import (
    Acme,
    Action,
    Alerts,
    Cluster,
    Config,
    FastCgiAction,
    FilesAction,
    KeyType,
    OnDemand,
    ProxyAction,
    RedirectAction,
    RespondAction,
    Route,
    Site,
)
from ...config.syntax.addresses import spell_address
from . import immutable

# A certificate that is there: its names, the directory of its CA, the type of its key.
Certified = frozenset[tuple[frozenset[str], str | None, str]]


def changes(old: Config, new: Config, certified: Certified) -> list[str]:
    """One line for each change; none when a reload would change nothing."""
    return [
        *_sites(old, new),
        *_orders(new, certified),
        *_listeners(old, new),
        *_sections(old, new),
    ]


def _sites(old: Config, new: Config) -> Iterator[str]:
    before = {site.names[0]: site for site in old.sites}
    after = {site.names[0]: site for site in new.sites}
    for name in before.keys() - after.keys():
        yield f"site {name}: no longer served"
    for name in sorted(after):
        if name not in before:
            routes = ", ".join(map(_route, after[name].routes))
            yield f"site {name}: new ({routes}){_source(after[name])}"
            if after[name].on_demand:
                yield f"site {name}: takes {_demand(after[name].on_demand)}"
        elif before[name] != after[name]:
            yield from _site(before[name], after[name])


def _source(site: Site) -> str:
    """Tell where a site comes from that stands in no file."""
    source = site.origins.get("names", "")
    return f", from {source}" if source.startswith("container") else ""


def _site(old: Site, new: Site) -> Iterator[str]:
    name = new.names[0]
    for gone in old.names:
        if gone not in new.names:
            yield f"site {name}: no longer answers to {gone}"
    for added in new.names:
        if added not in old.names:
            yield f"site {name}: also answers to {added}"
    before = {_taken(route): route for route in old.routes}
    after = {_taken(route): route for route in new.routes}
    for taken in before.keys() - after.keys():
        yield f"site {name}: route {taken} goes"
    for taken, route in after.items():
        if before.get(taken) != route:
            yield f"site {name}: route {_route(route)}" + (" is new" if taken not in before else "")
        if taken in before:
            yield from _route_rules(f"site {name}: route {taken}", before[taken], route, old, new)
    if before.keys() == after.keys() and list(before) != list(after):
        yield f"site {name}: routes stand in another order"
    if old.client_auth != new.client_auth:
        yield f"site {name}: client certificates: {_asks(old)} → {_asks(new)}"
    if old.rate_limits != new.rate_limits:
        yield f"site {name}: " + ("other rate limits" if new.rate_limits else "no rate limit")
    if old.http2 != new.http2:
        yield f"site {name}: HTTP/2 is " + ("offered" if new.http2 else "not offered")
    if old.log != new.log:
        told = f"tell {', '.join(new.log.fields) or 'everything'}" if new.log.lines else "are off"
        yield f"site {name}: access lines {told}"
    if old.metrics_label != new.metrics_label:
        yield f"site {name}: figures are told under {_counted(new.metrics_label)}"
    if old.default != new.default:
        yield f"site {name}: " + ("the default site" if new.default else "not the default site")
    if old.internal != new.internal and not new.certificates:
        yield f"site {name}: certified by " + ("the built-in CA" if new.internal else "acme's CA")
    for field in dataclasses.fields(new.rules):
        was, is_ = getattr(old.rules, field.name), getattr(new.rules, field.name)
        if was != is_ and field.name != "rate_limit":  # told above
            yield f"site {name}: {field.name}: {was} → {is_}"
    if old.on_demand != new.on_demand:
        yield f"site {name}: takes {_demand(old.on_demand)} → {_demand(new.on_demand)}"
    if old.certificates != new.certificates:
        yield f"site {name}: another certificate of your own, or none"
    if old.key_types != new.key_types and not new.certificates:
        yield f"site {name}: keys are {', '.join(old.key_types)} → {', '.join(new.key_types)}"


def _counted(label: str | None) -> str:
    return "each of its names" if label is None else label or "no label, with those of others"


def _taken(route: Route) -> str:
    """Tell which requests a route takes; no two routes of a site take the same."""
    methods = f"{','.join(route.methods)} " if route.methods else ""
    match = "" if route.match is None else f" where {route.match}"
    return f"{methods}{route.path}{match}"


def _route_rules(lead: str, old: Route, new: Route, site: Site, new_site: Site) -> Iterator[str]:
    """Yield what changes in the rules of a route, where its site does not change likewise."""
    for field in dataclasses.fields(new.rules):
        was, is_ = getattr(old.rules, field.name), getattr(new.rules, field.name)
        before, after = getattr(site.rules, field.name), getattr(new_site.rules, field.name)
        if was != is_ and (was, is_) != (before, after):
            yield f"{lead}: {field.name}: {was} → {is_}"


def _asks(site: Site) -> str:
    auth = site.client_auth
    return "not asked for" if auth is None else f"{auth.mode}, of the CAs in {auth.ca_file}"


def _demand(rule: OnDemand | None) -> str:
    """Which names, and how many orders they may lead to."""
    if rule is None:
        return "no names on demand"
    conditions = []
    if rule.patterns:
        conditions.append(f"like {', '.join(rule.patterns)}")
    if rule.ask:
        conditions.append(f"that {urlsplit(rule.ask).netloc} allows")  # the rest may be a secret
    if rule.dns:
        where = f" to {', '.join(rule.addresses)}" if rule.addresses else " here"
        conditions.append(f"whose DNS leads{where}")
    return (
        f"names on demand, {' and '.join(conditions)} (each is a new order; "
        f"{rule.max_new_per_hour} an hour and {rule.max_names} in all at most)"
    )


def _route(route: Route) -> str:
    return f"{_taken(route)} → {_action(route.action)}"


def _action(action: Action) -> str:
    match action:
        case FastCgiAction():
            by = ", ".join(backend.url for backend in action.backends)
            return f"scripts and files in {action.root}, by {by}"
        case FilesAction():
            return f"files in {action.root}"
        case ProxyAction():
            return ", ".join(backend.url for backend in action.backends)
        case RedirectAction():
            return f"{action.status} to {action.target}"
        case RespondAction():
            return f"answers {action.answer.status}"
        case _:
            return "nothing"


def orders(new: Config, certified: Certified) -> list[tuple[Site, KeyType]]:
    """Sites for which a certificate would have to be had, and with which type of key. A CA
    certifies a set of names: a changed set is a new certificate, and so is one by another CA."""
    return [
        (site, kind)
        for site in new.sites
        for kind in (() if site.certificates else site.key_types)
        if _is_new(site, kind, new, certified)
    ]


def kept(old: Config, new: Config, certified: Certified) -> Certified:
    """Those that stay good: the certifier orders anew where a CA is asked for another profile, or
    by another external account."""
    before, after = _terms(old.acme), _terms(new.acme)
    return frozenset(
        one
        for one in certified
        if one[1] not in before or before[one[1]] == after.get(one[1], before[one[1]])
    )


def _terms(acme: Acme) -> dict[str | None, tuple[str | None, str | None]]:
    """Profile and external account, by the directory of the CA."""
    return {
        one.directory: (one.profile, one.eab.kid if one.eab else None)
        for one in (acme, *acme.fallback)
    }


def _is_new(site: Site, kind: KeyType, new: Config, certified: Certified) -> bool:
    if site.internal:
        return (frozenset(site.names), INTERNAL, kind) not in certified
    directories = (new.acme.directory, *(one.directory for one in new.acme.fallback))
    return all((frozenset(site.names), one, kind) not in certified for one in directories)


def _orders(new: Config, certified: Certified) -> Iterator[str]:
    for site, kind in orders(new, certified):
        key = f" with a key of type {kind}" if site.paired else ""
        ca = "the built-in CA" if site.internal else new.acme.directory
        cost = "" if site.internal else "; one new order for this set of names"
        yield f"certificate for {', '.join(site.names)}{key}: to be had from {ca}{cost}"


def _listeners(old: Config, new: Config) -> Iterator[str]:
    for kind in ("http", "https"):
        before = set(getattr(old.listen, kind))
        after = set(getattr(new.listen, kind))
        for address in before - after:
            yield f"{kind} {spell_address(address)}: no longer listened on"
        for address in after - before:
            low = 0 < address.port < 1024
            hint = " (a port below 1024, which may need a restart)" if low else ""
            yield f"{kind} {spell_address(address)}: to be opened{hint}"


_PLAIN = (
    "http2",
    "websocket_over_http2",
    "workers",
    "trusted_proxies",
    "proxy_protocol",
    "admin",
    "tracing",
    "sandbox",
    "fast_lane",
    "uvloop",
    "watch",
    "sites_dir",
    "include",
)


def _sections(old: Config, new: Config) -> Iterator[str]:
    """Everything else, key by key."""
    for section in ("limits", "tls", "log", "acme"):
        before, after = getattr(old, section), getattr(new, section)
        for field in dataclasses.fields(after):
            was, is_ = getattr(before, field.name), getattr(after, field.name)
            if was != is_:
                elsewhere = section == "log" and field.name == "access" and str(is_).startswith("/")
                hint = " (a file in another folder may need a restart)" if elsewhere else ""
                yield f"{section}.{field.name}: {was} → {is_}{hint}"
    for key in _PLAIN:
        was, is_ = getattr(old, key), getattr(new, key)
        if was != is_:
            yield f"{key}: {was} → {is_}"
    yield from _alerts(old.alerts, new.alerts)
    yield from _cluster(old.cluster, new.cluster)
    if immutable.kept(old, new).providers != old.providers:
        was, is_ = (one.providers.docker for one in (old, new))
        url = "nobody" if is_ is None else is_.url
        yield f"providers.docker: {was.url if was else 'nobody'} → {url}"
    yield from immutable.differences(old, new)


def _cluster(old: Cluster | None, new: Cluster | None) -> Iterator[str]:
    if old == new:
        return
    if new is None:
        yield "cluster: left; certificates stay, and this machine orders its own"
        return
    does = "orders certificates, as the others do" if new.order else "takes certificates"
    begins = "joins" if old is None else "other settings of"
    yield f"cluster: {begins} {new.name} as {new.called}, which {does}"
    if old is not None and old.order and not new.order:
        yield "cluster: this machine orders no more; see that another one does"


def _alerts(old: Alerts | None, new: Alerts | None) -> Iterator[str]:
    """Not what they are: a webhook's address is often a secret."""
    if old == new:
        return
    command = new.command[:1] if new else ()
    if command and command != (old.command[:1] if old else ()):
        yield f"alerts: {command[0]} can be executed after a restart only"
    else:
        yield "alerts: " + ("nobody is told any more" if new is None else "other settings")
