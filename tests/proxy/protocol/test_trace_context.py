"""`traceparent` and `tracestate` as W3C Trace Context has them, well-formed and not."""

from __future__ import annotations

import re

import pytest

from proxy.protocol.trace_context import MOST_SPANS, Trace, parent_of

TRACE, SPAN = b"4bf92f3577b34da6a3ce929d0e0e4736", b"00f067aa0ba902b7"
GOOD = b"00-%b-%b-01" % (TRACE, SPAN)


def said(*values: bytes, state: tuple[bytes, ...] = ()) -> list[tuple[bytes, bytes]]:
    return [
        *((b"traceparent", value) for value in values),
        *((b"tracestate", value) for value in state),
    ]


def test_a_parent() -> None:
    parent = parent_of(said(GOOD, state=(b"a=1", b"b=2")))
    assert parent is not None
    assert parent.trace_id.encode() == TRACE
    assert parent.span_id.encode() == SPAN
    assert parent.sampled
    assert parent.state == b"a=1,b=2"
    unsampled = parent_of(said(GOOD[:-2] + b"02"))  # another bit
    assert unsampled is not None
    assert not unsampled.sampled


@pytest.mark.parametrize(
    "value",
    [
        b"",
        GOOD.upper(),
        GOOD[:-1],
        GOOD + b"0",
        GOOD + b"-more",  # version 00 ends there
        b"ff" + GOOD[2:],
        b"00-" + b"0" * 32 + GOOD[35:],
        GOOD[:36] + b"0" * 16 + GOOD[52:],
        GOOD.replace(b"-", b"_"),
        b" " + GOOD,
        GOOD.replace(b"4", b"g", 1),
        b"cc-%b-%b-01.more" % (TRACE, SPAN),
    ],
)
def test_what_is_no_parent(value: bytes) -> None:
    assert parent_of(said(value)) is None


def test_a_later_version() -> None:
    assert parent_of(said(b"cc" + GOOD[2:])) is not None
    assert parent_of(said(b"cc" + GOOD[2:] + b"-what-the-future-will-be-like")) is not None


def test_twice_is_none() -> None:
    assert parent_of(said(GOOD, GOOD)) is None
    assert parent_of(said()) is None


def test_a_state_beyond_bounds_is_dropped() -> None:
    for state in (b"a=" + b"x" * 600, b",".join(b"k%d=1" % n for n in range(40))):
        parent = parent_of(said(GOOD, state=(state,)))
        assert parent is not None
        assert parent.state == b""


def test_what_a_backend_is_told() -> None:
    trace = Trace(parent_of(said(GOOD, state=(b"a=1",))), 1.0, sampled=False)
    first = trace.begin("attempt", "client", 1.1)
    lines = trace.lines()
    assert lines == (
        b"traceparent: 00-%b-%b-00\r\ntracestate: a=1\r\n" % (TRACE, first.span_id.encode())
    )
    second = trace.begin("attempt", "client", 1.2)  # the first has come to nothing
    assert (first.ended, first.error) == (1.2, "broke_off")
    assert second.span_id.encode() in trace.lines()
    assert first.parent_id == second.parent_id == trace.root.span_id
    assert trace.root.parent_id.encode() == SPAN


def test_a_trace_of_our_own() -> None:
    one, other = Trace(None, 1.0, sampled=True), Trace(None, 1.0, sampled=True)
    assert re.fullmatch(r"[0-9a-f]{32}", one.trace_id)
    assert re.fullmatch(r"[0-9a-f]{16}", one.root.span_id)
    assert one.trace_id != other.trace_id
    assert one.root.parent_id == ""


def test_spans_without_end_are_bounded() -> None:
    trace = Trace(None, 1.0, sampled=True)
    for number in range(1000):
        trace.begin("attempt", "client", float(number))
    assert len(trace.spans) == MOST_SPANS
