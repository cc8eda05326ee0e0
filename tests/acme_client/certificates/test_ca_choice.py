"""Which CA, and which challenge: by what has worked and what has failed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from acme_client.certificates.ca_choice import (
    authority,
    challenges,
    fingerprint,
    has_failed,
    kinds,
    serves,
    suits,
)
from acme_client.certificates.record import Attempt, Record
from acme_client.link import Authority, CertificateSpec, Dns, ExternalAccount

NOW = 1_800_000_000.0
DAY = 86400.0
FIRST, SECOND, THIRD = (Authority(f"https://{one}.example/dir") for one in ("a", "b", "c"))
ONE_CA = CertificateSpec(("example.org",), FIRST)
THREE_CAS = CertificateSpec(("example.org",), FIRST, fallback=(SECOND, THIRD))


def record(attempts: int, days_left: float | None) -> Record:
    if days_left is None:
        return Record(attempts=attempts)
    end = NOW + days_left * DAY
    return Record(attempts=attempts, not_before=end - 90 * DAY, not_after=end)


@pytest.mark.parametrize(
    ("wanted", "attempts", "days_left", "chosen"),
    [
        (ONE_CA, 9, None, FIRST),  # there is no other
        (THREE_CAS, 0, None, FIRST),
        (THREE_CAS, 2, None, FIRST),  # a hiccup
        (THREE_CAS, 3, None, SECOND),  # nothing to serve, and it keeps failing
        (THREE_CAS, 4, None, THIRD),
        (THREE_CAS, 5, None, FIRST),
        (THREE_CAS, 6, None, SECOND),
        (THREE_CAS, 6, 29, FIRST),  # plenty of time
        (THREE_CAS, 6, 14.9, SECOND),  # less than a sixth left
        (THREE_CAS, 0, 1, FIRST),
        (THREE_CAS, 3, -1, SECOND),
    ],
)
def test_another_ca_is_for_when_it_keeps_failing_and_time_is_short(
    wanted: CertificateSpec, attempts: int, days_left: float | None, chosen: Authority
) -> None:
    assert authority(wanted, record(attempts, days_left), NOW) is chosen


@pytest.mark.parametrize(
    ("outcome", "attempts", "days_left", "chosen"),
    [
        ("unreachable", 1, None, SECOND),  # nothing is served: the next CA at once
        ("unavailable", 1, None, SECOND),
        ("nonsense", 1, None, SECOND),
        ("refused", 1, -1, SECOND),  # an expired certificate is none
        ("unreachable", 2, None, THIRD),
        ("unreachable", 3, None, FIRST),
        ("validation", 1, None, FIRST),  # another CA would look at the same server
        ("disk", 1, None, FIRST),
        ("unreachable", 1, 10, FIRST),  # a certificate is served: a hiccup is forgiven
        ("unreachable", 3, 10, SECOND),
    ],
)
def test_where_nothing_is_served_a_ca_that_fails_loses_its_turn_at_once(
    outcome: str, attempts: int, days_left: float | None, chosen: Authority
) -> None:
    failed = Attempt(NOW, outcome, FIRST.directory)
    remembered = replace(record(attempts, days_left), history=(failed,))
    assert authority(THREE_CAS, remembered, NOW) is chosen


@pytest.mark.parametrize(
    ("attempts", "days_left", "rate_limited", "chosen"),
    [
        (0, None, {FIRST}, SECOND),  # nothing to serve: whoever does not make us wait
        (0, None, {FIRST, SECOND}, THIRD),
        (0, None, {FIRST, SECOND, THIRD}, FIRST),  # all do
        (0, 29, {FIRST}, FIRST),  # there is time to wait
        (3, None, {SECOND}, THIRD),
        (4, None, {THIRD}, FIRST),
        (3, None, {FIRST}, SECOND),
    ],
)
def test_a_ca_that_makes_us_wait_loses_its_turn(
    attempts: int, days_left: float | None, rate_limited: set[Authority], chosen: Authority
) -> None:
    directories = {one.directory for one in rate_limited}
    assert authority(THREE_CAS, record(attempts, days_left), NOW, directories) is chosen


def after(outcome: str, challenge: str, worked: str | None = None) -> Record:
    return Record(challenge=worked, history=(Attempt(NOW, outcome, FIRST.directory, challenge),))


@pytest.mark.parametrize(
    ("remembered", "first"),
    [
        (Record(), "http-01"),
        (after("validation", "http-01"), "tls-alpn-01"),
        (after("validation", "tls-alpn-01"), "http-01"),
        (after("obtained", "tls-alpn-01", "tls-alpn-01"), "tls-alpn-01"),
        (after("validation", "tls-alpn-01", "tls-alpn-01"), "http-01"),  # it worked once
        (after("unreachable", "http-01"), "http-01"),  # not the challenge's fault
        (after("validation", "dns-01", "dns-01"), "http-01"),  # configured no longer
    ],
)
def test_what_worked_comes_first_and_what_just_failed_last(remembered: Record, first: str) -> None:
    kinds = challenges(ONE_CA, remembered)
    assert kinds[0] == first
    assert sorted(kinds) == ["http-01", "tls-alpn-01"]


@pytest.mark.parametrize("outcome", ["validation", "zone", "hook"])
def test_a_record_that_could_not_be_set_speaks_against_its_kind(outcome: str) -> None:
    wanted = CertificateSpec(("example.org",), FIRST, challenges=("dns-01", "http-01"))
    assert challenges(wanted, after(outcome, "dns-01", "dns-01")) == ("http-01", "dns-01")
    assert challenges(wanted, after("disk", "dns-01", "dns-01")) == ("dns-01", "http-01")


@pytest.mark.parametrize(
    ("names", "configured", "records", "chosen"),
    [
        ("a.test", "http-01 tls-alpn-01", True, "http-01 tls-alpn-01"),
        ("a.test", "http-01 dns-01", True, "http-01 dns-01"),
        ("*.a.test a.test", "http-01 tls-alpn-01", True, "dns-01 http-01 tls-alpn-01"),
        ("a.test *.a.test", "http-01 dns-01", True, "dns-01 http-01"),
        ("*.a.test", "http-01 dns-persist-01", False, "dns-persist-01 http-01"),
        ("*.a.test", "dns-persist-01", True, "dns-persist-01 dns-01"),
        ("*.a.test", "http-01", False, "http-01"),  # refused before it comes to an order
    ],
)
def test_a_wildcard_brings_dns_to_the_front(
    names: str, configured: str, records: bool, chosen: str
) -> None:
    found = kinds(tuple(names.split()), tuple(configured.split()), records)
    assert found == tuple(chosen.split())


@pytest.mark.parametrize(
    ("kind", "plain", "wildcard", "address"),
    [
        ("http-01", True, False, True),
        ("tls-alpn-01", True, False, True),
        ("dns-01", True, True, False),
        ("dns-persist-01", True, True, False),
    ],
)
def test_what_a_kind_can_prove(kind: str, plain: bool, wildcard: bool, address: bool) -> None:
    assert suits(kind, wildcard=False, address=False) is plain
    assert suits(kind, wildcard=True, address=False) is wildcard
    assert suits(kind, wildcard=False, address=True) is address


def test_with_one_kind_configured_there_is_no_choice() -> None:
    wanted = CertificateSpec(("example.org",), FIRST, challenges=("http-01",))
    assert challenges(wanted, after("validation", "http-01")) == ("http-01",)


@pytest.mark.parametrize(
    ("directory", "wanted", "good"),
    [
        (None, ONE_CA, True),  # the record is lost; the certificate is not
        (FIRST.directory, ONE_CA, True),
        (SECOND.directory, ONE_CA, False),
        (SECOND.directory, THREE_CAS, True),
    ],
)
def test_a_certificate_counts_if_its_ca_is_configured(
    directory: str | None, wanted: CertificateSpec, good: bool
) -> None:
    assert serves(wanted, Record(directory=directory)) is good


def test_another_fingerprint_for_whatever_an_attempt_goes_by() -> None:
    first = Authority("https://one.test/dir")
    plain = CertificateSpec(("a.test",), first)
    secret = ExternalAccount("kid", "c2VjcmV0")
    every = [
        (plain, Dns()),
        (replace(plain, names=("a.test", "b.test")), Dns()),
        (replace(plain, fallback=(Authority("https://two.test/dir"),)), Dns()),
        (replace(plain, authority=replace(first, eab=secret)), Dns()),
        (replace(plain, authority=replace(first, eab=replace(secret, hmac_key="b3RoZXI"))), Dns()),
        (replace(plain, authority=replace(first, profile="tlsserver")), Dns()),
        (replace(plain, authority=replace(first, ca_pem=b"PEM")), Dns()),
        (plain, Dns(resolvers=(("192.0.2.1", 53),))),
    ]
    found = [fingerprint(wanted, dns) for wanted, dns in every]
    assert len(set(found)) == len(found)
    assert (
        fingerprint(CertificateSpec(("a.test",), Authority("https://one.test/dir")), Dns())
        == found[0]
    )


def test_who_has_failed_since_the_last_success() -> None:
    one, two, three = (Authority(f"https://{name}.test/dir") for name in ("one", "two", "three"))
    history = tuple(
        Attempt(NOW, outcome, by.directory)
        for outcome, by in (("refused", three), ("obtained", two), ("refused", one))
    )
    record = Record(history=history)
    assert [has_failed(record, by) for by in (one, two, three)] == [True, False, False]
    assert not has_failed(Record(), one)
