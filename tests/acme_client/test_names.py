"""Names in their one spelling, and as people type them."""

from __future__ import annotations

import pytest

from acme_client.names import covers, typed, wildcard_of


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("shop.test", "shop.test"),
        ("Shop.TEST.", "shop.test"),
        (" shop.test ", "shop.test"),
        ("bücher.test", "xn--bcher-kva.test"),
        ("BÜCHER.test.", "xn--bcher-kva.test"),
        ("xn--bcher-kva.test", "xn--bcher-kva.test"),
        ("bücher.test/rsa", "xn--bcher-kva.test/rsa"),
        ("shop.test/ecdsa", "shop.test/ecdsa"),
        ("*.bücher.test", "*.xn--bcher-kva.test"),
        ("https://bücher.test/path?x", "xn--bcher-kva.test"),
        ("HTTPS://user@shop.test:8443", "shop.test"),
        ("192.0.2.1", "192.0.2.1"),
        ("[2001:DB8::1]", "2001:db8::1"),
        ("2001:db8:0::1", "2001:db8::1"),
        ("https://[2001:db8::1]:443/", "2001:db8::1"),
        # What is no name is shown as it is.
        ("a b", "a b"),
        ("shop.test/dsa", "shop.test/dsa"),
        ("", ""),
        ("/", "/"),
        ("https://", "https://"),
        ("\u202eevil.test", "\u202eevil.test"),
    ],
)
def test_what_people_type(text: str, name: str) -> None:
    assert typed(text) == name
    assert typed(name) == name


@pytest.mark.parametrize(
    ("certified", "name", "good"),
    [
        (("a.test",), "A.test", True),
        (("*.a.test",), "b.a.test", True),
        (("*.a.test",), "a.test", False),
        (("*.a.test",), "c.b.a.test", False),
        (("*.0.2.1",), "192.0.2.1", False),
        (("2001:db8::1",), "2001:db8:0::1", True),
        (("",), "localhost", False),
    ],
)
def test_which_names_a_certificate_covers(
    certified: tuple[str, ...], name: str, good: bool
) -> None:
    assert covers(certified, name) is good


def test_the_wildcard_of_a_name() -> None:
    assert wildcard_of("a.b.test") == "*.b.test"
    assert wildcard_of("localhost") == ""
