"""The certifier process: `acme_client` at work behind our end of its `Link`.

What is here is the border between the two packages: the configuration becomes `Settings`, and the
link's verbs become messages to the supervisor. The account key and everything that speaks to a CA
stay on the other side of it, in this process only.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import select
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, assert_never

from acme_client.certificates import ca_choice
from acme_client.errors import IssuanceError
from acme_client.link import (
    INTERNAL,
    Authority,
    Challenge,
    Command,
    Dns,
    DnsHook,
    DnsUpdates,
    DnsZone,
    ExternalAccount,
    LinkBroken,
    OnDemandRule,
    Served,
    Settings,
    TsigKey,
    Wanted,
)
from acme_client.status import CertificateStatus
from acme_client.x509 import keys

from .. import log as logs
from .. import sandbox
from ..config import model
from ..config.model import Acme, Config, OnDemand, Site
from ..config.referenced_files import mark, referred
from ..ipc.channel import Channel, ChannelClosed, sealed
from ..ipc.codec import JsonObject, Malformed, encode
from ..ipc.messages import (
    TO_CERTIFIER,
    Alive,
    CertificateFacts,
    CertifierAnswer,
    CertifierCommand,
    ChallengeFacts,
    Done,
    FromCertifier,
    Loaded,
    NotTaken,
    Present,
    Publish,
    Report,
    Retract,
)
from ..system.privileges import confine_process, die_with_parent
from ..version import VERSION

log = logging.getLogger("treehouse.certifier")

# The main loop says that it runs; the supervisor replaces a certifier that does not, and somebody
# may want to be told.
_BEAT_EVERY = 5.0
# All workers acknowledge within a turn of their loops; one that does not is being replaced.
_ACKNOWLEDGED_WITHIN = 15.0
# Challenges that the CA looks at where the name leads to.
VISITED = ("http-01", "tls-alpn-01")


def run(config: Config, channel: Channel) -> int:
    """The life of the process; returns its exit status."""
    logs.set_up("certifier", config.log.format, config.log.level)
    confine_process()
    # Nobody else needs it, and workers do not wait for it where no certificate is to be read.
    from acme_client.agent import agent
    from acme_client.storage.directory import open_store

    wanted = settings(config)
    confine_hook = _hook_confinement(config)
    sandbox.apply(sandbox.policies(config)["certifier"], config.sandbox)
    try:
        agent.run(wanted, ChannelLink(channel), open_store(config.state), confine_hook)
    except LinkBroken:
        return 1
    except agent.Hangs as why:
        log.error("%s; it hangs, and this process ends for another to start", why)
        return 1
    return 0


def _hook_confinement(config: Config) -> Callable[[], None] | None:
    """A hook ends with us, and may do less than we may."""
    policy = sandbox.policies(config).get("hook")
    if policy is None:
        return None
    sandbox.scratch(config).mkdir(mode=0o700, exist_ok=True)
    restrict = sandbox.prepared(policy, config.sandbox)
    parent = os.getpid()

    def confine() -> None:
        die_with_parent(parent)
        restrict()

    return confine


def has_any(config: Config) -> bool:
    """Whether there may be certificates in the state directory that workers are to serve."""
    return any(not one.certificates or one.on_demand for one in config.sites)


def needs(config: Config) -> object:
    """All that `settings` are made from, without a look into the files; equal ones need no new
    certifier."""
    sites = [
        (one.names, one.internal, one.certificates, one.key_types, one.on_demand)
        for one in config.sites
    ]
    files = {path: mark(path) for path in referred(config.acme)}
    return config.state, config.acme, sites, files


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


def _wanted(site: Site, number: int, acme: Acme) -> Wanted:
    """The site's certificate of this number: it has one for each type of key."""
    key_type = site.key_types[number]
    mark = keys.family(key_type) if number else ""
    if site.internal:
        return Wanted(site.names, Authority(INTERNAL), key_type, mark=mark)
    return Wanted(
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
    if dns.hook is not None:
        hook = DnsHook(dns.hook, dns.hook_timeout, scratch)
        return DnsZone(hook, dns.zone, dns.propagation)
    if dns.server is None:
        raise ValueError("neither server nor hook")  # `config.checks` lets none through
    key, tsig = None, dns.tsig
    if tsig is not None:
        try:
            secret = tsig.secret_file.read_text("utf-8", "replace")
        except OSError:
            secret = ""  # told when it is needed; certificates at hand are served meanwhile
        key = TsigKey(tsig.name, tsig.algorithm, secret, tsig.secret_file)
    updates = DnsUpdates(dns.server.host, dns.server.port, key, round(dns.ttl))
    return DnsZone(updates, dns.zone, dns.propagation)


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


class ChannelLink:
    """`acme_client.link.Link` over a `Channel`. ``receive`` and everything else on the main thread
    may read the channel; issuing threads only write to it and wait."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._main = threading.get_ident()
        self._lock = threading.Lock()
        self._tickets = itertools.count(1)
        self._done: dict[int, threading.Event] = {}
        self._refused: dict[int, Callable[[], None]] = {}  # how to send once more
        self._refusals: dict[int, str] = {}  # why a worker cannot serve a certificate
        self._commands: list[Command] = []
        self._awoken = False
        self._beaten = float("-inf")
        self._woken, self._wake = os.pipe()
        os.set_blocking(self._woken, False)
        os.set_blocking(self._wake, False)

    # Verbs

    def publish(self, served: Served) -> bool:
        bundle = sealed("certificate", served.chain_pem + served.key_pem)
        facts = CertificateFacts(
            name=served.name,
            site=served.site,
            names=served.names,
            not_after=served.not_after,
            serial=served.serial,
            family=served.family,
            on_demand_for=served.on_demand_for,
        )
        try:
            return self._tell(lambda ticket: Publish(facts, ticket), (bundle,))
        finally:
            os.close(bundle)

    def present(self, challenge: Challenge) -> bool:
        facts = ChallengeFacts(
            challenge.kind, challenge.host, challenge.token, challenge.key_authorization
        )
        if not challenge.chain_pem:
            return self._tell(lambda ticket: Present(facts, ticket))
        bundle = sealed("challenge", challenge.chain_pem + challenge.key_pem)
        try:
            return self._tell(lambda ticket: Present(facts, ticket), (bundle,))
        finally:
            os.close(bundle)

    def retract(self, challenge: Challenge) -> None:
        self._send(Retract(challenge.kind, challenge.host, challenge.token))

    def report(self, name: str, status: CertificateStatus | None) -> None:
        self._beat()  # thousands of certificates are taken on in one go
        self._send(Report(name, status))

    def loaded(self) -> None:
        self._send(Loaded())

    def answer(self, ticket: int, value: dict[str, Any]) -> None:
        self._send(CertifierAnswer(ticket, value))

    # The mailbox

    def receive(self, timeout: float | None) -> list[Command]:
        deadline = None if timeout is None else time.monotonic() + timeout
        self._beat()
        while not self._commands and not self._awoken:
            left = _BEAT_EVERY if deadline is None else deadline - time.monotonic()
            if left <= 0:
                break
            self._pump(min(left, _BEAT_EVERY))
            self._beat()
        self._awoken = False
        commands, self._commands = self._commands, []
        return commands

    def wake(self) -> None:
        self._awoken = True
        self._stir()

    def _stir(self) -> None:
        """End the main thread's wait for the channel."""
        with contextlib.suppress(BlockingIOError):  # the pipe is full of such bytes
            os.write(self._wake, b"\0")

    def _beat(self) -> None:
        """Say that the main loop runs; that another thread does is no sign of it."""
        now = time.monotonic()
        if threading.get_ident() == self._main and now - self._beaten >= _BEAT_EVERY:
            self._beaten = now
            self._send(Alive())

    def _pump(self, timeout: float | None) -> None:
        """Read what has come; wakes threads whose ticket is done."""
        channel = self._channel.fileno()
        writing = [channel] if self._channel.waiting else []
        readable, writable, _ = select.select([channel, self._woken], writing, [], timeout)
        try:
            if self._woken in readable:
                os.read(self._woken, 4096)
            if writable:
                with self._lock:
                    self._channel.flush()
            if channel in readable:
                for said, fds in self._channel.receive():
                    for fd in fds:
                        os.close(fd)
                    self._take(said)
        except ChannelClosed:
            raise LinkBroken from None

    def _take(self, said: JsonObject) -> None:
        try:
            message = TO_CERTIFIER.decode(said)
        except Malformed as why:
            log.error("what the supervisor says is not understood: %s", why)
            return
        match message:
            case Done(ticket, refusal):
                if refusal is not None and ticket in self._done:
                    self._refusals[ticket] = refusal
                waiting = self._done.pop(ticket, None)
                if waiting is not None:
                    waiting.set()
            case NotTaken(ticket):
                resend = self._refused.get(ticket)
                if resend is not None:
                    resend()
            case CertifierCommand(verb, value, ticket):
                self._commands.append(Command(verb, value, ticket))
            case _:
                assert_never(message)

    def _send(self, message: FromCertifier, fds: tuple[int, ...] = ()) -> None:
        try:
            with self._lock:
                self._channel.send(encode(message), fds)
        except (ChannelClosed, OSError):
            raise LinkBroken from None
        if self._channel.waiting and threading.get_ident() != self._main:
            self._stir()  # the main thread flushes what the kernel did not take

    def _tell(self, message: Callable[[int], Publish | Present], fds: tuple[int, ...] = ()) -> bool:
        """Send the message with a ticket, and wait until every worker has acknowledged; False after
        the bound. Raises `IssuanceError` when a worker cannot do it."""
        ticket = next(self._tickets)
        done = self._done[ticket] = threading.Event()
        self._refused[ticket] = lambda: self._send(message(ticket), fds)
        self._send(message(ticket), fds)
        if threading.get_ident() != self._main:
            acknowledged = done.wait(_ACKNOWLEDGED_WITHIN)
        else:
            deadline = time.monotonic() + _ACKNOWLEDGED_WITHIN
            while not done.is_set() and time.monotonic() < deadline:
                self._pump(min(deadline - time.monotonic(), _BEAT_EVERY))
                self._beat()
            acknowledged = done.is_set()
        self._done.pop(ticket, None)
        self._refused.pop(ticket, None)
        refusal = self._refusals.pop(ticket, None)
        if refusal is not None:
            raise IssuanceError("unproven", f"the certificate cannot be served: {refusal}")
        return acknowledged
