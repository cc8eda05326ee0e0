"""Asks the DNS: resolvers for where a record belongs, authoritative servers for what they show.

A CA asks the authoritative servers afresh, any one of them (RFC 8555 §8.4), and so what resolvers
have cached says nothing about what it will see. Resolvers only tell where an alias leads (CNAME:
people delegate `_acme-challenge` to a zone that is easier to change), which zone a name is in, and
who serves that zone.

Loaded only where records are set or looked at: dnspython takes its time and memory. Everything that
dnspython would import late is imported here.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterator

import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.nameserver
import dns.query
import dns.rcode
import dns.rdata
import dns.rdatatype
import dns.resolver

from ..errors import IssuanceError
from ..late_dataclass import dataclass
from .dns_names import enclosing

dns.rdata.load_all_types()  # type: ignore[no-untyped-call]

# Seconds for one question to one server; an answer comes within a tenth of them, or was lost.
ASKED_WITHIN = 3.0
# Seconds for all tries of a resolver together.
RESOLVED_WITHIN = 12.0
# Aliases that are followed, as most resolvers do; a longer chain is a loop or a slip.
_MOST_ALIASES = 8
# Bytes of an answer in one datagram (the DNS flag day of 2020); longer answers come over TCP.
_PAYLOAD = 1232


@dataclass(frozen=True, slots=True)
class NameServer:
    name: str  # as it is called in the zone, or the address
    addresses: tuple[tuple[str, int], ...]


class NoAnswer(Exception):
    """A server did not answer, or not as one that serves the zone; the text says how."""


class Servers:
    """``resolvers``: addresses and ports; none: those of the system."""

    def __init__(self, resolvers: tuple[tuple[str, int], ...]) -> None:
        try:
            self._resolver = dns.resolver.Resolver(configure=not resolvers)
        except (dns.exception.DNSException, OSError) as error:
            raise IssuanceError(
                "settings",
                f"there is no resolver to ask ({error}); name one in acme.resolvers",
            ) from None
        if resolvers:
            self._resolver.nameservers = [
                dns.nameserver.Do53Nameserver(address, port) for address, port in resolvers
            ]
        self._resolver.timeout = ASKED_WITHIN
        self._resolver.lifetime = RESOLVED_WITHIN

    def target(self, name: str) -> str:
        """Follow aliases from ``name``; returns ``name`` itself if it is no alias."""
        at = name
        for _ in range(_MOST_ALIASES):
            answer = self._ask(at, "CNAME")
            if answer is None or answer.rrset is None:
                return at
            at = _text(answer.rrset[0].target)
        raise IssuanceError(
            "zone", f"{name} is an alias of an alias, more than {_MOST_ALIASES} deep"
        )

    def zone(self, name: str) -> str:
        """Return the zone that the name is in, or would be."""
        for candidate in enclosing(name):
            answer = self._ask(candidate, "SOA")
            # An alias would bring another name's SOA.
            found = answer.rrset if answer is not None else None
            if found is not None and _text(found.name) == candidate:
                return candidate
        raise IssuanceError(
            "zone",
            f"the resolver knows no zone that {name} is in; register it, or name the zone and a "
            "resolver that knows it (acme.dns.zone, acme.resolvers)",
        )

    def serving(self, zone: str) -> tuple[NameServer, ...]:
        """List the zone's name servers, with all their addresses that could be found."""
        answer = self._ask(zone, "NS")
        if answer is None or answer.rrset is None:
            raise IssuanceError("zone", f"the zone {zone} has no name servers, says the resolver")
        names = sorted(_text(one.target) for one in answer.rrset)
        return tuple(NameServer(name, tuple(self._addresses(name))) for name in names)

    def seen(self, name: str) -> frozenset[str]:
        """The TXT records at ``name``, or where it leads, that a CA sees whomever it asks: those
        that every name server of the zone shows which answers at all."""
        at = self.target(name)
        zone = self.zone(at)
        shown: list[frozenset[bytes]] = []
        said = "none has an address"
        for server in self.serving(zone):
            for address, port in server.addresses:
                try:
                    shown.append(texts(address, port, at))
                except NoAnswer as answer:
                    said = f"{server.name} ({address}): {answer}"
        if not shown:
            raise IssuanceError("zone", f"no name server of {zone} answers: {said}")
        return frozenset(one.decode("utf-8", "replace") for one in frozenset.intersection(*shown))

    def _addresses(self, name: str) -> Iterator[tuple[str, int]]:
        for kind in ("A", "AAAA"):
            try:
                answer = self._ask(name, kind)
            except IssuanceError:
                continue  # of a server in another zone that is broken
            if answer is not None and answer.rrset is not None:
                for one in answer.rrset:
                    yield one.address, 53

    def _ask(self, name: str, kind: str) -> dns.resolver.Answer | None:
        """Ask a resolver; returns None where there is no such name."""
        try:
            return self._resolver.resolve(
                dns.name.from_text(name), kind, raise_on_no_answer=False, search=False
            )
        except dns.resolver.NXDOMAIN:
            return None
        except (dns.exception.DNSException, OSError) as error:
            said = f"{kind} of {name} cannot be looked up: {error}"
            raise IssuanceError("zone", f"{said} (see acme.resolvers)") from None


def texts(address: str, port: int, name: str) -> frozenset[bytes]:
    """Return the TXT records that this server shows at exactly this name. Raises `NoAnswer`."""
    query = dns.message.make_query(name + ".", "TXT", use_edns=0, payload=_PAYLOAD)
    query.flags &= ~dns.flags.RD
    try:
        response, _over_tcp = dns.query.udp_with_fallback(query, address, ASKED_WITHIN, port)
    except dns.exception.Timeout:
        raise NoAnswer("no answer") from None
    except (dns.exception.DNSException, OSError, EOFError) as error:
        raise NoAnswer(_said(error)) from None
    code = response.rcode()
    if code not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
        raise NoAnswer(f"answers {dns.rcode.to_text(code)}")
    if not response.flags & dns.flags.AA:
        raise NoAnswer("does not serve the zone")
    found = response.get_rrset(
        response.answer, query.question[0].name, query.question[0].rdclass, dns.rdatatype.TXT
    )
    return frozenset(b"".join(one.strings) for one in found or ())


def resolved(host: str, port: int) -> list[str]:
    """Return the addresses of a configured host."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        pass
    else:
        return [host]
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise IssuanceError(
            "settings", f"the name server {host} has no address: {_said(error)} (acme.dns.server)"
        ) from None
    return list(dict.fromkeys(str(one[4][0]) for one in found))


def _said(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error) or type(error).__name__


def _text(name: dns.name.Name) -> str:
    return name.to_text(omit_final_dot=True).lower()
