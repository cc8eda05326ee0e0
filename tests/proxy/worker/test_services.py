"""The service of port 443: which host, which path, and what fails."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from proxy.config.model import Hsts, Limits, RefuseAction, Site
from proxy.config.model import Route as Configured
from proxy.errors import Fault
from proxy.handlers.files.handler import FileHandler
from proxy.handlers.upstream.request_head import PSEUDONYM
from proxy.protocol.exchange import Exchange
from proxy.protocol.h1.serializer import SerialisedHead
from proxy.protocol.message import Connection, Handler, Request, Response
from proxy.sites.filters import Chain, Fixed
from proxy.sites.response_fields import StrictTransportSecurity
from proxy.sites.router import Refusing, Route, Router
from proxy.sites.site import SiteTable
from proxy.transport.clock import Clock
from proxy.worker.context import WorkerContext
from proxy.worker.services import HttpsService, ToHttps


@pytest.fixture
def files(tmp_path: Path) -> FileHandler:
    (tmp_path / "a.txt").write_bytes(b"apple")
    return FileHandler(tmp_path, Clock())


HSTS = Fixed([StrictTransportSecurity(Hsts(max_age=60.0))])


def service_with(handler: Handler, chain: Chain | None = None) -> HttpsService:
    """Serves a.test, with one handler for every path but /nowhere/."""
    parts: Any = SimpleNamespace()
    action = RefuseAction()
    sites = SiteTable([Site(("a.test",), (Configured("/*", action),))])
    nowhere = Route("/nowhere/*", Refusing("not_found"), chain)
    sites.bind(lambda _site: Router([nowhere, Route("/*", handler, chain)], chain))
    context = WorkerContext(
        sites=sites, challenges=parts, certificates=parts, limits=Limits(body_size=10),
        clock=Clock(), access_log=None, https_port=443, limit_reporter=parts,
    )  # fmt: skip
    return HttpsService(context)


def request(path: bytes = b"/a.txt", host: bytes = b"a.test") -> Request:
    connection = Connection("192.0.2.1", 1, "192.0.2.2", 443, b"https")
    connection.certificate_names = ("a.test", "b.test")
    return Request(b"GET", path, b"1.1", host, host, [(b"host", host)], connection)


async def answer(service: HttpsService, one: Request) -> Response:
    exchange = Exchange(one.connection, one)
    given = service.handle(exchange)
    try:
        return given if isinstance(given, Response) else await given
    except Exception as error:
        return service.failed(exchange, error)


@pytest.mark.parametrize("hsts", [False, True])
async def test_a_file_is_answered_at_once_and_with_hsts(files: FileHandler, hsts: bool) -> None:
    secure = service_with(files, Chain((), [HSTS]) if hsts else None)
    for _ in range(2):
        one = request()
        given = secure.handle(Exchange(one.connection, one))
        assert isinstance(given, Response)
        assert (given.status, given.body) == (200, b"apple")
        said = [value for name, value in given.fields if name == b"strict-transport-security"]
        assert said == ([b"max-age=60"] if hsts else [])
        assert isinstance(given.cached, SerialisedHead)
        assert given.cached.wire.count(b"strict-transport-security: max-age=60\r\n") == hsts
    assert secure.context.in_flight == 2


async def test_a_host_is_looked_at_first(files: FileHandler) -> None:
    secure = service_with(files)
    one = request()
    assert (await answer(secure, one)).status == 200
    for host, status in ((b"b.test", 404), (b"c.test", 421)):
        other = request(host=host)
        other.connection.authorized_host = b"a.test"
        assert (await answer(secure, other)).status == status


async def test_a_request_filter_comes_before_a_file_that_is_known_already(
    files: FileHandler,
) -> None:
    class Closed:
        def request(self, exchange: Exchange) -> None:
            raise Fault("rate_limited")

    assert (await answer(service_with(files), request())).status == 200
    assert (await answer(service_with(files, Chain([Closed()])), request())).status == 429


async def test_what_is_refused_here_passes_the_filters_of_responses_too(files: FileHandler) -> None:
    secure = service_with(files, Chain((), [HSTS]))
    large = request()
    large.body = SimpleNamespace(length=11, limits=secure.limits)  # type: ignore[assignment] # all that is looked at
    for one, status in (
        (request(b"/nowhere/a"), 404), (request(b"/nothing"), 404), (request(b"/%zz"), 400),
        (request(b"/a.txt/x"), 404), (large, 413),
    ):  # fmt: skip
        given = await answer(secure, one)
        assert given.status == status
        assert (b"strict-transport-security", b"max-age=60") in given.fields
    for host in (b"b.test", b"c.test"):  # of no site, or of none that this connection is for
        given = await answer(secure, request(host=host))
        assert b"strict-transport-security" not in dict(given.fields)
    assert secure.context.in_flight == 7


async def test_whatever_fails_is_an_answer() -> None:
    class Broken:
        def handle(self, request: Request) -> Response | Awaitable[Response]:
            if request.path == b"/at-once":
                raise RuntimeError("at once")
            return self.later(request)

        async def later(self, request: Request) -> Response:
            await asyncio.sleep(0)
            if request.path == b"/fault":
                raise Fault("backend_refused")
            raise RuntimeError("later")

    secure = service_with(Broken())
    found = {path: (await answer(secure, request(path))).status
             for path in (b"/at-once", b"/later", b"/fault")}  # fmt: skip
    assert found == {b"/at-once": 500, b"/later": 500, b"/fault": 502}


@pytest.mark.parametrize(
    ("port", "target", "location"),
    [
        (443, b"/a?b", b"https://a.test/a?b"),
        (8443, b"/a?b", b"https://a.test:8443/a?b"),
        # OPTIONS * is about the server; with the asterisk it would be another host (RFC 9112 §3.2.4).
        (443, b"*", b"https://a.test"),
        (8443, b"*", b"https://a.test:8443"),
    ],
)
def test_where_port_80_sends_people(port: int, target: bytes, location: bytes) -> None:
    certificates: Any = SimpleNamespace(find=lambda _name: object())
    assert ToHttps(certificates, port).handle(request(target)).fields == [(b"location", location)]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (None, 308),
        (b"another-1", 308),  # another machine of ours, or another program
        (PSEUDONYM, "loop"),
        (b"another-1, " + PSEUDONYM, "loop"),
    ],
    ids=["nobody", "another", "itself", "both"],  # its name is another one in each process
)
def test_port_80_does_not_send_this_server_round(given: bytes | None, told: int | str) -> None:
    certificates: Any = SimpleNamespace(find=lambda _name: object())
    asked = request(b"/")
    if given is not None:
        asked.fields.append((b"cdn-loop", given))
    try:
        found: int | str = ToHttps(certificates, 443).handle(asked).status
    except Fault as fault:
        found = fault.kind
    assert found == told
