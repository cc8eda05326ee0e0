"""What went wrong in plain words, and what to do about it: two tables and nothing else.

A CA explains itself to programs by the type of its problem document (RFC 8555 §6.7, and IANA's list
of ACME error types, to which later RFCs add), and to people by its detail, in its own words. The
first table says for each type what it usually means at a server like this one, and the next step.
The second does the same for what this program found out by itself (`errors.KINDS`).

Pure. ``{name}`` in a step is the name that it is about.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .errors import Said


@dataclass(frozen=True, slots=True)
class Advice:
    means: str
    step: str


_NOTHING = "nothing: another attempt is made by itself, and another way is tried"
_REACH = "see what `treehouse-proxy doctor {name}` finds at the name's addresses"

# By type, without the prefix urn:ietf:params:acme:error: that all of them have.
BY_TYPE: dict[str, Advice] = {
    # RFC 8555 §6.7
    "accountDoesNotExist": Advice(
        "the CA does not know the account that this server has with it",
        "nothing: a new account is made by itself",
    ),
    "alreadyRevoked": Advice(
        "the certificate has been revoked already",
        "treehouse-proxy certs renew {name}",
    ),
    "badCSR": Advice(
        "the CA does not take what the certificate was asked for with, often the kind of its key",
        "set acme.key_type to ecdsa-p256 or rsa-2048, then treehouse-proxy reload",
    ),
    "badNonce": Advice(
        "the CA has refused the number that keeps requests from being sent twice, time and again",
        "nothing, unless it lasts: then something between here and the CA keeps old answers",
    ),
    "badPublicKey": Advice(
        "the CA does not take the kind of key",
        "set acme.key_type to ecdsa-p256 or rsa-2048, then treehouse-proxy reload",
    ),
    "badRevocationReason": Advice(
        "the CA does not take this reason for a revocation",
        "treehouse-proxy certs revoke {name} --reason unspecified",
    ),
    "badSignatureAlgorithm": Advice(
        "the CA does not take the way requests to it are signed",
        "use another CA (acme.directory), or ask this one which algorithms it knows",
    ),
    "caa": Advice(
        "a CAA record in DNS forbids this CA to certify the name",
        "add the CA to the name's CAA records, or take them away; "
        "`treehouse-proxy doctor {name}` shows them",
    ),
    "compound": Advice(
        "several things are wrong, and the CA lists them",
        "go by each of them",
    ),
    "connection": Advice(
        "the CA could not connect to the name's address: no server there, or a firewall",
        _REACH,
    ),
    "dns": Advice(
        "the CA could not find the name's address in DNS",
        "give the name an A or AAAA record with this server's address; "
        "`treehouse-proxy doctor {name}` shows what there is",
    ),
    "externalAccountRequired": Advice(
        "the CA serves only customers that it knows from elsewhere",
        "put the key identifier and the key that the CA hands out into acme.eab",
    ),
    "incorrectResponse": Advice(
        "somebody answered the CA at the name's address, but it was not this server",
        _REACH,
    ),
    "invalidContact": Advice(
        "the CA does not take the contact address",
        "correct acme.email, or leave it out: none is needed",
    ),
    "malformed": Advice(
        "the CA did not understand a request",
        "if it lasts, report it with the line of the log",
    ),
    "orderNotReady": Advice("the CA was not done yet with an order", _NOTHING),
    "rateLimited": Advice(
        "the CA has given out as many certificates, or seen as many failures, as it allows for now",
        "nothing: it is asked again when its time is over. Trying more often makes it worse",
    ),
    "rejectedIdentifier": Advice(
        "the CA does not certify this name, by its own rules",
        "ask the CA why, use another one, or take the name out of the configuration",
    ),
    "serverInternal": Advice("the CA has a fault of its own", _NOTHING),
    "tls": Advice(
        "the CA could connect to the name's address, and TLS failed there",
        _REACH,
    ),
    "unauthorized": Advice(
        "somebody answered the CA at the name's address, but not with what only this server knows: "
        "another server, an old address, or a proxy in between",
        _REACH,
    ),
    "unsupportedContact": Advice(
        "the CA cannot use this kind of contact",
        "leave acme.email out, or give an ordinary address",
    ),
    "unsupportedIdentifier": Advice(
        "the CA does not certify this kind of name (an address, or a wildcard)",
        "use another CA for this site, or take the name out of the configuration",
    ),
    "userActionRequired": Advice(
        "the CA wants something done by a person, usually new terms to be agreed to",
        "go to the page that the CA names, then treehouse-proxy certs renew {name}",
    ),
    # RFC 8739 §3.5
    "autoRenewalCanceled": Advice("a certificate renewed by the CA itself was cancelled", _NOTHING),
    "autoRenewalExpired": Advice("a certificate renewed by the CA itself has ended", _NOTHING),
    "autoRenewalCancellationInvalid": Advice("the CA does not take a cancellation", _NOTHING),
    "autoRenewalRevocationNotSupported": Advice(
        "the CA does not revoke certificates that it renews by itself",
        "let it end: it does not live for long",
    ),
    # RFC 9115 §3.1
    "unknownDelegation": Advice(
        "the CA does not know the delegation that a name was ordered under",
        "ask the CA; this server orders none",
    ),
    # RFC 9773 §7.4
    "alreadyReplaced": Advice(
        "the CA holds the certificate for replaced already",
        "nothing: it is ordered again without saying so",
    ),
    # RFC 9799 §8.1 (onion services)
    "onionCAARequired": Advice(
        "the CA needs the CAA records of an onion service",
        "use another name: this server certifies no onion services",
    ),
    # draft-ietf-acme-profiles §6
    "invalidProfile": Advice(
        "the CA has no such profile, or not for these names",
        "correct acme.profile; `treehouse-proxy doctor` lists the CA's profiles",
    ),
}  # fmt: skip

# By what this program found out itself; keys of errors.KINDS.
BY_KIND: dict[str, Advice] = {
    "unreachable": Advice(
        "the CA could not be reached from this machine",
        "see that it may connect to the CA (firewall, DNS); `treehouse-proxy doctor` tries it",
    ),
    "unavailable": Advice(
        "the CA is not well or too busy",
        "nothing: it is asked again by itself",
    ),
    "rate_limited": BY_TYPE["rateLimited"],
    "limits": Advice(
        "the order would be one of the last that the CA allows for now, and is kept for later",
        "nothing; or, when it cannot wait: treehouse-proxy certs renew {name} --force",
    ),
    "refused": Advice("the CA has refused", "go by its own words"),
    "nonsense": Advice(
        "what answered is not an ACME server, or a faulty one",
        "see that acme.directory is the CA's directory URL; "
        "a browser shows a JSON document with newOrder in it",
    ),
    "stuck": Advice(
        "the CA does not come to an end with the order",
        "nothing, unless it lasts: then ask the CA, or add another one as acme.fallback",
    ),
    "validation": Advice(
        "the CA looked at the name's address and was not content with what it saw",
        _REACH,
    ),
    "zone": Advice(
        "the record that proves control of the name could not be set, or is not seen by everybody",
        "correct what the message names at the name servers or in acme.dns",
    ),
    "hook": Advice(
        "the program that sets records in the DNS (acme.dns.hook) has failed",
        "see its own words in the log, and what `treehouse-proxy sandbox` lets it do",
    ),
    "presentation": Advice(
        "a worker of this server did not take up the CA's question in time",
        "see the log for workers that hang; a machine out of memory is the usual cause",
    ),
    "settings": Advice(
        "what is configured cannot be had from this CA",
        "correct what the message names, then treehouse-proxy reload",
    ),
    "unproven": Advice(
        "the certificate that the CA gave is not the one that was asked for, and is not used",
        "see that this machine's clock is right; else ask the CA",
    ),
    "clock": Advice(
        "this machine's clock and the CA's are far apart, and what was ordered would be of no use",
        "set the clock right (timedatectl shows it) and see that NTP keeps it so",
    ),
    "disk": Advice(
        "the state directory cannot be written to",
        "make room or mend its permissions; `treehouse-proxy doctor` says which",
    ),
    "busy": Advice(
        "another server works on the same certificate in the same state directory",
        "nothing, unless no other one should: then stop it",
    ),
    "stopped": Advice("the program was being stopped", "nothing: it goes on at the next start"),
    "internal": Advice(
        "a fault in this program",
        "please report it with the lines of the log",
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Explained:
    """``about``: the name that it concerns, if it is a particular one; ``quoted``: the CA's own
    words, if they are."""

    about: str | None
    quoted: str | None
    means: str
    step: str


def explained(kind: str, said: Said | None, name: str) -> Iterator[Explained]:
    """A failure of the certificate ``name``: first the whole, then each part that the CA lists."""
    general = BY_KIND.get(kind, BY_KIND["refused"])
    if said is None:
        yield Explained(None, None, general.means, general.step.format(name=name))
        return
    for one in (said, *said.parts):
        advice = BY_TYPE.get(one.typ, general)
        about = one.name or name
        yield Explained(one.name, one.detail or None, advice.means, advice.step.format(name=about))
