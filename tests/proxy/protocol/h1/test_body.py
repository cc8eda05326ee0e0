"""The reader of bodies: the same content, end and rest, however the bytes are cut, with h11 or not."""

from __future__ import annotations

from itertools import pairwise

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import Fault
from proxy.protocol.h1.body import CHUNKED, UNTIL_CLOSE, BodyReader

LINES = {
    CHUNKED: b"Transfer-Encoding: chunked\r\n",
    UNTIL_CLOSE: b"",
}


def judge_of_request(framing: int) -> h11.Connection:
    line = LINES.get(framing, b"Content-Length: %d\r\n" % framing)
    judge = h11.Connection(h11.SERVER)
    judge.receive_data(b"POST / HTTP/1.1\r\nHost: a\r\n" + line + b"\r\n")
    assert isinstance(judge.next_event(), h11.Request)
    return judge


def judge_of_response(framing: int) -> h11.Connection:
    line = LINES.get(framing, b"Content-Length: %d\r\n" % framing)
    judge = h11.Connection(h11.CLIENT)
    judge.send(h11.Request(method="GET", target="/", headers=[("Host", "a")]))
    judge.send(h11.EndOfMessage())
    judge.receive_data(b"HTTP/1.1 200 OK\r\n" + line + b"\r\n")
    assert isinstance(judge.next_event(), h11.Response)
    return judge


JUDGES = {"alone": lambda _: None, "request": judge_of_request, "response": judge_of_response}


def read(reader: BodyReader, data: bytes, cuts: list[int]) -> bytes:
    """The content of ``data``, fed in pieces that end at ``cuts``; what is left goes to ``rest``."""
    content, places = b"", [0, *sorted({cut for cut in cuts if 0 < cut < len(data)}), len(data)]
    for begin, end in pairwise(places):
        if reader.ended:
            reader.rest += data[begin:end]
        elif begin < end:
            content += reader.feed(data[begin:end], 0.0)
    return content


@pytest.mark.parametrize("judge", JUDGES)
@given(
    content=st.lists(st.binary(min_size=1, max_size=20), max_size=5),
    behind=st.binary(max_size=9),
    cuts=st.lists(st.integers(1, 150), max_size=5),
)
def test_both_framings_however_cut(
    judge: str, content: list[bytes], behind: bytes, cuts: list[int]
) -> None:
    whole = b"".join(content)
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(one), one) for one in content)
    for framing, data in (
        (len(whole), whole),
        (CHUNKED, chunks + b"0\r\nX-Sum: 1\r\n\r\n"),
    ):
        reader = BodyReader(framing, 0.0, JUDGES[judge](framing))
        assert read(reader, data + behind, cuts) == whole
        assert reader.ended
        assert reader.rest == behind
        assert reader.trailers == ([(b"x-sum", b"1")] if framing == CHUNKED else [])
        assert reader.feed_end()


@pytest.mark.parametrize("judge", ["alone", "response"])
def test_a_body_that_ends_with_the_connection(judge: str) -> None:
    reader = BodyReader(UNTIL_CLOSE, 0.0, JUDGES[judge](UNTIL_CLOSE))
    assert reader.feed(b"some", 0.0) + reader.feed(b"thing", 0.0) == b"something"
    assert not reader.ended
    assert reader.length is reader.remaining is None
    assert reader.feed_end()
    assert reader.ended


@pytest.mark.parametrize(
    ("framing", "data"), [(5, b"hell"), (CHUNKED, b"5\r\nhello\r\n"), (5, b"")]
)
def test_what_ends_with_the_connection_before_its_time_is_not_whole(
    framing: int, data: bytes
) -> None:
    reader = BodyReader(framing, 0.0)
    if data:
        reader.feed(data, 0.0)
    assert not reader.feed_end()


@pytest.mark.parametrize("judge", JUDGES)
def test_a_breach_is_told(judge: str) -> None:
    reader = BodyReader(CHUNKED, 0.0, JUDGES[judge](CHUNKED))
    with pytest.raises(Fault) as caught:
        reader.feed(b"5\r\nhelloworld\r\n", 0.0)
    assert caught.value.kind == "bad_chunk"


def test_h11_has_the_last_word() -> None:
    """It was told of a shorter body than the reader."""
    reader = BodyReader(5, 0.0, judge_of_request(4))
    with pytest.raises(Fault) as caught:
        reader.feed(b"hello", 0.0)
    assert caught.value.kind == "bad_chunk"


def test_how_much_to_read() -> None:
    reader = BodyReader(10, 0.0)
    reader.feed(b"1234", 0.0)
    assert reader.wanted == reader.remaining == 6
    assert BodyReader(CHUNKED, 0.0).wanted > 10
    assert BodyReader(0, 0.0).ended
