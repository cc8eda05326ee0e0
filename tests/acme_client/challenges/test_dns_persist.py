"""The record of dns-persist-01, as the draft has it, and what counts as one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acme_client.challenges.dns_persist import (
    Customer,
    PersistRecord,
    Subject,
    Terms,
    hashed,
    of_challenge,
    of_directory,
    record_name,
    stands,
    subjects,
    value,
)

# draft-ietf-acme-dns-persist-02 §10.2, with the thumbprint of RFC 7638 §3.1.
URL = "https://ca.example/acct/123"
THUMBPRINT = "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"
PREFIX = "https://ca.example/account-hash/"
US = Customer(URL, (THUMBPRINT, "of-an-earlier-key"))
NEW = Terms(("authority.example", "ca.example.net"), PREFIX)
OLD = Terms(("letsencrypt.org",))
PLAIN, WILD = Subject("example.com", False), Subject("example.com", True)


def test_the_drafts_example() -> None:
    digest = "5SQm7n6tPh2-PlLbCKGnViTXX5z19SCN4cPGQHSk-kw"
    assert hashed(PREFIX, "example.com", THUMBPRINT, URL) == f"{PREFIX}sha-256/{digest}"
    omitted = "NpDnSwUthQK8zCgFdefYxAdAVPnygMLbs9US6oO-5ug"
    assert hashed(PREFIX, "*", THUMBPRINT, URL) == f"{PREFIX}sha-256/{omitted}"
    assert value(PLAIN, NEW, US) == f"authority.example; accounturi={PREFIX}sha-256/{digest}"
    assert value(WILD, NEW, US).endswith(f"{digest}; policy=wildcard")


def test_before_02_the_account_stands_in_the_open() -> None:
    assert value(PLAIN, OLD, US) == f"letsencrypt.org; accounturi={URL}"
    told = Terms(("letsencrypt.org",), account="https://ca.example/another/name")
    assert "https://ca.example/another/name" in value(PLAIN, told, US)


def test_one_record_for_a_name_and_its_wildcard() -> None:
    found = subjects(("*.example.com", "example.com", "www.example.com"))
    assert found == (WILD, Subject("www.example.com", False))
    assert [record_name(one) for one in found] == [
        "_validation-persist.example.com",
        "_validation-persist.www.example.com",
    ]


def test_as_a_line_of_a_zone_file() -> None:
    line = str(PersistRecord("_validation-persist.example.com", value(WILD, OLD, US), stands=False))
    assert line == (
        f'_validation-persist.example.com. IN TXT "letsencrypt.org; accounturi={URL}; policy=wildcard"'
    )


HASHED = hashed(PREFIX, "example.com", THUMBPRINT, URL)
EARLIER = hashed(PREFIX, "example.com", "of-an-earlier-key", URL)
ANY_DOMAIN = hashed(PREFIX, "*", THUMBPRINT, URL)
NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("text", "subject", "terms", "good"),
    [
        (f"letsencrypt.org; accounturi={URL}", PLAIN, OLD, True),
        (f"letsencrypt.org;accounturi={URL};", PLAIN, OLD, True),
        (f"  LetsEncrypt.org. ;\tAccountURI = {URL} ; future=x", PLAIN, OLD, True),
        (f"letsencrypt.org; accounturi={URL}", WILD, OLD, False),
        (f"letsencrypt.org; accounturi={URL}; policy=WildCard", WILD, OLD, True),
        (f"letsencrypt.org; accounturi={URL}; policy=wildcard", PLAIN, OLD, True),
        (f"letsencrypt.org; accounturi={URL}; policy=some", PLAIN, OLD, True),
        (f"letsencrypt.org; accounturi={URL}4", PLAIN, OLD, False),
        (f"letsencrypt.org; accounturi={URL.upper()}", PLAIN, OLD, False),
        (f"other.example; accounturi={URL}", PLAIN, OLD, False),
        ("letsencrypt.org", PLAIN, OLD, False),
        (f"; accounturi={URL}", PLAIN, OLD, False),
        (f"letsencrypt.org; accounturi={URL}; accounturi={URL}", PLAIN, OLD, False),
        (f"letsencrypt.org; accounturi={URL}; nonsense", PLAIN, OLD, False),
        (f"letsencrypt.org; accounturi={URL}; persistUntil=1900000000", PLAIN, OLD, True),
        (f"letsencrypt.org; accounturi={URL}; persistUntil=1700000000", PLAIN, OLD, False),
        (f"letsencrypt.org; accounturi={URL}; persistUntil=never", PLAIN, OLD, False),
        (f"ca.example.net; accounturi={HASHED}", PLAIN, NEW, True),
        (f"ca.example.net; accounturi={EARLIER}", PLAIN, NEW, True),  # the CA keeps earlier keys
        (f"ca.example.net; accounturi={ANY_DOMAIN}", PLAIN, NEW, True),
        (f"ca.example.net; accounturi={HASHED}", Subject("www.example.com", False), NEW, False),
        (f"ca.example.net; accounturi={URL}", PLAIN, NEW, False),
    ],
)  # fmt: skip
def test_what_counts_as_a_record(text: str, subject: Subject, terms: Terms, good: bool) -> None:
    assert stands([text], subject, terms, US, NOW) is good
    assert stands(["v=spf1 -all", text], subject, terms, US, NOW) is good


@given(st.sampled_from([PLAIN, WILD]), st.sampled_from([OLD, NEW]), st.text(max_size=80))
def test_what_is_to_be_set_counts_whatever_else_stands_there(
    subject: Subject, terms: Terms, other: str
) -> None:
    assert stands([other, value(subject, terms, US)], subject, terms, US, NOW)
    assert not stands([other], subject, terms, US, NOW)


@pytest.mark.parametrize(
    ("meta", "terms"),
    [
        ({}, Terms(())),
        ({"caaIdentities": ["letsencrypt.org"]}, OLD),
        ({"caaIdentities": "letsencrypt.org"}, Terms(())),
        (
            {"accountHashPrefix": PREFIX, "issuerDomainNames": ["authority.example", "ca.example.net"],
             "caaIdentities": ["x.example"]},
            replace(NEW, identities=("x.example",)),
        ),
        ({"accountHashPrefix": PREFIX, "issuerDomainNames": []}, Terms((), PREFIX)),
        ({"accountHashPrefix": PREFIX, "issuerDomainNames": ["a.example"] * 11}, Terms((), PREFIX)),
        ({"accountHashPrefix": PREFIX, "issuerDomainNames": ["A.example"]}, Terms((), PREFIX)),
        ({"accountHashPrefix": PREFIX, "issuerDomainNames": ["a.example."]}, Terms((), PREFIX)),
        ({"accountHashPrefix": PREFIX, "issuerDomainNames": [7]}, Terms((), PREFIX)),
    ],
)  # fmt: skip
def test_what_a_directory_says(meta: dict[str, Any], terms: Terms) -> None:
    assert of_directory(meta) == terms


@pytest.mark.parametrize(
    ("challenge", "directory", "terms"),
    [
        ({"issuer-domain-names": ["letsencrypt.org"]}, Terms(()), OLD),
        (
            {"issuer-domain-names": ["letsencrypt.org"], "accounturi": "https://x/1"},
            OLD,
            Terms(("letsencrypt.org",), account="https://x/1"),
        ),
        ({"issuerDomainNames": ["ca.example.net", "authority.example"]}, NEW,
         Terms(("ca.example.net", "authority.example"), PREFIX)),
        ({"issuerDomainNames": ["ca.example.net"]}, NEW, None),  # the directory promised another too
        ({"issuerDomainNames": list(NEW.issuers)}, replace(NEW, identities=("x.example",)), None),
        ({"issuerDomainNames": list(NEW.issuers)}, replace(NEW, identities=NEW.issuers),
         replace(NEW, identities=NEW.issuers)),
        ({}, OLD, None),
        ({"issuer-domain-names": []}, OLD, None),
        ({"issuer-domain-names": ["a b"]}, OLD, None),
        ({"issuer-domain-names": [f"{n}.example" for n in range(11)]}, OLD, None),
    ],
)  # fmt: skip
def test_what_a_challenge_says(
    challenge: dict[str, Any], directory: Terms, terms: Terms | None
) -> None:
    assert of_challenge(challenge, directory) == terms
