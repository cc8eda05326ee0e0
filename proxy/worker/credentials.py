"""What a worker shows to clients and CAs: certificates, and answers to challenges.

The supervisor says what is in force; here it is put where handshakes and port 80 look it up. A
certificate for a site that this generation does not have is left out: for a moment after a reload
two generations serve, and both are told everything.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import ssl
from collections.abc import Callable

from ..config.model import Config
from ..handlers.http01 import Http01Handler
from ..ipc.messages import (
    CertificateFacts,
    CertificateUsed,
    ChallengeFacts,
    DropCertificate,
    DropChallenge,
    WantCertificate,
)
from ..name_table import NameTable
from ..protocol.client_address import subscriber
from ..sites.site import SiteTable
from ..tls.acme_alpn import AlpnChallenges
from ..tls.contexts import Certificates
from ..transport.clock import Clock
from .inbox import Unusable
from .on_demand import OnDemandCertificates
from .startup import WorkerInit

log = logging.getLogger("treehouse.worker")


class Credentials:
    """``certificates`` for TLS, ``http01`` and ``alpn`` for challenges, ``on_demand`` for names
    that no site lists; ``names_on_demand`` maps each of those to its site's first name. ``say``
    sends to the supervisor."""

    def __init__(
        self,
        init: WorkerInit,
        sites: SiteTable,
        names_on_demand: dict[str, str],
        say: Callable[[WantCertificate | CertificateUsed], None],
        loop: asyncio.AbstractEventLoop,
        clock: Clock,
    ) -> None:
        config = init.config
        self._known_sites = {site.names[0] for site in config.sites}
        self._paired = frozenset(site.names[0] for site in config.sites if site.paired)
        self._without_http2 = frozenset(site.names[0] for site in config.sites if not site.http2)
        self.certificates = Certificates(
            config.tls,
            _default_site(config),
            {site.names[0]: site.client_auth for site in config.sites if site.client_auth},
            self._paired,
            self._without_http2,
            NameTable({name: site.names[0] for site in config.sites for name in site.names}),
        )
        self.certificates.listen_with(init.base)
        self.http01 = Http01Handler()
        self.alpn = AlpnChallenges()
        self.on_demand = OnDemandCertificates(
            config, names_on_demand, self.certificates, sites.configured, subscriber, say, loop,
            clock,
        )  # fmt: skip
        for announced in init.certificates:
            with contextlib.suppress(Unusable):  # said; the other certificates are served
                self.put(announced.facts, announced.bundle)
            os.close(announced.bundle)
        for challenge, bundle in init.challenges:
            self.put_challenge(challenge, bundle)
            if bundle is not None:
                os.close(bundle)

    def put(self, facts: CertificateFacts, bundle: int) -> None:
        """Serve a certificate, if it is of a site that is served here. The bundle stays the
        caller's. Raises `Unusable`, and `OSError` where no descriptor is left to read it with."""
        site, name = facts.site, facts.name
        on_demand_for = facts.on_demand_for
        if on_demand_for:
            known = self.on_demand.has_site(on_demand_for)
        else:
            known = site in self._known_sites and (name == site or site in self._paired)
        if not known:
            return  # of a site of an older or a newer generation
        if on_demand_for in self._without_http2:
            self.certificates.do_without_http2(site)
        try:
            self.certificates.put(site, name, facts.names, facts.not_after, bundle)
        except ssl.SSLError as error:
            log.error("the certificate for %s cannot be used: %s", name, error.reason or error)
            raise Unusable(f"OpenSSL does not take it: {error.reason or error}") from None
        if on_demand_for:
            self.on_demand.certificate_ready(name, on_demand_for)

    def drop(self, message: DropCertificate) -> None:
        self.certificates.remove(message.site, message.name)
        self.on_demand.gone(message.name)

    def put_challenge(self, challenge: ChallengeFacts, bundle: int | None) -> None:
        """Answer a challenge. The bundle stays the caller's."""
        if challenge.kind == "http-01":
            self.http01.put(challenge.host, challenge.token, challenge.key_authorization)
        elif bundle is not None:
            self.alpn.put(challenge.host, challenge.token, bundle)
        else:
            raise ValueError("a tls-alpn-01 challenge without its certificate")

    def drop_challenge(self, message: DropChallenge) -> None:
        """Stop answering a challenge of this kind; one of the other kind stays."""
        if message.kind == "http-01":
            self.http01.remove(message.host, message.token)
        else:
            self.alpn.remove(message.host, message.token)


def _default_site(config: Config) -> str | None:
    return next((site.names[0] for site in config.sites if site.default), None)
