"""What the accelerated writer sends of a plain response is what Python's sends."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.protocol.exchange import Exchange
from proxy.protocol.h1 import writer
from proxy.protocol.h1.serializer import SerialisedHead
from proxy.protocol.h1.writer import ResponseWriter
from proxy.protocol.message import Connection, Request, Response, Tunnel
from proxy.transport.stream import StreamBroken, StreamTimeout
from support.accelerated import lane, leaked

DATE = b"date: Sun, 29 Nov 2026 16:00:00 GMT\r\n"
HEAD = SerialisedHead(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n")
DATED = SerialisedHead(b"HTTP/1.1 200 OK\r\ndate: then\r\n", True)
TUNNEL = Tunnel(None, b"", print)  # type: ignore[arg-type] # nobody reads it
UNSET = object()


class Stream:
    """Takes ``most`` bytes, or breaks."""

    def __init__(self, most: int, broken: StreamBroken | None) -> None:
        self.most = most
        self.broken = broken
        self.written: list[bytes] = []
        self.aborted = False

    def write_now(self, data: bytes) -> bytes:
        if self.broken is not None:
            raise self.broken
        self.written.append(data)
        return data[self.most :]

    def abort(self) -> None:
        self.aborted = True


def request(method: bytes = b"GET", version: bytes = b"1.1") -> Request:
    by = Connection("192.0.2.1", 1, "192.0.2.2", 443, b"https")
    return Request(method, b"/", version, b"x", b"x", [], by)


def sent(kind: Any, asked: Request, answer: Response, most: int, broken: Any) -> tuple[object, ...]:
    """What came of sending: all that can be seen of it."""
    stream = Stream(most, broken)
    service = SimpleNamespace(clock=SimpleNamespace(date_field=DATE))
    made = kind(stream, service, SimpleNamespace())
    exchange = Exchange(asked.connection, asked)
    result = made.send_plain(exchange, asked, answer)
    return (
        result, stream.written, stream.aborted, made._rest, made.unsent, exchange.sent,
        exchange.error,
    )  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(
    status=st.sampled_from([200, 204, 304, 404, 999, 2**70]),
    body=st.sampled_from([b"", b"ok", b"x" * 70000, TUNNEL]),
    cached=st.sampled_from([None, HEAD, DATED, SimpleNamespace(wire=b"", dated=False)]),
    shared=st.booleans(),
    method=st.sampled_from([b"GET", b"HEAD", b"POST", b"HEADS"]),
    version=st.sampled_from([b"1.1", b"1.0", b"2"]),
    most=st.sampled_from([0, 5, 10**6]),
    broken=st.sampled_from([None, StreamBroken("gone"), StreamTimeout("late")]),
)
def test_a_response_is_sent_as_python_sends_it(
    status: int, body: Any, cached: Any, shared: bool, method: bytes, version: bytes, most: int,
    broken: Any,
) -> None:  # fmt: skip
    kinds = ResponseWriter, writer.accelerated(lane())
    asked = request(method, version)
    said = [
        sent(kind, asked, Response(status, [], body, cached=cached, shared=shared), most, broken)
        for kind in kinds
    ]
    assert said[0] == said[1]


def test_a_usual_response_is_put_together_in_c() -> None:
    writer.accelerated(lane())
    for cached, day in ((HEAD, DATE), (DATED, b"")):
        answer = Response(200, [], b"ok", cached=cached)
        made = lane().plain_answer(request(), answer, DATE)
        assert made == cached.wire + day + b"\r\nok"


@pytest.mark.parametrize("value", [None, 7, b"", "text", [], 7.5, HEAD, UNSET])
def test_what_is_out_of_order_is_declined(value: object) -> None:
    writer.accelerated(lane())
    for kind, slots in ((Request, ("method", "version")), (Response, ("status", "body", "cached")),
                        (SerialisedHead, ("wire", "dated"))):  # fmt: skip
        for slot in slots:
            made = {
                Request: request(),
                Response: Response(200, [], b"ok"),
                SerialisedHead: SerialisedHead(b"HTTP/1.1 200 OK\r\n"),
            }
            made[Response].cached = made[SerialisedHead]
            if value is UNSET:
                delattr(made[kind], slot)
            else:
                setattr(made[kind], slot, value)
            found = lane().plain_answer(made[Request], made[Response], DATE)
            right = (slot, type(value)) in {("body", bytes), ("wire", bytes), ("status", int)}
            odd = slot == "method" and value == b""
            assert (found is not None) == (right or odd or (slot == "cached" and value is HEAD))
    assert lane().plain_answer(value, Response(200, [], b"", cached=HEAD), DATE) is None
    assert lane().plain_answer(request(), value, DATE) is None
    if value != b"":
        answer = Response(200, [], b"", cached=HEAD)
        assert lane().plain_answer(request(), answer, value) is None  # type: ignore[arg-type] # the point
    for wrong in ((), (value,), (value, value)):
        with pytest.raises(TypeError):
            lane().plain_answer(*wrong)  # type: ignore[call-arg, arg-type] # the point


def test_nothing_is_kept_and_nothing_is_lost() -> None:
    writer.accelerated(lane())
    asked, answer = request(), Response(200, [], b"ok", cached=HEAD)
    other = Response(204, [], b"ok", cached=HEAD)
    watched = [None, asked, answer, other, HEAD, HEAD.wire, DATE, answer.body, 200, Response]

    def all_of_it() -> None:
        assert lane().plain_answer(asked, answer, DATE)
        assert lane().plain_answer(asked, other, DATE) is None
        lane().bind_answers(Response, SerialisedHead)

    assert leaked(watched, all_of_it, 1000) == []
