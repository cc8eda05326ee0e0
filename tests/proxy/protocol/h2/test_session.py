"""What only our own engine does: templates of requests, the client's role, windows that grow."""

from __future__ import annotations

from collections.abc import Iterable

import hpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.protocol.h2 import templates
from proxy.protocol.h2.client_session import ClientSession
from proxy.protocol.h2.engine import StreamGone, Terms
from proxy.protocol.h2.events import Answer, Data, Event, Head, Reset, Room, Trailers
from proxy.protocol.h2.session import Session
from proxy.protocol.h2.windows import Pool
from support.h2_peer import END_HEADERS, END_STREAM, HEADERS, Fields, Peer, data, frame, headers

# What nghttp2 and Chromium send: everything indexed but the path, a literal that leaves the table alone.
BROWSER: Fields = [
    (b":method", b"GET"),
    (b":scheme", b"https"),
    (b":authority", b"a.example"),
    (b"user-agent", b"Mozilla/5.0"),
    (b"accept", b"*/*"),
]


def block(path: bytes, before: int, count: int, huffman: bool = False) -> bytes:
    """Indexed fields, the path behind ``before`` of them; the table holds three."""
    from proxy.protocol.h2 import huffman as code

    indexed = [b"\x82", b"\x87", b"\xc0", b"\xbf", b"\xbe"][:count]
    value = code.encode(path) if huffman else path
    length = bytes([len(value) | (0x80 if huffman else 0)])
    literal = b"\x04" + length + value
    return b"".join([*indexed[:before], literal, *indexed[before:]])


def session_with_table() -> Peer:
    peer = Peer(Session(Terms(), 0.0))
    encoder = hpack.Encoder()
    first = encoder.encode([*BROWSER[:2], (b":path", b"/"), *BROWSER[2:]])
    [head] = peer.say(frame(HEADERS, END_HEADERS | END_STREAM, 1, first))
    assert isinstance(head, Head)
    return peer


def ask(peer: Peer, number: int, data: bytes) -> Event:
    [event] = peer.say(frame(HEADERS, END_HEADERS | END_STREAM, number, data))
    return event


@pytest.mark.parametrize("coded", [False, True])
@pytest.mark.parametrize("before", [2, 3])
def test_the_same_request_with_another_path(coded: bool, before: int) -> None:
    peer = session_with_table()
    for number, path in enumerate([b"/a", b"/b", b"/a-longer-one?x=y", b"/"]):
        head = ask(peer, 3 + 2 * number, block(path, before, 5, coded))
        assert isinstance(head, Head)
        assert (head.target, head.host) == (path, b"a.example")
        assert head.fields == [(b"host", b"a.example"), *BROWSER[3:]]
        assert head.stream == 3 + 2 * number
    assert len(peer.engine._templates) == 1  # type: ignore[attr-defined]


def test_a_path_that_is_not_allowed_is_refused_all_the_same() -> None:
    peer = session_with_table()
    ask(peer, 3, block(b"/a", 2, 5))
    for number, path in enumerate([b"x", b"/a b", b"", b"/a\r\nb", b"https://b/"]):
        event = ask(peer, 5 + 2 * number, block(path, 2, 5))
        assert isinstance(event, Reset)
        assert event.code == 1


def test_a_path_that_is_too_long_is_too_long_all_the_same() -> None:
    peer = Peer(Session(Terms(target_size=10), 0.0))
    encoder = hpack.Encoder()
    peer.say(
        frame(
            HEADERS,
            END_HEADERS | END_STREAM,
            1,
            encoder.encode([*BROWSER[:2], (b":path", b"/"), *BROWSER[2:]]),
        )
    )
    ask(peer, 3, block(b"/a", 2, 5))
    head = ask(peer, 5, block(b"/aaaaaaaaaaaaaaa", 2, 5))
    assert isinstance(head, Head)
    assert head.fault == "target_too_long"


def test_a_change_of_the_table_makes_templates_void() -> None:
    peer = session_with_table()
    ask(peer, 3, block(b"/a", 2, 5))
    ask(peer, 5, block(b"/a", 2, 5) + b"\x40\x01x\x01y")  # now index 62 is another field
    head = ask(peer, 7, b"\x82\x87\x04\x02/b\xc1\xc0\xbf\xbe")
    assert isinstance(head, Head)
    assert head.fields[-1] == (b"x", b"y")
    event = ask(peer, 9, block(b"/a", 2, 5))  # the same bytes, which mean something else
    assert isinstance(event, Reset)


def test_a_template_gives_fields_that_do_not_depend_on_earlier_priorities() -> None:
    peer = session_with_table()
    peer.say(frame(16, 0, 0, b"\0\0\0\x03u=0"))
    first, second = ask(peer, 3, block(b"/a", 2, 5)), ask(peer, 5, block(b"/b", 2, 5))
    assert isinstance(first, Head)
    assert isinstance(second, Head)
    assert (first.priority, second.priority) == ((0, False), (3, False))


PATHS = st.sampled_from([b"/", b"/a", b"/b?c", b"/" + b"x" * 130, b"bad", b"/\x01", b"\x04\x02/a"])
PIECES = st.lists(
    st.one_of(
        st.sampled_from([b"\x82", b"\x83", b"\x87", b"\xbe", b"\xbf", b"\xc0", b"\x85", b"\x20", b"\x3f\xe1\x1f"]),
        st.builds(lambda path: b"\x04" + bytes([min(len(path), 126)]) + path[:126], PATHS),
        st.builds(lambda path: b"\x44" + bytes([min(len(path), 126)]) + path[:126], PATHS),
        st.sampled_from([b"\x40\x01a\x01b", b"\x00\x01a\x01b", b"\x10\x01a\x01b", b"\x0f\x0d\x010", b"\x00\x06cookie\x01a"]),
    ),
    max_size=8,
)  # fmt: skip


@settings(max_examples=300)
@given(
    st.lists(st.tuples(PIECES, st.booleans()), min_size=1, max_size=8),
    st.lists(st.integers(0, 7), max_size=6),
)
def test_with_templates_and_without_the_same_is_told(
    blocks: list[tuple[list[bytes], bool]], again: list[int]
) -> None:
    def told() -> list[Event | str]:
        peer = session_with_table()
        events: list[Event | str] = []
        sequence = [*blocks, *(blocks[index % len(blocks)] for index in again)]
        for number, (pieces, end) in enumerate(sequence):
            base = [b"\x82", b"\x87", *pieces, b"\xc0"]
            flags = END_HEADERS | (END_STREAM if end else 0)
            events += peer.say(frame(HEADERS, flags, 3 + 2 * number, b"".join(base)))
            if peer.failure is not None:
                events.append(str(peer.failure))
                break
        return events

    original = templates.MOST
    try:
        with_them = told()
        templates.MOST = 0
        assert told() == with_them
    finally:
        templates.MOST = original


# The client's role


class Pair:
    """A client and a server of ours, and the bytes between them."""

    def __init__(self) -> None:
        self.client = ClientSession(Terms(), 0.0)
        self.server = Session(Terms(), 0.0)
        self.to_client: list[Event] = []
        self.to_server: list[Event] = []
        self.run()

    def run(self) -> None:
        while self.client.unsent or self.server.unsent:
            self.to_server += without_room(self.server.receive(self.client.take(), 0.0))
            self.to_client += without_room(self.client.receive(self.server.take(), 0.0))


def without_room(events: Iterable[Event]) -> list[Event]:
    return [event for event in events if not isinstance(event, Room)]


ASK: Fields = [
    (b":method", b"POST"),
    (b":scheme", b"https"),
    (b":authority", b"a.example"),
    (b":path", b"/x"),
]


def test_a_whole_exchange_between_our_own_two_ends() -> None:
    pair = Pair()
    number = pair.client.request([*ASK, (b"te", b"trailers")], end=False)
    pair.client.data(number, b"hello", False)
    pair.client.trailers(number, [(b"sum", b"1")])
    pair.run()
    head, body, trailers = pair.to_server
    assert isinstance(head, Head)
    assert (head.method, head.target) == (b"POST", b"/x")
    assert (body, trailers) == (Data(1, b"hello", False), Trailers(1, [(b"sum", b"1")]))
    pair.server.head(1, 103, [(b"a", b"b")], False)
    pair.server.head(1, 200, [(b"c", b"d")], False)
    pair.server.data(1, b"world", False)
    pair.server.trailers(1, [(b"grpc-status", b"0")])
    pair.run()
    assert pair.to_client == [
        Answer(1, False, 103, [(b"a", b"b")]),
        Answer(1, False, 200, [(b"c", b"d")]),
        Data(1, b"world", False),
        Trailers(1, [(b"grpc-status", b"0")]),
    ]
    assert pair.client.request(ASK, end=True) == 3


def to_client(*frames: bytes, bodiless: bool = False) -> tuple[Session, list[Event]]:
    client = ClientSession(Terms(), 0.0)
    peer = Peer(client, hello=frame(4, 0, 0))
    client.request(ASK, end=True, bodiless=bodiless)
    return client, peer.say(*frames)


STATUS = (b":status", b"200")
BAD_ANSWERS: dict[str, tuple[bytes, ...]] = {
    "no :status": (headers(1, [(b"a", b"b")]),),
    ":status 99": (headers(1, [(b":status", b"99")]),),
    ":status 600": (headers(1, [(b":status", b"600")]),),
    ":status 2e2": (headers(1, [(b":status", b"2e2")]),),
    ":status in other digits": (headers(1, [(b":status", "²00".encode())]),),
    ":status twice": (headers(1, [STATUS, STATUS]),),
    ":status behind a field": (headers(1, [(b"a", b"b"), STATUS]),),
    ":path": (headers(1, [STATUS, (b":path", b"/")]),),
    "101": (headers(1, [(b":status", b"101")], False),),
    "an interim answer that ends": (headers(1, [(b":status", b"103")]),),
    "nine interim answers": tuple(headers(1, [(b":status", b"103")], False) for _ in range(9)),
    "an upper-case name": (headers(1, [STATUS, (b"A", b"b")]),),
    "CRLF in a value": (headers(1, [STATUS, (b"a", b"b\r\nc: d")]),),
    "Connection": (headers(1, [STATUS, (b"connection", b"close")]),),
    "Transfer-Encoding": (headers(1, [STATUS, (b"transfer-encoding", b"chunked")]),),
    "Content-Length twice": (headers(1, [STATUS, (b"content-length", b"1"), (b"content-length", b"1")], False),),
    "a body that is too short": (headers(1, [STATUS, (b"content-length", b"2")], False), data(1, b"x", True)),
    "a body that is too long": (headers(1, [STATUS, (b"content-length", b"2")], False), data(1, b"xyz", True)),
    "no body where one was said": (headers(1, [STATUS, (b"content-length", b"2")]),),
    "a body behind 204": (headers(1, [(b":status", b"204")], False), data(1, b"x", True)),
    "DATA before the head": (data(1, b"x"),),
    "pseudo-fields in trailers": (headers(1, [STATUS], False), headers(1, [STATUS])),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_ANSWERS)
def test_an_answer_that_is_malformed_ends_its_stream(name: str) -> None:
    _client, events = to_client(*BAD_ANSWERS[name])
    last = events[-1]
    assert isinstance(last, Reset)
    assert (last.code, last.by_us) == (1, True)


def test_an_answer_to_head_may_say_a_length() -> None:
    _client, events = to_client(headers(1, [STATUS, (b"content-length", b"5")]), bodiless=True)
    assert events == [Answer(1, True, 200, [(b"content-length", b"5")], 5)]
    _client, events = to_client(
        headers(1, [STATUS, (b"content-length", b"5")], False), data(1, b"", True), bodiless=True
    )
    assert events[-1] == Data(1, b"", True)


@pytest.mark.parametrize("number", [2, 3])
def test_what_a_server_opens_itself_ends_the_connection(number: int) -> None:
    client = ClientSession(Terms(), 0.0)
    peer = Peer(client, hello=frame(4, 0, 0))
    client.request(ASK, end=True)
    peer.say(headers(number, [STATUS]))
    assert peer.failure is not None
    with pytest.raises(StreamGone):
        client.request(ASK, end=True)


def test_fields_that_must_not_be_indexed_stay_so() -> None:
    client = ClientSession(Terms(), 0.0)
    client.take()
    client.request(
        [*ASK, (b"token", b"x"), (b"a", b"b")], True, never_indexed=frozenset({b"token"})
    )
    sent = client.take()
    assert b"\x10\x05token\x01x" in sent
    assert b"\x00\x01a\x01b" in sent


# Windows


def test_windows_grow_out_of_a_pool_and_give_back() -> None:
    pool = Pool(200 * 1024)
    session = Session(Terms(), 0.0, pool=pool)
    peer = Peer(session)
    peer.ask(1, ASK, end=False)
    for _ in range(50):
        peer.say(data(1, bytes(16384)))
        session.consumed(1, 16384)
        peer.heard()
    assert session._inbound.size == 256 * 1024
    assert not pool.borrow(100 * 1024)
    session.close()
    assert pool.borrow(200 * 1024)


def test_a_window_does_not_grow_for_an_upload_that_crawls() -> None:
    session = Session(Terms(), 0.0)
    peer = Peer(session)
    peer.ask(1, ASK, end=False)
    for _ in range(50):
        peer.now += 1.0
        peer.say(data(1, bytes(16384)))
        session.consumed(1, 16384)
        peer.heard()
    assert session._inbound.size == 128 * 1024
