"""What is looked at before OpenSSL sees anything, and only where there is a reason to."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Mapping

import pytest
import trustme

from proxy.config.model import Limits, OnDemand, RefuseAction, Route, Site, Tls
from proxy.handlers.http01 import Http01Handler
from proxy.ipc.connection_counters import ConnectionCounters
from proxy.ipc.packs import alone
from proxy.protocol.client_address import subscriber
from proxy.protocol.service import Serve
from proxy.sites.site import SiteTable
from proxy.tls.acme_alpn import AlpnChallenges
from proxy.tls.contexts import Certificates, server_context
from proxy.tls.unheard import UnheardChallenges
from proxy.transport.clock import Clock
from proxy.transport.deadlines import Deadlines
from proxy.worker import acceptor, tls_accept
from proxy.worker.acceptor import Acceptor
from proxy.worker.context import WorkerContext
from proxy.worker.limits import LimitReporter
from proxy.worker.on_demand import OnDemandCertificates
from proxy.worker.tls_accept import TlsAcceptor

CA = trustme.CA()


def made(rule: OnDemand | None, protocols: Mapping[str, Serve]) -> Acceptor:
    """A worker's acceptor with one ordinary site, and names on demand or not."""
    loop, clock = asyncio.get_running_loop(), Clock()
    certificates = Certificates(Tls())
    leaf = CA.issue_cert("a.example.org")
    pem = b"".join(one.bytes() for one in leaf.cert_chain_pems) + leaf.private_key_pem.bytes()
    name = "a.example.org"
    certificates.put(name, name, (name,), 2e9, alone(pem))
    base = server_context(Tls())
    certificates.listen_with(base)
    site = Site(("a.example.org",), (Route("/*", RefuseAction()),), on_demand=rule)
    waiting = OnDemandCertificates(
        (site,), True, {}, certificates, lambda host: host == b"a.example.org", subscriber,
        lambda _: None, loop, clock,
    )  # fmt: skip
    counts = ConnectionCounters.for_one_worker(Limits().connections)
    deadlines, limit_reporter = Deadlines(), LimitReporter(Limits(), 1, clock, None, counts)
    context = WorkerContext(
        sites=SiteTable(()), challenges=Http01Handler(UnheardChallenges()), certificates=certificates,
        limits=Limits(), clock=clock, access_log=None, https_port=443,
        limit_reporter=limit_reporter, on_demand=waiting,
    )  # fmt: skip
    secure = TlsAcceptor(
        context, loop, deadlines, base, AlpnChallenges(UnheardChallenges()), protocols
    )
    return Acceptor(
        context, loop, deadlines, {"https": None}, protocols["http/1.1"], secure, counts,
        lambda: None,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("address", "peer"),
    [
        (("192.0.2.1", 5), ("192.0.2.1", 5)),
        (("::ffff:192.0.2.1", 5, 0, 0), ("192.0.2.1", 5)),
        (("2001:db8::1", 5, 0, 0), ("2001:db8::1", 5)),
        (("::ffff:0:1", 5, 0, 0), ("::ffff:0:1", 5)),
        ("", ("unix", 0)),
    ],
)
def test_a_peer_is_told_as_what_it_is(address: object, peer: tuple[str, int]) -> None:
    """Also at a socket for both families: else all of IPv4 would be one network of IPv6."""
    assert acceptor._peer(address) == peer


async def handshake(of: Acceptor) -> None:
    """A client's, to its end."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    of.probe(ours)
    context = ssl.create_default_context()
    CA.configure_trust(context)
    context.set_alpn_protocols(["http/1.1"])  # as nearly all do; its first bytes show that
    _reader, writer = await asyncio.open_connection(
        sock=theirs, ssl=context, server_hostname="a.example.org"
    )
    writer.close()


@pytest.mark.parametrize(("rule", "looks"), [(None, 0), (OnDemand(ask="http://app/"), 1)])
async def test_a_hello_is_looked_at_only_where_names_come_on_demand(
    rule: OnDemand | None, looks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An ordinary site's handshake pays nothing for what is off."""
    looked, original = [], tls_accept._hello

    async def counted(stream):
        looked.append(stream)
        return await original(stream)

    async def over(*_):
        pass

    monkeypatch.setattr(tls_accept, "_hello", counted)
    await handshake(made(rule, {"http/1.1": over}))
    assert len(looked) == looks
