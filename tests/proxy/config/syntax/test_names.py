"""The names of sites: one spelling of each, and who could certify it."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.config.syntax import names
from proxy.config.syntax.faults import Wrong
from proxy.config.syntax.names import is_wildcard, parse_name, publicly_certifiable
from proxy.protocol.h1.grammar import normalise_host

LONG_LABEL = "a" * 63
LONG_NAME = ".".join([LONG_LABEL] * 3 + ["a" * 61])  # 253 characters


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("example.org", "example.org"),
        (" Example.ORG ", "example.org"),
        ("example.org.", "example.org"),
        ("localhost", "localhost"),
        ("*.example.org", "*.example.org"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("BÜCHER.example", "xn--bcher-kva.example"),
        ("*.bücher.example", "*.xn--bcher-kva.example"),
        ("straße.example", "xn--strae-oqa.example"),  # IDNA 2008, as browsers do now
        ("例え。テスト", "xn--r8jz45g.xn--zckzah"),  # the ideographic full stop is a dot
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("192.0.2.1", "192.0.2.1"),
        ("2001:DB8::0:1", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("1.example.org", "1.example.org"),
        (LONG_NAME, LONG_NAME),
    ],
)
def test_a_name_has_one_spelling(text, name):
    assert parse_name(text) == name
    assert parse_name(name) == name


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "nothing"),
        (".", "nothing"),
        ("example..org", "nothing between two dots"),
        (".example.org", "nothing between two dots"),
        ("https://example.org", "is a URL"),
        ("example.org/", "more than a name"),
        ("example.org:443", "more than a name"),
        ("me@example.org", "more than a name"),
        ("exa mple.org", "several names in one word"),
        ("-a.org", "other characters"),
        ("a-.org", "other characters"),
        ("a,b.org", r"several names in one word .write a list: names: \[a, b.org\]"),
        ("*", "asterisk"),
        ("*.", "asterisk"),
        ("*.*.org", "asterisk"),
        ("www.*.org", "asterisk"),
        ("*a.org", "asterisk"),
        ("192.0.2", "neither an IP address nor"),
        ("192.0.2.256", "neither an IP address nor"),
        ("010.0.0.1", "neither an IP address nor"),
        ("*.192.0.2.1", "neither an IP address nor"),
        ("fe80::1%eth0", "more than a name"),
        ("a" * 64 + ".org", "longer than 63"),
        ("*." + LONG_NAME, "longer than 253"),
        ("b\u200dücher.example", "not a domain name"),
        ("☃☃\u0000.example", "not a domain name"),
        ("a\n.org", "other characters"),
    ],
)
def test_anything_else_is_no_name(text, said):
    with pytest.raises(Wrong, match=said) as wrong:
        parse_name(text)
    assert str(wrong.value).isprintable()


@pytest.mark.parametrize(
    ("name", "public"),
    [
        ("example.org", True),
        ("*.example.org", True),
        ("mytest", False),
        ("contest.org", True),
        ("localhost", False),
        ("a.localhost", False),
        ("*.localhost", False),
        ("app.internal", False),
        ("a.test", False),
        ("nas.local", False),
        ("router.home.arpa", False),
        ("nas.lan", False),
        ("nas.home", False),
        ("wiki.corp", False),
        ("lan.example.org", True),
        ("8.8.8.8", True),
        ("2606:4700::1111", True),
        ("10.0.0.1", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("169.254.1.1", False),
        ("100.64.0.1", False),
        ("127.0.0.1", False),
        ("0.0.0.0", False),
        ("::1", False),
        ("fe80::1", False),
        ("fd00::1", False),
        ("192.0.2.1", False),
    ],
)
def test_who_could_certify_it(name, public):
    assert publicly_certifiable(name) is public


@given(st.text(max_size=30) | st.from_regex(r"[a-zA-Z0-9.*:\[\]-]{1,30}", fullmatch=True))
def test_a_name_is_what_the_host_field_is_compared_with(text):
    """Whatever the configuration lets through can be asked for, in the very same spelling."""
    try:
        name = parse_name(text)
    except Wrong:
        return
    assert parse_name(name) == name
    assert name == name.lower()
    asked = name.replace("*", "x", 1) if is_wildcard(name) else name
    authority = f"[{asked}]" if ":" in asked else asked
    assert normalise_host(authority.upper().encode("ascii")) == asked.encode("ascii")


@given(st.text(alphabet="ab0-_.Aü\n", max_size=12) | st.from_regex(names._USUAL, fullmatch=True))
def test_a_usual_name_is_read_like_any_other(text):
    """What is taken as it stands is what a reading in full would have made of it."""
    assert _read(text) == _read(text, usual=re.compile("(?!)"))


def _read(text, usual=names._USUAL):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(names, "_USUAL", usual)
        try:
            return parse_name(text)
        except Wrong as wrong:
            return str(wrong)
