"""Asking the DNS about a name: its addresses as a resolver and as its zone's own servers give them,
and the CAA records that decide."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdatatype
import dns.resolver

from acme_client.challenges.dns_names import enclosing
from acme_client.challenges.dns_resolver import NameServer, Servers
from acme_client.errors import IssuanceError

from ..rules.dns import CaaFacts, CaaRecord, NameFacts

Resolver = tuple[str, int]

_ASKED_WITHIN = 2.0
_RESOLVED_WITHIN = 4.0
# Of the zone's servers; the others serve from the same place.
_SERVERS_MOST = 8


class Names:
    """``resolver`` None: the machine's own."""

    def __init__(self, resolver: Resolver | None) -> None:
        self._given = resolver
        self._broken: str | None = None
        try:
            self._resolver = dns.resolver.Resolver(configure=resolver is None)
        except (dns.exception.DNSException, OSError) as error:
            self._resolver = dns.resolver.Resolver(configure=False)
            self._broken = _said(error)
        if resolver is not None:
            self._resolver.nameservers, self._resolver.port = [resolver[0]], resolver[1]
        self._resolver.timeout, self._resolver.lifetime = _ASKED_WITHIN, _RESOLVED_WITHIN

    def name(self, name: str, *, authoritative: bool) -> NameFacts:
        if self._broken is not None:
            return NameFacts(name, error=self._broken)
        found: list[str] = []
        alias = None
        for kind in ("A", "AAAA"):
            try:
                answer = self._resolver.resolve(
                    dns.name.from_text(name), kind, raise_on_no_answer=False, search=False
                )
            except dns.resolver.NXDOMAIN:
                return NameFacts(name, exists=False)
            except (dns.exception.DNSException, OSError) as error:
                if isinstance(error, dns.resolver.LifetimeTimeout):
                    self._broken = _said(error)  # nobody waits for it a second time
                return NameFacts(name, error=_said(error))
            target = _text(answer.canonical_name)
            alias = target if target != name else alias
            found += [str(ip_address(one.address)) for one in answer.rrset or ()]
        elsewhere, servers = self._authoritative(alias or name, found) if authoritative else ((), 0)
        return NameFacts(
            name, tuple(found), alias=alias, elsewhere=tuple(elsewhere), servers=servers
        )

    def _authoritative(
        self, name: str, known: list[str]
    ) -> tuple[list[tuple[str, tuple[str, ...]]], int]:
        """Those of the zone's servers that say otherwise, and how many have answered."""
        try:
            asking = Servers((self._given,) if self._given else ())
            listed = asking.serving(asking.zone(name))[:_SERVERS_MOST]
        except IssuanceError:
            return [], 0
        with ThreadPoolExecutor(_SERVERS_MOST) as pool:
            answers = list(pool.map(lambda server: _ask(server, name), listed))
        said = [
            (one.name, answer)
            for one, answer in zip(listed, answers, strict=True)
            if answer is not None
        ]
        return [(who, answer) for who, answer in said if set(answer) != set(known)], len(said)

    def caa(self, name: str) -> CaaFacts:
        """RFC 8659 §3: up the tree, until there is a record."""
        if self._broken is not None:
            return CaaFacts(name, unasked=True)
        for candidate in enclosing(name.removeprefix("*.")):
            try:
                answer = self._resolver.resolve(
                    dns.name.from_text(candidate), "CAA", raise_on_no_answer=False, search=False
                )
            except dns.resolver.NXDOMAIN:
                continue
            except (dns.exception.DNSException, OSError) as error:
                return CaaFacts(name, error=f"{candidate}: {_said(error)}")
            if answer.rrset:
                records = tuple(
                    CaaRecord(
                        one.flags,
                        one.tag.decode("ascii", "replace"),
                        one.value.decode("utf-8", "replace"),
                    )
                    for one in answer.rrset
                )
                return CaaFacts(name, candidate, records)
        return CaaFacts(name)


def _ask(server: NameServer, name: str) -> tuple[str, ...] | None:
    """What one of the zone's servers itself says; None where it gives no answer of use."""
    for address, port in server.addresses:
        found: list[str] = []
        try:
            for kind in ("A", "AAAA"):
                query = dns.message.make_query(name + ".", kind)
                query.flags &= ~dns.flags.RD
                response, _tcp = dns.query.udp_with_fallback(query, address, _ASKED_WITHIN, port)
                if not response.flags & dns.flags.AA or response.rcode() not in (
                    dns.rcode.NOERROR, dns.rcode.NXDOMAIN,
                ):  # fmt: skip
                    break
                found += [
                    str(ip_address(one.address))
                    for rrset in response.answer
                    if rrset.rdtype == dns.rdatatype.from_text(kind)
                    for one in rrset
                ]
            else:
                return tuple(found)
        except (dns.exception.DNSException, OSError, EOFError):
            continue
    return None


def _said(error: Exception) -> str:
    if isinstance(error, dns.resolver.NoNameservers):
        return "the name servers answer with an error (SERVFAIL; DNSSEC is a usual cause)"
    if isinstance(error, dns.exception.Timeout):
        return "the name servers do not answer in time"
    if isinstance(error, dns.resolver.NoResolverConfiguration):
        return "no resolver is configured on this machine"
    return str(error) or type(error).__name__


def _text(name: dns.name.Name) -> str:
    return name.to_text(omit_final_dot=True).lower()
