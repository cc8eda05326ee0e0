"""Sets and removes one record by DNS update (RFC 2136), signed with TSIG (RFC 8945), over TCP.

Exactly one record is added or removed, by its value: others at the same name belong to another
certificate that is being validated right now, or to somebody else. Both are idempotent, so that an
update whose answer was lost can be sent again.

Every refusal names the next step, because only the operator of the zone can take it.
"""

from __future__ import annotations

import socket
import time

import dns.exception
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rdtypes.ANY.TXT
import dns.tsig
import dns.update

from ..errors import IssuanceError, NotSet
from ..link import DnsUpdates, TsigKey
from .dns_names import strings as cut
from .dns_names import tsig_secret
from .dns_provider import ProviderContext, TxtRecord
from .dns_resolver import NameServer, resolved

# Seconds to connect, and for the answer: a primary writes its journal to disk before it answers.
_ANSWERED_WITHIN = 15.0


class Rfc2136Provider:
    """`dns_provider.DnsProvider` over DNS updates."""

    needs_zone = True

    def __init__(self, server: DnsUpdates) -> None:
        self._server = server

    def present(self, record: TxtRecord) -> None:
        _send(self._server, record.zone, record.name, record.value, adding=True)

    def cleanup(self, record: TxtRecord) -> None:
        _send(self._server, record.zone, record.name, record.value, adding=False)

    def name_servers(self) -> list[NameServer]:
        """The server that took the update: a hidden primary stands in no NS record."""
        host, port = self._server.host, self._server.port
        return [NameServer(host, tuple((address, port) for address in resolved(host, port)))]


def provider(settings: DnsUpdates, _context: ProviderContext) -> Rfc2136Provider:
    return Rfc2136Provider(settings)


def _send(server: DnsUpdates, zone: str, record: str, value: str, *, adding: bool) -> None:
    at = f"{server.host} port {server.port}"
    lost: IssuanceError | None = None
    for address in resolved(server.host, server.port):
        update = dns.update.UpdateMessage(zone + ".")
        if server.key is not None:
            update.use_tsig(_signer(server.key))
        name = dns.name.from_text(record)
        text = dns.rdtypes.ANY.TXT.TXT(dns.rdataclass.IN, dns.rdatatype.TXT, cut(value))
        if adding:
            update.add(name, server.ttl, text)
        else:
            update.delete(name, text)
        wire = update.to_wire()
        try:
            answer = _exchange(wire, address, server.port)
        except OSError as error:
            said = error.strerror or str(error) or "cut off"
            lost = IssuanceError(
                "zone", f"the name server {at} cannot be reached: {said.lower()}{_REACH}"
            )
            continue
        _judge(answer, update, server, zone, record, at)
        return
    raise lost or IssuanceError("zone", f"the name server {at} has no address")


_REACH = (
    " (over TCP: is it running, does a firewall let this machine in, is acme.dns.server the "
    "primary of the zone?)"
)


def _exchange(wire: bytes, address: str, port: int) -> bytes:
    """Send a message and return the answer (RFC 1035 §4.2.2). dnspython's own function returns no
    answer where a refusal is not signed, as most are not."""
    deadline = time.monotonic() + _ANSWERED_WITHIN
    with socket.create_connection((address, port), _ANSWERED_WITHIN) as connection:
        connection.sendall(len(wire).to_bytes(2, "big") + wire)
        answer = bytearray()
        while len(answer) < 2 or len(answer) < 2 + int.from_bytes(answer[:2], "big"):
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError("no answer")
            connection.settimeout(left)
            data = connection.recv(65536)
            if not data:
                raise ConnectionError("hung up without an answer")
            answer += data
    return bytes(answer[2:])


def _judge(
    answer: bytes,
    update: dns.update.UpdateMessage,
    server: DnsUpdates,
    zone: str,
    record: str,
    at: str,
) -> None:
    try:
        response = dns.message.from_wire(answer, keyring=update.keyring, request_mac=update.mac)
        signed = response.had_tsig or server.key is None
        code = response.rcode()
    except dns.tsig.PeerError as error:
        raise NotSet("zone", _distrust(at, server.key, error)) from None
    except dns.tsig.BadTime:
        raise IssuanceError("zone", f"the name server {at} {_CLOCK}") from None
    except dns.exception.DNSException:
        if len(answer) < 4:
            raise IssuanceError("zone", f"the name server {at} gives no DNS answer") from None
        signed, code = False, dns.rcode.Rcode(answer[3] & 0x0F)
    if code == dns.rcode.NOERROR and not signed:
        raise IssuanceError(
            "zone",
            f"the answer of the name server {at} is not signed with the key {_name(server.key)}; "
            "is it another server than the one that is meant?",
        )
    if code != dns.rcode.NOERROR:
        uncertain = code == dns.rcode.SERVFAIL
        raise (IssuanceError if uncertain else NotSet)(
            "zone", _refusal(at, zone, record, server.key, code, signed=signed)
        )


def _signer(key: TsigKey) -> dns.tsig.Key:
    try:
        secret = tsig_secret(key.secret, key.name)
    except IssuanceError as problem:
        raise NotSet("settings", f"{key.file}: {problem.text}") from None
    return dns.tsig.Key(dns.name.from_text(key.name), secret, key.algorithm + ".")


_CLOCK = "has another time than this machine; set both clocks right (NTP)"


def _distrust(at: str, key: TsigKey | None, error: dns.tsig.PeerError) -> str:
    """Explain what the server finds wrong with our signature (RFC 8945 §5.2)."""
    if isinstance(error, dns.tsig.PeerBadTime):
        return f"the name server {at} {_CLOCK}"
    algorithm = key.algorithm if key else ""
    if isinstance(error, dns.tsig.PeerBadKey):
        return (
            f"the name server {at} does not know the key {_name(key)} with {algorithm} (BADKEY); "
            "give it the same name and algorithm on both sides (acme.dns.tsig)"
        )
    if isinstance(error, dns.tsig.PeerBadSignature):
        return (
            f"the name server {at} has another secret for the key {_name(key)} (BADSIG); "
            "copy the secret anew (acme.dns.tsig.secret_file)"
        )
    return f"the name server {at} does not take the signature with {_name(key)}: {error}"


def _refusal(
    at: str, zone: str, record: str, key: TsigKey | None, code: dns.rcode.Rcode, *, signed: bool
) -> str:
    said = f"the name server {at} answers {dns.rcode.to_text(code)} to the update of {record}"
    match code:
        case dns.rcode.REFUSED:
            who = f"the key {_name(key)}" if key else "this machine (or give acme.dns.tsig)"
            return (
                f"{said}: allow {who} to update TXT records in {zone} "
                "(BIND: update-policy or allow-update; Knot: acl with action update)"
            )
        case dns.rcode.NOTAUTH:
            other = "" if key else ", or it takes signed updates only (acme.dns.tsig)"
            if key and not signed:  # Knot 3.4 names no reason where it cannot check a signature
                other = (
                    f", or it does not know the key {_name(key)} with {key.algorithm} (BADKEY; "
                    "acme.dns.tsig)"
                )
            return (
                f"{said}: it is not the primary of the zone {zone}{other} "
                "(acme.dns.server, acme.dns.zone)"
            )
        case dns.rcode.NOTZONE:
            return f"{said}: that name is not in the zone {zone} (acme.dns.zone)"
        case dns.rcode.NOTIMP | dns.rcode.FORMERR:
            return f"{said}: it takes no updates (RFC 2136); use a hook instead"
    return f"{said}; its own log says why"


def _name(key: TsigKey | None) -> str:
    return key.name if key else "(none)"
