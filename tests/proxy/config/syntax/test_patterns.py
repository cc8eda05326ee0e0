"""Paths of routes and targets of redirects. What targets lead to: tests/proxy/handlers."""

from __future__ import annotations

import pytest

from proxy.config.syntax.faults import Wrong
from proxy.config.syntax.patterns import (
    is_prefix,
    parse_redirect,
    parse_route_path,
    placeholders,
    same_requests,
)


@pytest.mark.parametrize(
    "text", ["/", "/*", "/a", "/a/", "/a/*", "/a/b.c/*", "/b%C3%BCcher/*", "/a/%2A", "/@x/;y=1,2"]
)
def test_a_route_is_a_path_or_everything_below_one(text):
    assert parse_route_path(text) == text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a", "does not start with a slash"),
        ("*", "does not start with a slash"),
        ("https://example.org/a", "does not start with a slash"),
        ("/a*", "asterisk in the wrong place"),
        ("/*/a", "asterisk in the wrong place"),
        ("/**", "asterisk in the wrong place"),
        ("/a?b", "by the path alone"),
        ("/a#b", "by the path alone"),
        ("/a b", "percent-encode"),
        ("/bücher", "percent-encode"),
        ("/a%", "percent-encode"),
        ("/a%2", "percent-encode"),
        ("/a\\b", "percent-encode"),
        ("/a\0", "percent-encode"),
        ("//a", "empty or dot segments"),
        ("/a//*", "empty or dot segments"),
        ("/a/../b", "empty or dot segments"),
        ("/a/.", "empty or dot segments"),
        ("/a/%2e%2E/*", "empty or dot segments"),
        ("/a%2fb", "encoded slash"),
        ("/a%5Cb/*", "encoded slash"),
        ("/%00", "encoded slash"),
    ],
)
def test_a_route_that_no_request_would_take_is_refused(text, said):
    with pytest.raises(Wrong, match=said):
        parse_route_path(text)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("/a", "/%61", True),
        ("/b%c3%bc/*", "/b%C3%BC/*", True),
        ("/a", "/a/", False),
        ("/a/", "/a/*", False),
        ("/a/*", "/a/%2A", False),
        ("/a", "/A", False),
    ],
)
def test_two_spellings_of_a_route_are_found_out(one, other, same):
    assert (same_requests(one) == same_requests(other)) is same
    assert is_prefix(one) == one.endswith("/*")


@pytest.mark.parametrize(
    "text",
    [
        "/", "/new/{rest}", "{path}", "/{path}", "/x?{query}#top", "https://example.org",
        "https://example.org{path}", "https://example.org/a?b", "http://[2001:db8::1]:8080{path}",
        "https://{host}:8443{path}?{query}", "https://{host}", "https://example.org#top",
        "https://example.org?{query}",
    ],
)  # fmt: skip
def test_a_target_is_a_path_or_an_address(text):
    assert parse_redirect(text) == text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "neither a path"),
        ("new", "neither a path"),
        ("//example.org", "two slashes"),
        ("ftp://example.org", "neither a path"),
        ("javascript:alert(1)", "neither a path"),
        ("https:///x", "neither a path"),
        ("https://user@example.org/", "neither a path"),
        ("https://example.org{rest}", "neither a path"),  # would lengthen the name
        ("https://example.org{query}", "neither a path"),
        ("https://example.org:{rest}", "neither a path"),
        ("https://{host}{host}", "neither a path"),
        ("https://{rest}.example.org/", "neither a path"),
        ("{rest}", "neither a path"),
        ("{host}/x", "neither a path"),
        ("/{pfad}", "not a placeholder"),
        ("/{paht}", "did you mean path"),
        ("/{", "brace"),
        ("/}{", "brace"),
        ("/{{path}}", "brace"),
        ("/a b", "percent-encode"),
        ("/\\evil", "percent-encode"),
        ("/ü", "percent-encode"),
        ("/%zz", "percent-encode"),
        ("/a\r\nSet-Cookie: x", "line break"),
    ],
)
def test_anything_else_is_no_target(text, said):
    with pytest.raises(Wrong, match=said):
        parse_redirect(text)


def test_the_places_of_a_target_can_be_asked_for():
    assert placeholders("https://{host}/{rest}?{query}") == {"host", "rest", "query"}
    assert placeholders("/x") == set()
