"""What both HTTP/2 engines promise: requests told, answers sent, windows kept, streams ended."""

from __future__ import annotations

import hpack
import pytest

from proxy.protocol.h2.engine import StreamGone, Terms
from proxy.protocol.h2.events import (
    Data,
    Ended,
    Event,
    Head,
    Pong,
    Prioritised,
    Reset,
    Room,
    Trailers,
)
from support.h2_engines import ENGINES, Make
from support.h2_peer import (
    CONTINUATION,
    END_HEADERS,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    GET,
    GOAWAY,
    HEADERS,
    PADDED,
    PING,
    POST,
    PRIORITY_UPDATE,
    REFUSED_STREAM,
    Fields,
    Peer,
    data,
    frame,
    headers,
    literal,
    long,
    rst,
    settings,
    window_update,
)


@pytest.fixture(params=ENGINES)
def make(request: pytest.FixtureRequest) -> Make:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def peer(make: Make) -> Peer:
    return Peer(make(Terms(), 0.0))


def with_fields(*more: tuple[bytes, bytes]) -> Fields:
    return [*GET, *more]


# Requests


def test_a_request_and_all_its_parts(peer: Peer) -> None:
    head = peer.ask(
        1,
        [
            (b":method", b"GET"),
            (b":scheme", b"https"),
            (b":authority", b"A.example.:443"),
            (b":path", b"/x?y=z"),
            (b"accept", b"*/*"),
        ],
    )
    assert (head.method, head.scheme, head.target) == (b"GET", b"https", b"/x?y=z")
    assert (head.authority, head.host) == (b"A.example.:443", b"a.example")
    assert head.fields == [(b"host", b"A.example.:443"), (b"accept", b"*/*")]
    assert (head.end, head.length, head.fault, head.expects_continue) == (True, None, None, False)


def test_host_in_place_of_authority_is_kept_where_it_stands(peer: Peer) -> None:
    head = peer.ask(1, [*GET[:2], GET[3], (b"host", b"a.example"), (b"accept", b"x")])
    assert (head.authority, head.fields) == (
        b"a.example",
        [(b"host", b"a.example"), (b"accept", b"x")],
    )


def test_host_beside_authority_is_said_once(peer: Peer) -> None:
    head = peer.ask(1, with_fields((b"host", b"A.EXAMPLE")))
    assert head.fields == [(b"host", b"a.example")]


def test_cookies_in_crumbs_are_joined_where_the_first_one_stood(peer: Peer) -> None:
    head = peer.ask(
        1,
        with_fields(
            (b"cookie", b"a=1"), (b"accept", b"x"), (b"cookie", b"b=2"), (b"cookie", b"c=3")
        ),
    )
    assert head.fields[1:] == [(b"cookie", b"a=1; b=2; c=3"), (b"accept", b"x")]


def test_crumbs_are_counted_before_they_are_joined(make: Make) -> None:
    peer = Peer(make(Terms(header_count=20), 0.0))
    assert peer.ask(1, with_fields(*[(b"cookie", b"a=1")] * 17)).fault == "head_too_large"
    assert peer.ask(3, with_fields(*[(b"cookie", b"a=1")] * 16)).fault is None


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        (with_fields((b"a", b"v" * 12_000), (b"b", b"v" * 3000)), None),
        (with_fields((b"a", b"v" * 12_000), (b"b", b"v" * 5000), (b"c", b"v" * 3000)), "head_too_large"),
        ([*GET[:3], (b":path", b"/" + b"x" * 8191)], None),
        ([*GET[:3], (b":path", b"/" + b"x" * 8192)], "target_too_long"),
        ([(b":method", b"TRACE"), *GET[1:]], "method_not_allowed"),
        ([(b":method", b"CONNECT"), (b":authority", b"a.example:443")], "method_not_allowed"),
        (with_fields((b"expect", b"100-continue")), None),
        (with_fields((b"expect", b"something")), "expectation_failed"),
    ],
)  # fmt: skip
def test_what_gets_an_error_for_an_answer(make: Make, fields: Fields, fault: str | None) -> None:
    peer = Peer(make(Terms(header_size=16 * 1024), 0.0))
    block = literal(fields)
    frames = [
        frame(HEADERS, END_STREAM, 1, block[:16384]),
        frame(CONTINUATION, END_HEADERS, 1, block[16384:]),
    ]
    [head] = peer.say(b"".join(frames))
    assert isinstance(head, Head)
    assert head.fault == fault
    peer.engine.head(1, 431, [], True)
    assert peer.ask(3).fault is None


def test_names_that_must_never_be_indexed_are_told(peer: Peer) -> None:
    block = literal(GET) + b"\x10\x06secret\x01x"
    [head] = peer.say(frame(HEADERS, END_HEADERS | END_STREAM, 1, block))
    assert isinstance(head, Head)
    assert head.never_indexed == (b"secret",)


def test_extended_connect_where_it_was_offered(make: Make) -> None:
    peer = Peer(make(Terms(extended_connect=True), 0.0))
    [first] = peer.of_type("SettingsFrame")[:1]
    assert first.settings[8] == 1
    head = peer.ask(
        1, [(b":method", b"CONNECT"), (b":protocol", b"websocket"), *GET[1:]], end=False
    )
    assert (head.method, head.protocol, head.target) == (b"CONNECT", b"websocket", b"/")


# Bodies


def test_a_body_and_its_trailers(peer: Peer) -> None:
    peer.ask(1, POST, end=False)
    events = peer.say(data(1, b"hello "), data(1, b"world"), headers(1, [(b"checksum", b"1")]))
    assert events == [
        Data(1, b"hello ", False),
        Data(1, b"world", False),
        Trailers(1, [(b"checksum", b"1")]),
    ]


def test_a_body_that_ends_with_its_data(peer: Peer) -> None:
    peer.ask(1, POST, end=False)
    assert peer.say(data(1, b"hello", end=True)) == [Data(1, b"hello", True)]


def test_credit_is_given_for_what_was_taken_and_for_nothing_else(peer: Peer) -> None:
    peer.ask(1, POST, end=False)
    given: dict[int, int] = {0: 0, 1: 0}
    for turn in range(1, 21):
        peer.say(data(1, bytes(16384)))
        before = len(peer.of_type("WindowUpdateFrame"))
        peer.engine.consumed(1, 16384)
        peer.engine.consumed(1, 16384)  # twice is not more
        peer.heard()
        for one in peer.of_type("WindowUpdateFrame")[before:]:
            given[one.stream_id] += one.window_increment
        assert given[0] <= turn * 16384 + (1 << 20)
    assert min(given.values()) > 10 * 16384
    given = dict.fromkeys(given, 0)
    before = len(peer.of_type("WindowUpdateFrame"))
    peer.say(data(1, bytes(16384)), data(1, bytes(16384)))
    assert peer.of_type("WindowUpdateFrame")[before:] == []  # nothing was taken of these


def test_padding_is_credited_at_once(peer: Peer) -> None:
    peer.ask(1, POST, end=False)
    for _ in range(400):  # 100 KiB of padding, more than the stream's window
        peer.say(frame(0, PADDED, 1, b"\xff" + bytes(255) + b""))
        assert peer.failure is None or "waste" in str(peer.failure)
        if peer.failure:
            break
    assert sum(one.window_increment for one in peer.of_type("WindowUpdateFrame", 1)) > 0


def test_what_lies_unread_when_the_work_ends_is_credited(peer: Peer) -> None:
    """Else the connection's window leaks away, and in the end every upload stalls."""
    engine = peer.engine
    for number in range(1, 41, 2):
        peer.ask(number, POST, end=False)
        peer.say(data(number, bytes(16384)), data(number, bytes(16384)))
        engine.head(number, 413, [], True)
        engine.reset(number, 0)
        engine.release(number)
        peer.heard()
    assert peer.failure is None


def test_data_for_a_stream_that_was_reset_is_credited(peer: Peer) -> None:
    peer.ask(1, POST, end=False)
    peer.engine.reset(1, 0)
    peer.engine.release(1)
    for _ in range(40):
        assert peer.say(data(1, bytes(16384))) == []
    assert peer.failure is None


def test_a_window_grows_for_an_upload_that_flows(peer: Peer) -> None:
    peer.ask(1, POST, end=False)
    for _ in range(64):
        peer.say(data(1, bytes(16384)))
        peer.engine.consumed(1, 16384)
        peer.heard()
    assert peer.failure is None


# Answers


def test_an_answer_with_body_and_trailers(peer: Peer) -> None:
    engine = peer.engine
    peer.ask(1)
    engine.head(1, 103, [(b"link", b"</a.css>")], False)
    engine.head(1, 200, [(b"content-type", b"text/plain")], False)
    engine.data(1, b"hello", False)
    engine.trailers(1, [(b"checksum", b"1")])
    sent = [one for one in peer.heard() if one.stream_id == 1]
    assert [type(one).__name__ for one in sent] == [
        "HeadersFrame",
        "HeadersFrame",
        "DataFrame",
        "HeadersFrame",
    ]
    assert peer.sent.fields(sent[0]) == [(b":status", b"103"), (b"link", b"</a.css>")]
    assert peer.sent.fields(sent[1]) == [(b":status", b"200"), (b"content-type", b"text/plain")]
    assert peer.sent.fields(sent[3]) == [(b"checksum", b"1")]
    assert ["END_STREAM" in one.flags for one in sent] == [False, False, False, True]
    with pytest.raises(StreamGone):
        engine.data(1, b"x", False)


def test_what_is_too_long_for_a_frame_goes_in_several(peer: Peer) -> None:
    peer.ask(1)
    peer.engine.head(1, 200, [(b"a", b"v" * 40_000)], False)
    peer.engine.data(1, bytes(50_000), True)
    sent = [one for one in peer.heard() if one.stream_id == 1]
    assert [type(one).__name__ for one in sent] == [
        "HeadersFrame",
        "ContinuationFrame",
        "ContinuationFrame",
        *["DataFrame"] * 4,
    ]
    assert all(one.body_len <= 16384 for one in sent)


@pytest.mark.parametrize(
    "bad",
    [
        (b"a", b"x\r\ny"),
        (b"a", b"x\ny"),
        (b"a", b"x\0"),
        (b"a\r\n", b"x"),
        (b"A", b"x"),
        (b"", b"x"),
    ],
)
def test_what_would_break_apart_behind_us_is_not_sent(peer: Peer, bad: tuple[bytes, bytes]) -> None:
    peer.ask(1)
    with pytest.raises(ValueError, match="malformed"):
        peer.engine.head(1, 200, [bad], True)
    with pytest.raises(ValueError, match="malformed"):
        peer.engine.trailers(1, [bad])
    assert [one for one in peer.heard() if one.stream_id == 1] == []
    peer.engine.head(1, 500, [], True)


def test_windows_bound_what_is_sent(make: Make) -> None:
    peer = Peer(make(Terms(), 0.0))
    engine = peer.engine
    peer.say(settings((4, 10)))
    peer.ask(1)
    assert engine.window(1) == 10
    engine.head(1, 200, [], False)
    engine.data(1, bytes(10), False)
    assert engine.window(1) == 0
    with pytest.raises(ValueError, match="window"):
        engine.data(1, b"x", False)
    assert peer.say(window_update(1, 5)) == [Room(1)]
    assert engine.window(1) == 5
    assert peer.say(settings((4, 3))) == [Room(0)]  # below zero, RFC 9113 §6.9.2
    assert engine.window(1) == 0
    peer.say(window_update(1, 4))
    assert engine.window(1) == 2
    peer.say(settings((4, 1 << 20)), window_update(1, 1 << 20))
    assert engine.window(1) == 65535 - 10  # the connection's
    assert peer.say(window_update(0, 1)) == [Room(0)]
    assert engine.window(1) == 65535 - 9
    assert engine.window(3) == 0


def test_a_table_of_nothing_is_kept_to(peer: Peer) -> None:
    """The next block has to say that the table is smaller (RFC 7541 §4.2)."""
    decoder = hpack.Decoder()
    decoder.max_allowed_table_size = 0
    peer.sent.decoder = decoder
    peer.say(settings((1, 0)))
    for number in (1, 3):
        peer.ask(number)
        peer.engine.head(number, 200, [(b"a", b"b")], True)
        [sent] = peer.heard()
        assert peer.sent.fields(sent) == [(b":status", b"200"), (b"a", b"b")]


def test_a_request_that_is_not_read_to_its_end_can_be_cut_after_the_answer(peer: Peer) -> None:
    """RFC 9113 §8.1: RST_STREAM with NO_ERROR."""
    peer.ask(1, POST, end=False)
    peer.engine.head(1, 413, [], True)
    assert not peer.engine.is_open(1)
    peer.engine.reset(1, 0)
    peer.heard()
    assert peer.resets == {1: 0}
    assert peer.say(data(1, b"late"), headers(1, [(b"a", b"b")]), rst(1), window_update(1, 1)) == []
    assert isinstance(peer.ask(3), Head)


# Streams that end early


def test_a_reset_is_told_and_nothing_more_can_be_sent(peer: Peer) -> None:
    peer.ask(1, POST, end=False)
    assert peer.engine.is_open(1)
    assert peer.say(rst(1, 8)) == [Reset(1, 8)]
    assert not peer.engine.is_open(1)
    for send in (
        lambda: peer.engine.head(1, 200, [], True),
        lambda: peer.engine.data(1, b"x", True),
        lambda: peer.engine.trailers(1, []),
    ):
        with pytest.raises(StreamGone):
            send()
    peer.engine.reset(1, 8)
    assert peer.resets == {}


def test_streams_are_bounded_by_work_and_not_by_resets(make: Make) -> None:
    peer = Peer(make(Terms(streams=10), 0.0))
    for number in range(1, 21, 2):
        peer.ask(number)
        peer.say(rst(number))
    assert peer.say(headers(21, GET)) == [Reset(21, REFUSED_STREAM, True, "too many streams")]
    assert peer.resets == {21: REFUSED_STREAM}
    peer.engine.release(1)
    assert isinstance(peer.ask(23), Head)


def test_more_open_streams_than_allowed_are_refused(make: Make) -> None:
    peer = Peer(make(Terms(streams=3), 0.0))
    for number in (1, 3, 5):
        peer.ask(number, POST, end=False)
    [refused] = peer.say(headers(7, GET))
    assert isinstance(refused, Reset)
    peer.engine.head(1, 200, [], True)
    peer.engine.reset(1, 0)
    peer.engine.release(1)
    assert isinstance(peer.ask(9), Head)


# The connection


def test_pings_both_ways(peer: Peer) -> None:
    peer.say(frame(PING, 0, 0, b"12345678"))
    [answer] = peer.of_type("PingFrame")
    assert (answer.opaque_data, "ACK" in answer.flags) == (b"12345678", True)
    peer.engine.ping(b"abcdefgh")
    peer.heard()
    assert peer.of_type("PingFrame")[-1].opaque_data == b"abcdefgh"
    assert peer.say(frame(PING, 1, 0, b"abcdefgh")) == [Pong(b"abcdefgh")]


def test_the_end_in_two_steps(peer: Peer) -> None:
    engine = peer.engine
    peer.ask(1, POST, end=False)
    engine.goaway((1 << 31) - 1, 0)
    assert isinstance(peer.ask(3, POST, end=False), Head)  # it was on its way
    engine.goaway(engine.highest, 0)
    peer.heard()
    assert [(one.last_stream_id, one.error_code) for one in peer.of_type("GoAwayFrame")] == [
        ((1 << 31) - 1, 0),
        (3, 0),
    ]
    # Behind the last one nothing is taken, and nothing goes out of step.
    block = literal(GET) + b"\x40\x01a\x01b"
    assert (
        peer.say(
            frame(HEADERS, END_HEADERS, 5, block), data(5, b"x" * 100), headers(5, [(b"t", b"u")])
        )
        == []
    )
    assert peer.say(data(1, b"x", end=True)) == [Data(1, b"x", True)]
    for number in (1, 3):
        engine.head(number, 200, [], True)
    assert {one.stream_id for one in peer.heard()} == {1, 3}
    assert peer.failure is None


def test_the_goaway_of_a_peer_ends_no_stream(peer: Peer) -> None:
    peer.ask(1)
    assert peer.say(frame(GOAWAY, 0, 0, long(0) + long(0))) == [Ended(0, 0)]
    peer.engine.head(1, 200, [], False)
    peer.engine.data(1, b"x", True)
    assert [type(one).__name__ for one in peer.heard()] == ["HeadersFrame", "DataFrame"]


def test_priorities_are_told(peer: Peer) -> None:
    assert peer.ask(1).priority == (3, False)
    assert peer.ask(3, with_fields((b"priority", b"u=1, i"))).priority == (1, True)
    assert peer.say(frame(PRIORITY_UPDATE, 0, 0, long(1) + b"u=7")) == [Prioritised(1, (7, False))]
    assert peer.say(frame(PRIORITY_UPDATE, 0, 0, long(5) + b"u=0,i")) == []
    assert peer.ask(5).priority == (0, True)
    [first] = peer.of_type("SettingsFrame")[:1]
    assert first.settings[9] == 1  # SETTINGS_NO_RFC7540_PRIORITIES


def test_since_when_a_head_is_incomplete(peer: Peer) -> None:
    engine = peer.engine
    whole = headers(1, GET)
    peer.now = 1.0
    peer.say(whole[:5])
    assert engine.block_since == 1.0
    peer.now = 2.0
    peer.say(whole[5:20])
    assert engine.block_since == 1.0
    peer.say(whole[20:])
    assert engine.block_since is None
    peer.now = 3.0
    peer.say(frame(HEADERS, END_STREAM, 3, literal(GET)))
    peer.now = 4.0
    peer.say(frame(CONTINUATION, 0, 3, literal([(b"a", b"b")])))
    assert engine.block_since == 3.0
    peer.say(frame(CONTINUATION, END_HEADERS, 3))
    assert engine.block_since is None


@pytest.mark.parametrize("step", [1, 2, 3, 7, 10, 64])
def test_it_does_not_matter_how_bytes_are_cut(make: Make, step: int) -> None:
    whole = b"".join(
        [
            headers(1, POST, end=False),
            data(1, b"hello"),
            frame(PING, 0, 0, bytes(8)),
            headers(3, with_fields((b"a", b"b"))),
            data(1, b"", end=True),
            frame(HEADERS, END_STREAM, 5, literal(GET)[:7]),
            frame(CONTINUATION, END_HEADERS, 5, literal(GET)[7:]),
        ]
    )
    expected = Peer(make(Terms(), 0.0)).say(whole)
    peer = Peer(make(Terms(), 0.0))
    events: list[Event] = []
    for at in range(0, len(whole), step):
        events += peer.say(whole[at : at + step])
    assert events == expected
    assert len(events) == 5


# What a peer may waste

FLOODS: dict[str, bytes] = {
    "PING": frame(PING, 0, 0, bytes(8)),
    "PING with ACK": frame(PING, 1, 0, bytes(8)),
    "SETTINGS": settings(),
    "SETTINGS with 2,000 values": settings(*[(3, 100)] * 2000),
    "SETTINGS with ACK": frame(4, 1, 0),
    "PRIORITY": frame(2, 0, 3, long(0) + b"\0"),
    "PRIORITY_UPDATE": frame(PRIORITY_UPDATE, 0, 0, long(3) + b"u=1"),
    "WINDOW_UPDATE of 1": window_update(0, 1),
    "WINDOW_UPDATE of 1 on a stream": window_update(1, 1),
    "unknown frames": frame(99, 0, 0, b"x"),
    "empty DATA": data(1, b""),
    "GOAWAY": frame(GOAWAY, 0, 0, bytes(8)),
}


@pytest.mark.parametrize("name", FLOODS)
def test_a_flood_ends(peer: Peer, name: str) -> None:
    peer.ask(1, POST, end=False)
    for _ in range(3000):
        peer.say(FLOODS[name])
        if peer.failure is not None:
            break
    assert peer.failure is not None
    assert peer.failure.code == ENHANCE_YOUR_CALM
    assert peer.goaways == [ENHANCE_YOUR_CALM]
    assert len(peer.frames) < 1200


@pytest.mark.parametrize("name", [name for name in FLOODS if "2,000" not in name])
def test_a_few_of_them_now_and_then_do_not(peer: Peer, name: str) -> None:
    peer.ask(1, POST, end=False)
    for _ in range(100):
        peer.now += 2.0
        peer.say(FLOODS[name])
    assert peer.failure is None


def test_pings_that_measure_a_download_cost_nothing(peer: Peer) -> None:
    peer.ask(1)
    peer.engine.head(1, 200, [], False)
    for _ in range(2000):
        peer.engine.data(1, bytes(30), False)
        peer.say(frame(PING, 0, 0, bytes(8)), window_update(1, 30))
    assert peer.failure is None


def numbered(count: int = 3000) -> range:
    return range(1, 2 * count, 2)


def test_rapid_reset_ends(peer: Peer) -> None:
    """CVE-2023-44487, where the work ends at once: the budget. (Where not, the bound on work.)"""
    for number in numbered():
        peer.say(headers(number, GET))
        if peer.failure is not None:
            break
        if [Reset(number, 8)] == peer.say(rst(number)):
            peer.engine.release(number)
    assert peer.failure is not None
    assert number < 1000


def test_a_browser_that_leaves_a_page_is_no_attacker(peer: Peer) -> None:
    number = 1
    for _page in range(5):
        asked = []
        for _ in range(100):
            peer.ask(number)
            asked.append(number)
            number += 2
        for one in asked:
            peer.say(rst(one))
            peer.engine.release(one)
        for _ in range(60):
            peer.ask(number)
            peer.engine.head(number, 200, [], True)
            peer.engine.release(number)
            number += 2
        peer.now += 3.0
    assert peer.failure is None


@pytest.mark.parametrize(
    "how",
    [
        "WINDOW_UPDATE of 0",
        "a window that overflows",
        "DATA behind the end",
        "HEADERS behind the end",
    ],
)
def test_made_you_reset_ends(peer: Peer, how: str) -> None:
    """CVE-2025-8671: the client makes us reset, again and again."""
    for number in numbered():
        provoke = {
            "WINDOW_UPDATE of 0": window_update(number, 0),
            "a window that overflows": window_update(number, (1 << 31) - 1),
            "DATA behind the end": data(number, b"x"),
            "HEADERS behind the end": headers(number, GET),
        }[how]
        for event in peer.say(headers(number, GET), provoke):
            if isinstance(event, Head):
                peer.engine.release(number)
        if peer.failure is not None:
            break
    assert peer.failure is not None
    assert number < 1000


def test_malformed_requests_without_end_end(peer: Peer) -> None:
    for number in numbered():
        peer.say(headers(number, with_fields((b"A", b"b"))))
        if peer.failure is not None:
            break
    assert peer.failure is not None
    assert number < 300


def test_streams_beyond_the_limit_without_end_end(make: Make) -> None:
    peer = Peer(make(Terms(streams=1), 0.0))
    for number in numbered():
        peer.say(headers(number, POST, end=False))
        if peer.failure is not None:
            break
    assert peer.failure is not None
    assert number < 600


@pytest.mark.parametrize("payload", [b"", b"\x00\x01a" + b"\x7f\xe1\x07" + b"v" * 1120])
def test_continuations_without_end_end(peer: Peer, payload: bytes) -> None:
    peer.say(frame(HEADERS, END_STREAM, 1, literal(GET)))
    for _ in range(20):
        peer.say(frame(CONTINUATION, 0, 1, payload))
    assert peer.failure is not None


def test_an_hpack_bomb_costs_its_bytes_and_no_more(peer: Peer) -> None:
    """16 KiB that mean 62 MiB."""
    bomb = literal(GET) + b"\x40\x01a\x7f\x80\x1e" + b"v" * 3967
    bomb += b"\xbe" * (16384 - len(bomb))
    events = peer.say(frame(HEADERS, END_HEADERS | END_STREAM, 1, bomb))
    if peer.failure is None:
        [head] = events
        assert isinstance(head, Head)
        assert (head.fault, head.fields) == ("head_too_large", [])
        assert isinstance(peer.ask(3), Head)
    else:
        assert peer.failure.code == ENHANCE_YOUR_CALM  # h2's way
