"""TLS contexts: one base per generation for the tickets, one per certificate for the names.

The base context is made in the supervisor, before the workers are forked. It holds the ticket keys,
so a session that one worker began resumes at any other; contexts made after the fork would each
have keys of their own. It has no certificate: the callback for SNI (RFC 6066 §3) chooses the
context whose certificate covers the name, and a name that nobody serves is refused within the
handshake (``unrecognized_name``) instead of being shown a stranger's certificate.

A worker never reads a key from disk, nor could it: certificates come in shared memory (chain and
key in PEM), and a context is made of one when a client first asks for it (`context_cache`). A
certificate that has just been obtained is loaded before it is acknowledged, so that one which
OpenSSL does not take never takes a good one's place.

OpenSSL never rotates the ticket keys of a context and the `ssl` module cannot set them; new keys
come with a new generation, and the supervisor makes one when they are nearly a day old.

A site may have two certificates, one with an ECDSA key and one with RSA for clients that know
nothing else. Both are in one context, and OpenSSL takes the one that the ClientHello's signature
algorithms (and TLS 1.2's suites) allow, ECDSA where both would do, because our order counts.

A site that asks for client certificates is served by its own context from the first byte on:
OpenSSL takes the rules of verification from the context that a connection began with.
"""

from __future__ import annotations

import _ssl
import logging
import ssl
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext

from acme_client.late_dataclass import dataclass
from acme_client.x509.trust_bundle import authorities

from ..bounded_cache import LONGEST_KEY, remember
from ..config.model import ClientAuth, Tls
from ..name_table import covers
from ..transport.tls_socket import TlsSocket
from .context_cache import Bundle, ContextCache, load
from .shared_names import SharedNames

log = logging.getLogger("treehouse.worker")

# Mozilla's "intermediate" list of TLS 1.2 suites that are both AEAD and forward-secret.
# Anything older has no place on a server set up in 2026; TLS 1.3 suites are OpenSSL's own.
CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20:!aNULL:!MD5:!DSS:!PSK"
# Spellings of names that are remembered; clients choose them, by a wildcard as many as they like.
_MOST_CHOSEN = 1000
_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


def protocols(http2: bool) -> list[str]:
    """What is offered by ALPN (RFC 7301), the best first. The worker has a table of who speaks
    them. OpenSSL asks the context that was chosen by SNI, so that a site may do without HTTP/2."""
    return ["h2", "http/1.1"] if http2 else ["http/1.1"]


def server_context(tls: Tls, http2: bool = True) -> ssl.SSLContext:
    """A context with our policy and without a certificate. ``http2``: whether it is offered."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _VERSIONS[tls.min_version]
    context.set_ciphers(CIPHERS)
    context.options |= (
        ssl.OP_NO_COMPRESSION
        | ssl.OP_NO_RENEGOTIATION
        | ssl.OP_SINGLE_ECDH_USE
        | ssl.OP_CIPHER_SERVER_PREFERENCE
    )
    context.set_alpn_protocols(protocols(http2))
    # Each costs 24 µs; a resumption brings the next one.
    context.num_tickets = 1
    return context


@dataclass(slots=True, eq=False)
class Held:
    """A certificate at hand. ``digest`` identifies its chain ("": not known). The bundle may be
    moved: the same bytes in another place."""

    name: str
    names: tuple[str, ...]
    not_after: float
    bundle: Bundle
    digest: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Served:
    """What a name's clients get. ``name`` is the first of the site's names and identifies it;
    ``held``: the certificates, for different kinds of key."""

    name: str
    names: tuple[str, ...]
    not_after: float
    held: tuple[Held, ...]
    asks_clients: bool = False  # for a certificate of theirs
    http2: bool = True  # whether it is offered


class Certificates:
    """What a worker serves, by name. Changing it never disturbs a connection that stands: each
    keeps the context that it was made with. ``paired``: the sites (by first name) with two
    certificates; ``without_http2``: those that do not offer it. ``owner`` finds the first name of
    the site that a host is configured for: of several certificates for a host that of its own site
    is served, because a site's rules for handshakes hang on it. ``reserve`` has room for the
    descriptors with which a certificate is loaded."""

    def __init__(
        self,
        tls: Tls,
        default: str | None = None,
        client_auth: Mapping[str, ClientAuth] | None = None,
        paired: frozenset[str] = frozenset(),
        without_http2: frozenset[str] = frozenset(),
        owner: Callable[[str], str | None] = lambda _host: None,
        reserve: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._tls = tls
        self._owner = owner
        self._default = default
        self._paired = paired
        self._without_http2 = set(without_http2)
        self._reserve = reserve
        # Read now: later, in the sandbox, the files may be out of reach.
        self._clients = {
            name: (auth.mode, authorities(auth.ca_file.read_bytes(), "clients"))
            for name, auth in (client_auth or {}).items()
        }
        self._held: dict[str, dict[str, Held]] = {}  # by site and name
        self._by_site: dict[str, tuple[Served, ...]] = {}
        self._by_host: SharedNames[Served] = SharedNames()
        self._contexts: ContextCache[Served] = ContextCache(self._context)
        self._chosen: dict[str, Served] = {}  # by the name in a ClientHello, as it was sent

    def do_without_http2(self, site: str) -> None:
        """The site's certificates, those put from now on, do not offer it."""
        self._without_http2.add(site)

    def put(
        self,
        site: str,
        name: str,
        names: tuple[str, ...],
        not_after: float,
        bundle: Bundle,
        *,
        digest: str = "",
        try_out: bool = True,
    ) -> None:
        """Serve a certificate of the site; the bundle is this object's from now on. ``try_out``:
        have OpenSSL load it now. Raises `ssl.SSLError` or `OSError` then, and nothing has changed.
        One that is served already is moved to the new bundle, and costs nothing else."""
        before = self._held.get(site, {})
        replaced = before.get(name)
        if replaced is not None and digest and _is_same(replaced, names, not_after, digest):
            replaced.bundle, bundle = bundle, replaced.bundle
            bundle.release()
            return
        present = Held(name, names, not_after, bundle, digest)
        held = {**before, name: present} if site in self._paired else {name: present}
        following = tuple(self._served(site, held.values()))
        try:
            if try_out:
                for served in following:
                    self._contexts.get(served)
        except BaseException:
            for served in following:
                self._contexts.drop(served)
            bundle.release()
            raise
        self._held[site] = held
        self._replace(site, following)
        if replaced is not None:
            replaced.bundle.release()

    def _served(self, site: str, held: Collection[Held]) -> Iterator[Served]:
        """One for each set of names that the same certificates are for. Of two with the same kind
        of key the one that lasts longer takes the place in the context: it comes last."""
        http2, asks = site not in self._without_http2, site in self._clients
        if len(held) == 1:
            (one,) = held
            yield Served(site, one.names, one.not_after, (one,), asks, http2)
            return
        order = sorted(held, key=lambda one: one.not_after)
        together: dict[tuple[Held, ...], list[str]] = {}
        for name in dict.fromkeys(name for one in order for name in one.names):
            covering = tuple(one for one in order if name in one.names)
            together.setdefault(covering, []).append(name)
        for covering, names in together.items():
            yield Served(site, tuple(names), covering[-1].not_after, covering, asks, http2)

    def context_of(self, served: Served) -> ssl.SSLContext:
        """The context with a site's certificates. Raises `ssl.SSLError` and `OSError`."""
        return self._contexts.get(served)

    def _context(self, served: Served) -> ssl.SSLContext:
        context = server_context(self._tls, served.http2)
        with self._reserve():
            load(context, (one.bundle for one in served.held))
        if served.asks_clients:
            self._ask_clients(context, *self._clients[served.name])
        return context

    @staticmethod
    def _ask_clients(context: ssl.SSLContext, mode: str, cas: bytes) -> None:
        """No session is resumed on such a site: a ticket would let in who was verified by other
        rules, or once. Its context has its own ticket keys, so tickets of other sites are void."""
        context.load_verify_locations(cadata=cas)
        context.verify_mode = ssl.CERT_REQUIRED if mode == "require" else ssl.CERT_OPTIONAL
        context.num_tickets = 0
        context.options |= ssl.OP_NO_TICKET

    @property
    def asks_clients(self) -> bool:
        """Whether any site does: then each ClientHello has to be looked at."""
        return bool(self._clients)

    def remove(self, site: str, name: str) -> None:
        """Serve this certificate of the site no more."""
        held = self._held.get(site, {})
        if name not in held:
            return
        left = {one: kept for one, kept in held.items() if one != name}
        self._replace(site, tuple(self._served(site, left.values())) if left else ())
        if left:
            self._held[site] = left
        else:
            del self._held[site]
        held[name].bundle.release()

    def _replace(self, site: str, following: tuple[Served, ...]) -> None:
        self._chosen.clear()
        for served in self._by_site.pop(site, ()):
            self._by_host.remove(served)
            self._contexts.drop(served)
        if following:
            self._by_site[site] = following
        for served in following:
            self._by_host.add(served)

    def find(self, host: str) -> Served | None:
        """The certificate for a lower-case name or address, if there is one."""
        owner = self._owner(host)
        if owner is not None:
            for served in self._by_site.get(owner, ()):
                if covers(served.names, host):
                    return served
        return self._by_host.find(host)

    def choose(self, server_name: str | None, local: str) -> Served | None:
        """For a ClientHello: by SNI, or without one by the address that was connected to."""
        found = self.find((server_name or local).lower().rstrip("."))
        if found is None and self._default is not None:
            found = next(iter(self._by_site.get(self._default, ())), None)
        return found

    def listen_with(self, base: ssl.SSLContext) -> None:
        """Make ``base`` choose from this table. What was chosen is kept on the `ServerSocket`."""

        chosen = self._chosen

        def on_name(
            sock: ServerSocket, server_name: str | None, _base: ssl.SSLContext
        ) -> int | None:
            served = chosen.get(server_name) if server_name else None
            if served is None:
                served = self.choose(server_name, "" if server_name else sock.getsockname()[0])
                if served is None:
                    sock.unknown_name = server_name or ""
                    return int(ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME)
                if server_name and len(server_name) < LONGEST_KEY:
                    remember(chosen, server_name, served, _MOST_CHOSEN)
            if served.asks_clients:
                # OpenSSL takes the verification's rules from the context that a connection began
                # with, and this one began with another: its ClientHello was none that we read.
                return int(ssl.ALERT_DESCRIPTION_HANDSHAKE_FAILURE)
            try:
                sock.inner.context = self._contexts.get(served)
            except (ssl.SSLError, OSError, MemoryError) as error:
                log.error("the certificate for %s cannot be loaded: %s", served.name, error)
                return int(ssl.ALERT_DESCRIPTION_INTERNAL_ERROR)
            sock.served = served
            sock.requested_name = server_name
            return None

        # The property of `ssl.SSLContext` puts a function around it that looks whether the name is
        # one by IDNA. OpenSSL's name is ASCII already, and what is no name finds no certificate.
        vars(_ssl._SSLContext)["sni_callback"].__set__(base, on_name)


def _is_same(held: Held, names: tuple[str, ...], not_after: float, digest: str) -> bool:
    return (held.digest, held.names, held.not_after) == (digest, names, not_after)


class ServerSocket(TlsSocket):
    """An accepted connection that remembers which certificate was chosen for it. ``unknown_name``:
    the name asked for, if there is nothing for it ("": no name)."""

    __slots__ = ("requested_name", "served", "unknown_name")

    def __init__(self, fd: int, family: int) -> None:
        super().__init__(fd, family)
        self.served: Served | None = None
        self.requested_name: str | None = None
        self.unknown_name: str | None = None
