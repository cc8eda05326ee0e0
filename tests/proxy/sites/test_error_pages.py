"""Which errors have a page, and what is kept of the error and of the page."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.config import model
from proxy.config.schema.answers import ErrorPage, parse_codes
from proxy.config.schema.matching import Match
from proxy.config.syntax.faults import Wrong
from proxy.protocol.exchange import Exchange
from proxy.protocol.message import Connection, Request, Response
from proxy.sites.conditional_router import router_of
from proxy.sites.conditions import Condition
from proxy.sites.error_pages import ErrorPages
from proxy.sites.filters import Chain
from proxy.sites.router import Route
from proxy.sites.site import Match as SiteMatch
from proxy.sites.site import Site

PEER = Connection("192.0.2.9", 4711, "192.0.2.1", 443, b"https")
EXCHANGE = Exchange(PEER)


@pytest.fixture
def page(tmp_path: Path) -> Path:
    path = tmp_path / "sorry.html"
    path.write_text("sorry")
    return path


def answered(pages: ErrorPages, response: Response) -> Response:
    found = pages.response(EXCHANGE, response)
    assert isinstance(found, Response)
    return found


@pytest.mark.parametrize(
    ("handler", "error", "body", "intercept", "replaced"),
    [
        ("error", "not_found", b"404\n", False, True),
        ("static", None, b"", False, True),
        ("respond", None, b"", False, True),
        ("respond", None, b"own words", False, False),
        ("filter", None, b"", False, True),
        ("filter", None, b"own words", True, False),
        ("upstream", None, b"theirs", False, False),
        ("upstream", None, b"theirs", True, True),
        ("auth", None, b"log in", True, False),
    ],
)
def test_whose_errors_have_a_page(
    page: Path, handler: str, error: str | None, body: bytes, intercept: bool, replaced: bool
) -> None:
    pages = ErrorPages((ErrorPage((503,), page_file=page),), intercept)
    response = Response(503, [(b"x", b"y")], body, handler=handler, error=error)
    found = answered(pages, response)
    assert found.body == (b"sorry" if replaced else body)
    assert (found.status, found.handler, found.error) == (503, handler, error)
    assert (b"x", b"y") in found.fields
    fine = Response(200, [], b"fine", handler=handler)
    assert answered(pages, fine) is fine
    other = Response(404, [], b"other", handler=handler, error=error)
    assert answered(pages, other) is other


def test_what_an_error_says_of_itself_stays_and_what_it_says_of_its_text_goes(page: Path) -> None:
    pages = ErrorPages((ErrorPage(("5xx",), page_file=page),), True)
    fields = [
        (b"retry-after", b"5"), (b"set-cookie", b"a=b"), (b"content-type", b"text/plain"),
        (b"content-length", b"3"), (b"content-encoding", b"gzip"), (b"etag", b'"x"'),
        (b"last-modified", b"x"), (b"accept-ranges", b"bytes"), (b"content-language", b"de"),
    ]  # fmt: skip
    found = answered(pages, Response(500, fields, b"abc", handler="upstream"))
    assert found.fields == [
        (b"retry-after", b"5"), (b"set-cookie", b"a=b"),
        (b"content-type", b"text/html; charset=utf-8"), (b"content-length", b"5"),
    ]  # fmt: skip


def test_an_error_that_others_do_not_get_still_says_so(page: Path) -> None:
    """A 404 for those who want no HTML, where browsers get the app, is in no cache for browsers."""
    pages = ErrorPages((ErrorPage((404,), page_file=page),), False)
    vary = (b"vary", b"accept")
    for fields in ([vary], [], [vary]):
        error = Response(404, list(fields), b"x", handler="error", error="not_found")
        found = answered(pages, error)
        assert found.body == b"sorry"
        assert [field for field in found.fields if field[0] == b"vary"] == fields


def test_an_exact_status_goes_before_its_class(tmp_path: Path) -> None:
    for name in ("class", "exact", "list"):
        (tmp_path / name).write_text(name)
    pages = ErrorPages(
        (
            ErrorPage((503,), page_file=tmp_path / "exact"),
            ErrorPage(("5xx", 404), page_file=tmp_path / "class"),
            ErrorPage((502, 504), page_file=tmp_path / "list"),
        ),
        False,
    )
    for status, said in [(503, b"exact"), (502, b"list"), (500, b"class"), (599, b"class"),
                         (404, b"class"), (403, b"")]:  # fmt: skip
        found = answered(pages, Response(status, [], b"", handler="error", error="internal"))
        assert found.body == said


def test_the_same_error_is_the_same_response_for_those_who_keep_something_of_it(
    page: Path,
) -> None:
    pages = ErrorPages((ErrorPage(("4xx",), page_file=page),), False)

    def error(*fields: tuple[bytes, bytes], status: int = 404) -> Response:
        made = Response(status, [*fields], b"x", handler="error", error="not_found")
        return answered(pages, made)

    assert error() is error()
    assert error().shared
    allow = (b"allow", b"GET")
    assert error(allow) is error(allow)
    assert error(allow) is not error()
    assert error(status=410) is not error()
    cookie = (b"set-cookie", b"a=b")
    assert error(cookie) is not error(cookie)
    assert not error(cookie).shared
    for number in range(200):
        error((b"retry-after", b"%d" % number), status=429)
    assert not error((b"retry-after", b"x"), status=429).shared


@pytest.mark.parametrize(
    ("text", "codes"),
    [("404", (404,)), ("5xx", ("5xx",)), ("502, 503,502", (502, 503)), ("404,5XX", (404, "5xx"))],
)
def test_statuses_are_numbers_lists_and_classes(text: str, codes: tuple[int | str, ...]) -> None:
    assert parse_codes(text) == codes
    for wrong in ("", "200", "6xx", "404-410", "4x4", "\uff14\uff10\uff14"):
        with pytest.raises(Wrong):
            parse_codes(wrong)


class _Backend:
    """Keeps what it is asked for, and answers as it is told."""

    def __init__(self, status: int) -> None:
        self.status = status
        self.asked: list[Request] = []

    def handle(self, request: Request) -> Response:
        self.asked.append(request)
        return Response(self.status, [], b"from a backend", handler="upstream")


class _Token:
    """Gives requests what only their own backend may see, as filters of users do."""

    def request(self, exchange: Exchange) -> None:
        request = exchange.request
        assert request is not None
        kept = [field for field in request.fields if field[0] in (b"accept", b"host")]
        request.set_fields([*kept, (b"authorization", b"Bearer secret"), (b"cookie", b"secret=1")])


def test_a_page_is_asked_for_with_what_the_client_has_sent() -> None:
    """Neither with what a filter put in nor with what it took out; and the filters that are not
    asked again are those of the route that the client's own request takes."""
    app, other, page = _Backend(500), _Backend(500), _Backend(200)
    shared = Chain((_Token(),))
    site = Site(model.Site(names=("a.test",), routes=()))
    site.router = router_of(
        [
            Route(
                "/app", app, shared, condition=Condition((), Match(header=(("x-version", "2"),)))
            ),
            Route("/app", other),
            Route("/page", page, shared),
        ]
    )
    sent = [(b"accept", b"text/html"), (b"authorization", b"Bearer own"), (b"cookie", b"a=1"),
            (b"x-version", b"2")]  # fmt: skip
    request = Request(b"GET", b"/app", b"1.1", b"a.test", b"a.test", sent, PEER)
    exchange = Exchange(PEER, request)
    exchange.match = SiteMatch(site, b"a.test")
    route = site.router.find(request)
    for guard in route.guards:
        guard.request(exchange)
    error = route.handler.handle(request)
    assert isinstance(error, Response)
    pages = ErrorPages((ErrorPage((500,), path="/page"),), intercept=True)
    answered = pages.response(exchange, error)
    assert isinstance(answered, Response)
    assert (answered.status, len(app.asked), len(other.asked)) == (500, 1, 0)
    assert app.asked[0].field(b"authorization") == b"Bearer secret"
    (asked,) = page.asked
    assert asked.fields == [(b"accept", b"text/html")]
