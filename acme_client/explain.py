"""Explains a failure in plain words, and names the next step, from three tables.

A CA explains itself to programs by the type of its problem document (RFC 8555 §6.7, and IANA's list
of ACME error types, to which later RFCs add), and to people by its detail, in its own words.
`BY_TYPE` says for each type what it usually means at a server like this one, and the next step.
`BY_CHALLENGE` does so for types that speak of a validation: "unauthorized" sends people to an
address after http-01, and to a record after dns-01. `BY_KIND` explains what this program found out
by itself (`errors.KINDS`). CAs that miss a contact have several types for it; their words decide.

``{name}`` in a text is the name of the certificate, ``{domain}`` the same without ``*.``.

Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from .errors import ProblemDocument
from .late_dataclass import dataclass


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
        "the CA does not take the contact address, or misses one",
        "set acme.email to an address that the CA takes; "
        "where it needs none, the key may be left out",
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
        "the CA does not let the account of this server have what was asked for",
        "go by the CA's own words, or ask it what the account may have",
    ),
    "unsupportedContact": Advice(
        "the CA cannot use this kind of contact",
        "set acme.email to an ordinary address, or leave it out where the CA needs none",
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

_NO_ADDRESS = Advice(
    "the CA could not find the name's address in DNS",
    "give {name} an A or AAAA record with this server's address; "
    "`treehouse-proxy doctor {name}` shows what there is",
)
_NOT_US_ON_80 = Advice(
    "somebody answered the CA on port 80 at the name's address, but not with what only this server "
    "knows: another server (of several machines, one that is not in the cluster), an old address "
    "(often the AAAA record), or a proxy in between",
    _REACH,
)
_NOT_US_ON_443 = Advice(
    "the CA could connect to port 443 at the name's address, and what answered there was not this "
    "server: another one, an old address, or something in between that ends TLS, as CDNs do",
    "see what `treehouse-proxy doctor {name}` finds at the name's addresses; "
    "behind something that ends TLS, set acme.challenges to [http-01]",
)
_NO_RECORD = Advice(
    "the CA did not see the TXT record _acme-challenge.{domain} that was set for it, but none or "
    "an older one: not all name servers had it yet, or the name leads elsewhere (CNAME)",
    "compare what all name servers of the zone show for _acme-challenge.{domain}, take away what "
    "is left there of other programs, and raise propagation in acme.dns if some are slow",
)
_NO_LOOK_UP = Advice(
    "the CA could not look up the TXT record _acme-challenge.{domain}: name servers of the zone "
    "do not answer it, or the zone's DNSSEC or its delegation is broken",
    "see that every name server of the zone answers from outside, and that its signatures are "
    "valid: dig +trace TXT _acme-challenge.{domain}",
)
_NO_STANDING_RECORD = Advice(
    "the CA did not find the standing TXT record _validation-persist.{domain} that allows this "
    "server's account to certify the name, or what it says is for somebody else or over",
    "treehouse-proxy certs dns-persist {name} prints the record, and whether it stands",
)

# By the kind of challenge that the CA was not content with, then by type; "" is any other type.
BY_CHALLENGE: dict[str, dict[str, Advice]] = {
    "http-01": {
        "connection": Advice(
            "the CA could not connect to port 80 at the name's address: no server there, or a "
            "firewall",
            _REACH,
        ),
        "dns": _NO_ADDRESS,
        "tls": Advice(
            "the CA was sent from port 80 to an https address, and TLS failed there; this server "
            "answers on port 80 itself, so something in between has redirected it",
            _REACH,
        ),
        "unauthorized": _NOT_US_ON_80,
        "incorrectResponse": _NOT_US_ON_80,
        "": Advice(
            "the CA asked on port 80 at the name's address, and was not content with the answer",
            _REACH,
        ),
    },
    "tls-alpn-01": {
        "connection": Advice(
            "the CA could not connect to port 443 at the name's address: no server there, or a "
            "firewall",
            _REACH,
        ),
        "dns": _NO_ADDRESS,
        "tls": _NOT_US_ON_443,
        "unauthorized": _NOT_US_ON_443,
        "incorrectResponse": _NOT_US_ON_443,
        "": _NOT_US_ON_443,
    },
    "dns-01": {
        "connection": _NO_LOOK_UP,
        "dns": _NO_LOOK_UP,
        "unauthorized": _NO_RECORD,
        "incorrectResponse": _NO_RECORD,
        "": _NO_RECORD,
    },
    "dns-persist-01": {
        "connection": _NO_STANDING_RECORD,
        "dns": _NO_STANDING_RECORD,
        "unauthorized": _NO_STANDING_RECORD,
        "incorrectResponse": _NO_STANDING_RECORD,
        "": _NO_STANDING_RECORD,
    },
}  # fmt: skip

_NO_CONTACT = Advice(
    "the CA makes no account without an address to write to",
    "set acme.email to an address that somebody reads, then treehouse-proxy reload",
)
# Types by which CAs say that, and their words.
_ABOUT_CONTACT = ("invalidContact", "unsupportedContact", "malformed", "userActionRequired", "")
_CONTACT = re.compile(r"(?i)\b(contacts?|e-?mails?)\b")
_MISSING = re.compile(r"(?i)missing|requir|must|need|empty|without|provide|\bno\b|not (set|given)")

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
    "binding": Advice(
        "the CA serves only customers that it knows from elsewhere (external account binding), and "
        "what acme.eab says of this server is missing, mistyped, used up or not of this CA",
        "copy the key identifier into acme.eab.kid and the key into the file that "
        "acme.eab.hmac_key_file names, exactly as the CA hands them out, then "
        "treehouse-proxy reload",
    ),
    "unproven": Advice(
        "the certificate that the CA gave cannot be used as it is, and the one before it stays",
        "where it is about dates, see that this machine's clock is right; else ask the CA",
    ),
    "clock": Advice(
        "this machine's clock and the CA's are far apart, and nothing can be ordered so",
        "set the clock right (timedatectl shows it) and see that NTP keeps it so; "
        "if it is right, the CA's is not: ask it",
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
    """A failure explained. ``about``: the name that it concerns, if it is a particular one;
    ``quoted``: the CA's own words, if they are."""

    about: str | None
    quoted: str | None
    means: str
    step: str


def explained(
    kind: str, said: ProblemDocument | None, name: str, challenge: str | None = None
) -> Iterator[Explained]:
    """Explain a failure of the certificate ``name``: first the whole, then each part that the CA
    lists. ``challenge``: the kind of challenge that was in use."""
    if said is None:
        yield _explained(_advice(kind, None, challenge), None, name, None)
        return
    for one in (said, *said.parts):
        advice = _advice(kind, one, challenge)
        yield _explained(advice, one.name, one.name or name, one.detail or None)


def is_about_contact(said: ProblemDocument | None) -> bool:
    """Whether a CA that refused an account without a contact says that it misses one."""
    if said is None or said.typ not in _ABOUT_CONTACT:
        return False
    return bool(_CONTACT.search(said.detail) and _MISSING.search(said.detail))


def _advice(kind: str, said: ProblemDocument | None, challenge: str | None) -> Advice:
    """Return the most particular advice there is. CAs have a dozen types for what is wrong with an
    external account, and all of them mean the same."""
    general = BY_KIND.get(kind, BY_KIND["refused"])
    if kind == "settings" and said is not None and is_about_contact(said):
        return _NO_CONTACT
    if kind == "binding":
        return general
    typ = "" if said is None else said.typ
    if kind == "validation" and challenge in BY_CHALLENGE:
        known = BY_CHALLENGE[challenge]
        return known.get(typ) or BY_TYPE.get(typ) or known[""]
    return BY_TYPE.get(typ, general)


def _explained(advice: Advice, about: str | None, name: str, quoted: str | None) -> Explained:
    named = {"name": name, "domain": name.removeprefix("*.")}
    return Explained(about, quoted, advice.means.format(**named), advice.step.format(**named))
