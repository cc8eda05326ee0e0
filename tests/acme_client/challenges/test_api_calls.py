"""What lexicon asks of providers, seen by servers that behave as theirs: two values at one name, each
set and removed by itself, again and again, with the account's secret where the provider wants it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from acme_client.challenges import api_calls
from acme_client.challenges.api_calls import Request
from acme_client.link import Credential, DnsApi
from support.acme.dns_interfaces import SECRET, ZONE, Interfaces, interfaces, redirected

NAME = f"_acme-challenge.{ZONE}"
GIVEN = {
    "cloudflare": {"auth_token": SECRET},
    "hetzner": {"auth_token": SECRET},
    "digitalocean": {"auth_token": SECRET},
    "desec": {"auth_token": SECRET},
    "ovh": {
        "auth_entrypoint": "ovh-eu",
        "auth_application_key": "application-key",
        "auth_application_secret": SECRET,
        "auth_consumer_key": "consumer-key",
    },
    "route53": {"auth_access_key": "access-key", "auth_access_secret": SECRET},
    "httpreq": {
        "endpoint": "https://hooks.example.test/dns/",
        "username": "alice",
        "password": SECRET,
    },
}
HOSTS = {
    "cloudflare": "api.cloudflare.com",
    "hetzner": "api.hetzner.cloud",
    "digitalocean": "api.digitalocean.com",
    "desec": "desec.io",
    "ovh": "eu.api.ovh.com",
    "route53": "route53.amazonaws.com",
    "httpreq": "hooks.example.test",
}


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Interfaces]:
    with interfaces() as server:
        redirected(server, tmp_path, monkeypatch)
        yield server


def api(provider: str, **changed: str) -> DnsApi:
    given = GIVEN[provider] | changed
    return DnsApi(provider, tuple(Credential(name, value) for name, value in given.items()), 30.0)


def request(action: str, value: str) -> Request:
    return Request(0, action, ZONE, ZONE, NAME, value, "token", f"key-{value}")


@pytest.mark.parametrize("provider", GIVEN)
def test_two_values_at_one_name_come_and_go_by_themselves(
    served: Interfaces, provider: str
) -> None:
    """The apex and the wildcard of one zone; somebody else's value beside them stays."""
    assert api_calls.load(provider) is None
    served.records.add(NAME, "somebody-elses", 60)
    for value in ("one", "two"):
        api_calls.perform(api(provider), request("present", value))
    assert sorted(served.records.at(NAME)) == ["one", "somebody-elses", "two"]
    if provider != "httpreq":  # what is behind that is not ours to know
        # The answer was lost; OVH's has it twice then, and both go with the value.
        api_calls.perform(api(provider), request("present", "two"))
        assert set(served.records.at(NAME)) == {"one", "somebody-elses", "two"}
    api_calls.perform(api(provider), request("cleanup", "one"))
    assert set(served.records.at(NAME)) == {"somebody-elses", "two"}
    for value in ("one", "two", "two"):  # and once more what is gone already
        api_calls.perform(api(provider), request("cleanup", value))
    assert served.records.at(NAME) == ["somebody-elses"]
    assert {one.host for one in served.asked} == {HOSTS[provider]}
    for one in served.asked:
        assert SECRET not in one.path
        assert SECRET not in str(one.query)


@pytest.mark.parametrize("provider", [name for name in GIVEN if name not in ("ovh", "route53")])
def test_a_wrong_secret_is_refused_in_the_providers_words(
    served: Interfaces, provider: str
) -> None:
    key = "password" if provider == "httpreq" else "auth_token"
    with pytest.raises(api_calls.Refused) as told:
        api_calls.perform(api(provider, **{key: "x" * 64}), request("present", "one"))
    assert "401" in str(told.value)
    assert served.records.at(NAME) == []


def test_a_wrong_signature_and_a_wrong_key_are_refused(served: Interfaces) -> None:
    with pytest.raises(api_calls.Refused, match=r"403.*Invalid signature") as told:
        api_calls.perform(api("ovh", auth_application_secret="x"), request("present", "one"))
    assert told.value.certain
    with pytest.raises(api_calls.Refused, match="AccessDenied"):
        api_calls.perform(api("route53", auth_access_key="x"), request("present", "one"))


def test_a_zone_that_the_account_does_not_have(served: Interfaces) -> None:
    elsewhere = replace(
        request("present", "one"), zone="other.test", name="_acme-challenge.other.test"
    )
    with pytest.raises(
        api_calls.Refused, match=r"does the account have the zone other\.test"
    ) as told:
        api_calls.perform(api("cloudflare"), elsewhere)
    assert told.value.certain


def test_records_live_as_short_as_the_provider_allows(served: Interfaces) -> None:
    for provider, ttl in {"cloudflare": 60, "desec": 3600}.items():
        served.records.ttls.clear()
        api_calls.perform(api(provider), request("present", provider))
        assert served.records.ttls == {ttl}


def test_lego_raw_mode(served: Interfaces) -> None:
    api_calls.perform(api("httpreq", mode="RAW"), request("present", "one"))
    assert served.asked[-1].json == {"domain": ZONE, "token": "token", "keyAuth": "key-one"}


def test_a_secret_that_cannot_be_read_is_told_by_its_file(served: Interfaces) -> None:
    broken = DnsApi("cloudflare", (Credential("auth_token", None, Path("/etc/cf")),), 1.0)
    with pytest.raises(api_calls.Refused, match="/etc/cf, which holds auth_token, cannot be read"):
        api_calls.perform(broken, request("present", "one"))
