"""Record names, values and whose they are."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acme_client.challenges import dns_names
from acme_client.challenges.dns_names import (
    challenge_name,
    enclosing,
    tsig_secret,
    within,
    zone_for,
)
from acme_client.errors import IssuanceError
from acme_client.link import DnsHook, DnsZone

VIA = DnsHook(Path("/hook"), 1.0, Path("/scratch"))
LABEL = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,5}[a-z0-9])?", fullmatch=True)
NAME = st.lists(LABEL, min_size=1, max_size=6).map(".".join)


@pytest.mark.parametrize(
    ("name", "record"),
    [
        ("example.org", "_acme-challenge.example.org"),
        ("*.example.org", "_acme-challenge.example.org"),
        ("xn--bcher-kva.example", "_acme-challenge.xn--bcher-kva.example"),
    ],
)
def test_where_the_record_stands(name: str, record: str) -> None:
    assert challenge_name(name) == record


@given(st.text("abcXYZ019-_.", min_size=1))
def test_the_value_is_a_digest_in_base64url(authorization: str) -> None:
    value = dns_names.digest(authorization)
    assert re.fullmatch(r"[A-Za-z0-9_-]{43}", value)
    assert base64.urlsafe_b64decode(value + "=") == hashlib.sha256(authorization.encode()).digest()


@given(NAME)
def test_what_encloses_a_name(name: str) -> None:
    above = enclosing(name)
    assert above[0] == name
    assert len(above) == len(name.split("."))
    assert all(within(name, one) for one in above)
    assert not within(name, "x" + name)
    assert not within("x" + name, name)


def zone(zone: str | None) -> DnsZone:
    return DnsZone(VIA, zone)


@pytest.mark.parametrize(
    ("zones", "record", "chosen"),
    [
        ((), "_acme-challenge.example.org", "nobody"),
        (("example.net",), "_acme-challenge.example.org", "nobody"),
        (("ample.org",), "_acme-challenge.example.org", "nobody"),
        (("example.org", None), "_acme-challenge.example.org", "example.org"),
        ((None, "example.org"), "_acme-challenge.example.net", None),
        (("example.org", "a.example.org"), "_acme-challenge.a.example.org", "a.example.org"),
        (("_acme-challenge.example.org",), "_acme-challenge.example.org", "_acme-challenge.example.org"),
    ],
)  # fmt: skip
def test_whose_record_it_is(zones: tuple[str | None, ...], record: str, chosen: str | None) -> None:
    found = zone_for(record, tuple(map(zone, zones)))
    assert (found.zone if found else "nobody") == chosen


@given(NAME, st.lists(NAME, unique=True))
def test_the_nearest_zone_wins(record: str, zones: list[str]) -> None:
    found = zone_for(record, tuple(map(zone, zones)))
    around = [zone for zone in zones if within(record, zone)]
    assert (found.zone if found else None) == max(around, key=len, default=None)


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=700))
def test_a_long_value_is_several_strings(value: str) -> None:
    parts = dns_names.strings(value)
    assert b"".join(parts).decode() == value
    assert all(0 < len(part) <= 255 for part in parts)
    assert dns_names.zone_file_text(value).count('"') >= 2 * len(parts)


BIND = 'key "acme.example" {\n\talgorithm hmac-sha256;\n\tsecret "aGVsbG8=";\n};\n'


@pytest.mark.parametrize(
    "text",
    ["aGVsbG8=", "aGVs\nbG8=\n", BIND, "key other { secret x; };\n" + BIND,
     "key acme.example. {algorithm hmac-sha256;secret aGVsbG8=;}"],
)  # fmt: skip
def test_a_secret_is_read_as_people_keep_it(text: str) -> None:
    assert tsig_secret(text, "acme.example") == "aGVsbG8="


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no secret"),
        ("s!cret", "no secret"),
        ('key "acme.example" { algorithm hmac-sha256; };', "no secret"),
        (BIND.replace("acme.example", "other"), "no key acme.example in it, but other"),
    ],
)
def test_a_file_without_the_secret(text: str, said: str) -> None:
    with pytest.raises(IssuanceError, match=said) as told:
        tsig_secret(text, "acme.example")
    assert "s!cret" not in told.value.text
