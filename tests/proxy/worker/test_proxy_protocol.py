"""The PROXY header: both versions, byte by byte, and everything that is none."""

from __future__ import annotations

import ipaddress
import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.worker.proxy_protocol import MOST, BadHeader, Header, Incomplete, parse

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"


def second(command: int, family: int, content: bytes) -> bytes:
    return SIGNATURE + struct.pack("!BBH", command, family, len(content)) + content


FOUR = bytes([192, 0, 2, 1, 198, 51, 100, 7]) + struct.pack("!HH", 56324, 443)
SIX = ipaddress.ip_address("2001:db8::1").packed + bytes(16) + struct.pack("!HH", 9, 443)


@pytest.mark.parametrize(
    ("data", "header"),
    [
        (b"PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r\n", ("192.0.2.1", 56324)),
        (b"PROXY TCP6 2001:db8::1 ::1 9 443\r\n", ("2001:db8::1", 9)),
        (b"PROXY UNKNOWN\r\n", (None, 0)),
        (b"PROXY UNKNOWN ffff::1 whatever 1 2\r\n", (None, 0)),
        (second(0x21, 0x11, FOUR), ("192.0.2.1", 56324)),
        (second(0x21, 0x11, FOUR + b"\x03\0\x04abcd"), ("192.0.2.1", 56324)),
        (second(0x21, 0x21, SIX), ("2001:db8::1", 9)),
        (second(0x20, 0x11, FOUR), (None, 0)),
        (second(0x20, 0, b""), (None, 0)),
        (second(0x21, 0, b""), (None, 0)),
        (second(0x21, 0x31, bytes(216)), (None, 0)),
    ],
)
def test_who_the_client_is(data: bytes, header: tuple[str | None, int]) -> None:
    for behind in (b"", b"\x16\x03\x01", b"GET / HTTP/1.1\r\n\r\n"):
        assert parse(data + behind) == Header(len(data), *header)
    for cut in range(len(data)):
        with pytest.raises(Incomplete):
            parse(data[:cut])


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00",
        b"GET / HTTP/1.1\r\n",
        b"PROXY  TCP4 192.0.2.1 198.51.100.7 1 2\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.7 1\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.7 1 2 3\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.7 01 2\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.7 +1 2\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.7 1 65536\r\n",
        b"PROXY TCP4 2001:db8::1 ::1 1 2\r\n",
        b"PROXY TCP4 192.0.2.1 ::1 1 2\r\n",
        b"PROXY TCP4 192.0.2.01 198.51.100.7 1 2\r\n",
        b"PROXY TCP4 192.0.2.\xb2 198.51.100.7 1 2\r\n",
        b"PROXY UDP4 192.0.2.1 198.51.100.7 1 2\r\n",
        b"PROXY UNKNOWN " + b"x" * 200,
        second(0x11, 0x11, FOUR),
        second(0x22, 0x11, FOUR),
        second(0x21, 0x11, FOUR[:-1]),
        second(0x21, 0x21, FOUR),
        SIGNATURE + struct.pack("!BBH", 0x21, 0x11, MOST),
    ],
)
def test_what_is_refused(data: bytes) -> None:
    with pytest.raises(BadHeader):
        parse(data)


@given(st.binary(max_size=64), st.sampled_from([b"", b"PROXY ", b"PROXY TCP4 ", SIGNATURE]))
@example(b"\x21\x11\0\0", SIGNATURE)
def test_no_bytes_do_anything_else(data: bytes, before: bytes) -> None:
    try:
        header = parse(before + data)
    except (BadHeader, Incomplete):
        return
    assert 0 < header.size <= len(before + data)
    if header.peer is not None:
        ipaddress.ip_address(header.peer)
