"""One order from beginning to end (RFC 8555 §7.1.3 to §7.4.2).

Phases: order placed → challenges presented, then announced → every authorization valid →
challenges retracted → CSR when the order is ready → chain.

The CA is told to validate only when every worker can answer, and a challenge is taken back whatever
happens. Why a CA gave up is often said in one answer only (that of a challenge, of the CSR), and
the next one says no more than that it is over: so the last reason that it gave is kept.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from acme import messages as library
from cryptography import x509
from josepy.json_util import JSONObjectWithFields, field
from requests import Response

from ..challenges import dns_persist, tls_alpn
from ..challenges.dns01_solver import DnsRecords, Proof
from ..challenges.dns_names import digest
from ..challenges.dns_persist import Subject
from ..challenges.worker_solver import Challenges
from ..errors import IssuanceError, ProblemDocument
from ..link import Challenge
from ..names import is_address
from . import ari, messages, negotiation
from .accounts import thumbprint
from .interface import Order
from .messages import Authorization, Directory, OfferedChallenge, OrderObject
from .persist_records import PersistRecords
from .polling import NOT_THERE_YET, Poller
from .transport import Transport

log = logging.getLogger("treehouse.certifier")

# CAs look from several places and try again for a while; after that, they have failed.
VALIDATED_WITHIN = 300.0
# Some CAs hold an order in "processing" for minutes.
ISSUED_WITHIN = 600.0
# How often a CA that leaves it to us is told to look again, within a few seconds.
TOLD_AGAIN = 3
# What is left to prove, by the authorization's URL, with the challenge that is to do it.
Pending = dict[str, tuple[Authorization, OfferedChallenge]]
# States of an order in which nothing is left to prove.
_PROVEN = ("ready", "processing", "valid")
# States of an order of an earlier attempt in which it can lead to a certificate.
TAKEN_UP = ("pending", *_PROVEN)


class _NewOrder(library.NewOrder):
    """An order with the field of RFC 9773 §5, which the library lacks."""

    replaces: str | None = field("replaces", omitempty=True)


class _Ready(JSONObjectWithFields):
    """The empty object that announces a challenge (RFC 8555 §7.5.1)."""

    def __bool__(self) -> bool:
        """Whether to post it: the library posts an empty body for what is falsy, and this object
        has no fields."""
        return True


class OrderFlow:
    """One `Order` under way, for the account that the transport signs for. ``host`` names the CA in
    the log; ``now`` gives Unix seconds."""

    def __init__(
        self,
        order: Order,
        host: str,
        transport: Transport,
        directory: Directory,
        poller: Poller,
        challenges: Challenges,
        records: DnsRecords,
        persist_records: PersistRecords,
        now: Callable[[], float],
    ) -> None:
        self._order = order
        self._name = order.names[0]
        self._host = host
        self._transport = transport
        self._directory = directory
        self._poller = poller
        self._challenges = challenges
        self._records = records
        self._persist_records = persist_records
        self._now = now
        self._terms = dns_persist.of_directory(directory.meta)
        self.url = ""
        """The order's, once it is placed."""
        self.replaces: str | None = None
        """The CertID of the certificate that the CA was told is replaced."""
        self._finalize: str | None = None  # as long as the order has said it once
        # The reasons that the CA gave: the last of all, and of each authorization (by its URL).
        self._last_words: tuple[str, ProblemDocument | None] | None = None
        self._words_on: dict[str, tuple[str, ProblemDocument | None]] = {}

    # The order

    def replaceable(self) -> str | None:
        """Return the CertID of the certificate that an order would replace; None where the CA
        cannot be told of one."""
        order = self._order
        if (
            order.replaces is not None
            and self._directory.renewal_info
            and order.account == self._transport.account_url
        ):
            return ari.certificate_id(order.replaces)
        return None

    def place(self, profile: str | None) -> OrderObject:
        """Order the certificate. Raises `IssuanceError`."""
        order, replaces = self._order, self.replaceable()
        request = _NewOrder(
            identifiers=tuple(_identifier(name) for name in order.names),
            profile=profile,
            replaces=replaces,
        )
        url = self._directory.new_order
        order.reservation.reserve(exempt=replaces is not None)
        try:
            response = self._transport.send(url, request)
        except IssuanceError as problem:
            # The CA may hold that one for replaced already, or not know it any more; that is its
            # own bookkeeping and no reason to go without a certificate.
            if replaces is None or not self._transport.refused_what_it_replaces(problem):
                raise
            log.debug("%s: ordered without naming the one it replaces", self._name)
            order.reservation.reserve(exempt=False)
            replaces = None
            response = self._transport.send(url, request.update(replaces=None))
        placed = self._read(response)
        location = messages.location(response.headers.get("Location"), response.url)
        if location is None:
            raise IssuanceError("nonsense", "the CA's order has no URL")
        self.url, self.replaces = location, replaces
        log.debug("%s: order placed with %s", self._name, self._host)
        return placed

    def resume(self, url: str) -> OrderObject:
        """Go on with an order that was placed before; return it as it is now, which may be given
        up. Raises `IssuanceError`."""
        answer = self._transport.fetch(url)
        placed = messages.order(answer.content, answer.url)
        self.url, self._finalize = url, placed.finalize
        return placed

    def _read(self, response: Response) -> OrderObject:
        """Read the order as it is now. Raises `IssuanceError`, also if the CA has given the order
        up."""
        placed = messages.order(response.content, response.url)
        self._finalize = placed.finalize or self._finalize
        if placed.error:
            self._last_words = placed.error, placed.said
        if placed.status == "invalid":
            words, said = self._last_words or ("no reason", None)
            raise IssuanceError("refused", f"the CA gave the order up: {words}", said=said)
        return placed

    # What has to be proven

    def satisfy(self, placed: OrderObject) -> str | None:
        """Have the CA validate every name; return the kind of challenge that did it, or None where
        nothing was left to prove."""
        pending: Pending = {}
        for url in placed.authorizations if placed.status not in _PROVEN else ():
            authorization = self._authorization(url)
            if authorization.status == "valid":
                continue
            if authorization.status != "pending":
                raise negotiation.not_validated(authorization, None, self._words_on.get(url))
            offered = negotiation.choose(authorization, self._order.challenges, self._terms)
            pending[url] = authorization, offered
        if not pending:
            return None
        kind = next(iter(pending.values()))[1].kind
        shown, proofs = self._answers(pending)
        with (
            self._records.presented(self._order.name, proofs),
            self._challenges.presented(self._name, shown),
        ):
            for url, (_authorization, offered) in pending.items():
                self._announce(url, offered)
            log.debug("%s: %s is validating", self._name, self._host)
            for url, (_authorization, offered) in pending.items():
                try:
                    self._await_valid(url, offered)
                except IssuanceError as problem:
                    if problem.kind == "validation":
                        problem.names = self._not_valid(pending)
                    raise
        return kind

    def _answers(self, pending: Pending) -> tuple[list[Challenge], list[Proof]]:
        """Return the challenges that workers answer, and the records to be set in the DNS. Raises
        `IssuanceError` where a record for dns-persist-01 is missing."""
        shown: list[Challenge] = []
        proofs: list[Proof] = []
        for authorization, offered in pending.values():
            if offered.kind == "dns-01":
                key = self._key_authorization(offered)
                proofs.append(Proof(offered.token, authorization.name, digest(key), key))
            elif offered.kind == dns_persist.KIND:
                wanted = dns_persist.of_challenge(offered.whole, self._terms)
                subject = Subject(authorization.name, authorization.wildcard)
                self._persist_records.demand(self._transport, (subject,), wanted or self._terms)
            else:
                shown.append(self._challenge(authorization.name, offered))
        return shown, proofs

    def _challenge(self, name: str, offered: OfferedChallenge) -> Challenge:
        authorization = self._key_authorization(offered)
        if offered.kind == "http-01":
            return Challenge("http-01", name, offered.token, authorization)
        pair = tls_alpn.certificate(name, authorization, self._now())
        return Challenge(
            "tls-alpn-01", name, offered.token, authorization, pair.chain_pem, pair.key_pem
        )

    def _key_authorization(self, offered: OfferedChallenge) -> str:
        """Return the key authorization of a challenge (RFC 8555 §8.1)."""
        return f"{offered.token}.{thumbprint(self._transport.account_key)}"

    def _authorization(self, url: str) -> Authorization:
        return self._poller.until(
            lambda: self._look_at(url), VALIDATED_WITHIN, "an authorization cannot be fetched"
        )

    def _look_at(self, url: str) -> Authorization:
        answer = self._transport.fetch(url)
        found = messages.authorization(answer.content, answer.url)
        for one in found.challenges:
            if one.error:
                self._last_words = self._words_on[url] = f"{one.kind}: {one.error}", one.said
        return found

    def _announce(self, url: str, offered: OfferedChallenge) -> None:
        """Tell the CA to look. A challenge that it is looking at, or has found to be right, needs
        no such word; and a CA that refuses it may have come to an end meanwhile."""
        if offered.status in ("processing", "valid"):
            return
        try:
            self._transport.send(offered.url, _Ready())
        except IssuanceError as problem:
            if problem.kind != "refused":
                raise
            again = self._look_at(url)
            states = [one.status for one in again.challenges if one.url == offered.url]
            if again.status == "pending" and not set(states) & {"processing", "valid"}:
                raise

    def _await_valid(self, url: str, offered: OfferedChallenge) -> None:
        """Wait until the CA has validated the name. A CA that was not content but leaves the
        authorization pending waits to be told to look again (RFC 8555 §8.2; smallstep's does): for
        a while, it is told."""
        told = 0

        def look() -> bool | None:
            nonlocal told
            authorization = self._look_at(url)
            if authorization.status == "valid":
                return True
            if authorization.status not in ("pending", "processing"):
                raise negotiation.not_validated(
                    authorization, offered.kind, self._words_on.get(url)
                )
            if any(one.error for one in authorization.challenges if one.url == offered.url):
                if told == TOLD_AGAIN:
                    raise negotiation.not_validated(authorization, offered.kind)
                told += 1
                self._announce(url, offered)
            return None

        self._poller.until(look, VALIDATED_WITHIN, "the CA does not finish validating")

    def _not_valid(self, pending: Pending) -> tuple[str, ...]:
        """Return the names that the CA did not validate: it has looked at all of them, and counts
        each."""
        names = []
        for url, (authorization, _offered) in pending.items():
            try:
                status = self._look_at(url).status
            except IssuanceError:
                status = "unknown"
            if status != "valid":
                names.append(authorization.name)
        return tuple(names)

    # The certificate

    def finish(self, csr_pem: bytes) -> Response:
        """Send the CSR as often as the order is ready for it, until there is a certificate; return
        the answer that brings it. Raises `IssuanceError`."""
        request = library.CertificateRequest(csr=x509.load_pem_x509_csr(csr_pem))

        def look() -> str | None:
            placed = self._read(self._transport.fetch(self.url))
            if placed.status == "ready":
                placed = self._hand_in(request) or placed
            return placed.certificate if placed.status == "valid" else None

        certificate = self._poller.until(look, ISSUED_WITHIN, "the CA does not finish the order")

        return self._poller.until(
            lambda: self._transport.fetch(certificate),
            ISSUED_WITHIN,
            "the certificate cannot be fetched",
            NOT_THERE_YET,
        )

    def _hand_in(self, request: library.CertificateRequest) -> OrderObject | None:
        """Send the CSR. Return the order after that; None where the answer does not show it, and
        the next poll will."""
        if self._finalize is None:
            raise IssuanceError(
                "nonsense", "the CA's order is not one: it is ready and has no finalize"
            )
        log.debug("%s: %s has validated; sending the request", self._name, self._host)
        self._order.reservation.finalizing()
        try:
            response = self._transport.send(self._finalize, request)
        except IssuanceError as problem:
            if problem.said is not None:
                self._last_words = problem.text.removeprefix("the CA says: "), problem.said
            raise
        try:
            return self._read(response)
        except IssuanceError as problem:
            if problem.kind != "nonsense":
                raise
            return None


def _identifier(name: str) -> library.Identifier:
    typ = library.IDENTIFIER_IP if is_address(name) else library.IDENTIFIER_FQDN
    return library.Identifier(typ=typ, value=name)
