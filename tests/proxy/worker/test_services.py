"""The service of port 443: which host, which path, and what fails."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from proxy.config.model import Hsts, Limits, Tls
from proxy.errors import Fault
from proxy.handlers.files.handler import Static
from proxy.protocol.exchange import Exchange
from proxy.protocol.message import Connection, Handler, Request, Response
from proxy.transport.clock import Clock
from proxy.worker.services import Room, SecureDoor


class OneSite:
    def __init__(self, handler: Handler) -> None:
        self.handler = handler

    def knows(self, host: bytes) -> bool:
        return host == b"a.test"

    def route(self, request: Request) -> Handler:
        if request.path == b"/nowhere":
            raise Fault("not_found")
        return self.handler


@pytest.fixture
def files(tmp_path: Path) -> Static:
    (tmp_path / "a.txt").write_bytes(b"apple")
    return Static(tmp_path, Clock())


def door(handler: Handler, hsts: bool = False, gates: object = None) -> SecureDoor:
    parts: Any = SimpleNamespace()
    room = Room(
        router=OneSite(handler),  # type: ignore[arg-type] # what a door needs of it
        challenges=parts, certificates=parts, limits=Limits(), clock=Clock(), access_log=None,
        tls=Tls(hsts=Hsts(max_age=60.0) if hsts else None), https_port=443, default_site=False,
        lane=None, gates=gates, bounds=parts, request_id_prefix=b"",  # type: ignore[arg-type]
    )  # fmt: skip
    return SecureDoor(room)


def request(path: bytes = b"/a.txt", host: bytes = b"a.test") -> Request:
    connection = Connection("192.0.2.1", 1, "192.0.2.2", 443, b"https")
    connection.certificate_names = ("a.test", "b.test")
    return Request(b"GET", path, b"1.1", host, host, [(b"host", host)], connection)


async def answer(door: SecureDoor, one: Request) -> Response:
    given = door.handle(Exchange(one.connection, one))
    return given if isinstance(given, Response) else await given


@pytest.mark.parametrize("hsts", [False, True])
async def test_a_file_is_answered_at_once_and_with_hsts(files: Static, hsts: bool) -> None:
    secure = door(files, hsts)
    for _ in range(2):
        one = request()
        given = secure.handle(Exchange(one.connection, one))
        assert isinstance(given, Response)
        assert (given.status, given.body) == (200, b"apple")
        said = [value for name, value in given.fields if name == b"strict-transport-security"]
        assert said == ([b"max-age=60"] if hsts else [])
        assert given.wire is not None
        assert given.wire.count(b"strict-transport-security: max-age=60\r\n") == hsts
    assert secure.room.in_flight == 2


async def test_a_host_is_looked_at_first(files: Static) -> None:
    secure = door(files)
    one = request()
    assert (await answer(secure, one)).status == 200
    for host, status in ((b"b.test", 404), (b"c.test", 421)):
        other = request(host=host)
        other.connection.covered_host = b"a.test"
        assert (await answer(secure, other)).status == status


async def test_no_gate_is_passed_by(files: Static) -> None:
    class Closed:
        def __bool__(self) -> bool:
            return True

        def check(self, request: Request) -> None:
            raise Fault("rate_limited")

    open_door, gated = door(files), door(files, gates=Closed())
    assert (await answer(open_door, request())).status == 200
    assert (await answer(gated, request())).status == 429


async def test_a_path_that_nobody_takes_is_not_found(files: Static) -> None:
    secure = door(files)
    assert (await answer(secure, request(b"/nowhere"))).status == 404
    assert secure.room.in_flight == 1


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

    secure = door(Broken())
    found = {path: (await answer(secure, request(path))).status
             for path in (b"/at-once", b"/later", b"/fault")}  # fmt: skip
    assert found == {b"/at-once": 500, b"/later": 500, b"/fault": 502}
