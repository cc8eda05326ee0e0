"""A CA's refusals in plain words: every type that there is has its line, and says what to do."""

from __future__ import annotations

import pytest

from acme_client.advice import BY_KIND, BY_TYPE, Advice, explained
from acme_client.errors import KINDS, Said

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


@pytest.mark.parametrize(
    "advice", [*BY_TYPE.values(), *BY_KIND.values()], ids=lambda one: one.means
)
def test_each_is_a_clause_and_a_step(advice: Advice) -> None:
    for text in (advice.means, advice.step.format(name="a.test")):
        assert text
        assert text[-1] != "."
        assert "  " not in text
        assert text[0].islower() or text[0] == "`"


def test_what_the_ca_did_not_say_is_explained_by_what_we_know() -> None:
    (one,) = explained("unreachable", None, "a.test")
    assert (one.about, one.quoted, one.means) == (None, None, BY_KIND["unreachable"].means)


def test_each_part_is_explained_with_the_name_it_is_about() -> None:
    said = Said(
        "compound", "two are wrong", None,
        (Said("caa", "CAA forbids it", "a.test"), Said("dns", "NXDOMAIN", "b.test")),
    )  # fmt: skip
    whole, caa, dns = explained("refused", said, "a.test")
    assert whole.quoted == "two are wrong"
    assert (caa.about, caa.quoted, caa.means) == ("a.test", "CAA forbids it", BY_TYPE["caa"].means)
    assert dns.about == "b.test"
    assert "doctor b.test" in dns.step


def test_an_unknown_type_falls_back_on_the_kind() -> None:
    (one,) = explained("validation", Said("ofTheFuture", "no"), "a.test")
    assert one.means == BY_KIND["validation"].means
    assert one.quoted == "no"
