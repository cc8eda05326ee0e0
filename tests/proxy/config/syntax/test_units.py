"""Durations and sizes: what people write, and nothing that could mean two things."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.config.syntax.faults import Wrong
from proxy.config.syntax.units import parse_duration, parse_size, spell_duration, spell_size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("10", 10.0),
        ("0", 0.0),
        ("1.5", 1.5),
        ("250ms", 0.25),
        ("10s", 10.0),
        (" 10s ", 10.0),
        ("5m", 300.0),
        ("1h30m", 5400.0),
        ("1.5h", 5400.0),
        ("1w2d3h4m5s6ms", 788645.006),
        ("0.1s", 0.1),
    ],
)
def test_a_duration_is_read_as_seconds(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "s", "10 s", "10sec", "10S", "-1s", "+1s", "1e3", "inf", "nan", "0x10", "1_0s",
        "1s1h", "1s1s", "1h 30m", "1.s", ".5s", "٣s", "10s\n20s", "9999999999999999s",
    ],
)  # fmt: skip
def test_anything_else_is_no_duration(text):
    with pytest.raises(Wrong, match="30s"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "octets"),
    [
        ("512", 512),
        ("0", 0),
        ("512B", 512),
        ("32KiB", 32768),
        ("32 KiB", 32768),
        ("32kib", 32768),
        ("1.5KiB", 1536),
        ("10MiB", 10 << 20),
        ("1GiB", 1 << 30),
        ("1kB", 1000),
        ("1KB", 1000),
        ("1.5GB", 1_500_000_000),
    ],
)
def test_a_size_is_read_as_bytes(text, octets):
    assert parse_size(text) == octets


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is not a size"),
        ("-1", "is not a size"),
        ("1.5", "is not a size"),
        ("1.5B", "whole number of bytes"),
        ("1e6", "is not a size"),
        ("10 octets", "not a unit"),
        ("10TiB", "not a unit of size"),
        ("10Mib it", "is not a size"),
        ("32K", "32KiB for steps of 1024, 32kB for steps of 1000"),
        ("10m", "10MiB for steps of 1024, 10MB for steps of 1000"),
        ("٣KiB", "is not a size"),
    ],
)
def test_anything_else_is_no_size(text, said):
    with pytest.raises(Wrong, match=said):
        parse_size(text)


@given(st.integers(0, 10**12))
def test_durations_come_back_from_their_spelling(milliseconds):
    assert round(parse_duration(spell_duration(milliseconds / 1000)) * 1000) == milliseconds


@given(st.integers(0, 10**15 - 1))
def test_sizes_come_back_from_their_spelling(size):
    assert parse_size(spell_size(size)) == size


@given(st.text(max_size=20) | st.from_regex(r"[0-9. ]{0,20}[A-Za-z]{0,3}", fullmatch=True))
def test_no_text_is_worse_than_wrong(text):
    for parse in (parse_duration, parse_size):
        try:
            assert parse(text) >= 0
        except Wrong as wrong:
            assert "\n" not in str(wrong)  # noqa: PT017 - Wrong is one of two good outcomes
