"""What the certifier is to do: the configuration, translated into `acme_client.link.Settings`.

Secrets that the configuration names by file are read here. A file that cannot be read is no fault
yet: it is reported when the secret is needed, and certificates that exist are served meanwhile.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from acme_client.certificates import ca_choice
from acme_client.link import (
    INTERNAL,
    Authority,
    CertificateSpec,
    Credential,
    Dns,
    DnsApi,
    DnsHook,
    DnsUpdates,
    DnsZone,
    ExternalAccount,
    OnDemandRule,
    Settings,
    TsigKey,
)
from acme_client.x509 import keys

from .. import sandbox
from ..config import model
from ..config.model import Acme, Config, OnDemand, Site
from ..version import VERSION

# Challenges that the CA looks at where the name leads to.
VISITED = ("http-01", "tls-alpn-01")


def settings(config: Config) -> Settings:
    """What the certifier is to do, from the configuration."""
    return Settings(
        state=config.state,
        wanted=tuple(
            _wanted(site, number, config.acme)
            for site in config.sites
            if not site.certificates
            for number in range(len(site.key_types))
        ),
        user_agent=f"treehouse-proxy/{VERSION}",
        dns=_dns(config),
        on_demand=tuple(_rule(site, site.on_demand, config.acme) for site in config.sites
                        if site.on_demand),
        taken=tuple(name for site in config.sites for name in site.names),
    )  # fmt: skip


def _rule(site: Site, given: OnDemand, acme: Acme) -> OnDemandRule:
    # Whatever CA the site's own names have: customers' names are for everybody. One kind of key is
    # enough for them, the first.
    wanted = _wanted(replace(site, internal=acme.directory == INTERNAL), 0, acme)
    return OnDemandRule(
        site=site.names[0],
        # Strangers' names are proven where they lead to; nobody here can change their DNS.
        wanted=replace(
            wanted, names=(), challenges=tuple(one for one in wanted.challenges if one in VISITED)
        ),
        patterns=given.patterns,
        ask=given.ask,
        dns=given.dns,
        addresses=given.addresses,
        resolvers=tuple((one.host, one.port) for one in acme.resolvers),
        per_hour=given.max_new_per_hour,
        most=given.max_names,
        forget=given.forget_after,
    )


def _wanted(site: Site, number: int, acme: Acme) -> CertificateSpec:
    """The site's certificate of this number: it has one for each type of key."""
    key_type = site.key_types[number]
    mark = keys.family(key_type) if number else ""
    if site.internal:
        return CertificateSpec(site.names, Authority(INTERNAL), key_type, mark=mark)
    return CertificateSpec(
        names=site.names,
        authority=_authority(acme),
        key_type=key_type,
        mark=mark,
        fallback=tuple(_authority(other) for other in acme.fallback),
        challenges=ca_choice.kinds(site.names, acme.challenges, bool(acme.dns)),
    )


def _dns(config: Config) -> Dns:
    return Dns(
        zones=tuple(_zone(one, sandbox.scratch(config)) for one in config.acme.dns),
        resolvers=tuple((one.host, one.port) for one in config.acme.resolvers),
    )


def _zone(dns: model.Dns, scratch: Path) -> DnsZone:
    return DnsZone(_via(dns, scratch), dns.zone, dns.propagation)


def _via(dns: model.Dns, scratch: Path) -> DnsHook | DnsApi | DnsUpdates:
    if dns.hook is not None:
        return DnsHook(
            dns.hook,
            dns.hook_timeout,
            scratch,
            dns.hook_style,
            dns.hook_cleanup,
            _credentials(dns),
        )
    if dns.provider is not None:
        return DnsApi(dns.provider, _credentials(dns), dns.hook_timeout, round(dns.ttl))
    if dns.server is None:
        raise ValueError("no server, hook or provider")  # `config.checks` lets none through
    key, tsig = None, dns.tsig
    if tsig is not None:
        try:
            secret = tsig.secret_file.read_text("utf-8", "replace")
        except OSError:
            secret = ""  # told when it is needed; certificates at hand are served meanwhile
        key = TsigKey(tsig.name, tsig.algorithm, secret, tsig.secret_file)
    return DnsUpdates(dns.server.host, dns.server.port, key, round(dns.ttl))


def _credentials(dns: model.Dns) -> tuple[Credential, ...]:
    found = []
    for one in dns.credentials:
        value = one.value
        if one.secret_file is not None:
            try:
                value = one.secret_file.read_text("utf-8", "replace").strip()
            except OSError:
                value = None  # told when it is needed
        found.append(Credential(one.name, value, one.secret_file))
    return tuple(found)


def _authority(acme: Acme) -> Authority:
    eab = None
    if acme.eab is not None:
        try:
            key = acme.eab.hmac_key_file.read_text("utf-8", "replace")
        except OSError:
            key = ""  # told when it is needed; certificates at hand are served meanwhile
        eab = ExternalAccount(acme.eab.kid, key)
    ca_pem = None
    if acme.ca_file is not None:
        try:
            ca_pem = acme.ca_file.read_bytes()
        except OSError:
            ca_pem = b""  # the same
    return Authority(
        directory=acme.directory,
        email=acme.email,
        ca_pem=ca_pem,
        profile=acme.profile,
        preferred_chain=acme.preferred_chain,
        eab=eab,
    )
