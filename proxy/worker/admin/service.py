"""What the admin listener answers, path by path.

/            the page, with page.css, page.js and icon.svg
/events      what the page shows, every few seconds (`events`)
/api/…       what it shows besides: a site, a backend, a certificate, what a request would meet
/act         what it may do, if the configuration says so (`access`)
/healthz     200 while balancers are to send clients here, 503 while not; without a login
/status      the document of ``status --json``
/metrics     for Prometheus (`metrics.exposition`)
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable
from functools import partial
from typing import cast
from urllib.parse import parse_qs

from acme_client.status import CertificateStatus

from ...config.model import Admin, Config
from ...errors import Fault
from ...explain import certificate as certificates
from ...explain import request as requests
from ...explain.rows import document as rows_document
from ...protocol.exchange import Exchange
from ...protocol.message import Fields, Handler, Request, Response
from ...sites.filters import Chain
from ..context import WorkerContext
from ..services import BaseService
from .access import Access, Refused
from .assets import ASSETS, SECURITY
from .events import Document, Events
from .link import AdminLink, Unanswered

# Streams of a worker at once; each costs an answer of the supervisor now and then.
_MOST_STREAMS = 32
# Streams and people who ask at the same time share an answer.
_SAME_FOR = 1.0
# A balancer waits for a second or two.
_HEALTHZ_WITHIN = 1.0
_MOST_BODY = 16 * 1024
_MOST_FIELDS = 100
# Steps of a request that is explained; a page of them is a mistake.
_MOST_LINES = 500
# Seconds for a reload or a renewal, as for those that are asked for on the command line.
_ACTS_WITHIN = 300.0


class AdminService(BaseService):
    """``chain``: the logins of the admin listener; None where there are none."""

    logs_all = False

    def __init__(
        self,
        context: WorkerContext,
        config: Config,
        admin: Admin,
        link: AdminLink,
        secret: bytes,
        chain: Chain | None = None,
    ) -> None:
        self._ending = asyncio.Event()
        super().__init__(context)
        self._config = config
        self._link = link
        self._access = Access(admin, secret)
        self._chain = chain
        self._shared_labels = context.sites.labels
        self._pages = _Pages(self)
        self._streams = 0
        self._summary: tuple[float, Document] | None = None
        self._turn = asyncio.Lock()
        # Until when it holds; why no clients are wanted: "" where they are, None: not known yet.
        self._health: tuple[float, str | None] = (0.0, None)

    @property
    def draining(self) -> bool:
        """Whether every answer is the last of its connection; streams end then."""
        return self._ending.is_set()

    @draining.setter
    def draining(self, value: bool) -> None:
        if value:
            self._ending.set()

    def logs(self, exchange: Exchange) -> bool:
        """Whether something went wrong, or was done: a monitor that looks every few seconds is no
        visitor, and would fill the access log."""
        request, response = exchange.request, exchange.response
        if response is None or response.status >= 400:
            return True
        return request is not None and request.method == b"POST"

    def finished(self, exchange: Exchange) -> None:
        """Log the exchange as any service does, but do not count it: a stream of an hour is no slow
        request."""
        counters, self.context.counters = self.context.counters, None
        try:
            super().finished(exchange)
        finally:
            self.context.counters = counters

    def _handle(self, exchange: Exchange, request: Request) -> Response | Awaitable[Response]:
        if request.path == b"/healthz" and request.method in (b"GET", b"HEAD"):
            # A balancer may send any Host, and does not log in; all that it learns is this bit.
            return self._healthz()
        self._access.check(exchange, request)
        if self._chain is None:
            return self._pages.handle(request)
        return self._chain.handle(exchange, self._pages, self._ask, self.failed)

    def refuse(self, exchange: Exchange, fault: Fault) -> Response:
        response = super().refuse(exchange, fault)
        if isinstance(fault, Refused):
            response.body = f"{response.status} {fault.told}\n".encode()
        response.fields = [*response.fields, *SECURITY]
        return response

    def failed(self, exchange: Exchange, error: Exception) -> Response:
        if isinstance(error, Unanswered):
            text = f"{error}\n".encode()
            return _content(b"text/plain; charset=utf-8", text, 504)
        return super().failed(exchange, error)

    # What is asked

    def answer(self, request: Request) -> Response | Awaitable[Response]:
        """Answer somebody who may ask."""
        path = request.path
        if path == b"/act":
            if request.method != b"POST":
                raise Fault("method_not_allowed", fields=[(b"allow", b"POST")])
            self._access.check_action(request)
            return self._act(request)
        if request.method not in (b"GET", b"HEAD"):
            raise Fault("method_not_allowed", fields=[(b"allow", b"GET, HEAD")])
        if path in ASSETS:
            kind, body = ASSETS[path]
            return _content(kind, body)
        match path:
            case b"/status":
                return self._status()
            case b"/metrics":
                return self._metrics(request)
            case b"/events":
                return self._events(request)
            case b"/api/explain":
                return self._explained(request)
            case b"/api/certificate":
                return self._certificate(request)
            case b"/api/site" | b"/api/backend" | b"/api/find":
                return self._about(path.removeprefix(b"/api/").decode(), request)
        raise Fault("not_found")

    async def _healthz(self) -> Response:
        """Tell whether clients are wanted. A supervisor that hangs is no reason to send none: what
        is served goes on."""
        now = time.monotonic()
        if now >= self._health[0] or self._health[1] is None:
            self._health = now + _SAME_FOR, self._health[1]
            try:
                told = await self._link.ask("healthz", _HEALTHZ_WITHIN)
                why = "starting" if told.get("starting") is True else "draining"
                self._health = now + _SAME_FOR, "" if told.get("wants_clients") is True else why
            except Unanswered:
                pass
        why_not = self._health[1]
        if not why_not:
            return _content(b"text/plain; charset=utf-8", b"ok\n")
        return _content(b"text/plain; charset=utf-8", f"{why_not}\n".encode(), 503)

    async def _status(self) -> Response:
        document = (await self._link.overview())["status"]
        return _content(b"application/json", json.dumps(document, indent=1).encode())

    async def _metrics(self, request: Request) -> Response:
        from ...metrics import exposition  # 3 MiB that nobody needs who does not ask

        accept = (request.field(b"accept") or b"").decode("latin-1")
        overview = await self._link.overview()
        # In a thread: the series of thousands of names take seconds.
        work = partial(exposition.render, overview, accept, self._shared_labels)
        return _content(*await asyncio.to_thread(work))

    async def _about(self, what: str, request: Request) -> Response:
        return _json(await self._link.ask(what, name=_given(request, "name")))

    async def _certificate(self, request: Request) -> Response:
        """Tell of a certificate as `why` does."""
        told = await self._link.ask("certificate", name=_given(request, "name"))
        found = cast(list[CertificateStatus], told["certificates"])
        now = time.time()
        pages = [
            {
                "name": one["name"],
                "entry": {**one, "tried": one["history"][-10:]},
                "lines": list(certificates.page(one, now)),
            }
            for one in found
        ]
        return _json({"certificates": pages})

    async def _explained(self, request: Request) -> Response:
        """Tell what a request would meet, by the configuration that is in force here."""
        lines = _given(request, "fields").splitlines()[:_MOST_FIELDS]
        question = requests.Question(
            _given(request, "method") or "GET",
            _given(request, "url").strip(),
            tuple(line for line in lines if line.strip()),
            _given(request, "from") or "192.0.2.1",
        )
        try:
            rows = await requests.explain(self._config, question, _MOST_LINES)
        except (requests.CannotExplain, ValueError) as error:
            return _json({"error": str(error)})
        return _json({"rows": rows_document(rows)})

    # The stream

    def _events(self, request: Request) -> Response:
        if self._streams >= _MOST_STREAMS:
            raise Fault("no_capacity", "too many pages are open")
        kind, name = _given(request, "kind"), _given(request, "name")

        async def ask(slots: int) -> Document:
            board = await self._board()
            history = await self._link.ask("points", kind=kind, name=name, most=slots)
            return {"board": board, "history": history, "token": self._access.token}

        fields = [(b"content-type", b"text/event-stream"), *SECURITY]
        if request.method == b"HEAD":
            return Response(200, fields, handler="admin")
        self._streams += 1
        return Response(200, fields, Events(ask, self._ending, self._ended), handler="admin")

    def _ended(self) -> None:
        self._streams -= 1

    async def _board(self) -> Document:
        async with self._turn:
            now = time.monotonic()
            if self._summary is None or now - self._summary[0] > _SAME_FOR:
                self._summary = now, await self._link.ask("summary")
            return self._summary[1]

    # What is done

    async def _act(self, request: Request) -> Response:
        body = b""
        while request.body is not None and (piece := await request.body.read()):
            body += piece
            if len(body) > _MOST_BODY:
                raise Fault("body_too_large")
        try:
            asked = json.loads(body.decode())
            action, name = asked["action"], asked["name"]
        except (ValueError, TypeError, KeyError, RecursionError):
            return _json({"ok": False, "error": "an action is {action, name}"}, 400)
        if not isinstance(action, str) or not isinstance(name, str):
            return _json({"ok": False, "error": "an action is {action, name}, both texts"}, 400)
        self._summary = None
        await self._board()  # a supervisor that hangs is not waited for so long
        document = await self._link.ask("act", _ACTS_WITHIN, action=action, name=name)
        self._summary = None
        return _json(document)


class _Pages:
    """The service's pages as a handler, behind its filters."""

    def __init__(self, service: AdminService) -> None:
        self._service = service

    def handle(self, request: Request) -> Response | Awaitable[Response]:
        return self._service.answer(request)


_: type[Handler] = _Pages


def _given(request: Request, name: str) -> str:
    """Return a parameter of the query, "" where there is none."""
    try:
        found = parse_qs(request.query.decode("ascii"), max_num_fields=16)
    except ValueError:
        return ""
    return found.get(name, [""])[0]


def _json(document: Document, status: int = 200) -> Response:
    return _content(b"application/json", json.dumps(document).encode(), status)


def _content(kind: bytes, body: bytes, status: int = 200) -> Response:
    fields: Fields = [(b"content-type", kind), *SECURITY]
    return Response(status, fields, body, handler="admin")
