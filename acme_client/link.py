"""Defines all that the certifier knows of the rest of the program: verbs and a mailbox.

The certifier never imports the server. It is started with `Settings` and a `Link`; the server
provides the link over its socket pair, tests provide one in memory, and both pass the same
contract suite.

``present`` and ``publish`` block until every worker has acknowledged, or a bound has passed,
because the CA may be told to validate only when any worker can answer. They are called from threads
of the certifier; ``receive`` only from its main thread.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Any, Literal, Protocol

from .late_dataclass import dataclass
from .status import CertificateStatus

INTERNAL = "internal"
# Reasons for a revocation: those of RFC 5280 §5.3.1 that Let's Encrypt and others take from
# subscribers.
REASONS = {
    "unspecified": 0,
    "keyCompromise": 1,
    "affiliationChanged": 3,
    "superseded": 4,
    "cessationOfOperation": 5,
}


class LinkBroken(Exception):
    """The supervisor is gone; the certifier ends."""


@dataclass(frozen=True, slots=True)
class ExternalAccount:
    kid: str
    hmac_key: str = field(repr=False)  # the file's text, see `external_account.mac_key`


@dataclass(frozen=True, slots=True)
class Authority:
    """A CA and how we use it. ``directory`` is an https URL or "internal"."""

    directory: str
    email: str | None = None
    ca_pem: bytes | None = None  # trusted for the directory's own TLS, instead of the system's
    profile: str | None = None
    preferred_chain: str | None = None  # the common name of the root it is to lead to
    eab: ExternalAccount | None = None


@dataclass(frozen=True, slots=True)
class TsigKey:
    name: str
    algorithm: str
    secret: str = field(repr=False)  # the file's text, see `dns_names.tsig_secret`
    file: Path  # where it came from, for messages


class ProviderSettings:
    """What a provider of DNS records has to know; `dns_provider` has the table of providers."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class DnsUpdates(ProviderSettings):
    """A name server that takes updates (RFC 2136)."""

    host: str
    port: int
    key: TsigKey | None = None
    ttl: int = 60  # seconds; of the records


@dataclass(frozen=True, slots=True)
class Credential:
    """One setting of a provider or hook, which may be a secret. ``file``: where it was read, for
    messages; ``value`` is None where that file cannot be read."""

    name: str
    value: str | None = field(repr=False)
    file: Path | None = None


# How a hook is called: in our own way, or as programs for other ACME clients expect it.
HookStyle = Literal["treehouse", "certbot", "acme.sh", "lego", "lego-raw"]


def acme_sh(plugin: Path) -> Path:
    """Return where acme.sh itself is expected, which its plug-ins call: above the folder
    ``dnsapi``, or beside the plug-in."""
    folder = plugin.parent
    return (folder.parent if folder.name == "dnsapi" else folder) / "acme.sh"


@dataclass(frozen=True, slots=True)
class DnsHook(ProviderSettings):
    """A program of the operator's that sets and removes records. ``cleanup_program``: the one that
    removes them, where that is another (certbot's ``--manual-cleanup-hook``). ``environment``: what
    it is given beside the record."""

    program: Path
    timeout: float
    scratch: Path  # a folder for its own files, made if it is missing
    style: HookStyle = "treehouse"
    cleanup_program: Path | None = None
    environment: tuple[Credential, ...] = ()


@dataclass(frozen=True, slots=True)
class DnsApi(ProviderSettings):
    """The interface of a DNS provider that `challenges.dns_api` knows by name."""

    provider: str
    credentials: tuple[Credential, ...]
    timeout: float
    ttl: int = 60


@dataclass(frozen=True, slots=True)
class DnsZone:
    """How records get into ``zone``, or into each that has no entry of its own."""

    via: ProviderSettings
    zone: str | None = None
    propagation: float = 120.0  # seconds that all name servers may take to show a record


@dataclass(frozen=True, slots=True)
class Dns:
    """``resolvers``: addresses and ports; none: those of the system."""

    zones: tuple[DnsZone, ...] = ()
    resolvers: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class CertificateSpec:
    """One certificate to have. A site may have two, for different kinds of key: ``name``, on disk
    and in every message, is the site's first name, and of the second that and its ``mark``."""

    names: tuple[str, ...]
    authority: Authority
    key_type: str = "ecdsa-p256"
    fallback: tuple[Authority, ...] = ()
    challenges: tuple[str, ...] = ("http-01", "tls-alpn-01")
    mark: str = ""  # of a site's second certificate: the family of its key, "rsa" or "ecdsa"
    on_demand_for: str | None = None  # the site whose name it is, where it came on demand

    @property
    def name(self) -> str:
        return f"{self.names[0]}/{self.mark}" if self.mark else self.names[0]


# Attempts at one CA, that is: for one account. A CA is asked politely by few at a time (Let's
# Encrypt advises its clients so), and a hundred new sites still have their certificates within
# minutes.
ATTEMPTS_AT_ONCE = 4
# The built-in CA is part of this program: its certificates wait for the disk and for workers, which
# take as long for many certificates at once as for one.
INTERNAL_ATTEMPTS_AT_ONCE = 32


def attempts_at_once(directory: str) -> int:
    return INTERNAL_ATTEMPTS_AT_ONCE if directory == INTERNAL else ATTEMPTS_AT_ONCE


# A certificate on demand is not renewed when no client has asked for its name for so many seconds.
FORGET = 30 * 86400.0


@dataclass(frozen=True, slots=True)
class OnDemandRule:
    """Names that a site may have when a client asks for them: each of ``patterns``, ``ask`` and
    ``dns`` that is given must allow a name. ``wanted`` is the certificate, but for its name."""

    site: str
    wanted: CertificateSpec
    patterns: tuple[str, ...] = ()
    ask: str | None = None
    dns: bool = False
    addresses: tuple[str, ...] = ()
    resolvers: tuple[tuple[str, int], ...] = ()  # addresses and ports; none: those of the system
    per_hour: int = 50
    most: int = 1000
    forget: float = FORGET


@dataclass(frozen=True, slots=True)
class Settings:
    state: Path
    wanted: tuple[CertificateSpec, ...]
    user_agent: str = "treehouse-proxy"
    lifetime_internal: float = 7 * 86400.0  # seconds that leaves of the internal CA are valid
    on_demand: tuple[OnDemandRule, ...] = ()
    taken: tuple[str, ...] = ()  # names of all sites, which never come on demand
    dns: Dns = Dns()


@dataclass(frozen=True, slots=True)
class Served:
    """A certificate in use: PEM, leaf first; ``key_pem`` PKCS#8. Times are Unix seconds."""

    name: str  # of the `CertificateSpec`
    site: str  # names[0] of the `CertificateSpec`
    names: tuple[str, ...]  # as in the certificate
    chain_pem: bytes
    key_pem: bytes = field(repr=False)
    serial: str  # lower-case hex
    not_before: float
    not_after: float
    source: Literal["acme", "internal", "file"]
    family: str = "ecdsa"  # of the key
    on_demand_for: str | None = None
    digest: str = ""  # of the chain, `x509.verify.digest_of`


# The host and the token of a challenge that stands for every token, at all hosts of the server:
# what is answered is the token, and the account's thumbprint behind it.
ANY = "*"
# The token of a challenge at `ANY` host that is none: this process has heard of all challenges that
# other machines want answered, or knows that it cannot hear of any. It asks for nothing to be
# answered; but until it is there, servers have those wait who ask for tokens that are not known.
HEARD = "+"
# The token of a challenge at `ANY` host whose thumbprint is kept in reserve: it answers as that of
# `ANY` token does, where who asks has waited, and there is still nothing heard of.
SPARE = "?"


@dataclass(frozen=True, slots=True)
class Challenge:
    """``kind`` http-01: serve ``key_authorization`` under ``token`` for ``host`` exactly.
    ``kind`` tls-alpn-01: serve the certificate in ``chain_pem``/``key_pem`` to ALPN acme-tls/1."""

    kind: Literal["http-01", "tls-alpn-01"]
    host: str
    token: str
    key_authorization: str
    chain_pem: bytes = b""
    key_pem: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class Command:
    """From the supervisor; ``value`` is what the verb is about.

    Of people: ``renew``, ``revoke`` (a certificate, by name), ``roll_account_key``,
    ``dns_persist`` (the record that is to stand for a name), ``refusal`` (why a name on demand is
    refused), ``costs`` (what these orders would take of the CAs' limits), ``look`` (somebody has
    put files into the state directory). Of workers: ``want`` (somebody waits for this name, which
    is not configured), ``used`` (somebody came for it). ``stop``: finish what must not be cut and
    return from `agent.run`; other settings are another process's.

    A command with ``ticket`` wants an answer: `Link.answer(ticket, {...})`, exactly once.
    """

    verb: str
    value: Any = None
    ticket: int | None = None


@dataclass(frozen=True, slots=True)
class Taken:
    """What workers say of certificates: whether all have ``acknowledged`` them in time, and why
    they cannot serve some, by name; in the place of these they serve the certificates before."""

    acknowledged: bool
    refusals: Mapping[str, str] = field(default_factory=dict)


# Certificates that are published at once, at most.
PUBLISHED_TOGETHER = 256
# Threads that tell the workers of certificates. Each waits until all workers have acknowledged what
# it sent, and what has come meanwhile is sent together.
PUBLISHED_AT_ONCE = 2


class Link(Protocol):
    def publish(self, several: Sequence[Served], *, new: bool) -> Taken:
        """Have these served by every worker. ``new``: no worker has served them before, and each
        tries them first."""
        ...

    def present(self, challenge: Challenge) -> bool:
        """Have the challenge answered by every worker; returns False when not all acknowledged in
        time."""
        ...

    def retract(self, challenge: Challenge) -> None: ...

    def report(self, name: str, status: CertificateStatus | None) -> None:
        """Report an entry of ``certificates`` in ``status --json``; None: it is no longer
        wanted."""
        ...

    def loaded(self) -> None:
        """Report that all certificates found on disk have been published; called once per start."""
        ...

    def idle(self) -> None:
        """Report that nothing is left to do, and that nothing will be until a command comes. Said
        again each time that this is noticed."""
        ...

    def answer(self, ticket: int, value: dict[str, Any]) -> None: ...

    def receive(self, timeout: float | None) -> list[Command]:
        """Return the commands that have come, waiting at most ``timeout`` seconds for the first;
        also returns when `wake` was called."""
        ...

    def wake(self) -> None:
        """Have `receive` return now; may be called from any thread."""
        ...
