"""Gives errors another body: `error_pages`. A response filter, the first behind the handler.

A page is a file on the disk, read when the worker starts, or a path of the site, which is asked for
as a client would ask: with GET or HEAD, by the site's routes. The status stays what it was, and so
do the fields that explain it (Retry-After, Allow, WWW-Authenticate). Errors that this server makes
get their page; a backend's own only where `intercept` says so.

Why it is hard: the page is asked for on behalf of somebody who has just been refused something.
The filters before the page's route are asked whether this client may have it, but for those that
stand before the refused route as well: whoever puts both behind one password wants this page shown
to those who lack it. What filters have made of the refused request, or would have (a password taken
out, a token of the login service's put in), was for that request's backend. So the page is asked
for with what the client itself has sent, without the fields that those filters take. A page that
cannot be had, for whatever reason, leaves the error as it was; an error of the page's own never has
a page, so nothing goes in circles.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from pathlib import Path

from ..config.schema.answers import ErrorPage
from ..errors import FAULTS, Blame
from ..handlers.files.media_types import content_type
from ..handlers.upstream.handler import Upstream
from ..protocol.exchange import Exchange
from ..protocol.message import Fields, Handler, Request, Response, Tunnel
from .filters import RequestFilter, TakingFilter, first_answer
from .rewriting import Rewriting
from .router import Refusing, Route
from .site import Match

# A page on the disk is kept in memory; bytes.
_LARGEST = 1024 * 1024  # as `config.checks.pages` has it
_OF_PAGES = frozenset(
    {b"content-type", b"content-encoding", b"content-language", b"content-length", b"vary"}
)
# Of the error's own content, which is not sent. What decides whether there is an error stays: Vary.
_OF_CONTENT = (_OF_PAGES - {b"vary"}) | {
    b"etag",
    b"last-modified",
    b"accept-ranges",
    b"content-disposition",
    b"content-location",
    b"content-digest",
    b"repr-digest",
    b"content-md5",
}
# What an error says beside its content, in so few ways that each may be kept.
_OF_FEW_VALUES = frozenset({b"allow", b"retry-after", b"vary", b"www-authenticate"})
_MOST_KEPT = 64
# What the page is asked for with, of what the client sent.
_ASKED_WITH = frozenset(
    {b"accept", b"accept-encoding", b"accept-language", b"authorization", b"cookie", b"host",
     b"user-agent", b"x-forwarded-for", b"x-request-id"}
)  # fmt: skip


_Page = str | Response


class ErrorPages:
    """``pages`` as configured, more exact statuses before classes. ``intercept``: for the errors
    of backends as well. Reads the files. Raises `OSError`."""

    def __init__(self, pages: tuple[ErrorPage, ...], intercept: bool) -> None:
        self._pages = _by_status(pages)
        self._intercept = intercept

    def response(self, exchange: Exchange, response: Response) -> Response | Awaitable[Response]:
        """The response with the body of its page; the same one where it has none."""
        if response.status < 400:
            return response
        page = self._pages.get(response.status)
        if page is None or isinstance(response.body, Tunnel) or not self._replaces(response):
            return response
        if isinstance(page, Response):
            return _answered(response, page)
        return self._asked(exchange, response, page)

    def settle(self, response: Response) -> Response | None:
        """The response itself, if it is no error."""
        return response if response.status < 400 else None

    def _replaces(self, response: Response) -> bool:
        if response.error is not None:
            return True
        match response.handler:
            case "static":
                return True
            case "respond" | "filter":  # what an operator has written is no error without words
                return not response.body
            case "upstream":
                return self._intercept
        return False  # a login service's own answer

    def _asked(
        self, exchange: Exchange, response: Response, path: str
    ) -> Response | Awaitable[Response]:
        """The response with what the site answers for ``path``."""
        refused, match = exchange.request, exchange.match
        if refused is None or not isinstance(match, Match):
            return response
        router = match.site.router
        try:
            first = router.find(_as_sent(refused))
            request = _request(refused, path, first.guards)
            asking = Exchange(exchange.connection, request, exchange.started)
            asking.match = match
            route = router.find(request)
            if isinstance(route.handler, Refusing) or _is_down(response, first, route):
                return response
            guards = _besides(route.guards, first.guards)
            for place, guard in enumerate(guards):
                found = guard.request(asking)
                if isinstance(found, Response):
                    found.discard()
                    return response
                if found is not None:
                    return self._guarded(asking, response, route, found, guards[place + 1 :])
            given = route.handler.handle(request)
        except Exception:  # whatever it is: a page that cannot be had leaves the error as it was
            return response
        if isinstance(given, Response):
            return _answered(response, given)
        return self._awaited(response, given)

    async def _guarded(
        self,
        asking: Exchange,
        response: Response,
        route: Route,
        found: Awaitable[Response | None],
        guards: tuple[RequestFilter, ...],
    ) -> Response:
        """The same where a filter takes its time."""
        request = asking.request
        assert request is not None  # noqa: S101 - made with one
        try:
            refusal = await first_answer(asking, found, guards)
            if refusal is not None:
                refusal.discard()
                return response
            page = route.handler.handle(request)
        except Exception:  # whatever it is: a page that cannot be had leaves the error as it was
            return response
        if isinstance(page, Response):
            return _answered(response, page)
        return await self._awaited(response, page)

    @staticmethod
    async def _awaited(response: Response, given: Awaitable[Response]) -> Response:
        try:
            page = await given
        except Exception:  # whatever it is: a page that cannot be had leaves the error as it was
            return response
        return _answered(response, page)


def _by_status(pages: tuple[ErrorPage, ...]) -> Mapping[int, _Page]:
    found: dict[int, _Page] = {}
    for exact in (False, True):
        for one in pages:
            page: _Page = one.path if one.page_file is None else _read(one.page_file)
            for code in one.codes:
                if isinstance(code, int):
                    if exact:
                        found[code] = page
                elif not exact:
                    first = int(code[0]) * 100
                    found |= dict.fromkeys(range(first, first + 100), page)
    return found


def _read(path: Path) -> Response:
    with path.open("rb") as file:
        body = file.read(_LARGEST + 1)
    if len(body) > _LARGEST:
        raise OSError(f"{path} is larger than 1 MiB")
    fields = [
        (b"content-type", content_type(str(path).encode())),
        (b"content-length", b"%d" % len(body)),
    ]
    return Response(200, fields, body, handler="static", shared=True)


def _as_sent(refused: Request) -> Request:
    """The request as the client sent it: filters may have changed a field that routes go by."""
    if refused.fields is refused.fields_as_sent:
        return refused
    return _request_with(refused, refused.method, refused.target, refused.fields_as_sent)


def _request(refused: Request, path: str, asked: tuple[RequestFilter, ...]) -> Request:
    """The request for a page, on behalf of the client that was refused. ``asked`` are the filters
    of the route that refused it."""
    method = b"HEAD" if refused.method == b"HEAD" else b"GET"
    sent = refused.fields_as_sent
    taken = {name for one in asked if isinstance(one, TakingFilter) for name in one.takes}
    if refused.fields is not sent:
        now = set(refused.fields)
        taken.update(name for name, value in sent if (name, value) not in now)
    fields = [field for field in sent if field[0] in _ASKED_WITH and field[0] not in taken]
    return _request_with(refused, method, path.encode(), fields)


def _request_with(refused: Request, method: bytes, target: bytes, fields: Fields) -> Request:
    return Request(
        method,
        target,
        refused.version,
        refused.authority,
        refused.host,
        fields,
        refused.connection,
    )


def _besides(
    guards: tuple[RequestFilter, ...], asked: tuple[RequestFilter, ...]
) -> tuple[RequestFilter, ...]:
    """Those of the filters that are not among those that have been ``asked``."""
    return tuple(one for one in guards if not any(one is other for other in asked))


def _is_down(response: Response, first: Route, page: Route) -> bool:
    """Whether the page would be asked of the very backend that could not answer."""
    kind = FAULTS.get(response.error or "")
    if kind is None or kind.blame is not Blame.BACKEND:
        return False
    asked = _unwrapped(page.handler)
    return isinstance(asked, Upstream) and asked is _unwrapped(first.handler)


def _unwrapped(handler: Handler) -> Handler:
    return handler.handler if isinstance(handler, Rewriting) else handler


def _answered(response: Response, page: Response) -> Response:
    """The error with the body of a page; as it was where the page is none."""
    if page.status != 200 or isinstance(page.body, Tunnel):
        page.discard()
        return response
    response.discard()
    said = [field for field in response.fields if field[0] not in _OF_CONTENT]
    # The same error with the same page is the same response, which filters may keep.
    few = all(name in _OF_FEW_VALUES for name, _ in said)
    alike = page.shared and few and not response.close and response.backend is None
    key = ErrorPages, response.status, response.error, *said
    if alike and page.kept is not None and (found := page.kept.get(key)) is not None:
        return found
    made = response.copy()
    made.fields = said + [
        field for field in page.fields if field[0] in _OF_PAGES and field not in said
    ]
    made.body = page.body
    made.cached = None
    if alike and len(page.kept or ()) < _MOST_KEPT:
        made.shared = True
        page.keep(key, made)
    return made
