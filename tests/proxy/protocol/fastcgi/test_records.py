"""Records of FastCGI: whatever way the bytes are cut, the events are the same."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.protocol.fastcgi import records
from proxy.protocol.fastcgi.records import (
    STDERR,
    STDIN,
    STDOUT,
    Complaint,
    Decoder,
    End,
    Malformed,
    Output,
    Values,
    record,
)

END = record(records.END_REQUEST, struct.pack("!IB3x", 7, 0))


def padded(kind: int, content: bytes, padding: int) -> bytes:
    return struct.pack("!BBHHBx", 1, kind, 1, len(content), padding) + content + bytes(padding)


def joined(events: list[records.Event]) -> tuple[bytes, bytes, list[records.Event]]:
    """Output, complaints, and what else there is."""
    return (
        b"".join(one.data for one in events if isinstance(one, Output)),
        b"".join(one.data for one in events if isinstance(one, Complaint)),
        [one for one in events if not isinstance(one, Output | Complaint)],
    )


pieces = st.lists(
    st.tuples(st.sampled_from([STDOUT, STDERR]), st.binary(max_size=300), st.integers(0, 255)),
    max_size=8,
)


@given(pieces, st.lists(st.integers(1, 400), min_size=1, max_size=50))
def test_however_the_bytes_are_cut(parts: list[tuple[int, bytes, int]], sizes: list[int]) -> None:
    data = b"".join(padded(*part) for part in parts) + END
    decoder, events, at = Decoder(), [], 0
    while at < len(data):
        size = sizes[at % len(sizes)]
        events += decoder.feed(data[at : at + size])
        at += size
    output = b"".join(content for kind, content, _ in parts if kind == STDOUT)
    complaints = b"".join(content for kind, content, _ in parts if kind == STDERR)
    assert joined(events) == (output, complaints, [End(0)])
    assert decoder.between_records


@given(st.binary(max_size=2000))
def test_whatever_comes_is_events_or_malformed(data: bytes) -> None:
    try:
        Decoder().feed(data)
    except Malformed:
        return


def test_a_piece_of_a_record_is_given_on_at_once() -> None:
    decoder = Decoder()
    data = record(STDOUT, b"x" * 1000)
    assert decoder.feed(data[:108]) == [Output(b"x" * 100)]
    assert not decoder.between_records


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", "version 72"),
        (struct.pack("!BBHHBx", 1, STDIN, 1, 0, 0), "type 5"),
        (struct.pack("!BBHHBx", 1, STDOUT, 2, 0, 0), "for request 2"),
        (struct.pack("!BBHHBx", 1, records.END_REQUEST, 1, 4, 0), "4 bytes instead of 8"),
        (struct.pack("!BBHHBx", 1, records.GET_VALUES_RESULT, 0, 60000, 0), "60000 bytes"),
        (record(records.GET_VALUES_RESULT, b"\x05\x05ab", 0), "cut off"),
        (record(records.GET_VALUES_RESULT, b"\xff", 0), "cut off"),
    ],
)
def test_what_is_not_fastcgi_says_why(data: bytes, why: str) -> None:
    with pytest.raises(Malformed, match=why):
        Decoder().feed(data)


def test_values_of_both_lengths() -> None:
    long = b"v" * 200
    content = b"\x01\x01ab" + struct.pack("!BI", 4, 200 | 1 << 31) + b"name" + long
    found = Decoder().feed(record(records.GET_VALUES_RESULT, content, 0))
    assert found == [Values({b"a": b"b", b"name": long})]


@given(st.dictionaries(st.binary(min_size=1, max_size=200), st.binary(max_size=70_000), max_size=3))
def test_parameters_arrive_as_they_were_said(told: dict[bytes, bytes]) -> None:
    data = records.begin(told.items(), keep=True)
    assert data[:16] == b"\x01\x01\x00\x01\x00\x08\x00\x00\x00\x01\x01\x00\x00\x00\x00\x00"
    at, spelt = 16, b""
    while at < len(data):
        _version, kind, number, length, padding = struct.unpack_from("!BBHHB", data, at)
        assert (kind, number, padding) == (records.PARAMS, 1, 0)
        spelt += data[at + 8 : at + 8 + length]
        at += 8 + length
    assert length == 0, "an empty record ends the stream"
    assert records.values(spelt) == told


def test_a_stream_is_cut_into_records() -> None:
    data = records.stream(STDIN, b"x" * 100_000)
    assert len(data) == 100_000 + 2 * 8
    assert records.stream(STDIN, b"") == b""  # an empty record would be the end
