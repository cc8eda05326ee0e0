"""Secrets are taken out of a text, however it spells them."""

from __future__ import annotations

from acme_client.challenges.redaction import redacted


def test_as_it_is_in_a_url_and_in_json() -> None:
    secret = 'a"b c&d/e'
    text = f'{secret} a%22b%20c%26d%2Fe a%22b+c%26d%2Fe a\\"b c&d/e a%22b%20c%26d/e'
    assert redacted(text, [secret]) == " ".join(["[secret]"] * 5)


def test_the_longer_one_first_and_short_ones_not_at_all() -> None:
    assert redacted("abcdefgh true", ["abcdef", "abcdefgh", "true"]) == "[secret] true"
