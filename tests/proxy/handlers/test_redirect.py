"""Where redirects lead: what is filled in, and that no request can choose another host."""

from __future__ import annotations

import re
from urllib.parse import urljoin, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.config.model import RedirectAction
from proxy.config.syntax.patterns import parse_redirect
from proxy.errors import Fault
from proxy.handlers.redirect import Redirect
from proxy.protocol.message import Connection, Request

PEER = Connection("192.0.2.9", 4711, "192.0.2.1", 443, b"https")


def location(target: str, asked: bytes, matched: bytes = b"/", host: bytes = b"h.example") -> str:
    path, mark, query = asked.partition(b"?")
    redirect = Redirect(RedirectAction(parse_redirect(target)))
    return redirect.location(path, query if mark else None, host, matched).decode("ascii")


def host_of(made: str) -> str:
    """Where a browser goes from a page of ours."""
    return urlsplit(urljoin("https://h.example/old", made)).netloc


@pytest.mark.parametrize(
    ("target", "asked", "expected"),
    [
        ("/new", b"/old/a", "/new"),
        ("/new", b"/old/a?q=1", "/new?q=1"),  # the query is kept
        ("/new?x=1", b"/old/a?q=1", "/new?x=1"),  # unless the target has its own
        ("/new#top", b"/old/a?q=1", "/new?q=1#top"),
        ("/new?{query}&x=1", b"/old/a?q=1", "/new?q=1&x=1"),
        ("/new?{query}", b"/old/a", "/new"),
        ("/new?{query}#top", b"/old/a", "/new#top"),
        ("/new/{rest}", b"/old/a/b", "/new/a/b"),
        ("/new/{rest}", b"/old/", "/new/"),
        ("/new/{rest}", b"/old/a%20b%3Fc%23d", "/new/a%20b%3Fc%23d"),
        ("/new/{rest}", b"/old/b%C3%BCcher%25", "/new/b%C3%BCcher%25"),
        ("/new/{rest}", b"/o%6cd/a", "/new/a"),
        ("/x{path}", b"/old/a", "/x/old/a"),
        ("{path}", b"/old/a", "/old/a"),
        ("https://example.org{path}", b"/old/a?q", "https://example.org/old/a?q"),
        ("https://example.org", b"/old/a?q", "https://example.org?q"),
        ("https://{host}:8443{path}", b"/old/", "https://h.example:8443/old/"),
        ("/{rest}?from={path}", b"/old/{host}?x={rest}", "/%7Bhost%7D?from=/old/%7Bhost%7D"),
        ("/n?{query}", b"/old/?a={path}", "/n?a=%7Bpath%7D"),  # what is filled in is not read again
    ],
)
def test_places_are_filled_in(target, asked, expected):
    assert location(target, asked, b"/old/") == expected


def test_an_ipv6_host_keeps_its_brackets():
    assert location("https://{host}{path}", b"/a", host=b"2001:db8::1") == "https://[2001:db8::1]/a"


@pytest.mark.parametrize(
    ("target", "asked"),
    [
        ("{path}", b"//evil.example/"),
        ("/{path}", b"/evil.example/"),
        ("/{rest}", b"//evil.example/"),
        ("/{rest}", b"/%09/evil.example/"),
        ("/{query}", b"/?/evil.example/"),
        ("/{query}", b"/?\\evil.example/"),
        ("{path}", b"///evil.example"),
        ("{path}", b"/;//evil.example"),
    ],
)
def test_a_target_of_this_site_never_leads_to_another(target, asked):
    assert host_of(location(target, asked)) == "h.example"
    assert "\\" not in location(target, asked)


def test_what_is_no_path_is_not_passed_on():
    with pytest.raises(Fault) as refused:
        location("{path}", b"*")
    assert refused.value.kind == "bad_path"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_the_answer_has_the_status_the_location_and_no_body(status):
    redirect = Redirect(RedirectAction("/new/{rest}", status))
    request = Request(b"GET", b"/old/a?q", b"1.1", b"h", b"h", [], PEER)
    request.matched = b"/old/"
    response = redirect.handle(request)
    assert (response.status, response.fields) == (status, [(b"location", b"/new/a?q")])
    assert not response.body


# The bytes that the grammar lets into a target, those that matter most often.
TARGETS = st.lists(
    st.sampled_from([b"/", b"//", b"\\", b"?", b"%0d%0a", b"%09", b"@", b":", b"evil.example", b"{host}"])
    | st.integers(0x21, 0x7E).filter(lambda byte: byte != 0x23).map(lambda byte: bytes([byte])),
    max_size=10,
).map(lambda pieces: b"/" + b"".join(pieces))  # fmt: skip
PLACES = st.lists(
    st.sampled_from(["{path}", "{rest}", "{query}", "{host}", "/", "?", "a", "#"]), max_size=6
).map("".join)


@given(st.sampled_from(["/", "{path}", "https://good.example", "https://{host}"]), PLACES, TARGETS)
def test_no_request_chooses_the_host(start, places, asked):
    try:
        target = parse_redirect(start + places)
    except ValueError:
        return  # not a target that the configuration lets through
    try:
        made = location(target, asked)
    except Fault:
        return  # refused, which is always safe
    assert re.fullmatch(r"[\x21-\x7e]+", made)
    assert not re.search(r"[\\\"<>^`{|}]", made)
    assert host_of(made) == host_of(location(target, b"/"))
