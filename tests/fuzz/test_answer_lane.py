"""The lane for backends' answers either declines or says exactly what the strict layer and h11 say."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.errors import Fault
from proxy.handlers.upstream.request_head import end_to_end
from proxy.protocol.h1.response_parser import CHUNKED, FastResponseParser, ResponseHead, parse

_STATUS = st.sampled_from(
    [b"HTTP/1.1 200 OK", b"HTTP/1.1 200 ", b"HTTP/1.1 200", b"HTTP/1.0 200 OK", b"HTTP/1.1 204 No",
     b"HTTP/1.1 304 Not Modified", b"HTTP/1.1 404 Not Found", b"HTTP/1.1 099 X", b"HTTP/1.1 2000 X",
     b"HTTP/2 200", b"HTTP/1.1 103 Hints", b"HTTP/1.1 200 \x01", b"HTTP/1.1  200 OK", b"http/1.1 200 OK"]
)  # fmt: skip
_LINES = st.one_of(
    st.sampled_from(
        [b"Content-Length: 3", b"content-length:3", b"Content-Length: 03", b"Content-Length: +3",
         b"Content-Length: 3, 3", b"Transfer-Encoding: chunked", b"transfer-encoding:Chunked", b"Transfer-Encoding: gzip",
         b"Transfer-Encoding: chunked, chunked", b"Connection: close",
         b"Connection: Keep-Alive", b"Connection: close, x", b"Keep-Alive: timeout=5", b"Date: now",
         b"Content-Type: text/html", b"Set-Cookie: a=b", b"X: a\x00b", b"X : a", b" X: a", b"X", b": a",
         b"Server: nginx", b"ETag: \"x\"", b"X:\ta\t", b"Upgrade: h2c", b"Trailer: x", b"X: caf\xc3\xa9"]
    ),
    st.binary(max_size=20),
)  # fmt: skip
_HEADS = st.builds(
    lambda status, lines: b"\r\n".join([status, *lines]) + b"\r\n\r\n",
    _STATUS,
    st.lists(_LINES, max_size=8),
)


def facts(found: ResponseHead) -> tuple[object, ...]:
    return found.status, found.fields, found.length, found.close


@settings(max_examples=1500, deadline=None)
@given(
    st.lists(_HEADS, min_size=1, max_size=3),
    st.permutations([b"GET", b"HEAD", b"GET", b"HEAD", b"POST"]),
)
def test_one_lane_through_several_answers(heads: list[bytes], methods: list[bytes]) -> None:
    # One lane for all, so that what it remembers of one answer meets the next.
    lane = FastResponseParser()
    for data, method in ((data, method) for method in methods for data in heads):
        head = data[: data.index(b"\r\n\r\n") + 4]
        quick = lane.parse(head, method)
        if quick is None:
            continue
        try:
            slow = parse(head, method)
        except Fault as fault:
            raise AssertionError(f"the lane took {head!r}, refused as {fault}") from None
        assert facts(quick) == facts(slow)
        onward = b"".join(b"%b: %b\r\n" % field for field in end_to_end(slow.fields))
        assert quick.onward == end_to_end(slow.fields)
        assert quick.lines == onward
        assert quick.dated == any(name == b"date" for name, _ in quick.onward)


def test_plain_answers_are_not_declined() -> None:
    head = b"HTTP/1.1 200 OK\r\nServer: x\r\nContent-Length: 3\r\nConnection: keep-alive\r\n\r\n"
    assert FastResponseParser().parse(head, b"GET") is not None
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    found = FastResponseParser().parse(head, b"GET")
    assert found is not None
    assert found.length == CHUNKED


def test_a_head_that_comes_again_is_read_once_and_a_secret_is_not_kept() -> None:
    lane = FastResponseParser()
    head = b"HTTP/1.1 200 OK\r\nDate: now\r\n%bContent-Length: 3\r\n\r\n"
    assert lane.parse(head % b"", b"GET") is lane.parse(head % b"", b"POST")
    for line in (b"Set-Cookie: a=b\r\n", b"X-Token: a\r\n", b"Server: %b\r\n" % (b"x" * 300)):
        first, second = lane.parse(head % line, b"GET"), lane.parse(head % line, b"GET")
        assert first is not second
        assert first == second
        assert not any(line in kept for kept in lane.remembered())


def test_what_is_remembered_is_bounded() -> None:
    lane = FastResponseParser()
    for number in range(6000):
        lane.parse(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % number, b"GET")
    assert len(lane.remembered()) < 6000
