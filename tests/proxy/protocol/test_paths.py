"""Readings of a path: all that programs might make of it, in a time that no path stretches."""

from __future__ import annotations

import itertools
import re
import time
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.errors import Fault
from proxy.protocol.paths import _resolved, below, in_order, readings, understood

PIECES = [b"/", b"//", b".", b"..", b"%2e", b"%2f", b"\\", b"%5c", b";", b"%00", b"a", b"%252f"]


def every_combination(path: bytes) -> set[bytes]:
    """The same by its definition: each choice with each other."""
    found = set()
    for early, slash, backslash, resolved, cut in itertools.product((False, True), repeat=5):
        one = _resolved(re.sub(rb"//+", b"/", path)) if early else path
        one = one if slash else re.sub(rb"%2[fF]", b"%252F", one)
        one = one if backslash else re.sub(rb"%5[cC]", b"%255C", one)
        one = unquote_to_bytes(one)
        one = one.replace(b"\\", b"/") if backslash else one
        one = one.partition(b"\0")[0] if cut else one
        one = re.sub(rb"//+", b"/", one)
        found.add(_resolved(one) if resolved else one)
    return found


@given(st.lists(st.sampled_from(PIECES), max_size=9).map(lambda pieces: b"/" + b"".join(pieces)))
@settings(max_examples=400, deadline=None)
def test_readings_are_every_combination_of_what_programs_do(path: bytes) -> None:
    assert readings(path) == every_combination(path)


@pytest.mark.parametrize("path", [b"/a/.%0A", b"/a/.%0D", b"/a/.%20", b"/a/.b"])
def test_only_a_dot_that_is_a_whole_segment_is_taken_out(path: bytes) -> None:
    assert understood(b"/a/.") == b"/a/"
    assert understood(path) == unquote_to_bytes(path)
    assert readings(path) == {unquote_to_bytes(path)}


@pytest.mark.parametrize(
    "piece", [b"%2f..;", b"%2fa;%2e", b"/a;b%5c", b"a%2f", b"/;", b"%3b/", b"/..", b"//", b"%00"]
)
def test_no_path_takes_long_to_read(piece: bytes) -> None:
    path = b"/api/" + piece * (8000 // len(piece))
    best = 10.0
    for _ in range(5):
        began = time.process_time()
        readings(path)
        try:
            in_order(path)
        except Fault as fault:
            assert fault.kind == "bad_path"  # noqa: PT017 - either outcome will do
        best = min(best, time.process_time() - began)
    assert best < 0.05  # each combination by itself took longer


@pytest.mark.parametrize(
    ("path", "prefix", "rest"),
    [
        (b"/api/x", b"/api/", b"x"),
        (b"/%61pi//x", b"/api/", b"/x"),
        (b"//./api/x", b"/api/", b"x"),
        (b"//x", b"/", b"/x"),
        (b"/a%2fb/x", b"/a/b/", None),
        (b"/api", b"/api/", None),
        (b"/b/x", b"/api/", None),
        (b"/" * 7000 + b"api/x", b"/api/", b"x"),
    ],
)
def test_what_follows_a_prefix_is_found_however_it_is_spelt(
    path: bytes, prefix: bytes, rest: bytes | None
) -> None:
    best = 10.0
    for _ in range(3):
        began = time.process_time()
        assert below(path, prefix) == rest
        best = min(best, time.process_time() - began)
    assert best < 0.05
