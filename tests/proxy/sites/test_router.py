"""Who answers: hosts, paths, and every known way to spell a path so that a route misses it."""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.config.model import RedirectAction, Route, Site
from proxy.errors import Fault
from proxy.protocol.message import Connection, Request, Response
from proxy.sites.router import Router, understood

PEER = Connection("192.0.2.9", 4711, "192.0.2.1", 443, b"https")


class Named:
    """A handler that is only ever asked for its name."""

    def __init__(self, name: str) -> None:
        self.name = name

    async def handle(self, request: Request) -> Response:
        raise NotImplementedError


def site(names: str, *paths: str, default: bool = False) -> Site:
    """Each route's handler is called like the first name and the route's path."""
    first = names.split()[0]
    routes = tuple(Route(path, RedirectAction(f"{first} {path}")) for path in paths or ("/*",))
    return Site(tuple(names.split()), routes, default=default)


def router(*sites: Site) -> Router:
    made = Router(sites)
    made.bind(lambda action: Named(action.target))
    return made


def request(host: str, target: bytes = b"/") -> Request:
    return Request(b"GET", target, b"1.1", host.encode(), host.encode(), [], PEER)


def route(of: Router, host: str, target: bytes = b"/") -> str:
    """The name of the handler, or the kind of the fault."""
    try:
        return of.route(request(host, target)).name
    except Fault as fault:
        return fault.kind


HOSTS = router(
    site("example.org www.example.org"),
    site("*.example.org"),
    site("a.b.example.org"),
    site("2001:db8::1 192.0.2.1"),
    site("xn--bcher-kva.example"),
)


@pytest.mark.parametrize(
    ("host", "answers"),
    [
        ("example.org", "example.org /*"),
        ("www.example.org", "example.org /*"),  # exact before wildcard
        ("shop.example.org", "*.example.org /*"),
        ("b.example.org", "*.example.org /*"),
        ("a.b.example.org", "a.b.example.org /*"),
        ("c.b.example.org", "unknown_host"),  # an asterisk is one label
        ("*.example.org", "*.example.org /*"),  # no DNS name, and harmless
        ("notexample.org", "unknown_host"),
        ("org", "unknown_host"),
        ("", "unknown_host"),
        (".example.org", "*.example.org /*"),  # the grammar of Host refuses it before
        ("2001:db8::1", "2001:db8::1 /*"),
        ("192.0.2.1", "2001:db8::1 /*"),
        ("192.0.2.2", "unknown_host"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example /*"),
    ],
)
def test_a_host_finds_its_site(host, answers):
    assert route(HOSTS, host) == answers
    assert HOSTS.knows(host.encode()) == (answers != "unknown_host")


def test_whom_nobody_knows_goes_to_the_default_site_and_is_still_not_known():
    some = router(site("example.org"), site("fallback.example", default=True))
    assert route(some, "elsewhere.example") == "fallback.example /*"
    assert not some.knows(b"elsewhere.example")


def test_without_a_site_every_host_is_unknown():
    assert route(router(), "example.org") == "unknown_host"


PATHS = router(
    site("h", "/", "/api", "/api/*", "/api/v2/*", "/api/v2/status", "/admin/*", "/b%C3%BCcher/*"),
    site("all", "/api/*", "/*"),
)


@pytest.mark.parametrize(
    ("path", "answers"),
    [
        (b"/", "h /"),
        (b"/api", "h /api"),
        (b"/api/", "h /api/*"),
        (b"/api/v1", "h /api/*"),
        (b"/api/v2", "h /api/*"),
        (b"/api/v2/", "h /api/v2/*"),
        (b"/api/v2/status", "h /api/v2/status"),
        (b"/api/v2/status/", "h /api/v2/*"),
        (b"/api/v2/status?x=/../admin/", "h /api/v2/status"),  # a query is no path
        (b"/apis", "not_found"),
        (b"/admin", "not_found"),
        (b"/Admin/", "not_found"),  # paths differ by case, RFC 9110 §4.2.3
        (b"/b%c3%bccher/1", "h /b%C3%BCcher/*"),
        (b"*", "not_found"),  # OPTIONS *
    ],
)
def test_the_longest_path_wins_and_an_exact_one_before_it(path, answers):
    assert route(PATHS, "h", path) == answers


@pytest.mark.parametrize(
    "path",
    [
        b"/admin/",
        b"//admin/",
        b"/admin//",
        b"///admin///x",
        b"/%61dmin/",
        b"/%61%64%6D%69%6e/x",
        b"/admin/%2561",  # decoded once, here and behind
        b"/admin/;x",
    ],
)
def test_spelling_a_path_differently_does_not_dodge_its_route(path):
    assert route(PATHS, "h", path) == "h /admin/*"


@pytest.mark.parametrize(
    "path",
    [
        b"/a/../admin/",
        b"/a/%2e%2e/admin/",
        b"/a/.%2E/admin/",
        b"/./admin/",
        b"/admin/.",
        b"/admin/..",
        b"/a%2fadmin/",
        b"/admin%2F",
        b"/admin%5cx",
        b"/admin\\x",
        b"/admin/%00",
        b"/admin/%",
        b"/admin/%4",
        b"/admin/%zz",
        b"/admin/%u002f",
        b"/a/%c0%ae%c0%ae/admin/",
        b"/%C0%AFadmin/",
        b"/%e0%80%afadmin/",
        b"/%F0%80%80%AFadmin/",
    ],
)
@pytest.mark.parametrize("host", ["h", "all"])
def test_what_two_readers_could_take_for_two_paths_is_refused_where_routes_differ(host, path):
    assert route(PATHS, host, path) == "bad_path"


def test_a_path_parameter_is_the_backends_business():
    """Servlet containers cut ";x" off: what protects something behind them stands before them."""
    assert route(PATHS, "all", b"/api;x/") == "all /*"


@pytest.mark.parametrize("path", [b"/a/../b", b"/%2f", b"/%zz", b"*"])
def test_a_site_with_one_answer_has_nothing_to_dodge_and_passes_it_on_unread(path):
    assert route(HOSTS, "example.org", path) == "example.org /*"


def test_the_handler_is_told_what_the_asterisk_stands_behind():
    asked = request("h", b"/%61pi//v2/x")
    PATHS.route(asked)
    assert asked.matched == b"/api/v2/"


def test_all_names_of_a_site_share_their_handlers():
    made = []
    some = Router((site("a.example b.example", "/x", "/*"),))
    some.bind(lambda action: made.append(action) or Named(action.target))
    assert len(made) == 2
    assert some.route(request("a.example")) is some.route(request("b.example"))


# Pieces that paths are made of, and those that traversals are made of
PIECES = st.sampled_from(
    [b"/", b"//", b".", b"..", b"%2e", b"%2f", b"%5C", b"\\", b"%00", b"%", b"%25", b"a", b"%61",
     b"admin", b"%61dmin", b";", b"%c0%ae", b"%c3%bc", b"+", b"~"]
)  # fmt: skip
# The bytes that the grammar of a request's target lets through.
ADMITTED = st.text(
    st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="#?"), max_size=30
).map(lambda tail: b"/" + tail.encode())
ODD_PATHS = st.lists(PIECES, max_size=8).map(lambda pieces: b"/" + b"".join(pieces))


@given(ODD_PATHS | ADMITTED)
def test_an_understood_path_has_no_second_reading(path):
    try:
        clear = understood(path)
    except Fault:
        return  # refused, which is always safe
    assert clear.startswith(b"/")
    assert b"//" not in clear
    assert b"\\" not in clear
    assert b"\0" not in clear
    assert not {b".", b".."} & set(clear.split(b"/"))
    # As many segments as a reader sees who splits first and decodes then.
    segments = [unquote_to_bytes(segment) for segment in path.split(b"/") if segment]
    assert [segment for segment in clear.split(b"/") if segment] == segments


@given(ODD_PATHS)
def test_whoever_decodes_the_path_below_admin_was_routed_to_admin(path):
    below = [unquote_to_bytes(segment) for segment in path.split(b"/") if segment][:2]
    taken = route(PATHS, "all", path)
    assert taken in ("all /api/*", "all /*", "bad_path")
    if below[:1] == [b"admin"]:
        assert route(PATHS, "h", path) in ("h /admin/*", "not_found", "bad_path")


def test_a_host_that_came_on_demand_has_its_sites_answers_and_no_others():
    guests: dict[bytes, bytes] = {}
    some = Router(
        (site("shops.example", "/a", "/*"), site("*.own.example"), site("d.example", default=True)),
        guests,
    )
    some.bind(lambda action: Named(action.target))
    assert route(some, "shop.example") == "d.example /*"
    assert not some.knows(b"shop.example")
    guests[b"shop.example"] = b"shops.example"
    assert route(some, "shop.example", b"/a") == "shops.example /a"
    assert some.knows(b"shop.example")
    assert not some.configured(b"shop.example")
    # What is configured comes first, and a guest of a site that is gone has none.
    guests[b"x.own.example"] = guests[b"d.example"] = b"shops.example"
    assert route(some, "x.own.example") == "*.own.example /*"
    assert route(some, "d.example") == "d.example /*"
    guests[b"lost.example"] = b"gone.example"
    assert route(some, "lost.example") == "d.example /*"
    del guests[b"shop.example"]
    assert route(some, "shop.example") == "d.example /*"
