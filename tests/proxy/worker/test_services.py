"""The door of port 443: what is at hand is the same answer as any other."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from proxy.config.model import Hsts, Limits, Tls
from proxy.errors import Fault
from proxy.handlers.files.handler import Static
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


async def both_ways(door: SecureDoor, one: Request) -> tuple[Response, Response]:
    """The answer that had to be looked for, and then the one that is at hand."""
    assert door.at_hand(one) is None
    looked_for = await door.answer(one)
    at_hand = door.at_hand(one)
    assert at_hand is not None
    return looked_for, at_hand


@pytest.mark.parametrize("hsts", [False, True])
async def test_at_hand_is_what_was_looked_for(files: Static, hsts: bool) -> None:
    secure = door(files, hsts)
    one = request()
    for looked_for, at_hand in (await both_ways(secure, one), await both_ways_again(secure, one)):
        assert (at_hand.status, at_hand.fields) == (looked_for.status, looked_for.fields)
        assert (at_hand.wire, at_hand.body) == (looked_for.wire, looked_for.body)
        said = [value for name, value in at_hand.fields if name == b"strict-transport-security"]
        assert said == ([b"max-age=60"] if hsts else [])
    assert secure.room.in_flight == 4


async def both_ways_again(door: SecureDoor, one: Request) -> tuple[Response, Response]:
    at_hand = door.at_hand(one)
    assert at_hand is not None
    return await door.answer(one), at_hand


async def test_a_host_is_looked_at_first(files: Static) -> None:
    secure = door(files)
    one = request()
    await both_ways(secure, one)
    for host, status in ((b"b.test", 404), (b"c.test", 421)):
        other = request(host=host)
        other.connection.covered_host = b"a.test"
        assert secure.at_hand(other) is None
        assert (await secure.answer(other)).status == status


async def test_no_gate_is_passed_by(files: Static) -> None:
    class Closed:
        def __bool__(self) -> bool:
            return True

        def check(self, request: Request) -> None:
            raise Fault("rate_limited")

    open_door, gated = door(files), door(files, gates=Closed())
    one = request()
    await both_ways(open_door, one)
    one.handler = None
    assert gated.at_hand(one) is None
    assert (await gated.answer(one)).status == 429


async def test_a_path_that_nobody_takes_is_for_the_answer_to_say(files: Static) -> None:
    secure = door(files)
    one = request(b"/nowhere")
    one.connection.covered_host = b"a.test"
    assert secure.at_hand(one) is None
    assert (await secure.answer(one)).status == 404
    assert secure.room.in_flight == 1
