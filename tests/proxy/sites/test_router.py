"""Which route takes a path, and every known way to spell a path so that its route misses it."""

from __future__ import annotations

import posixpath
from collections.abc import Callable
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.config.model import RedirectAction, Site
from proxy.config.model import Route as Configured
from proxy.errors import Fault
from proxy.protocol.message import Connection, Request, Response
from proxy.protocol.paths import understood
from proxy.sites.filters import Chain
from proxy.sites.router import Route, Router
from proxy.sites.site import SiteTable

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
    routes = tuple(Configured(path, RedirectAction(f"{first} {path}")) for path in paths or ("/*",))
    return Site(tuple(names.split()), routes, default=default)


def bound(table: SiteTable) -> SiteTable:
    """With handlers that pass the path on to backends, each with its own."""
    table.bind(
        lambda site: Router(
            [Route(one.path, Named(one.action.target), passes_on=True) for one in site.routes]
        )
    )
    return table


def router(*sites: Site) -> SiteTable:
    return bound(SiteTable(sites))


def request(host: str, target: bytes = b"/") -> Request:
    return Request(b"GET", target, b"1.1", host.encode(), host.encode(), [], PEER)


def route(of: SiteTable, host: str, target: bytes = b"/") -> str:
    """The name of the handler, or the kind of the fault."""
    match = of.find(host.encode())
    if match is None:
        return "unknown_host"
    asked = request(host, target)
    handler = match.site.router.find(asked).handler
    if isinstance(handler, Named):
        return handler.name
    with pytest.raises(Fault) as caught:
        handler.handle(asked)
    return caught.value.kind


HOSTS = router(site("example.org"))


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
        b"/admin/..",
        b"/api/..%2fadmin/",
        b"/api/..%2f..%2fadmin/",
        b"/api%2fv2",
        b"/api/%2e%2e%5cadmin/",
        b"/api\\v1",
        b"/admin/%2e%2e%2fx",
        b"/api%00/x",
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
def test_what_two_readers_could_take_for_two_routes_is_refused(path):
    assert route(PATHS, "h", path) == "bad_path"


@pytest.mark.parametrize(
    ("path", "answers"),
    [
        (b"/api/projects/group%2Fproject", "all /api/*"),
        (b"/api/%2F/guest", "all /api/*"),
        (b"/api/a%5Cb", "all /api/*"),
        (b"/api/a\\b", "all /api/*"),
        (b"/api/a%00", "all /api/*"),
        (b"/api/./a", "all /api/*"),
        (b"/api/a/../b", "all /api/*"),
        (b"/x/../y", "all /*"),
        (b"/%2f", "all /*"),
        (b"/api/../x", "bad_path"),
        (b"/api/..%2fx", "bad_path"),
        (b"/x%2f..%2fapi/", "bad_path"),
        (b"/%zz", "bad_path"),
    ],
)
def test_what_means_one_route_to_everybody_takes_it(path, answers):
    assert route(PATHS, "all", path) == answers


@pytest.mark.parametrize("path", [b"/%zz", b"/api/../x", b"/a%2f..%2fapi/", b"/%c0%ae", b"*"])
def test_where_all_routes_are_one_backend_nothing_can_be_dodged(path):
    one = Named("one")
    made = Router([Route(of, one, passes_on=True) for of in ("/api/*", "/status", "/*")])
    expected = "one" if path != b"*" else "not_found"
    found = made.find(request("h", path)).handler
    assert (found is one) == (expected == "one")


def test_routes_that_are_answered_here_read_the_path_as_the_router_does():
    files, app = Named("files"), Named("app")
    made = Router([Route("/files/*", files), Route("/*", app, passes_on=True)])
    for path, handler in (
        (b"/./files/a", files), (b"/files/./a", files), (b"//files//a", files), (b"/x/./y", app),
    ):  # fmt: skip
        assert made.find(request("h", path)).handler is handler
    asked = request("h", b"/x/../files/a")
    with pytest.raises(Fault, match="leads upwards"):
        made.find(asked).handler.handle(asked)


def test_a_path_parameter_is_the_backends_business():
    """Servlet containers cut ";x" off: what protects something behind them stands before them."""
    assert route(PATHS, "all", b"/api;x/") == "all /*"


class Guard:
    def request(self, exchange: object) -> None:
        """Let everybody in."""


GUARD = Guard()


@pytest.mark.parametrize(
    ("path", "taken"),
    [
        (b"/app/x;a=b", "/app/*"),
        (b"/app/;a=b/x;c", "/app/*"),
        (b"/secret/x;a=b", "/secret/*"),
        (b"/safe;v=1/x", "/*"),  # what protects both is the same: nothing
        (b"/app/..;/secret/x", ""),
        (b"/app/..;a=b/secret/x", ""),
        (b"/app/%2e%2e;/secret/x", ""),
        (b"/app/..%3b/secret/x", ""),
        (b"/app/..;%2fsecret/x", ""),
        (b"/secret;a=b/x", ""),
        (b"/secret%3Ba=b/x", ""),
        (b"/;/secret/x", ""),
        (b"/secret/..;/app/x", ""),
    ],
)
def test_path_parameters_are_no_way_around_what_stands_before_a_route(
    path: bytes, taken: str
) -> None:
    """Tomcat and its kin serve /secret/x for each of those that are refused."""
    guarded = Chain([GUARD])
    routes = [
        Route("/app/*", Named("app"), passes_on=True),
        Route("/safe/*", Named("safe"), passes_on=True),
        Route("/secret/*", Named("app"), guarded, passes_on=True),
        Route("/*", Named("all"), passes_on=True),
    ]
    assert Router(routes).find(request("h", path)).path == taken


@pytest.mark.parametrize("path", [b"/a/../b", b"/%2f", b"/%zz", b"*"])
def test_a_site_with_one_answer_has_nothing_to_dodge_and_passes_it_on_unread(path):
    assert route(HOSTS, "example.org", path) == "example.org /*"


def test_the_handler_is_told_what_the_asterisk_stands_behind():
    asked = request("h", b"/%61pi//v2/x")
    match = PATHS.find(b"h")
    assert match is not None
    match.site.router.find(asked)
    assert asked.matched == b"/api/v2/"


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
    segments = [segment for segment in segments if segment != b"."]
    assert [segment for segment in clear.split(b"/") if segment] == segments


@given(ODD_PATHS)
def test_whoever_decodes_the_path_below_admin_was_routed_to_admin(path):
    below = [unquote_to_bytes(segment) for segment in path.split(b"/") if segment]
    below = [segment for segment in below if segment != b"."]
    taken = route(PATHS, "all", path)
    assert taken in ("all /api/*", "all /*", "bad_path")
    if below[:1] == [b"admin"]:
        assert route(PATHS, "h", path) in ("h /admin/*", "not_found", "bad_path")


def _normal(path: bytes) -> bytes:
    """As programs normalise paths that go by the file system's rules."""
    ending = b"/" if path.endswith((b"/", b"/.", b"/..")) else b""
    return posixpath.normpath(b"/" + path.lstrip(b"/")).rstrip(b"/") + ending


READERS: dict[str, Callable[[bytes], bytes]] = {
    "decodes": unquote_to_bytes,
    "decodes, then normalises": lambda path: _normal(unquote_to_bytes(path)),
    "normalises, then decodes": lambda path: unquote_to_bytes(_normal(path)),
    "takes a backslash for a slash": lambda path: _normal(
        unquote_to_bytes(path).replace(b"\\", b"/")
    ),
    "ends at a NUL": lambda path: unquote_to_bytes(path).partition(b"\0")[0],
    "ends at a NUL, then normalises": lambda path: _normal(
        unquote_to_bytes(path).partition(b"\0")[0]
    ),
}


@given(ODD_PATHS)
@pytest.mark.parametrize("reader", READERS)
def test_no_reader_behind_gets_below_admin_by_another_route(reader: str, path: bytes) -> None:
    if READERS[reader](path).startswith(b"/admin/"):
        assert route(PATHS, "h", path) in ("h /admin/*", "not_found", "bad_path")
        assert route(ADMIN, "x", path) in ("x /admin/*", "bad_path")


ADMIN = router(site("x", "/admin/*", "/*"))
