"""What a worker shows to clients and CAs: certificates, and answers to challenges.

The supervisor says what is in force; here it is put where handshakes and port 80 look it up. A
certificate for a site that this generation does not have is left out: for a moment after a reload
two generations serve, and both are told everything.
"""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
from collections.abc import Callable

from ..handlers.http01 import Http01Handler
from ..ipc.messages import (
    CertificateFacts,
    CertificateUsed,
    ChallengeFacts,
    DropCertificate,
    DropChallenge,
    PutCertificates,
    WantCertificate,
)
from ..ipc.packs import Bundle, Pack
from ..ipc.reserve import Reserve
from ..protocol.client_address import subscriber
from ..sites.site import SiteTable
from ..tls.acme_alpn import AlpnChallenges
from ..tls.contexts import Certificates
from ..tls.unheard import UnheardChallenges
from ..transport.clock import Clock
from .inbox import Unusable
from .on_demand import OnDemandCertificates
from .startup import WorkerInit

log = logging.getLogger("treehouse.worker")

# Descriptors with which one certificate is loaded: a memfd, and the file that OpenSSL opens.
_TO_LOAD = 2


class Credentials:
    """``certificates`` for TLS, ``http01`` and ``alpn`` for challenges, ``on_demand`` for names
    that no site lists. ``say`` sends to the supervisor."""

    def __init__(
        self,
        init: WorkerInit,
        sites: SiteTable,
        say: Callable[[WantCertificate | CertificateUsed], None],
        loop: asyncio.AbstractEventLoop,
        clock: Clock,
    ) -> None:
        config = init.config
        few = sites.particular
        self._sites = sites
        self._paired = frozenset(site.names[0] for site in few if site.paired)
        self._without_http2 = frozenset(site.names[0] for site in few if not site.http2)
        self.certificates = Certificates(
            config.tls,
            next((site.names[0] for site in few if site.default), None),
            {site.names[0]: site.client_auth for site in few if site.client_auth},
            self._paired,
            self._without_http2,
            sites.owner,
            # A process full of connections still loads the certificate that is asked for.
            Reserve(_TO_LOAD).lent,
        )
        self.certificates.listen_with(init.base)
        unheard = UnheardChallenges(expected=config.cluster is not None)
        self.http01 = Http01Handler(unheard)
        self.alpn = AlpnChallenges(unheard)
        self.on_demand = OnDemandCertificates(
            few, not config.acme.directory_given, sites.on_demand, self.certificates,
            sites.configured, subscriber, say, loop, clock,
        )  # fmt: skip
        for announced in init.certificates:
            self._put(announced.facts, announced.bundle, try_out=False)
        for challenge, bundle in init.challenges:
            self.put_challenge(challenge, bundle)
            if bundle is not None:
                os.close(bundle)

    def put(self, message: PutCertificates, fd: int) -> None:
        """Serve certificates, as far as they are of sites that are served here. The descriptor
        stays the caller's. Raises `Unusable`, when the others are served, and `OSError` where no
        descriptor or memory is left to take them in with."""
        pack = Pack(os.dup(fd))
        pack.bundles += 1  # until all are taken in
        why: dict[str, str] = {}
        try:
            for one in message.certificates:
                bundle = pack.bundle(one.offset, one.length)
                try:
                    self._put(one.facts, bundle, try_out=message.try_out)
                except ssl.SSLError as error:
                    name, reason = one.facts.name, error.reason or str(error)
                    log.error("the certificate for %s cannot be used: %s", name, reason)
                    why[name] = f"OpenSSL does not take it: {reason}"
        finally:
            pack.bundles -= 1
            pack.close_if_unused()
        if why:
            raise Unusable(why)

    def _put(self, facts: CertificateFacts, bundle: Bundle, *, try_out: bool) -> None:
        site, name = facts.site, facts.name
        on_demand_for = facts.on_demand_for
        if on_demand_for:
            known = self.on_demand.has_site(on_demand_for)
        else:
            known = self._sites.has(site) and (name == site or site in self._paired)
        if not known:  # of a site of an older or a newer generation
            bundle.release()
            return
        if on_demand_for in self._without_http2:
            self.certificates.do_without_http2(site)
        self.certificates.put(
            site,
            name,
            facts.names,
            facts.not_after,
            bundle,
            digest=facts.digest,
            try_out=try_out,
        )
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
