"""Issuing through ACME: an order from beginning to end (RFC 8555 §7.1.3 to §7.4.2).

Phases: directory → account → order → challenges presented, then announced → every authorization
valid → challenges retracted → CSR when the order is ready → chain.

The CA is told to validate only when every worker can answer, and a challenge is taken back whatever
happens. Polling keeps to Retry-After, bears a few cut connections, and ends: an order that does not
get anywhere is a `Problem` like any other. Waiting ends at once when the program stops.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import TypeVar
from urllib.parse import urlsplit

from acme import client, messages
from cryptography import x509
from josepy.json_util import JSONObjectWithFields, field
from requests import Response

from ..certificates import clock_skew, keys
from ..certificates.renewal import Suggestion
from ..certificates.verify import Pair
from ..challenges import dns_persist, tls_alpn
from ..challenges.dns01_solver import DnsRecords, Proof
from ..challenges.dns_names import digest
from ..challenges.dns_persist import Subject
from ..challenges.worker_solver import Challenges
from ..errors import Problem
from ..link import Authority, Challenge
from ..rate_limits.ledger import Ledgers
from ..storage.store import Store
from . import ari, negotiation
from . import messages as answers
from .accounts import Accounts, thumbprint
from .chains import choose
from .interface import Issued, Order
from .messages import Authorization, Offered, Placed
from .persist_records import Standing
from .transport import Network, alternates, trust

log = logging.getLogger("treehouse.certifier")
T = TypeVar("T")

# CAs look from several places and try again for a while; after that, they have failed.
VALIDATED_WITHIN = 300.0
# Some CAs hold an order in "processing" for minutes.
ISSUED_WITHIN = 600.0
# The first pauses between polls, where the CA names none; the last one repeats.
POLLS = (0.2, 0.5, 1.0, 2.0, 3.0, 5.0, 8.0)
# A CA that asks for more patience than this gets it as a pause between attempts.
LONGEST_POLL = 60.0
# Polls in a row that may fail on the way before the attempt does.
LOST_POLLS = 5
# How often a CA that leaves it to us is told to look again, within a few seconds.
TOLD_AGAIN = 3


class _NewOrder(messages.NewOrder):
    """With the field of RFC 9773 §5, which the library lacks."""

    replaces: str | None = field("replaces", omitempty=True)


class _Ready(JSONObjectWithFields):
    """The empty object that announces a challenge (RFC 8555 §7.5.1)."""

    def __bool__(self) -> bool:
        """An object without fields is no less one: the library posts nothing for what is falsy."""
        return True


class AcmeIssuer:
    """`order.Issuer` by one CA. ``stopping`` ends every wait; ``now`` gives Unix seconds."""

    def __init__(
        self,
        authority: Authority,
        store: Store,
        ledgers: Ledgers,
        challenges: Challenges,
        records: DnsRecords,
        user_agent: str,
        stopping: threading.Event,
        now: Callable[[], float],
    ) -> None:
        self._authority = authority
        self._host = urlsplit(authority.directory).netloc
        self._accounts = Accounts(store, ledgers)
        self._challenges = challenges
        self._records = records
        self._standing = Standing(authority, self._accounts, records, now)
        self._user_agent = user_agent
        self._stopping = stopping
        self._now = now

    def issue(self, order: Order) -> Issued:
        negotiation.refuse_impossible(order, self._records.possible)
        try:
            return self._issue(order)
        except Problem as problem:
            if problem.typ != answers.NO_ACCOUNT:
                raise
            log.warning("%s does not know our account any more; making another", self._host)
            self._accounts.forget(self._authority)
            return self._issue(order)

    def suggestion(self, chain_pem: bytes) -> Suggestion | None:
        """When the CA would renew this certificate; None where it does not say."""
        with self._network() as network:
            url = ari.offered(self._directory(network))
            return ari.ask(network, url, chain_pem) if url else None

    def revoke(self, chain_pem: bytes, key_pem: bytes, reason: int) -> None:
        """Signed by the account, and where the CA does not take that (another account ordered the
        certificate), by the certificate's own key (RFC 8555 §7.6)."""
        request = messages.Revocation(
            certificate=x509.load_pem_x509_certificate(chain_pem), reason=reason
        )
        with self._network() as network:
            directory = self._directory(network)
            try:
                self._accounts.customer(self._authority, directory, network)
                network.send(directory["revokeCert"], request)
            except Problem as problem:
                if problem.typ == answers.ALREADY_REVOKED:
                    return
                if problem.typ not in answers.NOT_OURS:
                    raise
                network.speak_with(keys.from_pem(key_pem))
                network.send(directory["revokeCert"], request)

    def roll_account_key(self) -> None:
        with self._network() as network:
            directory = self._directory(network)
            self._accounts.roll_key(self._authority, directory, network)

    def standing_records(self, names: tuple[str, ...]) -> tuple[dns_persist.Wanted, ...]:
        with self._network() as network:
            directory = self._directory(network)
            self._accounts.customer(self._authority, directory, network)
            terms = dns_persist.of_directory(network.meta)
            if not terms.issuers:
                raise Problem(
                    "settings",
                    f"{self._host} does not say in its directory under which name it certifies, "
                    "and so offers no dns-persist-01",
                )
            return self._standing.wanted(network, dns_persist.subjects(names), terms)

    # One order

    def _issue(self, order: Order) -> Issued:
        name = order.names[0]
        with self._network() as network:
            directory = self._directory(network)
            clock_skew.demand_agreement(self._now(), network.date())
            profile = negotiation.profile(self._authority.profile, order.names, directory)
            customer = self._accounts.customer(self._authority, directory, network)
            self._demand_records(network, order)
            url, placed = self._place(customer, network, order, profile)
            log.debug("%s: order placed with %s", name, self._host)
            kind = self._satisfy(network, order, placed)
            key = keys.generate(order.key_type)
            chain = self._finish(network, url, order, keys.signing_request(key, order.names))
            pair = self._preferred(network, name, Pair(chain.content, keys.to_pem(key)), chain)
            return Issued(pair, kind, _account(network))

    def _network(self) -> Network:
        return Network(self._user_agent, trust(self._authority.ca_pem), self._now)

    def _directory(self, network: Network) -> messages.Directory:
        with network.translating():
            directory = client.ClientV2.get_directory(self._authority.directory, network)
            network.new_nonce = directory["newNonce"]
            meta = answers.document(network.last.content).get("meta") if network.last else None
            network.meta = meta if isinstance(meta, dict) else {}
            return directory

    def _demand_records(self, network: Network, order: Order) -> None:
        """Those that are to stand already are looked for before an order is spent. What they have
        to say is known now or, from a CA that follows an early draft, with the challenge."""
        terms = dns_persist.of_directory(network.meta)
        standing = [
            name
            for name in order.names
            if not keys.is_address(name)
            and negotiation.first(order.challenges, wildcard=name.startswith("*."))
            == dns_persist.KIND
        ]
        if standing and terms.issuers:
            self._standing.demand(network, dns_persist.subjects(standing), terms)

    def _place(
        self, customer: client.ClientV2, network: Network, order: Order, profile: str | None
    ) -> tuple[str, Placed]:
        """The order's URL, and the order."""
        replaces = None
        if (
            order.replaces is not None
            and ari.offered(customer.directory)
            and order.account == _account(network)
        ):
            replaces = ari.certificate_id(order.replaces)
        request = _NewOrder(
            identifiers=tuple(_identifier(name) for name in order.names),
            profile=profile,
            replaces=replaces,
        )
        url = customer.directory["newOrder"]
        order.toll.admit(exempt=replaces is not None)
        try:
            response = network.send(url, request)
        except Problem as problem:
            # The CA may hold that one for replaced already, or not know it any more; that is its
            # own bookkeeping and no reason to go without a certificate.
            if replaces is None or not network.refused_what_it_replaces(problem):
                raise
            log.debug("%s: ordered without naming the one it replaces", order.names[0])
            order.toll.admit(exempt=False)
            response = network.send(url, request.update(replaces=None))
        location = response.headers.get("Location")
        if location is None:
            raise Problem("nonsense", "the CA's order has no URL")
        return location, answers.order(response.content)

    def _satisfy(self, network: Network, order: Order, placed: Placed) -> str | None:
        """Have every authorization valid; the kind of challenge that did it."""
        terms = dns_persist.of_directory(network.meta)
        pending: dict[str, tuple[Authorization, Offered]] = {}
        for url in placed.authorizations:
            authorization = self._authorization(network, url)
            if authorization.status == "valid":
                continue
            if authorization.status != "pending":
                raise negotiation.not_content(authorization, None)
            pending[url] = authorization, negotiation.choose(authorization, order.challenges, terms)
        if not pending:
            return None
        kind = next(iter(pending.values()))[1].kind
        shown: list[Challenge] = []
        proofs: list[Proof] = []
        for authorization, offered in pending.values():
            if offered.kind == "dns-01":
                value = digest(_key_authorization(network, offered))
                proofs.append(Proof(offered.token, authorization.name, value))
            elif offered.kind == dns_persist.KIND:
                said = dns_persist.of_challenge(offered.whole, terms)
                subject = Subject(authorization.name, authorization.wildcard)
                self._standing.demand(network, (subject,), said or terms)
            else:
                shown.append(self._challenge(network, authorization.name, offered))
        with (
            self._records.presented(order.names[0], proofs),
            self._challenges.presented(order.names[0], shown),
        ):
            for _authorization, offered in pending.values():
                network.send(offered.url, _Ready())
            log.debug("%s: %s is validating", order.names[0], self._host)
            for url, (_authorization, offered) in pending.items():
                try:
                    self._await_valid(network, url, offered)
                except Problem as problem:
                    if problem.kind == "validation":
                        problem.names = self._not_valid(network, pending)
                    raise
        return kind

    def _not_valid(
        self, network: Network, pending: dict[str, tuple[Authorization, Offered]]
    ) -> tuple[str, ...]:
        """One name has failed; the CA has looked at the others as well, and counts each."""
        names = []
        for url, (authorization, _offered) in pending.items():
            try:
                status = answers.authorization(network.fetch(url).content).status
            except Problem:
                status = "unknown"
            if status != "valid":
                names.append(authorization.name)
        return tuple(names)

    def _authorization(self, network: Network, url: str) -> Authorization:
        def look() -> Authorization:
            return answers.authorization(network.fetch(url).content)

        return self._poll(network, look, VALIDATED_WITHIN, "an authorization cannot be fetched")

    def _challenge(self, network: Network, name: str, offered: Offered) -> Challenge:
        authorization = _key_authorization(network, offered)
        if offered.kind == "http-01":
            return Challenge("http-01", name, offered.token, authorization)
        pair = tls_alpn.certificate(name, authorization, self._now())
        return Challenge(
            "tls-alpn-01", name, offered.token, authorization, pair.chain_pem, pair.key_pem
        )

    def _await_valid(self, network: Network, url: str, offered: Offered) -> None:
        """A CA that was not content but leaves the authorization pending waits to be told to look
        again (RFC 8555 §8.2; smallstep's does): for a while, it is."""
        told = 0

        def look() -> bool | None:
            nonlocal told
            authorization = answers.authorization(network.fetch(url).content)
            if authorization.status == "valid":
                return True
            if authorization.status not in ("pending", "processing"):
                raise negotiation.not_content(authorization, offered.kind)
            if any(one.error for one in authorization.challenges if one.url == offered.url):
                if told == TOLD_AGAIN:
                    raise negotiation.not_content(authorization, offered.kind)
                told += 1
                network.send(offered.url, _Ready())
            return None

        self._poll(network, look, VALIDATED_WITHIN, "the CA does not finish validating")

    def _finish(self, network: Network, url: str, order: Order, csr_pem: bytes) -> Response:
        """Hand in the CSR as often as the order is ready for it, until there is a certificate."""
        request = messages.CertificateRequest(csr=x509.load_pem_x509_csr(csr_pem))

        def look() -> str | None:
            placed = answers.order(network.fetch(url).content)
            if placed.status == "ready":
                log.debug("%s: %s has validated; sending the request", order.names[0], self._host)
                order.toll.handed_in()
                placed = answers.order(network.send(placed.finalize, request).content)
            if placed.status == "invalid":
                why = f"the CA gave the order up: {placed.error or 'no reason'}"
                raise Problem("refused", why, said=placed.said)
            return placed.certificate if placed.status == "valid" else None

        certificate = self._poll(network, look, ISSUED_WITHIN, "the CA does not finish the order")

        def fetch() -> Response:
            return network.fetch(certificate)

        return self._poll(network, fetch, ISSUED_WITHIN, "the certificate cannot be fetched")

    def _preferred(self, network: Network, name: str, pair: Pair, answer: Response) -> Pair:
        """With the chain that leads to the configured root, if the CA has one."""
        preferred = self._authority.preferred_chain
        if preferred is None:
            return pair

        def fetching(url: str) -> Callable[[], bytes]:
            return lambda: network.fetch(url).content

        others = map(fetching, alternates(answer))
        chosen, roots = choose(preferred, pair, others)
        if roots:
            log.warning(
                "%s: no chain leads to %s; the CA's own choice is used, of: %s",
                name, preferred, ", ".join(roots),
            )  # fmt: skip
        return chosen

    def _poll(
        self, network: Network, look: Callable[[], T | None], within: float, otherwise: str
    ) -> T:
        """What ``look`` gives once it gives something."""
        deadline = time.monotonic() + within
        polls = lost = 0
        while True:
            failure: Problem | None = None
            try:
                found = look()
                if found is not None:
                    return found
                lost = 0
            except Problem as problem:
                if problem.kind not in ("unreachable", "unavailable") and (
                    problem.typ != answers.NOT_READY
                ):
                    raise
                failure = problem
                lost += 1
            pause = POLLS[min(polls, len(POLLS) - 1)]
            polls += 1
            until = network.retry_after()
            if until is not None:
                pause = max(until - self._now(), POLLS[0])
            if lost > LOST_POLLS or pause > LONGEST_POLL or time.monotonic() + pause > deadline:
                raise failure or Problem("stuck", otherwise, not_before=until)
            if self._stopping.wait(pause):
                raise Problem("stopped", "the program is being stopped")


def _account(network: Network) -> str | None:
    return network.account.uri if network.account else None


def _identifier(name: str) -> messages.Identifier:
    typ = messages.IDENTIFIER_IP if keys.is_address(name) else messages.IDENTIFIER_FQDN
    return messages.Identifier(typ=typ, value=name)


def _key_authorization(network: Network, offered: Offered) -> str:
    """RFC 8555 §8.1."""
    return f"{offered.token}.{thumbprint(network.account_key)}"
