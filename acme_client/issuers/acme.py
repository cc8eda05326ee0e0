"""Issues certificates through ACME (RFC 8555): `interface.Issuer` for one CA.

What is done with a CA is here, each verb with a connection of its own: an order (`order_flow`),
renewal information, revocation, a new account key. Everything that speaks to a CA goes through
`transport`, and so every failure is an `IssuanceError` with the CA's own words.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from urllib.parse import urlsplit

from acme import messages as library
from cryptography import x509
from requests import Response

from ..certificates import clock_skew
from ..certificates.renewal import Suggestion
from ..certificates.unfinished_order import UnfinishedOrder
from ..challenges import dns_persist
from ..challenges.dns01_solver import DnsRecords
from ..challenges.worker_solver import Challenges
from ..errors import IssuanceError
from ..link import Authority
from ..names import is_address
from ..rate_limits.ledger import Ledger
from ..storage.store import Store
from ..text import timestamp
from ..x509 import keys, pem
from ..x509.verify import CertificateAndKey
from . import ari, messages, negotiation
from .accounts import Accounts, Fate
from .chains import choose
from .interface import Issued, Order
from .messages import Directory, OrderObject
from .order_flow import TAKEN_UP, OrderFlow
from .persist_records import PersistRecords
from .polling import Poller
from .transport import Transport, alternates, trust

log = logging.getLogger("treehouse.certifier")


class AcmeIssuer:
    """Issues certificates at one CA. ``stopping`` ends every wait; ``now`` gives Unix seconds."""

    def __init__(
        self,
        authority: Authority,
        store: Store,
        ledger: Ledger,
        challenges: Challenges,
        records: DnsRecords,
        user_agent: str,
        stopping: threading.Event,
        now: Callable[[], float],
    ) -> None:
        self._authority = authority
        self._host = urlsplit(authority.directory).netloc
        self._accounts = Accounts(store, ledger)
        self._challenges = challenges
        self._records = records
        self._persist_records = PersistRecords(authority, self._accounts, records, now)
        self._user_agent = user_agent
        self._stopping = stopping
        self._now = now

    def issue(self, order: Order) -> Issued:
        negotiation.refuse_impossible(order, self._records.possible)
        try:
            return self._issue(order)
        except IssuanceError as problem:
            lost = self._lost_account(problem)
            if lost is None:
                raise
            return replace(self._issue(order), remark=lost)

    def suggestion(self, chain_pem: bytes) -> Suggestion | None:
        """Return when the CA would renew this certificate; None where it does not say."""
        with self._transport() as transport:
            url = transport.directory(self._authority.directory).renewal_info
            return ari.ask(transport, url, chain_pem) if url else None

    def revoke(self, chain_pem: bytes, key_pem: bytes, reason: int) -> None:
        """Revoke a certificate (RFC 8555 §7.6). The account signs the request, and where the CA
        does not take that (another account ordered the certificate), the certificate's own key."""
        leaf = x509.load_der_x509_certificate(pem.certificates(chain_pem)[0])
        request = library.Revocation(certificate=leaf, reason=reason)
        with self._transport() as transport:
            directory = transport.directory(self._authority.directory)
            url = directory.revoke_certificate
            if url is None:
                raise IssuanceError(
                    "settings", f"{self._host} revokes no certificates through ACME"
                )
            try:
                self._accounts.use(self._authority, directory, transport)
                transport.send(url, request)
            except IssuanceError as problem:
                if problem.typ == messages.ALREADY_REVOKED:
                    return
                if problem.typ not in messages.NOT_OURS:
                    raise
                transport.sign_with(keys.from_pem(key_pem))
                transport.send(url, request)

    def roll_account_key(self) -> None:
        with self._transport() as transport:
            directory = transport.directory(self._authority.directory)
            self._accounts.roll_key(self._authority, directory, transport)

    def standing_records(self, names: tuple[str, ...]) -> tuple[dns_persist.PersistRecord, ...]:
        with self._transport() as transport:
            directory = transport.directory(self._authority.directory)
            self._accounts.use(self._authority, directory, transport)
            terms = dns_persist.of_directory(directory.meta)
            if not terms.issuers:
                raise IssuanceError(
                    "settings",
                    f"{self._host} does not say in its directory under which name it certifies, "
                    "and so offers no dns-persist-01",
                )
            return self._persist_records.wanted(transport, dns_persist.subjects(names), terms)

    # One order

    def _issue(self, order: Order) -> Issued:
        with self._transport() as transport:
            directory = transport.directory(self._authority.directory)
            clock_skew.demand_agreement(self._now(), transport.date())
            profile = negotiation.profile(self._authority.profile, order.names, directory)
            self._accounts.use(self._authority, directory, transport)
            self._demand_records(transport, directory, order)
            flow = OrderFlow(
                order,
                self._host,
                transport,
                directory,
                Poller(transport, self._stopping, self._now),
                self._challenges,
                self._records,
                self._persist_records,
                self._now,
            )
            try:
                issued = self._take_up(order, flow, transport, profile)
                return issued or self._ordered(order, flow, transport, profile)
            except IssuanceError as problem:
                problem.account = transport.account_url
                raise

    def _ordered(
        self, order: Order, flow: OrderFlow, transport: Transport, profile: str | None
    ) -> Issued:
        placed = flow.place(profile)
        key = keys.generate(order.key_type)
        order.note.write(
            UnfinishedOrder(
                url=flow.url,
                directory=self._authority.directory,
                account=transport.account_url,
                names=order.names,
                key_type=order.key_type,
                profile=profile,
                replaces=flow.replaces,
                placed_at=self._now(),
                key_pem=keys.to_pem(key),
            )
        )
        return self._finished(order, flow, transport, placed, key)

    def _finished(
        self,
        order: Order,
        flow: OrderFlow,
        transport: Transport,
        placed: OrderObject,
        key: keys.PrivateKey,
    ) -> Issued:
        kind = flow.satisfy(placed)
        chain = flow.finish(keys.signing_request(key, order.names))
        pair = CertificateAndKey(chain.content, keys.to_pem(key))
        pair = self._preferred(transport, order.names[0], pair, chain)
        return Issued(pair, kind, transport.account_url)

    def _take_up(
        self, order: Order, flow: OrderFlow, transport: Transport, profile: str | None
    ) -> Issued | None:
        """Go on with the order of an attempt that was cut off; None where it leads to nothing, and
        another one is to be placed. Raises `IssuanceError` where that is not known, or the order
        fails now."""
        found = order.note.read()
        if found is None:
            return None
        try:
            key = keys.from_pem(found.key_pem)
        except ValueError:
            order.note.refuse("its key cannot be read")
            return None
        if (found.account, found.profile) != (transport.account_url, profile):
            order.note.refuse("it was placed with another account or profile")
            return None
        try:
            placed = flow.resume(found.url)
        except IssuanceError as problem:
            # Without an account there is another one first, and then this order is not its.
            if problem.kind not in ("refused", "nonsense") or problem.typ == messages.NO_ACCOUNT:
                raise
            order.note.refuse(problem.text)
            return None
        if placed.status not in TAKEN_UP:
            order.note.refuse(f"the CA has given it up: {placed.error or placed.status}")
            order.reservation.come_to_nothing(found)
            return None
        when = timestamp(found.placed_at)
        log.info(
            "%s: the order of %s is taken up again; %s says: %s",
            order.names[0], when, self._host, placed.status,
        )  # fmt: skip
        if placed.status == "valid":
            issued = self._finished(order, flow, transport, placed, key)
            why = order.note.objection(issued.pair)
            if why:
                order.note.refuse(why)
                return None
            order.reservation.take_up(found, is_issuing=True)
        else:
            if placed.status != "processing" and found.replaces not in (None, flow.replaceable()):
                order.note.refuse("it replaces a certificate that is not in use any more")
                order.reservation.come_to_nothing(found)
                return None
            order.reservation.take_up(found, is_issuing=placed.status == "processing")
            issued = self._finished(order, flow, transport, placed, key)
        return replace(issued, remark=f"the order of {when} was taken up again")

    def _transport(self) -> Transport:
        return Transport(self._user_agent, trust(self._authority.ca_pem), self._now)

    def _lost_account(self, problem: IssuanceError) -> str | None:
        """Return what has become of our account, where that is why the CA refused; else None.
        An account that is gone or closed is put aside; another is made by whoever asks next."""
        if problem.kind != "refused" or problem.typ not in messages.NOT_OURS:
            return None
        if problem.account is None:  # it was not an account that was refused
            return None
        gone = problem.typ == messages.NO_ACCOUNT
        try:
            with self._transport() as transport:
                fate = self._accounts.refused(self._authority, problem.account, gone, transport)
        except IssuanceError as error:
            log.warning("what became of the account is not known: %s", error.text)
            return None
        if fate is Fate.STANDS:
            return None
        if fate is Fate.REPLACED:
            return f"{self._host} has refused our account; there is another by now"
        if fate is Fate.GONE:
            lost = f"{self._host} does not know our account any more; another is made"
        else:
            lost = f"{self._host} has closed our account ({problem.text}); another is made"
        log.warning("%s", lost)
        return lost

    def _demand_records(self, transport: Transport, directory: Directory, order: Order) -> None:
        """Look for the records of dns-persist-01 before an order is spent; raises `IssuanceError`
        if one is missing. Their contents are known now or, from a CA that follows an early draft,
        with the challenge."""
        terms = dns_persist.of_directory(directory.meta)
        standing = [
            name
            for name in order.names
            if not is_address(name)
            and negotiation.first(order.challenges, wildcard=name.startswith("*."))
            == dns_persist.KIND
        ]
        if standing and terms.issuers:
            self._persist_records.demand(transport, dns_persist.subjects(standing), terms)

    def _preferred(
        self, transport: Transport, name: str, pair: CertificateAndKey, answer: Response
    ) -> CertificateAndKey:
        """Return the pair with the chain that leads to the configured root, if the CA has one."""
        preferred = self._authority.preferred_chain
        if preferred is None:
            return pair

        def fetching(url: str) -> Callable[[], bytes]:
            return lambda: transport.fetch(url).content

        others = map(fetching, alternates(answer))
        chosen, roots = choose(preferred, pair, others)
        if roots:
            log.warning(
                "%s: no chain leads to %s; the CA's own choice is used, of: %s",
                name, preferred, ", ".join(roots),
            )  # fmt: skip
        return chosen
