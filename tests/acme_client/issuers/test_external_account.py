"""Keys of external accounts, as people paste them."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acme_client.errors import IssuanceError
from acme_client.issuers.external_account import mac_key

KEY = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajV_-"


@given(st.binary(min_size=1, max_size=80), st.sampled_from(["", "\n", "\r\n", " \n\n"]))
def test_whatever_a_ca_hands_out_is_taken(raw: bytes, end: str) -> None:
    padded = base64.urlsafe_b64encode(raw).decode()
    for text in (padded, padded.rstrip("=")):
        assert mac_key(text + end) == padded.rstrip("=")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty"),
        (" \n", "empty"),
        (f"kid-1 {KEY}", "more than the key"),
        (f"{KEY}\n{KEY}\n", "more than the key"),
        (KEY.replace("_", "/"), "base64 and not in base64url"),
        (KEY.replace("-", "+"), "base64 and not in base64url"),
        (f'"{KEY}"', """has no '"'"""),
        (f"<{KEY}>", "has no '<' '>'"),
        (f"\ufeff{KEY}", r"has no '\ufeff'"),
        (f"{KEY}===", "not in base64url"),
        ("=" + KEY, "not in base64url"),
        (KEY[:-1], "cut off"),
    ],
)
def test_what_is_wrong_with_it_is_said_without_saying_it(text: str, said: str) -> None:
    with pytest.raises(IssuanceError) as caught:
        mac_key(text)
    assert caught.value.kind == "settings"
    assert said in caught.value.text
    assert KEY[:8] not in caught.value.text
