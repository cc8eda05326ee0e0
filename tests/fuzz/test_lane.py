"""The lane either declines or says exactly what the strict layer and h11 say."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuzz.heads import LIMITS, cut, kindred, mutated, plain, quickly, strictly, structured
from proxy.protocol.h1 import head_cache
from proxy.protocol.h1.fast_parser import FastParser
from proxy.protocol.message import Connection
from support.accelerated import parsers


def connection() -> Connection:
    return Connection("192.0.2.1", 1, "192.0.2.2", 2)


@settings(max_examples=1500, deadline=None)
@given(
    st.one_of(st.lists(st.one_of(structured, mutated(), plain), min_size=1, max_size=4), kindred())
)
def test_one_lane_through_several_heads(heads: list[bytes]) -> None:
    # One lane and one connection for all, so that what was learnt of one head meets the next. Each
    # form of the lane by itself, and what one declines the other declines.
    sides = [(lane, connection()) for lane in parsers(LIMITS)]
    for data in (*heads, *heads, *heads):
        head = cut(data)
        if head is None:
            continue
        quick, *others = [quickly(lane, head, client) for lane, client in sides]
        assert all(other == quick for other in others)
        if quick is not None:
            assert quick == strictly(head, sides[0][1])
        for lane, client in sides if quick is not None else ():
            request = lane.parse(head, client)[0]  # type: ignore[index] # it was not declined
            cached = request.cached_fields
            usual = [] if cached is None else cached.fields
            assert sorted(request.fields) == sorted([*usual, *request.uncached_fields])


@settings(max_examples=500, deadline=None)
@given(
    st.one_of(st.lists(st.one_of(structured, mutated(), plain), min_size=2, max_size=3), kindred())
)
def test_several_heads_at_once_are_none(heads: list[bytes]) -> None:
    # Whoever asks the lane about all that has come relies on it: the second would be a field.
    whole = [head for head in map(cut, heads) if head is not None]
    for lane in parsers(LIMITS):
        client = connection()
        for head in whole * 3:
            lane.parse(head, client)
        for first in whole:
            for second in whole:
                assert lane.parse(first + second, client) is None


def test_a_habit_is_what_a_client_says_each_time() -> None:
    lane, client = FastParser(LIMITS), connection()
    head = (
        b"GET /%d HTTP/1.1\r\nHost: x.test\r\nAccept: */*\r\nCookie: n=%d\r\nDNT: 1\r\n"
        b"If-None-Match: %d\r\nTE: trailers\r\n\r\n"
    )
    for number in range(4):
        parsed = lane.parse(head % (number, number, number), client)
        assert parsed is not None
    request = parsed[0]
    template = client.protocol_state[0]
    assert request.cached_fields is template.block
    assert template.before == b"Host: x.test\r\nAccept: */*\r\n"
    assert template.after == b"TE: trailers\r\n\r\n"
    assert template.between == b"DNT: 1\r\n"
    assert request.uncached_fields == [(b"cookie", b"n=3"), (b"if-none-match", b"3")]
    assert request.fields == [
        (b"host", b"x.test"), (b"accept", b"*/*"), (b"cookie", b"n=3"), (b"dnt", b"1"),
        (b"if-none-match", b"3"), (b"te", b"trailers"),
    ]  # fmt: skip
    # Another client of the kind has the same, after one look; the first time may be the only one.
    other = connection()
    first, _, third = [lane.parse(head % (n, n, n), other) for n in range(3)]
    assert first is not None
    assert first[0].cached_fields is None
    assert third is not None
    assert third[0].cached_fields is request.cached_fields


def test_a_connection_has_a_few_habits_and_none_is_long() -> None:
    lane, client = FastParser(LIMITS), connection()
    for number in range(100):
        for lines in (b"Accept: %d\r\n", b"User-Agent: %b%%d\r\n" % (b"x" * 200) * 12):
            values = (number,) * lines.count(b"%")
            lane.parse(b"GET / HTTP/1.1\r\nHost: x.test\r\n%b\r\n" % (lines % values), client)
    assert client.protocol_state is not None
    assert len(client.protocol_state) == head_cache.MAX_PER_CONNECTION
    assert all(
        len(one.before + one.between + one.after) <= head_cache.MAX_SIZE
        for one in client.protocol_state
    )


CONNECTION = connection()


@settings(max_examples=200, deadline=None)
@given(plain)
def test_plain_heads_are_not_declined(head: bytes) -> None:
    if head.count(b"Content-Length") > 1:
        return
    lane = FastParser(LIMITS)
    assert quickly(lane, head, CONNECTION) is not None
    assert quickly(lane, head, CONNECTION) == strictly(head, CONNECTION)


def test_secrets_and_long_lines_are_not_remembered() -> None:
    lane = FastParser(LIMITS)
    secret = b"s3cr3t" * 3
    head = (
        b"GET / HTTP/1.1\r\nHost: x.test\r\nCookie: %b\r\nAuthorization: %b\r\nX-Api-Key: %b\r\n"
        b"Accept: %b\r\nDNT: 1\r\n\r\n" % (secret, secret, secret, secret * 20)
    )
    client = connection()
    for _ in range(3):
        parsed = lane.parse(head, client)
        assert parsed is not None
    assert parsed[0].cached_fields is not None
    assert b"DNT: 1\r\n\r\n" in lane.remembered()
    assert not any(secret in line for line in lane.remembered())


def test_what_is_remembered_is_bounded() -> None:
    lane, client = FastParser(LIMITS), connection()
    for number in range(20_000):
        lane.parse(
            b"GET / HTTP/1.1\r\nHost: %d.test\r\nUser-Agent: %d\r\n\r\n" % (number, number),
            client,
        )
    assert len(lane.remembered()) < 8000


# Differences that were found once. Each stays.
FOUND: dict[str, bytes] = {
    "a field line of nothing but a colon": b"GET / HTTP/1.1\r\nHost: x.test\r\n:\r\n\r\n",
}


@pytest.mark.parametrize("case", FOUND)
def test_a_difference_that_was_found(case: str) -> None:
    lane = FastParser(LIMITS)
    for _ in range(2):
        quick = quickly(lane, FOUND[case], CONNECTION)
        assert quick is None or quick == strictly(FOUND[case], CONNECTION)
