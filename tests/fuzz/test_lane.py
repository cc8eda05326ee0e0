"""The lane either declines or says exactly what the strict layer and h11 say."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuzz.heads import LIMITS, cut, mutated, plain, quickly, strictly, structured
from proxy.protocol.lane import Lane
from proxy.protocol.message import Connection

CONNECTION = Connection("192.0.2.1", 1, "192.0.2.2", 2)


@settings(max_examples=1500, deadline=None)
@given(st.lists(st.one_of(structured, mutated(), plain), min_size=1, max_size=4))
def test_one_lane_through_several_heads(heads: list[bytes]) -> None:
    # One lane for all, so that what it remembers of one head meets the next.
    lane = Lane(LIMITS)
    for data in (*heads, *heads):
        head = cut(data)
        if head is None:
            continue
        quick = quickly(lane, head, CONNECTION)
        if quick is not None:
            assert quick == strictly(head, CONNECTION)


@settings(max_examples=200, deadline=None)
@given(plain)
def test_plain_heads_are_not_declined(head: bytes) -> None:
    if head.count(b"Content-Length") > 1:
        return
    lane = Lane(LIMITS)
    assert quickly(lane, head, CONNECTION) is not None
    assert quickly(lane, head, CONNECTION) == strictly(head, CONNECTION)


def test_secrets_and_long_lines_are_not_remembered() -> None:
    lane = Lane(LIMITS)
    secret = b"s3cr3t" * 3
    head = (
        b"GET / HTTP/1.1\r\nHost: x.test\r\nCookie: %b\r\nAuthorization: %b\r\nX-Api-Key: %b\r\n"
        b"Accept: %b\r\n\r\n" % (secret, secret, secret, secret * 20)
    )
    assert lane.parse(head, CONNECTION) is not None
    assert not any(secret in line for line in lane.remembered())


def test_what_is_remembered_is_bounded() -> None:
    lane = Lane(LIMITS)
    for number in range(20_000):
        lane.parse(
            b"GET / HTTP/1.1\r\nHost: %d.test\r\nUser-Agent: %d\r\n\r\n" % (number, number),
            CONNECTION,
        )
    assert len(lane.remembered()) < 6000


# Differences that were found once. Each stays.
FOUND: dict[str, bytes] = {
    "a field line of nothing but a colon": b"GET / HTTP/1.1\r\nHost: x.test\r\n:\r\n\r\n",
}


@pytest.mark.parametrize("case", FOUND)
def test_a_difference_that_was_found(case: str) -> None:
    lane = Lane(LIMITS)
    for _ in range(2):
        quick = quickly(lane, FOUND[case], CONNECTION)
        assert quick is None or quick == strictly(FOUND[case], CONNECTION)
