"""A CA's refusals in plain words: every type that there is has its line, and says what to do."""

from __future__ import annotations

import pytest

from acme_client.certificates.ca_choice import BY_DNS
from acme_client.errors import KINDS, ProblemDocument
from acme_client.explain import BY_CHALLENGE, BY_KIND, BY_TYPE, Advice, explained, is_about_contact
from proxy.config.schema.acme import _CHALLENGES

# IANA, "ACME Error Types", by the documents that have added to it.
RFC_8555 = [
    "accountDoesNotExist",
    "alreadyRevoked",
    "badCSR",
    "badNonce",
    "badPublicKey",
    "badRevocationReason",
    "badSignatureAlgorithm",
    "caa",
    "compound",
    "connection",
    "dns",
    "externalAccountRequired",
    "incorrectResponse",
    "invalidContact",
    "malformed",
    "orderNotReady",
    "rateLimited",
    "rejectedIdentifier",
    "serverInternal",
    "tls",
    "unauthorized",
    "unsupportedContact",
    "unsupportedIdentifier",
    "userActionRequired",
]
LATER = [
    "autoRenewalCanceled",
    "autoRenewalExpired",
    "autoRenewalCancellationInvalid",
    "autoRenewalRevocationNotSupported",
    "unknownDelegation",
    "alreadyReplaced",
    "onionCAARequired",
    "invalidProfile",
]


def test_every_type_is_explained_and_no_other() -> None:
    assert BY_TYPE.keys() == {*RFC_8555, *LATER}


def test_every_kind_of_our_own_is_explained() -> None:
    assert BY_KIND.keys() == KINDS.keys()


def test_every_kind_of_challenge_is_explained() -> None:
    assert BY_CHALLENGE.keys() == set(_CHALLENGES)
    types = {"connection", "dns", "unauthorized", "incorrectResponse"}
    for kind, known in BY_CHALLENGE.items():
        assert known.keys() == types | {""} | (set() if kind in BY_DNS else {"tls"})


# What the CA says of a validation, by which challenge, and what it sends people to.
VALIDATIONS = [
    ("http-01", "connection", "port 80", "doctor a.test"),
    ("http-01", "unauthorized", "somebody answered the CA on port 80", "doctor a.test"),
    ("http-01", "incorrectResponse", "somebody answered the CA on port 80", "doctor a.test"),
    ("http-01", "tls", "sent from port 80 to an https address", "doctor a.test"),
    ("http-01", "dns", "could not find the name's address", "A or AAAA record"),
    ("http-01", "ofTheFuture", "asked on port 80", "doctor a.test"),
    ("tls-alpn-01", "connection", "port 443", "doctor a.test"),
    ("tls-alpn-01", "tls", "ends TLS, as CDNs do", "acme.challenges to [http-01]"),
    ("tls-alpn-01", "unauthorized", "ends TLS, as CDNs do", "acme.challenges to [http-01]"),
    ("tls-alpn-01", "dns", "could not find the name's address", "A or AAAA record"),
    ("dns-01", "unauthorized", "TXT record _acme-challenge.a.test", "what all name servers"),
    ("dns-01", "incorrectResponse", "TXT record _acme-challenge.a.test", "what all name servers"),
    ("dns-01", "dns", "could not look up the TXT record", "dig +trace TXT _acme-challenge.a.test"),
    ("dns-01", "connection", "could not look up the TXT record", "dig +trace"),
    ("dns-01", "ofTheFuture", "TXT record _acme-challenge.a.test", "what all name servers"),
    ("dns-persist-01", "unauthorized", "_validation-persist.a.test", "certs dns-persist *.a.test"),
    ("dns-persist-01", "dns", "_validation-persist.a.test", "certs dns-persist *.a.test"),
    # Nothing about the challenge at all.
    ("dns-01", "caa", "CAA record in DNS forbids", "doctor *.a.test"),
    (None, "ofTheFuture", "was not content", "doctor *.a.test"),
]


@pytest.mark.parametrize(("challenge", "typ", "means", "step"), VALIDATIONS)
def test_a_validation_is_explained_by_how_it_was_done(
    challenge: str | None, typ: str, means: str, step: str
) -> None:
    name = "a.test" if challenge in ("http-01", "tls-alpn-01") else "*.a.test"
    (one,) = explained("validation", ProblemDocument(typ, "no", name), name, challenge)
    assert means in one.means
    assert step in one.step
    visited = challenge in ("http-01", "tls-alpn-01")
    assert ("address" in one.means) is (visited or challenge is None)


def test_of_an_account_unauthorized_says_nothing_about_addresses() -> None:
    (one,) = explained("refused", ProblemDocument("unauthorized", "no"), "a.test", "http-01")
    assert "account" in one.means


@pytest.mark.parametrize("typ", ["unauthorized", "malformed", "externalAccountRequired"])
def test_an_external_account_is_explained_as_that_whatever_the_ca_calls_it(typ: str) -> None:
    (one,) = explained("binding", ProblemDocument(typ, "unknown kid"), "a.test")
    assert "external account" in one.means
    assert "acme.eab.kid" in one.step


@pytest.mark.parametrize(
    "advice",
    [
        *BY_TYPE.values(),
        *BY_KIND.values(),
        *(one for known in BY_CHALLENGE.values() for one in known.values()),
    ],
    ids=lambda one: one.means,
)
def test_each_is_a_clause_and_a_step(advice: Advice) -> None:
    for text in (
        advice.means.format(domain="a.test"),
        advice.step.format(name="a.test", domain="a.test"),
    ):
        assert text
        assert text[-1] != "."
        assert "  " not in text
        assert text[0].islower() or text[0] == "`"


def test_what_the_ca_did_not_say_is_explained_by_what_we_know() -> None:
    (one,) = explained("unreachable", None, "a.test")
    assert (one.about, one.quoted, one.means) == (None, None, BY_KIND["unreachable"].means)


def test_each_part_is_explained_with_the_name_it_is_about() -> None:
    said = ProblemDocument(
        "compound", "two are wrong", None,
        (ProblemDocument("caa", "CAA forbids it", "a.test"), ProblemDocument("dns", "NXDOMAIN", "b.test")),
    )  # fmt: skip
    whole, caa, dns = explained("refused", said, "a.test")
    assert whole.quoted == "two are wrong"
    assert (caa.about, caa.quoted, caa.means) == ("a.test", "CAA forbids it", BY_TYPE["caa"].means)
    assert dns.about == "b.test"
    assert "doctor b.test" in dns.step


def test_an_unknown_type_falls_back_on_the_kind() -> None:
    (one,) = explained("validation", ProblemDocument("ofTheFuture", "no"), "a.test")
    assert one.means == BY_KIND["validation"].means
    assert one.quoted == "no"


@pytest.mark.parametrize(
    ("typ", "detail", "means"),
    [
        ("malformed", "contact is required", True),
        ("invalidContact", "no contact given", True),
        ("userActionRequired", "you must provide an e-mail address", True),
        ("", "missing email", True),
        ("malformed", "JWS verification error", False),
        ("rejectedIdentifier", "contact us for a contract", False),
    ],
)
def test_a_ca_that_misses_a_contact_leads_to_the_key(typ: str, detail: str, means: bool) -> None:
    said = ProblemDocument(typ, detail)
    assert is_about_contact(said) is means
    (one,) = explained("settings", said, "a.test")
    assert ("acme.email" in one.step) is means
