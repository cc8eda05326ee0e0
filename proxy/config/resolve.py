"""From sections that have passed every check to the frozen `model.Config`. Nothing fails here.

Names of directories become URLs, relative paths absolute, "auto" a number, and each site gets its
routes in one form and the CA that certifies it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from . import model
from .checks.consistency import internal
from .schema import acme as acme_keys
from .schema import document as schema
from .schema import site as serving_keys
from .schema.alerts import Alerts


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the machine and the start of the program add to what is written."""

    base: Path  # what relative paths start from
    state: Path
    uid: int
    gid: int
    source: Path | None
    notices: tuple[str, ...] = ()


def resolve(
    document: schema.Document, sites: Iterable[schema.Site], around: Surroundings
) -> model.Config:
    acme = document.acme
    return model.Config(
        sites=tuple(_site(site, document, around.base) for site in sites),
        state=around.state,
        listen=model.Listen(document.listen.http, document.listen.https),
        uid=around.uid,
        gid=around.gid,
        workers=document.workers or len(os.sched_getaffinity(0)),
        acme=_acme(acme, around.base),
        tls=model.Tls(
            document.tls.min_version,
            model.Hsts(document.tls.hsts.max_age) if document.tls.hsts else None,
        ),
        log=model.Log(document.log.format, document.log.level, _access(document, around.base)),
        limits=model.Limits(**dict(document.limits)),
        trusted_proxies=document.trusted_proxies,
        proxy_protocol=document.proxy_protocol,
        admin=model.Admin(document.admin.listen) if document.admin else None,
        alerts=_alerts(document.alerts, around.base),
        sandbox=document.sandbox,
        fast_lane=document.fast_lane,
        uvloop=document.uvloop,
        watch=document.watch,
        sites_dir=around.base / document.sites_dir if document.sites_dir else None,
        source=around.source,
        include=tuple(around.base / pattern for pattern in document.include),
        notices=around.notices,
    )


def _alerts(alerts: Alerts | None, base: Path) -> model.Alerts | None:
    if alerts is None:
        return None
    mail = alerts.email
    return model.Alerts(
        webhook=alerts.webhook,
        email=model.Mail(
            mail.to,
            mail.sender,
            mail.smtp,
            mail.tls,
            mail.user,
            base / mail.password_file if mail.password_file else None,
        )
        if mail
        else None,
        command=alerts.command,
        ca_file=base / alerts.ca_file if alerts.ca_file else None,
        after_failures=alerts.after_failures,
        runway=alerts.runway,
        certifier_silent=alerts.certifier_silent,
        repeat=alerts.repeat,
    )


def _access(document: schema.Document, base: Path) -> str:
    access = document.log.access
    return access if access in ("stdout", "stderr", "off") else str(base / access)


def _acme(acme: acme_keys.Acme, base: Path) -> model.Acme:
    return model.Acme(
        directory=acme_keys.DIRECTORIES.get(acme.directory, acme.directory),
        # One of the known public CAs changes nothing for names that no public CA certifies.
        directory_given=acme.directory == "internal" or acme.directory not in acme_keys.DIRECTORIES,
        email=acme.email,
        ca_file=base / acme.ca_file if acme.ca_file else None,
        profile=acme.profile,
        preferred_chain=acme.preferred_chain,
        key_types=acme.key_type,
        challenges=acme.challenges,
        eab=_external_account(acme.eab, base),
        fallback=tuple(_fallback(other, acme, base) for other in acme.fallback),
        dns=tuple(_dns(one, base) for one in acme.dns),
        resolvers=acme.resolvers,
    )


def _fallback(other: acme_keys.Fallback, acme: acme_keys.Acme, base: Path) -> model.Acme:
    return model.Acme(
        directory=acme_keys.DIRECTORIES.get(other.directory, other.directory),
        directory_given=True,
        email=other.email or acme.email,
        ca_file=base / other.ca_file if other.ca_file else None,
        profile=other.profile,
        preferred_chain=other.preferred_chain,
        key_types=acme.key_type,
        challenges=acme.challenges,
        eab=_external_account(other.eab, base),
    )


def _external_account(
    eab: acme_keys.ExternalAccount | None, base: Path
) -> model.ExternalAccount | None:
    return model.ExternalAccount(eab.kid, base / eab.hmac_key_file) if eab else None


def _dns(dns: acme_keys.Dns, base: Path) -> model.Dns:
    tsig = dns.tsig
    return model.Dns(
        zone=dns.zone,
        server=dns.server,
        tsig=model.Tsig(tsig.name, base / tsig.secret_file, tsig.algorithm) if tsig else None,
        hook=base / dns.hook if dns.hook else None,
        hook_timeout=dns.hook_timeout,
        ttl=dns.ttl,
        propagation=dns.propagation,
    )


def _site(site: schema.Site, document: schema.Document, base: Path) -> model.Site:
    acme = document.acme

    def action(serving: serving_keys.Serving) -> model.Action:
        return _action(serving, site.names[0], document.via, base)

    routes = tuple(model.Route(route.path, action(route)) for route in site.routes)
    auth = site.tls.client_auth
    return model.Site(
        names=site.names,
        routes=routes or (model.Route("/*", action(site)),),
        certificates=tuple(
            model.OwnCertificate(base / one.chain, base / one.key) for one in site.certificate
        ),
        key_types=site.key_type or acme.key_type,
        default=site.default,
        internal=not site.certificate and internal(site, acme),
        client_auth=model.ClientAuth(base / auth.ca_file, auth.mode) if auth else None,
        rate_limits=tuple(
            model.RateLimit(one.rate, one.burst or max(1, int(one.rate)), one.by)
            for one in site.rate_limit
        ),
        on_demand=model.OnDemand(**dict(site.on_demand)) if site.on_demand else None,
    )


def _action(serving: serving_keys.Serving, name: str, via: bool, base: Path) -> model.Action:
    """``name`` is the site's first one; ``via`` is what holds for all sites."""
    if serving.root is not None:
        return model.FilesAction(base / serving.root)
    if serving.redirect is not None:
        return model.RedirectAction(serving.redirect, serving.status)
    if serving.backend is None:
        return model.RefuseAction()
    health, tls, breaker = serving.health, serving.backend_tls, serving.breaker
    return model.ProxyAction(
        backends=tuple(
            replace(each.url, weight=each.weight, drain=each.drain) for each in serving.backend
        ),
        balance=serving.balance,
        health=_health(health, name if serving.preserve_host else "") if health else None,
        tls=model.BackendTls(
            base / tls.ca_file if tls and tls.ca_file else None,
            bool(tls and tls.insecure),
            tls.server_name if tls else None,
        ),
        connect_timeout=serving.connect_timeout,
        response_timeout=serving.response_timeout,
        idle_timeout=serving.idle_timeout,
        pool_idle=serving.pool_idle,
        connections=serving.connections,
        queue=serving.queue,
        wait_for_backend=serving.wait_for_backend,
        preserve_host=serving.preserve_host,
        hash_key=serving.hash_by,
        sticky_cookie=serving.sticky_cookie.name if serving.sticky_cookie else None,
        sticky_same_site=serving.sticky_cookie.same_site if serving.sticky_cookie else "lax",
        slow_start=serving.slow_start,
        breaker=model.Breaker(**dict(breaker)) if breaker else None,
        via=via if serving.via is None else serving.via,
    )


def _health(health: serving_keys.Health, name: str) -> model.Health:
    host = health.host or ("" if name.startswith("*") else name)
    return model.Health(health.path, health.interval, health.timeout, host)
